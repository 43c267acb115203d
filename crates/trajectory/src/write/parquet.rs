//! Plain Parquet: the `meta/` files of a dataset for pandas, polars and DuckDB.
//!
//! Data files have the columns `episode_index`, `frame_index`, `timestamp_ns` (from the episode's first row, exact),
//! `task` and then the features. Beside them:
//!
//! * `meta/info.json`: format and version, the rate as an exact fraction, features, totals, splits and files.
//! * `meta/episodes.parquet`: one row per episode: its rows, tasks and split, where it was recorded and when.
//! * `meta/stats.json`: statistics per feature, as in the LeRobot layout.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::dataset::{Dataset, Placed, data_path};
use super::histogram::Histograms;
use super::json::{self, Object};
use super::{WriteError, lerobot, table};

/// The version of the layout.
pub const VERSION: u32 = 1;

/// Published last; its presence makes the folder a dataset.
pub const INFO_PATH: &str = "meta/info.json";

/// One row per episode.
pub const EPISODES_PATH: &str = "meta/episodes.parquet";

/// Statistics of the whole dataset.
pub const STATS_PATH: &str = "meta/stats.json";

/// `meta/info.json`.
///
/// # Errors
/// If JSON refuses, which it has no reason to.
pub fn info(dataset: &Dataset<'_>) -> Result<Vec<u8>, WriteError> {
    let mut files: Vec<Value> = Vec::new();
    for (number, episodes, rows) in dataset.files() {
        files.push(json!({"path": data_path(number), "episodes": episodes, "rows": rows}));
    }
    let features = dataset.schema.columns.iter().map(|spec| (spec.name.as_str(), lerobot::feature(spec)));
    json::joined(
        vec![
            ("format", json!("robocache-parquet")),
            ("version", json!(VERSION)),
            ("rate_hz", json!(dataset.rate.to_string())),
            ("robot_type", json!(dataset.robot_type)),
            ("total_episodes", json!(dataset.episodes)),
            ("total_rows", json!(dataset.rows)),
            ("total_tasks", json!(dataset.tasks.len())),
            ("splits", lerobot::splits(dataset)),
            ("files", Value::Array(files)),
        ],
        "features",
        features.collect(),
    )
}

/// `meta/stats.json`.
///
/// # Errors
/// If `histograms` are not those of all data files.
pub fn stats(dataset: &Dataset<'_>, histograms: &Histograms) -> Result<Vec<u8>, WriteError> {
    Ok(json::document(&Object(lerobot::feature_stats(dataset, histograms)?))?)
}

/// `meta/episodes.parquet`.
///
/// # Errors
/// If Parquet refuses, which it has no reason to.
pub fn episodes_table(dataset: &Dataset<'_>) -> Result<Vec<u8>, WriteError> {
    let episodes: Vec<Placed<'_>> = dataset.placed().collect();
    let ints = |value: &dyn Fn(&Placed<'_>) -> i64| -> ArrayRef {
        Arc::new(episodes.iter().map(value).collect::<Int64Array>())
    };
    let split: StringArray =
        episodes.iter().map(|p| Some(p.summary.split.as_deref().unwrap_or("train"))).collect();
    let file = StringArray::from_iter_values(episodes.iter().map(|p| data_path(p.file)));
    let origin = StringArray::from_iter_values(episodes.iter().map(|p| &p.summary.origin.file));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("episode_index", ints(&|p| p.episode_index as i64), true),
        ("tasks", lerobot::task_lists(&episodes), true),
        ("length", ints(&|p| p.summary.length as i64), true),
        ("masked_rows", ints(&|p| p.summary.masked_rows as i64), true),
        ("split", Arc::new(split) as ArrayRef, true),
        ("file", Arc::new(file), true),
        ("first_row", ints(&|p| p.first_index as i64), true),
        ("origin_file", Arc::new(origin), true),
        ("origin_episode", ints(&|p| p.summary.origin.episode as i64), true),
        ("epoch_ns", ints(&|p| p.summary.epoch_ns), true),
        ("first_ns", ints(&|p| p.summary.first_ns), true),
        ("last_ns", ints(&|p| p.summary.last_ns), true),
    ])?;
    let properties = table::properties().set_dictionary_enabled(true).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}
