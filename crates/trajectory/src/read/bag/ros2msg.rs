//! ROS 2 message definitions: the text of an MCAP `ros2msg` schema, compiled once into a tree of types.
//!
//! The text is the root `.msg` file followed by those it needs, each after a line of `=` and a line `MSG: pkg/Type`
//! (MCAP registry, `ros2msg`; the syntax is that of the ROS 2 interface definition, docs.ros.org "Interfaces").
//! Sections are parsed first, then resolved from the root, each type once; a type that contains itself, or nests deeper
//! than the limit, is refused. Constants and defaults occupy no bytes of a message and are passed over.
//!
//! Invariants: every type reached is resolved; nothing here depends on a message's bytes.

use std::collections::HashMap;
use std::sync::Arc;

/// A type without parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primitive {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    String,
    WString,
    /// `builtin_interfaces/Time`, or ROS 1's `time`: int32 seconds, uint32 nanoseconds.
    Time,
    /// `builtin_interfaces/Duration`, or ROS 1's `duration`: laid out as a time.
    Duration,
}

/// How many values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    One,
    Fixed(usize),
    Sequence { most: Option<usize> },
}

#[derive(Debug, Clone)]
pub(super) enum Type {
    Primitive(Primitive),
    Message(Arc<Message>),
}

#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) count: Count,
}

/// A message type with what the flattening needs to know of it.
#[derive(Debug)]
pub(super) struct Message {
    /// `package/Type`.
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    /// The one float type of all fields, where the message is a vector of at least two floats.
    pub(super) vector_of: Option<Primitive>,
    /// The `string[]` field that names the components of the message's other sequences.
    pub(super) names_field: Option<usize>,
    /// The `string` field that tells the elements of a sequence of this message apart.
    pub(super) key_field: Option<usize>,
    /// Whether any part is a `wstring`.
    pub(super) has_wide_text: bool,
    /// Levels of messages, this one included.
    height: usize,
}

/// Fields that name the components of their siblings, in the order they are looked for.
pub(super) const NAMES_FIELDS: [&str; 3] = ["name", "joint_names", "interface_names"];
/// Fields that name an element of a sequence, in the order they are looked for.
pub(super) const KEY_FIELDS: [&str; 3] = ["child_frame_id", "name", "id"];

impl Message {
    /// Whether the first field is the standard header, whose stamp is when the message was measured.
    pub(super) fn has_header(&self) -> bool {
        self.fields.first().is_some_and(Field::is_header)
    }

    /// Whether names given beside a sequence of this message belong to the sequences inside each element (a
    /// trajectory's points) rather than to the elements.
    pub(super) fn hands_names_down(&self) -> bool {
        self.names_field.is_none() && self.fields.iter().any(|f| matches!(f.count, Count::Sequence { .. }))
    }

    pub(super) fn is_quaternion(&self) -> bool {
        self.vector_of.is_some()
            && self.name == "geometry_msgs/Quaternion"
            && self.fields.iter().map(|f| f.name.as_str()).eq(["x", "y", "z", "w"])
    }
}

impl Field {
    pub(super) fn is_header(&self) -> bool {
        matches!(&self.ty, Type::Message(m) if m.name == "std_msgs/Header") && self.count == Count::One
    }

    /// Whether the field is a time: the stamp, inside a header.
    pub(super) fn is_stamp(&self) -> bool {
        self.name == "stamp"
            && self.count == Count::One
            && matches!(self.ty, Type::Primitive(Primitive::Time))
    }
}

/// Why a definition cannot be used. Lower case, no full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct DefinitionError(String);

fn error<T>(message: impl Into<String>) -> Result<T, DefinitionError> {
    Err(DefinitionError(message.into()))
}

/// Compiles the definition `text` of the type `root_name` (`pkg/msg/Type` or `pkg/Type`); at most `depth` levels.
pub(super) fn compile(root_name: &str, text: &str, depth: usize) -> Result<Arc<Message>, DefinitionError> {
    let root_name = short_name(root_name);
    let sections = sections(&root_name, text)?;
    let mut resolver = Resolver { sections: &sections, done: HashMap::new(), limit: depth };
    resolver.resolve(&root_name, depth)
}

/// `sensor_msgs/msg/Image` and `sensor_msgs/Image` are the same type.
fn short_name(name: &str) -> String {
    match name.split('/').collect::<Vec<_>>()[..] {
        [package, "msg", ty] => format!("{package}/{ty}"),
        _ => name.into(),
    }
}

/// A field as written: its type not yet resolved.
struct Declared<'a> {
    name: &'a str,
    base: &'a str,
    count: Count,
}

type Sections<'a> = HashMap<String, Vec<Declared<'a>>>;

fn sections<'a>(root_name: &str, text: &'a str) -> Result<Sections<'a>, DefinitionError> {
    let mut sections = Sections::new();
    let mut name = Some(root_name.to_owned());
    let mut fields = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.len() >= 3 && line.bytes().all(|b| b == b'=') {
            // Writers repeat a dependency that is needed twice; the first text counts.
            if let Some(name) = name.take() {
                sections.entry(name).or_insert_with(|| std::mem::take(&mut fields));
            }
            fields.clear();
        } else if let Some(new_name) = line.strip_prefix("MSG:").filter(|_| name.is_none()) {
            name = Some(short_name(new_name.trim()));
        } else if name.is_some() {
            fields.extend(declaration(line)?);
        } else if !line.is_empty() {
            return error(format!("`{}` where `MSG: package/Type` should be", clip(line)));
        }
    }
    if let Some(name) = name {
        sections.entry(name).or_insert(fields);
    }
    Ok(sections)
}

/// One line: a field, or `None` for a comment, a constant or an empty line.
fn declaration(line: &str) -> Result<Option<Declared<'_>>, DefinitionError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let Some((written, rest)) = line.split_once(char::is_whitespace) else {
        return error(format!("`{}` is neither a field nor a constant", clip(line)));
    };
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if name.is_empty() {
        return error(format!("`{}` has no field name", clip(line)));
    }
    // A constant is told from a field's default by its `=`.
    if after.trim_start().starts_with('=') {
        return Ok(None);
    }
    if !(after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || c == '#')) {
        return error(format!("`{}` has a malformed field name", clip(line)));
    }
    let (base, count) = match written.split_once('[') {
        None => (written, Count::One),
        Some((base, suffix)) => (base, array_count(suffix, line)?),
    };
    // `string<=10`: the bound limits what a publisher may send and changes nothing in the bytes.
    let base = match base.split_once("<=") {
        Some((base @ ("string" | "wstring"), _)) => base,
        Some(_) => return error(format!("`{}`: only texts and sequences can be bounded", clip(line))),
        None => base,
    };
    Ok(Some(Declared { name, base, count }))
}

/// What stands after the `[` of an array type.
fn array_count(suffix: &str, line: &str) -> Result<Count, DefinitionError> {
    let Some(inside) = suffix.strip_suffix(']') else {
        return error(format!("`{}` has a malformed array type", clip(line)));
    };
    let number = |s: &str| s.parse::<usize>().ok().filter(|n| *n > 0);
    let count = match inside.strip_prefix("<=") {
        None if inside.is_empty() => Some(Count::Sequence { most: None }),
        None => number(inside).map(Count::Fixed),
        Some(most) => number(most).map(|most| Count::Sequence { most: Some(most) }),
    };
    count.map_or_else(|| error(format!("`{}` has a malformed array length", clip(line))), Ok)
}

fn primitive(name: &str) -> Option<Primitive> {
    Some(match name {
        "bool" => Primitive::Bool,
        // ROS 2's char is an unsigned byte (docs.ros.org, "Interfaces").
        "byte" | "char" | "uint8" => Primitive::U8,
        "int8" => Primitive::I8,
        "uint16" => Primitive::U16,
        "int16" => Primitive::I16,
        "uint32" => Primitive::U32,
        "int32" => Primitive::I32,
        "uint64" => Primitive::U64,
        "int64" => Primitive::I64,
        "float32" => Primitive::F32,
        "float64" => Primitive::F64,
        "string" => Primitive::String,
        "wstring" => Primitive::WString,
        "time" | "builtin_interfaces/Time" => Primitive::Time,
        "duration" | "builtin_interfaces/Duration" => Primitive::Duration,
        _ => return None,
    })
}

struct Resolver<'a> {
    sections: &'a Sections<'a>,
    /// `None` while a type's parts are being resolved: meeting it again then means it contains itself.
    done: HashMap<String, Option<Arc<Message>>>,
    limit: usize,
}

impl Resolver<'_> {
    fn resolve(&mut self, name: &str, depth: usize) -> Result<Arc<Message>, DefinitionError> {
        match self.done.get(name) {
            Some(Some(message)) => return Ok(Arc::clone(message)),
            Some(None) => return error(format!("type `{name}` contains itself")),
            None if depth == 0 => return error(format!("type `{name}` is nested too deep")),
            None => {}
        }
        let Some(declared) = self.sections.get(name) else {
            return error(format!("the definition of type `{name}` is missing"));
        };
        self.done.insert(name.into(), None);
        let mut fields = Vec::with_capacity(declared.len());
        for field in declared {
            let base = short_name(field.base);
            let ty = match primitive(&base) {
                Some(primitive) => Type::Primitive(primitive),
                None => Type::Message(self.resolve(&self.full_name(&base, name), depth - 1)?),
            };
            fields.push(Field { name: field.name.into(), ty, count: field.count });
        }
        let message = Arc::new(analysed(name, fields));
        // A part may have been resolved before, nearer to the root than it stands here.
        if message.height > self.limit {
            return error(format!("type `{name}` is nested too deep"));
        }
        self.done.insert(name.into(), Some(Arc::clone(&message)));
        Ok(message)
    }

    /// The full name of `base` as used inside type `user`: of the same package unless it says another; a bare
    /// `Header` is the standard one, as in ROS 1; else the only type of that name, if there is only one.
    fn full_name(&self, base: &str, user: &str) -> String {
        if base.contains('/') {
            return base.into();
        }
        let package = user.split('/').next().unwrap_or_default();
        let sibling = format!("{package}/{base}");
        if self.sections.contains_key(&sibling) {
            return sibling;
        }
        if base == "Header" {
            return "std_msgs/Header".into();
        }
        let mut same = self.sections.keys().filter(|k| k.rsplit('/').next() == Some(base));
        match (same.next(), same.next()) {
            (Some(only), None) => only.clone(),
            _ => sibling,
        }
    }
}

fn analysed(name: &str, fields: Vec<Field>) -> Message {
    let is = |f: &Field, p: Primitive, c: Count| f.count == c && matches!(f.ty, Type::Primitive(q) if q == p);
    let all = |p| fields.len() >= 2 && fields.iter().all(|f| is(f, p, Count::One));
    let vector_of = [Primitive::F64, Primitive::F32].into_iter().find(|p| all(*p));
    let sequence = |f: &Field| matches!(f.count, Count::Sequence { .. });
    let text_sequence = |f: &Field| sequence(f) && matches!(f.ty, Type::Primitive(Primitive::String));
    let names_field = NAMES_FIELDS
        .iter()
        .find_map(|n| fields.iter().position(|f| f.name == *n && text_sequence(f)))
        .filter(|names| fields.iter().enumerate().any(|(i, f)| i != *names && sequence(f)));
    let key_field = KEY_FIELDS
        .iter()
        .find_map(|n| fields.iter().position(|f| f.name == *n && is(f, Primitive::String, Count::One)));
    let has_wide_text = fields.iter().any(|f| match &f.ty {
        Type::Primitive(p) => *p == Primitive::WString,
        Type::Message(m) => m.has_wide_text,
    });
    let height =
        1 + fields.iter().map(|f| if let Type::Message(m) = &f.ty { m.height } else { 0 }).max().unwrap_or(0);
    Message { name: name.into(), fields, vector_of, names_field, key_field, has_wide_text, height }
}

/// The start of a line, short enough for an error.
fn clip(line: &str) -> String {
    line.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(text: &str) -> Vec<(String, Count)> {
        let message = compile("p/msg/T", text, 8).unwrap();
        message.fields.iter().map(|f| (f.name.clone(), f.count)).collect()
    }

    #[test]
    fn fields_are_told_from_constants_defaults_and_comments() {
        let text = "# heading\nint32 X=5 # a constant\nstring HASH = \"a # b\"\nint32 x 5\n\
            string s \"a=b\" # text\nfloat64[3] v [1, 2, 3]\nuint8[] data\nstring<=10[<=4] tags\r\n  bool ok#why\n";
        let expected = [
            ("x", Count::One),
            ("s", Count::One),
            ("v", Count::Fixed(3)),
            ("data", Count::Sequence { most: None }),
            ("tags", Count::Sequence { most: Some(4) }),
            ("ok", Count::One),
        ];
        assert_eq!(fields(text), expected.map(|(n, c)| (n.to_owned(), c)));
    }

    #[test]
    fn names_resolve_within_the_package_and_to_the_standard_header() {
        let text = "Header header\nPart part\nother_msgs/msg/Part far\ntime at\n\
            ====\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n\
            ====\nMSG: p/Part\nfloat64 x\nfloat64 y\n====\nMSG: other_msgs/Part\nstring[] name\nfloat32[] value\n";
        let message = compile("p/msg/T", text, 8).unwrap();
        assert!(message.has_header());
        let Type::Message(part) = &message.fields[1].ty else { panic!() };
        assert_eq!((part.name.as_str(), part.vector_of), ("p/Part", Some(Primitive::F64)));
        let Type::Message(far) = &message.fields[2].ty else { panic!() };
        assert_eq!((far.name.as_str(), far.names_field), ("other_msgs/Part", Some(0)));
        assert!(matches!(message.fields[3].ty, Type::Primitive(Primitive::Time)));
    }

    #[test]
    fn what_cannot_be_compiled_says_why() {
        let problem = |text: &str| compile("p/T", text, 4).unwrap_err().to_string();
        assert_eq!(problem("Missing m"), "the definition of type `p/Missing` is missing");
        assert_eq!(problem("T again"), "type `p/T` contains itself");
        assert!(problem("int32[x] a").contains("array length"));
        assert!(problem("int32[0] a").contains("array length"));
        assert!(problem("int32").contains("neither"));
        assert!(problem("float64<=3 a").contains("bounded"));
        let deep = "A a\n===\nMSG: p/A\nB b\n===\nMSG: p/B\nC c\n===\nMSG: p/C\nD d\n===\nMSG: p/D\nint8 x";
        assert_eq!(problem(deep), "type `p/D` is nested too deep");
    }

    #[test]
    fn depth_counts_parts_that_were_resolved_before() {
        let mut text = String::new();
        for k in 0..6 {
            text += &format!("T{k} f{k}\n");
        }
        text += "===\nMSG: p/T0\nint8 x\n";
        for k in 1..6 {
            text += &format!("===\nMSG: p/T{k}\nT{} f\n", k - 1);
        }
        assert!(compile("p/T", &text, 7).is_ok());
        assert!(compile("p/T", &text, 6).is_err());
    }

    #[test]
    fn a_repeated_dependency_keeps_its_first_text() {
        let text = "A a\n===\nMSG: p/A\nint8 x\n===\nMSG: p/A\nint8 y\n";
        let message = compile("p/T", text, 4).unwrap();
        let Type::Message(a) = &message.fields[0].ty else { panic!() };
        assert_eq!(a.fields[0].name, "x");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-z0-9_=\\[\\]<#: /\"\n]|string|int32|MSG: |===\n|float64){0,60}") {
            let _ = compile("p/msg/T", &text, 8);
        }
    }
}
