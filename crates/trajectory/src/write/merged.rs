//! Shard summaries added up: what every column's episodes come to, in the order of the plan.

use super::stats::Moments;
use super::{ShardSummary, WriteError, table};
use crate::{ColumnSpec, Dtype, Schema};

/// What a column's episodes add up to.
#[derive(Debug, Clone)]
pub(super) struct MergedColumn {
    /// Rows that are not masked.
    pub(super) rows: u64,
    pub(super) components: Vec<Moments>,
}

/// Per column over all episodes; `None` for columns without numbers of their own.
pub(super) fn merged_moments(
    schema: &Schema,
    shards: &[ShardSummary],
) -> Result<Vec<Option<MergedColumn>>, WriteError> {
    let empty = |spec: &ColumnSpec| match spec.dtype {
        Dtype::Float32 | Dtype::Int64 | Dtype::Bool => {
            Some(MergedColumn { rows: 0, components: vec![Moments::default(); table::components(spec)] })
        }
        Dtype::String | Dtype::Bytes | Dtype::Image => None,
    };
    let mut out: Vec<_> = schema.columns.iter().map(empty).collect();
    for shard in shards {
        check(schema, shard)?;
        for episode in &shard.episodes {
            for (all, stats) in out.iter_mut().zip(&episode.stats) {
                let (Some(all), Some(stats)) = (all, stats) else { continue };
                all.rows += stats.rows;
                all.components.iter_mut().zip(&stats.components).for_each(|(all, c)| all.merge(&c.moments));
            }
        }
    }
    Ok(out)
}

/// Whether a summary, which may come from a file, fits the schema and itself.
pub(super) fn check(schema: &Schema, shard: &ShardSummary) -> Result<(), WriteError> {
    let fail = |problem: &str| Err(WriteError::Staged(format!("a shard's summary {problem}")));
    if shard.images.len() != schema.columns.len() {
        return fail("has another number of columns");
    }
    if shard.images.iter().flatten().any(|image| image.channels.iter().any(|counts| counts.len() != 256)) {
        return fail("has an image histogram without 256 bins");
    }
    let mut rows = 0_u64;
    for episode in &shard.episodes {
        rows = rows.saturating_add(episode.length);
        let task_rows = episode.task_rows.iter().fold(0_u64, |sum, &rows| sum.saturating_add(rows));
        if episode.length == 0
            || task_rows != episode.length
            || episode.tasks.len() != episode.task_rows.len()
        {
            return fail("has an episode whose tasks do not cover its rows");
        }
        if episode.tasks.iter().any(|task| !shard.tasks.contains(task)) {
            return fail("has an episode with an unlisted task");
        }
        if episode.stats.len() != schema.columns.len() {
            return fail("has another number of columns");
        }
        for (spec, stats) in schema.columns.iter().zip(&episode.stats) {
            let expected = match spec.dtype {
                Dtype::Float32 | Dtype::Int64 | Dtype::Bool => Some(table::components(spec)),
                Dtype::Image => Some(3),
                Dtype::String | Dtype::Bytes => None,
            };
            let too_many = stats.as_ref().is_some_and(|s| s.rows > episode.length);
            if stats.as_ref().map(|s| s.components.len()) != expected || too_many {
                return fail("has statistics of another shape");
            }
        }
    }
    if rows != shard.rows {
        return fail("does not have the rows of its episodes");
    }
    Ok(())
}
