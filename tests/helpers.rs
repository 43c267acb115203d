//! Running the program and the Python checks, and looking at a folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::Value;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    command: String,
}

impl Outcome {
    /// Ends the test unless the exit code is `code`.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Ends the test unless `text` is on stderr.
    #[track_caller]
    pub(crate) fn complains(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected `{text}` on stderr of {self}");
        self
    }

    /// What is on stdout, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is not JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, command } = self;
        write!(f, "{command}\nexit code {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests' folder is inside the repository").to_path_buf()
}

/// A file or folder of tests/fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

/// A recording of the demo, or with "" all four.
pub(crate) fn demo_arm(name: &str) -> PathBuf {
    root().join("examples/demo_arm/data").join(name)
}

/// The map that belongs to the demo.
pub(crate) fn demo_map() -> String {
    text(&root().join("examples/demo_arm/map.toml"))
}

/// A data set of the folder that may lie next to the checkout; if not, says on stdout what is left out.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = root().parent()?.join("shared/data").join(name);
    if !path.exists() {
        println!("left out: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// The program, built if need be by the profile and into the folder that this test was.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        let folder = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps").to_path_buf();
        let target = folder.parent().expect("the profile's folder is in the target folder");
        let profile = match folder.file_name().and_then(OsStr::to_str) {
            Some("debug") | None => "dev",
            Some(other) => other,
        };
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", "robocache", "--bin", "robocache"])
            .args(["--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(root())
            .status();
        assert!(status.expect("cargo can be run").success(), "robocache does not build");
        folder.join("robocache")
    })
}

/// The program in the repository's root, with nothing of this environment that could change what it does.
pub(crate) fn robocache() -> Command {
    let mut command = Command::new(binary());
    command.current_dir(root()).stdin(Stdio::null());
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with("ROBOCACHE_")) {
        command.env_remove(name);
    }
    command.env_remove("KUBERNETES_SERVICE_HOST");
    command
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Outcome {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let Output { status, stdout, stderr } = output;
    Outcome {
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        command: format!("{command:?}"),
    }
}

/// Runs the program with these arguments.
pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Outcome {
    finish(robocache().args(args))
}

/// `robocache preprocess` onto 50 Hz, unless `flags` names a rate.
pub(crate) fn preprocess_command(input: &Path, output: &Path, flags: &[&str]) -> Command {
    let mut command = robocache();
    command.arg("preprocess").arg("--input-dir").arg(input).arg("--output-dir").arg(output).args(flags);
    if !flags.contains(&"--target-frequency") {
        command.args(["--target-frequency", "50"]);
    }
    command
}

/// Runs [`preprocess_command`].
pub(crate) fn preprocess(input: &Path, output: &Path, flags: &[&str]) -> Outcome {
    finish(&mut preprocess_command(input, output, flags))
}

/// `robocache verify`.
pub(crate) fn verify(output: &Path) -> Outcome {
    run([OsStr::new("verify"), output.as_os_str()])
}

/// Every file below `folder`: its bytes and when it was last written, by path.
pub(crate) fn everything(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut out = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).unwrap_or_else(|e| panic!("{}: {e}", current.display())) {
            let path = entry.expect("a folder's entries can be listed").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let modified = fs::metadata(&path).and_then(|m| m.modified()).expect("files have a time");
            let name = path.strip_prefix(folder).expect("it lies in the folder").display().to_string();
            out.insert(name, (bytes(&path), modified));
        }
    }
    out
}

/// What is published below `output`: all of it but the working files.
pub(crate) fn published(output: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = everything(output).into_iter().filter(|(name, _)| !name.starts_with("_robocache/"));
    files.map(|(name, (bytes, _))| (name, bytes)).collect()
}

/// Ends the test, naming the first file that differs, unless both folders publish the same bytes.
#[track_caller]
pub(crate) fn assert_same(expected: &BTreeMap<String, Vec<u8>>, output: &Path, context: &str) {
    let found = published(output);
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected), "{context}: other files");
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{context}: {name} differs from that of an unbroken run");
    }
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    for (name, (bytes, _)) in everything(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// The content of a file.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The content of a text file.
pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Writes a file.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The content of a JSON file.
pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `meta/info.json` of an output.
pub(crate) fn info(output: &Path) -> Value {
    json(&output.join("meta/info.json"))
}

/// `meta/robocache.json` of an output.
pub(crate) fn manifest(output: &Path) -> Value {
    json(&output.join("meta/robocache.json"))
}

/// Episodes and rows as the manifest counts them.
pub(crate) fn size(output: &Path) -> (u64, u64) {
    let manifest = manifest(output);
    let number = |name: &str| manifest[name].as_u64().unwrap_or_else(|| panic!("no {name} in {manifest}"));
    (number("episodes"), number("rows"))
}

/// Runs a script of tests/python in the environment that has the real lerobot package.
pub(crate) fn python<S: AsRef<OsStr>>(script: &str, args: impl IntoIterator<Item = S>) -> Outcome {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let scripts = root().join("tests/python");
    let python = PYTHON.get_or_init(|| {
        let mut install = Command::new("bash");
        install.arg(scripts.join("venv.sh")).arg("lerobot").arg(scripts.join("requirements-lerobot.txt"));
        let outcome = finish(&mut install);
        assert!(
            outcome.code == Some(0),
            "the Python environment with lerobot is missing and could not be made; `./test` installs it: {outcome}"
        );
        PathBuf::from(outcome.stdout.trim())
    });
    let mut command = Command::new(python);
    // Tests run side by side already; torch's threads would only wait for each other.
    command.arg(scripts.join(script)).args(args).current_dir(root()).env("OMP_NUM_THREADS", "1");
    finish(&mut command)
}
