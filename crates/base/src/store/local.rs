//! A folder as a store.
//!
//! An object is written to a temporary file under the scratch prefix, synced, and then renamed (or, for put-if-absent,
//! hard-linked, which fails if the name is taken, on NFS too) into place; then the folder is synced.
#![expect(clippy::disallowed_methods, reason = "this is the module that opens files")]

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tempfile::NamedTempFile;

use super::{Object, Put, Store, StoreError, Upload, check_key};

/// A folder as a store.
#[derive(Debug, Clone)]
pub struct LocalStore {
    location: String,
    root: PathBuf,
    scratch: String,
}

impl LocalStore {
    /// The folder `root`, which need not exist yet; unfinished uploads go below the key prefix `scratch`.
    #[must_use]
    pub fn new(root: &str, scratch: &str) -> Self {
        Self { location: root.into(), root: root.into(), scratch: scratch.into() }
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        check_key(key)?;
        Ok(self.root.join(key))
    }

    fn failed(&self, key: &str) -> impl FnOnce(io::Error) -> StoreError {
        let key = self.root.join(key).display().to_string();
        move |source| match source.kind() {
            // A path that runs through a file does not exist either.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::NotFound { key },
            io::ErrorKind::PermissionDenied => {
                StoreError::Unsupported { location: key, problem: source.to_string() }
            }
            _ => StoreError::Unavailable { key, source },
        }
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        let scratch = self.root.join(&self.scratch);
        fs::create_dir_all(&scratch)?;
        // Published files are for others to read: the umask decides, not the 0600 of a private temporary file.
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o666)).tempfile_in(scratch)
    }

    fn walk(&self, dir: &Path, prefix: &str, out: &mut Vec<Object>) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let Some(key) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else {
                return Err(io::Error::other(format!("{} is not a UTF-8 path", path.display())));
            };
            if key == self.scratch {
                continue;
            }
            // Follows links: a dataset is often a folder of links to where the data lies.
            let metadata = match fs::metadata(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // deleted meanwhile, or a dangling link
                metadata => metadata?,
            };
            if metadata.is_dir() {
                // Only folders that can hold a key with this prefix.
                let folder = format!("{key}/");
                if folder.starts_with(prefix) || prefix.starts_with(&folder) {
                    self.walk(&path, prefix, out)?;
                }
            } else if key.starts_with(prefix) {
                out.push(describe(key, &metadata)?);
            }
        }
        Ok(())
    }
}

fn describe(key: &str, metadata: &fs::Metadata) -> io::Result<Object> {
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let size = metadata.len();
    Ok(Object { key: key.into(), size, etag: format!("{size:x}-{modified:x}") })
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

impl Store for LocalStore {
    fn location(&self) -> &str {
        &self.location
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let mut out = Vec::new();
        self.walk(&self.root, prefix, &mut out).map_err(self.failed(prefix))?;
        out.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(out)
    }

    fn head(&self, key: &str) -> Result<Object, StoreError> {
        let metadata = fs::metadata(self.path(key)?).map_err(self.failed(key))?;
        if metadata.is_dir() {
            return Err(StoreError::NotFound { key: self.root.join(key).display().to_string() });
        }
        describe(key, &metadata).map_err(self.failed(key))
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let mut file = File::open(self.path(key)?).map_err(self.failed(key))?;
        let wanted = range.end.saturating_sub(range.start);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(range.start))
            .and_then(|_| file.take(wanted).read_to_end(&mut bytes))
            .map_err(self.failed(key))?;
        if bytes.len() as u64 != wanted {
            return Err(self.failed(key)(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    fn create(&self, key: &str) -> Result<Box<dyn Upload>, StoreError> {
        let target = self.path(key)?;
        let file = self.temporary().map_err(self.failed(key))?;
        Ok(Box::new(LocalUpload { file: BufWriter::with_capacity(1 << 20, file), target }))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let target = self.path(key)?;
        let place = || {
            let mut file = self.temporary()?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            fs::create_dir_all(target.parent().unwrap_or(&self.root))?;
            fs::hard_link(file.path(), &target)?;
            sync_folder_of(&target)
        };
        match place() {
            Ok(()) => Ok(Put::Created),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Put::AlreadyExists),
            Err(e) => Err(self.failed(key)(e)),
        }
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(key)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(self.failed(key)),
        }
    }

    fn sweep(&self) -> Result<(), StoreError> {
        match fs::remove_dir_all(self.path(&self.scratch)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(self.failed(&self.scratch)),
        }
    }
}

struct LocalUpload {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
}

impl Write for LocalUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Upload for LocalUpload {
    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        let target = self.target;
        let place = |file: BufWriter<NamedTempFile>| {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            file.persist(&target)?;
            sync_folder_of(&target)
        };
        place(self.file)
            .map_err(|source| StoreError::Unavailable { key: target.display().to_string(), source })
    }
}
