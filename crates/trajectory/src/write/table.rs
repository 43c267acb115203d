//! Tables: the Arrow schema of a data file, how its columns are encoded, and frames as record batches.
//!
//! Column types are those of the files lerobot 0.4.4 writes through Hugging Face `datasets` 4 (measured on its own
//! output; `datasets/features/features.py` for the names): `[]` and `[1]` are plain scalars, `[n]` is a
//! `fixed_size_list<element>[n]`, higher ranks are nested lists that carry `datasets`' array extension, images are
//! `struct<bytes, path>` with the encoded file inside and no path. All fields are nullable, and none is ever null.
//!
//! Encodings: Snappy, byte stream split for floats (resampled values hardly repeat), delta for running indices. Images and
//! strings have a dictionary as large as a row group may be, so that a frame held over several rows is stored once;
//! images are not compressed a second time. `created_by` is fixed: a file tells nothing of the machine it came from.
//!
//! Invariant: the layout follows from format and schema alone, so every shard of an output has the same.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeListArray, Float32Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow_schema::{DataType, Field, Fields, SchemaRef};
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::json::Object;
use super::{Format, WriteError};
use crate::{Blobs, ColumnSpec, Dtype, FrameColumn, Frames, Schema};

/// Most rows of a row group.
pub(super) const ROW_GROUP_ROWS: usize = 1 << 18;

/// Most payload of a row group, repeated images counted each time: readers expand them, and pyarrow cannot read an
/// image column whose row group expands to more than 2 GiB.
pub(super) const ROW_GROUP_BYTES: usize = 128 << 20;

/// Bound of the dictionary of an image or string column; a row group's payload always fits.
const DICTIONARY_BYTES: usize = 256 << 20;

/// The longest value that fits in an Arrow array with 32-bit offsets and a Parquet page.
pub(super) const VALUE_BYTES: usize = 1 << 30;

/// The highest rank for which `datasets` has an array type (`Array5D`).
const MAX_RANK: usize = 5;

/// Where `datasets` keeps the types of the columns.
const HUGGINGFACE_KEY: &str = "huggingface";

/// What the name of the writer is in each file.
const CREATED_BY: &str = "robocache";

/// One leaf column of a data file, in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Values of column `.0` of the schema.
    Feature(usize),
    /// The path of an image: always null.
    Path,
    Timestamp,
    FrameIndex,
    EpisodeIndex,
    Index,
    TaskIndex,
    Task,
}

impl Leaf {
    /// The name of a column that the format itself adds.
    fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::FrameIndex => "frame_index",
            Self::EpisodeIndex => "episode_index",
            Self::Index => "index",
            Self::TaskIndex => "task_index",
            Self::Task => "task",
            Self::Feature(_) | Self::Path => "",
        }
    }
}

/// A checked schema with the layout of its data files.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) format: Format,
    pub(super) columns: Vec<ColumnSpec>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) arrow: SchemaRef,
}

/// Where an episode stands in its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) episode_index: i64,
    /// The value of `index` in its first row.
    pub(super) first_index: i64,
    /// The value of `task_index` for each of the episode's tasks.
    pub(super) task_index: &'a [i64],
    /// Frames per second, for LeRobot's timestamps.
    pub(super) fps: f64,
}

/// Components of a row: its last dimension (see `stats`).
pub(super) fn components(spec: &ColumnSpec) -> usize {
    spec.shape.last().copied().unwrap_or(1)
}

/// Whether a row is one plain value.
pub(super) fn is_scalar(spec: &ColumnSpec) -> bool {
    matches!(spec.shape.as_slice(), [] | [1])
}

impl Table {
    /// # Errors
    /// If `format` cannot hold a column of `schema`, naming it.
    pub(super) fn new(format: Format, schema: &Schema) -> Result<Self, WriteError> {
        let before: &[Leaf] = match format {
            Format::LeRobot => &[],
            Format::Parquet => &[Leaf::EpisodeIndex, Leaf::FrameIndex, Leaf::Timestamp, Leaf::Task],
        };
        let after: &[Leaf] = match format {
            Format::LeRobot => {
                &[Leaf::Timestamp, Leaf::FrameIndex, Leaf::EpisodeIndex, Leaf::Index, Leaf::TaskIndex]
            }
            Format::Parquet => &[],
        };
        for (at, spec) in schema.columns.iter().enumerate() {
            check_column(format, spec)?;
            if schema.columns[..at].iter().any(|other| other.name == spec.name) {
                return Err(WriteError::schema(&spec.name, "is there twice"));
            }
        }
        let features = schema.columns.iter().enumerate().flat_map(|(column, spec)| {
            let path = (spec.dtype == Dtype::Image).then_some(Leaf::Path);
            std::iter::once(Leaf::Feature(column)).chain(path)
        });
        let leaves: Vec<Leaf> = before.iter().copied().chain(features).chain(after.iter().copied()).collect();
        let fields: Vec<Field> = leaves
            .iter()
            .filter_map(|&leaf| match leaf {
                Leaf::Feature(column) => Some(field(format, &schema.columns[column])),
                Leaf::Path => None,
                Leaf::Timestamp if format == Format::LeRobot => {
                    Some(Field::new(leaf.name(), DataType::Float32, true))
                }
                Leaf::Timestamp => Some(Field::new("timestamp_ns", DataType::Int64, true)),
                Leaf::Task => Some(Field::new(leaf.name(), DataType::Utf8, true)),
                _ => Some(Field::new(leaf.name(), DataType::Int64, true)),
            })
            .collect();
        let columns = schema.columns.clone();
        let features = huggingface(format, &columns, &leaves)?;
        let metadata = arrow_schema::Metadata::from_iter([(HUGGINGFACE_KEY.to_owned(), features)]);
        let arrow = Arc::new(arrow_schema::Schema::new(fields).with_metadata(metadata));
        Ok(Self { format, columns, leaves, arrow })
    }

    /// Writer properties for these columns, with the schema's metadata.
    pub(super) fn properties(&self) -> WriterPropertiesBuilder {
        let mut out = properties();
        for spec in &self.columns {
            out = encode_feature(out, spec);
        }
        for name in ["frame_index", "index", "timestamp_ns"] {
            let path = ColumnPath::from(name);
            out = out.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            out = out.set_column_statistics_enabled(path, EnabledStatistics::Page);
        }
        for name in ["episode_index", "task_index"] {
            let path = ColumnPath::from(name);
            out = out.set_column_dictionary_enabled(path.clone(), true);
            out = out.set_column_statistics_enabled(path, EnabledStatistics::Page);
        }
        for name in ["task", "timestamp"] {
            out = out.set_column_dictionary_enabled(ColumnPath::from(name), true);
        }
        out.set_key_value_metadata(Some(key_values(&self.arrow)))
    }

    /// Rows `rows` of `frames`, which must have been checked against this table.
    pub(super) fn batch(
        &self,
        frames: &Frames,
        rows: Range<usize>,
        place: &Place<'_>,
    ) -> Result<RecordBatch, WriteError> {
        let ints = |value: &dyn Fn(usize) -> i64| -> ArrayRef {
            Arc::new(rows.clone().map(value).collect::<Int64Array>())
        };
        let first_ns = frames.times_ns.first().copied().unwrap_or(0);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.arrow.fields().len());
        for &leaf in &self.leaves {
            arrays.push(match leaf {
                Leaf::Path => continue,
                Leaf::Feature(column) => {
                    feature_array(self.format, &self.columns[column], &frames.columns[column], &rows)?
                }
                Leaf::Timestamp if self.format == Format::LeRobot => Arc::new(
                    rows.clone().map(|row| (row as f64 / place.fps) as f32).collect::<Float32Array>(),
                ),
                Leaf::Timestamp => ints(&|row| frames.times_ns[row].saturating_sub(first_ns)),
                Leaf::FrameIndex => ints(&|row| row as i64),
                Leaf::EpisodeIndex => ints(&|_| place.episode_index),
                Leaf::Index => ints(&|row| place.first_index + row as i64),
                Leaf::TaskIndex => ints(&|row| place.task_index[frames.task_index[row] as usize]),
                Leaf::Task => {
                    let keys = rows.clone().map(|row| frames.task_index[row] as i32).collect();
                    let values = StringArray::from_iter_values(&frames.tasks);
                    Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values))?)
                }
            });
        }
        let named = self.arrow.fields().iter().map(|field| field.name()).zip(arrays);
        Ok(RecordBatch::try_from_iter(named)?)
    }
}

/// The metadata of a schema as entries of a file's footer. Arrow C++ takes it from `ARROW:schema` only, other readers
/// from the footer only: it has to be in both.
pub(super) fn key_values(schema: &arrow_schema::Schema) -> Vec<KeyValue> {
    schema.metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect()
}

/// The `datasets.Features` of a table, as JSON: what `Dataset.to_parquet` stores.
fn huggingface(format: Format, columns: &[ColumnSpec], leaves: &[Leaf]) -> Result<String, WriteError> {
    use serde_json::json;
    let scalar = |dtype: &str| json!({"dtype": dtype, "_type": "Value"});
    let entry = |&leaf: &Leaf| match leaf {
        Leaf::Feature(column) => {
            let spec = &columns[column];
            Some((spec.name.as_str(), feature(format, spec)))
        }
        Leaf::Path => None,
        Leaf::Timestamp if format == Format::LeRobot => Some((leaf.name(), scalar("float32"))),
        Leaf::Timestamp => Some(("timestamp_ns", scalar("int64"))),
        Leaf::Task => Some((leaf.name(), scalar("string"))),
        _ => Some((leaf.name(), scalar("int64"))),
    };
    let features = Object(vec![("features", Object(leaves.iter().filter_map(entry).collect()))]);
    let text = serde_json::to_string(&Object(vec![("info", features)]));
    Ok(text.map_err(std::io::Error::from)?)
}

/// What all our Parquet files have in common.
pub(super) fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(None)
}

fn encode_feature(out: WriterPropertiesBuilder, spec: &ColumnSpec) -> WriterPropertiesBuilder {
    let mut path = vec![spec.name.clone()];
    if !is_scalar(spec) {
        for _ in &spec.shape {
            path.extend(["list".to_owned(), "element".to_owned()]);
        }
    }
    let large = |out: WriterPropertiesBuilder, path: ColumnPath| {
        out.set_column_dictionary_enabled(path.clone(), true)
            .set_column_dictionary_page_size_limit(path, DICTIONARY_BYTES)
    };
    match spec.dtype {
        // Measured on a million rows of joint positions, lerped and held: 101 MB against 124 MB plain and 140 MB
        // with a dictionary, at the speed of plain. Arrow reads it since 2020, and so does what lerobot needs.
        Dtype::Float32 => {
            let path = ColumnPath::new(path);
            out.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT)
        }
        Dtype::Bool => out,
        Dtype::Int64 => {
            let path = ColumnPath::new(path);
            out.set_column_dictionary_enabled(path.clone(), true)
                .set_column_statistics_enabled(path, EnabledStatistics::Page)
        }
        Dtype::String => large(out, ColumnPath::new(vec![spec.name.clone()])),
        Dtype::Bytes => large(out, ColumnPath::new(vec![spec.name.clone()])),
        Dtype::Image => {
            let path = ColumnPath::new(vec![spec.name.clone(), "bytes".to_owned()]);
            large(out, path.clone()).set_column_compression(path, Compression::UNCOMPRESSED)
        }
    }
}

/// Names that the writers use themselves, in either format; `task` is what a LeRobot item calls its task string.
pub const OWN_COLUMNS: [&str; 7] =
    ["timestamp", "timestamp_ns", "frame_index", "episode_index", "index", "task_index", "task"];

fn check_column(format: Format, spec: &ColumnSpec) -> Result<(), WriteError> {
    let fail = |problem: &str| Err(WriteError::schema(&spec.name, problem));
    if spec.name.is_empty() {
        return fail("has no name");
    }
    if OWN_COLUMNS.contains(&spec.name.as_str()) {
        return fail("has a name that the writer itself uses; rename it");
    }
    if spec.shape.contains(&0) {
        return fail("has a dimension of 0");
    }
    if spec.shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)).is_none_or(|n| n >= 1 << 31) {
        return fail("has too many values per row");
    }
    match spec.dtype {
        Dtype::Float32 | Dtype::Int64 | Dtype::Bool if spec.shape.len() > MAX_RANK => {
            return fail("has more than 5 dimensions");
        }
        Dtype::String | Dtype::Bytes if !is_scalar(spec) => return fail("must have one value per row"),
        Dtype::Image if spec.shape.len() != 3 => {
            return fail("must have the shape [height, width, channels]");
        }
        _ => {}
    }
    if format == Format::LeRobot {
        if spec.name.contains('/') {
            return fail("has a `/` in its name, which LeRobot does not allow; rename it");
        }
        if spec.dtype == Dtype::Bytes {
            return fail("holds bytes, which LeRobot has no type for; exclude it or write Parquet");
        }
    }
    Ok(())
}

/// The name `datasets` and info.json give a type.
pub(super) fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float32 => "float32",
        Dtype::Int64 => "int64",
        Dtype::Bool => "bool",
        Dtype::String => "string",
        Dtype::Bytes => "binary",
        Dtype::Image => "image",
    }
}

/// Whether a column is stored as variable lists with an extension name.
fn is_extension(format: Format, spec: &ColumnSpec) -> bool {
    format == Format::LeRobot && spec.dtype != Dtype::Image && spec.shape.len() > 1
}

fn field(format: Format, spec: &ColumnSpec) -> Field {
    let scalar = match spec.dtype {
        Dtype::Float32 => DataType::Float32,
        Dtype::Int64 => DataType::Int64,
        Dtype::Bool => DataType::Boolean,
        Dtype::String => DataType::Utf8,
        Dtype::Bytes => DataType::Binary,
        Dtype::Image => DataType::Struct(Fields::from(vec![
            Field::new("bytes", DataType::Binary, true),
            Field::new("path", DataType::Utf8, true),
        ])),
    };
    if is_scalar(spec) || spec.dtype == Dtype::Image {
        return Field::new(&spec.name, scalar, true);
    }
    let extension = is_extension(format, spec);
    let nested = spec.shape.iter().rev().fold(scalar, |inner, &size| {
        let element = Arc::new(Field::new("element", inner, true));
        if extension { DataType::List(element) } else { DataType::FixedSizeList(element, size as i32) }
    });
    let out = Field::new(&spec.name, nested, true);
    if !extension {
        return out;
    }
    let rank = spec.shape.len();
    let class = format!("datasets.features.features.Array{rank}DExtensionType");
    let parameters = format!("[{:?}, \"{}\"]", spec.shape, dtype_name(spec.dtype));
    out.with_metadata(arrow_schema::Metadata::from_iter([
        ("ARROW:extension:name".to_owned(), class),
        ("ARROW:extension:metadata".to_owned(), parameters),
    ]))
}

/// The entry of a column in `datasets.Features`.
fn feature(format: Format, spec: &ColumnSpec) -> serde_json::Value {
    use serde_json::json;
    if spec.dtype == Dtype::Image {
        return json!({"_type": "Image"});
    }
    let dtype = dtype_name(spec.dtype);
    let value = json!({"dtype": dtype, "_type": "Value"});
    if is_scalar(spec) {
        value
    } else if is_extension(format, spec) {
        json!({"shape": spec.shape, "dtype": dtype, "_type": format!("Array{}D", spec.shape.len())})
    } else {
        let nest = |inner, &size: &usize| json!({"feature": inner, "length": size, "_type": "List"});
        spec.shape.iter().rev().fold(value, nest)
    }
}

fn feature_array(
    format: Format,
    spec: &ColumnSpec,
    column: &FrameColumn,
    rows: &Range<usize>,
) -> Result<ArrayRef, WriteError> {
    let width = spec.width();
    let values = rows.start * width..rows.end * width;
    let array: ArrayRef = match column {
        FrameColumn::Float32(v) => Arc::new(Float32Array::from(v[values].to_vec())),
        FrameColumn::Int64(v) => Arc::new(Int64Array::from(v[values].to_vec())),
        FrameColumn::Bool(v) => Arc::new(BooleanArray::from(v[values].to_vec())),
        FrameColumn::Indexed { values, index } => {
            return indexed_array(spec, values, &index[rows.clone()]);
        }
    };
    if is_scalar(spec) { Ok(array) } else { nest(array, &spec.shape, is_extension(format, spec)) }
}

/// Text, images and bytes as an Arrow dictionary: the encoder expands it, and stores each value once.
fn indexed_array(spec: &ColumnSpec, values: &Blobs, index: &[u32]) -> Result<ArrayRef, WriteError> {
    const UNSEEN: i32 = -1;
    let mut key_of = vec![UNSEEN; values.len()];
    let mut used: Vec<usize> = Vec::new();
    let keys = index
        .iter()
        .map(|&at| {
            let key = &mut key_of[at as usize];
            if *key == UNSEEN {
                *key = used.len() as i32;
                used.push(at as usize);
            }
            *key
        })
        .collect();
    let used = used.into_iter().map(|at| values.get(at));
    let values: ArrayRef = if spec.dtype == Dtype::String {
        let text: Result<Vec<&str>, _> = used.map(std::str::from_utf8).collect();
        Arc::new(StringArray::from_iter_values(
            text.map_err(|_| WriteError::schema(&spec.name, "holds text that is not UTF-8"))?,
        ))
    } else {
        Arc::new(BinaryArray::from_iter_values(used))
    };
    let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values)?);
    if spec.dtype != Dtype::Image {
        return Ok(dictionary);
    }
    let fields = Fields::from(vec![
        Field::new("bytes", dictionary.data_type().clone(), true),
        Field::new("path", DataType::Utf8, true),
    ]);
    let path: ArrayRef = Arc::new(StringArray::new_null(dictionary.len()));
    Ok(Arc::new(StructArray::try_new(fields, vec![dictionary, path], None)?))
}

/// Folds flat values into lists of the given sizes, outermost first; `variable` lists have offsets.
pub(super) fn nest(values: ArrayRef, sizes: &[usize], variable: bool) -> Result<ArrayRef, WriteError> {
    sizes.iter().rev().try_fold(values, |inner, &size| {
        let element = Arc::new(Field::new("element", inner.data_type().clone(), true));
        let list = FixedSizeListArray::try_new(element, size as i32, inner, None)?;
        Ok(if variable { Arc::new(ListArray::from(list)) as ArrayRef } else { Arc::new(list) })
    })
}
