//! The first pass: every shard's episodes read, put on the grid and staged.
//!
//! For one shard three stages run at once, each waiting for the next through a channel of one batch:
//!
//! - *read* (a thread): consumes the shard's pieces, produces batches of episodes, waits for *resample*;
//! - *resample* (the caller, on all cores): consumes batches, produces rows, waits for *write*;
//! - *write* (a thread): consumes rows, produces the staged file.
//!
//! A batch ends at `--batch-size` episodes or [`BATCH_BYTES`], so memory is bounded by three batches and one episode
//! whatever the dataset's size. An episode that cannot be used is recorded with its reason; the others go on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use base::publish::{Completion, Ledger};
use base::shutdown::Shutdown;
use base::store::{Store, Upload};
use base::telemetry::Progress;
use serde::{Deserialize, Serialize};
use trajectory::read::ReadError;
use trajectory::write::{Format, Rate, ShardSummary, ShardWriter, WriteError};
use trajectory::{Finding, Frames, Trajectory};

use crate::align::align;
use crate::error::{Error, Result};
use crate::place::row_bytes;
use crate::plan::{Job, Plan, Shard};
use crate::source::{Input, SourceRead};

/// Payload after which a batch is full even if episodes are few.
const BATCH_BYTES: usize = 256 << 20;

/// What came of one shard: small enough for a marker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardOutcome {
    /// Where its rows and their summary are staged; `None` if there are no rows.
    pub(crate) staged: Option<Staged>,
    pub(crate) skipped: Vec<Skipped>,
    /// What was noticed, with the number of episodes it was noticed in.
    pub(crate) findings: Vec<(Finding, u64)>,
    pub(crate) sources: Vec<SourceRead>,
}

/// The files of one staged shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Staged {
    pub(crate) data: String,
    /// The shard's [`ShardSummary`] as JSON.
    pub(crate) summary: String,
}

/// An episode, or the rest of a recording, that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skipped {
    pub(crate) file: String,
    pub(crate) episode: Option<u64>,
    pub(crate) feature: Option<String>,
    pub(crate) sample: Option<u64>,
    pub(crate) byte: Option<u64>,
    pub(crate) reason: String,
}

impl From<&Skipped> for ReadError {
    fn from(skipped: &Skipped) -> Self {
        let mut error = Self::new(&skipped.file, &skipped.reason);
        error.place.episode = skipped.episode;
        error.place.feature.clone_from(&skipped.feature);
        error.place.index = skipped.sample;
        error.place.offset = skipped.byte;
        error
    }
}

impl From<ReadError> for Skipped {
    fn from(error: ReadError) -> Self {
        let place = *error.place;
        Self {
            file: place.file,
            episode: place.episode,
            feature: place.feature,
            sample: place.index,
            byte: place.offset,
            reason: error.problem,
        }
    }
}

/// What the first pass works with.
pub(crate) struct FirstPass<'a> {
    pub(crate) input: &'a Input,
    pub(crate) plan: &'a Plan,
    pub(crate) format: Format,
    pub(crate) rate: Rate,
    pub(crate) store: &'a dyn Store,
    pub(crate) ledger: &'a Ledger,
    pub(crate) progress: &'a Progress,
    pub(crate) shutdown: &'a Shutdown,
    pub(crate) batch_size: usize,
    /// Told of every episode left out, once.
    pub(crate) report: &'a (dyn Fn(&ReadError) + Sync),
}

type Batch = Vec<Result<Trajectory, ReadError>>;

/// One episode's rows (several entries where gaps cut it), or what is wrong with it.
type Rows = Vec<Result<Vec<Frames>, ReadError>>;

impl FirstPass<'_> {
    /// Does every shard that is not done yet and returns what came of all, in order.
    pub(crate) fn run(&self) -> Result<Vec<(ShardOutcome, ShardSummary)>> {
        let shards = self.plan.job.shards.iter().enumerate();
        shards.map(|(number, shard)| self.shard(&format!("shard-{number:05}"), shard)).collect()
    }

    fn shard(&self, task: &str, shard: &Shard) -> Result<(ShardOutcome, ShardSummary)> {
        if let Some(outcome) = self.ledger.outcome::<ShardOutcome>(task)? {
            let summary = self.summary(&outcome)?;
            self.progress.resumed(shard.bytes());
            for skipped in &outcome.skipped {
                (self.report)(&skipped.into());
            }
            return Ok((outcome, summary));
        }
        let key = self.ledger.staging_key(task);
        let (outcome, summary) = self.stage(shard, &key)?;
        match self.ledger.complete(task, outcome.clone())? {
            Completion::Won => Ok((outcome, summary)),
            Completion::Lost => {
                for key in outcome.staged.iter().flat_map(|staged| [&staged.data, &staged.summary]) {
                    self.store.delete(key)?;
                }
                let standing: Option<ShardOutcome> = self.ledger.outcome(task)?;
                let standing = standing.ok_or_else(|| {
                    Error::invalid(format!("{task} was done by another process and is gone again"))
                })?;
                let summary = self.summary(&standing)?;
                Ok((standing, summary))
            }
        }
    }

    fn summary(&self, outcome: &ShardOutcome) -> Result<ShardSummary> {
        let Some(staged) = &outcome.staged else {
            let images = vec![None; self.plan.job.schema.columns.len()];
            return Ok(ShardSummary { images, ..ShardSummary::default() });
        };
        let damaged = |problem: String| Error::invalid(format!("{}: {problem}", staged.summary));
        let bytes = self
            .store
            .get(&staged.summary)?
            .ok_or_else(|| damaged(
                "it is marked as done, but gone: files of a finished output were removed; remove the whole folder and run again"
                    .into(),
            ))?;
        serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))
    }

    /// Runs the three stages.
    fn stage(&self, shard: &Shard, key: &str) -> Result<(ShardOutcome, ShardSummary)> {
        let (to_resample, batches) = sync_channel::<Batch>(1);
        let (to_write, rows) = sync_channel::<Rows>(1);
        thread::scope(|scope| {
            let reading = scope.spawn(move || self.read(shard, &to_resample));
            let writing = scope.spawn(move || self.write(key, rows));
            let findings = self.resample(batches, &to_write);
            drop(to_write);
            let sources = reading.join().expect("the reading stage does not panic")?;
            let (staged, summary, skipped) = writing.join().expect("the writing stage does not panic")?;
            Ok((ShardOutcome { staged, skipped, findings, sources }, summary))
        })
    }

    fn read(&self, shard: &Shard, batches: &SyncSender<Batch>) -> Result<Vec<SourceRead>> {
        let open: RefCell<(Batch, usize)> = RefCell::default();
        let flush = || {
            let (batch, _) = open.take();
            // A closed channel means that a later stage failed, which reports for itself.
            batch.is_empty() || batches.send(batch).is_ok()
        };
        let mut sources = Vec::new();
        for piece in &shard.pieces {
            let mut alive = true;
            let read = self.input.read(
                piece.recording,
                piece.range(),
                &|bytes| {
                    self.progress.read(bytes);
                    if self.shutdown.requested().is_none() {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                },
                &mut |episode| {
                    let full = {
                        let (batch, bytes) = &mut *open.borrow_mut();
                        *bytes += episode.as_ref().map_or(0, |trajectory| self.weight(trajectory));
                        batch.push(episode.map(|trajectory| *trajectory));
                        batch.len() >= self.batch_size || *bytes >= BATCH_BYTES
                    };
                    alive = (!full || flush()) && self.shutdown.requested().is_none();
                    if alive { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                },
            )?;
            if let Some(exit) = self.shutdown.requested() {
                return Err(Error::Stopped(exit));
            }
            sources.extend(read);
            if !alive {
                break;
            }
        }
        flush();
        Ok(sources)
    }

    /// What an episode adds to a batch: its samples or its rows, whichever is more.
    fn weight(&self, trajectory: &Trajectory) -> usize {
        let recipe = &self.plan.job.recipe;
        let instants = || trajectory.streams.iter().filter(|s| !s.latched).flat_map(|s| &s.times_ns);
        let span =
            instants().max().zip(instants().min()).map_or(0, |(last, first)| last.saturating_sub(*first));
        let rate: resample::Rate = recipe.rate.parse().expect("a recipe's rate was a rate when it was made");
        let rows = rate.instants_within(span).saturating_mul(row_bytes(recipe));
        trajectory.byte_len().max(usize::try_from(rows).unwrap_or(usize::MAX).min(BATCH_BYTES))
    }

    fn resample(&self, batches: Receiver<Batch>, rows: &SyncSender<Rows>) -> Vec<(Finding, u64)> {
        let mut findings: BTreeMap<Finding, u64> = BTreeMap::new();
        for batch in batches {
            for finding in batch.iter().flatten().flat_map(|trajectory| &trajectory.findings) {
                *findings.entry(finding.clone()).or_default() += 1;
            }
            if rows.send(align_in_order(batch, &self.plan.job)).is_err() {
                break; // the writing stage failed, which reports for itself
            }
        }
        findings.into_iter().collect()
    }

    fn write(&self, key: &str, rows: Receiver<Rows>) -> Result<(Option<Staged>, ShardSummary, Vec<Skipped>)> {
        let staged = Staged { data: format!("{key}.parquet"), summary: format!("{key}.json") };
        let sink = Sink(self.store.create(&staged.data)?);
        let mut writer = ShardWriter::new(self.format, &self.plan.job.schema, self.rate, sink)?;
        let mut skipped = Vec::new();
        for episode in rows.into_iter().flatten() {
            let appended = episode.map(|pieces| self.append(&mut writer, &pieces));
            match appended {
                Ok(Ok(())) => {}
                Ok(Err(AppendError::Write(error))) => return Err(error.into()),
                Ok(Err(AppendError::Episode(error))) | Err(error) => {
                    (self.report)(&error);
                    skipped.push(error.into());
                }
            }
        }
        let (sink, summary) = writer.finish()?;
        if summary.rows == 0 {
            return Ok((None, summary, skipped));
        }
        sink.0.finish()?;
        let bytes = serde_json::to_vec(&summary).expect("a summary has string keys");
        self.store.put(&staged.summary, &bytes)?;
        Ok((Some(staged), summary, skipped))
    }

    fn append(&self, writer: &mut ShardWriter<Sink>, pieces: &[Frames]) -> Result<(), AppendError> {
        let Some(first) = pieces.first() else { return Ok(()) };
        match writer.append_pieces(pieces) {
            Ok(()) => {
                self.progress.done(pieces.iter().map(|frames| frames.rows() as u64).sum());
                Ok(())
            }
            Err(error @ (WriteError::Episode { .. } | WriteError::Image { .. })) => {
                let text = error.to_string();
                let problem = text.strip_prefix(&first.origin.to_string()).unwrap_or(&text);
                let problem = problem.trim_start_matches([',', ':', ' ']);
                Err(AppendError::Episode(ReadError::in_episode(&first.origin, problem)))
            }
            Err(error) => Err(AppendError::Write(error)),
        }
    }
}

enum AppendError {
    /// Only this episode is lost.
    Episode(ReadError),
    /// The file is.
    Write(WriteError),
}

/// Resamples the good episodes of a batch and puts the bad ones back in their places.
fn align_in_order(batch: Batch, job: &Job) -> Rows {
    let mut bad: BTreeMap<usize, ReadError> = BTreeMap::new();
    let total = batch.len();
    let good =
        batch.into_iter().enumerate().filter_map(|(i, episode)| episode.map_err(|e| bad.insert(i, e)).ok());
    let mut aligned = align(good.collect(), &job.recipe, job.reading.max_episode_bytes).into_iter();
    (0..total)
        .map(|i| match bad.remove(&i) {
            Some(error) => Err(error),
            None => aligned.next().expect("every good episode has a result"),
        })
        .collect()
}

/// An upload as a sink for a writer.
pub(crate) struct Sink(pub(crate) Box<dyn Upload>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A stored file for a reader of Parquet.
pub(crate) fn stored_file(store: &Arc<dyn Store>, key: &str) -> Result<trajectory::write::RangeFile> {
    let (store, key) = (Arc::clone(store), key.to_string());
    let size = store.head(&key)?.size;
    Ok(trajectory::write::RangeFile::new(size, move |range| {
        store.read(&key, range).map_err(io::Error::other)
    }))
}
