//! A stored Parquet file, read by byte ranges: what an object store offers, as what the Parquet reader wants.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Sequential reads fetch this much at a time.
const BLOCK_BYTES: usize = 1 << 20;

type ReadRange = dyn Fn(Range<u64>) -> io::Result<Vec<u8>> + Send + Sync;

/// A file of known size whose bytes are asked for by range.
#[derive(Clone)]
pub struct RangeFile {
    size: u64,
    read: Arc<ReadRange>,
}

impl RangeFile {
    /// A file of `size` bytes; `read` returns exactly the range it is asked for.
    pub fn new(size: u64, read: impl Fn(Range<u64>) -> io::Result<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self { size, read: Arc::new(read) }
    }
}

impl fmt::Debug for RangeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeFile").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Length for RangeFile {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for RangeFile {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::with_capacity(BLOCK_BYTES, Cursor { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        let end = start.checked_add(length as u64).filter(|&end| end <= self.size);
        let end = end.ok_or_else(|| ParquetError::EOF(format!("bytes {start}+{length} of {}", self.size)))?;
        let bytes = (self.read)(start..end).map_err(|e| ParquetError::External(Box::new(e)))?;
        Ok(bytes.into())
    }
}

/// A position in a [`RangeFile`].
#[derive(Debug)]
pub struct Cursor {
    file: RangeFile,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let end = self.at.saturating_add(out.len() as u64).min(self.file.size);
        if end <= self.at {
            return Ok(0);
        }
        let bytes = (self.file.read)(self.at..end)?;
        out[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
