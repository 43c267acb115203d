//! Streams, features and clocks of whole recordings.

use std::collections::BTreeMap;

use super::build::{Bag, Cdr, Chunks, HEADER, JOINT_STATE, boolean, joints, read, read_error, read_one};
use crate::read::bag::{BagOptions, TopicFilter, is_mcap};
use crate::{Clock, Column, Meaning, Trajectory};

const SECOND: u64 = 1_000_000_000;
const T0: u64 = 1_760_000_000 * SECOND;

fn definition() -> String {
    format!("{JOINT_STATE}{HEADER}")
}

fn joint_bag(messages: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut bag = Bag::new(Chunks::Zstd);
    let channel = bag.ros("/joint_states", "sensor_msgs/msg/JointState", &definition());
    for (log, data) in messages {
        bag.write(channel, *log, data);
    }
    bag.done()
}

fn codes(episode: &Trajectory) -> Vec<(&str, &str)> {
    episode.findings.iter().map(|f| (f.code.as_str(), f.subject.as_str())).collect()
}

#[test]
fn all_ways_of_storing_give_the_same_episode() {
    let build = |chunks| {
        let mut bag = Bag::new(chunks);
        let joint = bag.ros("/joint_states", "sensor_msgs/msg/JointState", &definition());
        let grip = bag.ros("/grip", "std_msgs/msg/Bool", "bool data\n");
        for k in 0..200 {
            let t = T0 + k * 10_000_000;
            bag.write(joint, t + 500, &joints(t, &["a", "b"], &[k as f64, 1.0], &[]));
            bag.write(grip, t + 700, &boolean(k % 3 == 0));
        }
        bag.done()
    };
    let first = build(Chunks::None);
    assert!(is_mcap(&first) && !is_mcap(b"#ROSBAG V2.0"));
    let expected = read_one(&first);
    for chunks in [Chunks::Plain, Chunks::Zstd, Chunks::Lz4] {
        assert_eq!(read_one(&build(chunks)), expected, "{chunks:?}");
    }
    assert_eq!(expected.epoch_ns, T0 as i64);
    let (stream, position) = expected.feature("/joint_states.position").unwrap();
    assert_eq!((stream.clock, stream.len(), position.shape.as_slice()), (Clock::HeaderStamp, 200, &[2][..]));
    let (grip, data) = expected.feature("/grip.data").unwrap();
    assert_eq!((grip.clock, grip.times_ns[1]), (Clock::LogTime, 10_000_700));
    assert!(matches!(&data.column, Column::Bool(v) if v[3] && !v[4]));
    assert!(expected.findings.is_empty());
}

#[test]
fn names_in_another_order_are_put_in_the_first() {
    let episode = read_one(&joint_bag(&[
        (T0, joints(T0, &["a", "b"], &[1.0, 2.0], &[3.0, 4.0])),
        (T0 + 9, joints(T0 + 9, &["b", "a"], &[20.0, 10.0], &[40.0, 30.0])),
    ]));
    let (_, position) = episode.feature("/joint_states.position").unwrap();
    assert_eq!(position.column, Column::F64(vec![1.0, 2.0, 10.0, 20.0]));
    assert_eq!(position.names, Some(vec!["a".into(), "b".into()]));
    assert!(episode.feature("/joint_states.effort").is_none());
}

#[test]
fn publishers_of_different_names_are_different_streams() {
    let messages: Vec<_> = (0..6)
        .map(|k| {
            let t = T0 + k * SECOND;
            let names: &[&str] = if k % 2 == 0 { &["a", "b"] } else { &["finger"] };
            (t, joints(t, names, &[k as f64, 0.5][..names.len()], &[]))
        })
        .collect();
    let episode = read_one(&joint_bag(&messages));
    let names: Vec<_> = episode.streams.iter().map(|s| (s.name.as_str(), s.len())).collect();
    assert_eq!(names, [("/joint_states", 3), ("/joint_states#2", 3)]);
    let (_, finger) = episode.feature("/joint_states#2.position").unwrap();
    assert_eq!(finger.column, Column::F64(vec![1.0, 3.0, 5.0]));
}

#[test]
fn transforms_are_called_by_their_child_frame() {
    let definition = format!(
        "geometry_msgs/TransformStamped[] transforms\n===\nMSG: geometry_msgs/TransformStamped\nstd_msgs/Header header\n\
         string child_frame_id\nV t\n===\nMSG: geometry_msgs/V\nfloat64 x\nfloat64 y\n{HEADER}"
    );
    let transforms = |frames: &[(&str, f64)]| {
        let start = Cdr::new(false).u32(frames.len() as u32);
        frames.iter().fold(start, |out, (f, v)| out.u32(7).u32(8).text("map").text(f).f64(*v).f64(0.0)).done()
    };
    let mut bag = Bag::new(Chunks::Plain);
    let tf = bag.ros("/tf", "tf2_msgs/msg/TFMessage", &definition);
    bag.write(tf, T0, &transforms(&[("hand", 1.0), ("base", 2.0)]));
    bag.write(tf, T0 + 1, &transforms(&[("base", 4.0), ("hand", 3.0)]));
    bag.write(tf, T0 + 2, &transforms(&[("odom", 9.0)]));
    let episode = read_one(&bag.done());
    let (stream, hand) = episode.feature("/tf.transforms[hand].t").unwrap();
    assert_eq!(hand.column, Column::F64(vec![1.0, 0.0, 3.0, 0.0]));
    assert_eq!(stream.clock, Clock::LogTime);
    assert!(episode.feature("/tf.transforms[hand].header.stamp_ns").is_some());
    assert!(episode.feature("/tf#2.transforms[odom].t").is_some());
}

#[test]
fn a_sequence_of_changing_length_is_left_out_with_a_finding() {
    let mut bag = Bag::new(Chunks::Lz4);
    let channel = bag.ros("/scan", "p/msg/Scan", "int32 n\nfloat64[] ranges\n");
    for (k, len) in [3, 0, 5, 4].into_iter().enumerate() {
        bag.write(channel, T0 + k as u64, &Cdr::new(false).u32(k as u32).f64s(&vec![0.0; len]).done());
    }
    let episode = read_one(&bag.done());
    assert_eq!(codes(&episode), [("ragged-feature", "/scan.ranges")]);
    assert!(episode.findings[0].message.contains("(0 to 5)"));
    assert_eq!(episode.streams[0].features.len(), 1);
    assert_eq!(episode.streams[0].features[0].column, Column::I64(vec![0, 1, 2, 3]));
}

#[test]
fn a_uint64_that_no_column_holds_costs_its_feature_only() {
    let mut bag = Bag::new(Chunks::None);
    let channel = bag.ros("/counter", "p/msg/Counter", "uint64 fits\nuint64 sentinel\n");
    for (k, sentinel) in [7, u64::MAX].into_iter().enumerate() {
        let message = Cdr::new(false).put(&(i64::MAX as u64).to_le_bytes()).put(&sentinel.to_le_bytes());
        bag.write(channel, T0 + k as u64, &message.done());
    }
    let episode = read_one(&bag.done());
    assert_eq!(codes(&episode), [("uint64-overflow", "/counter.sentinel")]);
    assert_eq!(episode.streams[0].features.len(), 1);
    assert_eq!(episode.streams[0].features[0].column, Column::I64(vec![i64::MAX; 2]));
}

#[test]
fn clocks_fall_back_as_a_whole_and_say_so() {
    let zero = read_one(&joint_bag(&[
        (T0, joints(0, &["a"], &[1.0], &[])),
        (T0 + 5, joints(T0, &["a"], &[1.0], &[])),
    ]));
    assert_eq!(zero.streams[0].clock, Clock::LogTime);
    assert_eq!(zero.streams[0].times_ns, [0, 5]);
    assert_eq!(codes(&zero), [("clock-fallback", "/joint_states")]);
    let boot = joint_bag(&[(T0, joints(5 * SECOND, &["a"], &[1.0], &[]))]);
    let fallen = read_one(&boot);
    assert_eq!(fallen.streams[0].clock, Clock::LogTime);
    assert!(fallen.findings[0].message.contains("another origin"));
    // An offset that brings the two together makes the stamps good again.
    let clock_offsets_ns = BTreeMap::from([("/joint_states".to_owned(), (T0 - 5 * SECOND) as i64 - 3)]);
    let mended = &read(&[&boot], BagOptions { clock_offsets_ns, ..BagOptions::default() })[0];
    assert_eq!((mended.streams[0].clock, mended.epoch_ns), (Clock::HeaderStamp, T0 as i64 - 3));
}

#[test]
fn rows_follow_log_time_and_stamps_are_left_as_they_are() {
    let episode = read_one(&joint_bag(&[
        (T0 + 20, joints(T0 + 1, &["a"], &[2.0], &[])),
        (T0 + 10, joints(T0 + 8, &["a"], &[1.0], &[])),
        (T0 + 20, joints(T0 + 1, &["a"], &[3.0], &[])),
    ]));
    assert_eq!(episode.streams[0].times_ns, [7, 0, 0]);
    assert_eq!(episode.feature("/joint_states.position").unwrap().1.column, Column::F64(vec![1.0, 2.0, 3.0]));
}

#[test]
fn images_are_images_by_declaration_and_bytes() {
    let definition = format!("std_msgs/Header header\nstring format\nuint8[] data{HEADER}");
    let image = |data: &[u8]| {
        Cdr::new(false).u32(0).u32(0).text("cam").text("jpeg").u32(data.len() as u32).raw(data).done()
    };
    for (data, meaning) in [(&[0xff, 0xd8, 0xff, 1][..], Meaning::EncodedImage), (b"H264", Meaning::Plain)] {
        let mut bag = Bag::new(Chunks::Plain);
        let channel = bag.ros("/cam", "sensor_msgs/msg/CompressedImage", &definition);
        bag.write(channel, T0, &image(data));
        let episode = read_one(&bag.done());
        let (_, feature) = episode.feature("/cam.data").unwrap();
        assert_eq!(feature.meaning, meaning);
        assert_eq!(codes(&episode).contains(&("unknown-image", "/cam.data")), meaning == Meaning::Plain);
        assert!(matches!(&feature.column, Column::Bytes(b) if b.get(0) == data));
    }
}

#[test]
fn json_numbers_are_integers_while_all_are() {
    let mut bag = Bag::new(Chunks::Zstd);
    let channel = bag.json("/status");
    for (k, text) in
        [r#"{"n": 1, "x": 2, "opt": 1, "s": "a"}"#, r#"{"n": 3, "x": 4.5, "s": "b"}"#].iter().enumerate()
    {
        bag.write(channel, T0 + k as u64, text.as_bytes());
    }
    let episode = read_one(&bag.done());
    assert_eq!(episode.feature("/status.n").unwrap().1.column, Column::I64(vec![1, 3]));
    assert_eq!(episode.feature("/status.x").unwrap().1.column, Column::F64(vec![2.0, 4.5]));
    assert_eq!(codes(&episode), [("ragged-feature", "/status.opt")]);
    assert_eq!(episode.streams[0].clock, Clock::LogTime);
}

#[test]
fn json_stamps_are_clocks() {
    let mut bag = Bag::new(Chunks::None);
    let channel = bag.json("/pose");
    let text =
        format!(r#"{{"header": {{"stamp": {{"sec": {}, "nanosec": 7}}}}, "p": [1.5, 2]}}"#, T0 / SECOND);
    bag.write(channel, T0 + 9, text.as_bytes());
    let episode = read_one(&bag.done());
    assert_eq!((episode.streams[0].clock, episode.epoch_ns), (Clock::HeaderStamp, T0 as i64 + 7));
    assert_eq!(episode.streams[0].features.len(), 1);
}

#[test]
fn what_cannot_be_read_is_reported_not_lost() {
    let mut bag = Bag::new(Chunks::Plain);
    let proto = bag.encoded("/proto", "protobuf", 0);
    let missing = bag.ros("/missing", "p/msg/T", "Unknown u\n");
    bag.write(proto, T0, b"x");
    bag.write(missing, T0, b"x");
    let metadata = BTreeMap::from([("operator".to_owned(), "ada".to_owned())]);
    bag.writer().write_metadata(&::mcap::records::Metadata { name: "run".into(), metadata }).unwrap();
    let attachment = ::mcap::Attachment {
        log_time: 0,
        create_time: 0,
        name: "n".into(),
        media_type: "text/plain".into(),
        data: b"hi"[..].into(),
    };
    bag.writer().attach(&attachment).unwrap();
    let alone = bag.done();
    let error = read_error(&alone, BagOptions::default());
    assert!(error.contains("protobuf") && error.contains("p/Unknown"), "{error}");
    let mut bag = Bag::new(Chunks::Plain);
    let ok = bag.ros("/ok", "std_msgs/msg/Bool", "bool data");
    bag.write(ok, T0, &boolean(true));
    let good = bag.done();
    let episode = &read(&[&good, &alone], BagOptions::default())[0];
    let expected = [
        ("attachment-ignored", "attachments"),
        ("unreadable-schema", "/missing"),
        ("unsupported-encoding", "/proto"),
    ];
    assert_eq!(codes(episode), expected);
    assert_eq!(episode.metadata["run.operator"], "ada");
}

#[test]
fn a_topic_without_messages_is_mentioned() {
    let mut bag = Bag::new(Chunks::Plain);
    let ok = bag.ros("/ok", "std_msgs/msg/Bool", "bool data");
    bag.ros("/quiet", "std_msgs/msg/Bool", "bool data");
    bag.write(ok, T0, &boolean(true));
    assert_eq!(codes(&read_one(&bag.done())), [("stream-absent", "/quiet")]);
}

#[test]
fn excluded_topics_are_not_decoded() {
    let mut bag = Bag::new(Chunks::Plain);
    let bad = bag.ros("/bad", "std_msgs/msg/Bool", "bool data");
    let ok = bag.ros("/ok", "std_msgs/msg/Bool", "bool data");
    bag.write(bad, T0, b"");
    bag.write(ok, T0, &boolean(true));
    let file = bag.done();
    let error = read_error(&file, BagOptions::default());
    assert_eq!(
        error,
        "run/run_0.mcap, episode 0, /bad, sample 0: the message has 0 bytes, fewer than its 4-byte CDR header"
    );
    let topics = TopicFilter { include: vec![], exclude: vec!["/b*".into()] };
    let episode = &read(&[&file], BagOptions { topics, ..BagOptions::default() })[0];
    assert_eq!(episode.streams.len(), 1);
    let topics = TopicFilter { include: vec!["/none".into()], exclude: vec![] };
    assert!(read_error(&file, BagOptions { topics, ..BagOptions::default() }).contains("--include"));
}
