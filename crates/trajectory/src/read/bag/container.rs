//! MCAP records, taken out of blocks of bytes and given to the topics.
//!
//! Two of the mcap crate's linear readers do the parsing: one over the file, which hands out chunks whole, and one over the
//! chunk at hand, which decompresses it. The detour has a reason: the crate streams an uncompressed chunk without
//! holding its records against the chunk's length, so [`check_chunk`] does that first, and it bounds what a chunk claims
//! to grow to. Checksums of chunks, of the data section and of the summary are verified where the file has them.
//!
//! Invariant: memory is bounded by `Limits::record_bytes` (a compressed chunk, and a record out of it) and the block; the
//! values of the one message being decoded take at most eight times its bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ::mcap::records::{Record, op};
use ::mcap::sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions};
use ::mcap::{McapError, parse_record};

use super::topic::{Channel, Route, Topics};
use crate::Finding;
use crate::read::Limits;

/// What is wrong with a file, and where.
#[derive(Debug)]
pub(super) struct ContainerError {
    pub(super) problem: String,
    /// Where the record begins that could not be read.
    pub(super) offset: u64,
}

/// The parser of one file.
pub(super) struct Container {
    file: LinearReader,
    chunk: LinearReader,
    record_bytes: u64,
    /// Where the next record of the file begins.
    offset: u64,
    /// Bytes handed over.
    fed: u64,
}

const MAGIC_BYTES: u64 = 8;
/// Opcode and length of a record.
const RECORD_HEADER_BYTES: usize = 9;

impl Container {
    pub(super) fn new(limits: &Limits) -> Self {
        let limit = usize::try_from(limits.record_bytes).unwrap_or(usize::MAX);
        let options = LinearReaderOptions::default().with_record_length_limit(limit);
        let file = options
            .clone()
            .with_emit_chunks(true)
            .with_validate_data_section_crc(true)
            .with_validate_summary_section_crc(true);
        let chunk =
            options.with_skip_start_magic(true).with_skip_end_magic(true).with_validate_chunk_crcs(true);
        Self {
            file: LinearReader::new_with_options(file),
            chunk: LinearReader::new_with_options(chunk),
            record_bytes: limits.record_bytes,
            offset: 0,
            fed: 0,
        }
    }

    /// Takes in the next bytes of the file, `last` if they are its last ones; whether the file's end mark was
    /// reached.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        last: bool,
        content: &mut Content,
    ) -> Result<bool, ContainerError> {
        self.fed += bytes.len() as u64;
        self.file.insert(bytes.len()).copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.file.notify_read(bytes.len());
        }
        loop {
            let offset = self.offset;
            let fail = |problem: String| ContainerError { problem, offset };
            let (opcode, data) = match self.file.next_event() {
                None => return Ok(true),
                Some(Ok(LinearReadEvent::ReadRequest(_))) if last => {
                    return Err(fail(truncated(offset)));
                }
                Some(Ok(LinearReadEvent::ReadRequest(_))) => return Ok(false),
                Some(Ok(LinearReadEvent::Record { opcode, data })) => (opcode, data),
                Some(Err(McapError::BadMagic)) if offset == 0 => {
                    return Err(fail("this is not an MCAP file".into()));
                }
                Some(Err(McapError::BadMagic)) => return Err(fail(truncated(offset))),
                Some(Err(e)) => return Err(fail(problem_of(&e))),
            };
            self.offset = self.offset.max(MAGIC_BYTES) + (RECORD_HEADER_BYTES + data.len()) as u64;
            let done = if opcode == op::CHUNK {
                check_chunk(data, self.record_bytes).and_then(|()| read_chunk(&mut self.chunk, data, content))
            } else {
                content.record(opcode, data)
            };
            done.map_err(fail)?;
            if content.failed.is_some() {
                return Ok(true);
            }
        }
    }

    /// Bytes handed over that lie after the end mark.
    pub(super) fn unread(&self) -> u64 {
        self.fed - (self.offset.max(MAGIC_BYTES) + MAGIC_BYTES).min(self.fed)
    }
}

fn truncated(offset: u64) -> String {
    format!(
        "truncated: the file ends inside the record at byte {offset} and without an end mark, so its recorder was probably \
         killed: write what can be saved to a new file with `mcap recover`"
    )
}

fn problem_of(error: &McapError) -> String {
    let mut problem = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        problem = format!("{problem}: {}", source.to_string().replace('\n', " "));
    }
    let mut letters = problem.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or(problem)
}

/// Holds a chunk's claims against its bytes and the limit (MCAP specification, "Chunk (op=0x06)").
fn check_chunk(data: &[u8], record_bytes: u64) -> Result<(), String> {
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = data.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let cut_short = || "the chunk is shorter than its own header".to_owned();
    let uncompressed = number(16, 8).ok_or_else(cut_short)?;
    let name_len = usize::try_from(number(28, 4).ok_or_else(cut_short)?).map_err(|_| cut_short())?;
    let size_at = name_len.checked_add(32).ok_or_else(cut_short)?;
    let compressed = number(size_at, 8).ok_or_else(cut_short)?;
    let records = &data[size_at + 8..];
    if uncompressed > record_bytes {
        return Err(format!(
            "the chunk claims {uncompressed} uncompressed bytes, more than the limit of {record_bytes}"
        ));
    }
    let Some(mut records) = usize::try_from(compressed).ok().and_then(|len| records.get(..len)) else {
        return Err(format!("the chunk claims {compressed} bytes of records but holds {}", records.len()));
    };
    while name_len == 0 && !records.is_empty() {
        let header = records.split_at_checked(RECORD_HEADER_BYTES);
        let after = header.and_then(|(header, rest)| {
            let len = u64::from_le_bytes(header[1..].try_into().ok()?);
            rest.get(usize::try_from(len).ok()?..)
        });
        records = after.ok_or("a record reaches beyond its chunk")?;
    }
    Ok(())
}

/// Reads the records of the chunk record `data`.
fn read_chunk(reader: &mut LinearReader, data: &[u8], content: &mut Content) -> Result<(), String> {
    let record = reader.insert(RECORD_HEADER_BYTES + data.len());
    record[0] = op::CHUNK;
    record[1..RECORD_HEADER_BYTES].copy_from_slice(&(data.len() as u64).to_le_bytes());
    record[RECORD_HEADER_BYTES..].copy_from_slice(data);
    reader.notify_read(RECORD_HEADER_BYTES + data.len());
    while content.failed.is_none() {
        match reader.next_event() {
            // The reader wants the next record, so this one is over.
            None | Some(Ok(LinearReadEvent::ReadRequest(_))) => break,
            Some(Ok(LinearReadEvent::Record { opcode, data })) => content.record(opcode, data)?,
            Some(Err(e)) => return Err(problem_of(&e)),
        }
    }
    Ok(())
}

/// What the records of a recording say.
pub(super) struct Content {
    pub(super) topics: Topics,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) findings: Vec<Finding>,
    /// The topic, the message's number in it, and why it cannot be decoded.
    pub(super) failed: Option<(String, u64, String)>,
    attachments: usize,
    /// Name, encoding and text of the file's schemas.
    schemas: HashMap<u16, (String, String, Arc<[u8]>)>,
    /// Where the messages of the file's channels go.
    routes: HashMap<u16, Route>,
    last_route: Option<(u16, Route)>,
}

impl Content {
    pub(super) fn new(topics: Topics) -> Self {
        Self {
            topics,
            metadata: BTreeMap::new(),
            findings: Vec::new(),
            failed: None,
            attachments: 0,
            schemas: HashMap::new(),
            routes: HashMap::new(),
            last_route: None,
        }
    }

    /// Numbers of schemas and channels mean something in their own file only.
    pub(super) fn next_file(&mut self) {
        self.schemas.clear();
        self.routes.clear();
        self.last_route = None;
        if std::mem::take(&mut self.attachments) > 0 {
            let message = "the recording has attachments, which are not read";
            self.findings.push(Finding::new("attachment-ignored", "attachments", message));
        }
    }

    pub(super) fn note_trailing(&mut self, file: &str, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let message = format!("{bytes} bytes after the end mark are not read");
        self.findings.push(Finding::new("trailing-bytes", file, message));
    }

    fn record(&mut self, opcode: u8, data: &[u8]) -> Result<(), String> {
        match opcode {
            op::MESSAGE => self.message(data),
            op::ATTACHMENT => {
                self.attachments += 1;
                Ok(())
            }
            op::SCHEMA | op::CHANNEL | op::METADATA => match parse_record(opcode, data)
                .map_err(|e| problem_of(&e))?
            {
                Record::Schema { header, data } => {
                    // Files repeat their schemas in the summary: keep the first copy.
                    let same = |(name, encoding, text): &(String, String, Arc<[u8]>)| {
                        *name == header.name && *encoding == header.encoding && **text == *data
                    };
                    if !self.schemas.get(&header.id).is_some_and(same) {
                        self.schemas.insert(header.id, (header.name, header.encoding, data.into()));
                    }
                    Ok(())
                }
                Record::Channel(channel) => self.channel(&channel),
                Record::Metadata(record) => {
                    let named = record.metadata.into_iter().map(|(k, v)| (format!("{}.{k}", record.name), v));
                    self.metadata.extend(named);
                    Ok(())
                }
                _ => Ok(()),
            },
            // Indexes, statistics and records of other applications say nothing a walk over all messages does not.
            _ => Ok(()),
        }
    }

    fn channel(&mut self, channel: &::mcap::records::Channel) -> Result<(), String> {
        let nothing = (String::new(), String::new(), Arc::from([]));
        let (schema_name, schema_encoding, schema) = match self.schemas.get(&channel.schema_id) {
            Some(schema) => schema,
            None if channel.schema_id == 0 => &nothing,
            None => {
                return Err(format!(
                    "channel `{}` refers to schema {}, which is missing",
                    channel.topic, channel.schema_id
                ));
            }
        };
        let route = self.topics.route(&Channel {
            topic: &channel.topic,
            message_encoding: &channel.message_encoding,
            schema_name,
            schema_encoding,
            schema,
            metadata: &channel.metadata,
        });
        self.routes.insert(channel.id, route);
        self.last_route = None;
        Ok(())
    }

    /// A message record: channel u16, sequence u32, log time u64, publish time u64, then the message.
    fn message(&mut self, data: &[u8]) -> Result<(), String> {
        let Some((header, message)) = data.split_first_chunk::<22>() else {
            return Err("a message record is shorter than its own header".into());
        };
        let channel = u16::from_le_bytes([header[0], header[1]]);
        let log_time = u64::from_le_bytes(std::array::from_fn(|i| header[6 + i]));
        let route = match self.last_route {
            Some((last, route)) if last == channel => route,
            _ => *self
                .routes
                .get(&channel)
                .ok_or_else(|| format!("a message refers to channel {channel}, which is missing"))?,
        };
        self.last_route = Some((channel, route));
        let Ok(log_ns) = i64::try_from(log_time) else {
            return Err(format!("a message has log time {log_time}, which is after the year 2262"));
        };
        self.failed = self.topics.message(route, log_ns, message).err();
        self.topics.check_size()
    }
}
