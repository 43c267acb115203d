//! Frames: an episode on its grid, in the shape a training set has.

use std::ops::Range;
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

    /// The rows in `rows` as an episode of their own, with the tasks that occur in them.
    ///
    /// # Panics
    /// If there are no such rows, like a slice.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let total = self.rows();
        let columns = self.columns.iter().map(|column| match column {
            FrameColumn::Float32(v) => FrameColumn::Float32(slice(v, &rows, total)),
            FrameColumn::Int64(v) => FrameColumn::Int64(slice(v, &rows, total)),
            FrameColumn::Bool(v) => FrameColumn::Bool(slice(v, &rows, total)),
            FrameColumn::Indexed { values, index } => {
                FrameColumn::Indexed { values: Arc::clone(values), index: index[rows.clone()].to_vec() }
            }
        });
        let mut kept: Vec<u32> = Vec::new();
        let mut renumbered = Vec::with_capacity(rows.len());
        for task in &self.task_index[rows.clone()] {
            let at = kept.iter().position(|k| k == task).unwrap_or_else(|| {
                kept.push(*task);
                kept.len() - 1
            });
            renumbered.push(u32::try_from(at).expect("no more tasks than the u32 they were counted by"));
        }
        Self {
            origin: self.origin.clone(),
            split: self.split.clone(),
            epoch_ns: self.epoch_ns,
            times_ns: self.times_ns[rows.clone()].to_vec(),
            columns: columns.collect(),
            tasks: kept.iter().map(|&task| self.tasks[task as usize].clone()).collect(),
            task_index: renumbered,
            masked: self.masked[rows].to_vec(),
        }
    }
}

fn slice<T: Clone>(values: &[T], rows: &Range<usize>, total: usize) -> Vec<T> {
    let width = values.len() / total.max(1);
    values[rows.start * width..rows.end * width].to_vec()
}
