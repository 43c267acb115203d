//! A made-up RLDS dataset for the tests of this folder.

use super::super::example::{Values, encode};

/// A dataset with one feature of every kind that is read.
pub(super) const FEATURES: &str = r#"{
  "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
  "featuresDict": { "features": {
    "episode_metadata": { "featuresDict": { "features": {
      "file_path": { "text": {} },
      "success": { "tensor": { "shape": {}, "dtype": "bool", "encoding": "none" } },
      "weights": { "tensor": { "shape": { "dimensions": ["2"] }, "dtype": "float32", "encoding": "none" } }
    } } },
    "steps": { "sequence": { "length": "-1", "feature": { "featuresDict": { "features": {
      "is_first": { "tensor": { "shape": {}, "dtype": "bool", "encoding": "none" } },
      "action": { "tensor": { "shape": { "dimensions": ["-1"] }, "dtype": "float32", "encoding": "none" } },
      "language_instruction": { "text": {} },
      "observation": { "featuresDict": { "features": {
        "state": { "tensor": { "shape": { "dimensions": ["3"] }, "dtype": "float32", "encoding": "none" } },
        "count": { "tensor": { "shape": {}, "dtype": "int32", "encoding": "none" } },
        "image": { "image": { "shape": { "dimensions": ["2", "2", "3"] }, "dtype": "uint8", "encodingFormat": "png" } }
      } } }
    } } } } }
  } }
}"#;

/// A tensor called by its type and its JSON list of dimensions.
pub(super) fn tensor(dtype: &str, dimensions: &str) -> String {
    format!(
        r#"{{"tensor": {{"shape": {{"dimensions": {dimensions}}}, "dtype": "{dtype}", "encoding": "none"}}}}"#
    )
}

/// A `features.json` with `is_first` and the features given.
pub(super) fn features_json(features: &[(&str, &str)]) -> String {
    let mut steps = format!(r#""is_first": {}"#, tensor("bool", "[]"));
    for (name, feature) in features {
        steps.push_str(&format!(r#", "{name}": {feature}"#));
    }
    format!(
        r#"{{"featuresDict": {{"features": {{"steps": {{"sequence": {{"feature": {{"featuresDict":
            {{"features": {{ {steps} }} }} }} }} }} }} }} }}"#
    )
}

/// The values of one episode of [`FEATURES`] with `steps` steps, its numbers starting at `first`.
pub(super) fn episode(first: u16, steps: u16) -> Vec<(&'static str, Values<'static>)> {
    let floats = |width: u16| Values::Floats((0..steps * width).map(|i| f32::from(first + i)).collect());
    let blobs = |blob: &'static [u8]| Values::Bytes(vec![blob; usize::from(steps)]);
    vec![
        ("episode_metadata/file_path", Values::Bytes(vec![b"a/b.npy"])),
        ("episode_metadata/success", Values::Ints(vec![1])),
        ("episode_metadata/weights", Values::Floats(vec![0.1, -2.0])),
        ("steps/is_first", Values::Ints((0..steps).map(|k| i64::from(k == 0)).collect())),
        ("steps/action", floats(2)),
        ("steps/language_instruction", blobs(b"open the drawer")),
        ("steps/observation/state", floats(3)),
        ("steps/observation/count", Values::Ints((0..steps).map(|k| i64::from(first + k) - 1).collect())),
        ("steps/observation/image", blobs(b"\x89PNG")),
    ]
}

/// The record of one such episode.
pub(super) fn record(first: u16, steps: u16) -> Vec<u8> {
    encode(&episode(first, steps))
}
