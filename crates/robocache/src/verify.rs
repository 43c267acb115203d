//! `verify`: an output re-read and held against its manifest.
//!
//! Every published file has the bytes the manifest says; there is no other data file, since loaders read whatever lies there;
//! and every row has its place: indices without holes, episodes without holes, timestamps on the grid.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::exit::Exit;
use base::store::{self, Object, Store, StoreError};
use base::telemetry::Progress;
use resample::Rate;
use serde::Serialize;
use sha2::{Digest, Sha256};
use trajectory::write::{Format, RowPlaces, read_places};

use crate::commit::{COMMIT, MANIFEST, Manifest, PublishedFile, SCRATCH, WORK};
use crate::config::VerifyArgs;
use crate::error::{Error, Result};
use crate::pipeline::stored_file;
use crate::source::hex;
use crate::units::ByteSize;

const BLOCK_BYTES: u64 = 8 << 20;

/// Everything `verify --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    episodes: u64,
    rows: u64,
    files: usize,
    bytes: u64,
    skipped: usize,
    problems: Vec<String>,
}

/// Runs the command: exit 0 if all is as the manifest says, else 2.
pub(crate) fn verify(args: &VerifyArgs) -> Result<Exit> {
    let store = store::open(&args.path, SCRATCH)?;
    let report = check(&store)?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&report).expect("a report has string keys"));
    } else {
        for problem in &report.problems {
            out!("problem: {problem}");
        }
        let verdict = if report.ok { "verified" } else { "NOT as published" };
        let bytes = ByteSize { bytes: report.bytes };
        out!(
            "{verdict}: {} episodes, {} rows, {} files, {bytes}; {} left out when it was made",
            report.episodes,
            report.rows,
            report.files,
            report.skipped
        );
    }
    Ok(if report.ok { Exit::Done } else { Exit::Invalid })
}

fn check(store: &Arc<dyn Store>) -> Result<Report> {
    let location = store.location();
    let manifest = store.get(MANIFEST)?;
    let manifest = match (manifest, store.get(COMMIT)?) {
        (Some(manifest), Some(_)) => manifest,
        (None, Some(_)) => {
            let problem = format!(
                "{location}: {MANIFEST} is missing: the output is damaged; remove it and make it anew"
            );
            return Err(Error::invalid(problem));
        }
        (_, None) if !store.list(&format!("{WORK}/"))?.is_empty() => {
            return Err(Error::invalid(format!(
                "{location} is not a finished output: {COMMIT} is missing; run the same preprocess command again to finish it"
            )));
        }
        (_, None) => return Err(Error::invalid(format!("{location}: there is no output of this program"))),
    };
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|e| Error::invalid(format!("{MANIFEST} cannot be read: {e}")))?;
    let format: Format = manifest.format.parse().map_err(Error::Invalid)?;
    let rate: Rate = manifest.recipe.rate.parse().map_err(|e| Error::invalid(format!("{MANIFEST}: {e}")))?;
    let progress = Progress::new("files", manifest.files.iter().map(|file| file.bytes).sum());
    let mut problems = unexpected_files(&**store, &manifest)?;
    let mut rows = Rows { format, rate, next: 0, episode: -1, frame: 0 };
    for file in &manifest.files {
        let intact = check_file(&**store, file, &progress)?;
        problems.extend(intact.clone());
        if intact.is_none() && file.path.starts_with("data/") {
            match read_places(format, stored_file(store, &file.path)?) {
                Ok(places) => {
                    problems.extend(rows.check(&places).map(|problem| format!("{}: {problem}", file.path)))
                }
                Err(error) => problems.push(format!("{}: {error}", file.path)),
            }
        }
        progress.done(0);
    }
    let _ = progress.finish();
    if problems.is_empty()
        && (rows.next, rows.episode + 1) != (manifest.rows as i64, manifest.episodes as i64)
    {
        problems.push(format!(
            "the data hold {} rows of {} episodes, the manifest says {} of {}",
            rows.next,
            rows.episode + 1,
            manifest.rows,
            manifest.episodes
        ));
    }
    Ok(Report {
        ok: problems.is_empty(),
        episodes: manifest.episodes,
        rows: manifest.rows,
        files: manifest.files.len(),
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        skipped: manifest.skipped.len(),
        problems,
    })
}

fn unexpected_files(store: &dyn Store, manifest: &Manifest) -> Result<Vec<String>> {
    let known: BTreeSet<&str> =
        manifest.files.iter().map(|file| file.path.as_str()).chain([MANIFEST]).collect();
    let mut problems = Vec::new();
    for prefix in ["data/", "meta/", "videos/"] {
        let unknown = store.list(prefix)?.into_iter().filter(|object| !known.contains(object.key.as_str()));
        problems.extend(
            unknown.map(|Object { key, .. }| format!("{key}: not in the manifest; loaders would read it")),
        );
    }
    Ok(problems)
}

/// What is wrong with a file's bytes, if anything.
fn check_file(store: &dyn Store, file: &PublishedFile, progress: &Progress) -> Result<Option<String>> {
    let size = match store.head(&file.path) {
        Ok(object) => object.size,
        Err(StoreError::NotFound { .. }) => return Ok(Some(format!("{}: missing", file.path))),
        Err(other) => return Err(other.into()),
    };
    if size != file.bytes {
        return Ok(Some(format!("{}: {size} bytes, the manifest says {}", file.path, file.bytes)));
    }
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < size {
        let end = size.min(at + BLOCK_BYTES);
        hash.update(store.read(&file.path, at..end)?);
        progress.read(end - at);
        at = end;
    }
    let same = hex(&hash.finalize()) == file.sha256;
    Ok((!same).then(|| format!("{}: its content is not what was published", file.path)))
}

/// Where the next row belongs, over all files in order.
struct Rows {
    format: Format,
    rate: Rate,
    next: i64,
    episode: i64,
    frame: i64,
}

impl Rows {
    /// The first row of a file that is out of place.
    fn check(&mut self, places: &RowPlaces) -> Option<String> {
        for row in 0..places.episode_index.len() {
            if places.episode_index[row] == self.episode {
                self.frame += 1;
            } else {
                self.episode += 1;
                self.frame = 0;
            }
            let expected = (self.episode, self.frame);
            let found = (places.episode_index[row], places.frame_index[row]);
            if found != expected {
                return Some(format!(
                    "row {row} is frame {1} of episode {0}, expected frame {3} of episode {2}",
                    found.0, found.1, expected.0, expected.1
                ));
            }
            let index = places.index.get(row).copied().unwrap_or(self.next);
            if index != self.next {
                return Some(format!("row {row} has index {index}, expected {}", self.next));
            }
            if let Some(problem) = self.time(places, row) {
                return Some(format!("row {row}: {problem}"));
            }
            self.next += 1;
        }
        None
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "as the format stores it"
    )]
    fn time(&self, places: &RowPlaces, row: usize) -> Option<String> {
        match self.format {
            Format::LeRobot => {
                let (found, expected) =
                    (places.timestamp[row], (self.frame as f64 / self.rate.as_f64()) as f32);
                (found != expected).then(|| format!("timestamp {found}, expected {expected}"))
            }
            Format::Parquet => {
                let expected = self.rate.instant_ns(self.frame.unsigned_abs()).unwrap_or(i64::MAX);
                let found = places.timestamp_ns[row];
                // An episode cut at a gap starts on an instant of the whole one's grid, which was itself rounded.
                (found.abs_diff(expected) > 1).then(|| format!("timestamp_ns {found}, expected {expected}"))
            }
        }
    }
}
