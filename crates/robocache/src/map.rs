//! The map: which streams become which training columns, and how.
//!
//! A TOML file with up to three tables; `inspect --write-map` drafts one:
//!
//! ```toml
//! [map]
//! robot_type = "panda"
//! task_from = "/task.data"                      # or: task = "pick up the cube"
//! "observation.state" = ["/joint_states.position", "/ee_pose.pose.orientation"]
//! "action" = ["/arm_command.position[panda_joint1,panda_joint2]"]
//! "observation.images.front" = "/camera/front/compressed.data"
//!
//! [policy]                                      # only where the default is not wanted
//! "/joint_states.position" = "hold"
//!
//! [stream."/gripper/closed"]
//! required = false
//! max_gap = "2s"
//! edge = "hold"                                 # or "nan", "trim"
//! clock = "log-time"                            # or "header-stamp"
//! clock_offset = "-12ms"
//! ```

use std::collections::BTreeMap;

use base::config::read_tables;
use clap::ValueEnum;
use resample::Policy;
use toml::{Table, Value};
use trajectory::{Clock, Feature, Trajectory};

use crate::config::Edge;
use crate::error::{Error, Result};
use crate::units::Span;

/// A validated map.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Map {
    /// Output columns, sorted by name; empty where there is no `[map]`.
    pub(crate) columns: Vec<(String, Vec<Selector>)>,
    pub(crate) task: Option<String>,
    pub(crate) task_from: Option<Selector>,
    pub(crate) robot_type: Option<String>,
    pub(crate) policies: Vec<(Selector, Policy)>,
    pub(crate) streams: BTreeMap<String, StreamOptions>,
}

/// What `[stream."name"]` says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct StreamOptions {
    pub(crate) required: Option<bool>,
    pub(crate) max_gap_ns: Option<i64>,
    pub(crate) edge: Option<Edge>,
    pub(crate) clock_offset_ns: Option<i64>,
    pub(crate) clock: Option<Clock>,
}

/// A feature or some of its components: `/joint_states.position`, `…[0:3]`, `…[2]`, `…[panda_joint1,panda_joint2]`, `….x`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selector(pub(crate) String);

/// A selector's answer.
#[derive(Debug)]
pub(crate) struct Selected<'a> {
    pub(crate) feature: &'a Feature,
    /// Indices into a row, in the order asked for.
    pub(crate) components: Vec<usize>,
    /// Whether the whole feature was named.
    pub(crate) whole: bool,
}

impl Map {
    /// Reads the tables an `@ file.toml` left over, then the file of `--map` over them.
    pub(crate) fn read(mut tables: Table, file: Option<&str>) -> Result<Self> {
        if let Some(file) = file {
            for (key, value) in read_tables(file)? {
                tables.insert(key, value);
            }
        }
        Self::from_tables(tables)
    }

    fn from_tables(tables: Table) -> Result<Self> {
        let mut map = Self::default();
        for (name, value) in tables {
            let Value::Table(table) = value else { continue };
            match name.as_str() {
                "map" => map.read_columns(table)?,
                "policy" => map.read_policies(table)?,
                "stream" => map.read_streams(table)?,
                other => {
                    return Err(Error::invalid(format!(
                        "[{other}] is not a table of this tool; there are [map], [policy] and [stream.\"name\"]"
                    )));
                }
            }
        }
        Ok(map)
    }

    fn read_columns(&mut self, table: Table) -> Result<()> {
        for (key, value) in table {
            match (key.as_str(), value) {
                ("robot_type", Value::String(text)) => self.robot_type = Some(text),
                ("task", Value::String(text)) => self.task = Some(text),
                ("task_from", Value::String(text)) => self.task_from = Some(Selector(text)),
                (_, Value::String(text)) => self.columns.push((key, vec![Selector(text)])),
                (_, Value::Array(items)) if !items.is_empty() => {
                    let selectors = items.into_iter().map(|item| match item {
                        Value::String(text) => Ok(Selector(text)),
                        other => {
                            Err(Error::invalid(format!("[map] `{key}`: {other} is not a feature's name")))
                        }
                    });
                    let selectors = selectors.collect::<Result<_>>()?;
                    self.columns.push((key, selectors));
                }
                (_, other) => {
                    let problem =
                        format!("[map] `{key}` must be a feature's name or a list of them, not {other}");
                    return Err(Error::invalid(problem));
                }
            }
        }
        Ok(())
    }

    fn read_policies(&mut self, table: Table) -> Result<()> {
        for (key, value) in table {
            let Value::String(text) = value else {
                return Err(Error::invalid(format!(
                    "[policy] \"{key}\" must be a policy's name, not {value}"
                )));
            };
            self.policies
                .push((Selector(key), text.parse::<Policy>().map_err(|e| Error::invalid(e.to_string()))?));
        }
        Ok(())
    }

    fn read_streams(&mut self, table: Table) -> Result<()> {
        for (name, value) in table {
            let Value::Table(options) = value else {
                return Err(Error::invalid(format!("[stream] holds tables: write [stream.\"{name}\"]")));
            };
            let mut rule = StreamOptions::default();
            for (key, value) in options {
                let wrong = |expected: &str| {
                    Error::invalid(format!("[stream.\"{name}\"] `{key}` must be {expected}, not {value}"))
                };
                let span =
                    || value.as_str().and_then(|text| text.parse::<Span>().ok()).map(|s| s.nanoseconds);
                match key.as_str() {
                    "required" => {
                        rule.required = Some(value.as_bool().ok_or_else(|| wrong("true or false"))?)
                    }
                    "max_gap" => {
                        let span = span().filter(|&nanoseconds| nanoseconds > 0);
                        rule.max_gap_ns = Some(span.ok_or_else(|| wrong("a time such as \"200ms\""))?);
                    }
                    "clock_offset" => {
                        rule.clock_offset_ns = Some(span().ok_or_else(|| wrong("a time such as \"-12ms\""))?);
                    }
                    "clock" => {
                        let clock = value.as_str().and_then(parse_clock);
                        rule.clock = Some(clock.ok_or_else(|| wrong("\"log-time\" or \"header-stamp\""))?);
                    }
                    "edge" => {
                        let edge = value.as_str().and_then(|text| Edge::from_str(text, false).ok());
                        rule.edge = Some(edge.ok_or_else(|| wrong("hold, nan or trim"))?);
                    }
                    _ => {
                        return Err(Error::invalid(format!(
                            "[stream.\"{name}\"] `{key}` is unknown; there are required, max_gap, edge, clock, clock_offset"
                        )));
                    }
                }
            }
            self.streams.insert(name, rule);
        }
        Ok(())
    }
}

/// A clock by the name that `inspect` shows.
pub(crate) fn parse_clock(text: &str) -> Option<Clock> {
    match text {
        "log-time" => Some(Clock::LogTime),
        "header-stamp" => Some(Clock::HeaderStamp),
        _ => None,
    }
}

/// Parses `--policy WHAT=POLICY`.
pub(crate) fn parse_policy(text: &str) -> Result<(Selector, Policy)> {
    let (what, policy) = text.rsplit_once('=').ok_or_else(|| {
        Error::invalid(format!("--policy {text}: write WHAT=POLICY, as /ee_pose.pose.position=hold"))
    })?;
    Ok((
        Selector(what.into()),
        policy.parse().map_err(|e: resample::PolicyError| Error::invalid(e.to_string()))?,
    ))
}

impl Selector {
    /// Finds what is selected, or says what there is instead.
    pub(crate) fn resolve<'a>(&self, trajectory: &'a Trajectory) -> Result<Selected<'a>> {
        let text = self.0.as_str();
        if let Some((_, feature)) = trajectory.feature(text) {
            let components = (0..feature.width()).collect();
            return Ok(Selected { feature, components, whole: true });
        }
        // Feature names may hold brackets and dots themselves, so only the last of either can select components.
        if let Some((name, inner)) = text.strip_suffix(']').and_then(|t| t.rsplit_once('['))
            && let Some((_, feature)) = trajectory.feature(name)
        {
            let components = components_of(feature, inner).ok_or_else(|| self.no_component(feature))?;
            return Ok(Selected { feature, components, whole: false });
        }
        if let Some((name, component)) = text.rsplit_once('.')
            && let Some((_, feature)) = trajectory.feature(name)
        {
            let components = components_of(feature, component).ok_or_else(|| self.no_component(feature))?;
            return Ok(Selected { feature, components, whole: false });
        }
        Err(self.no_feature(trajectory))
    }

    fn no_component(&self, feature: &Feature) -> Error {
        let there_are = match &feature.names {
            Some(names) => names.join(", "),
            None => format!("0 to {}", feature.width().saturating_sub(1)),
        };
        Error::invalid(format!(
            "`{}` names a component that {} does not have; there are {there_are}",
            self.0, feature.name
        ))
    }

    fn no_feature(&self, trajectory: &Trajectory) -> Error {
        let names = trajectory.streams.iter().flat_map(|s| &s.features).map(|f| f.name.as_str());
        let close = |name: &&str| distance(name, &self.0) <= self.0.len() / 3;
        let nearest = names.clone().filter(close).min_by_key(|name| distance(name, &self.0));
        let hint = nearest.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        let all: Vec<&str> = names.collect();
        Error::invalid(format!(
            "`{}` is no feature of {}{hint} There are: {}",
            self.0,
            trajectory.origin,
            all.join(", ")
        ))
    }
}

fn components_of(feature: &Feature, inner: &str) -> Option<Vec<usize>> {
    let width = feature.width();
    let mut out = Vec::new();
    for item in inner.split(',').map(str::trim) {
        let named = feature.names.as_ref().and_then(|names| names.iter().position(|name| name == item));
        if let Some(index) = named {
            out.push(index);
        } else if let Some((from, to)) = item.split_once(':') {
            let from = if from.is_empty() { 0 } else { from.parse().ok()? };
            let to = if to.is_empty() { width } else { to.parse().ok()? };
            if from >= to || to > width {
                return None;
            }
            out.extend(from..to);
        } else {
            let index: usize = item.parse().ok()?;
            if index >= width {
                return None;
            }
            out.push(index);
        }
    }
    Some(out)
}

/// Levenshtein's edit distance, for "did you mean".
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use trajectory::{Column, Meaning, Origin, Stream};

    fn trajectory() -> Trajectory {
        let feature = |name: &str, names: &[&str]| Feature {
            name: name.into(),
            shape: vec![names.len()],
            names: Some(names.iter().map(|n| (*n).to_string()).collect()),
            meaning: Meaning::Plain,
            column: Column::F64(vec![0.0; names.len()]),
        };
        Trajectory {
            origin: Origin { file: "bag".into(), episode: 0 },
            split: None,
            epoch_ns: 0,
            streams: vec![Stream {
                name: "/js".into(),
                clock: Clock::LogTime,
                latched: false,
                times_ns: vec![0],
                features: vec![
                    feature("/js.position", &["a", "b", "c"]),
                    feature("/tf.t[base].xyz", &["x", "y", "z"]),
                ],
            }],
            metadata: BTreeMap::new(),
            findings: vec![],
        }
    }

    #[test]
    fn selectors_name_features_ranges_and_components() {
        let t = trajectory();
        let components = |text: &str| Selector(text.into()).resolve(&t).map(|s| s.components);
        assert_eq!(components("/js.position").unwrap(), [0, 1, 2]);
        assert_eq!(components("/js.position[1:]").unwrap(), [1, 2]);
        assert_eq!(components("/js.position[c,a]").unwrap(), [2, 0]);
        assert_eq!(components("/js.position.b").unwrap(), [1]);
        assert_eq!(components("/tf.t[base].xyz").unwrap(), [0, 1, 2]);
        assert_eq!(components("/tf.t[base].xyz[2]").unwrap(), [2]);
        let error = components("/js.positon").unwrap_err().to_string();
        assert!(error.contains("did you mean `/js.position`?"), "{error}");
        let error = components("/js.position[d]").unwrap_err().to_string();
        assert!(error.contains("there are a, b, c"), "{error}");
        assert!(components("/js.position[2:9]").is_err());
    }

    #[test]
    fn a_wrong_map_says_where() {
        let error = |text: &str| Map::from_tables(text.parse().unwrap()).unwrap_err().to_string();
        assert!(error("[maps]\n").contains("[maps] is not a table"));
        assert!(error("[map]\naction = 3\n").contains("`action`"));
        assert!(error("[policy]\n\"x\" = \"spline\"\n").contains("`spline` is not a policy"));
        assert!(error("[stream.\"/x\"]\nmax_gap = 3\n").contains("max_gap"));
        assert!(error("[stream.\"/x\"]\ngap = \"3s\"\n").contains("`gap` is unknown"));
    }
}
