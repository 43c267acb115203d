//! A store in memory: first-class, for tests and simulations.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Object, Put, Store, StoreError, Upload, check_key};

type Objects = BTreeMap<String, (u64, Vec<u8>)>;

/// A store in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    /// Key to version and content.
    objects: Arc<Mutex<Objects>>,
}

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().expect("no one panics while holding the map")
    }
}

fn describe(key: &str, (version, bytes): &(u64, Vec<u8>)) -> Object {
    Object { key: key.into(), size: bytes.len() as u64, etag: format!("{version:x}") }
}

fn insert(objects: &mut Objects, key: &str, bytes: Vec<u8>) {
    let version = objects.get(key).map_or(0, |(version, _)| version + 1);
    objects.insert(key.into(), (version, bytes));
}

impl Store for MemoryStore {
    fn location(&self) -> &'static str {
        "memory"
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let objects = self.objects();
        Ok(objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, o)| describe(key, o))
            .collect())
    }

    fn head(&self, key: &str) -> Result<Object, StoreError> {
        let objects = self.objects();
        objects.get(key).map(|o| describe(key, o)).ok_or_else(|| StoreError::NotFound { key: key.into() })
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let objects = self.objects();
        let (_, bytes) = objects.get(key).ok_or_else(|| StoreError::NotFound { key: key.into() })?;
        let slice = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let slice = slice.and_then(|(start, end)| bytes.get(start..end));
        slice.map(<[u8]>::to_vec).ok_or_else(|| StoreError::Unavailable {
            key: key.into(),
            source: io::ErrorKind::UnexpectedEof.into(),
        })
    }

    fn create(&self, key: &str) -> Result<Box<dyn Upload>, StoreError> {
        check_key(key)?;
        Ok(Box::new(MemoryUpload { store: self.clone(), key: key.into(), bytes: Vec::new() }))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        check_key(key)?;
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Ok(Put::AlreadyExists);
        }
        insert(&mut objects, key, bytes.to_vec());
        Ok(Put::Created)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.objects().remove(key);
        Ok(())
    }

    fn sweep(&self) -> Result<(), StoreError> {
        Ok(()) // an abandoned upload is memory already freed
    }
}

struct MemoryUpload {
    store: MemoryStore,
    key: String,
    bytes: Vec<u8>,
}

impl Write for MemoryUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for MemoryUpload {
    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        insert(&mut self.store.objects(), &self.key, self.bytes);
        Ok(())
    }
}
