//! Readers: parsers that ask for bytes and yield episodes.
//!
//! A reader never touches a file. The caller drives it: [`Reader::step`] says which bytes it wants next,
//! [`Reader::provide`] hands them over, and episodes come out as soon as their last byte is in. The same parser so
//! reads from memory, a disk or an object store, and a test can feed it one byte at a time.

pub mod bag;

use crate::{Origin, Trajectory};

/// One file of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Path relative to the input's root, with `/` between parts.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
}

/// What a reader wants, or has.
#[derive(Debug)]
pub enum Step {
    /// Wants these bytes of file `file` (an index into the files it was made with): never empty, never past its end.
    Need {
        /// Index into the files the reader was made with.
        file: usize,
        /// Byte range, within the file's stated size.
        range: std::ops::Range<u64>,
    },
    /// One episode, or what is wrong with it; the episodes after it can still be read.
    Episode(Result<Box<Trajectory>, ReadError>),
    /// There is nothing more.
    End,
}

/// A parser of one recording: it asks for bytes and yields episodes.
pub trait Reader: Send {
    /// The next thing wanted or found.
    ///
    /// # Errors
    /// When nothing after this point can be read; what was yielded before stays good.
    fn step(&mut self) -> Result<Step, ReadError>;

    /// The bytes the last [`Step::Need`] asked for, all of them.
    ///
    /// # Errors
    /// As [`Reader::step`].
    fn provide(&mut self, bytes: &[u8]) -> Result<(), ReadError>;
}

/// What is wrong with the input, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ReadError {
    /// File, and where known episode, feature, index or offset.
    pub place: Box<Place>,
    /// One sentence, lower case, no full stop, that says what was seen and, where it helps, what to do.
    pub problem: String,
}

/// A place in the input. Displays as `file episode 3, feature /x.y, index 17` with the parts that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// File or folder, relative to the input's root.
    pub file: String,
    /// Episode of that file, from 0.
    pub episode: Option<u64>,
    /// Stream or feature.
    pub feature: Option<String>,
    /// Sample within the stream, from 0.
    pub index: Option<u64>,
    /// Byte offset in the file.
    pub offset: Option<u64>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(episode) = self.episode {
            write!(f, ", episode {episode}")?;
        }
        if let Some(feature) = &self.feature {
            write!(f, ", {feature}")?;
        }
        if let Some(index) = self.index {
            write!(f, ", sample {index}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        Ok(())
    }
}

impl ReadError {
    /// A problem somewhere in `file`; narrow it with the methods below.
    pub fn new(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: Box::new(Place { file: file.into(), ..Place::default() }), problem: problem.into() }
    }

    /// A problem in the episode `origin`.
    pub fn in_episode(origin: &Origin, problem: impl Into<String>) -> Self {
        Self::new(&origin.file, problem).episode(origin.episode)
    }

    /// Narrows the place to an episode.
    #[must_use]
    pub fn episode(mut self, episode: u64) -> Self {
        self.place.episode = Some(episode);
        self
    }

    /// Narrows the place to a stream or feature.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<String>) -> Self {
        self.place.feature = Some(feature.into());
        self
    }

    /// Narrows the place to a sample.
    #[must_use]
    pub fn index(mut self, index: u64) -> Self {
        self.place.index = Some(index);
        self
    }

    /// Narrows the place to a byte offset.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.place.offset = Some(offset);
        self
    }
}

/// Upper bounds on what one input may make a reader hold. A file that claims more is refused, not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest record, chunk (compressed or not) or message.
    pub record_bytes: u64,
    /// Most payload one episode may have in memory.
    pub episode_bytes: u64,
    /// Most features one stream, and most streams one recording, may have.
    pub features: usize,
    /// Deepest nesting of message types or JSON values.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { record_bytes: 1 << 30, episode_bytes: 8 << 30, features: 4096, depth: 32 }
    }
}
