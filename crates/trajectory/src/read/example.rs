//! The wire format of `tf.train.Example`, read without a protobuf library.
//!
//! Schema, from TensorFlow's `core/example/{example,feature}.proto`: `Example { Features features = 1 }`,
//! `Features { map<string, Feature> feature = 1 }`, `Feature { oneof { BytesList bytes_list = 1; FloatList float_list =
//! 2; Int64List int64_list = 3 } }`, each list `{ repeated value = 1 }`, floats and integers packed or not.
//!
//! Merging follows protobuf: messages that occur twice are merged, of two map entries with one key the later wins,
//! of two members of the oneof the later wins, and a known field with another wire type counts as unknown.
//!
//! Invariants: no byte is read outside the slice, nesting is fixed by the schema (so no input can recurse), and values
//! are counted against a budget before they are stored. Byte values and keys are borrowed from the record.

use std::collections::BTreeMap;

/// What is wrong with a record, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct WireError {
    /// Byte offset within the record.
    pub offset: usize,
    /// One sentence, lower case, no full stop.
    pub problem: String,
}

/// The values of one feature.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Values<'a> {
    /// No list is set.
    #[default]
    Unset,
    /// `bytes_list`, borrowed from the record.
    Bytes(Vec<&'a [u8]>),
    /// `float_list`.
    Floats(Vec<f32>),
    /// `int64_list`.
    Ints(Vec<i64>),
}

impl Values<'_> {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Unset => 0,
            Self::Bytes(v) => v.len(),
            Self::Floats(v) => v.len(),
            Self::Ints(v) => v.len(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the list is called in messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unset => "nothing",
            Self::Bytes(_) => "bytes",
            Self::Floats(_) => "float",
            Self::Ints(_) => "int64",
        }
    }
}

/// The features of a record, by key.
pub type Example<'a> = BTreeMap<&'a str, Values<'a>>;

/// Reads one serialized `tf.train.Example` whose values take at most `budget_bytes` in memory.
///
/// # Errors
/// With the offset within `record`: a length or a varint that runs past its message, a group (which proto3 does not
/// have), a key that is not UTF-8, more values than the budget allows.
pub fn parse_example(record: &[u8], budget_bytes: u64) -> Result<Example<'_>, WireError> {
    let mut example = Example::new();
    let mut budget = Budget(budget_bytes);
    let mut fields = Cursor::new(record);
    while let Some(field) = fields.field()? {
        let (1, Payload::Message(mut features)) = field else { continue };
        while let Some(field) = features.field()? {
            let (1, Payload::Message(entry)) = field else { continue };
            budget.spend(size_of::<(&str, Values<'_>)>(), entry.position)?;
            let (key, values) = read_entry(entry, &mut budget)?;
            example.insert(key, values);
        }
    }
    Ok(example)
}

/// One entry of the map: `string key = 1; Feature value = 2`.
fn read_entry<'a>(mut entry: Cursor<'a>, budget: &mut Budget) -> Result<(&'a str, Values<'a>), WireError> {
    let mut key = "";
    let mut values = Values::Unset;
    while let Some(field) = entry.field()? {
        match field {
            (1, Payload::Message(text)) => {
                key = std::str::from_utf8(text.bytes).map_err(|_| text.error("a key is not UTF-8"))?;
            }
            (2, Payload::Message(feature)) => read_feature(feature, &mut values, budget)?,
            _ => {}
        }
    }
    Ok((key, values))
}

/// Merges one `Feature` into `values`.
fn read_feature<'a>(
    mut feature: Cursor<'a>,
    values: &mut Values<'a>,
    budget: &mut Budget,
) -> Result<(), WireError> {
    while let Some(field) = feature.field()? {
        match field {
            (1, Payload::Message(list)) => {
                let mut merged = if let Values::Bytes(v) = std::mem::take(values) { v } else { Vec::new() };
                read_bytes(list, &mut merged, budget)?;
                *values = Values::Bytes(merged);
            }
            (2, Payload::Message(list)) => {
                let mut merged = if let Values::Floats(v) = std::mem::take(values) { v } else { Vec::new() };
                read_floats(list, &mut merged, budget)?;
                *values = Values::Floats(merged);
            }
            (3, Payload::Message(list)) => {
                let mut merged = if let Values::Ints(v) = std::mem::take(values) { v } else { Vec::new() };
                read_ints(list, &mut merged, budget)?;
                *values = Values::Ints(merged);
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_bytes<'a>(
    mut list: Cursor<'a>,
    out: &mut Vec<&'a [u8]>,
    budget: &mut Budget,
) -> Result<(), WireError> {
    while let Some(field) = list.field()? {
        if let (1, Payload::Message(value)) = field {
            budget.spend(size_of::<&[u8]>() + value.bytes.len(), value.position)?;
            out.push(value.bytes);
        }
    }
    Ok(())
}

fn read_floats(mut list: Cursor<'_>, out: &mut Vec<f32>, budget: &mut Budget) -> Result<(), WireError> {
    while let Some(field) = list.field()? {
        match field {
            (1, Payload::Message(packed)) => {
                let (values, rest) = packed.bytes.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(packed.error("packed floats do not fill whole values"));
                }
                budget.spend(packed.bytes.len(), packed.position)?;
                out.extend(values.iter().map(|value| f32::from_le_bytes(*value)));
            }
            (1, Payload::Fixed32(value)) => {
                budget.spend(size_of::<f32>(), list.position)?;
                out.push(f32::from_le_bytes(value));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_ints(mut list: Cursor<'_>, out: &mut Vec<i64>, budget: &mut Budget) -> Result<(), WireError> {
    while let Some(field) = list.field()? {
        match field {
            (1, Payload::Message(mut packed)) => {
                // Every varint ends in exactly one byte without the continuation bit.
                let count = packed.bytes.iter().filter(|byte| **byte < 0x80).count();
                budget.spend(count.saturating_mul(size_of::<i64>()), packed.position)?;
                out.reserve(count);
                while !packed.bytes.is_empty() {
                    out.push(packed.varint()?.cast_signed());
                }
            }
            (1, Payload::Varint(value)) => {
                budget.spend(size_of::<i64>(), list.position)?;
                out.push(value.cast_signed());
            }
            _ => {}
        }
    }
    Ok(())
}

/// What may still be stored.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, bytes: usize, offset: usize) -> Result<(), WireError> {
        self.0 = self.0.checked_sub(bytes as u64).ok_or_else(|| WireError {
            offset,
            problem: "the record holds more values than the limit on an episode allows".to_owned(),
        })?;
        Ok(())
    }
}

/// What a field holds, by its wire type.
enum Payload<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    /// Eight bytes that no field of this schema uses.
    Fixed64,
    /// Length-delimited: a message, a string, bytes or a packed list.
    Message(Cursor<'a>),
}

/// The unread rest of a message, and where it lies in the record.
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next field with its number; `None` at the end of the message.
    fn field(&mut self) -> Result<Option<(u64, Payload<'a>)>, WireError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let here = self.position;
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(WireError { offset: here, problem: format!("there is no field number {number}") });
        }
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Payload::Fixed64
            }
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| self.error("a length is out of range"))?;
                let position = self.position;
                Payload::Message(Cursor { bytes: self.take(length)?, position })
            }
            5 => {
                let bytes = self.take(4)?;
                Payload::Fixed32(std::array::from_fn(|i| bytes[i]))
            }
            3 | 4 => return Err(WireError { offset: here, problem: "groups are not supported".to_owned() }),
            other => {
                return Err(WireError { offset: here, problem: format!("there is no wire type {other}") });
            }
        };
        Ok(Some((number, payload)))
    }

    /// A base-128 varint of at most 64 bits.
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for (index, byte) in self.bytes.iter().take(10).enumerate() {
            // The tenth byte holds bit 63 alone.
            if index == 9 && *byte > 1 {
                return Err(self.error("a varint has more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.take(index + 1)?;
                return Ok(value);
            }
        }
        Err(self.error("a varint runs past the end of its message"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            let problem = format!("{count} bytes are announced where {} are left", self.bytes.len());
            return Err(WireError { offset: self.position, problem });
        };
        self.bytes = rest;
        self.position += count;
        Ok(taken)
    }

    fn error(&self, problem: &str) -> WireError {
        WireError { offset: self.position, problem: problem.to_owned() }
    }
}

/// A serialized `tf.train.Example`, for tests: packed lists, as TensorFlow writes them.
#[cfg(test)]
pub(super) fn encode(features: &[(&str, Values<'_>)]) -> Vec<u8> {
    let mut map = Vec::new();
    for (key, values) in features {
        let (number, list) = match values {
            Values::Unset => (0, Vec::new()),
            Values::Bytes(v) => (1, v.iter().flat_map(|value| delimited(1, value)).collect()),
            Values::Floats(v) => {
                (2, delimited(1, &v.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()))
            }
            Values::Ints(v) => (
                3,
                delimited(1, &v.iter().flat_map(|value| varint(value.cast_unsigned())).collect::<Vec<_>>()),
            ),
        };
        let feature = if number == 0 { Vec::new() } else { delimited(number, &list) };
        let entry = [delimited(1, key.as_bytes()), delimited(2, &feature)].concat();
        map.extend(delimited(1, &entry));
    }
    delimited(1, &map)
}

#[cfg(test)]
fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[cfg(test)]
fn delimited(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLENTY: u64 = 1 << 20;

    /// An example with one entry, made of the bytes of its `Feature`.
    fn with_feature(feature: &[u8]) -> Vec<u8> {
        delimited(1, &delimited(1, &[delimited(1, b"k"), delimited(2, feature)].concat()))
    }

    fn only(record: &[u8]) -> Values<'_> {
        parse_example(record, PLENTY).expect("valid").remove("k").expect("one feature")
    }

    #[test]
    fn packed_and_unpacked_lists_read_alike() {
        let floats =
            [delimited(1, &1.5_f32.to_le_bytes()), vec![0x0d], (-2.0_f32).to_le_bytes().to_vec()].concat();
        assert_eq!(only(&with_feature(&delimited(2, &floats))), Values::Floats(vec![1.5, -2.0]));
        let ints = [vec![0x08], varint(u64::MAX), delimited(1, &[varint(300), varint(0)].concat())].concat();
        assert_eq!(only(&with_feature(&delimited(3, &ints))), Values::Ints(vec![-1, 300, 0]));
    }

    #[test]
    fn unknown_fields_of_every_wire_type_are_skipped() {
        let unknown = [
            [varint(9 << 3), varint(5)].concat(),
            [varint(9 << 3 | 1), vec![0; 8]].concat(),
            delimited(9, b"text"),
            [varint(9 << 3 | 5), vec![0; 4]].concat(),
            // Field 3 as a varint is not the list it is declared as.
            [varint(3 << 3), varint(1)].concat(),
        ]
        .concat();
        let feature = [unknown, delimited(1, &delimited(1, b"x"))].concat();
        assert_eq!(only(&with_feature(&feature)), Values::Bytes(vec![b"x"]));
    }

    #[test]
    fn groups_are_refused_by_offset() {
        let record = with_feature(&varint(1 << 3 | 3));
        let error = parse_example(&record, PLENTY).expect_err("a group");
        assert_eq!((error.offset, error.problem.as_str()), (record.len() - 1, "groups are not supported"));
    }

    #[test]
    fn the_last_of_two_keys_wins_and_parts_of_one_message_merge() {
        let twice = encode(&[("k", Values::Ints(vec![1])), ("k", Values::Floats(vec![2.0]))]);
        assert_eq!(only(&twice), Values::Floats(vec![2.0]));
        let parts =
            [encode(&[("a", Values::Ints(vec![1]))]), encode(&[("b", Values::Ints(vec![2]))])].concat();
        assert_eq!(parse_example(&parts, PLENTY).expect("valid").len(), 2);
        let one = delimited(3, &delimited(1, &varint(1)));
        assert_eq!(only(&with_feature(&[one.clone(), one.clone()].concat())), Values::Ints(vec![1, 1]));
        let other = delimited(2, &delimited(1, &1_f32.to_le_bytes()));
        assert_eq!(only(&with_feature(&[other, one].concat())), Values::Ints(vec![1]));
    }

    #[test]
    fn the_budget_bounds_what_is_stored() {
        let record = encode(&[("k", Values::Ints(vec![0; 1000]))]);
        assert!(parse_example(&record, 9000).is_ok());
        assert!(parse_example(&record, 8000).expect_err("too many").problem.contains("limit"));
        let record = encode(&[("k", Values::Bytes(vec![b""; 1000]))]);
        assert!(parse_example(&record, 8000).is_err());
    }

    #[test]
    fn odd_lengths_are_refused() {
        assert!(parse_example(&with_feature(&delimited(2, &delimited(1, &[0; 5]))), PLENTY).is_err());
        assert!(parse_example(&with_feature(&delimited(3, &delimited(1, &[0x80]))), PLENTY).is_err());
        assert!(parse_example(&with_feature(&delimited(3, &delimited(1, &[0xff; 10]))), PLENTY).is_err());
        assert!(parse_example(&[0x0a, 0x05, 0x00], PLENTY).is_err());
    }

    fn values() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<f32>, Vec<i64>)> {
        (
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..6),
            prop::collection::vec(-1e6_f32..1e6, 0..20),
            prop::collection::vec(any::<i64>(), 0..20),
        )
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read((blobs, floats, ints) in values()) {
            let blobs = Values::Bytes(blobs.iter().map(Vec::as_slice).collect());
            let features = [("b", blobs), ("f", Values::Floats(floats)), ("i", Values::Ints(ints))];
            let record = encode(&features);
            let read = parse_example(&record, PLENTY).expect("valid");
            prop_assert_eq!(read.into_iter().collect::<Vec<_>>(), features);
        }

        #[test]
        fn arbitrary_bytes_never_panic(record in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_example(&record, PLENTY);
        }

        #[test]
        fn mutated_records_never_panic(
            (blobs, floats, ints) in values(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let blobs = Values::Bytes(blobs.iter().map(Vec::as_slice).collect());
            let mut record = encode(&[("b", blobs), ("f", Values::Floats(floats)), ("i", Values::Ints(ints))]);
            for (index, byte) in flips {
                let at = index.index(record.len());
                record[at] = byte;
            }
            let _ = parse_example(&record, PLENTY);
        }
    }
}
