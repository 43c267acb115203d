//! Splits and shards of an RLDS dataset: which files it has, in which order, with how many episodes each.
//!
//! `dataset_info.json` (TensorFlow Datasets, `core/proto/dataset_info.proto`) lists per split the number of records of
//! each shard, and a template for the shards' file names (`core/naming.py`). Without that file the names
//! themselves tell the split and how many shards there are.
//!
//! Invariant: a file the dataset says it has and has not is an error or a finding, never a shorter dataset.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::{InputFile, ReadError};
use super::info::{RldsInfo, integer, json_object, member};
use crate::Finding;

const FILE: &str = "dataset_info.json";
/// The template of `core/naming.py`, used where the split states none.
const DEFAULT_TEMPLATE: &str = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}";
/// Most missing files one message names.
const NAMED_FILES_MAX: usize = 5;

/// What `dataset_info.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DatasetInfo {
    pub(super) name: Option<String>,
    splits: Vec<SplitInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SplitInfo {
    name: String,
    template: String,
    /// Records of each shard, in order.
    shard_lengths: Vec<u64>,
}

/// The files of a dataset, by split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RldsLayout {
    /// In the order of `dataset_info.json`, else by name; splits without a file are left out.
    pub splits: Vec<RldsSplit>,
    /// `missing-split` and `unlisted-file`.
    pub findings: Vec<Finding>,
}

/// One split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RldsSplit {
    /// Such as `train`; `None` where nothing says.
    pub name: Option<String>,
    /// Its files in order.
    pub shards: Vec<RldsShard>,
}

/// One file of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RldsShard {
    /// The file.
    pub file: InputFile,
    /// How many records it must have, where `dataset_info.json` says so.
    pub episodes: Option<u64>,
}

impl DatasetInfo {
    pub(super) fn parse(json: &[u8]) -> Result<Self, ReadError> {
        let root = json_object(FILE, json)?;
        let format = member(&root, "fileFormat", "file_format").and_then(Value::as_str).unwrap_or("tfrecord");
        if format != "tfrecord" {
            let problem = format!("its files are in format `{format}`; only `tfrecord` can be read");
            return Err(ReadError::new(FILE, problem));
        }
        let splits = match root.get("splits") {
            None => &Vec::new(),
            Some(splits) => {
                splits.as_array().ok_or_else(|| ReadError::new(FILE, "`splits` is not a list"))?
            }
        };
        Ok(Self {
            name: root.get("name").and_then(Value::as_str).map(str::to_owned),
            splits: splits.iter().map(SplitInfo::parse).collect::<Result<_, _>>()?,
        })
    }
}

impl SplitInfo {
    fn parse(split: &Value) -> Result<Self, ReadError> {
        let empty = Map::new();
        let split = split.as_object().unwrap_or(&empty);
        let name = split.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| ReadError::new(FILE, "a split has no name"))?;
        let template = member(split, "filepathTemplate", "filepath_template").and_then(Value::as_str);
        let lengths = match member(split, "shardLengths", "shard_lengths") {
            None => Some(Vec::new()),
            Some(lengths) => lengths.as_array().and_then(|lengths| {
                lengths.iter().map(|length| u64::try_from(integer(length)?).ok()).collect()
            }),
        };
        let lengths = lengths.ok_or_else(|| {
            ReadError::new(FILE, format!("the shard lengths of split {name} are not counts"))
        })?;
        Ok(Self {
            name: name.to_owned(),
            template: template.filter(|t| !t.is_empty()).unwrap_or(DEFAULT_TEMPLATE).to_owned(),
            shard_lengths: lengths,
        })
    }

    /// Path of shard `index` relative to the dataset's folder.
    fn shard_path(&self, dataset: &str, index: usize) -> String {
        let (index, count) = (format!("{index:05}"), format!("{:05}", self.shard_lengths.len()));
        // What follows a `%` tells TFDS how to open the file and is no part of its name.
        let template = self.template.rsplit_once('%').map_or(self.template.as_str(), |(path, _)| path);
        // TFDS pads the index to the digits of the count, with five at least.
        let index = format!("{index:0>width$}", width = count.len());
        template
            .replace("{SHARD_X_OF_Y}", &format!("{index}-of-{count}"))
            .replace("{SHARD_INDEX}", &index)
            .replace("{NUM_SHARDS}", &count)
            .replace("{FILEFORMAT}", "tfrecord")
            .replace("{SPLIT}", &self.name)
            .replace("{DATASET}", dataset)
    }
}

impl RldsInfo {
    /// Sorts `files`, those in the dataset's folder, into splits and shards. Files that are no TFRecord files by their
    /// names are ignored.
    ///
    /// A split none of whose files is there is left out with a finding `missing-split`; a record file of no split with
    /// a finding `unlisted-file`.
    ///
    /// # Errors
    /// Where some of a split's files are missing; where `dataset_info.json` names neither the dataset nor a split.
    pub fn layout(&self, files: &[InputFile]) -> Result<RldsLayout, ReadError> {
        let mut files: Vec<&InputFile> = files.iter().filter(|file| is_record_file(&file.path)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        match &self.dataset {
            Some(dataset) => listed_layout(dataset, &files),
            None => unlisted_layout(&files),
        }
    }
}

fn listed_layout(dataset: &DatasetInfo, files: &[&InputFile]) -> Result<RldsLayout, ReadError> {
    if dataset.splits.is_empty() {
        return Err(ReadError::new(FILE, "it lists no split"));
    }
    let needs_name = dataset.splits.iter().any(|split| split.template.contains("{DATASET}"));
    let name = match &dataset.name {
        Some(name) => name.as_str(),
        None if needs_name => return Err(ReadError::new(FILE, "it has no name, which its files begin with")),
        None => "",
    };
    let mut layout = RldsLayout { splits: Vec::new(), findings: Vec::new() };
    let mut unlisted: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for split in &dataset.splits {
        let mut shards = Vec::new();
        let mut missing = Vec::new();
        for (index, episodes) in split.shard_lengths.iter().enumerate() {
            let path = split.shard_path(name, index);
            let found = files.iter().find(|file| names(&file.path, &path));
            match found {
                Some(file) => {
                    unlisted.remove(file.path.as_str());
                    shards.push(RldsShard { file: (*file).clone(), episodes: Some(*episodes) });
                }
                // A shard without records need not exist.
                None if *episodes == 0 => {}
                None => missing.push(path),
            }
        }
        if !missing.is_empty() && !shards.is_empty() {
            return Err(incomplete(&split.name, &missing, split.shard_lengths.len()));
        }
        if !missing.is_empty() {
            layout.findings.push(missing_split(split, &missing));
        } else if !shards.is_empty() {
            layout.splits.push(RldsSplit { name: Some(split.name.clone()), shards });
        }
    }
    for path in unlisted {
        let message = "dataset_info.json does not list this file; it is left out";
        layout.findings.push(Finding::new("unlisted-file", path, message));
    }
    Ok(layout)
}

fn missing_split(split: &SplitInfo, missing: &[String]) -> Finding {
    let episodes: u64 = split.shard_lengths.iter().fold(0, |sum, length| sum.saturating_add(*length));
    let files = if missing.len() == 1 {
        format!("its 1 file is not there ({})", missing[0])
    } else {
        format!("none of its {} files is there ({})", missing.len(), some_of(missing))
    };
    let episodes = if episodes == 1 { "1 episode is".to_owned() } else { format!("{episodes} episodes are") };
    let message = format!("split {}: {files}; {episodes} left out", split.name);
    Finding::new("missing-split", &split.name, message)
}

fn incomplete(split: &str, missing: &[String], count: usize) -> ReadError {
    let problem = format!(
        "{} of the {count} files of split {split} are not there: {}",
        missing.len(),
        some_of(missing)
    );
    ReadError::new(FILE, problem)
}

fn some_of(paths: &[String]) -> String {
    let named = paths.iter().take(NAMED_FILES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match paths.len().checked_sub(NAMED_FILES_MAX) {
        None | Some(0) => named,
        Some(more) => format!("{named} and {more} more"),
    }
}

/// The layout that the files' names alone tell.
fn unlisted_layout(files: &[&InputFile]) -> Result<RldsLayout, ReadError> {
    let mut splits: BTreeMap<Option<String>, Vec<&InputFile>> = BTreeMap::new();
    for file in files {
        splits.entry(split_of(&file.path)).or_default().push(file);
    }
    let mut layout = RldsLayout { splits: Vec::new(), findings: Vec::new() };
    for (name, files) in splits {
        require_all_shards(name.as_deref(), &files)?;
        let shards = files.into_iter().map(|file| RldsShard { file: file.clone(), episodes: None }).collect();
        layout.splits.push(RldsSplit { name, shards });
    }
    Ok(layout)
}

/// Refuses a split whose files say `-of-00004` and are fewer than four.
fn require_all_shards(split: Option<&str>, files: &[&InputFile]) -> Result<(), ReadError> {
    let mut present: BTreeMap<(&str, u64), BTreeSet<u64>> = BTreeMap::new();
    for file in files {
        if let Some((stem, index, count)) = shard_of(&file.path) {
            present.entry((stem, count)).or_default().insert(index);
        }
    }
    for ((stem, count), indices) in present {
        let there = indices.len() as u64;
        if there < count {
            let first = (0..count).find(|index| !indices.contains(index)).unwrap_or(0);
            let problem = format!(
                "{} of the {count} files of split {} are not there, the first is {stem}-{first:05}-of-{count:05}",
                count - there,
                split.unwrap_or("(unnamed)"),
            );
            return Err(ReadError::new(stem, problem));
        }
    }
    Ok(())
}

/// `a-train.tfrecord-00001-of-00004` in its parts.
fn shard_of(path: &str) -> Option<(&str, u64, u64)> {
    let (rest, count) = path.rsplit_once("-of-")?;
    let (stem, index) = rest.rsplit_once('-')?;
    Some((stem, index.parse().ok()?, count.parse().ok()?))
}

/// The split that a file name tells: a dataset's own name has no dash.
fn split_of(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let (stem, _) = name.split_once(".tfrecord")?;
    let (_, split) = stem.split_once('-')?;
    Some(split.to_owned())
}

fn is_record_file(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.contains(".tfrecord"))
}

/// Whether `path` is `relative` within some folder.
fn names(path: &str, relative: &str) -> bool {
    path.strip_suffix(relative).is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::testing::FEATURES;
    use super::*;

    fn info(dataset_info: Option<&str>) -> Result<RldsInfo, ReadError> {
        RldsInfo::parse(FEATURES.as_bytes(), dataset_info.map(str::as_bytes))
    }

    fn files(names: &[&str]) -> Vec<InputFile> {
        names.iter().map(|name| InputFile { path: format!("a/1.0.0/{name}"), size: 1 }).collect()
    }

    const TWO_SPLITS: &str = r#"{"name": "robot", "fileFormat": "tfrecord", "splits": [
        {"name": "train", "numBytes": "9", "shardLengths": ["3", "4"],
         "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"},
        {"name": "val", "shardLengths": [25]}]}"#;

    fn shards(split: &RldsSplit) -> Vec<(&str, Option<u64>)> {
        split.shards.iter().map(|s| (s.file.path.rsplit('/').next().expect("a name"), s.episodes)).collect()
    }

    #[test]
    fn shards_come_in_the_order_of_the_index_with_their_counts() {
        let names = [
            "robot-val.tfrecord-00000-of-00001",
            "robot-train.tfrecord-00001-of-00002",
            "robot-train.tfrecord-00000-of-00002",
            "features.json",
        ];
        let layout = info(Some(TWO_SPLITS)).expect("valid").layout(&files(&names)).expect("complete");
        assert_eq!(layout.findings, []);
        assert_eq!(layout.splits[0].name.as_deref(), Some("train"));
        let train = [
            ("robot-train.tfrecord-00000-of-00002", Some(3)),
            ("robot-train.tfrecord-00001-of-00002", Some(4)),
        ];
        assert_eq!(shards(&layout.splits[0]), train);
        assert_eq!(shards(&layout.splits[1]), [(names[0], Some(25))]);
    }

    #[test]
    fn a_split_that_is_not_there_is_a_finding_and_so_is_a_file_of_none() {
        let names = [
            "robot-train.tfrecord-00000-of-00002",
            "robot-train.tfrecord-00001-of-00002",
            "other-train.tfrecord-00000-of-00001",
        ];
        let layout = info(Some(TWO_SPLITS)).expect("valid").layout(&files(&names)).expect("complete");
        assert_eq!(layout.splits.len(), 1);
        let messages: Vec<_> =
            layout.findings.iter().map(|f| (f.code.as_str(), f.message.as_str())).collect();
        assert_eq!(messages[0].0, "missing-split");
        assert_eq!(
            messages[0].1,
            "split val: its 1 file is not there (robot-val.tfrecord-00000-of-00001); 25 episodes are left out"
        );
        assert_eq!(messages[1].0, "unlisted-file");
        assert_eq!(layout.findings[1].subject, "a/1.0.0/other-train.tfrecord-00000-of-00001");
    }

    #[test]
    fn a_split_that_is_partly_there_is_an_error() {
        let error = info(Some(TWO_SPLITS))
            .expect("valid")
            .layout(&files(&["robot-train.tfrecord-00000-of-00002"]))
            .expect_err("incomplete");
        assert_eq!(
            error.to_string(),
            "dataset_info.json: 1 of the 2 files of split train are not there: robot-train.tfrecord-00001-of-00002"
        );
        let error = info(None)
            .expect("valid")
            .layout(&files(&["robot-train.tfrecord-00001-of-00003"]))
            .expect_err("incomplete");
        assert!(error.problem.contains("2 of the 3 files"), "{error}");
        assert!(error.problem.ends_with("robot-train.tfrecord-00000-of-00003"), "{error}");
    }

    #[test]
    fn without_dataset_info_the_names_tell_the_splits() {
        let names = ["robot-train.tfrecord-00000-of-00001", "plain.tfrecord", "README.md"];
        let layout = info(None).expect("valid").layout(&files(&names)).expect("complete");
        let splits: Vec<_> = layout.splits.iter().map(|s| (s.name.as_deref(), shards(s))).collect();
        assert_eq!(splits, [(None, vec![("plain.tfrecord", None)]), (Some("train"), vec![(names[0], None)])]);
    }

    #[test]
    fn other_templates_are_followed() {
        let json = r#"{"name": "r", "splits": [{"name": "train", "shardLengths": ["1"],
            "filepathTemplate": "{SPLIT}/part-{SHARD_INDEX}-{NUM_SHARDS}.{FILEFORMAT}%x"}]}"#;
        let file = InputFile { path: "d/train/part-00000-00001.tfrecord".into(), size: 1 };
        let layout = info(Some(json)).expect("valid").layout(std::slice::from_ref(&file)).expect("complete");
        assert_eq!(layout.splits[0].shards[0].file, file);
    }

    #[test]
    fn other_file_formats_are_refused_by_name() {
        for format in ["array_record", "riegeli"] {
            let json = format!(r#"{{"name": "r", "fileFormat": "{format}", "splits": []}}"#);
            let error = info(Some(&json)).expect_err("unsupported");
            assert!(error.problem.contains(format), "{error}");
        }
    }
}
