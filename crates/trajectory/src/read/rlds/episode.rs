//! One record of an RLDS dataset as a trajectory.
//!
//! A record holds an episode in flat lists: `steps/observation/state` has steps × width numbers. The number of steps is
//! that of `steps/is_first`; every other list must then hold exactly its share, so a short list is an error with both
//! numbers and never shifts the rows after it.
//!
//! Invariant: the result depends on the record, the declarations and the rate alone, not on which records were read
//! before it.

use std::collections::BTreeMap;

use super::super::ReadError;
use super::super::example::{Example, Values};
use super::Instants;
use super::info::{Declared, Kind, RldsInfo};
use crate::{Blobs, Clock, Column, Feature, Finding, Origin, Stream, Trajectory};

const IS_FIRST: &str = "steps/is_first";
const METADATA_PREFIX: &str = "episode_metadata/";
/// Longest list of metadata written out.
const METADATA_VALUES_MAX: usize = 256;

/// The trajectory that `example` holds.
pub(super) fn trajectory(
    info: &RldsInfo,
    instants: &Instants,
    origin: Origin,
    split: Option<String>,
    mut example: Example<'_>,
) -> Result<Trajectory, ReadError> {
    let steps = count_steps(info, &example);
    if steps == 0 {
        return Err(ReadError::in_episode(&origin, "the episode has no steps"));
    }
    let mut findings = info.findings.clone();
    let mut features = Vec::with_capacity(info.steps.len());
    for (key, declared) in &info.steps {
        let values = example.remove(key.as_str());
        match read_feature(key, declared, values, steps, &mut findings) {
            Ok(Some(feature)) => features.push(feature),
            Ok(None) => {}
            Err(Trouble { index, problem }) => {
                let error = ReadError::in_episode(&origin, problem).feature(key);
                return Err(match index {
                    Some(index) => error.index(index as u64),
                    None => error,
                });
            }
        }
    }
    let times_ns: Option<Vec<i64>> = (0..steps as u64).map(|k| (instants.0)(k)).collect();
    let times_ns = times_ns.ok_or_else(|| {
        ReadError::in_episode(&origin, format!("{steps} steps at this rate last longer than 292 years"))
    })?;
    let metadata = read_metadata(info, &mut example, &mut findings);
    for key in example.keys().filter(|key| !info.leaves_out(key)) {
        let message = "the record holds this key, but features.json does not declare it; it is left out";
        findings.push(Finding::new("unknown-key", *key, message));
    }
    findings.sort();
    let stream =
        Stream { name: "steps".to_owned(), clock: Clock::NominalRate, latched: false, times_ns, features };
    Ok(Trajectory { origin, split, epoch_ns: 0, streams: vec![stream], metadata, findings })
}

/// Length of `steps/is_first`, else the number of steps that most features of known width agree on (of two numbers
/// with as many votes the smaller).
fn count_steps(info: &RldsInfo, example: &Example<'_>) -> usize {
    let declared_first = info.steps.get(IS_FIRST).is_some_and(|declared| declared.width() == Some(1));
    if let Some(values) = example.get(IS_FIRST).filter(|_| declared_first) {
        return values.len();
    }
    let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
    for (key, declared) in &info.steps {
        if let (Some(values), Some(width)) = (example.get(key.as_str()), declared.width())
            && values.len().is_multiple_of(width)
        {
            *votes.entry(values.len() / width).or_default() += 1;
        }
    }
    votes.into_iter().rev().max_by_key(|(_, votes)| *votes).map_or(0, |(steps, _)| steps)
}

/// What is wrong with a feature's values, and at which step.
struct Trouble {
    index: Option<usize>,
    problem: String,
}

impl Trouble {
    fn new(problem: String) -> Self {
        Self { index: None, problem }
    }
}

/// The feature `key`, or `None` where its width is unknown and not the same in every step (which is then a finding).
fn read_feature(
    key: &str,
    declared: &Declared,
    values: Option<Values<'_>>,
    steps: usize,
    findings: &mut Vec<Finding>,
) -> Result<Option<Feature>, Trouble> {
    let found = values.as_ref().map_or(0, Values::len);
    let shape = if let Some(width) = declared.width() {
        let expected =
            steps.checked_mul(width).ok_or_else(|| Trouble::new("its size is out of range".to_owned()))?;
        if values.is_none() {
            return Err(Trouble::new(format!("the record lacks it: expected {expected} values")));
        }
        if found != expected {
            let problem = format!("expected {expected} values ({steps} steps × {width}), found {found}");
            return Err(Trouble::new(problem));
        }
        declared.shape.iter().map(|dimension| dimension.unwrap_or(1)).collect()
    } else {
        match infer_shape(declared, found, steps) {
            Some(shape) => shape,
            None => {
                let message = format!(
                    "its width is not declared, and its {found} values are not the same number in each of {steps} \
                     steps; it is left out"
                );
                findings.push(Finding::new("ragged-feature", key, message));
                return Ok(None);
            }
        }
    };
    let column = read_column(key, declared.kind, values.unwrap_or_default(), findings)?;
    Ok(Some(Feature { name: key.to_owned(), shape, names: None, meaning: declared.meaning, column }))
}

/// The declared shape with its one open dimension filled in, if `found` values allow exactly one size.
fn infer_shape(declared: &Declared, found: usize, steps: usize) -> Option<Vec<usize>> {
    let rows = steps.checked_mul(declared.known_width)?;
    let open = found.checked_div(rows).filter(|open| *open > 0 && found.is_multiple_of(rows))?;
    Some(declared.shape.iter().map(|dimension| dimension.unwrap_or(open)).collect())
}

fn read_column(
    key: &str,
    kind: Kind,
    values: Values<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Column, Trouble> {
    match (kind, values) {
        (Kind::Float, Values::Floats(values)) => Ok(Column::F32(values)),
        (Kind::Int { unsigned_64 }, Values::Ints(values)) => {
            if let Some(index) = values.iter().position(|value| unsigned_64 && *value < 0) {
                let problem = format!("{} does not fit a signed integer", values[index].cast_unsigned());
                return Err(Trouble { index: Some(index), problem });
            }
            Ok(Column::I64(values))
        }
        (Kind::Bool, Values::Ints(values)) => {
            if let Some(index) = values.iter().position(|value| !matches!(value, 0 | 1)) {
                let problem = format!("declared bool, but the record holds {}", values[index]);
                return Err(Trouble { index: Some(index), problem });
            }
            Ok(Column::Bool(values.into_iter().map(|value| value == 1).collect()))
        }
        (Kind::Text, Values::Bytes(values)) => Ok(Column::Str(read_text(key, &values, findings))),
        (Kind::Image, Values::Bytes(values)) => Ok(Column::Bytes(values.into_iter().collect())),
        (kind, values) => {
            let problem =
                format!("declared {}, but the record holds a list of {}", kind.name(), values.kind());
            Err(Trouble::new(problem))
        }
    }
}

/// Text as UTF-8; what is not is replaced, with a finding.
fn read_text(key: &str, values: &[&[u8]], findings: &mut Vec<Finding>) -> Blobs {
    let mut blobs = Blobs::default();
    let mut replaced = 0_usize;
    for value in values {
        let text = String::from_utf8_lossy(value);
        replaced += usize::from(matches!(text, std::borrow::Cow::Owned(_)));
        blobs.push(text.as_bytes());
    }
    if replaced > 0 {
        let message =
            format!("{replaced} of {} texts are not UTF-8; U+FFFD stands for what is not", values.len());
        findings.push(Finding::new("invalid-utf8", key, message));
    }
    blobs
}

/// What is declared of the episode as a whole, as text; takes its keys out of `example`.
fn read_metadata(
    info: &RldsInfo,
    example: &mut Example<'_>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    for (key, kind) in &info.metadata {
        let Some(values) = example.remove(key.as_str()) else {
            findings.push(Finding::new(
                "missing-key",
                key,
                "features.json declares it, but the record lacks it",
            ));
            continue;
        };
        // Keys of other groups keep their full path, and so does a name that is taken.
        let name =
            key.strip_prefix(METADATA_PREFIX).filter(|name| !metadata.contains_key(*name)).unwrap_or(key);
        metadata.insert(name.to_owned(), as_text(*kind, &values));
    }
    metadata
}

/// One value as itself, several as `[a, b]`, bytes that are not text by their number.
fn as_text(kind: Kind, values: &Values<'_>) -> String {
    if values.len() > METADATA_VALUES_MAX {
        return format!("<{} values>", values.len());
    }
    let texts: Vec<String> = match values {
        Values::Unset => Vec::new(),
        Values::Bytes(values) => values
            .iter()
            .map(|value| match std::str::from_utf8(value) {
                Ok(text) => text.to_owned(),
                Err(_) => format!("<{} bytes>", value.len()),
            })
            .collect(),
        // Rust prints the shortest decimal that gives the same float back.
        Values::Floats(values) => values.iter().map(f32::to_string).collect(),
        Values::Ints(values) if kind == Kind::Bool => {
            values.iter().map(|value| (*value != 0).to_string()).collect()
        }
        Values::Ints(values) => values.iter().map(i64::to_string).collect(),
    };
    if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FEATURES, episode, features_json, tensor};
    use super::*;

    fn read(features: &str, values: Vec<(&str, Values<'_>)>) -> Result<Trajectory, ReadError> {
        let info = RldsInfo::parse(features.as_bytes(), None).expect("valid features");
        let origin = Origin { file: "f".into(), episode: 3 };
        let instants = Instants::new(|k| Some(k as i64 * 266_666_667));
        trajectory(&info, &instants, origin, Some("train".into()), values.into_iter().collect())
    }

    fn read_one(declared: &str, values: Values<'_>) -> Result<Trajectory, ReadError> {
        let first = ("steps/is_first", Values::Ints(vec![1, 0]));
        read(&features_json(&[("x", declared)]), vec![first, ("steps/x", values)])
    }

    fn codes(trajectory: &Trajectory) -> Vec<(&str, &str)> {
        trajectory.findings.iter().map(|f| (f.code.as_str(), f.subject.as_str())).collect()
    }

    #[test]
    fn every_kind_of_feature_becomes_a_column() {
        let read = read(FEATURES, episode(1, 2)).expect("sound");
        assert_eq!((read.split.as_deref(), read.epoch_ns, read.streams.len()), (Some("train"), 0, 1));
        let steps = &read.streams[0];
        assert_eq!((steps.name.as_str(), steps.clock, steps.latched), ("steps", Clock::NominalRate, false));
        assert_eq!(steps.times_ns, [0, 266_666_667]);
        let column = |name: &str| &read.feature(name).expect(name).1.column;
        assert_eq!(column("steps/is_first"), &Column::Bool(vec![true, false]));
        assert_eq!(column("steps/observation/state"), &Column::F32(vec![1., 2., 3., 4., 5., 6.]));
        assert_eq!(column("steps/observation/count"), &Column::I64(vec![0, 1]));
        assert_eq!(
            column("steps/observation/image"),
            &Column::Bytes([&b"\x89PNG"[..]; 2].into_iter().collect())
        );
        let text = Column::Str([&b"open the drawer"[..]; 2].into_iter().collect());
        assert_eq!(column("steps/language_instruction"), &text);
        let shape = |name: &str| read.feature(name).expect(name).1.shape.clone();
        assert_eq!(shape("steps/action"), [2]);
        assert_eq!(shape("steps/observation/image"), Vec::<usize>::new());
        let metadata: Vec<_> = read.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(metadata, [("file_path", "a/b.npy"), ("success", "true"), ("weights", "[0.1, -2]")]);
        assert_eq!(codes(&read), []);
    }

    #[test]
    fn a_list_of_the_wrong_length_is_an_error_with_both_numbers() {
        let mut values = episode(0, 4);
        values[6].1 = Values::Floats(vec![0.0; 11]);
        assert_eq!(
            read(FEATURES, values).expect_err("short").to_string(),
            "f, episode 3, steps/observation/state: expected 12 values (4 steps × 3), found 11"
        );
        let mut values = episode(0, 4);
        values.remove(6);
        let error = read(FEATURES, values).expect_err("missing");
        assert!(error.problem.contains("expected 12 values"), "{error}");
    }

    #[test]
    fn an_empty_episode_is_an_error() {
        assert!(read(FEATURES, episode(0, 0)).is_err());
        assert!(read(FEATURES, Vec::new()).is_err());
    }

    #[test]
    fn without_is_first_the_majority_tells_the_steps() {
        let features = features_json(&[("a", &tensor("float32", r#"["3"]"#)), ("b", &tensor("int64", "[]"))])
            .replace("\"is_first\"", "\"other\"");
        let values = vec![
            ("steps/a", Values::Floats(vec![0.0; 12])),
            ("steps/b", Values::Ints(vec![0; 5])),
            ("steps/other", Values::Ints(vec![0; 4])),
        ];
        let error = read(&features, values).expect_err("b is longer");
        assert_eq!(error.place.feature.as_deref(), Some("steps/b"));
        assert!(error.problem.starts_with("expected 4 values"), "{error}");
    }

    #[test]
    fn an_open_width_is_inferred_or_left_out_with_a_finding() {
        let open = tensor("float32", r#"["-1", "2"]"#);
        let even = read_one(&open, Values::Floats(vec![0.0; 12])).expect("even");
        assert_eq!(even.feature("steps/x").expect("read").1.shape, [3, 2]);
        let ragged = read_one(&open, Values::Floats(vec![0.0; 10])).expect("left out");
        assert!(ragged.feature("steps/x").is_none());
        assert_eq!(codes(&ragged), [("ragged-feature", "steps/x")]);
    }

    #[test]
    fn what_contradicts_its_declaration_is_an_error() {
        for (dtype, values, index) in [
            ("float32", Values::Ints(vec![1, 2]), None),
            ("bool", Values::Ints(vec![1, 2]), Some(1)),
            ("uint64", Values::Ints(vec![-1, 2]), Some(0)),
            ("string", Values::Floats(vec![1.0, 2.0]), None),
        ] {
            let error = read_one(&tensor(dtype, "[]"), values).expect_err(dtype);
            assert_eq!(
                (error.place.feature.as_deref(), error.place.index),
                (Some("steps/x"), index),
                "{dtype}"
            );
        }
    }

    #[test]
    fn what_is_not_declared_or_not_utf8_has_a_finding() {
        let text = Values::Bytes(vec![b"a\xff", b"b"]);
        let read = read_one(r#"{"text": {}}"#, text).expect("readable");
        assert_eq!(codes(&read), [("invalid-utf8", "steps/x")]);
        let first = ("steps/is_first", Values::Ints(vec![1]));
        let read =
            self::read(&features_json(&[]), vec![first, ("steps/y", Values::Unset)]).expect("readable");
        assert_eq!(codes(&read), [("unknown-key", "steps/y")]);
    }

    #[test]
    fn metadata_that_is_no_text_is_described() {
        let mut values = episode(0, 1);
        values[0].1 = Values::Bytes(vec![b"\xff\xfe"]);
        values.remove(1);
        let read = read(FEATURES, values).expect("readable");
        assert_eq!(read.metadata["file_path"], "<2 bytes>");
        assert_eq!(codes(&read), [("missing-key", "episode_metadata/success")]);
    }
}
