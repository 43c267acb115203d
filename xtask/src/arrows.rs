//! Arrows between the crates: who may depend on whom.
//!
//! The input is what `cargo metadata --no-deps` prints; the rule is the two tables below. Development and build
//! dependencies are arrows too: a test that reaches across crates couples them as firmly as code does.
//!
//! Invariants: `base`, `trajectory` and `resample` depend on nothing of ours; `trajectory` and `resample` have no clock,
//! no randomness, no environment, no terminal and no runtime, so that what they compute follows from their
//! arguments alone. That is checked for what they name themselves, not for what their dependencies bring along.

use std::collections::BTreeMap;

use serde_json::Value;

/// Every crate of the workspace, and the crates of the workspace it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("integration", &[]),
    ("resample", &[]),
    ("robocache", &["base", "resample", "trajectory"]),
    ("trajectory", &[]),
    ("xtask", &[]),
];

/// Crates whose results follow from their arguments alone.
const PURE: &[&str] = &["resample", "trajectory"];

/// What a pure crate must not name among its dependencies, and why.
const IMPURE: &[(&str, &str)] = &[
    ("chrono", "it reads the clock"),
    ("clap", "it reads the command line and the environment"),
    ("indicatif", "it writes to the terminal"),
    ("rand", "its thread generator is seeded by the machine"),
    ("signal-hook", "it changes the process"),
    ("time", "it reads the clock"),
    ("tokio", "it is a runtime"),
];

/// One dependency as a manifest states it.
struct Dependency<'a> {
    name: &'a str,
    /// `normal`, `dev` or `build`.
    kind: &'a str,
}

/// What breaks the rule: one sentence each, empty if it holds.
pub(crate) fn violations(metadata: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let crates = crates(metadata);
    if crates.is_empty() {
        out.push("cargo metadata names no crate of this workspace".to_owned());
    }
    for (name, dependencies) in &crates {
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == name) else {
            out.push(format!("crate `{name}` is unknown: add an arrow to the table in xtask/src/arrows.rs"));
            continue;
        };
        for dependency in dependencies {
            if crates.contains_key(dependency.name) && !allowed.contains(&dependency.name) {
                out.push(format!("`{name}` must not depend on `{}` ({})", dependency.name, dependency.kind));
            }
        }
        out.extend(impurities(name, dependencies));
    }
    for (name, _) in ARROWS.iter().filter(|(name, _)| !crates.contains_key(name)) {
        out.push(format!("crate `{name}` is in the table in xtask/src/arrows.rs, but not in the workspace"));
    }
    out
}

/// What a pure crate names though it must not. Its tests may.
fn impurities(name: &str, dependencies: &[Dependency<'_>]) -> Vec<String> {
    if !PURE.contains(&name) {
        return Vec::new();
    }
    let shipped = dependencies.iter().filter(|dependency| dependency.kind != "dev");
    shipped
        .filter_map(|dependency| IMPURE.iter().find(|(denied, _)| *denied == dependency.name))
        .map(|(denied, why)| format!("`{name}` must not depend on `{denied}`: {why}"))
        .collect()
}

/// The arrows there are, one line per crate.
pub(crate) fn drawn(metadata: &Value) -> String {
    let crates = crates(metadata);
    let mut out = String::new();
    for (name, dependencies) in &crates {
        let mut ours: Vec<&str> =
            dependencies.iter().map(|d| d.name).filter(|name| crates.contains_key(name)).collect();
        ours.sort_unstable();
        ours.dedup();
        let targets = if ours.is_empty() { "nothing of ours".to_owned() } else { ours.join(", ") };
        out.push_str(&format!("{name} → {targets}\n"));
    }
    out
}

/// The workspace's crates with all they depend on. `--no-deps` lists the members only.
fn crates(metadata: &Value) -> BTreeMap<&str, Vec<Dependency<'_>>> {
    let mut crates = BTreeMap::new();
    for package in items(&metadata["packages"]) {
        let Some(name) = package["name"].as_str() else { continue };
        let dependencies = items(&package["dependencies"]).filter_map(|dependency| {
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            Some(Dependency { name: dependency["name"].as_str()?, kind })
        });
        crates.insert(name, dependencies.collect());
    }
    crates
}

/// The elements of a JSON list; none of anything else.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The workspace as the table has it, with `extra` dependencies of `name`.
    fn workspace(name: &str, extra: &[(&str, Option<&str>)]) -> Value {
        let packages: Vec<Value> = ARROWS
            .iter()
            .map(|(crate_name, allowed)| {
                let extra = extra.iter().filter(|_| *crate_name == name);
                let dependencies = allowed.iter().map(|target| (*target, None)).chain(extra.copied());
                let dependencies: Vec<Value> =
                    dependencies.map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
                json!({"name": crate_name, "dependencies": dependencies})
            })
            .collect();
        json!({ "packages": packages })
    }

    #[test]
    fn this_workspace_keeps_its_arrows() {
        let metadata = crate::workspace_metadata().expect("cargo metadata runs");
        assert_eq!(violations(&metadata), Vec::<String>::new(), "\n{}", drawn(&metadata));
    }

    #[test]
    fn the_table_itself_holds() {
        let metadata = workspace("", &[]);
        assert_eq!(violations(&metadata), Vec::<String>::new());
        assert!(drawn(&metadata).contains("robocache → base, resample, trajectory\n"));
        assert!(drawn(&metadata).contains("base → nothing of ours\n"));
    }

    #[test]
    fn an_arrow_the_table_lacks_is_named_with_its_kind() {
        let metadata = workspace("resample", &[("trajectory", None), ("serde", None)]);
        assert_eq!(violations(&metadata), ["`resample` must not depend on `trajectory` (normal)"]);
        let metadata = workspace("integration", &[("robocache", Some("dev"))]);
        assert_eq!(violations(&metadata), ["`integration` must not depend on `robocache` (dev)"]);
    }

    #[test]
    fn a_pure_crate_that_names_a_clock_or_a_runtime_is_refused() {
        for (denied, why) in IMPURE {
            let expected = format!("`trajectory` must not depend on `{denied}`: {why}");
            assert_eq!(violations(&workspace("trajectory", &[(denied, None)])), [expected]);
            assert!(violations(&workspace("trajectory", &[(denied, Some("dev"))])).is_empty());
            assert!(violations(&workspace("base", &[(denied, None)])).is_empty());
        }
    }

    #[test]
    fn a_crate_the_table_does_not_know_asks_for_an_arrow() {
        let mut metadata = workspace("", &[]);
        let packages = metadata["packages"].as_array_mut().expect("a list");
        packages.push(json!({"name": "novel", "dependencies": []}));
        let found = violations(&metadata);
        assert_eq!(found, ["crate `novel` is unknown: add an arrow to the table in xtask/src/arrows.rs"]);
    }

    #[test]
    fn a_table_that_outlived_its_crate_is_noticed_and_odd_metadata_is_no_panic() {
        let mut metadata = workspace("", &[]);
        metadata["packages"].as_array_mut().expect("a list").retain(|package| package["name"] != "base");
        assert!(violations(&metadata).iter().any(|violation| violation.contains("not in the workspace")));
        assert!(!violations(&json!({"packages": 3})).is_empty());
        assert!(!violations(&json!(null)).is_empty());
    }
}
