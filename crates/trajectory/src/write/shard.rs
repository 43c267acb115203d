//! Pass 1: the staged file of one shard.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;

use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

use super::summary::{self, EpisodeSummary, ShardSummary};
use super::table::{Place, ROW_GROUP_BYTES, ROW_GROUP_ROWS, Table};
use super::{Format, ImageHistogram, Rate, WriteError};
use crate::{FrameColumn, Frames, Schema};

/// The key under which a staged file keeps its masked rows: JSON, a list of `[first row, rows]`.
pub(super) const MASKED_KEY: &str = "robocache.masked";

/// Writes the episodes of one shard to a staged Parquet file.
pub struct ShardWriter<W: Write + Send> {
    table: Table,
    fps: f64,
    writer: ArrowWriter<W>,
    summary: ShardSummary,
    task_index: HashMap<String, i64>,
    /// Runs of masked rows, `(first, rows)`, ascending.
    masked: Vec<(u64, u64)>,
    /// Rows and payload of the row group in progress.
    group: (usize, usize),
}

impl<W: Write + Send> std::fmt::Debug for ShardWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardWriter").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<W: Write + Send> ShardWriter<W> {
    /// A writer of episodes with `schema` at `rate` rows per second.
    ///
    /// # Errors
    /// If `format` cannot hold the schema, naming the column, or the rate; if the sink fails.
    pub fn new(format: Format, schema: &Schema, rate: Rate, sink: W) -> Result<Self, WriteError> {
        let table = Table::new(format, schema)?;
        let fps = rate.hz(format)?;
        let properties = table.properties().build();
        let writer = ArrowWriter::try_new(sink, table.arrow.clone(), Some(properties))?;
        let images = vec![None; table.columns.len()];
        let summary = ShardSummary { images, ..ShardSummary::default() };
        Ok(Self {
            table,
            fps,
            writer,
            summary,
            task_index: HashMap::new(),
            masked: Vec::new(),
            group: (0, 0),
        })
    }

    /// Appends one episode.
    ///
    /// # Errors
    /// If the episode does not fit the schema, has no rows, or has an image that cannot be used: then nothing of it was
    /// written and the next may follow. After any other error the writer must be dropped.
    pub fn append(&mut self, frames: &Frames) -> Result<EpisodeSummary, WriteError> {
        let (summary, histograms) = summary::summarise(&self.table, frames)?;
        self.write(frames, summary, histograms)
    }

    /// Appends the pieces of one episode that was cut: all of them or none.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_pieces(&mut self, pieces: &[Frames]) -> Result<(), WriteError> {
        let summaries: Vec<_> =
            pieces.iter().map(|frames| summary::summarise(&self.table, frames)).collect::<Result<_, _>>()?;
        for (frames, (summary, histograms)) in pieces.iter().zip(summaries) {
            self.write(frames, summary, histograms)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        frames: &Frames,
        summary: EpisodeSummary,
        histograms: Vec<Option<ImageHistogram>>,
    ) -> Result<EpisodeSummary, WriteError> {
        let task_index: Vec<i64> = self.learn_tasks(frames, &summary);
        let first_index = self.summary.rows;
        let place = Place {
            episode_index: self.summary.episodes.len() as i64,
            first_index: first_index as i64,
            task_index: &task_index,
            fps: self.fps,
        };
        self.write_rows(frames, &place)?;
        for (row, _) in frames.masked.iter().enumerate().filter(|(_, masked)| **masked) {
            let row = first_index + row as u64;
            match self.masked.last_mut() {
                Some((first, rows)) if *first + *rows == row => *rows += 1,
                _ => self.masked.push((row, 1)),
            }
        }
        for (all, histogram) in self.summary.images.iter_mut().zip(histograms) {
            if let Some(histogram) = histogram {
                all.get_or_insert_default().merge(&histogram);
            }
        }
        self.summary.rows += summary.length;
        self.summary.episodes.push(summary.clone());
        Ok(summary)
    }

    /// Ends the file and hands back the sink, flushed, with what pass 2 needs to know.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn finish(mut self) -> Result<(W, ShardSummary), WriteError> {
        if !self.masked.is_empty() {
            let runs = serde_json::to_string(&self.masked).map_err(std::io::Error::from)?;
            self.writer.append_key_value_metadata(KeyValue::new(MASKED_KEY.to_owned(), runs));
        }
        let mut sink = self.writer.into_inner()?;
        sink.flush()?;
        Ok((sink, self.summary))
    }

    /// The shard's index of each of the episode's tasks.
    fn learn_tasks(&mut self, frames: &Frames, summary: &EpisodeSummary) -> Vec<i64> {
        for task in &summary.tasks {
            let next = self.summary.tasks.len() as i64;
            self.task_index.entry(task.clone()).or_insert_with(|| {
                self.summary.tasks.push(task.clone());
                next
            });
        }
        // A task that no row refers to gets an index nobody reads.
        frames.tasks.iter().map(|task| self.task_index.get(task).copied().unwrap_or(0)).collect()
    }

    /// Row groups end between episodes where they can: only an episode larger than a row group is cut.
    fn write_rows(&mut self, frames: &Frames, place: &Place<'_>) -> Result<(), WriteError> {
        let sizes: Vec<usize> = (0..frames.rows()).map(|row| row_bytes(frames, row)).collect();
        let total = sizes.iter().fold(0_usize, |sum, &bytes| sum.saturating_add(bytes));
        let fits = |(rows, bytes): (usize, usize), more_rows: usize, more_bytes: usize| {
            rows + more_rows <= ROW_GROUP_ROWS && bytes.saturating_add(more_bytes) <= ROW_GROUP_BYTES
        };
        if !fits(self.group, sizes.len(), total) {
            self.end_group()?;
        }
        let mut start = 0;
        for (row, &bytes) in sizes.iter().enumerate() {
            if self.group.0 > 0 && !fits(self.group, 1, bytes) {
                self.write_range(frames, start..row, place)?;
                self.end_group()?;
                start = row;
            }
            self.group = (self.group.0 + 1, self.group.1.saturating_add(bytes));
        }
        self.write_range(frames, start..sizes.len(), place)
    }

    fn write_range(
        &mut self,
        frames: &Frames,
        rows: Range<usize>,
        place: &Place<'_>,
    ) -> Result<(), WriteError> {
        if !rows.is_empty() {
            self.writer.write(&self.table.batch(frames, rows, place)?)?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), WriteError> {
        self.writer.flush()?;
        self.group = (0, 0);
        Ok(())
    }
}

/// Payload of row `row`, values that are stored once counted each time they are shown.
fn row_bytes(frames: &Frames, row: usize) -> usize {
    let rows = frames.rows().max(1);
    let column = |column: &FrameColumn| match column {
        FrameColumn::Float32(values) => values.len() / rows * 4,
        FrameColumn::Int64(values) => values.len() / rows * 8,
        FrameColumn::Bool(values) => values.len() / rows,
        FrameColumn::Indexed { values, index } => values.get(index[row] as usize).len() + 4,
    };
    frames.columns.iter().map(column).sum()
}
