//! Published data files, read again: what `verify` holds against the manifest, and what a plot draws.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use super::{Format, WriteError};

/// The columns that say where a row belongs, one value per row of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowPlaces {
    /// Which episode, over the whole dataset.
    pub episode_index: Vec<i64>,
    /// Which row of its episode.
    pub frame_index: Vec<i64>,
    /// LeRobot: which row of the whole dataset; empty in plain Parquet.
    pub index: Vec<i64>,
    /// LeRobot: which task; empty in plain Parquet.
    pub task_index: Vec<i64>,
    /// LeRobot: seconds from the episode's first row; empty in plain Parquet.
    pub timestamp: Vec<f32>,
    /// Plain Parquet: nanoseconds from the episode's first row; empty in LeRobot.
    pub timestamp_ns: Vec<i64>,
}

/// Reads the columns that say where each row of a data file belongs.
///
/// # Errors
/// If the file is not a data file of `format`, or cannot be read.
pub fn read_places<R: ChunkReader + 'static>(format: Format, file: R) -> Result<RowPlaces, WriteError> {
    let names: &[&str] = match format {
        Format::LeRobot => &["timestamp", "frame_index", "episode_index", "index", "task_index"],
        Format::Parquet => &["episode_index", "frame_index", "timestamp_ns"],
    };
    let mut out = RowPlaces::default();
    for_each_batch(file, names, |batch| {
        let integers = |name: &str, into: &mut Vec<i64>| -> Result<(), WriteError> {
            if names.contains(&name) {
                let column = column(batch, name)?;
                let values =
                    column.as_primitive_opt::<Int64Type>().ok_or_else(|| not(name, "of 64-bit integers"))?;
                into.extend_from_slice(values.values());
            }
            Ok(())
        };
        integers("episode_index", &mut out.episode_index)?;
        integers("frame_index", &mut out.frame_index)?;
        integers("index", &mut out.index)?;
        integers("task_index", &mut out.task_index)?;
        integers("timestamp_ns", &mut out.timestamp_ns)?;
        if format == Format::LeRobot {
            out.timestamp.extend_from_slice(floats(&column(batch, "timestamp")?, "timestamp")?);
        }
        Ok(())
    })?;
    Ok(out)
}

/// Reads one column of single-precision numbers, row-major.
///
/// # Errors
/// If there is no such column of numbers, or the file cannot be read.
pub fn read_floats<R: ChunkReader + 'static>(file: R, name: &str) -> Result<Vec<f32>, WriteError> {
    let mut out = Vec::new();
    for_each_batch(file, &[name], |batch| {
        let column = column(batch, name)?;
        let values = match column.as_fixed_size_list_opt() {
            Some(list) => list.values().clone(),
            None => column,
        };
        out.extend_from_slice(floats(&values, name)?);
        Ok(())
    })?;
    Ok(out)
}

fn for_each_batch<R: ChunkReader + 'static>(
    file: R,
    names: &[&str],
    mut visit: impl FnMut(&RecordBatch) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let schema = builder.schema();
    let wanted: Vec<usize> = schema
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, f)| names.contains(&f.name().as_str()))
        .map(|(i, _)| i)
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    for batch in builder.with_projection(mask).build()? {
        visit(&batch?)?;
    }
    Ok(())
}

fn column(batch: &RecordBatch, name: &str) -> Result<ArrayRef, WriteError> {
    batch.column_by_name(name).cloned().ok_or_else(|| not(name, "there"))
}

fn floats<'a>(column: &'a ArrayRef, name: &str) -> Result<&'a [f32], WriteError> {
    let values = column.as_primitive_opt::<Float32Type>().filter(|values| values.null_count() == 0);
    values.map(|values| &values.values()[..]).ok_or_else(|| not(name, "of 32-bit floats"))
}

fn not(name: &str, what: &str) -> WriteError {
    WriteError::Staged(format!("column {name} is not {what}"))
}
