//! LeRobot v3.0: the `meta/` files of a dataset.
//!
//! Laid out as lerobot 0.4.4 writes and reads them (`datasets/lerobot_dataset.py`, `datasets/utils.py`):
//!
//! * `meta/info.json`: totals, splits, path patterns and the features, every data column among them; without it there
//!   is no dataset.
//! * `meta/episodes/chunk-000/file-000.parquet`: one row per episode with its place in the data and its statistics.
//! * `meta/tasks.parquet`: a pandas table whose index is the task string and whose row `i` is task `i`.
//! * `meta/stats.json`: statistics of all rows, which policies normalise with.
//!
//! Where this differs on purpose: quantiles of the dataset come from all rows, not from the mean of the episodes'
//! quantiles; image statistics are exact for the frames looked at (0.4.4 overflows their squares).

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::dataset::{self, Dataset, FILES_PER_CHUNK, Placed};
use super::describe::{self, Kind};
use super::histogram::Histograms;
use super::json::{self, Object};
use super::stats::{ColumnStats, ComponentStats, Counted};
use super::table::{self, Leaf};
use super::{Format, WriteError};
use crate::{ColumnSpec, Dtype};

/// The version of the layout.
pub const CODEBASE_VERSION: &str = "v3.0";

/// Published last; its presence makes the folder a dataset.
pub const INFO_PATH: &str = "meta/info.json";

/// One row per episode.
pub const EPISODES_PATH: &str = "meta/episodes/chunk-000/file-000.parquet";

/// One row per task.
pub const TASKS_PATH: &str = "meta/tasks.parquet";

/// Statistics of the whole dataset.
pub const STATS_PATH: &str = "meta/stats.json";

/// Episodes per row group of the episode table.
const EPISODES_PER_GROUP: usize = 1000;

/// The columns that every LeRobot dataset has, with their types: `DEFAULT_FEATURES` in `datasets/utils.py`.
const OWN: [(&str, &str, Leaf); 5] = [
    ("timestamp", "float32", Leaf::Timestamp),
    ("frame_index", "int64", Leaf::FrameIndex),
    ("episode_index", "int64", Leaf::EpisodeIndex),
    ("index", "int64", Leaf::Index),
    ("task_index", "int64", Leaf::TaskIndex),
];

/// `meta/info.json`.
///
/// # Errors
/// If the rate is not a whole number.
pub fn info(dataset: &Dataset<'_>) -> Result<Vec<u8>, WriteError> {
    let fps = dataset.rate.integer().ok_or_else(|| {
        WriteError::Dataset(format!(
            "LeRobot needs a whole number of frames per second, not {}",
            dataset.rate
        ))
    })?;
    let features = dataset.schema.columns.iter().map(|spec| (spec.name.as_str(), feature(spec)));
    let own = OWN.iter().map(|&(name, dtype, _)| (name, described(dtype, json!([1]), Value::Null)));
    let features: Vec<_> = features.chain(own).collect();
    let pattern = "chunk-{chunk_index:03d}/file-{file_index:03d}";
    json::joined(
        vec![
            ("codebase_version", json!(CODEBASE_VERSION)),
            ("robot_type", json!(dataset.robot_type)),
            ("total_episodes", json!(dataset.episodes)),
            ("total_frames", json!(dataset.rows)),
            ("total_tasks", json!(dataset.tasks.len())),
            ("chunks_size", json!(FILES_PER_CHUNK)),
            // Hints for lerobot's own recorder, should it append to the dataset.
            ("data_files_size_in_mb", json!(100)),
            ("video_files_size_in_mb", json!(200)),
            ("fps", json!(fps)),
            ("splits", splits(dataset)),
            ("data_path", json!(format!("data/{pattern}.parquet"))),
            ("video_path", Value::Null),
        ],
        "features",
        features,
    )
}

/// `{"train": "0:90", "test": "90:100"}`.
pub(super) fn splits(dataset: &Dataset<'_>) -> Value {
    let range = |&(name, first, end): &(&str, u64, u64)| (name.to_owned(), json!(format!("{first}:{end}")));
    Value::Object(dataset.splits.iter().map(range).collect())
}

/// How a column is declared.
pub(super) fn feature(spec: &ColumnSpec) -> Object<&'static str, Value> {
    let shape = if table::is_scalar(spec) { json!([1]) } else { json!(spec.shape) };
    let names = match (&spec.names, spec.dtype) {
        // lerobot tells channels last from channels first by the third name.
        (_, Dtype::Image) => json!(["height", "width", "channels"]),
        (names, _) => json!(names),
    };
    described(table::dtype_name(spec.dtype), shape, names)
}

fn described(dtype: &str, shape: Value, names: Value) -> Object<&'static str, Value> {
    Object(vec![("dtype", json!(dtype)), ("shape", shape), ("names", names)])
}

/// `meta/stats.json`.
///
/// # Errors
/// If `histograms` are not those of all data files.
pub fn stats(dataset: &Dataset<'_>, histograms: &Histograms) -> Result<Vec<u8>, WriteError> {
    let mut entries = feature_stats(dataset, histograms)?;
    for (name, _, leaf) in OWN {
        let component = dataset.index_stats(leaf);
        entries.push((name, describe::object(own_kind(leaf), dataset.rows, &[component])));
    }
    Ok(json::document(&Object(entries))?)
}

/// An entry of `stats.json` per column that has statistics.
#[expect(clippy::type_complexity, reason = "an ordered JSON object of ordered JSON objects")]
pub(super) fn feature_stats<'a>(
    dataset: &Dataset<'a>,
    histograms: &Histograms,
) -> Result<Vec<(&'a str, Object<&'static str, Value>)>, WriteError> {
    let columns = dataset.column_stats(histograms)?;
    let entry = |(spec, stats): (&'a ColumnSpec, Option<ColumnStats>)| {
        let (stats, kind) = (stats?, Kind::of(spec.dtype)?);
        Some((spec.name.as_str(), describe::object(kind, stats.rows, &stats.components)))
    };
    Ok(dataset.schema.columns.iter().zip(columns).filter_map(entry).collect())
}

fn own_kind(leaf: Leaf) -> Kind {
    if leaf == Leaf::Timestamp { Kind::Float } else { Kind::Int }
}

/// `meta/tasks.parquet`: `task_index` and, as the pandas index, `task`.
///
/// # Errors
/// If Parquet refuses, which it has no reason to.
pub fn tasks_table(dataset: &Dataset<'_>) -> Result<Vec<u8>, WriteError> {
    let indices: ArrayRef = Arc::new((0..dataset.tasks.len() as i64).collect::<Int64Array>());
    let tasks: ArrayRef = Arc::new(StringArray::from_iter_values(&dataset.tasks));
    let batch =
        RecordBatch::try_from_iter_with_nullable([("task_index", indices, true), ("task", tasks, true)])?;
    // Without this key pandas reads both as ordinary columns, and lerobot takes the row number for the task.
    let column = |name: &str, pandas_type: &str, numpy_type: &str| json!({"name": name, "field_name": name, "pandas_type": pandas_type, "numpy_type": numpy_type, "metadata": null});
    let pandas = json!({
        "index_columns": ["task"],
        "column_indexes": [{
            "name": null, "field_name": null, "pandas_type": "unicode", "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "creator": {"library": "robocache", "version": "1"},
        "pandas_version": "2.3.3",
    });
    let metadata = arrow_schema::Metadata::from_iter([("pandas".to_owned(), pandas.to_string())]);
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(metadata));
    let properties = table::properties().set_key_value_metadata(Some(table::key_values(&schema))).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// `meta/episodes/chunk-000/file-000.parquet`.
///
/// # Errors
/// If a summary does not fit the schema.
pub fn episodes_table(dataset: &Dataset<'_>) -> Result<Vec<u8>, WriteError> {
    let episodes: Vec<Placed<'_>> = dataset.placed().collect();
    let schema = episodes_batch(dataset, &[])?.schema();
    let properties = table::properties().set_dictionary_enabled(true).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    for episodes in episodes.chunks(EPISODES_PER_GROUP) {
        writer.write(&episodes_batch(dataset, episodes)?)?;
        writer.flush()?;
    }
    Ok(writer.into_inner()?)
}

fn episodes_batch(dataset: &Dataset<'_>, episodes: &[Placed<'_>]) -> Result<RecordBatch, WriteError> {
    let ints = |value: &dyn Fn(&Placed<'_>) -> u64| -> ArrayRef {
        Arc::new(episodes.iter().map(|placed| value(placed) as i64).collect::<Int64Array>())
    };
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("episode_index".to_owned(), ints(&|p| p.episode_index)),
        ("tasks".to_owned(), task_lists(episodes)),
        ("length".to_owned(), ints(&|p| p.summary.length)),
        ("data/chunk_index".to_owned(), ints(&|p| p.file / FILES_PER_CHUNK)),
        ("data/file_index".to_owned(), ints(&|p| p.file % FILES_PER_CHUNK)),
        ("dataset_from_index".to_owned(), ints(&|p| p.first_index)),
        ("dataset_to_index".to_owned(), ints(&|p| p.first_index + p.summary.length)),
    ];
    for (at, spec) in dataset.schema.columns.iter().enumerate() {
        let Some(kind) = Kind::of(spec.dtype) else { continue };
        let stats = |placed: &Placed<'_>| {
            let stats = placed.summary.stats.get(at).and_then(Option::as_ref);
            stats.map_or((0, Vec::new()), |stats| (stats.rows, stats.components.clone()))
        };
        let all: Vec<_> = episodes.iter().map(stats).collect();
        let components = if kind == Kind::Image { 3 } else { table::components(spec) };
        add_stats(&mut columns, &spec.name, kind, components, &all)?;
    }
    let task_index = dataset.task_index();
    for (name, _, leaf) in OWN {
        let all: Vec<_> = episodes
            .iter()
            .map(|placed| (placed.summary.length, vec![own_stats(dataset, placed, leaf, &task_index)]))
            .collect();
        add_stats(&mut columns, name, own_kind(leaf), 1, &all)?;
    }
    columns.extend(origins(episodes));
    columns.push(("meta/episodes/chunk_index".to_owned(), ints(&|_| 0)));
    columns.push(("meta/episodes/file_index".to_owned(), ints(&|_| 0)));
    let nullable = columns.into_iter().map(|(name, array)| (name, array, true));
    Ok(RecordBatch::try_from_iter_with_nullable(nullable)?)
}

/// Where each episode came from and the Unix time of its first row (of the recording's own zero, where it has no wall
/// clock). LeRobot has no such columns and passes them by; without them a row's absolute time would be lost.
fn origins(episodes: &[Placed<'_>]) -> [(String, ArrayRef); 3] {
    let file = StringArray::from_iter_values(episodes.iter().map(|p| &p.summary.origin.file));
    let ints = |value: &dyn Fn(&Placed<'_>) -> i64| -> ArrayRef {
        Arc::new(episodes.iter().map(value).collect::<Int64Array>())
    };
    [
        ("origin/file".to_owned(), Arc::new(file)),
        ("origin/episode".to_owned(), ints(&|p| p.summary.origin.episode as i64)),
        ("origin/start_ns".to_owned(), ints(&|p| p.summary.epoch_ns.saturating_add(p.summary.first_ns))),
    ]
}

fn add_stats(
    columns: &mut Vec<(String, ArrayRef)>,
    feature: &str,
    kind: Kind,
    components: usize,
    episodes: &[(u64, Vec<ComponentStats>)],
) -> Result<(), WriteError> {
    for name in describe::NAMES {
        let array = describe::array(kind, name, components, episodes)?;
        columns.push((format!("stats/{feature}/{name}"), array));
    }
    Ok(())
}

/// Statistics over one episode of a column that the format adds.
fn own_stats(
    dataset: &Dataset<'_>,
    placed: &Placed<'_>,
    leaf: Leaf,
    task_index: &std::collections::HashMap<&str, i64>,
) -> ComponentStats {
    let length = placed.summary.length;
    let constant = |value: u64| Counted::new(std::iter::once((value as f64, length))).stats();
    match leaf {
        Leaf::Timestamp => dataset::running(0, length, dataset.rate.hz(Format::Parquet).unwrap_or(1.0)),
        Leaf::FrameIndex => dataset::running(0, length, 1.0),
        Leaf::EpisodeIndex => constant(placed.episode_index),
        Leaf::TaskIndex => {
            let tasks = placed.summary.tasks.iter().zip(&placed.summary.task_rows);
            let mut rows: Vec<(i64, u64)> = tasks
                .map(|(task, &rows)| (task_index.get(task.as_str()).copied().unwrap_or(0), rows))
                .collect();
            rows.sort_unstable();
            Counted::new(rows.into_iter().map(|(index, rows)| (index as f64, rows))).stats()
        }
        _ => dataset::running(placed.first_index, length, 1.0),
    }
}

/// The tasks of each episode, `list<element: string>`.
pub(super) fn task_lists(episodes: &[Placed<'_>]) -> ArrayRef {
    let element = Field::new("element", DataType::Utf8, true);
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(element);
    for placed in episodes {
        lists.append_value(placed.summary.tasks.iter().map(Some));
    }
    Arc::new(lists.finish())
}
