//! The dataset as a whole: what all shard summaries add up to.
//!
//! Shards are taken in the order of the plan. Everything here is a sum over them in that order, in `f64` and `u64`, so
//! whoever computes it gets the same bits.

use std::collections::HashMap;

use super::histogram::Histograms;
use super::images::ImageHistogram;
use super::merged::{self, MergedColumn, merged_moments};
use super::stats::{self, ColumnStats, ComponentStats, Counted, Moments};
use super::table::{self, Leaf};
use super::{EpisodeSummary, Format, Rate, ShardSummary, WriteError};
use crate::{Dtype, Schema};

/// Files in one `chunk-XXX` folder, as lerobot's `DEFAULT_CHUNK_SIZE`.
pub(super) const FILES_PER_CHUNK: u64 = 1000;

/// What turns the indices of one staged file into global ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardOffsets {
    /// The number of the shard's data file; `None` for a shard without rows, which has no file.
    pub file: Option<u64>,
    /// `episode_index` of its first episode.
    pub first_episode: i64,
    /// `index` of its first row.
    pub first_index: i64,
    /// `task_index` for each of its tasks.
    pub task_index: Vec<i64>,
}

/// Where data file number `file` is published, in both formats.
#[must_use]
pub fn data_path(file: u64) -> String {
    format!("data/chunk-{:03}/file-{:03}.parquet", file / FILES_PER_CHUNK, file % FILES_PER_CHUNK)
}

/// All shards of an output, added up.
#[derive(Debug, Clone)]
pub struct Dataset<'a> {
    pub(super) format: Format,
    pub(super) schema: &'a Schema,
    pub(super) rate: Rate,
    pub(super) robot_type: Option<&'a str>,
    shards: &'a [ShardSummary],
    offsets: Vec<ShardOffsets>,
    /// Task strings by global index.
    pub(super) tasks: Vec<&'a str>,
    /// Names and episodes `first..end` of the splits, in order.
    pub(super) splits: Vec<(&'a str, u64, u64)>,
    pub(super) episodes: u64,
    pub(super) rows: u64,
}

/// One episode at its place in the dataset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) summary: &'a EpisodeSummary,
    pub(super) episode_index: u64,
    pub(super) first_index: u64,
    pub(super) file: u64,
}

impl<'a> Dataset<'a> {
    /// The dataset of `shards`, which are in the order of the plan and were written with the same format, schema and
    /// rate.
    ///
    /// # Errors
    /// If a summary does not fit the schema or itself, the episodes of a split do not follow each other, the format
    /// cannot hold schema or rate, or there are too many files.
    pub fn new(
        format: Format,
        schema: &'a Schema,
        rate: Rate,
        robot_type: Option<&'a str>,
        shards: &'a [ShardSummary],
    ) -> Result<Self, WriteError> {
        table::Table::new(format, schema)?;
        rate.hz(format)?;
        let mut out = Self {
            format,
            schema,
            rate,
            robot_type,
            shards,
            offsets: Vec::with_capacity(shards.len()),
            tasks: Vec::new(),
            splits: Vec::new(),
            episodes: 0,
            rows: 0,
        };
        let mut task_index: HashMap<&str, i64> = HashMap::new();
        let mut files = 0;
        for shard in shards {
            merged::check(schema, shard)?;
            let local = shard.tasks.iter().map(|task| {
                *task_index.entry(task).or_insert_with(|| {
                    out.tasks.push(task);
                    out.tasks.len() as i64 - 1
                })
            });
            let task_index = local.collect();
            let file = (shard.rows > 0).then_some(files);
            files += u64::from(shard.rows > 0);
            let (first_episode, first_index) = (out.episodes as i64, out.rows as i64);
            out.offsets.push(ShardOffsets { file, first_episode, first_index, task_index });
            for episode in &shard.episodes {
                out.add_to_split(episode.split.as_deref().unwrap_or("train"))?;
            }
            let rows = out.rows.checked_add(shard.rows).filter(|&rows| i64::try_from(rows).is_ok());
            out.rows = rows.ok_or_else(|| WriteError::Dataset("there are more than 2^63 rows".to_owned()))?;
        }
        // Readers sort data files by path, which is the order of their numbers up to chunk 999.
        if files > FILES_PER_CHUNK * FILES_PER_CHUNK {
            return Err(WriteError::Dataset(format!("{files} data files are too many: make larger shards")));
        }
        Ok(out)
    }

    /// What [`rewrite`](super::rewrite()) needs, per shard.
    #[must_use]
    pub fn offsets(&self) -> &[ShardOffsets] {
        &self.offsets
    }

    /// Number of episodes.
    #[must_use]
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Number, episodes and rows of each data file.
    pub(super) fn files(&self) -> impl Iterator<Item = (u64, usize, u64)> {
        let shards = self.shards.iter().zip(&self.offsets);
        shards.filter_map(|(shard, offsets)| Some((offsets.file?, shard.episodes.len(), shard.rows)))
    }

    fn add_to_split(&mut self, name: &'a str) -> Result<(), WriteError> {
        let next = self.episodes;
        self.episodes += 1;
        if let Some((_, _, end)) = self.splits.last_mut().filter(|(last, ..)| *last == name) {
            *end = self.episodes;
        } else if self.splits.iter().any(|&(earlier, ..)| earlier == name) {
            return Err(WriteError::Dataset(format!(
                "the episodes of split {name} do not follow each other: order the plan by split"
            )));
        } else {
            self.splits.push((name, next, self.episodes));
        }
        Ok(())
    }

    /// The episodes in order.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placed<'a>> {
        let mut first_index = 0;
        let shards = self.shards.iter().zip(&self.offsets);
        let episodes = shards.flat_map(|(shard, offsets)| {
            shard.episodes.iter().map(|summary| (summary, offsets.file.unwrap_or(0)))
        });
        episodes.enumerate().map(move |(at, (summary, file))| {
            let placed = Placed { summary, episode_index: at as u64, first_index, file };
            first_index += summary.length;
            placed
        })
    }

    /// The global index of a task, -1 if it is not there (which [`merged::check`] excludes).
    pub(super) fn task_index(&self) -> HashMap<&'a str, i64> {
        self.tasks.iter().enumerate().map(|(index, &task)| (task, index as i64)).collect()
    }

    /// Statistics of each column over all episodes; `None` for text and bytes.
    pub(super) fn column_stats(
        &self,
        histograms: &Histograms,
    ) -> Result<Vec<Option<ColumnStats>>, WriteError> {
        let merged = merged_moments(self.schema, self.shards)?;
        let mut out = Vec::with_capacity(merged.len());
        for (at, (spec, merged)) in self.schema.columns.iter().zip(merged).enumerate() {
            out.push(match (spec.dtype, merged) {
                (Dtype::Image, _) => Some(self.image_histogram(at).stats()),
                (_, None) => None,
                (dtype, Some(MergedColumn { rows, components })) => {
                    let component = |(component, moments): (usize, Moments)| {
                        let quantiles = match dtype {
                            Dtype::Bool => bool_quantiles(&moments),
                            _ => histograms.quantiles((at, component), &moments, dtype == Dtype::Int64)?,
                        };
                        Ok(ComponentStats { moments, quantiles })
                    };
                    let components: Result<_, WriteError> =
                        components.into_iter().enumerate().map(component).collect();
                    Some(ColumnStats { rows, components: components? })
                }
            });
        }
        Ok(out)
    }

    fn image_histogram(&self, column: usize) -> ImageHistogram {
        let mut out = ImageHistogram::default();
        for histogram in self.shards.iter().filter_map(|shard| shard.images.get(column)?.as_ref()) {
            out.merge(histogram);
        }
        out
    }

    /// Statistics of a column that the format adds, over all rows, in closed form.
    pub(super) fn index_stats(&self, leaf: Leaf) -> ComponentStats {
        let hz = self.rate.hz(Format::Parquet).unwrap_or(1.0);
        match leaf {
            Leaf::Timestamp => self.frame_index_stats(hz),
            Leaf::FrameIndex => self.frame_index_stats(1.0),
            Leaf::EpisodeIndex => {
                let pairs = self.placed().map(|p| (p.episode_index as f64, p.summary.length));
                Counted::new(pairs).stats()
            }
            Leaf::TaskIndex => {
                let mut rows = vec![0_u64; self.tasks.len()];
                let index = self.task_index();
                for placed in self.placed() {
                    for (task, count) in placed.summary.tasks.iter().zip(&placed.summary.task_rows) {
                        let at = index.get(task.as_str()).and_then(|&at| usize::try_from(at).ok());
                        if let Some(rows) = at.and_then(|at| rows.get_mut(at)) {
                            *rows += count;
                        }
                    }
                }
                Counted::new(rows.into_iter().enumerate().map(|(at, rows)| (at as f64, rows))).stats()
            }
            _ => running(0, self.rows, 1.0),
        }
    }

    /// Every episode counts 0, 1, … to its end, divided by `hz`.
    fn frame_index_stats(&self, hz: f64) -> ComponentStats {
        let mut moments = Moments::default();
        let mut lengths: Vec<u64> = Vec::new();
        for placed in self.placed() {
            moments.merge(&running(0, placed.summary.length, hz).moments);
            lengths.push(placed.summary.length);
        }
        lengths.sort_unstable();
        let sums: Vec<u64> = lengths
            .iter()
            .scan(0_u64, |sum, &length| {
                *sum += length;
                Some(*sum)
            })
            .collect();
        // How many rows have a frame index below `bound`: all of the shorter episodes, `bound` of the others.
        let below = |bound: u64| {
            let shorter = lengths.partition_point(|&length| length < bound);
            let rest = (lengths.len() - shorter) as u64;
            shorter.checked_sub(1).map_or(0, |last| sums[last]) + rest * bound
        };
        let order = |rank: u64| {
            let (mut low, mut high) = (0, lengths.last().copied().unwrap_or(0));
            while low < high {
                let middle = low + (high - low) / 2;
                if below(middle + 1) > rank { high = middle } else { low = middle + 1 }
            }
            low as f64 / hz
        };
        ComponentStats { moments, quantiles: stats::quantiles(moments.valid, order) }
    }
}

/// Statistics of `first`, `first + 1`, … (`count` values), each divided by `hz`.
pub(super) fn running(first: u64, count: u64, hz: f64) -> ComponentStats {
    let at = |rank: u64| (first + rank) as f64 / hz;
    let n = count as f64;
    let moments = match count {
        0 => Moments::default(),
        _ => Moments {
            valid: count,
            min: at(0),
            max: at(count - 1),
            mean: (first as f64 + (n - 1.0) / 2.0) / hz,
            m2: n * (n * n - 1.0) / 12.0 / (hz * hz),
        },
    };
    ComponentStats { moments, quantiles: stats::quantiles(count, at) }
}

/// Of truth values the mean tells how many were true.
fn bool_quantiles(moments: &Moments) -> [f64; 5] {
    let trues = (moments.mean * moments.valid as f64).round() as u64;
    let falses = moments.valid.saturating_sub(trues);
    Counted::new([(0.0, falses), (1.0, trues)].into_iter()).stats().quantiles
}
