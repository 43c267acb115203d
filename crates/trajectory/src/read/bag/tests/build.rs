//! Recordings and messages made by hand.

use std::collections::BTreeMap;
use std::io::Cursor;

use ::mcap::records::MessageHeader;
use ::mcap::{Compression, WriteOptions, Writer};

use super::super::{BagOptions, BagReader};
use crate::Trajectory;
use crate::read::{InputFile, Limits, ReadError, Reader, Step};

pub(super) const HEADER: &str =
    "\n================\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n";
pub(super) const JOINT_STATE: &str =
    "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n";

/// A CDR message under construction; `big` is its byte order.
#[derive(Clone)]
pub(super) struct Cdr {
    bytes: Vec<u8>,
    big: bool,
}

impl Cdr {
    pub(super) fn new(big: bool) -> Self {
        Self { bytes: vec![0, u8::from(!big), 0, 0], big }
    }

    pub(super) fn put(mut self, little: &[u8]) -> Self {
        while !(self.bytes.len() - 4).is_multiple_of(little.len().max(1)) {
            self.bytes.push(0);
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(little);
        if self.big {
            self.bytes[at..].reverse();
        }
        self
    }

    pub(super) fn u32(self, v: u32) -> Self {
        self.put(&v.to_le_bytes())
    }

    pub(super) fn f64(self, v: f64) -> Self {
        self.put(&v.to_le_bytes())
    }

    pub(super) fn text(self, v: &str) -> Self {
        let mut out = self.u32(v.len() as u32 + 1);
        out.bytes.extend_from_slice(v.as_bytes());
        out.bytes.push(0);
        out
    }

    pub(super) fn texts(self, v: &[&str]) -> Self {
        v.iter().fold(self.u32(v.len() as u32), |out, text| out.text(text))
    }

    pub(super) fn f64s(self, v: &[f64]) -> Self {
        v.iter().fold(self.u32(v.len() as u32), |out, value| out.f64(*value))
    }

    pub(super) fn raw(mut self, v: &[u8]) -> Self {
        self.bytes.extend_from_slice(v);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.bytes
    }
}

/// A joint state stamped `stamp_ns` with frame `f`.
pub(super) fn joints(stamp_ns: u64, names: &[&str], position: &[f64], velocity: &[f64]) -> Vec<u8> {
    let stamp = Cdr::new(false).u32((stamp_ns / 1_000_000_000) as u32).u32((stamp_ns % 1_000_000_000) as u32);
    stamp.text("f").texts(names).f64s(position).f64s(velocity).f64s(&[]).done()
}

pub(super) fn boolean(on: bool) -> Vec<u8> {
    Cdr::new(false).put(&[u8::from(on)]).done()
}

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chunks {
    None,
    Plain,
    Zstd,
    Lz4,
}

/// An MCAP file under construction.
pub(super) struct Bag {
    writer: Writer<Cursor<Vec<u8>>>,
}

impl Bag {
    pub(super) fn new(chunks: Chunks) -> Self {
        let compression = match chunks {
            Chunks::Zstd => Some(Compression::Zstd),
            Chunks::Lz4 => Some(Compression::Lz4),
            Chunks::None | Chunks::Plain => None,
        };
        let options = WriteOptions::new()
            .compression(compression)
            .compression_threads(0)
            .use_chunks(!matches!(chunks, Chunks::None))
            .chunk_size(Some(2000));
        Self { writer: options.create(Cursor::new(Vec::new())).unwrap() }
    }

    pub(super) fn ros(&mut self, topic: &str, ty: &str, definition: &str) -> u16 {
        let schema = self.writer.add_schema(ty, "ros2msg", definition.as_bytes()).unwrap();
        self.writer.add_channel(schema, topic, "cdr", &BTreeMap::new()).unwrap()
    }

    pub(super) fn latched(&mut self, topic: &str, ty: &str, definition: &str) -> u16 {
        let schema = self.writer.add_schema(ty, "ros2msg", definition.as_bytes()).unwrap();
        let metadata = BTreeMap::from([("offered_qos_profiles".to_owned(), "- durability: 1".to_owned())]);
        self.writer.add_channel(schema, topic, "cdr", &metadata).unwrap()
    }

    pub(super) fn json(&mut self, topic: &str) -> u16 {
        self.encoded(topic, "json", 0)
    }

    pub(super) fn encoded(&mut self, topic: &str, encoding: &str, schema: u16) -> u16 {
        self.writer.add_channel(schema, topic, encoding, &BTreeMap::new()).unwrap()
    }

    pub(super) fn write(&mut self, channel_id: u16, log_time: u64, data: &[u8]) {
        let header = MessageHeader { channel_id, sequence: 0, log_time, publish_time: log_time };
        self.writer.write_to_known_channel(&header, data).unwrap();
    }

    pub(super) fn writer(&mut self) -> &mut Writer<Cursor<Vec<u8>>> {
        &mut self.writer
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        self.writer.finish().unwrap();
        self.writer.into_inner().into_inner()
    }
}

/// What a reader gives when driven to its end: its episodes, and the error that ended it.
pub(super) type Outcome = (Vec<Result<Trajectory, ReadError>>, Option<ReadError>);

pub(super) fn drive(files: &[&[u8]], options: BagOptions, limits: Limits, block_bytes: u64) -> Outcome {
    let named =
        |(i, f): (usize, &&[u8])| InputFile { path: format!("run/run_{i}.mcap"), size: f.len() as u64 };
    let inputs = files.iter().enumerate().map(named).collect();
    let mut reader = BagReader::new("run".into(), inputs, options, limits).with_block_bytes(block_bytes);
    let mut episodes = Vec::new();
    loop {
        match reader.step() {
            Ok(Step::Need { file, range }) => {
                assert!(range.start < range.end && range.end <= files[file].len() as u64);
                // An error here comes back from the next step.
                let _ = reader.provide(&files[file][range.start as usize..range.end as usize]);
            }
            Ok(Step::Episode(episode)) => episodes.push(episode.map(|e| *e)),
            Ok(Step::End) => return (episodes, None),
            Err(error) => return (episodes, Some(error)),
        }
    }
}

pub(super) fn read(files: &[&[u8]], options: BagOptions) -> Vec<Trajectory> {
    let (episodes, error) = drive(files, options, Limits::default(), 1 << 20);
    assert_eq!(error, None);
    episodes.into_iter().map(Result::unwrap).collect()
}

pub(super) fn read_one(file: &[u8]) -> Trajectory {
    let mut episodes = read(&[file], BagOptions::default());
    assert_eq!(episodes.len(), 1);
    episodes.remove(0)
}

pub(super) fn read_error(file: &[u8], options: BagOptions) -> String {
    let (episodes, error) = drive(&[file], options, Limits::default(), 1 << 20);
    let in_episode = episodes.into_iter().find_map(Result::err);
    error.or(in_episode).expect("an error was expected").to_string()
}
