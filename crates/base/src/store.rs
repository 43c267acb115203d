//! Objects under a root: the only way data enters and leaves.
//!
//! A few operations, chosen because a POSIX folder (NFS included) and an object store both offer them with the same promise:
//!
//! - an object appears whole or not at all ([`Store::create`]);
//! - of several that try to create the same key by [`Store::put_if_absent`], at most one is told that it did.
//!
//! Nothing stronger is used anywhere: no locks, no rename over an existing object, no compare-and-swap.
//! [`conformance`] holds every implementation to this; tests call it for each.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

mod local;
mod memory;

pub use local::LocalStore;
pub use memory::MemoryStore;

/// An object's name and what identifies its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Path below the store's root, parts separated by `/`.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// Changes whenever the content does. Opaque; locally, length and modification time.
    pub etag: String,
}

/// What came of trying to create an object that must not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was created.
    Created,
    /// It was there already, possibly by this caller's own earlier try whose answer was lost.
    AlreadyExists,
}

/// Why a store did not do as it was told. A kind exists only where a caller acts differently.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{key}: there is no such file")]
    NotFound {
        /// The full location asked for.
        key: String,
    },
    /// The location can never be served: a scheme this build has not, a key that leaves the root, a missing permission, a
    /// file where a folder is needed, a file system without hard links.
    #[error("{location}: {problem}")]
    Unsupported {
        /// The location asked for.
        location: String,
        /// One sentence.
        problem: String,
    },
    /// The storage failed; trying again later may help.
    #[error("{key}: {source}")]
    Unavailable {
        /// The full location asked for.
        key: String,
        /// What the system said.
        source: io::Error,
    },
}

/// An object being written: it appears under its key when [`Upload::finish`] returns, and not before.
pub trait Upload: Write + Send {
    /// Makes the object durable and visible.
    ///
    /// # Errors
    /// If it could not be; then there is no object.
    fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

/// Objects under a root. See the module's promise.
pub trait Store: fmt::Debug + Send + Sync {
    /// The root, as a person would write it.
    fn location(&self) -> &str;

    /// Every object whose key starts with `prefix`, sorted by key.
    ///
    /// # Errors
    /// If the storage fails. A prefix without objects is an empty list.
    fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError>;

    /// One object's name and identity.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none.
    fn head(&self, key: &str) -> Result<Object, StoreError>;

    /// The bytes `range` of an object: exactly that many.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none; [`StoreError::Unavailable`] if it is shorter.
    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError>;

    /// Starts an object; an older one of that key is replaced when it is finished.
    ///
    /// # Errors
    /// If the storage fails.
    fn create(&self, key: &str) -> Result<Box<dyn Upload>, StoreError>;

    /// Creates a small object unless the key is taken.
    ///
    /// # Errors
    /// If the storage fails; the object may exist nevertheless.
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError>;

    /// Removes an object; none is fine.
    ///
    /// # Errors
    /// If the storage fails.
    fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Removes what killed processes left of unfinished uploads. Only for when no other process writes here.
    ///
    /// # Errors
    /// If the storage fails.
    fn sweep(&self) -> Result<(), StoreError>;
}

impl dyn Store + '_ {
    /// All bytes of an object, or `None` if there is none.
    ///
    /// # Errors
    /// If the storage fails.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.head(key).and_then(|object| self.read(key, 0..object.size)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Writes an object in one go.
    ///
    /// # Errors
    /// If the storage fails.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut upload = self.create(key)?;
        upload.write_all(bytes).map_err(|source| StoreError::Unavailable { key: key.into(), source })?;
        upload.finish()
    }
}

/// Whether the location `inner` is `outer` or lies below it, links followed. Neither need exist.
#[must_use]
pub fn contains(outer: &str, inner: &str) -> bool {
    local::real_path(inner).starts_with(local::real_path(outer))
}

/// Opens the store at `location`: a path or a `file://` URL. Unfinished uploads live under the key prefix `scratch`, which
/// listings leave out.
///
/// # Errors
/// [`StoreError::Unsupported`] for any other scheme.
pub fn open(location: &str, scratch: &str) -> Result<Arc<dyn Store>, StoreError> {
    let path = match location.split_once("://") {
        None => location,
        Some(("file", path)) if path.starts_with('/') => path,
        Some(("file", _)) => {
            let problem = "a file URL holds an absolute path, as in file:///data/input".into();
            return Err(StoreError::Unsupported { location: location.into(), problem });
        }
        Some((scheme, _)) => {
            let problem = format!("{scheme}:// storage is not supported; give a path or a file:// URL");
            return Err(StoreError::Unsupported { location: location.into(), problem });
        }
    };
    Ok(Arc::new(LocalStore::new(path, scratch)))
}

/// What every store promises, as a test. Call it with an empty store; it panics at the first broken promise.
///
/// # Panics
/// At the first broken promise.
#[expect(clippy::unwrap_used, reason = "a test that ships with the trait")]
pub fn conformance(store: &dyn Store) {
    assert_eq!(store.list("").unwrap(), []);
    assert!(matches!(store.head("a"), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.read("a", 0..1), Err(StoreError::NotFound { .. })));
    assert!(store.get("a").unwrap().is_none());

    store.put("a/b.bin", b"hello").unwrap();
    assert_eq!(store.read("a/b.bin", 1..4).unwrap(), b"ell");
    assert_eq!(store.read("a/b.bin", 5..5).unwrap(), b"");
    assert!(
        matches!(store.read("a/b.bin", 3..6), Err(StoreError::Unavailable { .. })),
        "short reads are errors"
    );
    assert_eq!(store.get("a/b.bin").unwrap().as_deref(), Some(&b"hello"[..]));
    let first = store.head("a/b.bin").unwrap();
    store.put("a/b.bin", b"longer content").unwrap();
    assert_ne!(store.head("a/b.bin").unwrap().etag, first.etag, "an etag follows the content");

    let mut unfinished = store.create("a/c.bin").unwrap();
    unfinished.write_all(b"half").unwrap();
    unfinished.flush().unwrap();
    assert!(matches!(store.head("a/c.bin"), Err(StoreError::NotFound { .. })), "nothing shows before finish");
    drop(unfinished);
    assert!(
        matches!(store.head("a/c.bin"), Err(StoreError::NotFound { .. })),
        "an abandoned upload leaves nothing"
    );

    assert_eq!(store.put_if_absent("m/1", b"x").unwrap(), Put::Created);
    assert_eq!(store.put_if_absent("m/1", b"y").unwrap(), Put::AlreadyExists);
    assert_eq!(store.get("m/1").unwrap().unwrap(), b"x", "the first one stands");
    assert_eq!(store.put_if_absent("a/b.bin", b"y").unwrap(), Put::AlreadyExists);

    let keys = |prefix: &str| store.list(prefix).unwrap().into_iter().map(|o| o.key).collect::<Vec<_>>();
    assert_eq!(keys(""), ["a/b.bin", "m/1"]);
    assert_eq!(keys("m/"), ["m/1"]);
    assert_eq!(keys("a/b"), ["a/b.bin"]);
    assert_eq!(keys("z"), [""; 0]);

    let winners = std::thread::scope(|scope| {
        let tries: Vec<_> =
            (0..8u8).map(|i| scope.spawn(move || store.put_if_absent("race", &[i]).unwrap())).collect();
        tries.into_iter().map(|t| t.join().unwrap()).filter(|put| *put == Put::Created).count()
    });
    assert_eq!(winners, 1, "exactly one creates");

    for key in ["a/b.bin", "m/1", "race", "never/there"] {
        store.delete(key).unwrap();
    }
    assert_eq!(store.list("").unwrap(), []);
    for key in ["../x", "a/../../x", "/x", "a//b", "", "a/./b"] {
        assert!(
            matches!(store.put(key, b""), Err(StoreError::Unsupported { .. })),
            "{key:?} leaves the root"
        );
        assert!(matches!(store.put_if_absent(key, b""), Err(StoreError::Unsupported { .. })), "{key:?}");
    }
}

/// Refuses keys that would leave the root or mean two things.
fn check_key(key: &str) -> Result<(), StoreError> {
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) || key.contains('\0') {
        let problem = "a key is a relative path without empty, `.` or `..` parts".into();
        return Err(StoreError::Unsupported { location: key.into(), problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_conforms() {
        conformance(&MemoryStore::default());
    }

    #[test]
    fn local_conforms_and_abandoned_uploads_stay_in_scratch() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let store = LocalStore::new(root.to_str().unwrap(), "work/tmp");
        conformance(&store);
        let mut upload = store.create("data/x").unwrap();
        upload.write_all(b"half").unwrap();
        std::mem::forget(upload); // as a kill would
        assert_eq!(store.list("").unwrap(), []);
        assert!(root.join("work/tmp").exists());
        store.sweep().unwrap();
        assert!(!root.join("work/tmp").exists());
        store.sweep().unwrap();
    }

    #[test]
    fn a_location_contains_what_lies_below_it_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        std::os::unix::fs::symlink(root, dir.path().join("link")).unwrap();
        assert!(contains(root, &format!("file://{root}/a/new/folder")));
        assert!(contains(&format!("{root}/link/"), &format!("{root}/x")));
        assert!(contains(root, root));
        assert!(!contains(&format!("{root}/ab"), &format!("{root}/abc")));
        assert!(!contains(&format!("{root}/x"), root));
    }

    #[test]
    fn only_local_locations_open() {
        assert!(
            open("s3://bucket/x", "t").unwrap_err().to_string().contains("s3:// storage is not supported")
        );
        assert!(open("file://relative", "t").is_err());
        assert_eq!(open("file:///data/x", "t").unwrap().location(), "/data/x");
    }
}
