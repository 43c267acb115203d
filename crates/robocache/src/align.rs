//! Alignment: recorded episodes onto the grid, by the recipe.
//!
//! For a batch of episodes: find each one's grid and where its instants fall among every stream's samples; resample all
//! number columns of the whole batch in one go; gather what can only be chosen (integers, text, images); then mask, cut or
//! refuse gaps. Everything is a function of the episode and the recipe: batches and threads never show in the result.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use resample::{Job, Part, Policy, Presence, Values, resample};
use trajectory::read::ReadError;
use trajectory::{Column, Dtype, FrameColumn, Frames, Trajectory};

use crate::config::{Edge, OnGap};
use crate::place::{Placed, Source, place};
use crate::recipe::{Recipe, RecipeColumn, Task};
use crate::units::show_ns;

/// Puts every episode of a batch on its grid: its rows (several [`Frames`] where gaps cut it), or what is wrong with it.
pub(crate) fn align(
    batch: Vec<Trajectory>,
    recipe: &Recipe,
    bytes_max: u64,
) -> Vec<Result<Vec<Frames>, ReadError>> {
    let mut placed: Vec<Result<Placed, ReadError>> =
        batch.into_par_iter().map(|trajectory| place(trajectory, recipe, bytes_max)).collect();
    let mut outputs: Vec<Vec<Vec<f32>>> = placed.iter().map(|p| buffers(p.as_ref().ok(), recipe)).collect();
    for (episode, error) in run_jobs(&placed, &mut outputs, recipe) {
        placed[episode] = Err(error);
    }
    placed
        .into_par_iter()
        .zip(outputs)
        .map(|(placed, numbers)| {
            let placed = placed?;
            let gap = placed.masked.iter().position(|&m| m);
            let pieces = match (recipe.on_gap, gap) {
                (OnGap::Drop, Some(row)) => {
                    return Err(gap_error(&placed, row, "--on-gap drop leaves such episodes out"));
                }
                (OnGap::Split, Some(row)) if placed.masked.iter().all(|&m| m) => {
                    return Err(gap_error(&placed, row, "--on-gap split leaves no row"));
                }
                (OnGap::Split, Some(_)) => split(&finish(placed, numbers, recipe)?),
                _ => vec![finish(placed, numbers, recipe)?],
            };
            Ok(pieces.into_iter().map(|frames| regenerate_boundaries(frames, recipe)).collect())
        })
        .collect()
}

/// The output buffers of one episode: one per column, empty where the column is not made of numbers.
fn buffers(placed: Option<&Placed>, recipe: &Recipe) -> Vec<Vec<f32>> {
    let rows = placed.map_or(0, |p| p.grid.rows());
    let width = |c: &RecipeColumn| if c.dtype == Dtype::Float32 { c.shape.iter().product() } else { 0 };
    recipe.columns.iter().map(|c| vec![0.0; rows * width(c)]).collect()
}

fn run_jobs(
    placed: &[Result<Placed, ReadError>],
    outputs: &mut [Vec<Vec<f32>>],
    recipe: &Recipe,
) -> Vec<(usize, ReadError)> {
    let mut jobs = Vec::new();
    let mut owners = Vec::new();
    for (episode, (placed, outputs)) in placed.iter().zip(outputs).enumerate() {
        let Ok(placed) = placed else { continue };
        for (number, (column, out)) in recipe.columns.iter().zip(outputs).enumerate() {
            if column.dtype == Dtype::Float32 && !out.is_empty() {
                let parts = placed.sources[number].iter().map(|s| placed.part(s, recipe)).collect();
                jobs.push(Job { out, width: column.shape.iter().product(), parts });
                owners.push((episode, number));
            }
        }
    }
    let failures = resample(&mut jobs);
    let describe = |failure: resample::ResampleError| {
        let (episode, column) = owners[failure.job];
        let placed = placed[episode].as_ref().expect("only placed episodes have jobs");
        let source = &placed.sources[column][failure.part];
        let feature = &placed.trajectory.streams[source.stream].features[source.feature];
        let problem = format!("{failure}; it is turned by {}", source.policy);
        let error = ReadError::in_episode(&placed.trajectory.origin, problem);
        (episode, error.feature(&feature.name).index(failure.sample as u64))
    };
    failures.into_iter().map(describe).collect()
}

impl Placed {
    fn part(&self, source: &Source, recipe: &Recipe) -> Part<'_> {
        let stream = &self.trajectory.streams[source.stream];
        let feature = &stream.features[source.feature];
        let values = match &feature.column {
            Column::F32(v) => Values::F32(v),
            Column::F64(v) => Values::F64(v),
            Column::I64(v) => Values::I64(v),
            Column::Bool(v) => Values::Bool(v),
            Column::Str(_) | Column::Bytes(_) => unreachable!("number columns are made of numbers"),
        };
        Part {
            values,
            source_width: feature.width(),
            from: source.from,
            to: source.to,
            width: source.width,
            policy: source.policy,
            located: &self.located[&stream.name],
            nan_outside: recipe.streams[&stream.name].edge == Edge::Nan,
        }
    }
}

/// The rows of one episode, all columns in place.
fn finish(mut placed: Placed, numbers: Vec<Vec<f32>>, recipe: &Recipe) -> Result<Frames, ReadError> {
    let rows = placed.grid.rows();
    let mut columns = Vec::with_capacity(recipe.columns.len() + 1);
    // Blobs move out of the trajectory instead of being copied; a feature two columns share is shared by them.
    let mut shared: BTreeMap<(usize, usize), Arc<trajectory::Blobs>> = BTreeMap::new();
    for (number, (column, numbers)) in recipe.columns.iter().zip(numbers).enumerate() {
        columns.push(match column.dtype {
            Dtype::Float32 => FrameColumn::Float32(numbers),
            Dtype::Int64 | Dtype::Bool => chosen(&placed, number, column, rows),
            Dtype::String | Dtype::Image | Dtype::Bytes => {
                let source = &placed.sources[number][0];
                let stream = &mut placed.trajectory.streams[source.stream];
                let index = placed.located[&stream.name].pick(source.policy);
                let values = shared
                    .entry((source.stream, source.feature))
                    .or_insert_with(|| Arc::new(take_blobs(&mut stream.features[source.feature].column)));
                FrameColumn::Indexed { values: Arc::clone(values), index }
            }
        });
    }
    if recipe.on_gap == OnGap::Mask {
        columns.push(FrameColumn::Bool(placed.masked.clone()));
    }
    let (tasks, task_index) = tasks(&placed, &shared, recipe)?;
    Ok(Frames {
        times_ns: placed.grid.instants_ns().collect(),
        origin: placed.trajectory.origin,
        split: placed.trajectory.split,
        epoch_ns: placed.trajectory.epoch_ns,
        columns,
        tasks,
        task_index,
        masked: placed.masked,
    })
}

fn take_blobs(column: &mut Column) -> trajectory::Blobs {
    match column {
        Column::Str(blobs) | Column::Bytes(blobs) => std::mem::take(blobs),
        _ => trajectory::Blobs::default(),
    }
}

/// Integers and truth values: the sample each instant chooses.
fn chosen(placed: &Placed, number: usize, column: &RecipeColumn, rows: usize) -> FrameColumn {
    let width: usize = column.shape.iter().product();
    let mut integers = vec![0i64; if column.dtype == Dtype::Int64 { rows * width } else { 0 }];
    let mut truths = vec![false; if column.dtype == Dtype::Bool { rows * width } else { 0 }];
    for source in &placed.sources[number] {
        let stream = &placed.trajectory.streams[source.stream];
        let located = &placed.located[&stream.name];
        let feature = &stream.features[source.feature];
        for offset in 0..source.width {
            let (from, to) = (source.from + offset, source.to + offset);
            let rows = || located.pick(source.policy).into_iter().enumerate();
            let at = |sample: u32| sample as usize * feature.width() + from;
            match &feature.column {
                values if source.policy == Policy::Any => {
                    let happened = happened(values, from, feature.width());
                    for (row, seen) in located.any(&happened).into_iter().enumerate() {
                        truths[row * width + to] = seen;
                    }
                }
                Column::I64(values) => rows().for_each(|(row, s)| integers[row * width + to] = values[at(s)]),
                Column::Bool(values) => rows().for_each(|(row, s)| truths[row * width + to] = values[at(s)]),
                _ => unreachable!("check_column let only integers and truth values through"),
            }
        }
    }
    if column.dtype == Dtype::Int64 {
        return FrameColumn::Int64(integers);
    }
    if leaf(column) == Some("is_terminal") {
        // True, if ever, of the very end, which a grid need not hit.
        let ended = truths_of(placed, number).last().copied().unwrap_or(false);
        truths.fill(false);
        if let Some(last) = truths.last_mut() {
            *last = ended;
        }
    }
    FrameColumn::Bool(truths)
}

/// Whether component `from` of each sample is true, or any number but 0.
fn happened(column: &Column, from: usize, width: usize) -> Vec<bool> {
    fn each<T: Copy>(values: &[T], from: usize, width: usize, is: impl Fn(T) -> bool) -> Vec<bool> {
        values.iter().skip(from).step_by(width).map(|&v| is(v)).collect()
    }
    match column {
        Column::F32(v) => each(v, from, width, |v| v != 0.0),
        Column::F64(v) => each(v, from, width, |v| v != 0.0),
        Column::I64(v) => each(v, from, width, |v| v != 0),
        Column::Bool(v) => each(v, from, width, |v| v),
        Column::Str(_) | Column::Bytes(_) => unreachable!("check_column let only numbers through"),
    }
}

fn truths_of(placed: &Placed, number: usize) -> &[bool] {
    let source = &placed.sources[number][0];
    match &placed.trajectory.streams[source.stream].features[source.feature].column {
        Column::Bool(values) => values,
        _ => &[],
    }
}

/// The last name of the feature of a column that is one truth value.
fn leaf(column: &RecipeColumn) -> Option<&str> {
    match column.parts.as_slice() {
        [part] if column.dtype == Dtype::Bool => part.feature.rsplit('/').next(),
        _ => None,
    }
}

/// RLDS marks an episode's first and last step. On a new grid those are its first and last row, and none between.
fn regenerate_boundaries(mut frames: Frames, recipe: &Recipe) -> Frames {
    let Some(last) = frames.rows().checked_sub(1) else { return frames };
    for (column, values) in recipe.columns.iter().zip(&mut frames.columns) {
        let edge = match leaf(column) {
            Some("is_first") => 0,
            Some("is_last") => last,
            _ => continue,
        };
        if let FrameColumn::Bool(truths) = values {
            truths.fill(false);
            truths[edge] = true;
        }
    }
    frames
}

fn tasks(
    placed: &Placed,
    shared: &BTreeMap<(usize, usize), Arc<trajectory::Blobs>>,
    recipe: &Recipe,
) -> Result<(Vec<String>, Vec<u32>), ReadError> {
    let rows = placed.grid.rows();
    let name = match &recipe.task {
        Task::Text(text) => return Ok((vec![text.clone()], vec![0; rows])),
        Task::Feature(name) => name,
    };
    let missing = || {
        ReadError::in_episode(&placed.trajectory.origin, "the feature that names the task is missing")
            .feature(name)
    };
    let (i, j) = placed.trajectory.position(name).ok_or_else(missing)?;
    let stream = &placed.trajectory.streams[i];
    let blobs = match (shared.get(&(i, j)), &stream.features[j].column) {
        (Some(moved), _) => moved,
        (None, Column::Str(blobs)) => blobs,
        _ => return Err(missing()),
    };
    if blobs.is_empty() {
        return Err(ReadError::in_episode(
            &placed.trajectory.origin,
            "there is no sample to take the task from",
        )
        .feature(name));
    }
    // A task stands from its message on; before the first one it is the first one, for it names what the episode is about.
    let mut texts: Vec<String> = Vec::new();
    let mut index = Vec::with_capacity(rows);
    let mut sample = 0;
    let mut current: Option<(usize, u32)> = None;
    for instant in placed.grid.instants_ns() {
        while stream.times_ns.get(sample + 1).is_some_and(|&t| t <= instant) {
            sample += 1;
        }
        let known = match current {
            Some((of, known)) if of == sample => known,
            _ => {
                let text = String::from_utf8_lossy(blobs.get(sample));
                let at = texts.iter().position(|t| *t == text).unwrap_or_else(|| {
                    texts.push(text.into_owned());
                    texts.len() - 1
                });
                u32::try_from(at).expect("an episode has fewer tasks than rows")
            }
        };
        current = Some((sample, known));
        index.push(known);
    }
    Ok((texts, index))
}

fn gap_error(placed: &Placed, row: usize, why: &str) -> ReadError {
    let instant = placed.grid.instants_ns().nth(row).unwrap_or_default();
    let unknown =
        |presence: &Presence| matches!(presence, Presence::Gap | Presence::Stale | Presence::Before);
    let culprit = placed.located.iter().find(|(_, located)| unknown(&located.presence[row]));
    let error = ReadError::in_episode(
        &placed.trajectory.origin,
        format!("a gap longer than may be bridged, {} into the recording, and {why}", show_ns(instant)),
    );
    culprit.map_or(error.clone(), |(name, located)| error.feature(name).index(u64::from(located.left[row])))
}

/// The runs of rows outside gaps, each an episode of its own.
fn split(frames: &Frames) -> Vec<Frames> {
    let mut out = Vec::new();
    let mut start = None;
    for row in 0..=frames.rows() {
        let good = row < frames.rows() && !frames.masked[row];
        match (good, start) {
            (true, None) => start = Some(row),
            (false, Some(from)) => {
                out.push(frames.slice(from..row));
                start = None;
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Components, RecipePart, StreamRule};
    use trajectory::{Blobs, Clock, Feature, Meaning, Origin, Stream};

    const MS: i64 = 1_000_000;

    fn stream(name: &str, times_ms: &[i64], column: Column, names: Option<&[&str]>) -> Stream {
        let names = names.map(|names| names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>());
        let shape = names.as_ref().map_or(vec![], |names| vec![names.len()]);
        let meaning = Meaning::Plain;
        Stream {
            name: name.into(),
            clock: Clock::LogTime,
            latched: false,
            times_ns: times_ms.iter().map(|t| t * MS).collect(),
            features: vec![Feature { name: format!("{name}.v"), shape, names, meaning, column }],
        }
    }

    fn trajectory(streams: Vec<Stream>) -> Trajectory {
        let origin = Origin { file: "bag".into(), episode: 0 };
        Trajectory { origin, split: None, epoch_ns: 0, streams, metadata: BTreeMap::new(), findings: vec![] }
    }

    fn column(name: &str, dtype: Dtype, components: Components, policy: &str) -> RecipeColumn {
        let shape = match &components {
            Components::Named(names) => vec![names.len()],
            Components::Indices(_) => vec![],
        };
        let parts = vec![RecipePart {
            feature: format!("{name}.v"),
            shape: vec![],
            components,
            policy: policy.into(),
        }];
        RecipeColumn { name: name.trim_start_matches('/').into(), dtype, shape, names: None, parts }
    }

    fn recipe(columns: Vec<RecipeColumn>, optional: &[&str], on_gap: OnGap) -> Recipe {
        let rule = |name: &String| StreamRule {
            required: !optional.contains(&name.as_str()),
            continuous: true,
            events_only: false,
            max_gap_ns: None,
            edge: Edge::Hold,
        };
        let names: Vec<String> = columns.iter().map(|c| format!("/{}", c.name)).collect();
        let streams = names.iter().map(|name| (name.clone(), rule(name))).collect();
        Recipe {
            rate: "100".into(),
            on_gap,
            columns,
            streams,
            task: Task::Text("t".into()),
            robot_type: None,
        }
    }

    fn scalar(name: &str, dtype: Dtype, policy: &str) -> RecipeColumn {
        column(name, dtype, Components::Indices(vec![0]), policy)
    }

    fn one(trajectory: Trajectory, recipe: &Recipe) -> Result<Vec<Frames>, ReadError> {
        align(vec![trajectory], recipe, 1 << 30).remove(0)
    }

    #[test]
    fn rows_lie_where_all_required_streams_have_samples() {
        let a = stream("/a", &[0, 10, 20, 30, 40], Column::F64(vec![0.0, 1.0, 2.0, 3.0, 4.0]), None);
        let b = stream("/b", &[5, 25, 35], Column::I64(vec![7, 8, 9]), None);
        let columns = vec![scalar("/a", Dtype::Float32, "linear"), scalar("/b", Dtype::Int64, "hold")];
        let strict =
            one(trajectory(vec![a.clone(), b.clone()]), &recipe(columns.clone(), &[], OnGap::Mask)).unwrap();
        assert_eq!(strict[0].times_ns, [5 * MS, 15 * MS, 25 * MS, 35 * MS]);
        assert_eq!(strict[0].columns[0], FrameColumn::Float32(vec![0.5, 1.5, 2.5, 3.5]));
        assert_eq!(strict[0].columns[1], FrameColumn::Int64(vec![7, 7, 8, 9]));
        // A stream that need not last still begins the episode: nothing is filled in backwards.
        let b = stream("/b", &[5, 15], Column::I64(vec![7, 8]), None);
        let loose = one(trajectory(vec![a, b]), &recipe(columns, &["/b"], OnGap::Mask)).unwrap();
        assert_eq!(loose[0].times_ns.len(), 4);
        assert_eq!(loose[0].columns[1], FrameColumn::Int64(vec![7, 8, 8, 8]));
        assert_eq!(loose[0].columns[2], FrameColumn::Bool(vec![false; 4]));
    }

    #[test]
    fn gaps_are_masked_cut_or_refused() {
        let times = [0, 10, 20, 200, 210];
        let a = stream("/a", &times, Column::F32(vec![0.0, 1.0, 2.0, 20.0, 21.0]), None);
        let with = |on_gap| {
            one(
                trajectory(vec![a.clone()]),
                &recipe(vec![scalar("/a", Dtype::Float32, "linear")], &[], on_gap),
            )
        };
        let masked = with(OnGap::Mask).unwrap();
        assert_eq!(masked[0].masked.iter().filter(|&&m| m).count(), 17);
        let FrameColumn::Float32(values) = &masked[0].columns[0] else { panic!("numbers") };
        assert_eq!(values[2..=20], [[2.0; 18].as_slice(), &[20.0]].concat());
        let pieces = with(OnGap::Split).unwrap();
        assert_eq!(pieces.iter().map(Frames::rows).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(pieces[1].columns, [FrameColumn::Float32(vec![20.0, 21.0])]);
        let error = with(OnGap::Drop).unwrap_err();
        assert_eq!((error.place.feature.as_deref(), error.place.index), (Some("/a"), Some(2)));
    }

    #[test]
    fn components_go_by_name_whatever_their_order() {
        let wanted = Components::Named(vec!["x".into(), "z".into()]);
        let recipe = recipe(vec![column("/a", Dtype::Float32, wanted, "linear")], &[], OnGap::Split);
        let in_order = |names: &[&str], values: Vec<f64>| {
            one(trajectory(vec![stream("/a", &[0, 10], Column::F64(values), Some(names))]), &recipe)
        };
        let expected = [FrameColumn::Float32(vec![1.0, 3.0, 4.0, 6.0])];
        assert_eq!(
            in_order(&["x", "y", "z"], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap()[0].columns,
            expected
        );
        assert_eq!(
            in_order(&["z", "x", "y"], vec![3.0, 1.0, 2.0, 6.0, 4.0, 5.0]).unwrap()[0].columns,
            expected
        );
        let error = in_order(&["x", "y"], vec![0.0; 4]).unwrap_err().to_string();
        assert!(error.contains("component z is missing"), "{error}");
    }

    #[test]
    fn a_bad_episode_is_named_and_its_neighbours_are_untouched() {
        let good = trajectory(vec![stream("/a", &[0, 10], Column::F64(vec![1.0, 2.0]), None)]);
        let nan = trajectory(vec![stream("/a", &[0, 10], Column::F64(vec![1.0, f64::NAN]), None)]);
        let back = trajectory(vec![stream("/a", &[0, 10, 5], Column::F64(vec![1.0; 3]), None)]);
        let recipe = recipe(vec![scalar("/a", Dtype::Float32, "linear")], &[], OnGap::Mask);
        let results = align(vec![nan, good.clone(), back], &recipe, 1 << 30);
        let texts: Vec<String> =
            results.iter().flat_map(|r| r.as_ref().err()).map(ToString::to_string).collect();
        assert!(texts[0].starts_with("bag, episode 0, /a.v, sample 1: "), "{}", texts[0]);
        assert!(texts[1].contains("/a, sample 2: time runs backwards by 5000000 ns"), "{}", texts[1]);
        assert_eq!(results[1], one(good, &recipe));
    }

    #[test]
    fn an_event_is_not_lost_between_rows_whatever_it_is_counted_in() {
        let blip = Column::I64(vec![0, 0, 1, 0, 0, 0]);
        let times = [0, 2, 4, 6, 10, 20];
        let recipe = recipe(vec![scalar("/a", Dtype::Bool, "any")], &[], OnGap::Split);
        let frames = one(trajectory(vec![stream("/a", &times, blip, None)]), &recipe).unwrap();
        assert_eq!(frames[0].columns, [FrameColumn::Bool(vec![false, true, false])]);
    }

    #[test]
    fn events_do_not_bound_an_episode_and_a_late_latched_topic_is_masked_until_it_speaks() {
        let a = stream("/a", &[0, 10, 20, 30], Column::F64(vec![0.0, 1.0, 2.0, 3.0]), None);
        let event = stream("/b", &[20], Column::Bool(vec![true]), None);
        let mut recipe = recipe(
            vec![scalar("/a", Dtype::Float32, "linear"), scalar("/b", Dtype::Bool, "any")],
            &["/b"],
            OnGap::Mask,
        );
        let rule = recipe.streams.get_mut("/b").unwrap();
        (rule.events_only, rule.continuous) = (true, false);
        let frames = one(trajectory(vec![a.clone(), event]), &recipe).unwrap();
        assert_eq!(frames[0].columns[1], FrameColumn::Bool(vec![false, false, true, false]));
        assert_eq!(frames[0].masked, [false; 4]);
        recipe.streams.get_mut("/b").unwrap().events_only = false;
        recipe.columns[1].parts[0].policy = "hold".into();
        let mut late = stream("/b", &[20], Column::Bool(vec![true]), None);
        late.latched = true;
        let frames = one(trajectory(vec![a, late]), &recipe).unwrap();
        assert_eq!(frames[0].masked, [true, true, false, false]);
    }

    #[test]
    fn an_episode_that_is_all_gap_is_an_error_not_a_silence() {
        let a = stream("/a", &[5, 10, 15, 500], Column::F64(vec![0.0; 4]), None);
        let mut recipe = recipe(vec![scalar("/a", Dtype::Float32, "linear")], &[], OnGap::Split);
        // The first row is a sample; without it only the gap is left.
        recipe.rate = "1".into();
        assert_eq!(one(trajectory(vec![a.clone()]), &recipe).unwrap()[0].rows(), 1);
        let b = stream("/b", &[50, 60], Column::F64(vec![0.0, 1.0]), None);
        recipe.columns.push(scalar("/b", Dtype::Float32, "linear"));
        recipe.streams.insert("/b".into(), recipe.streams["/a"].clone());
        let error = one(trajectory(vec![a, b]), &recipe).unwrap_err().to_string();
        assert!(error.contains("--on-gap split leaves no row"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        let recipe = recipe(vec![scalar("/a", Dtype::Float32, "linear")], &[], OnGap::Mask);
        let huge = trajectory(vec![stream("/a", &[0, 10], Column::F64(vec![0.0, f64::MAX]), None)]);
        assert!(
            one(huge, &recipe)
                .unwrap_err()
                .to_string()
                .contains("sample 1: component 0 is NaN, infinite or beyond")
        );
        let mut wide = stream("/a", &[0, 10], Column::F64(vec![0.0; 4]), None);
        wide.features[0].shape = vec![2];
        assert!(
            one(trajectory(vec![wide]), &recipe)
                .unwrap_err()
                .to_string()
                .contains("its shape is [2] here, []")
        );
        let far = trajectory(vec![stream("/a", &[0, 10, 40_000_000_000], Column::F64(vec![0.0; 3]), None)]);
        let error = one(far, &recipe).unwrap_err().to_string();
        assert!(error.contains("/a, sample 2") && error.contains("--max-episode-size"), "{error}");
    }

    #[test]
    fn a_task_stands_from_its_message_on() {
        let texts = Column::Str(Blobs::from_iter([b"first".as_slice(), b"then"]));
        let mut recipe = recipe(vec![scalar("/a", Dtype::Float32, "linear")], &[], OnGap::Mask);
        recipe.task = Task::Feature("/task.v".into());
        let a = stream("/a", &[0, 10, 20, 30], Column::F64(vec![0.0; 4]), None);
        let frames = one(trajectory(vec![a, stream("/task", &[5, 20], texts, None)]), &recipe).unwrap();
        assert_eq!(frames[0].tasks, ["first", "then"]);
        assert_eq!(frames[0].task_index, [0, 0, 1, 1]);
    }
}
