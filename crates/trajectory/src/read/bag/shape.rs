//! The shape of one message, and the features that follow from it.
//!
//! A decoder turns a message into a [`Row`] (its values, by type, in the order they were met) and a [`Node`] tree
//! that says where in the row each part lies. [`describe`] walks the tree once and gives the [`Layout`]: the features,
//! by dotted path, and the *identity* of the message: which names it carries. Messages of one topic with
//! different identities are different streams, since their vectors mean different things.
//!
//! Naming, from the message alone:
//! * a sequence beside a `string[]` of names (`name`, `joint_names`, `interface_names`) of the same length
//!   is a vector with those component names; names pass down to elements that only hold sequences (a trajectory's
//!   points);
//! * elements with a text `child_frame_id`, `name` or `id` are called by it: `transforms[base_link]`;
//! * anything else by its index.
//!
//! Invariants: paths are unique in a layout; the identity does not depend on the order of names.

use std::collections::HashMap;

use crate::{ColumnKind, Meaning};

/// Types a row keeps its values by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F64,
    I64,
    Bool,
    Str,
    Bytes,
    /// A JSON number: an integer for as long as all rows of its column are.
    Number,
}

impl Kind {
    /// The column values of this kind go to, at first.
    pub(super) fn column(self) -> ColumnKind {
        match self {
            Self::F32 => ColumnKind::F32,
            Self::F64 => ColumnKind::F64,
            Self::I64 | Self::Number => ColumnKind::I64,
            Self::Bool => ColumnKind::Bool,
            Self::Str => ColumnKind::Str,
            Self::Bytes => ColumnKind::Bytes,
        }
    }
}

/// A JSON number: its value, and the same as an integer if it was written as one.
pub(super) type Number = (f64, Option<i64>);

/// The values of one message, reused from message to message.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) f32s: Vec<f32>,
    pub(super) f64s: Vec<f64>,
    pub(super) i64s: Vec<i64>,
    /// Which of `i64s` were a uint64 above 2^63 - 1, which no column holds.
    pub(super) too_large: Vec<usize>,
    pub(super) bools: Vec<bool>,
    pub(super) numbers: Vec<Number>,
    /// Texts and bytes end to end; value `i` ends at `blob_ends[i]`.
    pub(super) blobs: Vec<u8>,
    pub(super) blob_ends: Vec<usize>,
    /// Everything the message's shape depends on beside its type: lengths of sequences, and names.
    pub(super) key: Vec<u8>,
    /// The header's stamp, in nanoseconds.
    pub(super) stamp_ns: Option<i64>,
}

impl Row {
    pub(super) fn clear(&mut self) {
        self.f32s.clear();
        self.f64s.clear();
        self.i64s.clear();
        self.too_large.clear();
        self.bools.clear();
        self.numbers.clear();
        self.blobs.clear();
        self.blob_ends.clear();
        self.key.clear();
        self.stamp_ns = None;
    }

    pub(super) fn push_blob(&mut self, value: &[u8]) {
        self.blobs.extend_from_slice(value);
        self.blob_ends.push(self.blobs.len());
    }

    pub(super) fn blob(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.blob_ends[index - 1] };
        &self.blobs[start..self.blob_ends[index]]
    }

    pub(super) fn push_key_count(&mut self, count: usize) {
        self.key.extend_from_slice(&(count as u64).to_le_bytes());
    }

    pub(super) fn push_key_text(&mut self, text: &[u8]) {
        self.push_key_count(text.len());
        self.key.extend_from_slice(text);
    }
}

/// Where the next value of each kind lies in the row, while a tree is built in the order of decoding; and how many
/// nodes the tree may still have, since a node takes a hundred times the memory of an empty text.
#[derive(Debug)]
pub(super) struct Cursors {
    next: [usize; 6],
    room: usize,
}

impl Cursors {
    /// For a message of at most about `most` features.
    pub(super) fn new(most: usize) -> Self {
        Self { next: [0; 6], room: most.saturating_mul(NODES_PER_FEATURE) }
    }

    /// Makes sure that `count` more nodes may be made.
    pub(super) fn nodes(&mut self, count: usize) -> Result<(), TooManyFeatures> {
        self.room = self.room.checked_sub(count).ok_or(TooManyFeatures)?;
        Ok(())
    }

    /// Takes `len` values of `kind`; the index of the first.
    pub(super) fn take(&mut self, kind: Kind, len: usize) -> usize {
        let slot = match kind {
            Kind::F32 => 0,
            Kind::F64 => 1,
            Kind::I64 => 2,
            Kind::Bool => 3,
            Kind::Number => 4,
            Kind::Str | Kind::Bytes => 5,
        };
        let start = self.next[slot];
        self.next[slot] += len;
        start
    }
}

/// How many values a [`Values`] node has, as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Scalar,
    Fixed,
    Variable,
}

/// Adjacent values of one kind.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) kind: Kind,
    /// First value, in the row's buffer of that kind.
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) extent: Extent,
    pub(super) names: Option<Vec<String>>,
    pub(super) meaning: Meaning,
}

impl Values {
    pub(super) fn plain(kind: Kind, start: usize, len: usize, extent: Extent) -> Self {
        Self { kind, start, len, extent, names: None, meaning: Meaning::Plain }
    }
}

/// The shape of a message or a part of one.
#[derive(Debug)]
pub(super) enum Node {
    Values(Values),
    Object {
        fields: Vec<(String, Node)>,
        /// The names this message gives its sequences.
        names: Option<Vec<String>>,
        /// What tells this message from its neighbours in a sequence.
        key: Option<String>,
        /// Whether names from outside belong to its sequences rather than to it.
        hands_names_down: bool,
    },
    Elements {
        items: Vec<Node>,
        variable: bool,
    },
}

/// One feature of a message.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// Dotted path inside the message; empty if the message itself is the value.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) shape: Vec<usize>,
    pub(super) names: Option<Vec<String>>,
    pub(super) meaning: Meaning,
}

/// The features of a message, and what they depend on.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) leaves: Vec<Leaf>,
    /// The names the message carries and which named sequences are present, sorted.
    pub(super) identity: Vec<String>,
    /// Length of every sequence without names, by path.
    pub(super) lengths: Vec<(String, usize)>,
}

/// A message has more features than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyFeatures;

/// The layout of a message of shape `node`, with at most about `most` features.
pub(super) fn describe(node: &Node, most: usize) -> Result<Layout, TooManyFeatures> {
    let mut describer = Describer {
        layout: Layout::default(),
        paths: Taken::default(),
        visits: 0,
        among_unnamed: false,
        most,
    };
    describer.node(String::new(), node, &[])?;
    describer.layout.identity.sort_unstable();
    Ok(describer.layout)
}

struct Describer {
    layout: Layout,
    paths: Taken,
    visits: usize,
    /// Inside elements called by their index: names there do not tell streams apart, since the elements themselves
    /// come and go.
    among_unnamed: bool,
    most: usize,
}

/// Parts without any value count too, so that a message of a million empty elements ends early.
const NODES_PER_FEATURE: usize = 16;

impl Describer {
    fn node(&mut self, path: String, node: &Node, names: &[String]) -> Result<(), TooManyFeatures> {
        self.visits += 1;
        if self.layout.leaves.len() > self.most || self.visits / NODES_PER_FEATURE > self.most {
            return Err(TooManyFeatures);
        }
        match node {
            Node::Values(values) => self.values(path, values, names),
            Node::Object { fields, names: own, .. } => {
                if let Some(own) = own {
                    self.identify(format!("{path} names {}", set_of(own)));
                }
                let names = own.as_deref().unwrap_or(names);
                for (name, field) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    // A message that is a field has nothing to do with its neighbour's names.
                    let names = if matches!(field, Node::Object { .. }) { &[] } else { names };
                    self.node(path, field, names)?;
                }
            }
            Node::Elements { items, variable } => self.elements(path, items, *variable, names)?,
        }
        Ok(())
    }

    fn values(&mut self, path: String, values: &Values, names: &[String]) {
        let mut component_names = values.names.clone();
        let shape = match values.extent {
            Extent::Scalar => vec![],
            Extent::Fixed => vec![values.len],
            Extent::Variable if !names.is_empty() && values.len == 0 => {
                // Names without values (no effort measured): the feature does not exist here.
                self.identify(format!("{path} absent"));
                return;
            }
            Extent::Variable => {
                if names.is_empty() || names.len() != values.len {
                    self.layout.lengths.push((path.clone(), values.len));
                    if values.len == 0 {
                        return;
                    }
                } else {
                    component_names = Some(names.to_vec());
                }
                vec![values.len]
            }
        };
        let Values { kind, start, len, meaning, .. } = *values;
        let path = self.paths.distinct(path);
        self.layout.leaves.push(Leaf { path, kind, start, len, shape, names: component_names, meaning });
    }

    fn elements(
        &mut self,
        path: String,
        items: &[Node],
        variable: bool,
        names: &[String],
    ) -> Result<(), TooManyFeatures> {
        let labels = self.labels(&path, items, variable, names);
        if labels.is_none() && variable {
            self.layout.lengths.push((path.clone(), items.len()));
        }
        let outside = self.among_unnamed;
        self.among_unnamed |= labels.is_none() && variable;
        for (index, item) in items.iter().enumerate() {
            let path = match &labels {
                Some(labels) => format!("{path}[{}]", labels[index]),
                None => format!("{path}[{index}]"),
            };
            let hands_down = matches!(item, Node::Object { hands_names_down: true, .. });
            self.node(path, item, if hands_down { names } else { &[] })?;
        }
        self.among_unnamed = outside;
        Ok(())
    }

    /// What to call each element if not by its index.
    fn labels(
        &mut self,
        path: &str,
        items: &[Node],
        variable: bool,
        names: &[String],
    ) -> Option<Vec<String>> {
        let key = |item: &Node| match item {
            Node::Object { key: Some(key), .. } => key.clone(),
            _ => String::new(),
        };
        let keys: Vec<String> = items.iter().map(key).collect();
        if keys.iter().any(|k| !k.is_empty()) {
            let keys = unique_names(keys);
            self.identify(format!("{path} elements {}", set_of(&keys)));
            return Some(keys);
        }
        let inner = items.iter().any(|i| matches!(i, Node::Object { hands_names_down: true, .. }));
        (variable && !inner && !names.is_empty() && names.len() == items.len()).then(|| names.to_vec())
    }

    fn identify(&mut self, piece: String) {
        if !self.among_unnamed {
            self.layout.identity.push(piece);
        }
    }
}

/// The names whatever their order, as one text. Their lengths make it unambiguous whatever they contain.
fn set_of(names: &[String]) -> String {
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.iter().map(|n| format!("{}:{n}", n.len())).collect()
}

/// Names made distinct: an empty one becomes its index, a repeated one gets `#2`, `#3` …
pub(super) fn unique_names(names: Vec<String>) -> Vec<String> {
    let mut taken = Taken::default();
    let named = |(i, name): (usize, String)| if name.is_empty() { i.to_string() } else { name };
    names.into_iter().enumerate().map(named).map(|name| taken.distinct(name)).collect()
}

/// Names in use. Remembers the next suffix of each, so that a million equal names take a million steps.
#[derive(Debug, Default)]
pub(super) struct Taken(HashMap<String, usize>);

impl Taken {
    /// `name`, or if that is taken `name#2`, `name#3` …; what is returned is then taken.
    pub(super) fn distinct(&mut self, name: String) -> String {
        let Some(next) = self.0.get(&name) else {
            self.0.insert(name.clone(), 2);
            return name;
        };
        let mut next = *next;
        let mut candidate = format!("{name}#{next}");
        while self.0.contains_key(&candidate) {
            next += 1;
            candidate = format!("{name}#{next}");
        }
        self.0.insert(name, next + 1);
        self.0.insert(candidate.clone(), 2);
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(len: usize) -> Node {
        Node::Values(Values::plain(Kind::F64, 0, len, Extent::Variable))
    }

    fn object(fields: Vec<(&str, Node)>, names: Option<Vec<String>>, key: Option<&str>) -> Node {
        let hands_names_down = names.is_none()
            && fields.iter().any(|(_, f)| matches!(f, Node::Values(v) if v.extent == Extent::Variable));
        Node::Object {
            fields: fields.into_iter().map(|(n, f)| (n.to_owned(), f)).collect(),
            names,
            key: key.map(Into::into),
            hands_names_down,
        }
    }

    fn ab() -> Option<Vec<String>> {
        Some(vec!["a".into(), "b".into()])
    }

    #[test]
    fn names_go_to_sequences_of_their_length_only() {
        let node = object(
            vec![("position", sequence(2)), ("effort", sequence(0)), ("other", sequence(3))],
            ab(),
            None,
        );
        let layout = describe(&node, 10).unwrap();
        let leaves: Vec<_> =
            layout.leaves.iter().map(|l| (l.path.as_str(), l.shape.clone(), l.names.clone())).collect();
        assert_eq!(leaves, [("position", vec![2], ab()), ("other", vec![3], None)]);
        assert_eq!(layout.lengths, [("other".to_owned(), 3)]);
        assert_eq!(layout.identity, [" names 1:a1:b", "effort absent"]);
    }

    #[test]
    fn names_pass_down_to_the_points_of_a_trajectory() {
        let point = || object(vec![("positions", sequence(2))], None, None);
        let points = Node::Elements { items: vec![point(), point()], variable: true };
        let layout = describe(&object(vec![("points", points)], ab(), None), 10).unwrap();
        assert_eq!(layout.leaves[1].path, "points[1].positions");
        assert_eq!(layout.leaves[1].names, ab());
        assert_eq!(layout.lengths, [("points".to_owned(), 2)]);
    }

    #[test]
    fn names_stay_out_of_messages_beside_them_and_unnamed_elements_out_of_the_identity() {
        let part = object(vec![("v", sequence(2))], None, None);
        let inner = object(vec![("v", sequence(2))], ab(), None);
        let list = Node::Elements { items: vec![inner], variable: true };
        let layout = describe(&object(vec![("part", part)], ab(), None), 10).unwrap();
        assert_eq!(layout.leaves[0].names, None);
        let layout = describe(&object(vec![("list", list)], None, None), 10).unwrap();
        assert_eq!((layout.leaves[0].names.clone(), layout.identity.len()), (ab(), 0));
    }

    #[test]
    fn elements_are_called_by_their_key_in_any_order() {
        let scalar = || Node::Values(Values::plain(Kind::F64, 0, 1, Extent::Scalar));
        let message = |keys: [&str; 2]| {
            let items = keys.map(|k| object(vec![("x", scalar())], None, Some(k))).into();
            object(vec![("t", Node::Elements { items, variable: true })], None, None)
        };
        let one = describe(&message(["hand", "base"]), 10).unwrap();
        let other = describe(&message(["base", "hand"]), 10).unwrap();
        assert_eq!(one.leaves[0].path, "t[hand].x");
        assert_eq!(one.identity, other.identity);
        let twice = describe(&message(["base", "base"]), 10).unwrap();
        assert_eq!(twice.leaves[1].path, "t[base#2].x");
        let unnamed = describe(&message(["", ""]), 10).unwrap();
        assert_eq!((unnamed.leaves[1].path.as_str(), unnamed.identity.len()), ("t[1].x", 0));
    }

    #[test]
    fn too_many_features_are_refused_early() {
        let items = (0..100).map(|_| Node::Values(Values::plain(Kind::F64, 0, 1, Extent::Scalar))).collect();
        let node = Node::Elements { items, variable: false };
        assert_eq!(describe(&node, 10).unwrap_err(), TooManyFeatures);
        let empty = (0..1000).map(|_| object(vec![], None, None)).collect();
        let node = Node::Elements { items: empty, variable: false };
        assert_eq!(describe(&node, 10).unwrap_err(), TooManyFeatures);
    }
}
