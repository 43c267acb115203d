//! JSON messages: values without a definition, so every message says its own shape.
//!
//! Objects become dotted paths, arrays of numbers or of booleans vectors, arrays of anything else one part per
//! element; names and keys work as in [`super::shape`]. A number is an integer as long as all rows of its column were
//! written as integers within an i64; with the first one that is not, the column becomes float64 (integers beyond
//! 2^53 are then rounded). `null` and an absent field are the same: the part does not exist in that message.
//! `{"header": {"stamp": {"sec": …, "nanosec": …}}}` (`nsec` too) is the clock, as in ROS 2.
//!
//! Invariants: [`decode`] and [`node`] walk a value in the same order; two values with equal keys have equal nodes.

use serde_json::{Map, Value};

use super::cdr::DecodeError;
use super::ros2msg::{KEY_FIELDS, NAMES_FIELDS};
use super::shape::{Cursors, Extent, Kind, Node, Number, Row, TooManyFeatures, Values, unique_names};

/// A parsed value takes up to thirty times its text's memory, so texts are bounded closer than records are.
const MESSAGE_BYTES_MOST: usize = 64 << 20;

/// Parses `bytes` into `row`, which the caller has cleared.
pub(super) fn decode(bytes: &[u8], depth: usize, row: &mut Row) -> Result<Value, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MOST {
        let problem =
            format!("a JSON message of {} bytes, more than the {MESSAGE_BYTES_MOST} allowed", bytes.len());
        return Err(DecodeError::new(problem));
    }
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|e| DecodeError::new(format!("the message is not JSON: {e}")))?;
    row.stamp_ns = stamp_ns(&value);
    let mut filler = Filler { row, depth };
    filler.value(&value, 0, true)?;
    Ok(value)
}

/// The shape of `value`, if that has at most about `most` features.
pub(super) fn node(value: &Value, most: usize) -> Result<Node, TooManyFeatures> {
    let mut shaper = Shaper { cursors: Cursors::new(most) };
    Ok(shaper.value(value, true, false)?.unwrap_or_else(nothing))
}

/// What an array holds, if one thing only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uniform {
    Numbers,
    Bools,
    Mixed,
}

fn uniform(items: &[Value]) -> Uniform {
    if items.iter().all(Value::is_number) {
        Uniform::Numbers
    } else if items.iter().all(Value::is_boolean) {
        Uniform::Bools
    } else {
        Uniform::Mixed
    }
}

fn stamp_ns(root: &Value) -> Option<i64> {
    let stamp = root.get("header")?.get("stamp")?;
    let nanoseconds = stamp.get("nanosec").or_else(|| stamp.get("nsec"))?.as_i64()?;
    stamp.get("sec")?.as_i64()?.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// The texts of the array that names its siblings, and that array's field.
fn names_of(object: &Map<String, Value>) -> Option<(&'static str, Vec<&str>)> {
    let texts = |field: &'static str| {
        let items = object.get(field)?.as_array()?;
        Some((field, items.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?))
    };
    let found = NAMES_FIELDS.into_iter().find_map(texts)?;
    object.iter().any(|(name, value)| name != found.0 && value.is_array()).then_some(found)
}

/// The text that tells an object from its neighbours in an array, and its field.
fn key_of(object: &Map<String, Value>) -> Option<(&'static str, &str)> {
    KEY_FIELDS.into_iter().find_map(|field| Some((field, object.get(field)?.as_str()?)))
}

/// Whether `field` of the root is the header whose stamp is the clock.
fn is_clock(root: bool, field: &str, value: &Value) -> bool {
    let stamped = || value.get("stamp").is_some_and(|s| s.get("sec").is_some());
    root && field == "header" && stamped()
}

struct Filler<'a> {
    row: &'a mut Row,
    depth: usize,
}

impl Filler<'_> {
    fn value(&mut self, value: &Value, level: usize, root: bool) -> Result<(), DecodeError> {
        if level > self.depth {
            return Err(DecodeError::new(format!("JSON nested deeper than {} levels", self.depth)));
        }
        match value {
            Value::Null => self.row.key.push(b'0'),
            Value::Bool(value) => {
                self.row.key.push(b'b');
                self.row.bools.push(*value);
            }
            Value::Number(_) => {
                self.row.key.push(b'n');
                self.row.numbers.push(number(value));
            }
            Value::String(text) => {
                self.row.key.push(b's');
                self.row.push_blob(text.as_bytes());
            }
            Value::Array(items) => self.array(items, level)?,
            Value::Object(object) => self.object(object, level, root, false)?,
        }
        Ok(())
    }

    fn array(&mut self, items: &[Value], level: usize) -> Result<(), DecodeError> {
        let kind = uniform(items);
        self.row.key.push(match kind {
            Uniform::Numbers => b'N',
            Uniform::Bools => b'B',
            Uniform::Mixed => b'A',
        });
        self.row.push_key_count(items.len());
        match kind {
            Uniform::Numbers => self.row.numbers.extend(items.iter().map(number)),
            Uniform::Bools => self.row.bools.extend(items.iter().filter_map(Value::as_bool)),
            Uniform::Mixed => {
                for item in items {
                    match item {
                        Value::Object(object) if level < self.depth => {
                            self.object(object, level + 1, false, true)?
                        }
                        _ => self.value(item, level + 1, false)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        object: &Map<String, Value>,
        level: usize,
        root: bool,
        element: bool,
    ) -> Result<(), DecodeError> {
        let names = names_of(object);
        let key = key_of(object).filter(|_| element);
        self.row.key.push(b'O');
        self.row.push_key_count(object.len());
        for (field, value) in object {
            self.row.push_key_text(field.as_bytes());
            if let Some((_, names)) = names.as_ref().filter(|(name, _)| name == field) {
                self.row.key.push(b'S');
                self.row.push_key_count(names.len());
                names.iter().for_each(|n| self.row.push_key_text(n.as_bytes()));
            } else if let Some((_, key)) = key.filter(|(name, _)| name == field) {
                self.row.key.push(b'K');
                self.row.push_key_text(key.as_bytes());
            } else if let (true, Some(header)) = (is_clock(root, field, value), value.as_object()) {
                self.row.key.push(b'H');
                for (field, value) in header.iter().filter(|(name, _)| *name != "stamp") {
                    self.row.push_key_text(field.as_bytes());
                    self.value(value, level + 1, false)?;
                }
                self.row.key.push(b'.');
            } else {
                self.value(value, level + 1, false)?;
            }
        }
        Ok(())
    }
}

fn number(value: &Value) -> Number {
    (value.as_f64().unwrap_or(f64::NAN), value.as_i64())
}

struct Shaper {
    cursors: Cursors,
}

/// A part's node; `None` for a part that does not exist.
type Shaped = Result<Option<Node>, TooManyFeatures>;

impl Shaper {
    fn values(&mut self, kind: Kind, len: usize, extent: Extent) -> Shaped {
        Ok(Some(Node::Values(Values::plain(kind, self.cursors.take(kind, len), len, extent))))
    }

    fn value(&mut self, value: &Value, root: bool, element: bool) -> Shaped {
        self.cursors.nodes(1)?;
        match value {
            Value::Null => Ok(None),
            Value::Bool(_) => self.values(Kind::Bool, 1, Extent::Scalar),
            Value::Number(_) => self.values(Kind::Number, 1, Extent::Scalar),
            Value::String(_) => self.values(Kind::Str, 1, Extent::Scalar),
            Value::Array(items) => match uniform(items) {
                Uniform::Numbers => self.values(Kind::Number, items.len(), Extent::Variable),
                Uniform::Bools => self.values(Kind::Bool, items.len(), Extent::Variable),
                Uniform::Mixed => {
                    // A null element has no part, but the others keep their places.
                    let part = |item| Ok(self.value(item, false, true)?.unwrap_or_else(nothing));
                    let items = items.iter().map(part).collect::<Result<_, _>>()?;
                    Ok(Some(Node::Elements { items, variable: true }))
                }
            },
            Value::Object(object) => self.object(object, root, element).map(Some),
        }
    }

    fn object(
        &mut self,
        object: &Map<String, Value>,
        root: bool,
        element: bool,
    ) -> Result<Node, TooManyFeatures> {
        let names = names_of(object);
        let key = key_of(object).filter(|_| element);
        let mut fields = Vec::new();
        for (field, value) in object {
            let is_name = names.as_ref().is_some_and(|(name, _)| name == field);
            if is_name || key.is_some_and(|(name, _)| name == field) {
                continue;
            }
            let node = match value.as_object().filter(|_| is_clock(root, field, value)) {
                Some(header) => Some(self.header(header)?),
                None => self.value(value, false, false)?,
            };
            fields.extend(node.map(|node| (field.clone(), node)));
        }
        let sequences = object.values().any(Value::is_array);
        Ok(Node::Object {
            fields,
            hands_names_down: names.is_none() && sequences,
            names: names.map(|(_, names)| unique_names(names.into_iter().map(Into::into).collect())),
            key: key.map(|(_, key)| key.into()),
        })
    }

    /// The header without its stamp.
    fn header(&mut self, header: &Map<String, Value>) -> Result<Node, TooManyFeatures> {
        let mut fields = Vec::new();
        for (name, value) in header.iter().filter(|(name, _)| *name != "stamp") {
            fields.extend(self.value(value, false, false)?.map(|node| (name.clone(), node)));
        }
        Ok(Node::Object { fields, names: None, key: None, hands_names_down: false })
    }
}

fn nothing() -> Node {
    Node::Object { fields: vec![], names: None, key: None, hands_names_down: false }
}

#[cfg(test)]
mod tests {
    use super::super::shape::{Layout, describe};
    use super::*;
    use proptest::prelude::*;

    fn layout(text: &str) -> (Layout, Row) {
        let mut row = Row::default();
        let value = decode(text.as_bytes(), 8, &mut row).unwrap();
        (describe(&node(&value, 100).unwrap(), 100).unwrap(), row)
    }

    #[test]
    fn values_lie_where_the_node_says() {
        let text = r#"{"header": {"stamp": {"sec": 3, "nanosec": 5}, "frame_id": "map"}, "b": {"c": [1, 2.5], "on": true},
            "list": ["x", {"id": "left", "v": 7}, null], "none": null}"#;
        let (layout, row) = layout(text);
        assert_eq!(row.stamp_ns, Some(3_000_000_005));
        let paths: Vec<_> = layout.leaves.iter().map(|l| l.path.as_str()).collect();
        // An element without a name of its own keeps its index.
        assert_eq!(paths, ["b.c", "b.on", "header.frame_id", "list[0]", "list[left].v"]);
        assert_eq!(row.numbers[layout.leaves[4].start], (7.0, Some(7)));
        let frame = layout.leaves.iter().find(|l| l.path == "header.frame_id").unwrap();
        assert_eq!(row.blob(frame.start), b"map");
        assert_eq!(row.numbers[..2], [(1.0, Some(1)), (2.5, None)]);
    }

    #[test]
    fn names_work_as_in_ros() {
        let (layout, _) = layout(r#"{"name": ["a", "b"], "position": [1, 2], "effort": []}"#);
        assert_eq!(layout.leaves.len(), 1);
        assert_eq!(layout.leaves[0].names, Some(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn too_deep_and_not_json_are_errors() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert!(decode(deep.as_bytes(), 8, &mut Row::default()).unwrap_err().problem.contains("deeper"));
        assert!(decode(b"{", 8, &mut Row::default()).unwrap_err().problem.contains("not JSON"));
    }

    proptest! {
        #[test]
        fn node_and_row_agree_on_any_json(text in "([\\[\\]{},:0-9.]|\"name\":|\"id\":|\"a\"|null|true|\"header\":\\{\"stamp\":){0,40}") {
            let mut row = Row::default();
            if let Ok(value) = decode(text.as_bytes(), 8, &mut row)
                && let Ok(node) = node(&value, 100)
                && let Ok(layout) = describe(&node, 100)
            {
                for leaf in layout.leaves {
                    let available = match leaf.kind {
                        Kind::Number => row.numbers.len(),
                        Kind::Bool => row.bools.len(),
                        _ => row.blob_ends.len(),
                    };
                    prop_assert!(leaf.start + leaf.len <= available);
                }
            }
        }
    }
}
