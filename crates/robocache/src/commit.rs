//! The second pass and the commit: staged rows get their final indices, and the dataset appears.
//!
//! `episode_index`, `index` and `task_index` count over all shards, so they are only known when the last one is staged. Then
//! every shard's file is written to its final place, which any worker may do and which gives the same bytes each time; then
//! the metadata; and `meta/info.json` last, created only if absent. A loader that finds it finds everything.

use std::io::{self, Write};
use std::sync::Arc;

use base::publish::Ledger;
use base::shutdown::Shutdown;
use base::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trajectory::Finding;
use trajectory::write::{
    ColumnRanges, Dataset, Format, Histograms, Rate, ShardOffsets, ShardSummary, data_path, metadata, rewrite,
};

use crate::error::{Error, Result};
use crate::pipeline::{ShardOutcome, Sink, Skipped, stored_file};
use crate::plan::Plan;
use crate::recipe::Recipe;
use crate::source::{SourceRead, hex};

/// The last file of a dataset: where it is, the dataset is whole.
pub(crate) const COMMIT: &str = "meta/info.json";

/// What was made of what.
pub(crate) const MANIFEST: &str = "meta/robocache.json";

/// Working files: the plan, the done markers, what is staged.
pub(crate) const WORK: &str = "_robocache";

/// Unfinished uploads.
pub(crate) const SCRATCH: &str = "_robocache/tmp";

/// Where every row came from, how it was made, what was left out, and what the files must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Version of this file's layout.
    pub(crate) version: u32,
    /// Program and version.
    pub(crate) tool: String,
    pub(crate) format: String,
    pub(crate) episodes: u64,
    pub(crate) rows: u64,
    /// Of those, the rows in gaps, which statistics leave out.
    pub(crate) masked_rows: u64,
    /// Inputs as they were given.
    pub(crate) sources: Vec<String>,
    pub(crate) inputs: Vec<SourceRead>,
    pub(crate) recipe: Recipe,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) findings: Vec<CountedFinding>,
    /// Every published file but this one.
    pub(crate) files: Vec<PublishedFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountedFinding {
    /// In how many episodes; 0 for what concerns the input as a whole.
    pub(crate) episodes: u64,
    pub(crate) finding: Finding,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishedFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// What came of one shard's second pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finalised {
    file: PublishedFile,
    histograms: Histograms,
}

/// What the second pass works with.
pub(crate) struct Commit<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) format: Format,
    pub(crate) rate: Rate,
    pub(crate) store: &'a Arc<dyn Store>,
    pub(crate) ledger: &'a Ledger,
    pub(crate) shutdown: &'a Shutdown,
}

impl Commit<'_> {
    /// Publishes the dataset of `outcomes`, all of the plan's shards in order.
    pub(crate) fn run(&self, shards: Vec<(ShardOutcome, ShardSummary)>) -> Result<Manifest> {
        let (outcomes, summaries): (Vec<ShardOutcome>, Vec<ShardSummary>) = shards.into_iter().unzip();
        let schema = &self.plan.job.schema;
        let robot_type = self.plan.job.recipe.robot_type.as_deref();
        let dataset = Dataset::new(self.format, schema, self.rate, robot_type, &summaries)?;
        if dataset.episodes() == 0 {
            return Err(Error::invalid(
                "no episode could be used, so there is nothing to publish; the reasons are above",
            ));
        }
        let ranges = ColumnRanges::new(schema, &summaries)?;
        let mut histograms = Histograms::new(&ranges);
        let mut files = Vec::new();
        for (number, (outcome, offsets)) in outcomes.iter().zip(dataset.offsets()).enumerate() {
            if let Some(exit) = self.shutdown.requested() {
                return Err(Error::Stopped(exit));
            }
            if let (Some(staged), Some(file)) = (&outcome.staged, offsets.file) {
                let done = self.finalise(number, &staged.data, &data_path(file), offsets, &ranges)?;
                histograms.merge(&done.histograms)?;
                files.push(done.file);
            }
        }
        let meta = metadata(&dataset, &histograms)?;
        let (info, others) = meta.split_last().expect("every format has an info file");
        for (path, bytes) in others {
            self.store.put(path, bytes)?;
        }
        files.extend(meta.iter().map(|(path, bytes)| PublishedFile {
            path: path.clone(),
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(bytes)),
        }));
        let masked_rows = summaries.iter().flat_map(|s| &s.episodes).map(|episode| episode.masked_rows).sum();
        let manifest = self.manifest(&outcomes, &dataset, masked_rows, files);
        self.store.put(MANIFEST, &pretty(&manifest))?;
        self.store.put_if_absent(COMMIT, &info.1)?;
        self.clean()?;
        Ok(manifest)
    }

    fn finalise(
        &self,
        number: usize,
        staged: &str,
        path: &str,
        offsets: &ShardOffsets,
        ranges: &ColumnRanges,
    ) -> Result<Finalised> {
        let task = format!("final-{number:05}");
        if let Some(done) = self.ledger.outcome::<Finalised>(&task)?
            && self.is_there(&done.file)?
        {
            return Ok(done);
        }
        let mut sink = Hashed { sink: Sink(self.store.create(path)?), bytes: 0, hash: Sha256::new() };
        let staged = stored_file(self.store, staged)?;
        let histograms = rewrite(self.format, staged, &self.plan.job.schema, offsets, ranges, &mut sink)?;
        let Hashed { sink, bytes, hash } = sink;
        sink.0.finish()?;
        let file = PublishedFile { path: path.into(), bytes, sha256: hex(&hash.finalize()) };
        let done = Finalised { file, histograms };
        // Won or lost, whoever else did this wrote the same bytes to the same place.
        self.ledger.complete(&task, done.clone())?;
        Ok(done)
    }

    /// Whether a published file is where its marker says. Someone may have deleted it since; then it is made again.
    fn is_there(&self, file: &PublishedFile) -> Result<bool> {
        match self.store.head(&file.path) {
            Ok(object) => Ok(object.size == file.bytes),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    fn manifest(
        &self,
        outcomes: &[ShardOutcome],
        dataset: &Dataset<'_>,
        masked_rows: u64,
        mut files: Vec<PublishedFile>,
    ) -> Manifest {
        let mut findings: Vec<CountedFinding> =
            self.plan.findings.iter().map(|f| CountedFinding { episodes: 0, finding: f.clone() }).collect();
        for (finding, episodes) in outcomes.iter().flat_map(|outcome| &outcome.findings) {
            match findings.iter_mut().find(|known| known.finding == *finding) {
                Some(known) => known.episodes += episodes,
                None => findings.push(CountedFinding { episodes: *episodes, finding: finding.clone() }),
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Manifest {
            version: 1,
            tool: format!("robocache {}", env!("CARGO_PKG_VERSION")),
            format: self.plan.job.format.clone(),
            episodes: dataset.episodes(),
            rows: dataset.rows(),
            masked_rows,
            sources: self.plan.sources.clone(),
            inputs: outcomes.iter().flat_map(|outcome| outcome.sources.clone()).collect(),
            recipe: self.plan.job.recipe.clone(),
            skipped: outcomes.iter().flat_map(|outcome| outcome.skipped.clone()).collect(),
            findings,
            files,
        }
    }

    /// Removes what only unfinished work needs. The plan and the markers stay: they tell a latecomer that all is done.
    pub(crate) fn clean(&self) -> Result<()> {
        for object in self.store.list(&format!("{WORK}/staged/"))? {
            self.store.delete(&object.key)?;
        }
        for object in self.store.list(&format!("{WORK}/probe/"))? {
            self.store.delete(&object.key)?;
        }
        Ok(self.store.sweep()?)
    }
}

/// JSON for people, ending in a newline.
pub(crate) fn pretty<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("these types have string keys");
    bytes.push(b'\n');
    bytes
}

/// A sink that hashes what goes through it.
struct Hashed {
    sink: Sink,
    bytes: u64,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.bytes += written as u64;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
