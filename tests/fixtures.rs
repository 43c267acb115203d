//! Every recording the repository has (and those next to it, where they are): what must come of it.
//!
//! The numbers are worked out from how the recording was made, not from what the program prints. At 50 Hz a grid has
//! floor(50 · span) + 1 rows, where the span reaches from the last stream's first sample to the first stream's last one;
//! text and latched streams do not end it.

use std::path::Path;

use crate::helpers::{demo_arm, fixture, info, manifest, preprocess, shared, size, verify};

/// A recording and what comes of it.
struct Case {
    input: &'static str,
    flags: &'static [&'static str],
    exit: i32,
    episodes: u64,
    rows: u64,
    /// Of each episode left out, in order: a part of the reason.
    skipped: &'static [&'static str],
    /// Codes of what must have been noticed.
    findings: &'static [&'static str],
}

impl Case {
    const fn new(input: &'static str, episodes: u64, rows: u64) -> Self {
        Self { input, flags: &[], exit: 0, episodes, rows, skipped: &[], findings: &[] }
    }

    /// No episode can be used, and this is why.
    const fn refused(input: &'static str, reason: &'static [&'static str]) -> Self {
        Self { exit: 2, skipped: reason, ..Self::new(input, 0, 0) }
    }

    const fn flags(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    /// Committed with these left out.
    const fn without(self, skipped: &'static [&'static str]) -> Self {
        Self { exit: 3, skipped, ..self }
    }

    const fn notices(self, findings: &'static [&'static str]) -> Self {
        Self { findings, ..self }
    }
}

const FIVE: &[&str] = &["--source-frequency", "5"];

/// tests/fixtures; see the table in its README.
const FIXTURES: &[Case] = &[
    // Joints at 0 to 1.98 s, poses at 0.003 to 1.963 s.
    Case::new("mcap_compression/none.mcap", 1, 99),
    Case::new("mcap_compression/lz4.mcap", 1, 99),
    Case::new("mcap_compression/zstd.mcap", 1, 99),
    Case::new("mcap_compression", 3, 3 * 99),
    // Poses at 0.003 to 2.903 s, over both files.
    Case::new("split_bag", 1, 146),
    // 50 samples 40 ms apart: 1.96 s.
    Case::new("zero_stamps.mcap", 1, 99).notices(&["clock-fallback"]),
    Case::new("foreign_clock.mcap", 1, 99).notices(&["clock-fallback"]),
    Case::new("big_endian_cdr.mcap", 1, 99),
    Case::new("latched.mcap", 1, 99),
    Case::new("json.mcap", 1, 99),
    Case::new("topic_without_messages.mcap", 1, 99).notices(&["stream-absent"]),
    Case::refused(
        "duplicate_stamps.mcap",
        &["/joint_states, sample 4: two samples carry the same timestamp"],
    ),
    Case::refused(
        "backwards_stamps.mcap",
        &["/joint_states, sample 25: time runs backwards by 460000000 ns"],
    ),
    Case::refused(
        "nan_values.mcap",
        &["/joint_states.position, sample 10: component elbow is NaN, infinite or beyond single precision"],
    ),
    // The marks end at 11 s, before the joints do.
    Case::new("episodes_topic.mcap", 1, 551),
    // Joints at 0 to 1.95 s of each; the mark that ends it is no part of it.
    Case::new("episodes_topic.mcap", 3, 3 * 98).flags(&["--episodes-from", "topic:/recording"]),
    // Poses at 0.003 to 11.903 s; or to 1.903 s of each burst.
    Case::new("episodes_gap.mcap", 1, 596),
    Case::new("episodes_gap.mcap", 3, 3 * 96).flags(&["--episodes-from", "gap:2s"]),
    // Arms at 0 to 1.96 s, fingers at 0.02 to 1.98 s.
    Case::new("joint_names_change.mcap", 1, 98).notices(&["several-name-sets"]),
    // Messages without the cube at 0.04 to 1.96 s, with it at 0 to 1.92 s: streams of their own.
    Case::new("tf.mcap", 1, 95).notices(&["several-name-sets"]),
    // 20 samples 50 ms apart; some of its fields can be no column, which is a finding.
    Case::new("nested_types.mcap", 1, 48).notices(&["uint64-overflow", "ragged-feature"]),
    Case::refused("truncated.mcap", &["truncated.mcap, byte", "truncated"]),
    Case::refused("empty.mcap", &["empty.mcap: no messages in the recording"]),
    // 10, 12, 14, 16, 18 and 20 steps, ten rows for each but the last.
    Case::new("rlds_multi", 6, 91 + 111 + 131 + 151 + 171 + 191).flags(FIVE),
    Case::new("rlds_multi/1.0.0", 6, 846).flags(FIVE),
    Case::new("rlds_bad_crc", 1, 91).flags(FIVE).without(&["the record's checksum is"]),
    Case::new("rlds_truncated", 1, 91).flags(FIVE).without(&["the file ends inside a record"]),
    Case::new("rlds_missing_split", 1, 91).flags(FIVE).notices(&["missing-split"]),
    Case::refused("rlds_multi", &["RLDS carries no timestamps", "--source-frequency"]),
];

/// examples/demo_arm/data; the spans are those of the header stamps (log times for the gripper, which has none).
const DEMO: &[Case] = &[
    // 3.848 s: the gripper's first to last message.
    Case::new("reach_000", 1, 193),
    // 4.751 s, the gripper's.
    Case::new("reach_001", 1, 238),
    // 4.389 s, the gripper's.
    Case::new("reach_002", 1, 220),
    // 5.272 s: the gripper's first message to the camera's last.
    Case::new("reach_003", 1, 264),
    Case::new("", 4, 193 + 238 + 220 + 264),
];

/// ../shared/data, where it is; what of it these readers cover.
const SHARED: &[Case] = &[
    // 20, 23, 26, 29, 32 steps for training and 20 more.
    Case::new("generated/rlds", 6, 191 + 221 + 251 + 281 + 311 + 191).flags(FIVE),
    // 1.09 ms (poses) to 2.5 s (gripper).
    Case::new("generated/rosbag2_mcap", 1, 125),
    // 25 real episodes of 10 steps; the other split was not copied.
    Case::new("real/rlds_bridge", 25, 25 * 91).flags(FIVE).notices(&["missing-split"]),
    // Only the text is not latched: 4.531 s of it.
    Case::new("real/rosbag2/rosbag2_py_test_resources_mcap_talker_talker.mcap", 1, 227),
    // Log times of 1000 to 1408 nanoseconds, many of them twice.
    Case::refused(
        "real/rosbag2/rosbag2_py_test_resources_mcap_wbag_wbag_0.mcap",
        &["two samples carry the same timestamp"],
    ),
    // Both topics are latched, so that together they are the extent: from the later of their first samples to the later of
    // their last. A uint64 too large costs its feature only.
    Case::new("real/rosbag2/rosbag2_tests_resources_mcap_cdr_test_cdr_test_0.mcap", 1, 7),
    // The first recording's streams are what the output is made of.
    Case::new("real/rosbag2", 1, 227).without(&["is missing", "is missing"]).notices(&["unread-file"]),
];

fn check(input: &Path, case: &Case) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let output = folder.path().join("out");
    let outcome = preprocess(input, &output, case.flags).exits(case.exit);
    if case.exit == 2 {
        for reason in case.skipped {
            assert!(outcome.stderr.contains(reason), "expected `{reason}`: {outcome}");
        }
        assert!(!output.join("meta/info.json").exists(), "nothing may be published: {outcome}");
        return;
    }
    assert_eq!(size(&output), (case.episodes, case.rows), "{outcome}");
    let info = info(&output);
    assert_eq!(info["codebase_version"], "v3.0");
    assert_eq!((&info["fps"], &info["total_episodes"]), (&50.into(), &case.episodes.into()), "{outcome}");
    assert_eq!(info["total_frames"], case.rows, "{outcome}");
    let manifest = manifest(&output);
    let skipped = manifest["skipped"].as_array().expect("the manifest lists what was left out");
    assert_eq!(skipped.len(), case.skipped.len(), "{outcome}");
    for (left_out, reason) in skipped.iter().zip(case.skipped) {
        let found = left_out["reason"].as_str().expect("there is a reason");
        assert!(found.contains(reason), "expected `{reason}`, found `{found}`");
        assert!(outcome.stderr.contains(&format!("error: {}", left_out["file"].as_str().unwrap_or("?"))));
        assert!(outcome.stderr.contains(found), "reported and recorded differ: {outcome}");
    }
    let findings = manifest["findings"].as_array().expect("the manifest lists what was noticed");
    for code in case.findings {
        let noticed = findings.iter().any(|counted| counted["finding"]["code"] == *code);
        assert!(noticed, "{code} is not among {findings:?}");
    }
    verify(&output).exits(0);
}

#[test]
fn every_fixture_gives_what_its_recording_holds() {
    for case in FIXTURES {
        println!("{} {}", case.input, case.flags.join(" "));
        check(&fixture(case.input), case);
    }
}

#[test]
fn no_fixture_is_forgotten() {
    let listed = |name: &str| FIXTURES.iter().any(|case| case.input.split('/').next() == Some(name));
    for entry in std::fs::read_dir(fixture("")).expect("the fixtures are there") {
        let path = entry.expect("they can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
        let source = ["py", "md", "txt"].iter().any(|kind| path.extension().is_some_and(|e| e == *kind));
        assert!(source || name == "__pycache__" || listed(name), "{name} has no expectation in this test");
    }
}

#[test]
fn the_demo_recordings_give_what_they_hold() {
    for case in DEMO {
        check(&demo_arm(case.input), case);
    }
}

#[test]
fn the_shared_data_give_what_they_hold() {
    for case in SHARED {
        let Some(input) = shared(case.input) else { continue };
        println!("{} {}", case.input, case.flags.join(" "));
        check(&input, case);
    }
}

/// `--on-error skip` says that bad episodes are expected: the same output, and success.
#[test]
fn skipping_bad_episodes_is_success_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (strict, lenient) = (folder.path().join("strict"), folder.path().join("lenient"));
    preprocess(&fixture("rlds_bad_crc"), &strict, FIVE).exits(3).complains("error: ");
    let flags = ["--source-frequency", "5", "--on-error", "skip"];
    let outcome = preprocess(&fixture("rlds_bad_crc"), &lenient, &flags).exits(0).complains("skipped: ");
    assert!(!outcome.stderr.contains("error: "), "{outcome}");
    crate::helpers::assert_same(&crate::helpers::published(&strict), &lenient, "--on-error skip");
}

/// No failure policy of a Job can turn another code into success, so in a pod the manifest tells.
#[test]
fn in_a_pod_episodes_left_out_are_success_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut command =
        crate::helpers::preprocess_command(&fixture("rlds_bad_crc"), &folder.path().join("out"), FIVE);
    crate::helpers::finish(command.env("KUBERNETES_SERVICE_HOST", "10.0.0.1")).exits(0);
}
