//! Robot episodes: the data model, and the formats they are read from and written to.
//!
//! Readers turn bytes into [`Trajectory`] values: streams that each keep the clock they were recorded with.
//! Writers turn [`Frames`], an episode already on one grid, into bytes. Between the two stands resampling,
//! which this crate knows nothing of.
//!
//! Invariants, as absences: nothing here opens a file, reads a clock or the environment, or starts a thread.
//! A reader asks for byte ranges through [`read::Reader`] and yields episodes; a writer is handed a sink.

mod column;
mod episode;
mod finding;
mod frames;
pub mod image;
pub mod read;
pub mod write;

pub use column::{Blobs, Column, ColumnKind};
pub use episode::{Clock, Feature, Meaning, Origin, QuaternionOrder, Stream, Trajectory};
pub use finding::Finding;
pub use frames::{ColumnSpec, Dtype, FrameColumn, Frames, Schema};
