//! The numbers: compared with independent interpolations and with the formulas that fixtures were recorded from.

use std::ffi::OsStr;
use std::path::Path;

use crate::helpers::{demo_arm, fixture, preprocess, published, python, shared, size, verify};

/// Interpolates the state of every episode in numpy and compares: 1e-5 at most.
fn same_as_numpy(input: &Path, output: &Path) -> String {
    let args = [input.as_os_str(), output.as_os_str()].into_iter();
    let rates = ["--source-frequency", "5", "--target-frequency", "50", "--tolerance", "1e-5"];
    python("check_interpolation.py", args.chain(rates.map(OsStr::new))).exits(0).stdout
}

/// The command of the documentation, word for word.
#[test]
fn real_bridge_episodes_equal_an_independent_interpolation() {
    let Some(input) = shared("real/rlds_bridge") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let flags = "--target-frequency 50 --source-frequency 5 --batch-size 256 --dtype bfloat16";
    let flags: Vec<&str> = flags.split(' ').collect();
    preprocess(&input, &output, &flags).exits(0);
    assert_eq!(size(&output), (25, 2275));
    assert!(same_as_numpy(&input, &output).starts_with("episodes 25, rows 2275, "));
    verify(&output).exits(0);
}

#[test]
fn rlds_episodes_of_all_splits_and_shards_equal_an_independent_interpolation() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let flags = ["--source-frequency", "5", "--shard-size", "7KB"];
    preprocess(&fixture("rlds_multi"), &output, &flags).exits(0);
    assert!(same_as_numpy(&fixture("rlds_multi/1.0.0"), &output).starts_with("episodes 6, rows 846, "));
}

/// Resamples a recording without a map and has its values checked by tests/python/check_values.py.
#[track_caller]
fn check(case: &str, input: &Path, flags: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let output = folder.path().join("out");
    preprocess(input, &output, flags).exits(0);
    python("check_values.py", [OsStr::new(case), output.as_os_str()]).exits(0);
}

#[test]
fn a_recording_split_over_files_gives_the_sines_it_was_made_of() {
    check("split_bag", &fixture("split_bag"), &[]);
}

#[test]
fn chunk_compression_changes_no_byte_of_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["none", "lz4", "zstd"].map(|kind| {
        let output = folder.path().join(kind);
        preprocess(&fixture(&format!("mcap_compression/{kind}.mcap")), &output, &[]).exits(0);
        let mut files = published(&output);
        files.retain(|name, _| name.starts_with("data/"));
        assert_eq!(files.len(), 1);
        files
    });
    assert!(data[0] == data[1] && data[1] == data[2], "the three files' messages are the same");
    python("check_values.py", [OsStr::new("compression"), folder.path().join("zstd").as_os_str()]).exits(0);
}

/// Zero stamps and stamps since boot go by log time, which is as regular; big-endian messages are only written differently.
#[test]
fn other_clocks_and_byte_orders_give_the_same_sines() {
    for name in ["zero_stamps", "foreign_clock", "big_endian_cdr", "topic_without_messages"] {
        check("joints_only", &fixture(&format!("{name}.mcap")), &[]);
    }
}

#[test]
fn latched_values_hold_throughout_and_set_no_extent() {
    check("latched", &fixture("latched.mcap"), &[]);
}

#[test]
fn json_messages_become_columns_of_their_types() {
    check("json", &fixture("json.mcap"), &[]);
}

#[test]
fn joints_go_by_name_in_whatever_order_they_are_listed() {
    check("joint_names_change", &fixture("joint_names_change.mcap"), &[]);
}

#[test]
fn transforms_go_by_the_name_of_their_frame() {
    check("tf", &fixture("tf.mcap"), &[]);
}

#[test]
fn the_causal_preset_never_looks_ahead() {
    check("causal", &fixture("split_bag"), &["--preset", "causal"]);
}

/// A quaternion and a gripper are no exception, and asking for both is a contradiction.
#[test]
fn the_causal_preset_refuses_policies_that_look_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--preset", "causal", "--policy", "/joint_states.position=linear"];
    let outcome = preprocess(&fixture("split_bag"), &folder.path().join("out"), &flags).exits(2);
    outcome.complains("/joint_states.position").complains("looks ahead");
}

#[test]
fn rows_in_a_gap_are_masked_and_not_interpolated() {
    check("gap", &demo_arm("reach_001"), &[]);
}
