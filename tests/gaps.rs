//! The hole of 228 ms in /joint_states of the demo's reach_001, which hides rows 98 to 108 of 238.

use crate::helpers::{demo_arm, info, json, manifest, preprocess, size, verify};

#[test]
fn mask_keeps_the_rows_and_marks_them() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    preprocess(&demo_arm("reach_001"), &output, &["--on-gap", "mask"]).exits(0);
    assert_eq!(size(&output), (1, 238));
    assert_eq!(info(&output)["features"]["gap_mask"]["dtype"], "bool");
    let statistics = json(&output.join("meta/stats.json"));
    assert_eq!(statistics["joint_states.position"]["count"][0], 238 - 11, "statistics skip masked rows");
    verify(&output).exits(0);
}

#[test]
fn split_cuts_the_episode_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    preprocess(&demo_arm("reach_001"), &output, &["--on-gap", "split"]).exits(0);
    assert_eq!(size(&output), (2, 238 - 11));
    assert!(info(&output)["features"].get("gap_mask").is_none(), "no row is in a gap");
    verify(&output).exits(0);
}

#[test]
fn drop_leaves_the_episode_out_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let outcome = preprocess(&demo_arm(""), &output, &["--on-gap", "drop"]).exits(3);
    outcome.complains("/joint_states").complains("a gap longer than may be bridged");
    assert_eq!(size(&output), (3, 193 + 220 + 264));
    let manifest = manifest(&output);
    assert!(manifest["skipped"][0]["file"].as_str().unwrap().contains("reach_001"), "{manifest}");
    assert_eq!(manifest["skipped"][0]["feature"], "/joint_states");
    verify(&output).exits(0);
    let alone = folder.path().join("alone");
    preprocess(&demo_arm("reach_001"), &alone, &["--on-gap", "drop"]).exits(2).complains("no episode");
}

#[test]
fn a_longer_bridge_leaves_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    preprocess(&demo_arm(""), &output, &["--on-gap", "drop", "--max-gap", "240ms"]).exits(0);
    assert_eq!(size(&output), (4, 915));
    let shorter = folder.path().join("shorter");
    preprocess(&demo_arm("reach_001"), &shorter, &["--on-gap", "split", "--max-gap", "228ms"]).exits(0);
    assert!(size(&shorter).0 > 1, "the hole is 228.09 ms long");
}
