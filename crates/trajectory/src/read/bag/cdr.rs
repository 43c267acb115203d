//! CDR messages: bytes, read by their definition into a [`Row`].
//!
//! ROS 2 serialises messages as plain CDR (OMG XCDR version 1, DDS-XTypes 1.3 §7.4.3): a 4-byte encapsulation header,
//! then the fields in order, each primitive aligned to its own size (8 at most) counted from after that header. One
//! walk over the bytes fills the row's typed buffers and its shape key; [`Decoder::node`] replays the key when, and
//! only when, a key is new.
//!
//! What is not in the bytes but in the implementations: a message without fields occupies one byte
//! (`structure_needs_at_least_one_member`); a sequence without elements is not padded for them; a `wstring` has 4-byte
//! units in Fast DDS 2 and Cyclone DDS and 2-byte units in later ones, so the width under which the message ends
//! where its bytes do is taken.
//!
//! Invariants: no byte is read that is not there; nothing is allocated for a length before that many bytes are known
//! to remain; recursion is as deep as the definition, which is bounded.

use std::sync::Arc;

use super::ros2msg::{Count, Field, Message, Primitive, Type};
use super::shape::{Cursors, Extent, Kind, Node, Row, TooManyFeatures, Values, unique_names};
use crate::{Meaning, QuaternionOrder};

/// Why a message cannot be decoded: the field, as a dotted path, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DecodeError {
    pub(super) path: String,
    pub(super) problem: String,
}

impl DecodeError {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }

    fn inside(mut self, field: &str) -> Self {
        self.path = if self.path.is_empty() { field.into() } else { format!("{field}.{}", self.path) };
        self
    }
}

type Decoded<T> = Result<T, DecodeError>;

/// Padding a writer may leave after the last field to fill up four bytes.
const TRAILING_PADDING: usize = 3;

/// A decoder of one message type.
#[derive(Debug)]
pub(super) struct Decoder {
    root: Arc<Message>,
    /// Bytes per unit of a `wstring`.
    wide_unit: usize,
}

impl Decoder {
    pub(super) fn new(root: Arc<Message>) -> Self {
        Self { root, wide_unit: 4 }
    }

    /// Whether messages carry the time they were measured at.
    pub(super) fn has_header(&self) -> bool {
        self.root.has_header() && header_stamp(&self.root).is_some()
    }

    /// Reads `bytes` into `row`, which the caller has cleared.
    pub(super) fn decode(&mut self, bytes: &[u8], row: &mut Row) -> Decoded<()> {
        let first = self.decode_with(bytes, row, self.wide_unit);
        if first.is_ok() || !self.root.has_wide_text {
            return first;
        }
        let other = 6 - self.wide_unit;
        row.clear();
        self.decode_with(bytes, row, other).map_err(|_| ()).or(first)?;
        self.wide_unit = other;
        Ok(())
    }

    fn decode_with(&self, bytes: &[u8], row: &mut Row, wide_unit: usize) -> Decoded<()> {
        let Some((&[_, representation, ..], payload)) = bytes.split_first_chunk::<4>() else {
            let found = bytes.len();
            return Err(DecodeError::new(format!(
                "the message has {found} bytes, fewer than its 4-byte CDR header"
            )));
        };
        match (bytes[0], representation) {
            (0, 0) => walk::<true>(&self.root, Cursor { bytes: payload, at: 0, wide_unit }, row),
            (0, 1) => walk::<false>(&self.root, Cursor { bytes: payload, at: 0, wide_unit }, row),
            (high, low) => Err(DecodeError::new(format!(
                "the message is encoded as {} (representation 0x{high:02x}{low:02x}); only plain CDR (0x0000, 0x0001), \
                 which ROS 2 uses, can be read",
                representation_name(high, low)
            ))),
        }
    }

    /// The shape of the message `row` was filled from, if that has at most about `most` features.
    pub(super) fn node(&self, row: &Row, most: usize) -> Result<Node, TooManyFeatures> {
        let mut replay = Replay { key: &row.key, cursors: Cursors::new(most) };
        replay.message(&self.root, false, header_stamp(&self.root))
    }
}

/// The position of the stamp in the root's header: it becomes the clock, not a feature.
fn header_stamp(root: &Message) -> Option<usize> {
    match &root.fields.first()?.ty {
        Type::Message(header) if root.has_header() => header.fields.iter().position(Field::is_stamp),
        _ => None,
    }
}

/// Names of RTPS representation identifiers (DDS-XTypes 1.3, table 60).
fn representation_name(high: u8, low: u8) -> &'static str {
    match (high, low) {
        (0, 2 | 3) => "parameter-list CDR",
        (0, 6 | 7) => "plain XCDR2",
        (0, 8 | 9) => "delimited XCDR2",
        (0, 10 | 11) => "parameter-list XCDR2",
        _ => "something unknown",
    }
}

fn walk<const BIG: bool>(root: &Message, mut cursor: Cursor<'_>, row: &mut Row) -> Decoded<()> {
    message::<BIG>(root, false, header_stamp(root), &mut cursor, row)?;
    let left = cursor.remaining();
    if left > TRAILING_PADDING {
        return Err(DecodeError::new(format!(
            "{left} bytes remain after the last field, so the recorded definition is not the one it was written with"
        )));
    }
    Ok(())
}

/// Unread bytes. Alignment counts from the start of `bytes`.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    wide_unit: usize,
}

impl<'a> Cursor<'a> {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` values of `size` bytes, aligned to their size (a power of two).
    fn values(&mut self, size: usize, count: usize) -> Decoded<&'a [u8]> {
        let start = (self.at + size - 1) & !(size - 1);
        let end = count.checked_mul(size).and_then(|len| start.checked_add(len));
        match end.filter(|end| *end <= self.bytes.len()) {
            Some(end) => {
                self.at = end;
                Ok(&self.bytes[start..end])
            }
            None => Err(DecodeError::new(format!(
                "the message ends at byte {}, before {count} value(s) of {size} byte(s) at byte {}",
                self.bytes.len() + 4,
                start + 4
            ))),
        }
    }

    fn u32<const BIG: bool>(&mut self) -> Decoded<u32> {
        let bytes = self.values(4, 1)?;
        let bytes = bytes.try_into().expect("values gives exactly the bytes asked for");
        Ok(if BIG { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The length of a sequence whose elements take at least `least` bytes each.
    fn count<const BIG: bool>(&mut self, least: usize, most: Option<usize>) -> Decoded<usize> {
        let count = self.u32::<BIG>()? as usize;
        if most.is_some_and(|most| count > most) {
            return Err(DecodeError::new(format!("a sequence of {count}, more than its declared bound")));
        }
        if count.checked_mul(least).is_none_or(|bytes| bytes > self.remaining()) {
            let left = self.remaining();
            return Err(DecodeError::new(format!("a sequence of {count} where only {left} bytes remain")));
        }
        Ok(count)
    }

    /// A string's bytes, without the NUL that ends it.
    fn text<const BIG: bool>(&mut self) -> Decoded<&'a [u8]> {
        let len = self.u32::<BIG>()? as usize;
        let bytes = self.values(1, len)?;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(DecodeError::new("a text that is not UTF-8")),
        }
    }

    fn wide_text<const BIG: bool>(&mut self) -> Decoded<String> {
        let len = self.u32::<BIG>()? as usize;
        let bytes = self.values(self.wide_unit, len)?;
        let units = bytes.chunks_exact(self.wide_unit).map(|unit| {
            let little = if BIG { [unit[unit.len() - 1], unit[unit.len() - 2]] } else { [unit[0], unit[1]] };
            u16::from_le_bytes(little)
        });
        let text: Result<String, _> = char::decode_utf16(units).collect();
        text.map_err(|_| DecodeError::new("a wide text that is not UTF-16"))
    }
}

/// Reads a message; `stamp` is the position of the stamp if the message's first field is the root's header, and
/// `element` says whether it stands in a sequence, where its key is a name and not a value.
fn message<const BIG: bool>(
    ty: &Message,
    element: bool,
    stamp: Option<usize>,
    cursor: &mut Cursor<'_>,
    row: &mut Row,
) -> Decoded<()> {
    if ty.fields.is_empty() {
        return cursor.values(1, 1).map(|_| ());
    }
    for (index, field) in ty.fields.iter().enumerate() {
        let read = if let (0, Some(stamp), Type::Message(header)) = (index, stamp, &field.ty) {
            self::header::<BIG>(header, stamp, cursor, row)
        } else if ty.names_field == Some(index) {
            key_texts::<BIG>(cursor, row)
        } else if element && ty.key_field == Some(index) {
            cursor.text::<BIG>().map(|text| row.push_key_text(text))
        } else {
            self::field::<BIG>(field, cursor, row)
        };
        // Outside this call no error is ever built, so the good path pays for no path.
        read.map_err(|e| e.inside(&field.name))?;
    }
    Ok(())
}

fn header<const BIG: bool>(
    ty: &Message,
    stamp: usize,
    cursor: &mut Cursor<'_>,
    row: &mut Row,
) -> Decoded<()> {
    for (index, field) in ty.fields.iter().enumerate() {
        let read = if index == stamp {
            time_ns::<BIG>(cursor).map(|ns| row.stamp_ns = Some(ns))
        } else {
            self::field::<BIG>(field, cursor, row)
        };
        read.map_err(|e| e.inside(&field.name))?;
    }
    Ok(())
}

fn key_texts<const BIG: bool>(cursor: &mut Cursor<'_>, row: &mut Row) -> Decoded<()> {
    let count = cursor.count::<BIG>(4, None)?;
    row.push_key_count(count);
    for _ in 0..count {
        let text = cursor.text::<BIG>()?;
        row.push_key_text(text);
    }
    Ok(())
}

fn field<const BIG: bool>(field: &Field, cursor: &mut Cursor<'_>, row: &mut Row) -> Decoded<()> {
    let count = match field.count {
        Count::One => 1,
        Count::Fixed(count) => count,
        Count::Sequence { most } => {
            let least = match &field.ty {
                Type::Primitive(primitive) => size(*primitive),
                Type::Message(_) => 1,
            };
            let count = cursor.count::<BIG>(least, most)?;
            // Bytes are one value whatever their length, so it is not part of the shape.
            if !matches!(field.ty, Type::Primitive(Primitive::U8)) {
                row.push_key_count(count);
            }
            count
        }
    };
    match &field.ty {
        Type::Primitive(Primitive::U8) if field.count != Count::One => {
            row.push_blob(cursor.values(1, count)?);
            Ok(())
        }
        // An empty sequence ends here: its elements' alignment is not applied.
        _ if count == 0 => Ok(()),
        Type::Primitive(primitive) => primitives::<BIG>(*primitive, count, cursor, row),
        Type::Message(ty) => {
            let element = field.count != Count::One;
            (0..count).try_for_each(|_| message::<BIG>(ty, element, None, cursor, row))
        }
    }
}

/// Least bytes of a value; its alignment too, but for texts and times, which start with four bytes.
fn size(primitive: Primitive) -> usize {
    match primitive {
        Primitive::Bool | Primitive::U8 | Primitive::I8 => 1,
        Primitive::U16 | Primitive::I16 => 2,
        Primitive::U32 | Primitive::I32 | Primitive::F32 | Primitive::String | Primitive::WString => 4,
        Primitive::U64 | Primitive::I64 | Primitive::F64 | Primitive::Time | Primitive::Duration => 8,
    }
}

fn primitives<const BIG: bool>(
    primitive: Primitive,
    count: usize,
    cursor: &mut Cursor<'_>,
    row: &mut Row,
) -> Decoded<()> {
    // `$out` grows by `count` values of type `$ty`, each passed through `$convert`.
    macro_rules! read {
        ($ty:ty, $out:expr, $convert:expr) => {{
            const SIZE: usize = size_of::<$ty>();
            let bytes = cursor.values(SIZE, count)?;
            $out.extend(bytes.chunks_exact(SIZE).map(|chunk| {
                let chunk = chunk.try_into().expect("chunks_exact gives chunks of that size");
                $convert(if BIG { <$ty>::from_be_bytes(chunk) } else { <$ty>::from_le_bytes(chunk) })
            }));
        }};
    }
    match primitive {
        Primitive::Bool => row.bools.extend(cursor.values(1, count)?.iter().map(|b| *b != 0)),
        Primitive::U8 => row.i64s.extend(cursor.values(1, count)?.iter().map(|b| i64::from(*b))),
        Primitive::I8 => read!(i8, row.i64s, i64::from),
        Primitive::U16 => read!(u16, row.i64s, i64::from),
        Primitive::I16 => read!(i16, row.i64s, i64::from),
        Primitive::U32 => read!(u32, row.i64s, i64::from),
        Primitive::I32 => read!(i32, row.i64s, i64::from),
        Primitive::I64 => read!(i64, row.i64s, std::convert::identity),
        Primitive::F32 => read!(f32, row.f32s, std::convert::identity),
        Primitive::F64 => read!(f64, row.f64s, std::convert::identity),
        Primitive::U64 => {
            let from = row.i64s.len();
            read!(u64, row.i64s, |v: u64| v as i64);
            // The cast above wraps to a negative number exactly where the value does not fit.
            row.too_large.extend((from..row.i64s.len()).filter(|&i| row.i64s[i] < 0));
        }
        Primitive::String => {
            for _ in 0..count {
                let text = cursor.text::<BIG>()?;
                row.push_blob(text);
            }
        }
        Primitive::WString => {
            for _ in 0..count {
                let text = cursor.wide_text::<BIG>()?;
                row.push_blob(text.as_bytes());
            }
        }
        Primitive::Time | Primitive::Duration => {
            for _ in 0..count {
                row.i64s.push(time_ns::<BIG>(cursor)?);
            }
        }
    }
    Ok(())
}

/// int32 seconds and uint32 nanoseconds; always within an i64.
fn time_ns<const BIG: bool>(cursor: &mut Cursor<'_>) -> Decoded<i64> {
    let seconds = cursor.u32::<BIG>()? as i32;
    let nanoseconds = cursor.u32::<BIG>()?;
    Ok(i64::from(seconds) * 1_000_000_000 + i64::from(nanoseconds))
}

/// A key being read back, in step with the definition it was written by.
struct Replay<'a> {
    key: &'a [u8],
    cursors: Cursors,
}

impl Replay<'_> {
    fn count(&mut self) -> usize {
        let (count, rest) = self.key.split_first_chunk().expect("the key was written by the same definition");
        self.key = rest;
        u64::from_le_bytes(*count) as usize
    }

    fn text(&mut self) -> String {
        let len = self.count();
        let (text, rest) = self.key.split_at(len);
        self.key = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    fn message(
        &mut self,
        ty: &Message,
        element: bool,
        stamp: Option<usize>,
    ) -> Result<Node, TooManyFeatures> {
        self.cursors.nodes(1)?;
        if let Some(primitive) = ty.vector_of {
            return Ok(self.vector(ty, primitive));
        }
        let mut fields = Vec::with_capacity(ty.fields.len());
        let (mut names, mut key) = (None, None);
        for (index, field) in ty.fields.iter().enumerate() {
            if let (0, Some(stamp), Type::Message(header)) = (index, stamp, &field.ty) {
                let rest = header.fields.iter().enumerate().filter(|(i, _)| *i != stamp);
                let parts = rest.map(|(_, f)| self.field(f)).collect::<Result<_, _>>()?;
                fields.push((field.name.clone(), plain_object(parts)));
            } else if ty.names_field == Some(index) {
                let count = self.count();
                names = Some(unique_names((0..count).map(|_| self.text()).collect()));
            } else if element && ty.key_field == Some(index) {
                key = Some(self.text());
            } else {
                let (name, mut node) = self.field(field)?;
                if let (Node::Values(values), true) = (&mut node, field.name == "data" && is_image_file(ty)) {
                    values.meaning = Meaning::EncodedImage;
                }
                fields.push((name, node));
            }
        }
        Ok(Node::Object { fields, names, key, hands_names_down: ty.hands_names_down() })
    }

    fn vector(&mut self, ty: &Message, primitive: Primitive) -> Node {
        let kind = kind(primitive);
        let len = ty.fields.len();
        let names = Some(ty.fields.iter().map(|f| f.name.clone()).collect());
        let meaning =
            if ty.is_quaternion() { Meaning::Quaternion(QuaternionOrder::Xyzw) } else { Meaning::Plain };
        let start = self.cursors.take(kind, len);
        Node::Values(Values { kind, start, len, extent: Extent::Fixed, names, meaning })
    }

    fn field(&mut self, field: &Field) -> Result<(String, Node), TooManyFeatures> {
        self.cursors.nodes(1)?;
        let bytes = matches!(field.ty, Type::Primitive(Primitive::U8)) && field.count != Count::One;
        let (count, extent) = match field.count {
            _ if bytes => (1, Extent::Scalar),
            Count::One => (1, Extent::Scalar),
            Count::Fixed(count) => (count, Extent::Fixed),
            Count::Sequence { .. } => (self.count(), Extent::Variable),
        };
        let variable = extent == Extent::Variable;
        let node = match &field.ty {
            Type::Primitive(Primitive::String | Primitive::WString) if extent != Extent::Scalar => {
                // A column holds one text per row, so each is a feature of its own.
                let text = |i| Node::Values(Values::plain(Kind::Str, i, 1, Extent::Scalar));
                self.cursors.nodes(count)?;
                let start = self.cursors.take(Kind::Str, count);
                Node::Elements { items: (start..start + count).map(text).collect(), variable }
            }
            Type::Primitive(primitive) => {
                let kind = if bytes { Kind::Bytes } else { kind(*primitive) };
                Node::Values(Values::plain(kind, self.cursors.take(kind, count), count, extent))
            }
            Type::Message(ty) if extent == Extent::Scalar => self.message(ty, false, None)?,
            Type::Message(ty) => {
                let items = (0..count).map(|_| self.message(ty, true, None)).collect::<Result<_, _>>()?;
                Node::Elements { items, variable }
            }
        };
        let name = match field.ty {
            Type::Primitive(Primitive::Time | Primitive::Duration) => format!("{}_ns", field.name),
            _ => field.name.clone(),
        };
        Ok((name, node))
    }
}

/// Whether `data` of this type is declared to be an image file; the bytes have the last word.
fn is_image_file(ty: &Message) -> bool {
    matches!(ty.name.as_str(), "sensor_msgs/CompressedImage" | "foxglove_msgs/CompressedImage")
}

fn plain_object(fields: Vec<(String, Node)>) -> Node {
    Node::Object { fields, names: None, key: None, hands_names_down: false }
}

fn kind(primitive: Primitive) -> Kind {
    match primitive {
        Primitive::Bool => Kind::Bool,
        Primitive::F32 => Kind::F32,
        Primitive::F64 => Kind::F64,
        Primitive::String | Primitive::WString => Kind::Str,
        _ => Kind::I64,
    }
}
