//! Summaries: what pass 1 knows of its episodes, small enough for a marker in JSON.

use serde::{Deserialize, Serialize};

use super::WriteError;
use super::images::{self, ImageHistogram};
use super::stats::{self, ColumnStats};
use super::table::{self, Table};
use crate::{Dtype, FrameColumn, Frames, Origin};

/// One written episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeSummary {
    /// Where it came from.
    pub origin: Origin,
    /// The split it belongs to.
    pub split: Option<String>,
    /// Rows, at least 1.
    pub length: u64,
    /// Rows kept out of statistics.
    pub masked_rows: u64,
    /// The Unix time of instant 0 of the recording; 0 where it has no wall clock.
    pub epoch_ns: i64,
    /// The first instant of the grid, from `epoch_ns`.
    pub first_ns: i64,
    /// The last.
    pub last_ns: i64,
    /// The distinct tasks that occur, in order of first appearance.
    pub tasks: Vec<String>,
    /// Rows of each task.
    pub task_rows: Vec<u64>,
    /// Per column of the schema; `None` for text and bytes.
    pub stats: Vec<Option<ColumnStats>>,
}

/// One staged file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSummary {
    /// In the order they were appended.
    pub episodes: Vec<EpisodeSummary>,
    /// Rows of all episodes.
    pub rows: u64,
    /// The distinct tasks in order of first appearance: what the staged `task_index` counts.
    pub tasks: Vec<String>,
    /// Per column of the schema, over all episodes; `None` for columns without images.
    pub images: Vec<Option<ImageHistogram>>,
}

/// Checks `frames` against the table and computes its summary, with a histogram per image column.
pub(super) fn summarise(
    table: &Table,
    frames: &Frames,
) -> Result<(EpisodeSummary, Vec<Option<ImageHistogram>>), WriteError> {
    check(table, frames)?;
    let mut all_stats = Vec::with_capacity(table.columns.len());
    let mut histograms = Vec::with_capacity(table.columns.len());
    for (spec, column) in table.columns.iter().zip(&frames.columns) {
        let (width, components, masked) = (spec.width(), table::components(spec), frames.masked.as_slice());
        let mut histogram = None;
        all_stats.push(match column {
            FrameColumn::Float32(values) => Some(stats::column(values, width, components, masked)),
            FrameColumn::Int64(values) => Some(stats::column(values, width, components, masked)),
            FrameColumn::Bool(values) => Some(stats::column(values, width, components, masked)),
            FrameColumn::Indexed { values, index } if spec.dtype == Dtype::Image => {
                let counts = images::examine(frames, spec, values, index)?;
                Some(histogram.insert(counts).stats())
            }
            FrameColumn::Indexed { .. } => None,
        });
        histograms.push(histogram);
    }
    let mut order: Vec<u32> = Vec::new();
    let mut rows_of = vec![0_u64; frames.tasks.len()];
    for &task in &frames.task_index {
        let rows = &mut rows_of[task as usize];
        if *rows == 0 {
            order.push(task);
        }
        *rows += 1;
    }
    let summary = EpisodeSummary {
        origin: frames.origin.clone(),
        split: frames.split.clone(),
        length: frames.rows() as u64,
        masked_rows: frames.masked.iter().filter(|masked| **masked).count() as u64,
        epoch_ns: frames.epoch_ns,
        first_ns: frames.times_ns.first().copied().unwrap_or(0),
        last_ns: frames.times_ns.last().copied().unwrap_or(0),
        tasks: order.iter().map(|&task| frames.tasks[task as usize].clone()).collect(),
        task_rows: order.iter().map(|&task| rows_of[task as usize]).collect(),
        stats: all_stats,
    };
    Ok((summary, histograms))
}

/// Whether every vector has the length that rows and schema ask for, and every index a value.
fn check(table: &Table, frames: &Frames) -> Result<(), WriteError> {
    let fail = |problem: String| Err(WriteError::episode(&frames.origin, problem));
    let rows = frames.rows();
    if rows == 0 {
        return fail("has no rows".to_owned());
    }
    if frames.columns.len() != table.columns.len() {
        return fail(format!("has {} columns and not {}", frames.columns.len(), table.columns.len()));
    }
    if frames.task_index.len() != rows || frames.masked.len() != rows {
        return fail(format!("has {rows} rows but other numbers of tasks or masks"));
    }
    if frames.task_index.iter().any(|&task| task as usize >= frames.tasks.len()) {
        return fail("has a row without a task".to_owned());
    }
    for (spec, column) in table.columns.iter().zip(&frames.columns) {
        let values = match (spec.dtype, column) {
            (Dtype::Float32, FrameColumn::Float32(v)) => v.len(),
            (Dtype::Int64, FrameColumn::Int64(v)) => v.len(),
            (Dtype::Bool, FrameColumn::Bool(v)) => v.len(),
            (Dtype::String | Dtype::Bytes | Dtype::Image, FrameColumn::Indexed { values, index }) => {
                if index.iter().any(|&at| at as usize >= values.len()) {
                    return fail(format!("column {}: a row points past the values", spec.name));
                }
                check_blobs(frames, &spec.name, spec.dtype, values, index)?;
                // One index per row stands for the whole value, whatever its shape.
                index.len() * spec.width()
            }
            _ => return fail(format!("column {}: is not of its declared type", spec.name)),
        };
        if Some(values) != rows.checked_mul(spec.width()) {
            return fail(format!("column {}: has {values} values in {rows} rows", spec.name));
        }
    }
    Ok(())
}

fn check_blobs(
    frames: &Frames,
    name: &str,
    dtype: Dtype,
    values: &crate::Blobs,
    index: &[u32],
) -> Result<(), WriteError> {
    let mut last = None;
    for (row, &at) in index.iter().enumerate() {
        if last.replace(at) == Some(at) {
            continue;
        }
        let value = values.get(at as usize);
        let problem = if value.len() > table::VALUE_BYTES {
            "a value of more than 1 GiB"
        } else if dtype == Dtype::String && std::str::from_utf8(value).is_err() {
            "text that is not UTF-8"
        } else {
            continue;
        };
        return Err(WriteError::episode(&frames.origin, format!("column {name}, row {row}: {problem}")));
    }
    Ok(())
}
