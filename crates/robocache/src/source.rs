//! The input: which recordings a folder holds, and their episodes.
//!
//! A format is recognised by what is in the folder, never by a flag: `features.json` makes a folder an RLDS dataset,
//! `metadata.yaml` a rosbag2 recording, and an `.mcap` file outside of both is a recording of its own. Whatever else lies
//! there is reported, not skipped in silence. Readers ask for bytes; here they get them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use base::store::{self, Object, Store};
use resample::Rate;
use sha2::{Digest, Sha256};
use trajectory::read::bag::{BagOptions, BagReader, bag_files};
use trajectory::read::rlds::{Instants, RldsInfo, RldsReader};
use trajectory::read::{InputFile, Limits, ReadError, Reader, Step, oxe};
use trajectory::{Finding, Trajectory};

use crate::error::{Error, Result};

/// Files that belong to a dataset without holding episodes.
const COMPANIONS: [&str; 8] = [
    "features.json",
    "dataset_info.json",
    "metadata.yaml",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    ".gitattributes",
    ".gitignore",
];

/// How recordings are understood.
#[derive(Debug, Clone)]
pub(crate) struct ReadOptions {
    pub(crate) bag: BagOptions,
    pub(crate) source_rate: Option<Rate>,
    pub(crate) limits: Limits,
}

/// Everything there is to read, in a fixed order.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) roots: Vec<Arc<dyn Store>>,
    /// Ordered by split, then as found.
    pub(crate) recordings: Vec<Recording>,
    pub(crate) findings: Vec<Finding>,
    /// Files that say what the recordings are, with the root of each.
    pub(crate) companions: Vec<(usize, Object)>,
    options: ReadOptions,
}

/// One bag, or one file of an RLDS split.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) root: usize,
    /// File or folder, relative to the root; behind the root's own name where there are several.
    pub(crate) name: String,
    pub(crate) files: Vec<Object>,
    pub(crate) format: Format,
}

#[derive(Debug)]
pub(crate) enum Format {
    Bag,
    Rlds {
        info: Arc<RldsInfo>,
        split: Option<String>,
        rate: Rate,
        /// How many, where the dataset says.
        episodes: Option<u64>,
    },
}

/// What was read of one file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceRead {
    /// Index of the input root.
    pub(crate) root: usize,
    pub(crate) path: String,
    /// The episodes of the file that were asked for, if not all.
    pub(crate) episodes: Option<(u64, u64)>,
    pub(crate) bytes: u64,
    /// SHA-256 of the bytes read, in order: the file's own where all of it was.
    pub(crate) sha256: String,
}

impl Recording {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub(crate) fn format_name(&self) -> &'static str {
        match self.format {
            Format::Bag => "bag (MCAP)",
            Format::Rlds { .. } => "RLDS",
        }
    }
}

impl Input {
    /// Finds every recording below `locations`.
    pub(crate) fn open(locations: &[String], options: ReadOptions) -> Result<Self> {
        let mut input = Self {
            roots: Vec::new(),
            recordings: Vec::new(),
            findings: Vec::new(),
            companions: Vec::new(),
            options,
        };
        for location in locations {
            input.add(location)?;
        }
        if input.roots.len() > 1 {
            for recording in &mut input.recordings {
                recording.name = format!("{}/{}", label(&input.roots, recording.root), recording.name);
            }
        }
        // What belongs to no split is training data, as the writers take it to be.
        let split = |recording: &Recording| recording.split().unwrap_or_else(|| "train".into());
        let mut splits: Vec<String> = Vec::new();
        for recording in &input.recordings {
            if !splits.contains(&split(recording)) {
                splits.push(split(recording));
            }
        }
        input.recordings.sort_by_key(|recording| splits.iter().position(|s| *s == split(recording)));
        Ok(input)
    }

    fn add(&mut self, location: &str) -> Result<()> {
        let (store, objects) = open_root(location)?;
        let root = self.roots.len();
        self.roots.push(Arc::clone(&store));
        let before = self.recordings.len();
        let mut folders: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for object in &objects {
            folders.entry(folder_of(&object.key)).or_default().push(object);
        }
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for (folder, files) in &folders {
            let has = |name: &str| files.iter().any(|f| file_name(&f.key) == name);
            if has("features.json") {
                used.extend(files.iter().map(|f| f.key.as_str()));
                self.add_rlds(root, folder, files)?;
            } else if has("metadata.yaml") {
                self.add_bag(root, folder, &objects, &mut used)?;
            }
        }
        for object in objects.iter().filter(|o| o.key.ends_with(".mcap") && !used.contains(o.key.as_str())) {
            self.recordings.push(Recording {
                root,
                name: object.key.clone(),
                files: vec![object.clone()],
                format: Format::Bag,
            });
        }
        let unread = objects.iter().filter(|o| !o.key.ends_with(".mcap") && !used.contains(o.key.as_str()));
        self.report_unread(unread.filter(|o| !COMPANIONS.contains(&file_name(&o.key))).collect());
        if self.recordings.len() == before {
            if let Some(finding) = self
                .findings
                .iter()
                .find(|f| ["unread-recording", "missing-split"].contains(&f.code.as_str()))
            {
                return Err(Error::invalid(format!(
                    "{location}: no recordings found; {}: {}",
                    finding.subject, finding.message
                )));
            }
            return Err(Error::invalid(format!(
                "{location}: no recordings found {}; this version reads MCAP and rosbag2 (.mcap) \
                and RLDS/TFDS (features.json with .tfrecord files)",
                describe_files(&objects)
            )));
        }
        Ok(())
    }

    fn add_rlds(&mut self, root: usize, folder: &str, files: &[&Object]) -> Result<()> {
        let store = &self.roots[root];
        let get = |name: &str| store.get(&join(folder, name));
        let features = get("features.json")?.unwrap_or_default();
        let info = RldsInfo::parse(&features, get("dataset_info.json")?.as_deref())
            .map_err(|e| within(folder, e))?;
        let inputs: Vec<InputFile> =
            files.iter().map(|f| InputFile { path: f.key.clone(), size: f.size }).collect();
        let layout = info.layout(&inputs).map_err(|e| within(folder, e))?;
        let descriptions = ["features.json", "dataset_info.json"];
        let companions = files.iter().filter(|f| descriptions.contains(&file_name(&f.key)));
        self.companions.extend(companions.map(|&object| (root, object.clone())));
        let rate = self.rate_of(folder, info.dataset_name())?;
        self.findings.extend(layout.findings);
        self.findings.extend(info.findings().iter().cloned());
        let info = Arc::new(info);
        for split in layout.splits {
            for shard in split.shards {
                let object = files
                    .iter()
                    .find(|f| f.key == shard.file.path)
                    .expect("the layout only sorts the files given");
                self.recordings.push(Recording {
                    root,
                    name: object.key.clone(),
                    files: vec![(*object).clone()],
                    format: Format::Rlds {
                        info: Arc::clone(&info),
                        split: split.name.clone(),
                        rate,
                        episodes: shard.episodes,
                    },
                });
            }
        }
        Ok(())
    }

    fn rate_of(&mut self, folder: &str, name: Option<&str>) -> Result<Rate> {
        let known = name
            .and_then(oxe::control_frequency)
            .map(|text| text.parse::<Rate>().expect("the table holds rates"));
        match (self.options.source_rate, known) {
            (Some(stated), Some(known)) if stated != known => {
                let message = format!(
                    "read at the stated {stated} Hz, though this dataset is known to run at {known} Hz"
                );
                self.findings.push(Finding::new("source-frequency", name.unwrap_or(folder), message));
                Ok(stated)
            }
            (Some(rate), _) | (None, Some(rate)) => Ok(rate),
            (None, None) => Err(Error::invalid(format!(
                "{}: RLDS carries no timestamps and {} is not in the table of known control rates; say how many steps a \
                 second were recorded with --source-frequency HZ",
                if folder.is_empty() { self.roots.last().map_or("", |r| r.location()) } else { folder },
                name.map_or("this dataset".into(), |name| format!("`{name}`")),
            ))),
        }
    }

    fn add_bag<'a>(
        &mut self,
        root: usize,
        folder: &str,
        objects: &'a [Object],
        used: &mut BTreeSet<&'a str>,
    ) -> Result<()> {
        let text = self.roots[root].get(&join(folder, "metadata.yaml"))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if !text.contains("rosbag2_bagfile_information") {
            return Ok(()); // some other tool's metadata
        }
        let unread =
            |problem: String| Finding::new("unread-recording", join(folder, "metadata.yaml"), problem);
        let names = match bag_files(&text) {
            Ok(names) => names,
            Err(e) => {
                self.findings.push(unread(e.to_string()));
                return Ok(());
            }
        };
        let find = |name: &String| objects.iter().find(|o| o.key == join(folder, name));
        let files: Vec<&Object> = names.iter().filter_map(find).collect();
        // Parts of a recording are not recordings of their own, whether or not it is whole.
        used.extend(files.iter().map(|file| file.key.as_str()));
        if let Some(missing) = names.iter().find(|name| find(name).is_none()) {
            let problem = format!(
                "it lists {missing}, which is not there, so the recording is left out; restore the file"
            );
            self.findings.push(unread(problem));
            return Ok(());
        }
        let files: Vec<Object> = files.into_iter().cloned().collect();
        let metadata = objects.iter().find(|o| o.key == join(folder, "metadata.yaml"));
        self.companions.extend(metadata.map(|object| (root, object.clone())));
        let name = if folder.is_empty() {
            files.first().map_or(String::new(), |f| f.key.clone())
        } else {
            folder.into()
        };
        self.recordings.push(Recording { root, name, files, format: Format::Bag });
        Ok(())
    }

    fn report_unread(&mut self, files: Vec<&Object>) {
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for file in files {
            let name = file_name(&file.key);
            kinds
                .entry(name.rsplit_once('.').map_or(name, |(_, extension)| extension))
                .or_default()
                .push(&file.key);
        }
        for (kind, files) in kinds {
            let message = format!("{} file(s) of this kind are not read, {} for one", files.len(), files[0]);
            self.findings.push(Finding::new("unread-file", format!(".{kind}"), message));
        }
    }

    /// Reads the episodes `episodes` of a recording (all if `None`) in order, handing each, or what is wrong with it, to
    /// `visit`, until that or `progress`, which is told of every chunk of bytes read, breaks.
    pub(crate) fn read(
        &self,
        recording: usize,
        episodes: Option<Range<u64>>,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
        visit: &mut dyn FnMut(Result<Box<Trajectory>, ReadError>) -> ControlFlow<()>,
    ) -> Result<Vec<SourceRead>> {
        let recording = &self.recordings[recording];
        let store = &self.roots[recording.root];
        for file in &recording.files {
            if store.head(&file.key)?.etag != file.etag {
                return Err(Error::invalid(format!("{} changed while it was being processed", file.key)));
            }
        }
        let mut reader = self.reader(recording, episodes.clone());
        let mut read: Vec<(u64, Sha256)> = recording.files.iter().map(|_| (0, Sha256::new())).collect();
        loop {
            let step = reader.step();
            let flow = match step {
                Ok(Step::Need { file, range }) => {
                    let bytes = store.read(&recording.files[file].key, range)?;
                    read[file].0 += bytes.len() as u64;
                    read[file].1.update(&bytes);
                    let flow = progress(bytes.len() as u64);
                    match reader.provide(&bytes) {
                        Ok(()) => flow,
                        Err(error) => {
                            let _ = visit(Err(error));
                            break;
                        }
                    }
                }
                Ok(Step::Episode(episode)) => visit(episode),
                Ok(Step::End) => break,
                Err(error) => {
                    let _ = visit(Err(error));
                    break;
                }
            };
            if flow.is_break() {
                break;
            }
        }
        let described = recording.files.iter().zip(read).map(|(file, (bytes, hash))| SourceRead {
            root: recording.root,
            path: file.key.clone(),
            episodes: episodes.clone().map(|range| (range.start, range.end)),
            bytes,
            sha256: hex(&hash.finalize()),
        });
        Ok(described.collect())
    }

    fn reader(&self, recording: &Recording, episodes: Option<Range<u64>>) -> Box<dyn Reader> {
        let mut files = recording.files.iter().map(|f| InputFile { path: f.key.clone(), size: f.size });
        let limits = self.options.limits;
        match &recording.format {
            Format::Bag => Box::new(BagReader::new(
                recording.name.clone(),
                files.collect(),
                self.options.bag.clone(),
                limits,
            )),
            Format::Rlds { info, split, rate, episodes: expected } => {
                let file = files.next().expect("an RLDS recording is one file");
                let file = InputFile { path: recording.name.clone(), ..file };
                let rate = *rate;
                let instants = Instants::new(move |k| rate.instant_ns(k));
                let reader =
                    RldsReader::new(file, Arc::clone(info), split.clone(), episodes, instants, limits);
                Box::new(reader.expecting(*expected))
            }
        }
    }
}

impl Recording {
    pub(crate) fn split(&self) -> Option<String> {
        match &self.format {
            Format::Bag => None,
            Format::Rlds { split, .. } => split.clone(),
        }
    }
}

/// The last part of a root's location, with its number where two share it.
fn label(roots: &[Arc<dyn Store>], root: usize) -> String {
    let last = |root: &Arc<dyn Store>| file_name(root.location().trim_end_matches('/')).to_string();
    let name = last(&roots[root]);
    let shared = roots.iter().filter(|other| last(other) == name).count() > 1;
    if shared { format!("{name}[{root}]") } else { name }
}

/// Opens a folder, or the folder of a single file with nothing but that file in it.
fn open_root(location: &str) -> Result<(Arc<dyn Store>, Vec<Object>)> {
    let location = location.trim_end_matches('/');
    let store = store::open(location, "")?;
    let objects = store.list("")?;
    if !objects.is_empty() {
        return Ok((store, objects));
    }
    let (folder, name) = location.rsplit_once('/').unwrap_or((".", location));
    let folder = store::open(if folder.is_empty() { "/" } else { folder }, "")?;
    match folder.head(name) {
        Ok(object) => Ok((folder, vec![object])),
        Err(store::StoreError::NotFound { .. }) => {
            Err(Error::invalid(format!("{location}: there is no such file, or the folder is empty")))
        }
        Err(other) => Err(other.into()),
    }
}

fn describe_files(objects: &[Object]) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for object in objects {
        let name = file_name(&object.key);
        *kinds.entry(name.rsplit_once('.').map_or(name, |(_, extension)| extension)).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().take(8).map(|(kind, n)| format!("{n} .{kind}")).collect();
    format!("among {} file(s) ({})", objects.len(), kinds.join(", "))
}

fn within(folder: &str, mut error: ReadError) -> ReadError {
    if !error.place.file.starts_with(folder) {
        error.place.file = join(folder, &error.place.file);
    }
    error
}

fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn file_name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.into() } else { format!("{folder}/{name}") }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
