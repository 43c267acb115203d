//! Outputs opened by the real `lerobot` package: every item, with windows around it.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use crate::helpers::{demo_arm, demo_map, fixture, preprocess, python, run, shared, write};

/// Reads `items` of a dataset, evenly spread, or all, and returns the report of tests/python/read_lerobot.py.
#[track_caller]
fn read(output: &Path, deltas: &Value, items: &str) -> Value {
    let deltas = deltas.to_string();
    let options = ["--delta-timestamps", &deltas, "--items", items];
    let args = [output.as_os_str()].into_iter().chain(options.map(OsStr::new));
    python("read_lerobot.py", args).exits(0).json()
}

fn drafted(inspected: &Path, flags: &[&str], map: &Path) {
    let args = [OsStr::new("inspect"), inspected.as_os_str(), OsStr::new("--write-map"), map.as_os_str()];
    run(args.into_iter().chain(flags.iter().map(OsStr::new))).exits(0);
}

#[test]
fn the_demo_is_read_with_images_tasks_and_windows() {
    let folder = tempfile::tempdir().unwrap();
    let (map, output) = (folder.path().join("map.toml"), folder.path().join("out"));
    write(&map, demo_map());
    preprocess(&demo_arm(""), &output, &["--map", map.to_str().unwrap()]).exits(0);
    let deltas = json!({"observation.state": [-0.04, 0.0], "action": [0.0, 0.02, 0.1]});
    let report = read(&output, &deltas, "all");
    // The gripper's last word holds on, so that the camera or the command bounds the episodes.
    let lengths: Vec<&Value> =
        report["episodes"].as_array().unwrap().iter().map(|episode| &episode["length"]).collect();
    assert_eq!(lengths, [198, 239, 221, 264]);
    assert_eq!((&report["num_frames"], &report["fps"]), (&922.into(), &50.into()));
    assert_eq!(report["robot_type"], "panda");
    assert_eq!(report["tasks"], json!(["reach the red cube", "reach the blue cube"]));
    assert_eq!(report["episodes"][1]["tasks"], json!(["reach the red cube"]));
    assert_eq!(report["episodes"][3]["tasks"], json!(["reach the blue cube"]));
    assert_eq!(report["first_item"]["task"], "reach the red cube");
    let features = &report["features"];
    assert_eq!(features["observation.state"], json!({"dtype": "float32", "shape": [7 + 3 + 4 + 1]}));
    assert_eq!(features["action"], json!({"dtype": "float32", "shape": [7]}));
    assert_eq!(features["observation.images.front"], json!({"dtype": "image", "shape": [120, 160, 3]}));
    assert_eq!(features["gap_mask"]["dtype"], "bool");
    assert_eq!(report["checks"]["images_decoded"], 922);
    assert_eq!(report["checks"]["windows_checked"], 2 * 922);
}

#[test]
fn all_splits_of_an_rlds_dataset_are_read_with_images_and_windows() {
    let folder = tempfile::tempdir().unwrap();
    let (map, output) = (folder.path().join("map.toml"), folder.path().join("out"));
    let rate = ["--source-frequency", "5"];
    drafted(&fixture("rlds_multi"), &rate, &map);
    let flags = [&rate[..], &["--shard-size", "7KB", "--map", map.to_str().unwrap()]].concat();
    preprocess(&fixture("rlds_multi"), &output, &flags).exits(0);
    let deltas = json!({"observation.state": [-0.2, 0.0], "observation.images.image": [-0.1, 0.0]});
    let report = read(&output, &deltas, "all");
    assert_eq!((&report["num_episodes"], &report["num_frames"]), (&6.into(), &846.into()));
    assert_eq!(report["tasks"], json!(["pick up the can", "open the drawer"]));
    assert_eq!(report["features"]["observation.images.image"]["shape"], json!([16, 16, 3]));
    assert_eq!(report["checks"]["images_decoded"], 846);
    let info = crate::helpers::info(&output);
    assert_eq!(info["splits"], json!({"train": "0:5", "val": "5:6"}));
}

/// Without a map too: any column, text included, is something lerobot can open.
#[test]
fn an_output_without_a_map_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    preprocess(&fixture("json.mcap"), &output, &["--task", "wait"]).exits(0);
    let report = read(&output, &json!({"status.arm.joints": [-0.02, 0.0]}), "all");
    assert_eq!((&report["num_frames"], &report["tasks"]), (&99.into(), &json!(["wait"])));
}

#[test]
fn real_bridge_episodes_are_read() {
    let Some(input) = shared("real/rlds_bridge") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    preprocess(&input, &output, &["--source-frequency", "5"]).exits(0);
    let report = read(&output, &json!({"observation.state": [-0.1, 0.0], "action": [0.0, 0.1]}), "100");
    assert_eq!((&report["num_episodes"], &report["num_frames"]), (&25.into(), &2275.into()));
    assert!(report["checks"]["images_decoded"].as_u64() >= Some(100), "{}", report["checks"]);
}
