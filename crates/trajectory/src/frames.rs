//! Frames: an episode on its grid, in the shape a training set has.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Blobs, Origin};

/// The columns every episode of one output shares, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// In the order they are written.
    pub columns: Vec<ColumnSpec>,
}

/// One column of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// Such as `observation.state`.
    pub name: String,
    /// The type of the values.
    pub dtype: Dtype,
    /// Shape of one row; `[]` is a scalar, images are `[height, width, channels]`.
    pub shape: Vec<usize>,
    /// One name per component, where known.
    pub names: Option<Vec<String>>,
}

/// The type of an output column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// IEEE single precision.
    Float32,
    /// Two's complement, 64 bits.
    Int64,
    /// Truth value.
    Bool,
    /// UTF-8 text.
    String,
    /// A JPEG or PNG file per row.
    Image,
    /// Opaque bytes.
    Bytes,
}

/// One episode on its grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    /// Where it came from.
    pub origin: Origin,
    /// The split it belongs to.
    pub split: Option<String>,
    /// The Unix time of instant 0 of the recording; 0 where it has no wall clock.
    pub epoch_ns: i64,
    /// The instants of the grid in nanoseconds from `epoch_ns`.
    pub times_ns: Vec<i64>,
    /// One per column of the [`Schema`], in its order.
    pub columns: Vec<FrameColumn>,
    /// The distinct task strings, in order of first appearance; at least one, possibly empty text.
    pub tasks: Vec<String>,
    /// For each row, an index into `tasks`.
    pub task_index: Vec<u32>,
    /// Rows inside a gap that was not bridged: kept out of statistics.
    pub masked: Vec<bool>,
}

/// The values of one output column. Numbers are row-major `[rows, width]`.
#[derive(Debug, Clone, PartialEq)]
pub enum FrameColumn {
    /// See [`Dtype::Float32`].
    Float32(Vec<f32>),
    /// See [`Dtype::Int64`].
    Int64(Vec<i64>),
    /// See [`Dtype::Bool`].
    Bool(Vec<bool>),
    /// Text, images and bytes: row `r` is `values[index[r]]`, so that a frame shown twice is stored once.
    Indexed {
        /// The recorded values.
        values: Arc<Blobs>,
        /// One index per row.
        index: Vec<u32>,
    },
}

impl ColumnSpec {
    /// Values per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Frames {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.times_ns.len()
    }
}
