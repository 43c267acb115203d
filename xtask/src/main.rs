//! The repository's own rules, as code: `cargo xtask <rule>`.
//!
//! A rule prints what it holds for on stdout and what breaks it on stderr. Exit codes: 0 held, 1 broken, 2 not a rule.

mod arrows;

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

const HELP: &str = "\
The repository's own rules, as code.

Usage: cargo xtask <RULE>

Rules:
  arrows  Crates of this workspace depend on each other only as ARCHITECTURE.md draws it,
          and parsers and resampling reach no clock, no environment and no runtime
";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["arrows"] => arrows(),
        [] | ["help" | "-h" | "--help"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => {
            eprint!("there is no rule `{}`\n\n{HELP}", other.join(" "));
            Ok(ExitCode::from(2))
        }
    }
}

fn arrows() -> anyhow::Result<ExitCode> {
    let metadata = workspace_metadata()?;
    print!("{}", arrows::drawn(&metadata));
    let violations = arrows::violations(&metadata);
    for violation in &violations {
        eprintln!("error: {violation}");
    }
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `cargo metadata` says of the workspace's own crates; needs no network.
fn workspace_metadata() -> anyhow::Result<serde_json::Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("reading what cargo metadata printed")
}
