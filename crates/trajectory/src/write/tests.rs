//! Both passes end to end, read back with the parquet crate.

use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};

use super::*;
use crate::image::tests::png_file;
use crate::{Blobs, ColumnSpec, Dtype, FrameColumn, Frames, Origin, Schema};

/// Everything a test reads again must be a `ChunkReader`; `bytes::Bytes` is one and parquet hands them out.
fn chunk(bytes: Vec<u8>) -> impl ChunkReader + Clone + 'static {
    bytes::Bytes::from(bytes)
}

fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> ColumnSpec {
    ColumnSpec { name: name.to_owned(), dtype, shape: shape.to_vec(), names: None }
}

/// One column of every kind that LeRobot has.
fn schema() -> Schema {
    Schema {
        columns: vec![
            spec("observation.state", Dtype::Float32, &[3]),
            spec("observation.matrix", Dtype::Float32, &[2, 3]),
            spec("next.reward", Dtype::Float32, &[]),
            spec("counter", Dtype::Int64, &[1]),
            spec("gap_mask", Dtype::Bool, &[1]),
            spec("flags", Dtype::Bool, &[2]),
            spec("note", Dtype::String, &[1]),
            spec("observation.images.front", Dtype::Image, &[4, 6, 3]),
        ],
    }
}

fn rate(numerator: u64, denominator: u64) -> Rate {
    Rate { numerator: numerator.try_into().unwrap(), denominator: denominator.try_into().unwrap() }
}

fn picture(seed: usize) -> Vec<u8> {
    let samples: Vec<u8> = (0..72).map(|i| (seed * 31 + i * 7) as u8).collect();
    png_file(4, 6, png::ColorType::Rgb, &samples)
}

/// Episode `seed`, `rows` rows; every third image is new, row 1 is masked.
fn episode(seed: usize, rows: usize, tasks: &[&str]) -> Frames {
    let x = |i: usize| ((seed * 1000 + i) as f32 * 0.37).sin();
    let pictures: Vec<Vec<u8>> = (0..rows.div_ceil(3)).map(|i| picture(seed * 100 + i)).collect();
    let notes: Vec<&[u8]> = vec![b"hello", "grüß".as_bytes()];
    let held = |values: Blobs, index: Vec<u32>| FrameColumn::Indexed { values: Arc::new(values), index };
    let mut masked = vec![false; rows];
    if rows > 1 {
        masked[1] = true;
    }
    Frames {
        origin: Origin { file: format!("file{seed}"), episode: seed as u64 },
        split: None,
        epoch_ns: 1_700_000_000_000_000_000,
        times_ns: (0..rows).map(|i| 5 + i as i64 * 33_366_667).collect(),
        columns: vec![
            FrameColumn::Float32((0..rows * 3).map(x).collect()),
            FrameColumn::Float32((0..rows * 6).map(x).collect()),
            FrameColumn::Float32((0..rows).map(|i| if i == 2 { f32::NAN } else { x(i) }).collect()),
            FrameColumn::Int64((0..rows as i64).map(|i| i * i - 7).collect()),
            FrameColumn::Bool(masked.clone()),
            FrameColumn::Bool((0..rows * 2).map(|i| i % 3 == 0).collect()),
            held(notes.into_iter().collect(), (0..rows as u32).map(|i| i % 2).collect()),
            held(pictures.iter().map(Vec::as_slice).collect(), (0..rows as u32).map(|i| i / 3).collect()),
        ],
        tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
        task_index: (0..rows).map(|i| ((i * tasks.len()) / rows) as u32).collect(),
        masked,
    }
}

/// Two shards with rows and an empty one between them.
fn shards() -> Vec<Vec<Frames>> {
    vec![
        vec![episode(1, 10, &["pick", "place"]), episode(2, 1, &["pick"])],
        vec![],
        vec![episode(3, 25, &["open", "pick"])],
    ]
}

fn staged(format: Format, schema: &Schema, shards: &[Vec<Frames>]) -> Vec<(Vec<u8>, ShardSummary)> {
    let stage = |frames: &Vec<Frames>| {
        let mut writer = ShardWriter::new(format, schema, rate(30, 1), Vec::new()).unwrap();
        for frames in frames {
            writer.append(frames).unwrap();
        }
        writer.finish().unwrap()
    };
    shards.iter().map(stage).collect()
}

/// Data files, and the files of `meta/` with their paths.
type Published = (Vec<Vec<u8>>, Vec<(String, Vec<u8>)>);

/// Both passes.
fn publish(format: Format, schema: &Schema, shards: &[Vec<Frames>]) -> Published {
    let staged = staged(format, schema, shards);
    // Summaries travel as JSON.
    let summaries: Vec<ShardSummary> = staged
        .iter()
        .map(|(_, summary)| serde_json::from_str(&serde_json::to_string(summary).unwrap()).unwrap())
        .collect();
    assert!(summaries.iter().zip(&staged).all(|(read, (_, written))| read == written));
    let dataset = Dataset::new(format, schema, rate(30, 1), Some("panda"), &summaries).unwrap();
    let ranges = ColumnRanges::new(schema, &summaries).unwrap();
    let mut histograms = Histograms::new(&ranges);
    let mut files = Vec::new();
    for ((bytes, _), offsets) in staged.into_iter().zip(dataset.offsets()) {
        if offsets.file.is_some() {
            let mut out = Vec::new();
            let counted = rewrite(format, chunk(bytes), schema, offsets, &ranges, &mut out).unwrap();
            let json = serde_json::to_string(&counted).unwrap();
            histograms.merge(&serde_json::from_str(&json).unwrap()).unwrap();
            files.push(out);
        }
    }
    (files, metadata(&dataset, &histograms).unwrap())
}

fn read(bytes: &[u8]) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(chunk(bytes.to_vec())).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> =
        reader.with_batch_size(1 << 20).build().unwrap().map(Result::unwrap).collect();
    assert!(batches.len() <= 1);
    batches.into_iter().next().unwrap_or_else(|| RecordBatch::new_empty(schema))
}

fn ints(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn json_file(files: &[(String, Vec<u8>)], path: &str) -> serde_json::Value {
    serde_json::from_slice(&files.iter().find(|(p, _)| p == path).unwrap().1).unwrap()
}

#[test]
fn lerobot_rows_read_back() {
    let (files, _) = publish(Format::LeRobot, &schema(), &shards());
    assert_eq!(files.len(), 2);
    let (first, second) = (read(&files[0]), read(&files[1]));
    assert_eq!(ints(&first, "index"), (0..11).collect::<Vec<_>>());
    assert_eq!(ints(&second, "index"), (11..36).collect::<Vec<_>>());
    assert_eq!(ints(&first, "episode_index"), [[0; 10].as_slice(), &[1]].concat());
    assert_eq!(ints(&second, "episode_index"), [2; 25]);
    assert_eq!(ints(&first, "frame_index")[9..], [9, 0]);
    // "pick" and "place" are 0 and 1; "open", new in the second file, is 2.
    assert_eq!(ints(&first, "task_index"), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0]);
    assert_eq!(ints(&second, "task_index"), [[2; 13].as_slice(), &[0; 12]].concat());

    let times = second.column_by_name("timestamp").unwrap().as_primitive::<Float32Type>();
    assert_eq!(times.value(7), (7.0 / 30.0) as f32);
    let frames = &shards()[2][0];
    let FrameColumn::Float32(state) = &frames.columns[0] else { panic!() };
    let column = second.column_by_name("observation.state").unwrap().as_fixed_size_list();
    assert_eq!(column.values().as_primitive::<Float32Type>().values(), state.as_slice());
    let FrameColumn::Float32(matrix) = &frames.columns[1] else { panic!() };
    let column = second.column_by_name("observation.matrix").unwrap().as_list::<i32>();
    let flat = column.values().as_list::<i32>().values().as_primitive::<Float32Type>().values().to_vec();
    assert_eq!(&flat, matrix);
    assert_eq!(second.column_by_name("note").unwrap().as_string::<i32>().value(3), "grüß");
    let image = second.column_by_name("observation.images.front").unwrap().as_struct();
    assert_eq!(image.column(0).as_binary::<i32>().value(8), picture(302));
    assert_eq!(image.column(1).null_count(), 25);
}

#[test]
fn two_passes_equal_one_with_global_indices() {
    // One shard needs no offsets: its staged file differs from the published one in metadata only.
    let all = vec![shards().concat()];
    for format in [Format::LeRobot, Format::Parquet] {
        let schema = schema();
        let (one, one_meta) = publish(format, &schema, &all);
        let (many, many_meta) = publish(format, &schema, &shards());
        let parts: Vec<RecordBatch> = many.iter().map(|file| read(file)).collect();
        let whole = read(&one[0]);
        let mut at = 0;
        for part in parts {
            let expected = whole.slice(at, part.num_rows());
            assert_eq!(part.schema(), whole.schema());
            // NaN is not equal to itself, so compare what is printed.
            assert_eq!(format!("{part:?}"), format!("{expected:?}"));
            at += part.num_rows();
        }
        assert_eq!(at, whole.num_rows());
        // Statistics and tasks do not depend on how the episodes were cut into shards, up to the order of sums.
        assert_eq!(json_file(&one_meta, "meta/stats.json"), json_file(&many_meta, "meta/stats.json"));
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(
        publish(Format::LeRobot, &schema(), &shards()),
        publish(Format::LeRobot, &schema(), &shards())
    );
}

#[test]
fn nothing_of_the_staging_reaches_the_output() {
    let (files, _) = publish(Format::LeRobot, &schema(), &shards());
    let reader = SerializedFileReader::new(chunk(files[0].clone())).unwrap();
    let metadata = reader.metadata().file_metadata();
    let mut keys: Vec<&str> =
        metadata.key_value_metadata().unwrap().iter().map(|kv| kv.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["ARROW:schema", "huggingface"]);
    assert_eq!(metadata.created_by(), Some("robocache"));
    // Indices have statistics, which readers skip row groups with.
    let index = reader.metadata().row_group(0).columns().iter().find(|c| c.column_path().string() == "index");
    assert!(index.unwrap().statistics().is_some());
}

/// Arrow C++, and so pandas and `datasets`, takes a schema's metadata from inside `ARROW:schema` alone.
#[test]
fn metadata_is_where_pyarrow_looks_for_it() {
    let (files, meta) = publish(Format::LeRobot, &schema(), &shards());
    for (bytes, key) in [(&files[0], "huggingface"), (&meta[1].1, "pandas")] {
        let reader = SerializedFileReader::new(chunk(bytes.clone())).unwrap();
        let entries = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let arrow = entries.iter().find(|entry| entry.key == "ARROW:schema").unwrap();
        let only = vec![arrow.clone()];
        let descriptor = reader.metadata().file_metadata().schema_descr();
        let schema = ::parquet::arrow::parquet_to_arrow_schema(descriptor, Some(&only)).unwrap();
        assert!(schema.metadata().get(key).is_some(), "{key}");
    }
    let tasks = read(&meta[1].1);
    assert_eq!(tasks.column_by_name("task").unwrap().as_string::<i32>().value(2), "open");
}

#[test]
fn parquet_rows_have_exact_times_and_tasks() {
    let (files, meta) = publish(Format::Parquet, &schema(), &shards());
    let batch = read(&files[1]);
    let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names[..4], ["episode_index", "frame_index", "timestamp_ns", "task"]);
    assert_eq!(ints(&batch, "timestamp_ns")[2], 66_733_334);
    assert_eq!(ints(&batch, "episode_index")[0], 2);
    assert_eq!(batch.column_by_name("task").unwrap().as_string::<i32>().value(0), "open");
    let info = json_file(&meta, "meta/info.json");
    assert_eq!(info["rate_hz"], "30");
    assert_eq!(info["files"][1]["rows"], 25);
    let episodes = read(&meta[0].1);
    assert_eq!(ints(&episodes, "masked_rows"), [1, 0, 1]);
}

#[test]
fn statistics_are_those_of_the_unmasked_rows() {
    let (_, meta) = publish(Format::LeRobot, &schema(), &shards());
    let stats = json_file(&meta, "meta/stats.json");
    // Naively, from the episodes themselves.
    let mut values: Vec<f64> = Vec::new();
    for frames in shards().concat() {
        let FrameColumn::Float32(state) = &frames.columns[0] else { panic!() };
        let rows = state.chunks(3).zip(&frames.masked).filter(|(_, masked)| !**masked);
        values.extend(rows.map(|(row, _)| f64::from(row[1])));
    }
    values.sort_by(f64::total_cmp);
    let state = &stats["observation.state"];
    let close = |name: &str, want: f64, tolerance: f64| {
        let got = state[name][1].as_f64().unwrap();
        assert!((got - want).abs() <= tolerance, "{name}: {got} and not {want}");
    };
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    close("min", values[0], 0.0);
    close("max", *values.last().unwrap(), 0.0);
    close("mean", mean, 1e-12);
    close("std", (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt(), 1e-12);
    let exact = stats::quantiles(values.len() as u64, |rank| values[rank as usize]);
    let bin = (values.last().unwrap() - values[0]) / BINS as f64;
    for (name, want) in ["q01", "q10", "q50", "q90", "q99"].into_iter().zip(exact) {
        close(name, want, bin);
    }
    assert_eq!(state["count"][0], 34);
    assert_eq!(stats["observation.matrix"]["mean"].as_array().unwrap().len(), 3);
    assert_eq!(stats["gap_mask"]["max"][0], false);
    assert_eq!(stats["observation.images.front"]["mean"][0][0].as_array().unwrap().len(), 1);
    assert_eq!(stats["index"]["q50"][0], 17.5);
    assert_eq!(stats["frame_index"]["max"][0], 24);
    assert!(stats.get("note").is_none());
}

#[test]
fn index_statistics_in_closed_form() {
    let (_, meta) = publish(Format::LeRobot, &schema(), &shards());
    let stats = json_file(&meta, "meta/stats.json");
    let frame_index: Vec<i64> = [10_i64, 1, 25].into_iter().flat_map(|length| 0..length).collect();
    let want = stats::column(&frame_index, 1, 1, &[false; 36]).components[0];
    let got = &stats["frame_index"];
    assert!((got["std"][0].as_f64().unwrap() - want.moments.std()).abs() < 1e-12);
    for (name, want) in ["q01", "q10", "q50", "q90", "q99"].into_iter().zip(want.quantiles) {
        assert_eq!(got[name][0].as_f64().unwrap(), want, "{name}");
    }
}

#[test]
fn golden_info() {
    let (_, meta) = publish(Format::LeRobot, &schema(), &shards());
    let (path, info) = meta.last().unwrap();
    assert_eq!(path, "meta/info.json");
    let got: Vec<String> = String::from_utf8(info.clone()).unwrap().lines().map(str::to_owned).collect();
    let start = "{
    \"codebase_version\": \"v3.0\",
    \"robot_type\": \"panda\",
    \"total_episodes\": 3,
    \"total_frames\": 36,
    \"total_tasks\": 3,
    \"chunks_size\": 1000,
    \"data_files_size_in_mb\": 100,
    \"video_files_size_in_mb\": 200,
    \"fps\": 30,
    \"splits\": {
        \"train\": \"0:3\"
    },
    \"data_path\": \"data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet\",
    \"video_path\": null,
    \"features\": {
        \"observation.state\": {
            \"dtype\": \"float32\",
            \"shape\": [
                3
            ],
            \"names\": null
        },";
    assert_eq!(got[..start.lines().count()], start.lines().collect::<Vec<_>>());
    let features = json_file(&meta, "meta/info.json")["features"].clone();
    assert_eq!(features["next.reward"]["shape"], serde_json::json!([1]));
    assert_eq!(features["observation.images.front"]["names"][2], "channels");
    assert_eq!(features["task_index"]["dtype"], "int64");
    assert_eq!(features.as_object().unwrap().len(), 13);
}

#[test]
fn splits_are_ranges_of_episodes() {
    let mut shards = shards();
    shards[2][0].split = Some("test".to_owned());
    let (_, meta) = publish(Format::LeRobot, &schema(), &shards);
    let splits = &json_file(&meta, "meta/info.json")["splits"];
    assert_eq!(splits, &serde_json::json!({"train": "0:2", "test": "2:3"}));

    shards[0][0].split = Some("test".to_owned());
    let summaries: Vec<_> = staged(Format::LeRobot, &schema(), &shards).into_iter().map(|(_, s)| s).collect();
    let error = Dataset::new(Format::LeRobot, &schema(), rate(30, 1), None, &summaries).unwrap_err();
    assert!(error.to_string().contains("split test"), "{error}");
}

#[test]
fn a_frame_held_over_rows_is_stored_once() {
    let schema = Schema { columns: vec![spec("observation.image", Dtype::Image, &[64, 64, 3])] };
    let mut state = 1_u32;
    let mut noise = || {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        png_file(64, 64, png::ColorType::Rgb, &(0..64 * 64 * 3).map(|_| next()).collect::<Vec<_>>())
    };
    let pictures: Vec<Vec<u8>> = (0..20).map(|_| noise()).collect();
    let values: Arc<Blobs> = Arc::new(pictures.iter().map(Vec::as_slice).collect());
    let size = |repeats: u32| {
        let rows = 20 * repeats as usize;
        let frames = Frames {
            origin: Origin { file: "f".to_owned(), episode: 0 },
            split: None,
            epoch_ns: 0,
            times_ns: (0..rows as i64).collect(),
            columns: vec![FrameColumn::Indexed {
                values: Arc::clone(&values),
                index: (0..rows as u32).map(|row| row / repeats).collect(),
            }],
            tasks: vec![String::new()],
            task_index: vec![0; rows],
            masked: vec![false; rows],
        };
        publish(Format::LeRobot, &schema, &[vec![frames]]).0[0].len()
    };
    assert!(size(5) < size(1) + 2000, "{} and {}", size(5), size(1));
}

#[test]
fn row_groups_end_between_episodes() {
    let schema = Schema { columns: vec![spec("x", Dtype::Int64, &[])] };
    let long = |rows: usize| Frames {
        origin: Origin { file: "f".to_owned(), episode: 0 },
        split: None,
        epoch_ns: 0,
        times_ns: (0..rows as i64).collect(),
        columns: vec![FrameColumn::Int64((0..rows as i64).collect())],
        tasks: vec!["t".to_owned()],
        task_index: vec![0; rows],
        masked: vec![false; rows],
    };
    let most = table::ROW_GROUP_ROWS;
    let shards = vec![vec![long(most - 10), long(20), long(most + 7), long(1)]];
    let (files, _) = publish(Format::Parquet, &schema, &shards);
    let reader = SerializedFileReader::new(chunk(files[0].clone())).unwrap();
    let rows: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [most as i64 - 10, 20, most as i64, 8]);
}

#[test]
fn an_episode_that_does_not_fit_is_refused_and_the_next_may_follow() {
    let schema = schema();
    let mut writer = ShardWriter::new(Format::LeRobot, &schema, rate(30, 1), Vec::new()).unwrap();
    let good = episode(1, 10, &["pick"]);
    let mut bad = vec![good.clone(); 5];
    bad[0].times_ns.clear();
    bad[1].task_index[3] = 9;
    bad[2].columns[0] = FrameColumn::Float32(vec![0.0; 7]);
    bad[3].columns[7] = FrameColumn::Indexed { values: Arc::new(Blobs::default()), index: vec![0; 10] };
    let other = png_file(2, 6, png::ColorType::Rgb, &[0; 36]);
    bad[4].columns[7] = FrameColumn::Indexed {
        values: Arc::new([other.as_slice()].into_iter().collect()),
        index: vec![0; 10],
    };
    for frames in &bad {
        let error = writer.append(frames).unwrap_err();
        assert!(error.to_string().starts_with("file1#1"), "{error}");
    }
    writer.append(&good).unwrap();
    let (_, summary) = writer.finish().unwrap();
    assert_eq!((summary.episodes.len(), summary.rows), (1, 10));
}

#[test]
fn schemas_that_a_format_cannot_hold_name_the_column() {
    let refused = |format, column: ColumnSpec| {
        let name = column.name.clone();
        let schema = Schema { columns: vec![column] };
        let error = ShardWriter::new(format, &schema, rate(30, 1), Vec::new()).unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
    };
    refused(Format::LeRobot, spec("blob", Dtype::Bytes, &[]));
    refused(Format::LeRobot, spec("a/b", Dtype::Float32, &[]));
    refused(Format::Parquet, spec("index", Dtype::Int64, &[]));
    refused(Format::Parquet, spec("empty", Dtype::Float32, &[0]));
    refused(Format::Parquet, spec("huge", Dtype::Float32, &[usize::MAX, 2]));
    let twice = Schema { columns: vec![spec("x", Dtype::Bool, &[]), spec("x", Dtype::Bool, &[])] };
    assert!(ShardWriter::new(Format::Parquet, &twice, rate(30, 1), Vec::new()).is_err());
    assert!(ShardWriter::new(Format::LeRobot, &schema(), rate(30000, 1001), Vec::new()).is_err());
}

#[test]
fn damaged_staged_files_are_errors() {
    let schema = schema();
    let (bytes, summary) = staged(Format::LeRobot, &schema, &shards()).swap_remove(0);
    let summaries = [summary];
    let dataset = Dataset::new(Format::LeRobot, &schema, rate(30, 1), None, &summaries).unwrap();
    let ranges = ColumnRanges::new(&schema, &summaries).unwrap();
    let run = |bytes: Vec<u8>, format| {
        rewrite(format, chunk(bytes), &schema, &dataset.offsets()[0], &ranges, Vec::new()).is_err()
    };
    assert!(!run(bytes.clone(), Format::LeRobot));
    assert!(run(bytes.clone(), Format::Parquet));
    assert!(run(bytes[..bytes.len() - 9].to_vec(), Format::LeRobot));
    assert!(run(Vec::new(), Format::LeRobot));
    // Every histogram must be there exactly once.
    let mut histograms = Histograms::new(&ranges);
    assert!(metadata(&dataset, &histograms).is_err());
    let counted =
        rewrite(Format::LeRobot, chunk(bytes), &schema, &dataset.offsets()[0], &ranges, Vec::new()).unwrap();
    histograms.merge(&counted).unwrap();
    assert!(metadata(&dataset, &histograms).is_ok());
    histograms.merge(&counted).unwrap();
    assert!(metadata(&dataset, &histograms).is_err());
}
