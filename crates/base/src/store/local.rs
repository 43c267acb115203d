//! A folder as a store.
//!
//! An object is written to a temporary file under the scratch prefix, synced, and then renamed (or, for put-if-absent,
//! hard-linked, which fails if the name is taken, on NFS too) into place; then the folder is synced, as is every folder that
//! a new folder appeared in: what was finished outlives a power cut.
#![expect(clippy::disallowed_methods, reason = "this is the module that opens files")]

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tempfile::NamedTempFile;

use super::{Object, Put, Store, StoreError, Upload, check_key};

/// Where a location really is: links followed as far as it exists.
pub(super) fn real_path(location: &str) -> PathBuf {
    let path = std::path::absolute(location.strip_prefix("file://").unwrap_or(location));
    let path = path.unwrap_or_else(|_| location.into());
    for known in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(known), path.strip_prefix(known)) {
            return real.join(rest);
        }
    }
    path
}

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

    fn unread(&self, key: &str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.root.join(key);
        move |source| failed(Access::Read, &path, source)
    }

    fn unwritten(&self, key: &str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.root.join(key);
        move |source| failed(Access::Write, &path, source)
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        let scratch = self.root.join(&self.scratch);
        create_folders(&scratch, sync_folder_of)?;
        // Published files are for others to read: the umask decides, not the 0600 of a private temporary file.
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o666)).tempfile_in(scratch)
    }

    /// Lists `dir`; `above` are the folders that the way to it led through, itself included.
    fn walk(
        &self,
        dir: &Path,
        prefix: &str,
        above: &mut Vec<(u64, u64)>,
        out: &mut Vec<Object>,
    ) -> io::Result<()> {
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
                Err(e) if e.raw_os_error() == Some(ELOOP) => continue,     // a link to itself
                metadata => metadata?,
            };
            if metadata.is_dir() {
                // Only folders that can hold a key with this prefix.
                let folder = format!("{key}/");
                let wanted = folder.starts_with(prefix) || prefix.starts_with(&folder);
                // A link to a folder that the way here led through would be followed for ever.
                if wanted && !above.contains(&identity(&metadata)) {
                    above.push(identity(&metadata));
                    self.walk(&path, prefix, above, out)?;
                    above.pop();
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

/// What a folder is the same by, whatever path led to it: its device and inode.
fn identity(folder: &fs::Metadata) -> (u64, u64) {
    (folder.dev(), folder.ino())
}

/// Too many links on the way to a file, which has no stable [`io::ErrorKind`].
const ELOOP: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };

/// What Linux says to a hard link on a file system without them, which shares its [`io::ErrorKind`] with a missing permission.
const EPERM: i32 = 1;

/// What was tried when a path failed.
#[derive(Debug, Clone, Copy)]
enum Access {
    Read,
    Write,
}

/// What a failure at `path` means to the caller.
fn failed(access: Access, path: &Path, source: io::Error) -> StoreError {
    use io::ErrorKind as Kind;
    let location = path.display().to_string();
    let problem = match (access, source.kind()) {
        // A path that runs through a file does not exist either.
        (Access::Read, Kind::NotFound | Kind::NotADirectory) => {
            return StoreError::NotFound { key: location };
        }
        (Access::Write, Kind::NotADirectory | Kind::AlreadyExists) => "a file is in the way".into(),
        (Access::Write, Kind::IsADirectory) => "a folder is in the way".into(),
        (_, Kind::PermissionDenied) => "permission denied".into(),
        (_, Kind::ReadOnlyFilesystem) => "read-only file system".into(),
        (_, Kind::Unsupported) => source.to_string(),
        _ => return StoreError::Unavailable { key: location, source },
    };
    StoreError::Unsupported { location, problem }
}

/// Tells a file system without hard links from other reasons why one could not be made.
fn link_failed(source: io::Error) -> io::Error {
    if source.raw_os_error() == Some(EPERM) || source.kind() == io::ErrorKind::Unsupported {
        let problem = "this file system has no hard links, which creating a file at most once needs";
        return io::Error::new(io::ErrorKind::Unsupported, problem);
    }
    source
}

/// Creates `folder` and what is missing above it, and has `sync` make each new one durable.
fn create_folders(folder: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {} // another writer was faster
            result => result?,
        }
        sync(folder)?; // by the slower one too: the faster one may be killed before it gets to it
    }
    Ok(())
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        None => Ok(()),
        Some(here) if here.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) => File::open(folder)?.sync_all(),
    }
}

impl Store for LocalStore {
    fn location(&self) -> &str {
        &self.location
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let mut out = Vec::new();
        let mut above = fs::metadata(&self.root).iter().map(identity).collect();
        self.walk(&self.root, prefix, &mut above, &mut out).map_err(self.unread(prefix))?;
        out.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(out)
    }

    fn head(&self, key: &str) -> Result<Object, StoreError> {
        let metadata = fs::metadata(self.path(key)?).map_err(self.unread(key))?;
        if metadata.is_dir() {
            return Err(StoreError::NotFound { key: self.root.join(key).display().to_string() });
        }
        describe(key, &metadata).map_err(self.unread(key))
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let mut file = File::open(self.path(key)?).map_err(self.unread(key))?;
        let wanted = range.end.saturating_sub(range.start);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(range.start))
            .and_then(|_| file.take(wanted).read_to_end(&mut bytes))
            .map_err(self.unread(key))?;
        if bytes.len() as u64 != wanted {
            return Err(self.unread(key)(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    fn create(&self, key: &str) -> Result<Box<dyn Upload>, StoreError> {
        let target = self.path(key)?;
        let file = self.temporary().map_err(self.unwritten(key))?;
        Ok(Box::new(LocalUpload { file: BufWriter::with_capacity(1 << 20, file), target }))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let target = self.path(key)?;
        let place = || {
            let mut file = self.temporary()?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            create_folders(target.parent().unwrap_or(&self.root), sync_folder_of)?;
            match fs::hard_link(file.path(), &target) {
                Ok(()) => sync_folder_of(&target).map(|()| Put::Created),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Put::AlreadyExists),
                Err(e) => Err(link_failed(e)),
            }
        };
        place().map_err(self.unwritten(key))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(key)?) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            result => result.map_err(self.unwritten(key)),
        }
    }

    fn sweep(&self) -> Result<(), StoreError> {
        match fs::remove_dir_all(self.path(&self.scratch)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(self.unwritten(&self.scratch)),
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
                create_folders(folder, sync_folder_of)?;
            }
            file.persist(&target)?;
            sync_folder_of(&target)
        };
        place(self.file).map_err(|source| failed(Access::Write, &target, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::os::unix::fs::symlink;

    fn store(root: &Path) -> LocalStore {
        LocalStore::new(root.to_str().unwrap(), "tmp")
    }

    fn keys(store: &LocalStore) -> Vec<String> {
        store.list("").unwrap().into_iter().map(|object| object.key).collect()
    }

    #[test]
    fn every_new_folder_is_synced_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let synced = RefCell::new(Vec::new());
        let note = |folder: &Path| {
            synced.borrow_mut().push(folder.strip_prefix(dir.path()).unwrap().display().to_string());
            sync_folder_of(folder)
        };
        create_folders(&dir.path().join("a"), note).unwrap();
        create_folders(&dir.path().join("a/b/c"), note).unwrap();
        create_folders(&dir.path().join("a/b/c"), note).unwrap();
        assert_eq!(synced.into_inner(), ["a", "a/b", "a/b/c"]);
        // A path relative to the working directory has an empty parent, which is not one to create.
        create_folders(Path::new("src"), sync_folder_of).unwrap();
        sync_folder_of(Path::new("src")).unwrap();
    }

    #[test]
    fn links_are_followed_and_loops_are_not() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = dir.path().join("a/b");
        fs::create_dir_all(&data).unwrap();
        File::create(data.join("x")).unwrap();
        File::create(elsewhere.path().join("y")).unwrap();
        symlink(elsewhere.path(), dir.path().join("linked")).unwrap();
        symlink(elsewhere.path(), data.join("again")).unwrap();
        symlink("../..", data.join("root")).unwrap();
        symlink("..", data.join("up")).unwrap();
        symlink("self", dir.path().join("self")).unwrap();
        symlink(dir.path(), elsewhere.path().join("back")).unwrap();
        assert_eq!(keys(&store(dir.path())), ["a/b/again/y", "a/b/x", "linked/y"]);
    }

    #[test]
    fn a_file_in_the_way_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let local = store(dir.path());
        let put = |store: &LocalStore, key: &str| (store as &dyn Store).put(key, b"x");
        put(&local, "a").unwrap();
        let in_file = store(&dir.path().join("a"));
        let errors = [
            put(&local, "a/b").unwrap_err(),
            put(&local, "a/b/c").unwrap_err(),
            local.put_if_absent("a/b", b"x").unwrap_err(),
            local.put_if_absent("a/b/c", b"x").unwrap_err(),
            put(&in_file, "b").unwrap_err(),
            in_file.put_if_absent("b", b"x").unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, StoreError::Unsupported { .. }), "{error:?}");
            assert!(error.to_string().ends_with(": a file is in the way"), "{error}");
        }
        put(&local, "f/x").unwrap();
        assert!(put(&local, "f").unwrap_err().to_string().ends_with("/f: a folder is in the way"));
        local.delete("a/b").unwrap();
        assert_eq!(keys(&local), ["a", "f/x"]);
    }

    #[test]
    fn what_trying_again_cannot_help_is_unsupported() {
        let said = |access, source: io::Error| match failed(access, Path::new("/x"), source) {
            StoreError::Unsupported { problem, .. } => problem,
            other => panic!("{other:?}"),
        };
        for access in [Access::Read, Access::Write] {
            assert_eq!(said(access, io::ErrorKind::PermissionDenied.into()), "permission denied");
            assert_eq!(said(access, io::ErrorKind::ReadOnlyFilesystem.into()), "read-only file system");
            for kind in [io::ErrorKind::StorageFull, io::ErrorKind::TimedOut] {
                let error = failed(access, Path::new("/x"), kind.into());
                assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
            }
        }
        for source in [io::Error::from_raw_os_error(EPERM), io::ErrorKind::Unsupported.into()] {
            assert!(
                said(Access::Write, link_failed(source)).starts_with("this file system has no hard links")
            );
        }
        let denied = link_failed(io::ErrorKind::PermissionDenied.into());
        assert_eq!(said(Access::Write, denied), "permission denied");
    }
}
