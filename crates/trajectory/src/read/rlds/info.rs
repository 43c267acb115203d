//! Features of an RLDS dataset, as its `features.json` and `dataset_info.json` declare them.
//!
//! Both files are proto-JSON of messages defined in TensorFlow Datasets, `core/proto/{feature,dataset_info}.proto`:
//! keys are camelCase or the snake_case of the `.proto`, 64-bit integers are strings or numbers, and a dimension of -1
//! is unknown. What a value looks like in a record follows `core/example_serializer.py`: nested dictionaries are
//! flattened with `/`, floats of every width go to `float_list`, integers and booleans to `int64_list`, text and
//! encoded images to `bytes_list`, and a sequence within a step becomes `ragged_flat_values` with row lengths beside it.
//!
//! Invariants: the content of a feature (`tensor`, `image`, …) decides what it is, never the look of its name; and
//! whatever is declared but not read has a finding that names it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::{Limits, ReadError};
use super::dataset::DatasetInfo;
use crate::{Finding, Meaning};

/// Widest raw `uint8` tensor that is taken for a vector; anything wider is an image without its encoding.
const RAW_BYTE_WIDTH_MAX: usize = 4096;
/// Last parts of the names under which RLDS datasets keep what the robot was told.
const INSTRUCTION_NAMES: [&str; 4] =
    ["language_instruction", "natural_language_instruction", "instruction", "task"];

/// What a dataset declares about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RldsInfo {
    pub(super) dataset: Option<DatasetInfo>,
    /// What each key of a step holds; keys begin with `steps/`.
    pub(super) steps: BTreeMap<String, Declared>,
    /// What each key of the episode itself holds.
    pub(super) metadata: BTreeMap<String, Kind>,
    /// Declared keys (and whatever lies below them) that are not read.
    pub(super) left_out: Vec<String>,
    /// One per feature left out or read with a loss.
    pub(super) findings: Vec<Finding>,
}

/// How the values of a feature are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `float_list`.
    Float,
    /// `int64_list`; of a `uint64` the same 64 bits.
    Int { unsigned_64: bool },
    /// `int64_list` of 0 and 1.
    Bool,
    /// `bytes_list` of UTF-8.
    Text,
    /// `bytes_list` of JPEG or PNG files.
    Image,
}

impl Kind {
    /// What the values are called in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int { .. } => "integer",
            Self::Bool => "bool",
            Self::Text => "text",
            Self::Image => "an encoded image",
        }
    }
}

/// One feature of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared {
    pub(super) kind: Kind,
    pub(super) meaning: Meaning,
    /// Shape of one row; `None` for the one dimension that the dataset leaves open.
    pub(super) shape: Vec<Option<usize>>,
    /// Product of the known dimensions, at least 1.
    pub(super) known_width: usize,
}

impl Declared {
    /// Values per row, where the declaration says it.
    pub(super) fn width(&self) -> Option<usize> {
        self.shape.iter().all(Option::is_some).then_some(self.known_width)
    }
}

impl RldsInfo {
    /// Reads `features.json` and, where there is one, `dataset_info.json`.
    ///
    /// # Errors
    /// Where a file is not JSON, `features.json` declares no `steps` or declares more features than
    /// [`Limits::default`] allows, or `dataset_info.json` is of a form or a file format that this reader does not know.
    /// The error's file is the bare name of the one or the other.
    pub fn parse(features_json: &[u8], dataset_info_json: Option<&[u8]>) -> Result<Self, ReadError> {
        let root = json_object("features.json", features_json)?;
        let dataset = dataset_info_json.map(DatasetInfo::parse).transpose()?;
        let problem = |text: &str| ReadError::new("features.json", text);
        let features = member(&root, "featuresDict", "features_dict")
            .and_then(|dict| dict.get("features"))
            .and_then(Value::as_object)
            .ok_or_else(|| problem("the outermost feature is not a FeaturesDict: this is no RLDS dataset"))?;
        let steps = features
            .get("steps")
            .and_then(Value::as_object)
            .and_then(|steps| steps.get("sequence").or_else(|| steps.get("dataset")))
            .and_then(|sequence| sequence.get("feature"))
            .and_then(Value::as_object)
            .ok_or_else(|| {
                problem("there is no feature `steps` that is a Dataset: this is no RLDS dataset")
            })?;
        let mut info = Self {
            dataset,
            steps: BTreeMap::new(),
            metadata: BTreeMap::new(),
            left_out: Vec::new(),
            findings: Vec::new(),
        };
        info.declare("steps", steps, Part::Step)?;
        for (name, feature) in features.iter().filter(|(name, _)| *name != "steps") {
            let feature =
                feature.as_object().ok_or_else(|| problem(&format!("`{name}` is not an object")))?;
            info.declare(name, feature, Part::Episode)?;
        }
        if info.steps.len() + info.metadata.len() > Limits::default().features {
            return Err(problem(&format!("it declares more than {} features", Limits::default().features)));
        }
        info.findings.sort();
        Ok(info)
    }

    /// The `name` in `dataset_info.json`, under which [`super::super::oxe::control_frequency`] may know its rate.
    #[must_use]
    pub fn dataset_name(&self) -> Option<&str> {
        self.dataset.as_ref()?.name.as_deref()
    }

    /// What `features.json` alone already shows: features left out, or stored with a loss. Every episode repeats them.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether a key of a record is declared, though it is not read.
    pub(super) fn leaves_out(&self, key: &str) -> bool {
        self.left_out.iter().any(|prefix| {
            key.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Declares `feature`, called `key`, and what lies below it. JSON's own nesting limit bounds the recursion.
    fn declare(&mut self, key: &str, feature: &Map<String, Value>, part: Part) -> Result<(), ReadError> {
        if let Some(dict) = member(feature, "featuresDict", "features_dict") {
            let empty = Map::new();
            let inner = dict.get("features").map_or(Some(&empty), Value::as_object);
            let inner = inner.ok_or_else(|| invalid(key, "its features are not an object"))?;
            for (name, feature) in inner {
                let feature =
                    feature.as_object().ok_or_else(|| invalid(key, "a feature is not an object"))?;
                self.declare(&format!("{key}/{name}"), feature, part)?;
            }
            return Ok(());
        }
        match Leaf::parse(key, feature)? {
            Leaf::Unread { code, why } => self.leave_out(key, code, &why),
            Leaf::Values(leaf) => match part {
                Part::Step => self.declare_step(key, leaf),
                Part::Episode => {
                    self.metadata.insert(key.to_owned(), leaf.kind);
                }
            },
        }
        Ok(())
    }

    fn declare_step(&mut self, key: &str, leaf: Values) {
        let open = leaf.shape.iter().filter(|dimension| dimension.is_none()).count();
        let product = leaf.shape.iter().flatten().try_fold(1_usize, |product, d| product.checked_mul(*d));
        let known_width = match product {
            Some(width) if width > 0 && u32::try_from(width).is_ok() => width,
            _ => {
                return self.leave_out(
                    key,
                    "unsupported-feature",
                    "its shape holds nothing, or far too much",
                );
            }
        };
        if open > 1 {
            return self.leave_out(key, "ragged-feature", "more than one of its dimensions is unknown");
        }
        let one_per_row = matches!(leaf.kind, Kind::Text | Kind::Image);
        if one_per_row && (known_width != 1 || open > 0) {
            return self.leave_out(key, "unsupported-feature", "it holds several strings per step");
        }
        if leaf.raw_bytes && (open > 0 || known_width > RAW_BYTE_WIDTH_MAX) {
            let why = format!(
                "it is raw uint8 and wider than {RAW_BYTE_WIDTH_MAX} values: an image without encoding"
            );
            return self.leave_out(key, "unsupported-feature", &why);
        }
        if leaf.double {
            self.findings.push(Finding::new(
                "float64-stored-as-float32",
                key,
                "declared float64, but a record stores floats in 32 bits: about seven digits survive",
            ));
        }
        let last = key.rsplit('/').next().unwrap_or(key);
        let meaning = match leaf.kind {
            Kind::Image => Meaning::EncodedImage,
            Kind::Text if INSTRUCTION_NAMES.contains(&last) => Meaning::Instruction,
            _ => Meaning::Plain,
        };
        let shape = if one_per_row { Vec::new() } else { leaf.shape };
        self.steps.insert(key.to_owned(), Declared { kind: leaf.kind, meaning, shape, known_width });
    }

    fn leave_out(&mut self, key: &str, code: &str, why: &str) {
        self.findings.push(Finding::new(code, key, format!("{why}; it is left out")));
        self.left_out.push(key.to_owned());
    }
}

/// What a declaration belongs to.
#[derive(Debug, Clone, Copy)]
enum Part {
    Step,
    Episode,
}

/// A feature that is no dictionary.
enum Leaf {
    Values(Values),
    Unread { code: &'static str, why: String },
}

/// A feature that is stored as one flat list.
struct Values {
    kind: Kind,
    shape: Vec<Option<usize>>,
    /// Declared `float64`, which a record cannot hold.
    double: bool,
    /// An array of `uint8`.
    raw_bytes: bool,
}

impl Leaf {
    fn parse(key: &str, feature: &Map<String, Value>) -> Result<Self, ReadError> {
        let scalar = |kind| Self::Values(Values { kind, shape: Vec::new(), double: false, raw_bytes: false });
        if let Some(tensor) = feature.get("tensor") {
            return Self::tensor(key, tensor);
        }
        if let Some(image) = feature.get("image") {
            return Ok(Self::image(image));
        }
        if feature.contains_key("text") {
            return Ok(scalar(Kind::Text));
        }
        if member(feature, "classLabel", "class_label").is_some() {
            return Ok(scalar(Kind::Int { unsigned_64: false }));
        }
        if member(feature, "boundingBox", "bounding_box").is_some() {
            let shape = vec![Some(4)];
            return Ok(Self::Values(Values { kind: Kind::Float, shape, double: false, raw_bytes: false }));
        }
        if feature.contains_key("sequence") || feature.contains_key("dataset") {
            return Ok(Self::unread(
                "nested-sequence",
                "a sequence within a step has no fixed width".to_owned(),
            ));
        }
        let class = member(feature, "pythonClassName", "python_class_name").and_then(Value::as_str);
        let class = class.and_then(|class| class.rsplit('.').next()).unwrap_or("of no known class");
        Ok(Self::unread("unsupported-feature", format!("a feature {class} cannot be read")))
    }

    fn tensor(key: &str, tensor: &Value) -> Result<Self, ReadError> {
        let encoding = tensor.get("encoding").and_then(Value::as_str).unwrap_or("none");
        if !matches!(encoding, "none" | "") {
            return Ok(Self::unread("unsupported-encoding", format!("its values are stored as {encoding}")));
        }
        let dtype = tensor.get("dtype").and_then(Value::as_str).unwrap_or("");
        let kind = match dtype {
            "float16" | "bfloat16" | "float32" | "float64" => Kind::Float,
            "bool" => Kind::Bool,
            "string" | "object" | "str" => Kind::Text,
            "uint64" => Kind::Int { unsigned_64: true },
            "int4" | "int8" | "int16" | "int32" | "int64" | "uint4" | "uint8" | "uint16" | "uint32" => {
                Kind::Int { unsigned_64: false }
            }
            other => return Ok(Self::unread("unsupported-feature", format!("its type is `{other}`"))),
        };
        let shape = shape(tensor).ok_or_else(|| invalid(key, "its shape is not a list of integers"))?;
        let raw_bytes = dtype == "uint8" && !shape.is_empty();
        Ok(Self::Values(Values { kind, shape, double: dtype == "float64", raw_bytes }))
    }

    fn image(image: &Value) -> Self {
        let dtype = image.get("dtype").and_then(Value::as_str).unwrap_or("uint8");
        let format =
            member_of(image, "encodingFormat", "encoding_format").and_then(Value::as_str).unwrap_or("");
        match (dtype, format) {
            // An empty format is TFDS's default, which its images then tell by themselves.
            ("uint8" | "uint16" | "", "jpeg" | "png" | "") => {
                Self::Values(Values { kind: Kind::Image, shape: Vec::new(), double: false, raw_bytes: false })
            }
            // TFDS stores a float32 image as a PNG whose four channels are the bytes of each float.
            (dtype, format) => Self::unread(
                "unsupported-encoding",
                format!("it is an image of {dtype} values in format `{format}`, not a plain JPEG or PNG"),
            ),
        }
    }

    fn unread(code: &'static str, why: String) -> Self {
        Self::Unread { code, why }
    }
}

/// `shape.dimensions`; a missing shape is a scalar's, and -1 an unknown dimension.
fn shape(tensor: &Value) -> Option<Vec<Option<usize>>> {
    let Some(dimensions) = tensor.get("shape").and_then(|shape| shape.get("dimensions")) else {
        return Some(Vec::new());
    };
    let dimension = |value: &Value| match integer(value)? {
        -1 => Some(None),
        size => usize::try_from(size).ok().map(Some),
    };
    dimensions.as_array()?.iter().map(dimension).collect()
}

/// An integer of proto-JSON, which writes 64-bit ones as strings.
pub(super) fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// A member under either spelling that proto-JSON allows.
pub(super) fn member<'a>(object: &'a Map<String, Value>, camel: &str, snake: &str) -> Option<&'a Value> {
    object.get(camel).or_else(|| object.get(snake))
}

/// As [`member`], of a value that may be no object.
fn member_of<'a>(value: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    member(value.as_object()?, camel, snake)
}

/// The object that the JSON file called `file` holds.
pub(super) fn json_object(file: &str, json: &[u8]) -> Result<Map<String, Value>, ReadError> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ReadError::new(file, "it holds no JSON object")),
        Err(error) => Err(ReadError::new(file, format!("it is not JSON: {error}"))),
    }
}

fn invalid(key: &str, problem: &str) -> ReadError {
    ReadError::new("features.json", problem).feature(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{FEATURES, features_json, tensor};
    use super::*;

    fn codes(info: &RldsInfo) -> Vec<(&str, &str)> {
        info.findings.iter().map(|f| (f.subject.as_str(), f.code.as_str())).collect()
    }

    #[test]
    fn both_spellings_of_proto_json_declare_the_same() {
        let camel = RldsInfo::parse(FEATURES.as_bytes(), None).expect("valid");
        let snake = FEATURES
            .replace("featuresDict", "features_dict")
            .replace("pythonClassName", "python_class_name")
            .replace("encodingFormat", "encoding_format")
            .replace("\"3\"", "3");
        assert_eq!(RldsInfo::parse(snake.as_bytes(), None).expect("valid"), camel);
        assert_eq!(camel.steps["steps/observation/state"].width(), Some(3));
        assert_eq!(camel.steps["steps/observation/image"].meaning, Meaning::EncodedImage);
        assert_eq!(camel.steps["steps/language_instruction"].meaning, Meaning::Instruction);
        assert_eq!(camel.metadata["episode_metadata/file_path"], Kind::Text);
        assert!(camel.findings.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_left_out_with_a_finding() {
        let text = r#"{"text": {}}"#;
        let features = features_json(&[
            ("a_double", &tensor("float64", "[]")),
            ("b_zlib", r#"{"tensor": {"shape": {}, "dtype": "uint8", "encoding": "zlib"}}"#),
            ("c_sequence", &format!(r#"{{"sequence": {{"feature": {text}, "length": "-1"}}}}"#)),
            ("d_video", r#"{"pythonClassName": "x.features.video_feature.Video", "video": {}}"#),
            ("e_raw", &tensor("uint8", r#"["64", "64", "3"]"#)),
            ("f_open", &tensor("float32", r#"["-1", "-1"]"#)),
            ("g_words", &tensor("string", r#"["2"]"#)),
            ("h_complex", &tensor("complex64", "[]")),
            ("i_depth", r#"{"image": {"dtype": "float32", "encodingFormat": "png"}}"#),
            ("j_nothing", &tensor("float32", r#"["0"]"#)),
            ("k_small_raw", &tensor("uint8", r#"["4", "4"]"#)),
            ("l_label", r#"{"classLabel": {"numClasses": "4"}}"#),
            ("m_box", r#"{"boundingBox": {"shape": {"dimensions": ["4"]}, "dtype": "float32"}}"#),
        ]);
        let info = RldsInfo::parse(features.as_bytes(), None).expect("valid");
        let expected = [
            ("steps/a_double", "float64-stored-as-float32"),
            ("steps/b_zlib", "unsupported-encoding"),
            ("steps/c_sequence", "nested-sequence"),
            ("steps/d_video", "unsupported-feature"),
            ("steps/e_raw", "unsupported-feature"),
            ("steps/f_open", "ragged-feature"),
            ("steps/g_words", "unsupported-feature"),
            ("steps/h_complex", "unsupported-feature"),
            ("steps/i_depth", "unsupported-encoding"),
            ("steps/j_nothing", "unsupported-feature"),
        ];
        let mut found = codes(&info);
        found.sort_unstable();
        assert_eq!(found, expected);
        let read: Vec<_> = info.steps.keys().map(String::as_str).collect();
        assert_eq!(
            read,
            ["steps/a_double", "steps/is_first", "steps/k_small_raw", "steps/l_label", "steps/m_box"]
        );
        assert!(info.leaves_out("steps/c_sequence/ragged_flat_values"));
        assert!(!info.leaves_out("steps/c_sequences"));
    }

    #[test]
    fn a_dataset_without_steps_is_refused() {
        for json in ["", "[]", "{}", r#"{"featuresDict": {"features": {}}}"#, r#"{"tensor": {}}"#] {
            let error = RldsInfo::parse(json.as_bytes(), None).expect_err(json);
            assert_eq!(error.place.file, "features.json");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(features in prop::collection::vec(any::<u8>(), 0..100), info: Vec<u8>) {
            let _ = RldsInfo::parse(&features, Some(&info));
        }

        #[test]
        fn mutated_declarations_never_panic(at in 0..FEATURES.len(), byte in 0x20_u8..0x7f) {
            let mut features = FEATURES.as_bytes().to_vec();
            features[at] = byte;
            let _ = RldsInfo::parse(&features, None);
        }
    }
}
