//! Damaged and dishonest files: an error or an episode, never a panic, and the same whatever the blocks.

use super::build::{Bag, Cdr, Chunks, HEADER, JOINT_STATE, boolean, drive, joints, read_error};
use crate::read::Limits;
use crate::read::bag::{BagOptions, EpisodesFrom};
use proptest::prelude::*;

const T0: u64 = 1_760_000_000_000_000_000;

fn mixed(chunks: Chunks) -> Vec<u8> {
    let mut bag = Bag::new(chunks);
    let joint = bag.ros("/joint_states", "sensor_msgs/msg/JointState", &format!("{JOINT_STATE}{HEADER}"));
    let on = bag.latched("/on", "std_msgs/msg/Bool", "bool data");
    let json = bag.json("/json");
    for k in 0..30 {
        let t = T0 + k * 10_000_000;
        bag.write(joint, t + 5, &joints(t, &["a", "b"], &[1.0, k as f64], &[]));
        bag.write(json, t, format!(r#"{{"v": [{k}, 2], "s": "{k}"}}"#).as_bytes());
        if k % 10 == 0 {
            bag.write(on, t, &boolean(true));
        }
    }
    bag.done()
}

#[test]
fn a_file_cut_anywhere_is_truncated_and_says_what_to_do() {
    for chunks in [Chunks::None, Chunks::Zstd] {
        let file = mixed(chunks);
        for len in (8..file.len()).step_by(97).chain([file.len() - 1, file.len() - 8]) {
            let error = read_error(&file[..len], BagOptions::default());
            assert!(error.contains("truncated") && error.contains("mcap recover"), "{len}: {error}");
        }
    }
    assert!(read_error(&[], BagOptions::default()).contains("truncated: the file is empty"));
    assert!(read_error(b"#ROSBAG V2.0\n---", BagOptions::default()).contains("not an MCAP file"));
    let empty = Bag::new(Chunks::Zstd).done();
    assert!(read_error(&empty, BagOptions::default()).contains("no messages"));
}

#[test]
fn bytes_after_the_end_are_a_finding() {
    let mut file = mixed(Chunks::Lz4);
    file.extend_from_slice(b"more");
    for block in [1, 7, 1 << 20] {
        let (episodes, _) = drive(&[&file], BagOptions::default(), Limits::default(), block);
        let findings = &episodes[0].as_ref().unwrap().findings;
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].message, "4 bytes after the end mark are not read");
    }
}

#[test]
fn limits_are_kept() {
    let file = mixed(Chunks::Zstd);
    let error = |limits: Limits| drive(&[&file], BagOptions::default(), limits, 4096).1.unwrap().to_string();
    let small = Limits { episode_bytes: 1000, ..Limits::default() };
    assert!(error(small).contains("--max-episode-size"));
    let short = Limits { record_bytes: 1000, ..Limits::default() };
    assert!(error(short).contains("limit"));
    let narrow = Limits { features: 2, ..Limits::default() };
    let (episodes, error) = drive(&[&file], BagOptions::default(), narrow, 4096);
    assert_eq!(error, None);
    let findings = &episodes[0].as_ref().unwrap().findings;
    assert!(findings.iter().any(|f| f.code == "too-many-features"), "{findings:?}");
}

#[test]
fn a_million_empty_elements_end_early() {
    let mut bag = Bag::new(Chunks::Zstd);
    let empty = bag.ros("/empty", "p/msg/T", "E[] e\nstring[] s\n===\nMSG: p/E\n");
    let x = bag.ros("/x", "std_msgs/msg/Int32", "int32 data");
    let json = bag.json("/json");
    bag.write(x, T0, &Cdr::new(false).u32(1).done());
    bag.write(empty, T0, &Cdr::new(false).u32(1_000_000).raw(&[0; 1_000_000]).u32(0).done());
    bag.write(json, T0, format!("[{}{{}}]", "[],".repeat(1_000_000)).as_bytes());
    let (episodes, error) = drive(&[&bag.done()], BagOptions::default(), Limits::default(), 1 << 20);
    assert_eq!(error, None);
    let codes: Vec<_> = episodes[0].as_ref().unwrap().findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["too-many-features", "too-many-features"]);
}

#[test]
fn a_record_may_not_reach_beyond_its_chunk() {
    let mut bag = Bag::new(Chunks::Plain);
    let x = bag.ros("/x", "std_msgs/msg/Int32", "int32 data");
    bag.write(x, T0, &Cdr::new(false).u32(1).done());
    let mut file = bag.done();
    // The first chunk's first record is the schema: its length stands 9 + 40 bytes after the chunk's opcode.
    let chunk = file.windows(9).position(|w| w[0] == 6 && w[3..] == [0; 6]).unwrap();
    file[chunk + 9 + 40 + 1 + 1] = 0x7f;
    assert!(read_error(&file, BagOptions::default()).contains("beyond its chunk"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_do_not_panic_and_blocks_do_not_matter(
        kind in 0..4_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        block in 1_u64..3000,
        from in 0..3_usize,
    ) {
        let mut file = mixed([Chunks::None, Chunks::Plain, Chunks::Zstd, Chunks::Lz4][kind]);
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let episodes = [
            EpisodesFrom::File,
            EpisodesFrom::Gap { longer_than_ns: 5_000_000 },
            EpisodesFrom::Topic("/on".into()),
        ][from].clone();
        let options = BagOptions { episodes, ..BagOptions::default() };
        let limits = Limits { record_bytes: 1 << 20, ..Limits::default() };
        let whole = drive(&[&file], options.clone(), limits, 1 << 20);
        let blocks = drive(&[&file], options, limits, block);
        // As text, since damage may make a NaN, which equals nothing.
        prop_assert_eq!(format!("{whole:?}"), format!("{blocks:?}"));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), block in 1_u64..50) {
        let mut file = ::mcap::MAGIC.to_vec();
        file.extend(bytes);
        let limits = Limits { record_bytes: 1 << 16, ..Limits::default() };
        let _ = drive(&[&file], BagOptions::default(), limits, block);
    }
}
