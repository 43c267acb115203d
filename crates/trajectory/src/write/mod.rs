//! Writers: episodes on their grid, encoded as LeRobot v3.0 or plain Parquet.
//!
//! Output is made in two passes, because a row's global indices depend on every shard before its own:
//!
//! 1. A [`ShardWriter`] takes the episodes of one shard and writes one *staged* Parquet file whose indices count from
//!    0 within the shard. Its [`ShardSummary`] is small and goes into the shard's done marker.
//! 2. When all summaries are there, [`Dataset`] adds them up: [`Dataset::offsets`] says where each shard begins, and
//!    [`rewrite()`] copies a staged file to its published place with global indices. Encoded columns are copied as they
//!    are; only the index columns are written anew. On its way it counts [`Histograms`] for global quantiles.
//!
//! [`metadata()`] then gives the `meta/` files of the dataset, in the order they should be published: the last one makes
//! the dataset readable.
//!
//! Invariants: bytes in, bytes out; what is written follows from format, schema, rate and episodes alone, so any number
//! of workers on any machines gives the same bytes. Nothing of the staged file but its columns reaches the output.

mod dataset;
mod describe;
mod error;
mod histogram;
mod images;
mod json;
pub mod lerobot;
mod merged;
mod metadata;
pub mod parquet;
mod range_file;
mod readback;
mod rewrite;
mod shard;
mod stats;
mod summary;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

pub use dataset::{Dataset, ShardOffsets, data_path};
pub use error::WriteError;
pub use histogram::{BINS, ColumnRanges, Histogram, Histograms};
pub use images::{ImageHistogram, SAMPLED_FRAMES};
pub use metadata::metadata;
pub use range_file::RangeFile;
pub use readback::{RowPlaces, read_floats, read_places};
pub use rewrite::rewrite;
pub use shard::ShardWriter;
pub use stats::{ColumnStats, ComponentStats, Moments, QUANTILES};
pub use summary::{EpisodeSummary, ShardSummary};
pub use table::OWN_COLUMNS;

/// What a dataset is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// LeRobot v3.0, as lerobot 0.4 reads it. See [`lerobot`].
    LeRobot,
    /// Plain Parquet with exact times. See [`mod@parquet`].
    Parquet,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LeRobot => "lerobot",
            Self::Parquet => "parquet",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "lerobot" => Ok(Self::LeRobot),
            "parquet" => Ok(Self::Parquet),
            _ => Err(format!("unknown output format {text:?}: it is one of lerobot, parquet")),
        }
    }
}

/// Rows per second, an exact fraction. Displays as `50` or `30000/1001`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Rows in `denominator` seconds.
    pub numerator: NonZeroU64,
    /// Seconds.
    pub denominator: NonZeroU64,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.integer() {
            Some(hz) => write!(f, "{hz}"),
            None => write!(f, "{}/{}", self.numerator, self.denominator),
        }
    }
}

impl Rate {
    /// The rate as a whole number, where it is one.
    #[must_use]
    pub fn integer(self) -> Option<u64> {
        let (n, d) = (self.numerator.get(), self.denominator.get());
        (n % d == 0).then_some(n / d)
    }

    /// Rows per second as LeRobot needs them.
    fn hz(self, format: Format) -> Result<f64, WriteError> {
        match (self.integer(), format) {
            (Some(hz), _) => Ok(hz as f64),
            (None, Format::Parquet) => Ok(self.numerator.get() as f64 / self.denominator.get() as f64),
            (None, Format::LeRobot) => Err(WriteError::Dataset(format!(
                "LeRobot datasets have a whole number of frames per second, and {self} is none: choose another rate or \
                 the parquet format"
            ))),
        }
    }
}
