//! The recipe: every output column, where each of its components comes from, and by which policy.
//!
//! Made once, from the first readable episode and what the user asked for, then written into the plan: every worker and
//! every later episode follows it to the letter, and an episode that cannot is an error, never a silent change of schema.

use std::collections::{BTreeMap, BTreeSet};

use resample::{Policy, Rotation};
use serde::{Deserialize, Serialize};
use trajectory::read::bag::TopicFilter;
use trajectory::write::{Format, OWN_COLUMNS};
use trajectory::{
    Column, ColumnKind, ColumnSpec, Dtype, Feature, Finding, Meaning, QuaternionOrder, Schema, Trajectory,
};

use crate::config::{Edge, OnGap, Preset};
use crate::error::{Error, Result};
use crate::map::{Map, Selected, Selector};

/// Rows inside a gap, under `--on-gap mask`. Must not begin with `observation` or `action`: a policy would be fed it.
pub(crate) const GAP_MASK: &str = "gap_mask";

/// How recordings become rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// Rate of the grid in hertz, an exact fraction: `50`, `30000/1001`.
    pub(crate) rate: String,
    pub(crate) on_gap: OnGap,
    pub(crate) columns: Vec<RecipeColumn>,
    /// The streams the columns use.
    pub(crate) streams: BTreeMap<String, StreamRule>,
    pub(crate) task: Task,
    pub(crate) robot_type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecipeColumn {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) names: Option<Vec<String>>,
    pub(crate) parts: Vec<RecipePart>,
}

/// A run of components that come from one feature by one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecipePart {
    pub(crate) feature: String,
    /// The feature's shape; binding where its components have no names to go by.
    pub(crate) shape: Vec<usize>,
    /// By name where the recording names them, since their order may differ from episode to episode.
    pub(crate) components: Components,
    pub(crate) policy: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Components {
    Named(Vec<String>),
    Indices(Vec<usize>),
}

/// How one stream bounds an episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamRule {
    /// The episode's rows lie within this stream's samples.
    pub(crate) required: bool,
    /// Sampled over time, so that silence means missing data; else it only tells changes or happenings.
    pub(crate) continuous: bool,
    /// Only asked whether something happened: before its first sample nothing has.
    pub(crate) events_only: bool,
    /// Longest interval bridged; by default from each episode's own median period.
    pub(crate) max_gap_ns: Option<i64>,
    pub(crate) edge: Edge,
}

/// Where task strings come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    Text(String),
    Feature(String),
}

/// What a user asks of a recipe.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) rate: resample::Rate,
    pub(crate) on_gap: OnGap,
    pub(crate) edge: Edge,
    pub(crate) preset: Preset,
    pub(crate) max_gap_ns: Option<i64>,
    pub(crate) format: Format,
    pub(crate) map: Map,
    /// `--policy`, over the map's.
    pub(crate) policies: Vec<(Selector, Policy)>,
    /// `--task`, over the map's.
    pub(crate) task: Option<String>,
    /// `--include` and `--exclude`, which match topics and features alike.
    pub(crate) filter: TopicFilter,
}

/// Makes the recipe that `sample`, an episode of the input, and `wishes` ask for, with what a person should know about it.
pub(crate) fn make(sample: &Trajectory, wishes: &Wishes) -> Result<(Recipe, Vec<Finding>)> {
    let mut findings = Vec::new();
    let policies = Policies::resolve(sample, wishes)?;
    let task = task_of(sample, wishes, &mut findings)?;
    let mut columns = Vec::new();
    for (name, selectors) in wanted_columns(sample, wishes, &task, &mut findings) {
        columns.push(column(sample, wishes, &policies, name, &selectors, &mut findings)?);
    }
    if columns.is_empty() {
        return Err(Error::invalid(format!(
            "nothing to write: {} has no feature that --include, --exclude and the map leave",
            sample.origin
        )));
    }
    check_names(&columns)?;
    let streams = stream_rules(sample, wishes, &columns)?;
    let recipe = Recipe {
        rate: wishes.rate.to_string(),
        on_gap: wishes.on_gap,
        columns,
        streams,
        task,
        robot_type: wishes.map.robot_type.clone(),
    };
    Ok((recipe, findings))
}

impl Recipe {
    /// The columns a writer sees.
    pub(crate) fn schema(&self, image_shapes: &BTreeMap<String, Vec<usize>>) -> Schema {
        let mut columns: Vec<ColumnSpec> = self
            .columns
            .iter()
            .map(|c| ColumnSpec {
                name: c.name.clone(),
                dtype: c.dtype,
                shape: image_shapes.get(&c.name).unwrap_or(&c.shape).clone(),
                names: c.names.clone(),
            })
            .collect();
        if self.on_gap == OnGap::Mask {
            columns.push(ColumnSpec {
                name: GAP_MASK.into(),
                dtype: Dtype::Bool,
                shape: vec![],
                names: None,
            });
        }
        Schema { columns }
    }
}

/// Every component's policy.
struct Policies {
    /// Feature to one policy per component.
    chosen: BTreeMap<String, Vec<Option<Policy>>>,
    preset: Preset,
}

impl Policies {
    fn resolve(sample: &Trajectory, wishes: &Wishes) -> Result<Self> {
        let mut chosen: BTreeMap<String, Vec<Option<Policy>>> = BTreeMap::new();
        for (selector, policy) in wishes.map.policies.iter().chain(&wishes.policies) {
            if wishes.preset == Preset::Causal && !matches!(policy, Policy::Hold | Policy::Any) {
                return Err(Error::invalid(format!(
                    "`{}` is to be {policy}, which looks ahead, but --preset causal takes the latest sample everywhere",
                    selector.0
                )));
            }
            let selected = selector.resolve(sample)?;
            let feature = selected.feature;
            let computed = matches!(policy, Policy::Linear | Policy::Slerp(_) | Policy::Any);
            let numeric = !matches!(feature.column, Column::Str(_) | Column::Bytes(_));
            if computed && !numeric {
                let problem = format!(
                    "{} holds {}, which {policy} cannot compute with; use hold or nearest",
                    feature.name,
                    feature.column.kind().name()
                );
                return Err(Error::invalid(problem));
            }
            let slots =
                chosen.entry(feature.name.clone()).or_insert_with(|| vec![None; feature.width().max(1)]);
            for index in selected.components {
                slots[index] = Some(*policy);
            }
        }
        Ok(Self { chosen, preset: wishes.preset })
    }

    fn of(&self, feature: &Feature, component: usize, column: &str) -> Policy {
        let chosen = self.chosen.get(&feature.name).and_then(|slots| slots.get(component).copied().flatten());
        chosen.unwrap_or_else(|| match self.preset {
            Preset::Causal => Policy::Hold,
            Preset::Mixed => default_policy(feature, column),
        })
    }
}

/// Rotations turn, floats move in straight lines, images are the nearest there is, everything else stays until told
/// otherwise. Actions are commands: one holds until the next.
fn default_policy(feature: &Feature, column: &str) -> Policy {
    let is_action = column == "action" || column.starts_with("action.");
    match (feature.meaning, &feature.column) {
        (Meaning::EncodedImage, _) => Policy::Nearest,
        _ if is_action => Policy::Hold,
        (Meaning::Quaternion(QuaternionOrder::Xyzw), _) => Policy::Slerp(Rotation::QuaternionXyzw),
        (Meaning::Quaternion(QuaternionOrder::Wxyz), _) => Policy::Slerp(Rotation::QuaternionWxyz),
        (_, Column::F32(_) | Column::F64(_)) => Policy::Linear,
        _ => Policy::Hold,
    }
}

fn task_of(sample: &Trajectory, wishes: &Wishes, findings: &mut Vec<Finding>) -> Result<Task> {
    if let Some(text) = wishes.task.as_ref().or(wishes.map.task.as_ref()) {
        return Ok(Task::Text(text.clone()));
    }
    let selected = match &wishes.map.task_from {
        Some(selector) => Some(selector.resolve(sample)?.feature),
        None => {
            let mut features = sample.streams.iter().flat_map(|s| &s.features);
            features.find(|f| f.meaning == Meaning::Instruction)
        }
    };
    match selected {
        Some(feature) if feature.column.kind() == ColumnKind::Str => Ok(Task::Feature(feature.name.clone())),
        Some(feature) => Err(Error::invalid(format!("task_from: {} is not text", feature.name))),
        None => {
            findings.push(Finding::new(
                "no-task",
                "task",
                "nothing in the recording is declared to be the task, so it is empty; say it with --task, or in a map by task or \
                 task_from",
            ));
            Ok(Task::Text(String::new()))
        }
    }
}

/// The output columns and what goes into each: the map's, or one per feature.
fn wanted_columns(
    sample: &Trajectory,
    wishes: &Wishes,
    task: &Task,
    findings: &mut Vec<Finding>,
) -> Vec<(String, Vec<Selector>)> {
    if !wishes.map.columns.is_empty() {
        return wishes.map.columns.clone();
    }
    let features = sample.streams.iter().flat_map(|s| s.features.iter().map(move |f| (s, f)));
    let mut out = Vec::new();
    for (stream, feature) in features {
        let is_task = matches!(task, Task::Feature(name) if *name == feature.name);
        if is_task || !keeps(&wishes.filter, &stream.name, feature) {
            continue;
        }
        let name = column_name(feature);
        let opaque = feature.column.kind() == ColumnKind::Bytes && feature.meaning != Meaning::EncodedImage;
        if opaque && wishes.format == Format::LeRobot {
            let message = "opaque bytes have no place in a LeRobot dataset and are left out; --format parquet keeps them";
            findings.push(Finding::new("left-out", &feature.name, message));
            continue;
        }
        out.push((name, vec![Selector(feature.name.clone())]));
    }
    out
}

/// Whether `--include` and `--exclude` leave a feature: a pattern may name its whole stream or itself.
pub(crate) fn keeps(filter: &TopicFilter, stream: &str, feature: &Feature) -> bool {
    let any = |patterns: &[String]| {
        let one = |pattern: &String| TopicFilter { include: vec![pattern.clone()], exclude: vec![] };
        patterns.iter().any(|p| one(p).allows(&feature.name) || one(p).allows(stream))
    };
    (filter.include.is_empty() || any(&filter.include)) && !any(&filter.exclude)
}

/// A feature's column when no map names one: RLDS features by LeRobot's conventions, topics by their own names.
pub(crate) fn column_name(feature: &Feature) -> String {
    let name = feature.name.strip_prefix("steps/").unwrap_or(&feature.name);
    let name = match name.strip_prefix("observation/") {
        Some(rest) if feature.meaning == Meaning::EncodedImage => format!("observation.images.{rest}"),
        _ => name.to_string(),
    };
    let name = name.trim_start_matches('/').replace('/', ".");
    if is_reserved(&name) { format!("source.{name}") } else { name }
}

fn column(
    sample: &Trajectory,
    wishes: &Wishes,
    policies: &Policies,
    name: String,
    selectors: &[Selector],
    findings: &mut Vec<Finding>,
) -> Result<RecipeColumn> {
    let selected: Vec<Selected<'_>> = selectors.iter().map(|s| s.resolve(sample)).collect::<Result<_>>()?;
    let mut parts = Vec::new();
    for one in &selected {
        parts.extend(parts_of(one, policies, &name)?);
        if !policies.chosen.contains_key(&one.feature.name) && looks_like_a_rotation(one.feature) {
            findings.push(Finding::new(
                "looks-like-rotation",
                &one.feature.name,
                format!(
                    "every sample is a unit 4-vector but nothing declares it a quaternion, so it is treated as numbers; \
                     if it is one, say --policy '{}=slerp-xyzw' (or slerp-wxyz)",
                    one.feature.name
                ),
            ));
        }
    }
    let dtype = dtype_of(&name, &selected, &parts)?;
    if dtype == Dtype::Bytes && wishes.format == Format::LeRobot {
        let problem =
            format!("[map] `{name}`: opaque bytes have no place in a LeRobot dataset; use --format parquet");
        return Err(Error::invalid(problem));
    }
    let (shape, names) = match selected.as_slice() {
        [one] if one.whole => (one.feature.shape.clone(), one.feature.names.clone()),
        _ => (vec![selected.iter().map(|s| s.components.len()).sum()], component_names(&selected)),
    };
    Ok(RecipeColumn { name, dtype, shape, names, parts })
}

/// Runs of neighbouring components with one policy.
fn parts_of(selected: &Selected<'_>, policies: &Policies, column: &str) -> Result<Vec<RecipePart>> {
    let feature = selected.feature;
    let mut runs: Vec<(Policy, Vec<usize>)> = Vec::new();
    for &component in &selected.components {
        let policy = policies.of(feature, component, column);
        match runs.last_mut() {
            // A run of one rotation is full at its width; the next component begins another.
            Some((last, run)) if *last == policy && !is_full(policy, run.len()) => run.push(component),
            _ => runs.push((policy, vec![component])),
        }
    }
    let mut parts = Vec::new();
    for (policy, run) in runs {
        if let Policy::Slerp(kind) = policy
            && (run.len() != kind.width() || run.windows(2).any(|pair| pair[1] != pair[0] + 1))
        {
            return Err(Error::invalid(format!(
                "`{column}`: {policy} takes {} neighbouring components of {}, not {run:?}; select them whole or choose \
                 another policy, as --policy '{}=hold'",
                kind.width(),
                feature.name,
                feature.name
            )));
        }
        let components = match &feature.names {
            Some(names) => Components::Named(run.iter().map(|&i| names[i].clone()).collect()),
            None => Components::Indices(run),
        };
        let (shape, policy) = (feature.shape.clone(), policy.to_string());
        parts.push(RecipePart { feature: feature.name.clone(), shape, components, policy });
    }
    Ok(parts)
}

fn is_full(policy: Policy, len: usize) -> bool {
    matches!(policy, Policy::Slerp(kind) if len == kind.width())
}

fn dtype_of(name: &str, selected: &[Selected<'_>], parts: &[RecipePart]) -> Result<Dtype> {
    let kinds: BTreeSet<&str> = selected.iter().map(|s| s.feature.column.kind().name()).collect();
    let blob = selected.iter().any(|s| matches!(s.feature.column, Column::Str(_) | Column::Bytes(_)));
    if blob && selected.len() > 1 {
        let kinds: Vec<&str> = kinds.into_iter().collect();
        return Err(Error::invalid(format!(
            "[map] `{name}` joins {}: text and images stand alone",
            kinds.join(" and ")
        )));
    }
    let events = parts.iter().filter(|part| part.policy == "any").count();
    let computed = parts.iter().any(|part| part.policy == "linear" || part.policy.starts_with("slerp"))
        || (0 < events && events < parts.len());
    let all = |kind: ColumnKind| selected.iter().all(|s| s.feature.column.kind() == kind);
    Ok(match selected.first().map(|s| (s.feature.column.kind(), s.feature.meaning)) {
        Some((ColumnKind::Str, _)) => Dtype::String,
        Some((ColumnKind::Bytes, Meaning::EncodedImage)) => Dtype::Image,
        Some((ColumnKind::Bytes, _)) => Dtype::Bytes,
        _ if events == parts.len() => Dtype::Bool,
        _ if all(ColumnKind::Bool) && !computed => Dtype::Bool,
        _ if all(ColumnKind::I64) && !computed => Dtype::Int64,
        _ => Dtype::Float32,
    })
}

/// One name per component, qualified by the feature's last name where two features would give the same.
fn component_names(selected: &[Selected<'_>]) -> Option<Vec<String>> {
    let plain = |s: &Selected<'_>| -> Vec<String> {
        let name = |&i: &usize| match &s.feature.names {
            Some(names) => names[i].clone(),
            None if s.feature.width() == 1 => last_name(s.feature).into(),
            None => format!("{}[{i}]", last_name(s.feature)),
        };
        s.components.iter().map(name).collect()
    };
    let all: Vec<Vec<String>> = selected.iter().map(plain).collect();
    let collides = |at: usize| {
        let others = all.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, names)| names);
        others.into_iter().any(|name| all[at].contains(name))
    };
    let qualified =
        |at: usize, by: &str| all[at].iter().map(|name| format!("{by}.{name}")).collect::<Vec<_>>();
    let pick = |qualifier: &dyn Fn(&Feature) -> String| -> Vec<String> {
        let names = |at: usize| {
            if collides(at) { qualified(at, &qualifier(selected[at].feature)) } else { all[at].clone() }
        };
        (0..all.len()).flat_map(names).collect()
    };
    let short = pick(&|feature| last_name(feature).into());
    let unique = short.iter().collect::<BTreeSet<_>>().len() == short.len();
    Some(if unique { short } else { pick(&|feature| feature.name.clone()) })
}

/// `position` of `/joint_states.position`; `closed` of `/gripper/closed.data`, since std_msgs call everything `data`.
fn last_name(feature: &Feature) -> &str {
    let name = feature.name.strip_suffix(".data").unwrap_or(&feature.name);
    name.rsplit(['.', '/']).next().unwrap_or_default()
}

/// Names that the formats or the mask keep for themselves.
fn is_reserved(name: &str) -> bool {
    name == GAP_MASK || OWN_COLUMNS.contains(&name)
}

fn check_names(columns: &[RecipeColumn]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for column in columns {
        let name = column.name.as_str();
        if !seen.insert(name) {
            return Err(Error::invalid(format!(
                "two features would both be called `{name}`; name them in a map"
            )));
        }
        if is_reserved(name) || name.contains('/') || name.is_empty() {
            return Err(Error::invalid(format!(
                "`{name}` cannot be a column's name: no `/`, and not one of {}; name the feature in a map",
                [&OWN_COLUMNS[..], &[GAP_MASK]].concat().join(", ")
            )));
        }
    }
    Ok(())
}

/// A vector of four that has length 1 in every sample and is not the same throughout.
fn looks_like_a_rotation(feature: &Feature) -> bool {
    let check = |values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f64> = values.collect();
        let unit = values.chunks_exact(4).all(|q| (q.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-3);
        unit && values.len() >= 8 && values.chunks_exact(4).any(|q| q != &values[..4])
    };
    feature.width() == 4
        && feature.meaning == Meaning::Plain
        && match &feature.column {
            Column::F32(v) => check(&mut v.iter().map(|&x| f64::from(x))),
            Column::F64(v) => check(&mut v.iter().copied()),
            _ => false,
        }
}

fn stream_rules(
    sample: &Trajectory,
    wishes: &Wishes,
    columns: &[RecipeColumn],
) -> Result<BTreeMap<String, StreamRule>> {
    let mut rules = BTreeMap::new();
    for (column, part) in columns.iter().flat_map(|c| c.parts.iter().map(move |part| (c, part))) {
        let (stream, _) = sample.feature(&part.feature).expect("parts were resolved in this episode");
        let options = wishes.map.streams.get(&stream.name).copied().unwrap_or_default();
        let edge = options.edge.unwrap_or(wishes.edge);
        let sampled = column.dtype != Dtype::String && part.policy != "any" && !stream.latched;
        let rule = rules.entry(stream.name.clone()).or_insert(StreamRule {
            required: options.required.unwrap_or(false),
            continuous: false,
            events_only: true,
            max_gap_ns: options.max_gap_ns.or(wishes.max_gap_ns),
            edge,
        });
        rule.continuous |= sampled;
        rule.events_only &= part.policy == "any";
        rule.required |= sampled && (options.required.unwrap_or(true) || edge == Edge::Trim);
        if edge == Edge::Nan && !rule.required && column.dtype != Dtype::Float32 && part.policy != "any" {
            return Err(Error::invalid(format!(
                "edge nan: column {} holds {}, which knows no NaN, and {} is not required; choose another edge for it under \
                 [stream.\"{}\"]",
                column.name,
                format!("{:?}", column.dtype).to_lowercase(),
                stream.name,
                stream.name
            )));
        }
    }
    if let Some(unknown) =
        wishes.map.streams.keys().find(|name| !sample.streams.iter().any(|s| s.name == **name))
    {
        let names: Vec<&str> = sample.streams.iter().map(|s| s.name.as_str()).collect();
        let problem =
            format!("[stream.\"{unknown}\"]: there is no such stream; there are {}", names.join(", "));
        return Err(Error::invalid(problem));
    }
    Ok(rules)
}
