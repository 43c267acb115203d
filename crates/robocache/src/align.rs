//! Alignment: recorded episodes onto the grid, by the recipe.
//!
//! For a batch of episodes: find each one's grid and where its instants fall among every stream's samples; resample all
//! number columns of the whole batch in one go; gather what can only be chosen (integers, text, images); then mask, cut or
//! refuse gaps. Everything is a function of the episode and the recipe: batches and threads never show in the result.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use resample::{
    Grid, Job, Located, Part, Policy, Presence, Rate, Values, check_times, default_max_gap_ns, locate,
    resample,
};
use trajectory::read::ReadError;
use trajectory::{Column, Dtype, Feature, FrameColumn, Frames, Stream, Trajectory};

use crate::config::{Edge, OnGap};
use crate::recipe::{Components, Recipe, RecipeColumn, Task};
use crate::units::show_ns;

/// An episode with its grid.
struct Placed {
    trajectory: Trajectory,
    grid: Grid,
    /// Per stream of the recipe.
    located: BTreeMap<String, Located>,
    masked: Vec<bool>,
    /// Per column of the recipe.
    sources: Vec<Vec<Source>>,
}

/// A run of neighbouring components of one recorded feature.
struct Source {
    stream: usize,
    feature: usize,
    from: usize,
    to: usize,
    width: usize,
    policy: Policy,
}

/// Puts every episode of a batch on its grid: its rows (several [`Frames`] where gaps cut it), or what is wrong with it.
pub(crate) fn align(batch: Vec<Trajectory>, recipe: &Recipe) -> Vec<Result<Vec<Frames>, ReadError>> {
    let mut placed: Vec<Result<Placed, ReadError>> =
        batch.into_par_iter().map(|trajectory| place(trajectory, recipe)).collect();
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
                (OnGap::Drop, Some(row)) => return Err(gap_error(&placed, row)),
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
        let error = ReadError::in_episode(
            &placed.trajectory.origin,
            problem.replace(&format!("sample {} ", failure.sample), ""),
        );
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

/// Checks an episode against the recipe and finds its grid.
fn place(trajectory: Trajectory, recipe: &Recipe) -> Result<Placed, ReadError> {
    let problem = |text: String| ReadError::in_episode(&trajectory.origin, text);
    let mut used: BTreeMap<&str, &Stream> = BTreeMap::new();
    for name in recipe.streams.keys() {
        let stream = trajectory.streams.iter().find(|s| s.name == *name);
        let stream = stream.ok_or_else(|| {
            problem("this stream, which the output is made of, is missing".into()).feature(name)
        })?;
        check_times(&stream.times_ns).map_err(|e| {
            let error = problem(format!("{e} on its {} clock", clock_name(stream))).feature(name);
            e.index().map_or(error.clone(), |index| error.index(index as u64))
        })?;
        used.insert(name, stream);
    }
    let sources: Vec<Vec<Source>> =
        recipe.columns.iter().map(|c| sources_of(c, &trajectory)).collect::<Result<_, _>>()?;
    let rate: Rate = recipe.rate.parse().expect("a recipe's rate was a rate when it was made");
    let (start, end) = extent(&used, recipe).map_err(problem)?;
    let grid = Grid::spanning(rate, start, end).ok_or_else(|| {
        problem(format!(
            "{} at {rate} Hz are more rows than an episode can have",
            show_ns(end.saturating_sub(start))
        ))
    })?;
    let mut masked = vec![false; grid.rows()];
    let mut located = BTreeMap::new();
    for (name, stream) in used {
        let rule = &recipe.streams[name];
        let max_gap = rule.max_gap_ns.unwrap_or_else(|| default_max_gap_ns(&stream.times_ns));
        let found = locate(&stream.times_ns, &grid, if rule.continuous { max_gap } else { i64::MAX })
            .map_err(|e| problem(e.to_string()).feature(name))?;
        if rule.continuous {
            for (mask, presence) in masked.iter_mut().zip(&found.presence) {
                let unknown = matches!(presence, Presence::Gap | Presence::Stale);
                let outside = matches!(presence, Presence::Before | Presence::After | Presence::Stale);
                *mask |= unknown && !(outside && rule.edge == Edge::Nan);
            }
        }
        located.insert(name.to_string(), found);
    }
    Ok(Placed { grid, located, masked, sources, trajectory })
}

fn clock_name(stream: &Stream) -> &'static str {
    match stream.clock {
        trajectory::Clock::HeaderStamp => "header-stamp",
        trajectory::Clock::LogTime => "log-time",
        trajectory::Clock::PublishTime => "publish-time",
        trajectory::Clock::NominalRate => "nominal",
    }
}

/// Where the rows lie: from the last of the streams to begin, since nothing is filled in backwards, through the first of
/// the required ones to end.
fn extent(used: &BTreeMap<&str, &Stream>, recipe: &Recipe) -> Result<(i64, i64), String> {
    let first = |s: &Stream| s.times_ns[0];
    let last = |s: &Stream| s.times_ns[s.times_ns.len() - 1];
    let rule = |name: &str| &recipe.streams[name];
    let begins =
        used.iter().filter(|(name, s)| rule(name).required || (!s.latched && rule(name).edge != Edge::Nan));
    let start = begins.max_by_key(|(_, s)| first(s));
    let end = used.iter().filter(|(name, _)| rule(name).required).min_by_key(|(_, s)| last(s));
    let end = end.or_else(|| used.iter().max_by_key(|(_, s)| last(s)));
    let start = start.or_else(|| used.iter().min_by_key(|(_, s)| first(s)));
    let (Some((starts, a)), Some((ends, b))) = (start, end) else { return Err("it has no streams".into()) };
    if last(b) < first(a) {
        return Err(format!(
            "its streams never overlap: {ends} ends {} before {starts} begins; mark one `required = false` under [stream] \
             in a map, or leave it out with --exclude",
            show_ns(first(a).saturating_sub(last(b)))
        ));
    }
    Ok((first(a), last(b)))
}

/// Finds a column's components in this episode and checks that they are as the recipe says.
fn sources_of(column: &RecipeColumn, trajectory: &Trajectory) -> Result<Vec<Source>, ReadError> {
    let mut out: Vec<Source> = Vec::new();
    let mut to = 0;
    for part in &column.parts {
        let problem = |text: String| ReadError::in_episode(&trajectory.origin, text).feature(&part.feature);
        let place = trajectory
            .streams
            .iter()
            .enumerate()
            .find_map(|(i, s)| s.features.iter().position(|f| f.name == part.feature).map(|j| (i, j)));
        let (stream, index) = place.ok_or_else(|| {
            problem(format!("this feature, which column {} is made of, is missing", column.name))
        })?;
        let feature = &trajectory.streams[stream].features[index];
        let rows = trajectory.streams[stream].len();
        check_column(column, feature, rows).map_err(|text| problem(text))?;
        let components = components_in(feature, &part.components).map_err(|text| problem(text))?;
        check_finite(column, feature, &components).map_err(|(row, text)| problem(text).index(row as u64))?;
        let policy: Policy = part.policy.parse().expect("a recipe's policies were policies when it was made");
        let continues = |run: &Source, next: usize| {
            run.from + run.width == next
                && run.stream == stream
                && run.feature == index
                && run.policy == policy
        };
        let begin = out.len();
        for component in components {
            match out[begin..].last_mut() {
                Some(run) if continues(run, component) => run.width += 1,
                _ => out.push(Source { stream, feature: index, from: component, to, width: 1, policy }),
            }
            to += 1;
        }
        if matches!(policy, Policy::Slerp(kind) if out.len() != begin + 1 || out[begin].width != kind.width())
        {
            return Err(problem("the components of a rotation are not neighbours in this episode".into()));
        }
    }
    Ok(out)
}

fn check_column(column: &RecipeColumn, feature: &Feature, rows: usize) -> Result<(), String> {
    let fits = match (&feature.column, column.dtype) {
        (Column::F32(_) | Column::F64(_) | Column::I64(_) | Column::Bool(_), Dtype::Float32) => true,
        (Column::I64(_), Dtype::Int64) | (Column::Bool(_), Dtype::Bool) | (Column::Str(_), Dtype::String) => {
            true
        }
        (Column::Bytes(_), Dtype::Image | Dtype::Bytes) => true,
        _ => false,
    };
    if !fits {
        let (found, name) = (feature.column.kind().name(), &column.name);
        return Err(format!("it holds {found}, but the first episode made column {name} of another type"));
    }
    let blob = matches!(feature.column, Column::Str(_) | Column::Bytes(_));
    let expected = if blob { rows } else { rows * feature.width() };
    if feature.column.len() != expected {
        return Err(format!("it has {} values where {rows} samples need {expected}", feature.column.len()));
    }
    Ok(())
}

fn components_in(feature: &Feature, components: &Components) -> Result<Vec<usize>, String> {
    match (components, &feature.names) {
        (Components::Named(wanted), Some(names)) => wanted
            .iter()
            .map(|name| {
                names.iter().position(|n| n == name).ok_or_else(|| {
                    format!("component {name} is missing; this episode has {}", names.join(", "))
                })
            })
            .collect(),
        (Components::Named(wanted), None) => {
            Err(format!("this episode does not name its components; expected {}", wanted.join(", ")))
        }
        (Components::Indices(indices), _) => {
            let width = feature.width().max(1);
            match indices.iter().find(|&&index| index >= width) {
                Some(index) => {
                    Err(format!("it has {width} components in this episode, none numbered {index}"))
                }
                None => Ok(indices.clone()),
            }
        }
    }
}

fn check_finite(
    column: &RecipeColumn,
    feature: &Feature,
    components: &[usize],
) -> Result<(), (usize, String)> {
    if column.dtype != Dtype::Float32 {
        return Ok(());
    }
    let width = feature.width();
    let bad = |finite: &dyn Fn(usize) -> bool, rows: usize| {
        (0..rows).find_map(|row| components.iter().find(|&&c| !finite(row * width + c)).map(|&c| (row, c)))
    };
    let found = match &feature.column {
        Column::F32(v) => bad(&|i| v[i].is_finite(), v.len() / width.max(1)),
        Column::F64(v) => bad(&|i| v[i].is_finite(), v.len() / width.max(1)),
        _ => None,
    };
    found.map_or(Ok(()), |(row, component)| {
        let component = feature.names.as_ref().map_or_else(|| format!("{component}"), |names| names[component].clone());
        let name = &feature.name;
        Err((row, format!("component {component} is not a finite number; leave the feature out with --exclude '{name}' if nothing trains on it")))
    })
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
            match &feature.column {
                Column::I64(values) => {
                    for (row, sample) in located.pick(source.policy).into_iter().enumerate() {
                        integers[row * width + to] = values[sample as usize * feature.width() + from];
                    }
                }
                Column::Bool(values) if source.policy == Policy::Any => {
                    let happened: Vec<bool> =
                        values.iter().skip(from).step_by(feature.width()).copied().collect();
                    for (row, seen) in located.any(&happened).into_iter().enumerate() {
                        truths[row * width + to] = seen;
                    }
                }
                Column::Bool(values) => {
                    for (row, sample) in located.pick(source.policy).into_iter().enumerate() {
                        truths[row * width + to] = values[sample as usize * feature.width() + from];
                    }
                }
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
    let place = placed
        .trajectory
        .streams
        .iter()
        .enumerate()
        .find_map(|(i, s)| s.features.iter().position(|f| f.name == *name).map(|j| (i, j)));
    let (i, j) = place.ok_or_else(missing)?;
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

fn gap_error(placed: &Placed, row: usize) -> ReadError {
    let instant = placed.grid.instants_ns().nth(row).unwrap_or_default();
    let culprit =
        placed.located.iter().find(|(_, l)| matches!(l.presence[row], Presence::Gap | Presence::Stale));
    let error = ReadError::in_episode(
        &placed.trajectory.origin,
        format!("a gap longer than may be bridged, {} into the episode (--on-gap drop)", show_ns(instant)),
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
                out.push(cut(frames, from..row));
                start = None;
            }
            _ => {}
        }
    }
    out
}

fn cut(frames: &Frames, rows: Range<usize>) -> Frames {
    let total = frames.rows();
    let columns = frames.columns.iter().map(|column| match column {
        FrameColumn::Float32(v) => FrameColumn::Float32(slice(v, &rows, total)),
        FrameColumn::Int64(v) => FrameColumn::Int64(slice(v, &rows, total)),
        FrameColumn::Bool(v) => FrameColumn::Bool(slice(v, &rows, total)),
        FrameColumn::Indexed { values, index } => {
            FrameColumn::Indexed { values: Arc::clone(values), index: index[rows.clone()].to_vec() }
        }
    });
    let used = &frames.task_index[rows.clone()];
    let mut kept: Vec<u32> = Vec::new();
    for &task in used {
        if !kept.contains(&task) {
            kept.push(task);
        }
    }
    let renumbered = |task: &u32| kept.iter().position(|k| k == task).map(|at| at as u32);
    Frames {
        origin: frames.origin.clone(),
        split: frames.split.clone(),
        epoch_ns: frames.epoch_ns,
        times_ns: frames.times_ns[rows.clone()].to_vec(),
        columns: columns.collect(),
        task_index: used.iter().map(|task| renumbered(task).expect("every used task is kept")).collect(),
        tasks: kept.iter().map(|&task| frames.tasks[task as usize].clone()).collect(),
        masked: frames.masked[rows].to_vec(),
    }
}

fn slice<T: Clone>(values: &[T], rows: &Range<usize>, total: usize) -> Vec<T> {
    let width = values.len() / total.max(1);
    values[rows.start * width..rows.end * width].to_vec()
}
