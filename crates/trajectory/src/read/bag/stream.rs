//! Streams under construction: rows of one identity, appended to columns.
//!
//! The first message of a stream decides its columns. Every further layout is fitted to them once, which gives a
//! [`Plan`]: copies from row to column, reordered where the message lists its names in another order. A feature that
//! a later layout lacks, brings anew, or gives another shape or type cannot be a column, whose rows all look the same:
//! it is lost to the stream, its values are freed, and why is remembered for a finding.
//!
//! Invariant: a live column has exactly one row per instant.

use std::collections::{BTreeMap, HashMap};

use super::shape::{Kind, Layout, Leaf, Number, Row};
use crate::{Column, ColumnKind, Feature, Finding, Meaning};

/// Rows of one topic that carry the same names.
#[derive(Debug)]
pub(super) struct StreamBuilder {
    /// The topic, or `topic#2` … for its further name sets.
    pub(super) name: String,
    /// When the recorder received each message.
    pub(super) log_ns: Vec<i64>,
    /// The header's stamp of each message; empty if the topic has none, 0 where one message has none.
    pub(super) header_ns: Vec<i64>,
    columns: Vec<ColumnBuilder>,
    by_path: HashMap<String, usize>,
    lengths: BTreeMap<String, (usize, usize)>,
}

/// Why a feature is not a column of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Part of a sequence, or of a list of elements, whose length changes.
    Ragged,
    /// Not in every message.
    Intermittent,
    /// Not always of one type.
    MixedTypes,
    /// A uint64 above 2^63 - 1.
    TooLarge,
}

#[derive(Debug)]
struct ColumnBuilder {
    leaf: Leaf,
    values: Column,
    lost: Option<Loss>,
    /// Rows that began like a JPEG or PNG file; counted for declared images only.
    images: usize,
}

/// How the rows of one layout go into a stream's columns.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) stream: usize,
    moves: Vec<Move>,
}

#[derive(Debug)]
struct Move {
    column: usize,
    kind: Kind,
    start: usize,
    len: usize,
    /// Component `i` of the column is component `order[i]` of the message.
    order: Option<Box<[usize]>>,
    is_image: bool,
}

impl StreamBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            log_ns: Vec::new(),
            header_ns: Vec::new(),
            columns: Vec::new(),
            by_path: HashMap::new(),
            lengths: BTreeMap::new(),
        }
    }

    /// Fits `layout` to the columns; this stream is number `stream` of its topic.
    pub(super) fn plan(&mut self, stream: usize, layout: Layout) -> Plan {
        let first = self.log_ns.is_empty();
        for (path, len) in layout.lengths {
            let (least, most) = self.lengths.entry(path).or_insert((len, len));
            *least = len.min(*least);
            *most = len.max(*most);
        }
        let mut seen = vec![false; self.columns.len()];
        let mut moves = Vec::with_capacity(layout.leaves.len());
        for leaf in layout.leaves {
            let column = match self.by_path.get(&leaf.path) {
                Some(&column) => {
                    seen[column] = true;
                    column
                }
                None => self.add_column(leaf.clone(), (!first).then_some(Loss::Intermittent)),
            };
            if let Some(order) = self.columns[column].fit(&leaf) {
                let Leaf { kind, start, len, meaning, .. } = leaf;
                moves.push(Move {
                    column,
                    kind,
                    start,
                    len,
                    order,
                    is_image: meaning == Meaning::EncodedImage,
                });
            }
        }
        for (column, _) in self.columns.iter_mut().zip(seen).filter(|(_, seen)| !seen && !first) {
            column.lose(Loss::Intermittent);
        }
        Plan { stream, moves }
    }

    fn add_column(&mut self, leaf: Leaf, lost: Option<Loss>) -> usize {
        let values = Column::new(leaf.kind.column());
        self.by_path.insert(leaf.path.clone(), self.columns.len());
        self.columns.push(ColumnBuilder { leaf, values, lost, images: 0 });
        self.columns.len() - 1
    }

    pub(super) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Appends a row; the bytes of payload it takes.
    pub(super) fn append(&mut self, plan: &Plan, row: &Row, log_ns: i64, has_header: bool) -> u64 {
        self.log_ns.push(log_ns);
        if has_header {
            self.header_ns.push(row.stamp_ns.unwrap_or(0));
        }
        let mut bytes = 16;
        for copy in &plan.moves {
            let column = &mut self.columns[copy.column];
            let range = copy.start..copy.start + copy.len;
            if copy.kind == Kind::I64 && row.too_large.iter().any(|i| range.contains(i)) {
                column.lose(Loss::TooLarge);
            }
            if column.lost.is_none() {
                bytes += column.append(copy, row);
            }
        }
        bytes
    }

    /// The features of `rows` rows, with what was lost reported into `findings`.
    pub(super) fn into_features(self, rows: usize, findings: &mut Vec<Finding>) -> Vec<Feature> {
        let ragged: Vec<(&String, &(usize, usize))> =
            self.lengths.iter().filter(|(_, (least, most))| least != most).collect();
        let inside =
            |path: &str, outer: &str| path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('['));
        for (path, (least, most)) in &ragged {
            // Inside an outer ragged list there is nothing left to lose.
            if !ragged.iter().any(|(outer, _)| inside(path, outer)) {
                let message = format!(
                    "the sequence has no names and its length changes from message to message ({least} to {most}), so \
                     it is no column and is left out"
                );
                findings.push(Finding::new("ragged-feature", feature_name(&self.name, path), message));
            }
        }
        let mut features = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let explained =
                ragged.iter().any(|(p, _)| column.leaf.path == **p || inside(&column.leaf.path, p));
            if let (Some(loss), false) = (column.lost, explained) {
                let (code, what) = match loss {
                    Loss::Ragged => ("ragged-feature", "its shape changes from message to message"),
                    Loss::Intermittent => ("ragged-feature", "it is not in every message"),
                    Loss::TooLarge => (
                        "uint64-overflow",
                        "a value is above 9223372036854775807, the most that 64-bit integers hold",
                    ),
                    Loss::MixedTypes => ("mixed-types", "its type changes from message to message"),
                };
                let name = feature_name(&self.name, &column.leaf.path);
                findings.push(Finding::new(
                    code,
                    name,
                    format!("{what}, so it is no column and is left out"),
                ));
            }
        }
        for column in self.columns.into_iter().filter(|c| c.lost.is_none()) {
            features.push(column.into_feature(&self.name, rows, findings));
        }
        features
    }
}

/// `/topic.path`, `/topic[0]` for an element of a root array, or `/topic` where the message is the value.
fn feature_name(stream: &str, path: &str) -> String {
    let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
    format!("{stream}{dot}{path}")
}

impl ColumnBuilder {
    fn lose(&mut self, loss: Loss) {
        if self.lost.is_none() {
            self.lost = Some(loss);
            self.values = Column::new(self.values.kind());
        }
    }

    /// The order in which `leaf`'s components go into this column (`None` inside: as they are), or `None` if the
    /// column is lost.
    fn fit(&mut self, leaf: &Leaf) -> Option<Option<Box<[usize]>>> {
        if leaf.kind != self.leaf.kind {
            self.lose(Loss::MixedTypes);
        } else if leaf.shape != self.leaf.shape {
            self.lose(Loss::Ragged);
        }
        if self.lost.is_some() {
            return None;
        }
        if leaf.names == self.leaf.names {
            return Some(None);
        }
        let order = match (&self.leaf.names, &leaf.names) {
            (Some(wanted), Some(given)) => order_of(wanted, given),
            _ => None,
        };
        if order.is_none() {
            // Streams are told apart by their names, so this is a sequence that once matched them by length only.
            self.lose(Loss::Ragged);
        }
        order.map(Some)
    }

    fn append(&mut self, copy: &Move, row: &Row) -> u64 {
        fn extend<T: Copy>(out: &mut Vec<T>, values: &[T], order: Option<&[usize]>) -> u64 {
            match order {
                None => out.extend_from_slice(values),
                Some(order) => out.extend(order.iter().map(|i| values[*i])),
            }
            size_of_val(values) as u64
        }
        let range = copy.start..copy.start + copy.len;
        let order = copy.order.as_deref();
        if copy.kind == Kind::Number {
            return self.append_numbers(&row.numbers[range], order);
        }
        match &mut self.values {
            Column::F32(out) => extend(out, &row.f32s[range], order),
            Column::F64(out) => extend(out, &row.f64s[range], order),
            Column::I64(out) => extend(out, &row.i64s[range], order),
            Column::Bool(out) => extend(out, &row.bools[range], order),
            Column::Str(out) | Column::Bytes(out) => {
                let blob = row.blob(copy.start);
                self.images += usize::from(copy.is_image && is_image_file(blob));
                out.push(blob);
                blob.len() as u64 + 8
            }
        }
    }

    fn append_numbers(&mut self, numbers: &[Number], order: Option<&[usize]>) -> u64 {
        let at = |i: usize| numbers[order.map_or(i, |order| order[i])];
        if let Column::I64(out) = &mut self.values {
            if numbers.iter().all(|(_, integer)| integer.is_some()) {
                out.extend((0..numbers.len()).filter_map(|i| at(i).1));
                return 8 * numbers.len() as u64;
            }
            self.values = Column::F64(out.iter().map(|v| *v as f64).collect());
        }
        if let Column::F64(out) = &mut self.values {
            out.extend((0..numbers.len()).map(|i| at(i).0));
        }
        8 * numbers.len() as u64
    }

    fn into_feature(self, stream: &str, rows: usize, findings: &mut Vec<Finding>) -> Feature {
        let name = feature_name(stream, &self.leaf.path);
        let mut meaning = self.leaf.meaning;
        if meaning == Meaning::EncodedImage && self.images < rows {
            meaning = Meaning::Plain;
            let message = format!(
                "{} of {rows} messages hold no JPEG or PNG file, so the bytes are kept as they are and not taken for \
                 images",
                rows - self.images
            );
            findings.push(Finding::new("unknown-image", &name, message));
        }
        debug_assert!(self.values.kind() == ColumnKind::Bytes || meaning != Meaning::EncodedImage);
        Feature { name, shape: self.leaf.shape, names: self.leaf.names, meaning, column: self.values }
    }
}

/// Where each of `wanted` stands in `given`; `None` unless both have the same names.
fn order_of(wanted: &[String], given: &[String]) -> Option<Box<[usize]>> {
    let places: HashMap<&str, usize> = given.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    (wanted.len() == given.len()).then(|| wanted.iter().map(|n| places.get(n.as_str()).copied()).collect())?
}

/// Whether `bytes` begin like a JPEG (ITU-T T.81) or PNG (ISO/IEC 15948) file.
fn is_image_file(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff]) || bytes.starts_with(b"\x89PNG\r\n\x1a\n")
}
