//! The plan: what will be read, in which order, by which recipe, into which shards.
//!
//! Everything that determines the bytes of the output is in [`Job`], and nothing else is: no batch size, no thread count, no
//! number of workers. Two runs with equal jobs may share one output folder; a run that finds another job there stops.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trajectory::read::ReadError;
use trajectory::{Column, Dtype, Finding, Schema, Trajectory, image};

use crate::error::{Error, Result};
use crate::recipe::{self, Recipe, Wishes};
use crate::settings::Settings;
use crate::source::{Format as SourceFormat, Input, hex};

/// Changes when the same job would give other bytes.
const ALGORITHM: u32 = 1;

/// Most episodes in one shard, whatever their size.
const SHARD_EPISODES: u64 = 1000;

/// What all workers of an output agree on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// SHA-256 of the job.
    pub(crate) fingerprint: String,
    /// The inputs as the first worker was given them.
    pub(crate) sources: Vec<String>,
    /// What was noticed about the input as a whole.
    pub(crate) findings: Vec<Finding>,
    pub(crate) job: Job,
}

/// Everything that determines the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    pub(crate) algorithm: u32,
    pub(crate) device: String,
    pub(crate) format: String,
    pub(crate) inputs: Vec<PlannedFile>,
    pub(crate) recordings: Vec<PlannedRecording>,
    pub(crate) reading: Reading,
    pub(crate) recipe: Recipe,
    pub(crate) schema: Schema,
    pub(crate) shards: Vec<Shard>,
}

/// How the input is understood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reading {
    pub(crate) episodes_from: String,
    pub(crate) clock_offsets_ns: BTreeMap<String, i64>,
    pub(crate) clocks: BTreeMap<String, trajectory::Clock>,
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) max_episode_bytes: u64,
}

/// One recording, in the order they are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlannedRecording {
    pub(crate) name: String,
    pub(crate) split: Option<String>,
    /// The nominal rate in hertz, where no instants were recorded.
    pub(crate) rate: Option<String>,
}

/// One input file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlannedFile {
    pub(crate) root: usize,
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
}

/// What one worker does at a time, and one output file at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shard {
    pub(crate) pieces: Vec<Piece>,
}

/// A recording, or some of its episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Piece {
    /// Index into the input's recordings.
    pub(crate) recording: usize,
    pub(crate) name: String,
    /// `[first, end)`; all if `None`.
    pub(crate) episodes: Option<(u64, u64)>,
    pub(crate) bytes: u64,
}

impl Piece {
    pub(crate) fn range(&self) -> Option<Range<u64>> {
        self.episodes.map(|(first, end)| first..end)
    }
}

impl Shard {
    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }
}

impl Plan {
    /// Plans the work: lists the input and reads one episode to learn the schema.
    pub(crate) fn make(input: &Input, settings: &Settings) -> Result<Self> {
        let shards = shards(input, settings)?;
        let (recipe, schema, mut notes) = learn(input, &shards, &settings.wishes)?;
        let mut findings = input.findings.clone();
        findings.append(&mut notes);
        findings.sort();
        findings.dedup();
        let files = input.recordings.iter().flat_map(|r| r.files.iter().map(|file| (r.root, file)));
        let files = files.chain(input.companions.iter().map(|(root, file)| (*root, file)));
        let inputs = files.map(|(root, file)| PlannedFile {
            root,
            path: file.key.clone(),
            size: file.size,
            etag: file.etag.clone(),
        });
        let recordings = input.recordings.iter().map(|recording| PlannedRecording {
            name: recording.name.clone(),
            split: recording.split(),
            rate: match &recording.format {
                SourceFormat::Bag => None,
                SourceFormat::Rlds { rate, .. } => Some(rate.to_string()),
            },
        });
        let filter = &settings.wishes.filter;
        let job = Job {
            algorithm: ALGORITHM,
            device: "cpu".into(),
            format: settings.wishes.format.to_string(),
            inputs: inputs.collect(),
            recordings: recordings.collect(),
            reading: Reading {
                episodes_from: settings.read.bag.episodes.to_string(),
                clock_offsets_ns: settings.read.bag.clock_offsets_ns.clone(),
                clocks: settings.read.bag.clocks.clone(),
                include: filter.include.clone(),
                exclude: filter.exclude.clone(),
                max_episode_bytes: settings.read.limits.episode_bytes,
            },
            recipe,
            schema,
            shards,
        };
        let bytes = serde_json::to_vec(&job).expect("a job has string keys");
        Ok(Self {
            fingerprint: hex(&Sha256::digest(&bytes)),
            sources: settings.inputs.clone(),
            findings,
            job,
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.job.shards.iter().map(Shard::bytes).sum()
    }

    /// What makes `self`, the plan of this run, another job than `standing`, the one the output folder was begun with.
    pub(crate) fn difference(&self, standing: &Self) -> Option<String> {
        let (new, old) = (&self.job, &standing.job);
        if new == old {
            return None;
        }
        let file = |f: &PlannedFile| (f.root, f.path.clone());
        let olds: BTreeMap<_, _> = old.inputs.iter().map(|f| (file(f), f)).collect();
        let news: BTreeMap<_, _> = new.inputs.iter().map(|f| (file(f), f)).collect();
        if let Some((_, path)) = olds.keys().find(|key| !news.contains_key(key)) {
            return Some(format!("the input lacks {path}, which was there when the work began"));
        }
        for (key, now) in &news {
            match olds.get(key) {
                None => {
                    return Some(format!(
                        "the input has {}, which was not there when the work began",
                        now.path
                    ));
                }
                Some(then) if then.size != now.size => {
                    let (path, then, now) = (&now.path, then.size, now.size);
                    return Some(format!("{path} changed since the work began ({then} to {now} bytes)"));
                }
                Some(then) if then != now => {
                    let path = &now.path;
                    return Some(format!(
                        "{path} changed since the work began: it was written anew (`cp -p` keeps the time)"
                    ));
                }
                Some(_) => {}
            }
        }
        let settings = [
            ("--format", new.format != old.format),
            ("--target-frequency", new.recipe.rate != old.recipe.rate),
            ("--on-gap", new.recipe.on_gap != old.recipe.on_gap),
            ("the task", new.recipe.task != old.recipe.task),
            ("robot_type", new.recipe.robot_type != old.recipe.robot_type),
            ("the columns or their policies", new.recipe.columns != old.recipe.columns),
            ("--max-gap, --edge or a [stream] table", new.recipe.streams != old.recipe.streams),
            ("how the input is read", new.reading != old.reading || new.recordings != old.recordings),
            ("--shard-size or --episodes", new.shards != old.shards),
            ("this program's version", new.algorithm != old.algorithm),
        ];
        let differs = settings.iter().find(|(_, differs)| *differs).map_or("the plan", |(what, _)| what);
        Some(format!("{differs} differs from what the folder was begun with"))
    }
}

/// Cuts the input into shards of about the size asked for, recordings in order.
fn shards(input: &Input, settings: &Settings) -> Result<Vec<Shard>> {
    let mut shards: Vec<Shard> = Vec::new();
    let mut open: (u64, u64) = (0, 0); // bytes and episodes of the last shard, which may still grow
    for piece in pieces(input, settings)? {
        let episodes = piece.episodes.map_or(1, |(first, end)| end - first);
        let fits = open.0 + piece.bytes <= settings.shard_bytes && open.1 + episodes <= SHARD_EPISODES;
        match shards.last_mut() {
            Some(shard) if fits => shard.pieces.push(piece.clone()),
            _ => {
                open = (0, 0);
                shards.push(Shard { pieces: vec![piece.clone()] });
            }
        }
        open = (open.0 + piece.bytes, open.1 + episodes);
    }
    if shards.is_empty() {
        return Err(Error::invalid(
            "there is no episode to process: the input is empty or --episodes names none of it",
        ));
    }
    Ok(shards)
}

/// Recordings in order, each whole or cut by episodes where it is larger than a shard and its episodes are counted.
fn pieces(input: &Input, settings: &Settings) -> Result<Vec<Piece>> {
    let mut out = Vec::new();
    let mut first_ordinal = 0;
    for (recording, described) in input.recordings.iter().enumerate() {
        let whole = |episodes: Option<(u64, u64)>, bytes: u64| Piece {
            recording,
            name: described.name.clone(),
            episodes,
            bytes,
        };
        let count = match &described.format {
            SourceFormat::Rlds { episodes, .. } => *episodes,
            SourceFormat::Bag if settings.read.bag.episodes == trajectory::read::bag::EpisodesFrom::File => {
                Some(1)
            }
            SourceFormat::Bag => None,
        };
        let Some(count) = count else {
            if settings.episodes.is_some() {
                return Err(Error::invalid(format!(
                    "--episodes counts over the whole input, but how many {} holds is only known once it is read",
                    described.name
                )));
            }
            out.push(whole(None, described.bytes()));
            continue;
        };
        // The smallest record is a frame of 16 bytes: a larger count is damage, not data.
        if count > described.bytes() / 16 + 1 {
            let problem = format!(
                "dataset_info.json announces {count} episodes, more than its {} bytes can hold",
                described.bytes()
            );
            return Err(ReadError::new(&described.name, problem).into());
        }
        if count == 0 {
            // The reader says what it thinks of a file that should be empty.
            out.push(whole(None, described.bytes()));
            continue;
        }
        let per_episode = (described.bytes() / count.max(1)).max(1);
        let most = (settings.shard_bytes / per_episode).clamp(1, SHARD_EPISODES);
        for (from, to) in selected(settings.episodes.as_deref(), first_ordinal, count) {
            let mut from = from;
            while from < to {
                let end = to.min(from + most);
                let all = matches!(described.format, SourceFormat::Bag) || (from, end) == (0, count);
                let bytes = if all { described.bytes() } else { per_episode * (end - from) };
                out.push(whole((!all).then_some((from, end)), bytes));
                from = end;
            }
        }
        first_ordinal += count;
    }
    Ok(out)
}

/// The runs `[from, to)` of a recording's `count` episodes, the first of which is number `first`, that a selection holds.
fn selected(selection: Option<&[(u64, u64)]>, first: u64, count: u64) -> Vec<(u64, u64)> {
    let Some(selection) = selection else { return vec![(0, count)] };
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &(from, to) in selection {
        let from = from.max(first).saturating_sub(first);
        let to = (to.saturating_add(1)).saturating_sub(first).min(count);
        match runs.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ if from < to => runs.push((from, to)),
            _ => {}
        }
    }
    runs
}

/// The recipe and schema that the first usable episode gives.
fn learn(input: &Input, shards: &[Shard], wishes: &Wishes) -> Result<(Recipe, Schema, Vec<Finding>)> {
    let mut first_error: Option<ReadError> = None;
    for piece in shards.iter().flat_map(|shard| &shard.pieces) {
        let mut learned = None;
        let go_on = &|_| ControlFlow::Continue(());
        input.read(piece.recording, piece.range(), go_on, &mut |episode| {
            match episode.map_err(Error::Read).and_then(|sample| learn_from(&sample, wishes)) {
                // A bad episode is not the job's fault; the next one may be good.
                Err(Error::Read(error)) => {
                    first_error.get_or_insert(error);
                    ControlFlow::Continue(())
                }
                result => {
                    learned = Some(result);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(learned) = learned {
            return learned;
        }
    }
    Err(first_error.map_or_else(|| Error::invalid("the input holds no episode"), Error::Read))
}

fn learn_from(sample: &Trajectory, wishes: &Wishes) -> Result<(Recipe, Schema, Vec<Finding>)> {
    let (recipe, findings) = recipe::make(sample, wishes)?;
    let schema = recipe.schema(&image_shapes(sample, &recipe)?);
    Ok((recipe, schema, findings))
}

/// Height, width and channels of every image column, from the sample's first image.
fn image_shapes(sample: &Trajectory, recipe: &Recipe) -> Result<BTreeMap<String, Vec<usize>>> {
    let mut shapes = BTreeMap::new();
    for column in recipe.columns.iter().filter(|column| column.dtype == Dtype::Image) {
        let name = &column.parts[0].feature;
        let Some((_, feature)) = sample.feature(name) else { continue };
        let Column::Bytes(blobs) = &feature.column else { continue };
        let problem = |text: String| ReadError::in_episode(&sample.origin, text).feature(name).index(0);
        let first = blobs.iter().next().ok_or_else(|| problem("there is no image".into()))?;
        let header = image::header(first).map_err(|e| problem(e.to_string()))?;
        shapes.insert(column.name.clone(), vec![header.height, header.width, header.channels]);
    }
    Ok(shapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_counted_over_all_recordings() {
        let selection = [(0, 2), (4, 9)];
        assert_eq!(selected(Some(&selection), 0, 5), [(0, 3), (4, 5)]);
        assert_eq!(selected(Some(&selection), 5, 3), [(0, 3)]);
        assert_eq!(selected(Some(&selection), 8, 5), [(0, 2)]);
        assert_eq!(selected(Some(&selection), 10, 5), []);
        assert_eq!(selected(None, 10, 5), [(0, 5)]);
        assert_eq!(selected(Some(&[(0, 3), (2, 4)]), 0, 9), [(0, 5)]);
    }
}
