//! How recordings are cut.

use super::build::{Bag, Cdr, Chunks, boolean, read, read_error};
use crate::Trajectory;
use crate::read::bag::{BagOptions, EpisodesFrom};

const T0: u64 = 1_000_000;

fn options(from: &str) -> BagOptions {
    BagOptions { episodes: from.parse().unwrap(), ..BagOptions::default() }
}

fn times(episode: &Trajectory, stream: &str) -> Vec<i64> {
    let stream = episode.streams.iter().find(|s| s.name == stream).unwrap();
    stream.times_ns.iter().map(|t| t + episode.epoch_ns - T0 as i64).collect()
}

/// `/x` at 0..5 and 100..105, `/map` latched at 1 and 50, `/on` as given.
fn recording(on: &[(u64, bool)]) -> Vec<u8> {
    let mut bag = Bag::new(Chunks::Zstd);
    let x = bag.ros("/x", "std_msgs/msg/Int32", "int32 data");
    let map = bag.latched("/map", "std_msgs/msg/String", "string data");
    let marks = bag.ros("/on", "std_msgs/msg/Bool", "bool data");
    for k in (0..5).chain(100..105) {
        bag.write(x, T0 + k, &Cdr::new(false).u32(k as u32).done());
    }
    bag.write(map, T0 + 1, &Cdr::new(false).text("one").done());
    bag.write(map, T0 + 50, &Cdr::new(false).text("two").done());
    for (t, on) in on {
        bag.write(marks, T0 + t, &boolean(*on));
    }
    bag.done()
}

#[test]
fn gaps_cut_where_all_is_silent_and_latched_values_are_carried() {
    let file = recording(&[]);
    let episodes = read(&[&file], options("gap:20ns"));
    assert_eq!(episodes.len(), 2);
    assert_eq!(times(&episodes[0], "/x"), [0, 1, 2, 3, 4]);
    assert_eq!(times(&episodes[0], "/map"), [1, 50]);
    assert_eq!(times(&episodes[1], "/x"), [100, 101, 102, 103, 104]);
    assert_eq!(times(&episodes[1], "/map"), [50]);
    assert_eq!(episodes[1].epoch_ns, T0 as i64 + 100);
    assert_eq!(episodes[1].origin.episode, 1);
    assert_eq!(read(&[&file], options("gap:96ns")).len(), 1);
}

#[test]
fn a_topic_marks_episodes_and_is_no_part_of_them() {
    let file = recording(&[(0, false), (2, true), (3, true), (4, false), (101, true)]);
    let episodes = read(&[&file], options("topic:/on"));
    assert_eq!(episodes.len(), 2);
    assert_eq!(times(&episodes[0], "/x"), [2, 3]);
    assert_eq!(times(&episodes[0], "/map"), [1]);
    assert_eq!(times(&episodes[1], "/x"), [101, 102, 103, 104]);
    assert!(episodes.iter().all(|e| e.streams.iter().all(|s| s.name != "/on")));
    let codes: Vec<_> =
        episodes.iter().map(|e| e.findings.iter().map(|f| f.code.as_str()).collect::<Vec<_>>()).collect();
    assert_eq!(codes, [vec![], vec!["episode-not-ended"]]);
}

#[test]
fn numbers_and_texts_mark_episodes_by_changing() {
    let mut bag = Bag::new(Chunks::Plain);
    let x = bag.ros("/x", "std_msgs/msg/Int32", "int32 data");
    let id = bag.ros("/id", "p/msg/Id", "string task\nint32 n");
    for k in 0..10 {
        bag.write(x, T0 + k, &Cdr::new(false).u32(1).done());
    }
    for (t, task) in [(1, "pick"), (2, "pick"), (4, "place"), (6, "")] {
        bag.write(id, T0 + t, &Cdr::new(false).text(task).u32(0).done());
    }
    let episodes = read(&[&bag.done()], options("topic:/id"));
    let extents: Vec<_> = episodes.iter().map(|e| times(e, "/x")).collect();
    assert_eq!(extents, [vec![1, 2, 3], vec![4, 5]]);
}

#[test]
fn marks_that_cannot_be_used_say_why() {
    let file = recording(&[(0, false)]);
    assert!(read_error(&file, options("topic:/on")).contains("never on"));
    assert!(
        read_error(&file, options("topic:/nowhere"))
            .contains("/nowhere: the topic that marks episodes is not in")
    );
}

#[test]
fn an_episode_without_samples_is_an_error_of_its_own() {
    let mut bag = Bag::new(Chunks::Plain);
    let x = bag.ros("/x", "std_msgs/msg/Int32", "int32 data");
    let on = bag.ros("/on", "std_msgs/msg/Bool", "bool data");
    bag.write(x, T0 + 9, &Cdr::new(false).u32(1).done());
    for (t, value) in [(1, true), (2, false), (8, true)] {
        bag.write(on, T0 + t, &boolean(value));
    }
    let file = bag.done();
    let (episodes, error) = super::build::drive(&[&file], options("topic:/on"), Default::default(), 100);
    assert_eq!(error, None);
    assert_eq!(episodes[0].as_ref().unwrap_err().to_string(), "run, episode 0: the episode has no sample");
    assert_eq!(episodes[1].as_ref().unwrap().origin.episode, 1);
}

#[test]
fn split_files_are_one_recording() {
    let file = |from: u64, first_topic: &str| {
        let mut bag = Bag::new(Chunks::Zstd);
        // Numbers of channels differ from file to file.
        bag.ros(first_topic, "std_msgs/msg/Bool", "bool data");
        let x = bag.ros("/x", "std_msgs/msg/Int32", "int32 data");
        for k in from..from + 3 {
            bag.write(x, T0 + k, &Cdr::new(false).u32(k as u32).done());
        }
        bag.done()
    };
    let episodes = read(&[&file(0, "/x0"), &file(3, "/x")], BagOptions::default());
    assert_eq!(episodes.len(), 1);
    assert_eq!(times(&episodes[0], "/x"), [0, 1, 2, 3, 4, 5]);
    assert_eq!(EpisodesFrom::default(), EpisodesFrom::File);
}
