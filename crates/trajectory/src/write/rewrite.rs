//! Pass 2: a staged file at its published place, with global indices.
//!
//! Column chunks are copied as encoded bytes, as parquet's own `parquet-concat` does; `episode_index`, `index` and
//! `task_index` are decoded, shifted and encoded again. Float and integer columns are decoded as well, to be counted.

use std::io::Write;
use std::sync::Arc;

use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{DataType, Int64Type};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{ChunkReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedRowGroupReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

use super::histogram::Extent;
use super::shard::MASKED_KEY;
use super::table::{self, Leaf, Table};
use super::{ColumnRanges, Format, Histogram, Histograms, ShardOffsets, WriteError};
use crate::Schema;

/// Records decoded at a time.
const BATCH: usize = 8192;

/// Copies the staged file of a shard to `sink` with the indices that `offsets` give, and counts its values.
///
/// # Errors
/// If the staged file was not written by a [`ShardWriter`](super::ShardWriter) with this format and schema, or is
/// damaged where it is decoded; if it cannot be read or the sink fails.
pub fn rewrite<R: ChunkReader + 'static, W: Write + Send>(
    format: Format,
    staged: R,
    schema: &Schema,
    offsets: &ShardOffsets,
    ranges: &ColumnRanges,
    sink: W,
) -> Result<Histograms, WriteError> {
    let table = Table::new(format, schema)?;
    if ranges.columns.len() != table.columns.len() {
        return Err(WriteError::Staged("the ranges are of another schema".to_owned()));
    }
    let staged = Arc::new(staged);
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(staged.as_ref())?;
    let expected = ArrowSchemaConverter::new().convert(&table.arrow)?;
    if metadata.file_metadata().schema() != expected.root_schema() {
        return Err(WriteError::Staged("the staged file has other columns".to_owned()));
    }
    let mut properties = table.properties().build();
    add_encoded_arrow_schema_to_metadata(&table.arrow, &mut properties);
    let mut writer = SerializedFileWriter::new(sink, expected.root_schema_ptr(), Arc::new(properties))?;
    let mut pass = Pass {
        table: &table,
        offsets,
        ranges,
        masked: masked_rows(&metadata)?,
        first_row: 0,
        histograms: Histograms::new(ranges),
    };
    for group in 0..metadata.num_row_groups() {
        let mut out = writer.next_row_group()?;
        pass.row_group(&staged, &metadata, group, &mut out)?;
        out.close()?;
    }
    writer.into_inner()?.flush()?;
    Ok(pass.histograms)
}

/// Which rows of the staged file are masked.
fn masked_rows(metadata: &ParquetMetaData) -> Result<Vec<bool>, WriteError> {
    let groups = metadata.row_groups().iter();
    let rows = groups.map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum::<usize>();
    let mut masked = vec![false; rows];
    let values = metadata.file_metadata().key_value_metadata();
    let runs = values.and_then(|all| all.iter().find(|entry| entry.key == MASKED_KEY)?.value.as_deref());
    let runs: Vec<(usize, usize)> = serde_json::from_str(runs.unwrap_or("[]"))
        .map_err(|_| WriteError::Staged("the list of masked rows cannot be read".to_owned()))?;
    for (first, count) in runs {
        let run = first.checked_add(count).and_then(|end| masked.get_mut(first..end));
        run.ok_or_else(|| WriteError::Staged("a masked row is past the end".to_owned()))?.fill(true);
    }
    Ok(masked)
}

/// What is carried from row group to row group.
struct Pass<'a> {
    table: &'a Table,
    offsets: &'a ShardOffsets,
    ranges: &'a ColumnRanges,
    masked: Vec<bool>,
    first_row: usize,
    histograms: Histograms,
}

impl Pass<'_> {
    fn row_group<R: ChunkReader + 'static, W: Write + Send>(
        &mut self,
        staged: &Arc<R>,
        metadata: &ParquetMetaData,
        group: usize,
        out: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), WriteError> {
        let row_group = metadata.row_group(group);
        let input = &SerializedRowGroupReader::new(
            Arc::clone(staged),
            row_group,
            metadata.page_index_for_row_group(group),
            Arc::new(ReaderProperties::builder().build()),
        )?;
        let rows = usize::try_from(row_group.num_rows()).unwrap_or(0);
        for (at, &leaf) in self.table.leaves.iter().enumerate() {
            let (episode, index) = (self.offsets.first_episode, self.offsets.first_index);
            match leaf {
                Leaf::EpisodeIndex => {
                    let values = local_indices(input, at, rows)?;
                    write_indices(out, values.into_iter().map(|v| v.checked_add(episode)).collect())?;
                }
                Leaf::Index => {
                    let values = local_indices(input, at, rows)?;
                    write_indices(out, values.into_iter().map(|v| v.checked_add(index)).collect())?;
                }
                Leaf::TaskIndex => {
                    let values = local_indices(input, at, rows)?;
                    let global = |v: i64| self.offsets.task_index.get(usize::try_from(v).ok()?).copied();
                    write_indices(out, values.into_iter().map(global).collect())?;
                }
                Leaf::Feature(column) => {
                    self.count(input, at, column, rows)?;
                    copy_column(staged.as_ref(), metadata, (group, at), out)?;
                }
                _ => copy_column(staged.as_ref(), metadata, (group, at), out)?,
            }
        }
        self.first_row += rows;
        Ok(())
    }

    /// Counts the values of a float or integer column into its histograms.
    fn count(
        &mut self,
        input: &dyn RowGroupReader,
        leaf: usize,
        column: usize,
        rows: usize,
    ) -> Result<(), WriteError> {
        let Some(extents) = &self.ranges.columns[column] else { return Ok(()) };
        let Some(histograms) = self.histograms.column_mut(column) else { return Ok(()) };
        let spec = &self.table.columns[column];
        let masked = &self.masked[self.first_row..self.first_row + rows];
        let width = spec.width();
        let mut counter = Counter { masked, width, components: table::components(spec), extents, histograms };
        match input.get_column_reader(leaf)? {
            ColumnReader::FloatColumnReader(values) => {
                each_value(values, rows, width, |at, value: f32| counter.add(at, f64::from(value)))
            }
            ColumnReader::Int64ColumnReader(values) => {
                each_value(values, rows, width, |at, value: i64| counter.add(at, value as f64))
            }
            _ => Err(WriteError::Staged(format!("column {} is of another type", spec.name))),
        }
    }
}

/// The histograms of one column.
struct Counter<'a> {
    masked: &'a [bool],
    width: usize,
    components: usize,
    extents: &'a [Extent],
    histograms: &'a mut [Histogram],
}

impl Counter<'_> {
    fn add(&mut self, at: usize, value: f64) {
        let component = at % self.width % self.components;
        if value.is_finite() && !self.masked[at / self.width] {
            self.histograms[component].add(&self.extents[component], value);
        }
    }
}

/// Calls `each` with the place and value of all `rows * width` values of a column chunk.
fn each_value<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    width: usize,
    mut each: impl FnMut(usize, T::T),
) -> Result<(), WriteError> {
    let expected = rows.saturating_mul(width);
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    loop {
        values.clear();
        definitions.clear();
        repetitions.clear();
        let (records, _, _) =
            reader.read_records(BATCH, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        if at + values.len() > expected || (records == 0 && at < expected) {
            return Err(WriteError::Staged("a column has nulls or another number of values".to_owned()));
        }
        if records == 0 {
            return Ok(());
        }
        for value in values.drain(..) {
            each(at, value);
            at += 1;
        }
    }
}

fn local_indices(input: &dyn RowGroupReader, leaf: usize, rows: usize) -> Result<Vec<i64>, WriteError> {
    let ColumnReader::Int64ColumnReader(reader) = input.get_column_reader(leaf)? else {
        return Err(WriteError::Staged("an index column is not of integers".to_owned()));
    };
    let mut out = Vec::new();
    each_value(reader, rows, 1, |_, value: i64| out.push(value))?;
    Ok(out)
}

fn write_indices<W: Write + Send>(
    out: &mut SerializedRowGroupWriter<'_, W>,
    values: Option<Vec<i64>>,
) -> Result<(), WriteError> {
    let values = values.ok_or_else(|| WriteError::Staged("an index is out of its range".to_owned()))?;
    let missing = || WriteError::Staged("a row group has too few columns".to_owned());
    let mut column = out.next_column()?.ok_or_else(missing)?;
    // The columns are declared nullable, and every value is there: definition level 1 throughout.
    column.typed::<Int64Type>().write_batch(&values, Some(&vec![1; values.len()]), None)?;
    Ok(column.close()?)
}

fn copy_column<R: ChunkReader, W: Write + Send>(
    staged: &R,
    metadata: &ParquetMetaData,
    (group, leaf): (usize, usize),
    out: &mut SerializedRowGroupWriter<'_, W>,
) -> Result<(), WriteError> {
    let row_group = metadata.row_group(group);
    let column = row_group.column(leaf);
    let index = metadata.page_index();
    let close = ColumnCloseResult {
        bytes_written: column.compressed_size().unsigned_abs(),
        rows_written: row_group.num_rows().unsigned_abs(),
        metadata: column.clone(),
        bloom_filter: None,
        column_index: index.and_then(|index| index.column_index(group, leaf)).cloned(),
        offset_index: index.and_then(|index| index.offset_index(group, leaf)).cloned(),
    };
    Ok(out.append_column(staged, close)?)
}
