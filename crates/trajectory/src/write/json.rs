//! JSON as lerobot writes it: keys in a stated order, indented by four.

use std::io;

use serde_json::Value;

use super::WriteError;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A JSON object whose keys keep their order.
#[derive(Debug, Clone)]
pub(super) struct Object<K, V>(pub(super) Vec<(K, V)>);

impl<K: Serialize, V: Serialize> Serialize for Object<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// `value` as an indented JSON document.
pub(super) fn document<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    Ok(out)
}

/// A document of `entries` and, last, an object of objects named `name`.
pub(super) fn joined(
    entries: Vec<(&'static str, Value)>,
    name: &'static str,
    features: Vec<(&str, Object<&'static str, Value>)>,
) -> Result<Vec<u8>, WriteError> {
    /// What an entry holds: `Value` alone would sort the features by name.
    #[derive(serde::Serialize)]
    #[serde(untagged)]
    enum Entry<'a> {
        Value(Value),
        Features(Object<&'a str, Object<&'static str, Value>>),
    }
    let entries = entries.into_iter().map(|(key, value)| (key, Entry::Value(value)));
    let last = std::iter::once((name, Entry::Features(Object(features))));
    Ok(document(&Object(entries.chain(last).collect()))?)
}
