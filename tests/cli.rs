//! The command line: flags, files and variables, and what is said when they are wrong.

use std::ffi::OsStr;
use std::path::Path;

use crate::helpers::{
    demo_arm, everything, finish, fixture, info, json, manifest, preprocess, preprocess_command, root, run,
    shared, size, text, verify, write,
};

/// The seed's command line, word for word but for the folders.
#[test]
fn the_flags_of_the_kubernetes_job_work_verbatim() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let flags = "--target-frequency 50 --batch-size 256 --dtype bfloat16 \
                 --prometheus-pushgateway http://prometheus-pushgateway:9091";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let outcome = preprocess(&demo_arm(""), &output, &flags).exits(0);
    let outcome = outcome.complains("--prometheus-pushgateway").complains("--dtype bfloat16");
    assert_eq!(size(&output), (4, 915));
    assert!(outcome.stdout.starts_with("4 episodes, 915 rows at 50 Hz in "), "{outcome}");
    assert_eq!(outcome.stdout.lines().count(), 1, "results go to stdout, all else to stderr: {outcome}");
}

#[test]
fn a_file_and_the_environment_say_what_flags_say_and_the_command_line_wins() {
    let folder = tempfile::tempdir().unwrap();
    let job = folder.path().join("job.toml");
    let output = folder.path().join("out");
    let input = fixture("rlds_multi");
    write(
        &job,
        format!(
            "input-dir = {input:?}\noutput_dir = {output:?}\ntarget-frequency = 10\nsource-frequency = 5\n\
             task = \"from the file\"\n[map]\n\"observation.state\" = \"steps/observation/state\"\n"
        ),
    );
    let mut command = crate::helpers::robocache();
    command.args(["preprocess", "@", job.to_str().unwrap(), "--target-frequency", "25"]);
    command.env("ROBOCACHE_TARGET_FREQUENCY", "100").env("ROBOCACHE_EPISODES", "0");
    finish(&mut command).exits(0);
    assert_eq!(info(&output)["fps"], 25, "the command line wins over file and environment");
    assert_eq!(size(&output), (1, 46), "the environment's episode, 1.8 s at 25 Hz");
    let manifest = manifest(&output);
    assert_eq!(manifest["recipe"]["task"]["text"], "from the file");
    assert_eq!(manifest["recipe"]["columns"].as_array().unwrap().len(), 1, "the file's map is used");
}

#[test]
fn every_flag_can_come_from_the_environment_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut command = crate::helpers::robocache();
    command.arg("preprocess");
    command.env("ROBOCACHE_INPUT_DIR", demo_arm("reach_000")).env("ROBOCACHE_OUTPUT_DIR", &output);
    command.env("ROBOCACHE_TARGET_FREQUENCY", "30000/1001").env("ROBOCACHE_FORMAT", "parquet");
    finish(&mut command).exits(0);
    assert_eq!(manifest(&output)["recipe"]["rate"], "30000/1001");
}

#[test]
fn what_cannot_be_right_is_exit_2_and_says_what_would_be() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let cases: [(&[&str], &str); 12] = [
        (&["--batch-sise", "3"], "--batch-size"),
        (&["--target-frequency", "fast"], "`fast` is not a rate"),
        (&["--target-frequency", "29.97"], "--format parquet"),
        (&["--target-frequency", "30000/1001"], "--format parquet"),
        (&["--batch-size", "0"], "--batch-size"),
        (&["--policy", "/joint_states.positon=hold"], "did you mean `/joint_states.position`?"),
        (&["--policy", "/joint_states.position=spline"], "`spline` is not a policy; there are linear"),
        (&["--max-gap", "5"], "write `1.5s`, `200ms`"),
        (&["--episodes", "9"], "--episodes names none of it"),
        (&["--episodes-from", "silence"], "`gap:5s`"),
        (&["--map", "/nowhere.toml"], "/nowhere.toml"),
        (&["--include", "/nothing"], "--include"),
    ];
    for (flags, words) in cases {
        let outcome = preprocess(&demo_arm("reach_000"), &output, flags).exits(2).complains(words);
        assert!(!output.exists(), "a refused job writes nothing: {outcome}");
        assert!(outcome.stdout.is_empty(), "{outcome}");
    }
    preprocess(Path::new("/nowhere"), &output, &[]).exits(2).complains("/nowhere");
    preprocess(&root().join("crates"), &output, &[]).exits(2).complains("no recordings found");
    run(["preproces"]).exits(2).complains("preprocess");
}

#[test]
fn a_feature_that_was_never_recorded_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map.toml");
    write(&map, "[map]\n\"observation.state\" = [\"/joint_states.position\", \"/ee_pose.pose.position\"]\n");
    let input = fixture("topic_without_messages.mcap");
    let flags = ["--map", map.to_str().unwrap()];
    preprocess(&input, &folder.path().join("out"), &flags).exits(2).complains("`/ee_pose.pose.position`");
}

/// 1.8, 2.2, 2.6, 3.0, 3.4 and 3.8 s at 29.97… Hz.
#[test]
fn parquet_keeps_a_rate_that_is_no_whole_number() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let rates = ["--source-frequency", "5", "--target-frequency", "30000/1001", "--format", "parquet"];
    preprocess(&fixture("rlds_multi"), &output, &rates).exits(0);
    assert_eq!(size(&output), (6, 54 + 66 + 78 + 90 + 102 + 114));
    assert_eq!(manifest(&output)["recipe"]["rate"], "30000/1001");
    verify(&output).exits(0);
}

#[test]
fn parquet_verifies_when_gaps_cut_it() {
    let folder = tempfile::tempdir().unwrap();
    for rate in ["50", "29.97", "30000/1001"] {
        let output = folder.path().join(rate.replace('/', "-"));
        let flags = ["--target-frequency", rate, "--format", "parquet", "--on-gap", "split"];
        preprocess(&demo_arm(""), &output, &flags).exits(0);
        assert_eq!(size(&output).0, 5);
        verify(&output).exits(0);
    }
}

#[test]
fn episodes_are_counted_over_the_whole_input() {
    let folder = tempfile::tempdir().unwrap();
    let (bags, rlds, both) =
        (folder.path().join("bags"), folder.path().join("rlds"), folder.path().join("both"));
    preprocess(&demo_arm(""), &bags, &["--episodes", "1,3"]).exits(0);
    assert_eq!(size(&bags), (2, 238 + 264));
    let flags = ["--source-frequency", "5", "--episodes", "0-1,5"];
    preprocess(&fixture("rlds_multi"), &rlds, &flags).exits(0);
    assert_eq!(size(&rlds), (3, 91 + 111 + 191));
    let mut command = preprocess_command(&demo_arm("reach_002"), &both, &["--episodes", "0,1"]);
    finish(command.arg("--input-dir").arg(demo_arm("reach_000"))).exits(0);
    assert_eq!(size(&both), (2, 220 + 193));
}

/// Only /ee_pose (0.143 to 4.329 s) and /joint_states (0.141 to 4.334 s) bound what is left.
#[test]
fn include_and_exclude_choose_topics_and_features() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let flags = ["--include", "/ee_pose", "--include", "/joint_states", "--exclude", "*.header.*"];
    let flags = [&flags[..], &["--exclude", "/joint_states.effort"]].concat();
    preprocess(&demo_arm("reach_000"), &output, &flags).exits(0);
    assert_eq!(size(&output), (1, 210));
    let info = info(&output);
    let features: Vec<&String> = info["features"].as_object().unwrap().keys().collect();
    let recorded: Vec<&&String> = features.iter().filter(|name| name.contains('.')).collect();
    assert_eq!(
        recorded,
        [
            &"ee_pose.pose.orientation",
            &"ee_pose.pose.position",
            &"joint_states.position",
            &"joint_states.velocity"
        ]
    );
}

#[test]
fn inspect_recognises_each_format() {
    let five: &[&str] = &["--source-frequency", "5"];
    for (input, flags, format, episodes) in [
        (demo_arm(""), &[][..], "bag (MCAP)", 4),
        (fixture("json.mcap"), &[], "bag (MCAP)", 1),
        (fixture("split_bag"), &[], "bag (MCAP)", 1),
        (fixture("rlds_multi"), five, "RLDS", 6),
    ] {
        let args = [OsStr::new("inspect"), OsStr::new("--json"), input.as_os_str()];
        let found = run(args.into_iter().chain(flags.iter().map(OsStr::new))).exits(0).json();
        for recording in found["recordings"].as_array().unwrap() {
            assert_eq!(recording["format"], format);
        }
        assert_eq!(found["episodes"].as_array().unwrap().len(), episodes);
    }
    if let Some(input) = shared("real/rlds_bridge") {
        let args = [OsStr::new("inspect"), OsStr::new("--json"), input.as_os_str()];
        let found = run(args.into_iter().chain(five.iter().map(OsStr::new))).exits(0).json();
        assert_eq!(found["recordings"][0]["format"], "RLDS");
    }
}

#[test]
fn inspect_shows_streams_rates_clocks_and_gaps() {
    let found = run([OsStr::new("inspect"), OsStr::new("--json"), demo_arm("reach_001").as_os_str()]);
    let found = found.exits(0).json();
    let streams = found["episodes"][0]["streams"].as_array().unwrap();
    let stream = |name: &str| streams.iter().find(|stream| stream["name"] == name).unwrap();
    let joints = stream("/joint_states");
    assert_eq!((&joints["samples"], &joints["gaps"]), (&956.into(), &1.into()));
    assert_eq!(joints["longest_interval_ns"], 228_085_877);
    assert!((joints["rate_hz"].as_f64().unwrap() - 200.0).abs() < 2.0, "{joints}");
    assert_eq!(joints["clock"], "header-stamp");
    assert_eq!(stream("/gripper/closed")["clock"], "log-time");
    assert_eq!(stream("/task")["latched"], true);
}

#[test]
fn a_drafted_map_can_be_used_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let five: &[&str] = &["--source-frequency", "5"];
    for (name, input, flags, expected) in
        [("demo", demo_arm(""), &[][..], (4, 922)), ("rlds", fixture("rlds_multi"), five, (6, 846))]
    {
        let (map, output) = (folder.path().join(format!("{name}.toml")), folder.path().join(name));
        let args = [OsStr::new("inspect"), input.as_os_str(), OsStr::new("--write-map"), map.as_os_str()];
        run(args.into_iter().chain(flags.iter().map(OsStr::new))).exits(0);
        preprocess(&input, &output, &[flags, &["--map", map.to_str().unwrap()]].concat()).exits(0);
        assert_eq!(size(&output), expected, "{}", text(&map));
        let features = &info(&output)["features"];
        assert!(features["observation.state"].is_object() && features["action"].is_object(), "{features}");
    }
}

#[test]
fn plan_says_what_would_be_done_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let plan = |flags: &[&str]| {
        let args = [OsStr::new("plan"), OsStr::new("--input-dir"), OsStr::new("tests/fixtures/rlds_multi")];
        let more = [OsStr::new("--output-dir"), output.as_os_str(), OsStr::new("--target-frequency")];
        let rest = ["50", "--source-frequency", "5"].iter().chain(flags).map(OsStr::new);
        run(args.into_iter().chain(more).chain(rest)).exits(0)
    };
    let found = plan(&["--json", "--shard-size", "7KB"]).json();
    assert_eq!(found["job"]["recipe"]["rate"], "50");
    // Three files of episodes and the two that describe them.
    assert_eq!(found["job"]["inputs"].as_array().unwrap().len(), 5);
    assert!(found["job"]["shards"].as_array().unwrap().len() >= 3);
    assert!(plan(&[]).stdout.contains("observation.state"), "people read a table");
    assert!(!output.exists());
    let flags = ["--source-frequency", "5", "--shard-size", "7KB"];
    preprocess(&fixture("rlds_multi"), &output, &flags).exits(0);
    let agreed = json(&output.join("_robocache/plan.json"));
    assert_eq!(agreed["fingerprint"], found["fingerprint"], "the plan is the one that is carried out");
    let before = everything(&output);
    plan(&[]);
    assert!(before == everything(&output), "a plan wrote to an output");
}

#[test]
fn help_goes_to_stdout_and_shows_every_default() {
    let help = run(["preprocess", "--help"]).exits(0);
    for words in ["[default: 256]", "[default: lerobot]", "ROBOCACHE_TARGET_FREQUENCY", "Exit codes:"] {
        assert!(help.stdout.contains(words), "`{words}` is missing: {help}");
    }
    assert!(run(["--version"]).exits(0).stdout.starts_with("robocache "));
    run(["preprocess"]).exits(2).complains("--input-dir");
}

/// The stamps of this recording step back by half a second; its log times do not.
#[test]
fn a_topic_goes_by_the_clock_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let bag = fixture("backwards_stamps.mcap");
    preprocess(&bag, &output, &[]).exits(2).complains("say --clock /joint_states=log-time");
    preprocess(&bag, &folder.path().join("log"), &["--clock", "/joint_states=log-time"]).exits(0);
    preprocess(&bag, &folder.path().join("bad"), &["--clock", "/joint_states=sundial"])
        .exits(2)
        .complains("header-stamp");
}

#[test]
fn inspect_shows_what_include_leaves() {
    let names = |pattern: &str| {
        let found =
            run(["inspect", "tests/fixtures/mcap_compression/none.mcap", "--json", "--include", pattern])
                .exits(0)
                .json();
        let streams = found["episodes"][0]["streams"].as_array().unwrap().clone();
        streams.iter().map(|s| s["name"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("/joint*"), ["/joint_states"]);
    assert_eq!(names("*.orientation"), ["/ee_pose"]);
    assert_eq!(names("zzz*"), [""; 0]);
}
