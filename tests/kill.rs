//! Stopped at any moment and run again, the program publishes what an unbroken run does, byte for byte.
//!
//! A moment is a place in the program rather than a time: a library put under it ends it, or asks it to end, just before the
//! n-th call that makes something durable or visible (`fsync`, `link`, `rename`, `unlink`), for every n. A rename that does not
//! go through the C library happens between two `fsync`s, and so is stopped on either side too. One test uses plain delays.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::helpers::{
    Outcome, assert_same, copy, demo_arm, demo_map, finish, fixture, preprocess, preprocess_command,
    published, shared, verify, write,
};

const KILL: u32 = 9;
const TERMINATE: u32 = 15;

const BOUNDARIES: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_int calls;

static void boundary(void) {
    const char *number = getenv("BOUNDARY_NUMBER"), *signal = getenv("BOUNDARY_SIGNAL");
    if (number && signal && atomic_fetch_add(&calls, 1) + 1 == atoi(number)) kill(getpid(), atoi(signal));
}

#define BEFORE(name, parameters, arguments) \
    int name parameters { \
        boundary(); \
        int(*next) parameters = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
        return next arguments; \
    }

BEFORE(fsync, (int file), (file))
BEFORE(fdatasync, (int file), (file))
BEFORE(link, (const char *from, const char *to), (from, to))
BEFORE(linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
BEFORE(rename, (const char *from, const char *to), (from, to))
BEFORE(unlink, (const char *path), (path))
BEFORE(unlinkat, (int folder, const char *path, int flags), (folder, path, flags))
"#;

/// A job that can be stopped at its boundaries.
struct Job {
    input: PathBuf,
    flags: &'static [&'static str],
    library: PathBuf,
}

impl Job {
    /// Six episodes in four shards.
    fn small(folder: &Path) -> Self {
        let flags = &["--source-frequency", "5", "--shard-size", "7KB"];
        Self { input: fixture("rlds_multi"), flags, library: boundaries(folder) }
    }

    fn unbroken(&self, folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let output = folder.join("unbroken");
        preprocess(&self.input, &output, self.flags).exits(0);
        published(&output)
    }

    /// Runs until just before boundary `number`, counted from 1, where it gets `signal`.
    fn stopped(&self, output: &Path, signal: u32, number: u32) -> Outcome {
        let mut command = preprocess_command(&self.input, output, self.flags);
        command.env("LD_PRELOAD", &self.library);
        command.env("BOUNDARY_SIGNAL", signal.to_string()).env("BOUNDARY_NUMBER", number.to_string());
        finish(&mut command)
    }
}

/// Compiles the library; the linker that Rust needs is a C compiler.
fn boundaries(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("boundaries.c"), folder.join("boundaries.so"));
    write(&source, BOUNDARIES);
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    finish(&mut cc).exits(0);
    library
}

/// A small, seeded generator: Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn killed_at_any_boundary_and_run_again_the_output_is_that_of_an_unbroken_run() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::small(folder.path());
    let expected = job.unbroken(folder.path());
    let mut number = 1;
    loop {
        let output = folder.path().join(format!("out-{number}"));
        let outcome = job.stopped(&output, KILL, number);
        if outcome.code == Some(0) {
            break;
        }
        assert_eq!(outcome.code, None, "it was to be killed: {outcome}");
        let context = format!("killed before boundary {number}");
        if output.join("meta/info.json").exists() {
            assert_same(&expected, &output, &format!("{context}, yet visible to loaders"));
        }
        preprocess(&job.input, &output, job.flags).exits(0);
        assert_same(&expected, &output, &context);
        let left = fs::read_dir(output.join("_robocache/staged")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{context}: staged files are left behind");
        fs::remove_dir_all(&output).unwrap();
        number += 1;
    }
    println!("{} boundaries", number - 1);
    assert!(number > 50, "the library saw only {} boundaries: is it loaded at all?", number - 1);
}

#[test]
fn killed_again_and_again_it_still_gets_there() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::small(folder.path());
    let expected = job.unbroken(folder.path());
    let seed = 0x5EED_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let mut kills = 0;
    for round in 0..4 {
        let output = folder.path().join(format!("out-{round}"));
        while job.stopped(&output, KILL, 5 + u32::try_from(random.below(30)).unwrap()).code != Some(0) {
            kills += 1;
            assert!(kills < 400, "no attempt gets further than the one before");
        }
        assert_same(&expected, &output, &format!("round {round}, seed {seed:#x}"));
        verify(&output).exits(0);
    }
    assert!(kills >= 12, "only {kills} kills");
}

/// The plain way: a process killed after a while, wherever it is by then.
#[test]
fn killed_after_any_time_and_run_again_the_output_is_that_of_an_unbroken_run() {
    let folder = tempfile::tempdir().unwrap();
    let input = shared("real/rlds_bridge").unwrap_or_else(|| fixture("rlds_multi"));
    let flags = ["--source-frequency", "5", "--shard-size", "100KB", "--target-frequency", "200"];
    let reference = folder.path().join("unbroken");
    let start = Instant::now();
    preprocess(&input, &reference, &flags).exits(0);
    let duration_us = u64::try_from(start.elapsed().as_micros()).unwrap();
    let expected = published(&reference);
    let seed = 0x5EED_0002;
    println!("seed {seed:#x}, an unbroken run takes {duration_us} us");
    let mut random = Random(seed);
    let (mut kills, mut round) = (0, 0);
    while kills < 12 {
        let output = folder.path().join(format!("out-{round}"));
        loop {
            let mut command = preprocess_command(&input, &output, &flags);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_micros(random.below(duration_us)));
            child.kill().unwrap();
            if child.wait().unwrap().success() {
                break;
            }
            kills += 1;
        }
        assert_same(&expected, &output, &format!("round {round}, seed {seed:#x}"));
        verify(&output).exits(0);
        round += 1;
        assert!(round < 100, "hardly anything is ever killed");
    }
    println!("{kills} kills in {round} rounds");
}

#[test]
fn asked_to_stop_it_exits_with_143_and_continues_when_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::small(folder.path());
    let expected = job.unbroken(folder.path());
    let mut stopped = 0;
    for number in (1..90).step_by(4) {
        let output = folder.path().join(format!("out-{number}"));
        let outcome = job.stopped(&output, TERMINATE, number);
        if outcome.code != Some(0) {
            let outcome = outcome.exits(143).complains("run the same command again to continue");
            assert!(!output.join("meta/info.json").exists(), "{outcome}");
            stopped += 1;
        }
        preprocess(&job.input, &output, job.flags).exits(0);
        assert_same(&expected, &output, &format!("asked to stop before boundary {number}"));
    }
    assert!(stopped >= 10, "only {stopped} runs took notice");
}

/// Bags, images and a map go the same way.
#[test]
fn recordings_with_images_survive_kills_too() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map.toml");
    write(&map, demo_map());
    let library = boundaries(folder.path());
    let arguments = |output: &Path| {
        let flags = ["--shard-size", "1KB", "--map", map.to_str().unwrap()];
        preprocess_command(&demo_arm(""), output, &flags)
    };
    let reference = folder.path().join("unbroken");
    finish(&mut arguments(&reference)).exits(0);
    let expected = published(&reference);
    let output = folder.path().join("out");
    let mut random = Random(0x5EED_0003);
    let mut kills = 0;
    loop {
        let mut command = arguments(&output);
        let number = 8 + random.below(24);
        command.env("LD_PRELOAD", &library).env("BOUNDARY_NUMBER", number.to_string());
        if finish(command.env("BOUNDARY_SIGNAL", KILL.to_string())).code == Some(0) {
            break;
        }
        kills += 1;
        assert!(kills < 100, "no attempt gets further than the one before");
    }
    assert!(kills >= 2, "only {kills} kills");
    assert_same(&expected, &output, "demo");
}

/// The first state in which loaders see the dataset: all is published, and nothing was tidied up yet.
fn just_published(job: &Job, folder: &Path) -> PathBuf {
    for number in 1.. {
        let output = folder.join(format!("until-{number}"));
        let code = job.stopped(&output, KILL, number).code;
        if output.join("meta/info.json").exists() {
            assert_eq!(code, None, "it was to be killed before it tidied up");
            return output;
        }
        fs::remove_dir_all(&output).expect("a folder can be removed");
    }
    unreachable!("some run is the last")
}

/// Copies `whole` without the files and folders `lost`.
fn without(whole: &Path, lost: &[&str], output: &Path) {
    copy(whole, output);
    for path in lost.iter().map(|name| output.join(name)) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// Whichever of its later steps are missing, a run does just those.
#[test]
fn what_is_missing_of_an_output_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::small(folder.path());
    let expected = job.unbroken(folder.path());
    let whole = just_published(&job, folder.path());
    let done = "_robocache/done";
    let shard = ["shard-00001.json", "final-00001.json"].map(|name| format!("{done}/{name}"));
    let finals = [0, 1, 2, 3].map(|n| format!("{done}/final-0000{n}.json"));
    let losses: [&[&str]; 9] = [
        &["meta/info.json"],
        &["meta/info.json", "meta/robocache.json"],
        &["meta"],
        &["meta", &finals[3]],
        &["meta", "data/chunk-000/file-003.parquet", &finals[3]],
        &["meta", "data", &finals[0], &finals[1], &finals[2], &finals[3]],
        &["meta", "data/chunk-000/file-001.parquet", &shard[0], &shard[1]],
        &["meta", "data", done],
        &["meta", "data", "_robocache"],
    ];
    for (number, lost) in losses.iter().enumerate() {
        let output = folder.path().join(format!("out-{number}"));
        without(&whole, lost, &output);
        preprocess(&job.input, &output, job.flags).exits(0);
        assert_same(&expected, &output, &format!("without {}", lost.join(", ")));
    }
}

/// No kill leaves this, but a person or a failing disk may: it is made whole or refused, and never looks whole when it is not.
#[test]
fn a_finished_output_that_lost_files_is_made_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::small(folder.path());
    let expected = job.unbroken(folder.path());
    let losses: [&[&str]; 4] = [
        &["meta/info.json"],
        &["meta", "data/chunk-000/file-001.parquet", "_robocache/done/final-00001.json"],
        &["meta", "data", "_robocache/done"],
        &["meta", "data", "_robocache"],
    ];
    for (number, lost) in losses.iter().enumerate() {
        let output = folder.path().join(format!("out-{number}"));
        without(&folder.path().join("unbroken"), lost, &output);
        let outcome = preprocess(&job.input, &output, job.flags);
        if outcome.code == Some(0) {
            assert_same(&expected, &output, &format!("without {}", lost.join(", ")));
        } else {
            let outcome = outcome.exits(2);
            assert!(!output.join("meta/info.json").exists(), "it looks whole: {outcome}");
        }
    }
}

/// Batches and threads are how the work is done, never what comes of it.
#[test]
fn batches_and_threads_never_show_in_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map.toml");
    write(&map, demo_map());
    let runs = [["256", "1"], ["1", "1"], ["1", "4"], ["256", "4"], ["2", "3"]];
    for (input, more) in [
        (demo_arm(""), vec!["--map", map.to_str().unwrap()]),
        (fixture("rlds_multi"), vec!["--source-frequency", "5", "--shard-size", "7KB"]),
    ] {
        let mut expected = None;
        for [batch, threads] in runs {
            let output = folder.path().join("out");
            let flags = [&more[..], &["--batch-size", batch, "--threads", threads]].concat();
            preprocess(&input, &output, &flags).exits(0);
            let expected = expected.get_or_insert_with(|| published(&output));
            assert_same(expected, &output, &format!("--batch-size {batch} --threads {threads}"));
            fs::remove_dir_all(&output).unwrap();
        }
    }
}
