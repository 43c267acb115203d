//! TFRecord framing: a file as a sequence of checksummed byte strings.
//!
//! Each record is `length: u64 LE, masked crc32c(length): u32 LE, data, masked crc32c(data): u32 LE`, as written by
//! TensorFlow's `lib/io/record_writer.cc`; the mask is that of `lib/hash/crc32c.h`. The flow: [`RecordReader::advance`]
//! (or [`RecordReader::skip`]) says which bytes it lacks, [`RecordReader::provide`] takes them, and a record comes out,
//! borrowed from the buffer, once its last byte is in.
//!
//! Invariants: nothing is allocated on the word of a length that its checksum, the file's size or the limit
//! contradicts. Damage to the data costs that record only; damage to a length ends the file, since nothing after it can
//! be found.

use std::ops::Range;

use super::{InputFile, ReadError};

/// Length field and its checksum.
const HEADER_BYTES: u64 = 12;
/// What surrounds the data of one record.
const FRAME_BYTES: u64 = 16;
/// Most bytes asked for at once.
const BLOCK_BYTES: u64 = 1 << 20;

/// What [`RecordReader::advance`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// It lacks these bytes of the file: never empty, never past its end.
    Need(Range<u64>),
    /// One whole record whose checksum is right.
    Record {
        /// Which record of the file, from 0.
        number: u64,
        /// Where its data begin in the file.
        offset: u64,
        /// The data.
        data: &'a [u8],
    },
    /// The record was passed over unread.
    Skipped,
    /// This record cannot be used; the next one can.
    Spoiled(ReadError),
    /// The file ends here, after a whole record.
    End,
}

/// A cursor over the records of one file.
#[derive(Debug)]
pub struct RecordReader {
    file: InputFile,
    record_bytes_max: u64,
    block_bytes: u64,
    /// File bytes from `offset - start` on; those before `start` are spent.
    buffer: Vec<u8>,
    start: usize,
    /// Where the next record begins in the file.
    offset: u64,
    /// How many records lie before `offset`.
    number: u64,
    /// The range last asked for and not yet provided.
    pending: Option<Range<u64>>,
}

/// A record's header, read and checked.
enum Header {
    Need(Range<u64>),
    End,
    Length(u64),
}

impl RecordReader {
    /// A reader at the beginning of `file` that refuses records longer than `record_bytes_max`.
    #[must_use]
    pub fn new(file: InputFile, record_bytes_max: u64) -> Self {
        Self {
            file,
            record_bytes_max,
            block_bytes: BLOCK_BYTES,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            number: 0,
            pending: None,
        }
    }

    /// The same reader asking for at most `block_bytes` (at least 1) at a time.
    #[must_use]
    pub fn with_block_bytes(mut self, block_bytes: u64) -> Self {
        self.block_bytes = block_bytes.max(1);
        self
    }

    /// The file being read.
    #[must_use]
    pub fn file(&self) -> &InputFile {
        &self.file
    }

    /// Which record comes next, from 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the last byte of the file belongs to a record before this one.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.offset >= self.file.size
    }

    /// The next record, or what is needed to see it.
    ///
    /// # Errors
    /// With the byte offset: a file that ends inside a record, a wrong checksum of a length. After an error the
    /// reader is at its end.
    pub fn advance(&mut self) -> Result<Next<'_>, ReadError> {
        let length = match self.header(self.block_bytes)? {
            Header::Need(range) => return Ok(Next::Need(range)),
            Header::End => return Ok(Next::End),
            Header::Length(length) => length,
        };
        let (number, offset) = (self.number, self.offset);
        if length > self.record_bytes_max {
            let problem =
                format!("a record of {length} bytes is longer than the limit of {}", self.record_bytes_max);
            self.pass_over(length);
            return Ok(Next::Spoiled(
                ReadError::new(&self.file.path, problem).episode(number).offset(offset),
            ));
        }
        let missing = (FRAME_BYTES + length).saturating_sub(self.buffered());
        if missing > 0 {
            self.buffer.reserve(usize::try_from(missing).unwrap_or(0));
            return Ok(Next::Need(self.ask(self.block_bytes)));
        }
        let data = self.start + HEADER_BYTES as usize..self.start + (HEADER_BYTES + length) as usize;
        let stored = le_u32(&self.buffer[data.end..]);
        self.pass_over(length);
        let computed = masked_crc32c(&self.buffer[data.clone()]);
        if stored != computed {
            let problem = format!("the record's checksum is {stored:08x}, its data give {computed:08x}");
            return Ok(Next::Spoiled(
                ReadError::new(&self.file.path, problem).episode(number).offset(offset),
            ));
        }
        Ok(Next::Record { number, offset: offset + HEADER_BYTES, data: &self.buffer[data] })
    }

    /// Passes over the next record without looking at its data: it asks for headers only, so that the episodes of one
    /// long file can be shared out without each share reading all before it.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn skip(&mut self) -> Result<Next<'_>, ReadError> {
        match self.header(HEADER_BYTES)? {
            Header::Need(range) => Ok(Next::Need(range)),
            Header::End => Ok(Next::End),
            Header::Length(length) => {
                self.pass_over(length);
                Ok(Next::Skipped)
            }
        }
    }

    /// The bytes last asked for, all of them.
    ///
    /// # Errors
    /// Where they are more or fewer than asked for, or nothing was.
    pub fn provide(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let asked = self.pending.take().map_or(0, |range| range.end - range.start);
        if asked != bytes.len() as u64 || asked == 0 {
            let problem = format!("{} bytes were provided where {asked} were asked for", bytes.len());
            return Err(self.broken(problem));
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The length of the next record, checked against its checksum and the file's size.
    fn header(&mut self, ask_bytes: u64) -> Result<Header, ReadError> {
        let remaining = self.file.size.saturating_sub(self.offset);
        if remaining == 0 {
            return Ok(Header::End);
        }
        if remaining < FRAME_BYTES {
            let problem =
                format!("the file ends inside a record: its last {remaining} bytes are less than a frame");
            return Err(self.broken(problem));
        }
        if self.buffered() < HEADER_BYTES {
            return Ok(Header::Need(self.ask(ask_bytes)));
        }
        let header = &self.buffer[self.start..self.start + HEADER_BYTES as usize];
        let (length, stored, computed) = (le_u64(header), le_u32(&header[8..]), masked_crc32c(&header[..8]));
        if stored != computed {
            let problem = format!(
                "the checksum of a record's length is {stored:08x}, the length gives {computed:08x}: this is no \
                 TFRecord file, or it is damaged and nothing after this point can be found"
            );
            return Err(self.broken(problem));
        }
        if length > remaining - FRAME_BYTES {
            let problem = format!("the file ends inside a record: {length} bytes of data were announced");
            return Err(self.broken(problem));
        }
        Ok(Header::Length(length))
    }

    /// Moves to the record after one with `length` bytes of data. The buffer keeps what it holds of later records.
    fn pass_over(&mut self, length: u64) {
        let record = FRAME_BYTES + length;
        if self.buffered() >= record {
            self.start += record as usize;
        } else {
            self.buffer.clear();
            self.start = 0;
        }
        self.offset += record;
        self.number += 1;
    }

    /// Bytes in hand from the next record's beginning on.
    fn buffered(&self) -> u64 {
        (self.buffer.len() - self.start) as u64
    }

    /// Asks for up to `bytes` (at least 1) after what is in hand.
    fn ask(&mut self, bytes: u64) -> Range<u64> {
        let from = self.offset + self.buffered();
        let range = from..self.file.size.min(from.saturating_add(bytes));
        self.pending = Some(range.clone());
        range
    }

    /// An error at the present offset, after which there is nothing more.
    fn broken(&mut self, problem: String) -> ReadError {
        let error = ReadError::new(&self.file.path, problem).episode(self.number).offset(self.offset);
        self.offset = self.file.size;
        self.buffer = Vec::new();
        self.start = 0;
        error
    }
}

/// CRC-32C rotated and offset, so that the checksum of data that themselves hold checksums stays sound.
fn masked_crc32c(data: &[u8]) -> u32 {
    const MASK_DELTA: u32 = 0xa282_ead8;
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK_DELTA)
}

/// The first 4 bytes, which the caller has made sure of.
fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

/// The first 8 bytes, which the caller has made sure of.
fn le_u64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

/// A TFRecord file of `records`, for tests.
#[cfg(test)]
pub(super) fn encode(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let length = (record.len() as u64).to_le_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
        out.extend_from_slice(record);
        out.extend_from_slice(&masked_crc32c(record).to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything a reader of `bytes` finds: records, spoiled ones as `None`, and how it ended.
    fn read(bytes: &[u8], block_bytes: u64, limit: u64) -> (Vec<Option<Vec<u8>>>, Result<(), ReadError>) {
        let file = InputFile { path: "a.tfrecord".into(), size: bytes.len() as u64 };
        let mut reader = RecordReader::new(file, limit).with_block_bytes(block_bytes);
        let mut records = Vec::new();
        loop {
            let range = match reader.advance() {
                Ok(Next::Need(range)) => range,
                Ok(Next::Record { data, offset, .. }) => {
                    assert_eq!(&bytes[offset as usize..offset as usize + data.len()], data);
                    records.push(Some(data.to_vec()));
                    continue;
                }
                Ok(Next::Spoiled(_)) => {
                    records.push(None);
                    continue;
                }
                Ok(Next::Skipped) => unreachable!("nothing is skipped here"),
                Ok(Next::End) => return (records, Ok(())),
                Err(error) => {
                    assert_eq!(reader.advance(), Ok(Next::End));
                    return (records, Err(error));
                }
            };
            assert!(range.start < range.end && range.end <= bytes.len() as u64);
            reader.provide(&bytes[range.start as usize..range.end as usize]).expect("what was asked for");
        }
    }

    fn three() -> Vec<Vec<u8>> {
        vec![b"first".to_vec(), Vec::new(), vec![7; 300]]
    }

    #[test]
    fn the_mask_is_tensorflows() {
        // The length 0 of an empty record, as TensorFlow's own writer stores it.
        assert_eq!(encode(&[Vec::new()])[8..12], [0x29, 0x03, 0x98, 0x07]);
    }

    #[test]
    fn a_wrong_data_checksum_costs_one_record() {
        let mut bytes = encode(&three());
        bytes[13] ^= 1;
        assert_eq!(read(&bytes, 64, 1 << 20), (vec![None, Some(vec![]), Some(vec![7; 300])], Ok(())));
    }

    #[test]
    fn a_wrong_length_checksum_ends_the_file_and_says_where() {
        let mut bytes = encode(&three());
        bytes[21] ^= 1;
        let (records, end) = read(&bytes, 64, 1 << 20);
        assert_eq!(records, [Some(b"first".to_vec())]);
        let error = end.expect_err("the length is damaged");
        assert_eq!((error.place.offset, error.place.episode), (Some(21), Some(1)));
    }

    #[test]
    fn a_record_beyond_the_limit_is_passed_over() {
        let bytes = encode(&three());
        assert_eq!(read(&bytes, 64, 299).0, [Some(b"first".to_vec()), Some(vec![]), None]);
    }

    #[test]
    fn a_truncated_file_says_where() {
        let bytes = encode(&three());
        for size in [1, 15, 20, 22, 40, bytes.len() - 1] {
            let (records, end) = read(&bytes[..size], 64, 1 << 20);
            let error = end.expect_err("it is truncated");
            assert!(error.problem.starts_with("the file ends inside a record"), "{error}");
            assert!(records.len() < 3);
            assert_eq!(error.place.offset, Some([0, 21, 37][records.len()]));
        }
    }

    #[test]
    fn skipping_asks_for_headers_only() {
        let bytes = encode(&vec![vec![1; 1000]; 4]);
        let file = InputFile { path: "a".into(), size: bytes.len() as u64 };
        let mut reader = RecordReader::new(file, 1 << 20).with_block_bytes(100);
        let mut asked = 0;
        while reader.number() < 3 {
            let Next::Need(range) = reader.skip().expect("sound") else { continue };
            asked += range.end - range.start;
            reader.provide(&bytes[range.start as usize..range.end as usize]).expect("asked for");
        }
        assert_eq!(asked, 3 * 12);
        assert!(matches!(reader.advance(), Ok(Next::Need(range)) if range.start == 3 * 1016));
    }

    #[test]
    fn bytes_nobody_asked_for_are_refused() {
        let mut reader = RecordReader::new(InputFile { path: "a".into(), size: 100 }, 100);
        assert!(reader.provide(b"abc").is_err());
    }

    proptest! {
        #[test]
        fn block_sizes_do_not_matter(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6),
            block_bytes in 1_u64..200,
        ) {
            let (found, end) = read(&encode(&records), block_bytes, 1 << 20);
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(found, records.into_iter().map(Some).collect::<Vec<_>>());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), block_bytes in 1_u64..64) {
            let _ = read(&bytes, block_bytes, 1 << 20);
        }

        #[test]
        fn one_flipped_bit_is_never_believed(position in 0_usize..353, bit in 0_u8..8) {
            let mut bytes = encode(&three());
            prop_assert_eq!(bytes.len(), 353);
            bytes[position] ^= 1 << bit;
            let (found, end) = read(&bytes, 64, 1 << 20);
            prop_assert!(end.is_err() || found.iter().filter(|r| r.is_none()).count() == 1);
            for (record, original) in found.iter().zip(three()) {
                prop_assert!(record.is_none() || record.as_deref() == Some(&original[..]));
            }
        }
    }
}
