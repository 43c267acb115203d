//! CDR bytes, made by hand, against what they say.

use super::super::cdr::Decoder;
use super::super::ros2msg::compile;
use super::super::shape::{Layout, Row, describe};
use super::build::{Cdr, HEADER};
use crate::{Meaning, QuaternionOrder};
use proptest::prelude::*;

fn decode(definition: &str, bytes: &[u8]) -> Result<(Row, Layout), String> {
    let mut decoder = Decoder::new(compile("p/msg/T", definition, 16).unwrap());
    let mut row = Row::default();
    decoder.decode(bytes, &mut row).map_err(|e| format!("{}: {}", e.path, e.problem))?;
    let layout = describe(&decoder.node(&row, 1000).unwrap(), 1000).unwrap();
    Ok((row, layout))
}

#[test]
fn every_primitive_in_both_byte_orders_at_its_alignment() {
    let definition = "bool a\nbyte b\nchar c\nfloat32 d\nfloat64 e\nint8 f\nuint8 g\nint16 h\nuint16 i\nint32 j\n\
        uint32 k\nint64 l\nuint64 m\nstring n\ntime o\nduration p\nfloat64 q";
    for big in [false, true] {
        let bytes = Cdr::new(big)
            .put(&[1])
            .put(&[200])
            .put(&[201])
            .put(&1.5_f32.to_le_bytes())
            .f64(-2.5)
            .put(&(-3_i8).to_le_bytes())
            .put(&[4])
            .put(&(-5_i16).to_le_bytes())
            .put(&6_u16.to_le_bytes())
            .put(&(-7_i32).to_le_bytes())
            .u32(8)
            .put(&(-9_i64).to_le_bytes())
            .put(&10_u64.to_le_bytes())
            .text("öre")
            .put(&(-1_i32).to_le_bytes())
            .u32(999_999_999)
            .u32(1)
            .u32(2)
            .f64(0.125)
            .done();
        let (row, layout) = decode(definition, &bytes).unwrap();
        assert_eq!(row.bools, [true]);
        assert_eq!(row.f32s, [1.5]);
        assert_eq!(row.f64s, [-2.5, 0.125]);
        assert_eq!(row.i64s, [200, 201, -3, 4, -5, 6, -7, 8, -9, 10, -1, 1_000_000_002]);
        assert_eq!(row.blob(0), "öre".as_bytes());
        assert!(layout.leaves.iter().any(|l| l.path == "o_ns"));
    }
}

#[test]
fn sequences_arrays_and_nesting() {
    let definition = "uint8[] data\nint16[<=4] some\nP[] points\nfloat64[2] pair\nstring[2] texts\nE e\nuint8[3] three\n\
        float64[] none\nuint8 last\n===\nMSG: p/P\nfloat64 x\nfloat64 y\n===\nMSG: p/E\n";
    let bytes = Cdr::new(false)
        .u32(3)
        .raw(b"abc")
        .u32(2)
        .put(&7_i16.to_le_bytes())
        .put(&8_i16.to_le_bytes())
        .u32(2)
        .f64(1.0)
        .f64(2.0)
        .f64(3.0)
        .f64(4.0)
        .f64(5.0)
        .f64(6.0)
        .text("s")
        .text("")
        .put(&[0])
        .raw(b"xyz")
        .u32(0)
        .put(&[9])
        .raw(&[0, 0, 0])
        .done();
    let (row, layout) = decode(definition, &bytes).unwrap();
    let seen: Vec<_> = layout.leaves.iter().map(|l| (l.path.as_str(), l.shape.as_slice())).collect();
    let expected: [(&str, &[usize]); 9] = [
        ("data", &[]),
        ("some", &[2]),
        ("points[0]", &[2]),
        ("points[1]", &[2]),
        ("pair", &[2]),
        ("texts[0]", &[]),
        ("texts[1]", &[]),
        ("three", &[]),
        ("last", &[]),
    ];
    assert_eq!(seen, expected);
    assert_eq!(row.f64s, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(row.i64s, [7, 8, 9]);
    assert_eq!((row.blob(0), row.blob(3)), (&b"abc"[..], &b"xyz"[..]));
    assert_eq!(layout.leaves[2].names, Some(vec!["x".into(), "y".into()]));
}

#[test]
fn a_quaternion_is_one_by_its_type_only() {
    let fields = "float64 x\nfloat64 y\nfloat64 z\nfloat64 w\n";
    let definition = format!(
        "geometry_msgs/Quaternion q\nLike l\n===\nMSG: geometry_msgs/Quaternion\n{fields}===\nMSG: p/Like\n{fields}"
    );
    let bytes = (0..8).fold(Cdr::new(false), |out, k| out.f64(f64::from(k))).done();
    let (_, layout) = decode(&definition, &bytes).unwrap();
    assert_eq!(layout.leaves[0].meaning, Meaning::Quaternion(QuaternionOrder::Xyzw));
    assert_eq!(layout.leaves[1].meaning, Meaning::Plain);
}

#[test]
fn a_header_gives_the_stamp_and_keeps_its_frame() {
    let bytes = Cdr::new(true).u32(12).u32(34).text("base").put(&[1]).done();
    let (row, layout) = decode(&format!("std_msgs/Header header\nbool ok{HEADER}"), &bytes).unwrap();
    assert_eq!(row.stamp_ns, Some(12_000_000_034));
    assert_eq!(layout.leaves[0].path, "header.frame_id");
    assert!(row.i64s.is_empty());
}

#[test]
fn wide_texts_of_either_width() {
    for unit in [2, 4] {
        let units = "ho"
            .encode_utf16()
            .fold(Cdr::new(false).u32(2), |out, c| out.put(&u32::from(c).to_le_bytes()[..unit]));
        let (row, _) = decode("wstring w\nfloat64 x", &units.f64(3.0).done()).unwrap();
        assert_eq!((row.blob(0), row.f64s[0]), (&b"ho"[..], 3.0));
    }
}

#[test]
fn what_cannot_be_decoded_says_where_and_why() {
    let problem = |definition: &str, bytes: &[u8]| decode(definition, bytes).map(|_| ()).unwrap_err();
    assert!(problem("int8 a", &[0, 1]).contains("fewer than its 4-byte"));
    assert!(problem("int8 a", &[0, 7, 0, 0, 0]).contains("plain XCDR2"));
    let short = problem("P p\n===\nMSG: p/P\nint8 a\nfloat64 b", &[0, 1, 0, 0, 5, 0]);
    assert!(short.starts_with("p.b: the message ends at byte 6"), "{short}");
    let huge = Cdr::new(false).u32(u32::MAX).done();
    assert!(problem("float64[] v", &huge).contains("a sequence of 4294967295 where only 0"));
    assert!(problem("string[] v", &huge).contains("a sequence of"));
    assert!(problem("string v", &huge).contains("the message ends"));
    assert!(
        problem("int8[<=2] v", &Cdr::new(false).u32(3).raw(&[1, 2, 3]).done()).contains("declared bound")
    );
    assert!(problem("int8 a", &[0, 1, 0, 0, 5, 0, 0, 0, 0]).contains("4 bytes remain"));
    assert!(decode("int8 a", &[0, 1, 0, 0, 5, 0, 0, 0]).is_ok());
    assert!(problem("string a", &Cdr::new(false).u32(2).raw(&[0xff, 0]).done()).contains("UTF-8"));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(0_u8..8, 0..80), big in any::<bool>()) {
        let definition = format!("std_msgs/Header header\nstring[] name\nfloat64[] v\nP[] p\nwstring w\nE[2] e\n\
            ===\nMSG: p/P\nstring name\nuint8[] data\nint16[3] x\nP2[] q\n===\nMSG: p/P2\nstring[] interface_names\nint8[] n\n\
            ===\nMSG: p/E\n{HEADER}");
        let message = Cdr::new(big).raw(&bytes).done();
        let _ = decode(&definition, &message);
        let _ = decode(&definition, &bytes);
    }
}
