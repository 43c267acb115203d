//! The output folder: whose it is, what may change it, and what `verify` finds in it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::helpers::{
    Outcome, bytes, copy, demo_arm, everything, fixture, preprocess, published, robocache, size, verify,
    write,
};

const FIVE: [&str; 2] = ["--source-frequency", "5"];

/// A finished output, the input it was made of, and a folder that holds both.
struct Made {
    folder: tempfile::TempDir,
    input: PathBuf,
    output: PathBuf,
}

fn made() -> Made {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    copy(&fixture("rlds_multi/1.0.0"), &input);
    preprocess(&input, &output, &FIVE).exits(0);
    Made { folder, input, output }
}

impl Made {
    /// Runs again with more flags, which must be refused with these words and change nothing.
    #[track_caller]
    fn refused(&self, flags: &[&str], words: &[&str]) -> Outcome {
        let before = everything(&self.output);
        let flags = [&FIVE[..], flags].concat();
        let mut outcome = preprocess(&self.input, &self.output, &flags).exits(2);
        for word in words {
            outcome = outcome.complains(word);
        }
        assert!(before == everything(&self.output), "it was refused, yet the folder changed");
        outcome
    }

    fn one_shard(&self) -> PathBuf {
        self.input.join("rlds_multi-train.tfrecord-00001-of-00002")
    }
}

#[test]
fn an_input_that_grew_is_refused_by_name() {
    let made = made();
    let shard = made.one_shard();
    let longer = [bytes(&shard), vec![0; 16]].concat();
    write(&shard, longer);
    made.refused(&[], &["rlds_multi-train.tfrecord-00001-of-00002 changed", "6557 to 6573 bytes"]);
}

#[test]
fn an_input_of_the_same_size_with_other_content_is_refused_by_name() {
    let made = made();
    let shard = made.one_shard();
    let mut content = bytes(&shard);
    content[100] ^= 1;
    write(&shard, content);
    made.refused(&[], &["rlds_multi-train.tfrecord-00001-of-00002 changed"]);
}

#[test]
fn an_input_with_a_file_more_or_less_is_refused_by_name() {
    let made = made();
    copy(&fixture("rlds_bad_crc/1.0.0"), &made.input.join("another"));
    made.refused(&[], &["the input has another/", "was not there"]);
    fs::remove_dir_all(made.input.join("another")).unwrap();
    let shard = bytes(&made.one_shard());
    fs::remove_file(made.one_shard()).unwrap();
    made.refused(&[], &["rlds_multi-train.tfrecord-00001-of-00002"]);
    write(&made.one_shard(), shard);
    // A split that is not there at all is only noted by itself, but is another input.
    fs::remove_file(made.input.join("rlds_multi-val.tfrecord-00000-of-00001")).unwrap();
    made.refused(&[], &["the input lacks rlds_multi-val.tfrecord-00000-of-00001"]);
}

/// A file that nothing is read from may come and go; what decides how the input is read may not.
#[test]
fn the_job_is_known_by_what_determines_its_bytes_alone() {
    let made = made();
    write(&made.input.join("notes.txt"), b"not data");
    preprocess(&made.input, &made.output, &FIVE).exits(0);
    let described = made.input.join("dataset_info.json");
    let text = String::from_utf8(bytes(&described)).unwrap();
    write(&described, text.replace("1.0.0", "1.0.1").into_bytes());
    made.refused(&[], &["dataset_info.json changed since the work began"]);
}

#[test]
fn an_output_inside_its_input_and_an_input_given_twice_are_refused() {
    let made = made();
    let inside = made.input.join("results");
    let outcome = preprocess(&made.input, &inside, &FIVE).exits(2);
    assert!(outcome.stderr.contains("lies inside the input"), "{outcome}");
    assert!(!inside.exists());
    let again = [&FIVE[..], &["--input-dir", made.input.to_str().unwrap()]].concat();
    let outcome = preprocess(&made.input, &made.folder.path().join("new"), &again).exits(2);
    assert!(outcome.stderr.contains("given twice"), "{outcome}");
}

#[test]
fn another_job_is_refused_and_told_what_differs() {
    let made = made();
    let map = made.folder.path().join("map.toml");
    write(&map, "[map]\n\"observation.state\" = \"steps/observation/state\"\n");
    let cases: [(&[&str], &str); 7] = [
        (&["--target-frequency", "25"], "--target-frequency differs"),
        (&["--format", "parquet"], "--format differs"),
        (&["--policy", "steps/observation/state=hold"], "policies differs"),
        (&["--map", map.to_str().unwrap()], "the columns or their policies differs"),
        (&["--on-gap", "split"], "--on-gap differs"),
        (&["--task", "another"], "the task differs"),
        (&["--shard-size", "7KB"], "--shard-size"),
    ];
    for (flags, difference) in cases {
        made.refused(flags, &["belongs to another job", difference, "--overwrite"]);
    }
}

#[test]
fn overwrite_replaces_another_job_entirely() {
    let made = made();
    let fresh = made.folder.path().join("fresh");
    let flags = ["--source-frequency", "5", "--target-frequency", "25", "--episodes", "0-1"];
    preprocess(&made.input, &fresh, &flags).exits(0);
    preprocess(&made.input, &made.output, &[&flags[..], &["--overwrite"]].concat()).exits(0);
    crate::helpers::assert_same(&published(&fresh), &made.output, "--overwrite");
    verify(&made.output).exits(0);
}

/// Also when it asks to overwrite: what this program did not make is never its to delete.
#[test]
fn a_foreign_folder_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["thesis.txt", "meta/info.json", "data/chunk-000/file-000.parquet"] {
        let output = folder.path().join(name.replace('/', "-"));
        fs::create_dir_all(output.join(name).parent().unwrap()).unwrap();
        write(&output.join(name), "mine");
        let before = everything(&output);
        for more in [&[][..], &["--overwrite"]] {
            let flags = [&FIVE[..], more].concat();
            preprocess(&fixture("rlds_multi"), &output, &flags).exits(2).complains(name);
            assert!(before == everything(&output), "{name}: the folder changed");
        }
    }
}

/// In any but the manifest, which is the measure.
#[test]
fn verify_finds_a_flipped_byte_in_any_published_file() {
    let made = made();
    verify(&made.output).exits(0);
    for (name, content) in published(&made.output) {
        if name == "meta/robocache.json" {
            continue;
        }
        for at in [content.len() / 3, content.len() / 2, content.len() - 1] {
            let mut damaged = content.clone();
            damaged[at] ^= 0x10;
            write(&made.output.join(&name), damaged);
            let outcome = verify(&made.output);
            assert_eq!(outcome.code, Some(2), "byte {at} of {name} was flipped: {outcome}");
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(said.contains(&name), "{name} is not named: {outcome}");
        }
        write(&made.output.join(&name), content);
    }
    verify(&made.output).exits(0);
}

#[test]
fn verify_finds_a_missing_file() {
    let made = made();
    for (name, content) in published(&made.output) {
        fs::remove_file(made.output.join(&name)).unwrap();
        let outcome = verify(&made.output).exits(2);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(said.contains(&name), "{name} is not named: {outcome}");
        write(&made.output.join(&name), content);
    }
}

#[test]
fn verify_finds_a_file_that_loaders_would_read_too() {
    let made = made();
    let data = made.output.join("data/chunk-000");
    fs::copy(data.join("file-000.parquet"), data.join("file-007.parquet")).unwrap();
    let outcome = verify(&made.output).exits(2);
    assert!(outcome.stdout.contains("data/chunk-000/file-007.parquet: not in the manifest"), "{outcome}");
}

#[test]
fn verify_says_that_an_output_is_not_finished() {
    let made = made();
    fs::remove_file(made.output.join("meta/info.json")).unwrap();
    verify(&made.output).exits(2).complains("not a finished output");
    verify(Path::new("/nowhere/at/all")).exits(2);
}

#[test]
fn verify_answers_scripts_in_json() {
    let made = made();
    let check = |code: i32| {
        let mut command = robocache();
        command.arg("verify").arg("--json").arg(&made.output);
        crate::helpers::finish(&mut command).exits(code).json()
    };
    let good = check(0);
    assert_eq!((&good["ok"], &good["episodes"], &good["rows"]), (&true.into(), &6.into(), &846.into()));
    let file = made.output.join("data/chunk-000/file-000.parquet");
    write(&file, &bytes(&file)[1..]);
    let bad = check(2);
    assert_eq!(bad["ok"], false);
    assert!(bad["problems"][0].as_str().unwrap().starts_with("data/chunk-000/file-000.parquet: "), "{bad}");
}

#[test]
fn a_finished_job_is_left_as_it_is() {
    let made = made();
    let before = everything(&made.output);
    preprocess(&made.input, &made.output, &FIVE).exits(0).complains("nothing to do");
    assert!(before == everything(&made.output), "a second run wrote to a finished output");
}

/// Nothing in the published files tells when, where or from which folder they were made, but for the sources' names.
#[test]
fn the_same_input_elsewhere_gives_the_same_data() {
    let folder = tempfile::tempdir().unwrap();
    let (input, one, two) =
        (folder.path().join("moved"), folder.path().join("one"), folder.path().join("two"));
    copy(&demo_arm(""), &input);
    preprocess(&demo_arm(""), &one, &[]).exits(0);
    preprocess(&input, &two, &[]).exits(0);
    assert_eq!(size(&one), size(&two));
    let (mut one, mut two) = (published(&one), published(&two));
    assert!(one.remove("meta/robocache.json") != two.remove("meta/robocache.json"), "sources are recorded");
    assert!(one == two, "more than the provenance differs");
}

/// Half of a split recording is not a recording.
#[test]
fn a_bag_that_lacks_a_file_is_left_out_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    copy(&fixture("split_bag"), &input.join("broken"));
    copy(&fixture("split_bag"), &input.join("whole"));
    let first = fs::read_dir(input.join("broken")).unwrap().map(|e| e.unwrap().path());
    let first = first.filter(|p| p.extension().is_some_and(|e| e == "mcap")).min().unwrap();
    fs::remove_file(first).unwrap();
    let outcome = preprocess(&input, &output, &[]).exits(0).complains("unread-recording");
    assert!(outcome.stdout.starts_with("1 episode,"), "{outcome}");
}
