//! Places: an episode checked against the recipe, its grid, and where that falls among its samples.
//!
//! Everything that can be wrong with an episode's clocks, shapes and numbers is found here, with its place, before any row is
//! made.

use std::collections::BTreeMap;

use resample::{Grid, Located, Policy, Presence, Rate, check_times, default_max_gap_ns, locate};
use trajectory::read::ReadError;
use trajectory::{Clock, Column, Dtype, Feature, Stream, Trajectory};

use crate::config::Edge;
use crate::recipe::{Components, Recipe, RecipeColumn, RecipePart, StreamRule};
use crate::units::show_ns;

/// An episode with its grid.
pub(crate) struct Placed {
    pub(crate) trajectory: Trajectory,
    pub(crate) grid: Grid,
    /// Per stream of the recipe.
    pub(crate) located: BTreeMap<String, Located>,
    pub(crate) masked: Vec<bool>,
    /// Per column of the recipe.
    pub(crate) sources: Vec<Vec<Source>>,
}

/// A run of neighbouring components of one recorded feature.
pub(crate) struct Source {
    pub(crate) stream: usize,
    pub(crate) feature: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) width: usize,
    pub(crate) policy: Policy,
}

/// Checks an episode against the recipe and finds its grid.
pub(crate) fn place(trajectory: Trajectory, recipe: &Recipe, bytes_max: u64) -> Result<Placed, ReadError> {
    let problem = |text: String| ReadError::in_episode(&trajectory.origin, text);
    let mut used: BTreeMap<&str, &Stream> = BTreeMap::new();
    for name in recipe.streams.keys() {
        let stream = trajectory.streams.iter().find(|s| s.name == *name);
        let stream = stream.ok_or_else(|| {
            problem(
                "this stream, which the first episode had and the output is made of, is missing; process recordings of \
                 another kind by themselves, or choose what is common with --include or a map"
                    .into(),
            )
            .feature(name)
        })?;
        check_times(&stream.times_ns).map_err(|e| {
            let cure = match stream.clock {
                Clock::HeaderStamp => format!("; if its log times are sound, say --clock {name}=log-time"),
                _ => String::new(),
            };
            let error = problem(format!("{e} on its {} clock{cure}", clock_name(stream))).feature(name);
            e.index().map_or(error.clone(), |index| error.index(index as u64))
        })?;
        used.insert(name, stream);
    }
    let sources: Vec<Vec<Source>> =
        recipe.columns.iter().map(|c| sources_of(c, &trajectory)).collect::<Result<_, _>>()?;
    let rate: Rate = recipe.rate.parse().expect("a recipe's rate was a rate when it was made");
    let (start, end) = extent(&used, recipe).map_err(problem)?;
    let fits = |grid: &Grid| (grid.rows() as u64).saturating_mul(row_bytes(recipe)) <= bytes_max;
    let grid = Grid::spanning(rate, start, end)
        .filter(fits)
        .ok_or_else(|| too_long(&trajectory, &used, (start, end), recipe))?;
    let mut masked = vec![false; grid.rows()];
    let mut located = BTreeMap::new();
    for (name, stream) in used {
        let rule = &recipe.streams[name];
        let max_gap = rule.max_gap_ns.unwrap_or_else(|| default_max_gap_ns(&stream.times_ns));
        let found = locate(&stream.times_ns, &grid, if rule.continuous { max_gap } else { i64::MAX })
            .map_err(|e| problem(e.to_string()).feature(name))?;
        for (mask, &presence) in masked.iter_mut().zip(&found.presence) {
            *mask |= is_unknown(presence, rule);
        }
        located.insert(name.to_string(), found);
    }
    Ok(Placed { grid, located, masked, sources, trajectory })
}

/// Whether a stream leaves a row without a value to rely on.
fn is_unknown(presence: Presence, rule: &StreamRule) -> bool {
    match presence {
        Presence::Inside | Presence::After => false,
        Presence::Gap => rule.continuous,
        Presence::Stale => rule.continuous && rule.edge != Edge::Nan,
        // A latched topic bounds no episode, but is known from its message on only. Events have simply not happened yet.
        Presence::Before => !rule.events_only && rule.edge != Edge::Nan,
    }
}

/// Bytes that one output row takes in memory, blobs aside, which are not copied.
pub(crate) fn row_bytes(recipe: &Recipe) -> u64 {
    let width = |c: &RecipeColumn| c.shape.iter().product::<usize>() as u64;
    let column = |c: &RecipeColumn| match c.dtype {
        Dtype::Float32 => 4 * width(c),
        Dtype::Int64 => 8 * width(c),
        Dtype::Bool => width(c),
        Dtype::String | Dtype::Image | Dtype::Bytes => 4,
    };
    // Per stream a place (index, weight, presence); per row its instant, task and mask.
    recipe.columns.iter().map(column).sum::<u64>() + 13 * recipe.streams.len() as u64 + 13
}

/// More rows than may be held: usually one stamp that is far off.
fn too_long(
    trajectory: &Trajectory,
    used: &BTreeMap<&str, &Stream>,
    (start, end): (i64, i64),
    recipe: &Recipe,
) -> ReadError {
    let longest = |s: &Stream| {
        let intervals = s.times_ns.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        intervals.enumerate().max_by_key(|&(_, interval)| interval).unwrap_or((0, 0))
    };
    let text = format!(
        "its {} at {} Hz are more rows than --max-episode-size allows",
        show_ns(end.saturating_sub(start)),
        recipe.rate
    );
    let Some((name, stream)) = used.iter().max_by_key(|(_, s)| longest(s).1) else {
        return ReadError::in_episode(&trajectory.origin, text);
    };
    let (index, interval) = longest(stream);
    let text = format!("{text}; the longest interval, {}, ends at this sample", show_ns(interval));
    ReadError::in_episode(&trajectory.origin, text).feature(*name).index(index as u64 + 1)
}

fn clock_name(stream: &Stream) -> &'static str {
    match stream.clock {
        Clock::HeaderStamp => "header-stamp",
        Clock::LogTime => "log-time",
        Clock::PublishTime => "publish-time",
        Clock::NominalRate => "nominal",
    }
}

/// Where the rows lie: from the last of the streams to begin, since nothing is filled in backwards, through the first of
/// the required ones to end.
fn extent(used: &BTreeMap<&str, &Stream>, recipe: &Recipe) -> Result<(i64, i64), String> {
    let first = |s: &Stream| s.times_ns[0];
    let last = |s: &Stream| s.times_ns[s.times_ns.len() - 1];
    let rule = |name: &str| &recipe.streams[name];
    let bounds = |name: &str, s: &Stream| {
        let rule = rule(name);
        rule.required || (!s.latched && !rule.events_only && rule.edge != Edge::Nan)
    };
    let begins = used.iter().filter(|(name, s)| bounds(name, s));
    let start = begins.max_by_key(|(_, s)| first(s));
    let end = used.iter().filter(|(name, _)| rule(name).required).min_by_key(|(_, s)| last(s));
    let end = end.or_else(|| used.iter().max_by_key(|(_, s)| last(s)));
    // Latched streams alone: together they are all there is.
    let start = start.or_else(|| used.iter().max_by_key(|(_, s)| first(s)));
    let (Some((starts, a)), Some((ends, b))) = (start, end) else { return Err("it has no streams".into()) };
    if last(b) < first(a) {
        let optional = if rule(starts).required { "required = false" } else { "edge = \"nan\"" };
        return Err(format!(
            "its streams never overlap: {ends} ends {} before {starts} begins; say `{optional}` under [stream.\"{starts}\"] \
             in a map, or leave one out with --exclude",
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
        let (stream, index) = trajectory.position(&part.feature).ok_or_else(|| {
            problem(format!("this feature, which column {} is made of, is missing", column.name))
        })?;
        let feature = &trajectory.streams[stream].features[index];
        let rows = trajectory.streams[stream].len();
        check_column(column, part, feature, rows).map_err(&problem)?;
        let components = components_in(feature, &part.components).map_err(&problem)?;
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

fn check_column(
    column: &RecipeColumn,
    part: &RecipePart,
    feature: &Feature,
    rows: usize,
) -> Result<(), String> {
    let number = !matches!(feature.column, Column::Str(_) | Column::Bytes(_));
    let fits = match column.dtype {
        Dtype::Float32 => number,
        Dtype::Bool => number && (part.policy == "any" || matches!(feature.column, Column::Bool(_))),
        Dtype::Int64 => matches!(feature.column, Column::I64(_)),
        Dtype::String => matches!(feature.column, Column::Str(_)),
        Dtype::Image | Dtype::Bytes => matches!(feature.column, Column::Bytes(_)),
    };
    if !fits {
        let (found, name, feature) = (feature.column.kind().name(), &column.name, &feature.name);
        let cure = if number {
            format!("; --policy '{feature}=linear' makes it float throughout")
        } else {
            String::new()
        };
        return Err(format!(
            "it holds {found} here, but the first episode made column {name} of another type{cure}"
        ));
    }
    if feature.names.is_none() && feature.shape != part.shape {
        return Err(format!(
            "its shape is {:?} here, {:?} in the first episode, and it has no names to go by",
            feature.shape, part.shape
        ));
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
        #[expect(clippy::cast_possible_truncation, reason = "that is the question")]
        Column::F64(v) => bad(&|i| (v[i] as f32).is_finite(), v.len() / width.max(1)),
        _ => None,
    };
    found.map_or(Ok(()), |(row, component)| {
        let component = feature.names.as_ref().map_or_else(|| format!("{component}"), |names| names[component].clone());
        let name = &feature.name;
        Err((row, format!("component {component} is NaN, infinite or beyond single precision; leave the feature out with --exclude '{name}' if nothing trains on it")))
    })
}
