//! `demo`: the main jobs on a small dataset that travels inside the program, and a picture of what they did.
//!
//! The recordings are a simulated seven-joint arm with the faults of real ones: jittered clocks at five rates, lost messages, a
//! quaternion that changes sign, a hole of 220 ms. Every step is the command line it prints.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use base::exit::Exit;
use base::store::{self, Store};
use clap::Parser;
use trajectory::write::{Format, read_floats, read_places};
use trajectory::{Column, Trajectory};

use crate::align::align;
use crate::commit::{MANIFEST, Manifest, SCRATCH};
use crate::config::{Cli, DemoArgs};
use crate::error::{Error, Result};
use crate::picture::{Clock, Frame, Panel, Picture};
use crate::pipeline::stored_file;
use crate::source::{Input, ReadOptions};

macro_rules! recording {
    ($name:literal) => {
        [
            (
                concat!("recordings/", $name, "/metadata.yaml"),
                include_bytes!(concat!("../../../examples/demo_arm/data/", $name, "/metadata.yaml"))
                    as &[u8],
            ),
            (
                concat!("recordings/", $name, "/", $name, ".mcap"),
                include_bytes!(concat!("../../../examples/demo_arm/data/", $name, "/", $name, ".mcap"))
                    as &[u8],
            ),
        ]
    };
}

const RECORDINGS: [[(&str, &[u8]); 2]; 4] =
    [recording!("reach_000"), recording!("reach_001"), recording!("reach_002"), recording!("reach_003")];
const MAP: &[u8] = include_bytes!("../../../examples/demo_arm/map.toml");

/// The recording that is drawn: the one with the hole.
const DRAWN: &str = "reach_001";
const PICTURE: &str = "before-after.svg";

/// Runs the command.
pub(crate) fn demo(args: &DemoArgs) -> Result<Exit> {
    let dir = args.dir.display().to_string();
    let folder = store::open(&dir, "recordings/tmp")?;
    let stranger = folder.list("")?.into_iter().find(|object| !is_ours(&object.key));
    if let Some(object) = stranger {
        return Err(Error::invalid(format!(
            "{dir} holds {}, which no demo put there; choose another --dir",
            object.key
        )));
    }
    for (key, bytes) in RECORDINGS.iter().flatten() {
        folder.put(key, bytes)?;
    }
    folder.put("map.toml", MAP)?;
    folder.sweep()?;
    let recordings = format!("{dir}/recordings");
    step("What is recorded: five streams, five clocks.", &["inspect", &recordings])?;
    let dataset = format!("{dir}/dataset");
    let map = format!("{dir}/map.toml");
    step(
        "Onto one grid: 50 rows a second, named for training by a map.",
        &[
            "preprocess",
            "--input-dir",
            &recordings,
            "--output-dir",
            &dataset,
            "--target-frequency",
            "50",
            "--map",
            &map,
            "--overwrite",
        ],
    )?;
    step("Read again, row by row, against its manifest.", &["verify", &dataset])?;
    let picture = draw(&recordings, &dataset)?;
    folder.put(PICTURE, picture.svg().as_bytes())?;
    folder.sweep()?;
    out!("\nBefore and after, as a picture: {dir}/{PICTURE}  (open it in a browser)");
    out!("The dataset, ready for LeRobot:  {dataset}");
    Ok(Exit::Done)
}

fn is_ours(key: &str) -> bool {
    key.starts_with("recordings/reach_") || key.starts_with("dataset/") || key == "map.toml" || key == PICTURE
}

/// Shows a command line and runs it.
fn step(what: &str, words: &[&str]) -> Result<()> {
    out!("\n{what}\n$ robocache {}\n", words.join(" "));
    let cli = Cli::try_parse_from(std::iter::once("robocache").chain(words.iter().copied()))
        .map_err(|e| Error::invalid(e.to_string()))?;
    match crate::run(cli.command, toml::Table::new())? {
        Exit::Done => Ok(()),
        other => Err(Error::invalid(format!("`robocache {}` ended with {}", words.join(" "), other.code()))),
    }
}

/// The drawn episode's rows in the output.
struct Rows {
    /// Seconds from the recording's epoch.
    instants: Vec<f64>,
    masked: Vec<bool>,
    state: Vec<f32>,
    names: Vec<String>,
}

impl Rows {
    fn component(&self, name: &str) -> Result<Vec<(f64, f64, bool)>> {
        let missing = || Error::invalid(format!("the output has no component {name}"));
        let at = self.names.iter().position(|n| n == name).ok_or_else(missing)?;
        let values = self.state.iter().skip(at).step_by(self.names.len());
        Ok(self
            .instants
            .iter()
            .zip(values)
            .zip(&self.masked)
            .map(|((&t, &v), &m)| (t, f64::from(v), m))
            .collect())
    }
}

fn draw(recordings: &str, dataset: &str) -> Result<Picture> {
    let episode = recorded(recordings)?;
    let rows = published(dataset, &episode)?;
    let hole = rows.masked.iter().position(|&m| m).zip(rows.masked.iter().rposition(|&m| m));
    let gaps: Vec<(f64, f64)> =
        hole.map(|(from, to)| (rows.instants[from], rows.instants[to])).into_iter().collect();
    let middle = gaps.first().map_or(rows.instants[rows.instants.len() / 2], |gap| (gap.0 + gap.1) / 2.0);
    let span = (middle - 0.75, middle + 0.75);
    let mut clocks: Vec<Clock> = episode
        .streams
        .iter()
        .filter(|stream| !stream.latched)
        .map(|stream| Clock {
            name: stream.name.clone(),
            instants: seconds(&stream.times_ns),
            is_grid: false,
        })
        .collect();
    clocks.push(Clock { name: "grid, 50 Hz".into(), instants: rows.instants.clone(), is_grid: true });
    let panels = vec![
        Panel {
            name: "panda_joint4 [rad]".into(),
            note: "grey: /joint_states,\n200 Hz, one hole\nblue: 50 Hz, linear\norange: in the hole,\nheld and masked".into(),
            before: component(&episode, "/joint_states.position", "panda_joint4")?,
            after: rows.component("panda_joint4")?,
        },
        Panel {
            name: "orientation y".into(),
            note: "grey: /ee_pose, whose\nsign flips at random\nblue: slerp, one sign".into(),
            before: component(&episode, "/ee_pose.pose.orientation", "y")?,
            after: rows.component("orientation.y")?,
        },
    ];
    Ok(Picture {
        title: format!("{DRAWN}: five clocks become one"),
        subtitle: "Ticks and grey dots are samples as recorded; blue is the dataset at 50 Hz, read back from its Parquet file.".into(),
        frames: frames(&episode, span)?,
        span,
        clocks,
        panels,
        gaps,
    })
}

#[expect(clippy::cast_precision_loss, reason = "for drawing")]
fn seconds(times_ns: &[i64]) -> Vec<f64> {
    times_ns.iter().map(|&t| t as f64 / 1e9).collect()
}

fn recorded(recordings: &str) -> Result<Trajectory> {
    let options = ReadOptions { bag: Default::default(), source_rate: None, limits: Default::default() };
    let input = Input::open(&[recordings.to_string()], options)?;
    let number = input.recordings.iter().position(|r| r.name == DRAWN);
    let number = number.ok_or_else(|| Error::invalid(format!("{recordings} lacks {DRAWN}")))?;
    let found: RefCell<Option<Trajectory>> = RefCell::new(None);
    input.read(number, None, &|_| ControlFlow::Continue(()), &mut |episode| {
        if let Ok(trajectory) = episode {
            found.replace(Some(*trajectory));
        }
        ControlFlow::Break(())
    })?;
    found.into_inner().ok_or_else(|| Error::invalid(format!("{recordings}/{DRAWN} cannot be read")))
}

/// Reads the drawn episode's rows back from the dataset. Their instants follow from the recording and the recipe.
fn published(dataset: &str, episode: &Trajectory) -> Result<Rows> {
    let store: Arc<dyn Store> = store::open(dataset, SCRATCH)?;
    let manifest =
        store.get(MANIFEST)?.ok_or_else(|| Error::invalid(format!("{dataset} has no {MANIFEST}")))?;
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|e| Error::invalid(e.to_string()))?;
    let data = manifest.files.iter().find(|file| file.path.starts_with("data/"));
    let data = data.ok_or_else(|| Error::invalid("the dataset has no data file"))?;
    let places = read_places(Format::LeRobot, stored_file(&store, &data.path)?)?;
    let state = read_floats(stored_file(&store, &data.path)?, "observation.state")?;
    // One episode per recording, in the order of the inputs.
    let number = manifest.inputs.iter().position(|input| input.path.starts_with(DRAWN));
    let number = number.ok_or_else(|| Error::invalid(format!("the dataset lacks {DRAWN}")))?;
    let column = manifest.recipe.columns.iter().find(|column| column.name == "observation.state");
    let names = column.and_then(|column| column.names.clone()).unwrap_or_default();
    let width = names.len();
    let mine = (0..places.episode_index.len()).filter(|&row| places.episode_index[row] == number as i64);
    let state = mine.flat_map(|row| state[row * width..(row + 1) * width].iter().copied()).collect();
    let aligned = align(vec![episode.clone()], &manifest.recipe, u64::MAX).into_iter().next();
    let frames = aligned.expect("one episode in, one out")?.into_iter().next();
    let frames = frames.ok_or_else(|| Error::invalid(format!("{DRAWN} has no rows")))?;
    Ok(Rows { instants: seconds(&frames.times_ns), masked: frames.masked, state, names })
}

fn component(episode: &Trajectory, feature: &str, name: &str) -> Result<Vec<(f64, f64)>> {
    let missing = || Error::invalid(format!("{DRAWN} has no {feature}[{name}]"));
    let (stream, feature) = episode.feature(feature).ok_or_else(missing)?;
    let at =
        feature.names.as_ref().and_then(|names| names.iter().position(|n| n == name)).ok_or_else(missing)?;
    let Column::F64(values) = &feature.column else { return Err(missing()) };
    let values = values.iter().skip(at).step_by(feature.width());
    Ok(seconds(&stream.times_ns).into_iter().zip(values.copied()).collect())
}

/// A few of the camera's frames, evenly spread over `span`.
fn frames(episode: &Trajectory, span: (f64, f64)) -> Result<Vec<Frame>> {
    const CAMERA: &str = "/camera/front/compressed.data";
    let missing = || Error::invalid(format!("{DRAWN} has no {CAMERA}"));
    let (stream, feature) = episode.feature(CAMERA).ok_or_else(missing)?;
    let Column::Bytes(images) = &feature.column else { return Err(missing()) };
    let seconds = seconds(&stream.times_ns);
    let inside: Vec<usize> =
        (0..seconds.len()).filter(|&i| (span.0..=span.1).contains(&seconds[i])).collect();
    let shown = (0..5).filter_map(|k| inside.get(k * inside.len().saturating_sub(1) / 4));
    Ok(shown
        .map(|&i| Frame {
            at: seconds[i],
            label: format!("{:.3} s", seconds[i]),
            image: images.get(i).to_vec(),
        })
        .collect())
}
