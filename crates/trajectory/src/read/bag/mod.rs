//! Bags: MCAP recordings of ROS 2 and JSON messages, read without touching a file.
//!
//! [`BagReader`] asks for the files of one recording block by block, in order. `container` takes records out of the
//! bytes, `topic` decodes messages into streams by way of `ros2msg` (definitions), `cdr` or `json` (bytes to values),
//! `shape` (values to features) and `stream` (features to columns). When the last byte is in, `clock` chooses each
//! topic's clock and `episodes` cuts the recording; episodes are then yielded one by one.
//!
//! The whole recording is held until its end, since a topic's clock is judged by all of its stamps; so
//! [`Limits::episode_bytes`] bounds the recording. What cannot be a column, or cannot be read, is a finding; a message
//! that contradicts its definition fails the recording's one episode.
//!
//! Formats: MCAP (mcap.dev/spec), its registry of well-known encodings, and rosbag2's conventions for channel metadata.
//!
//! Invariants: no input panics; no length is believed before it is held against a limit or the bytes that are
//! there; the sizes of the blocks handed over change nothing; nothing is left out without a finding.

mod cdr;
mod clock;
mod container;
mod episodes;
mod json;
mod options;
mod ros2msg;
mod shape;
mod stream;
#[cfg(test)]
mod tests;
mod topic;

pub use options::{
    BagMetadataError, BagOptions, EpisodesFrom, ParseEpisodesError, TopicFilter, bag_files, duration_ns,
};

use std::collections::{BTreeMap, VecDeque};

use self::container::{Container, Content};
use self::episodes::{Recording, Span};
use self::topic::Topics;
use crate::read::{InputFile, Limits, ReadError, Reader, Step};
use crate::{Finding, Stream};

/// Whether a file that begins with these bytes is an MCAP file. Needs the first eight.
#[must_use]
pub fn is_mcap(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(::mcap::MAGIC)
}

/// Bytes asked for at once.
const BLOCK_BYTES: u64 = 1 << 20;

/// A reader of one recording: the MCAP files of a bag, in order.
///
/// Feature names are the stream's name, a dot, and the field's dotted path (`/joint_states.position`); a message that
/// consists of two or more floats of one type is one vector (`/ee_pose.pose.position`, named x, y, z); other scalars
/// have shape `[]`, numeric arrays `[n]`, byte arrays are one blob per row. Times and durations inside messages are
/// integers of nanoseconds in a feature whose name ends in `_ns`. `frame_id` of the header stays a text feature.
pub struct BagReader {
    name: String,
    files: Vec<InputFile>,
    options: BagOptions,
    limits: Limits,
    block_bytes: u64,
    state: State,
}

enum State {
    Reading(Box<Reading>),
    Yielding {
        recording: Box<Recording>,
        spans: VecDeque<Span>,
        next: u64,
    },
    /// The recording's one episode, which cannot be had.
    FailedEpisode(ReadError),
    Failed(ReadError),
    Done,
}

/// The walk over the files.
struct Reading {
    file: usize,
    /// First byte of the file not yet handed over.
    offset: u64,
    container: Container,
    content: Content,
}

impl BagReader {
    /// A reader of `files`, which are one recording called `name` (the `origin.file` of its episodes).
    #[must_use]
    pub fn new(name: String, files: Vec<InputFile>, options: BagOptions, limits: Limits) -> Self {
        let content = Content::new(Topics::new(options.clone(), limits));
        let container = Container::new(&limits);
        let state = State::Reading(Box::new(Reading { file: 0, offset: 0, container, content }));
        Self { name, files, options, limits, block_bytes: BLOCK_BYTES, state }
    }

    /// The same reader asking for `block_bytes` at once, at least 1, instead of 1 MiB. The result is the same.
    #[must_use]
    pub fn with_block_bytes(mut self, block_bytes: u64) -> Self {
        self.block_bytes = block_bytes.max(1);
        self
    }

    /// Takes in `bytes`, and moves on to the next file, or to the episodes, when a file ends.
    fn take(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let State::Reading(reading) = &mut self.state else { return Ok(()) };
        let file = &self.files[reading.file];
        reading.offset += bytes.len() as u64;
        let at_end = reading.offset >= file.size;
        let fail = |problem: String, offset| ReadError::new(&file.path, problem).offset(offset);
        let end = reading.container.feed(bytes, at_end, &mut reading.content);
        let ended = end.map_err(|e| fail(e.problem, e.offset))?;
        if let Some((feature, index, problem)) = reading.content.failed.take() {
            let error = ReadError::new(&file.path, problem).feature(feature).index(index);
            self.state = State::FailedEpisode(error.episode(0));
            return Ok(());
        }
        if ended {
            let rest = file.size - reading.offset + reading.container.unread();
            reading.content.note_trailing(&file.path, rest);
        }
        if ended || at_end {
            reading.file += 1;
            reading.offset = 0;
            reading.container = Container::new(&self.limits);
            reading.content.next_file();
        }
        Ok(())
    }

    /// Turns what was read into a recording, and says which episodes it has.
    fn finish(&mut self) -> Result<(), ReadError> {
        let State::Reading(reading) = std::mem::replace(&mut self.state, State::Done) else { return Ok(()) };
        let Content { topics, metadata, mut findings, .. } = reading.content;
        if topics.messages == 0 {
            return Err(ReadError::new(&self.name, "no messages in the recording"));
        }
        let recording = self.recording(topics, metadata, &mut findings)?;
        let spans = recording.spans(&self.options.episodes)?.into();
        self.state = State::Yielding { recording: Box::new(recording), spans, next: 0 };
        Ok(())
    }

    fn recording(
        &self,
        topics: Topics,
        metadata: BTreeMap<String, String>,
        findings: &mut Vec<Finding>,
    ) -> Result<Recording, ReadError> {
        let mut streams: Vec<Stream> = Vec::new();
        let mut marks = Vec::new();
        for topic in topics.finish(findings) {
            let name = topic.name.clone();
            let offset_ns = self.options.clock_offsets_ns.get(&name).copied().unwrap_or(0);
            let chosen = self.options.clocks.get(&name).copied();
            let of_topic = clock::streams_of(topic, offset_ns, chosen, findings)
                .map_err(|problem| ReadError::new(&self.name, problem).feature(&name))?;
            let marks_episodes = self.options.episodes == EpisodesFrom::Topic(name);
            if marks_episodes { &mut marks } else { &mut streams }.extend(of_topic);
        }
        if streams.is_empty() {
            let reasons: Vec<String> =
                findings.iter().map(|f| format!("{} ({})", f.subject, f.message)).collect();
            let reasons = if reasons.is_empty() {
                "no topic passes --include and --exclude".into()
            } else {
                reasons.join("; ")
            };
            return Err(ReadError::new(
                &self.name,
                format!("no topic of the recording can be read: {reasons}"),
            ));
        }
        let mut taken = shape::Taken::default();
        for feature in streams.iter_mut().flat_map(|s| &mut s.features) {
            // `/a` with `b.c` and `/a.b` with `c`: possible where topics are not ROS names.
            feature.name = taken.distinct(std::mem::take(&mut feature.name));
        }
        let sorted = streams.iter().map(|s| s.times_ns.is_sorted()).collect();
        let findings = std::mem::take(findings);
        Ok(Recording { name: self.name.clone(), streams, marks, metadata, findings, sorted })
    }

    fn advance(&mut self) -> Result<Step, ReadError> {
        if let State::Reading(reading) = &self.state {
            if let Some(file) = self.files.get(reading.file) {
                if file.size == 0 {
                    return Err(ReadError::new(&file.path, "truncated: the file is empty"));
                }
                let end = file.size.min(reading.offset + self.block_bytes);
                return Ok(Step::Need { file: reading.file, range: reading.offset..end });
            }
            self.finish()?;
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Yielding { mut recording, mut spans, next } => {
                let Some(span) = spans.pop_front() else { return Ok(Step::End) };
                let episode = recording.episode(next, span);
                self.state = State::Yielding { recording, spans, next: next + 1 };
                Ok(Step::Episode(episode))
            }
            State::FailedEpisode(error) => Ok(Step::Episode(Err(error))),
            State::Failed(error) => Err(error),
            State::Reading(_) | State::Done => Ok(Step::End),
        }
    }

    /// Keeps an error, so that whoever asks again hears it again.
    fn remember<T>(&mut self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.inspect_err(|error| self.state = State::Failed(error.clone()))
    }
}

impl Reader for BagReader {
    fn step(&mut self) -> Result<Step, ReadError> {
        let step = self.advance();
        self.remember(step)
    }

    fn provide(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let taken = self.take(bytes);
        self.remember(taken)
    }
}
