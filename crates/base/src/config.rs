//! `@ file.toml`: a command line kept in a file.
//!
//! Top-level keys become flags, so that a file can say whatever the command line can and is checked by the same code:
//! `target-frequency = 50` is `--target-frequency 50`. Tables are left to the command. Later files win over earlier ones and
//! the command line wins over all; the environment comes last, where the flag has a variable.
//!
//! `@file.toml` in one word is the same, except right after `--flag`, where it is that flag's value.
#![expect(clippy::disallowed_methods, reason = "this is the module that reads configuration files")]

use std::collections::BTreeMap;
use std::ffi::OsString;

/// A command line with its files read.
#[derive(Debug, Clone, PartialEq)]
pub struct Expanded {
    /// The arguments: program, subcommand, what the files say, what the command line says.
    pub args: Vec<String>,
    /// The files' tables, later files over earlier ones, key by key.
    pub tables: toml::Table,
}

/// Why a file is not part of a command line.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct ConfigError {
    file: String,
    problem: String,
}

impl ConfigError {
    fn new(file: &str, problem: impl ToString) -> Self {
        Self { file: file.into(), problem: problem.to_string().trim_end().into() }
    }
}

/// Reads every `@ file.toml` (or `@file.toml`) of `args`, whose first two are the program and the subcommand.
///
/// # Errors
/// If a file is not there, is not TOML, or holds something no flag can; if an argument is not UTF-8.
pub fn expand(args: impl IntoIterator<Item = OsString>) -> Result<Expanded, ConfigError> {
    let utf8 = |word: OsString| {
        word.into_string()
            .map_err(|word| ConfigError::new(&word.to_string_lossy(), "this argument is not UTF-8"))
    };
    let args = args.into_iter().map(utf8).collect::<Result<Vec<_>, _>>()?;
    let mut rest = Vec::new();
    let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut tables = toml::Table::new();
    let mut words = args.into_iter();
    let head: Vec<String> = words.by_ref().take(2).collect();
    let mut takes_value = false;
    while let Some(word) = words.next() {
        let after_flag = std::mem::replace(&mut takes_value, word.starts_with("--") && !word.contains('='));
        let file = match word.strip_prefix('@') {
            Some("") => {
                words.next().ok_or_else(|| ConfigError::new("@", "a TOML file's path must follow"))?
            }
            Some(path) if !after_flag => path.to_owned(),
            _ => {
                rest.push(word);
                continue;
            }
        };
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let hint =
                format!("a word that begins with @ names a TOML file; write --flag=@{file} for a value");
            ConfigError::new(&format!("@ {file}"), format!("{error} ({hint})"))
        })?;
        add(&file, &text, &mut flags, &mut tables)?;
    }
    let overridden = |flag: &str| {
        rest.iter()
            .any(|word| word.strip_prefix(flag).is_some_and(|tail| tail.is_empty() || tail.starts_with('=')))
    };
    let mut out = head;
    for (flag, values) in flags {
        if !overridden(&flag) {
            out.extend(values);
        }
    }
    out.extend(rest);
    Ok(Expanded { args: out, tables })
}

/// The tables of one file that holds nothing else.
///
/// # Errors
/// As [`expand`], and if the file has keys outside tables.
pub fn read_tables(file: &str) -> Result<toml::Table, ConfigError> {
    let (mut flags, mut tables) = (BTreeMap::new(), toml::Table::new());
    let text = std::fs::read_to_string(file).map_err(|e| ConfigError::new(file, e))?;
    add(file, &text, &mut flags, &mut tables)?;
    match flags.keys().next() {
        None => Ok(tables),
        Some(flag) => Err(ConfigError::new(
            file,
            format!(
                "`{}` is a flag's value; such a file is given as `@ {file}`",
                flag.trim_start_matches('-')
            ),
        )),
    }
}

/// Adds what `text`, the content of `file`, says.
fn add(
    file: &str,
    text: &str,
    flags: &mut BTreeMap<String, Vec<String>>,
    tables: &mut toml::Table,
) -> Result<(), ConfigError> {
    let table: toml::Table = text.parse().map_err(|e| ConfigError::new(file, e))?;
    for (key, value) in table {
        if let toml::Value::Table(new) = value {
            let merged = tables.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            merged.as_table_mut().expect("only tables are put here").extend(new);
            continue;
        }
        let flag = format!("--{}", key.replace('_', "-"));
        let values = as_arguments(&flag, &value)
            .ok_or_else(|| ConfigError::new(file, format!("`{key}` holds what no flag can: {value}")))?;
        flags.insert(flag, values);
    }
    Ok(())
}

fn as_arguments(flag: &str, value: &toml::Value) -> Option<Vec<String>> {
    let scalar = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(format!("{flag}={text}")),
        toml::Value::Integer(number) => Some(format!("{flag}={number}")),
        toml::Value::Float(number) => Some(format!("{flag}={number}")),
        _ => None,
    };
    match value {
        toml::Value::Boolean(true) => Some(vec![flag.into()]),
        toml::Value::Boolean(false) => Some(Vec::new()),
        toml::Value::Array(values) => values.iter().map(scalar).collect(),
        other => scalar(other).map(|argument| vec![argument]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn expanded(text: &str) -> Result<Expanded, ConfigError> {
        expand(text.split_whitespace().map(OsString::from))
    }

    fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }

    #[test]
    fn files_are_flags_and_the_command_line_wins() {
        let dir = tempfile::tempdir().unwrap();
        let one = file(
            &dir,
            "one.toml",
            "input_dir = [\"a\", \"b\"]\ntarget-frequency = 29.97\noverwrite = true\n[map]\nx = \"1\"\n",
        );
        let two = file(&dir, "two.toml", "target-frequency = 30\n[map]\ny = \"2\"\n");
        let got = expanded(&format!("robocache preprocess @ {one} --input-dir c @{two} --json")).unwrap();
        let expected = "robocache preprocess --overwrite --target-frequency=30 --input-dir c --json";
        assert_eq!(got.args, words(expected));
        assert_eq!(got.tables["map"].as_table().unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_a_flag_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let bad = file(&dir, "bad.toml", "when = 2020-01-01\n");
        let error = expanded(&format!("r p @ {bad}")).unwrap_err().to_string();
        assert!(error.contains("bad.toml") && error.contains("`when`"), "{error}");
        assert!(expanded("r p @ /nowhere.toml").is_err());
        assert!(expanded("r p @").is_err());
        let flags = file(&dir, "flags.toml", "batch-size = 3\n");
        assert!(read_tables(&flags).unwrap_err().to_string().contains("`batch-size` is a flag's value"));
    }
    #[test]
    fn a_flags_value_may_begin_with_an_at_sign() {
        let dir = tempfile::tempdir().unwrap();
        let job = file(&dir, "job.toml", "batch-size = 3\n");
        let values = "r p --task @home --task=@home";
        assert_eq!(expanded(values).unwrap().args, words(values));
        let with_file = words("r p --batch-size=3 --task=x --json");
        assert_eq!(expanded(&format!("r p --task=x @{job} --json")).unwrap().args, with_file);
        assert_eq!(expanded(&format!("r p --task=x --json @ {job}")).unwrap().args, with_file);
        let error = expanded("r p @home").unwrap_err().to_string();
        assert!(error.starts_with("@ home: No such file") && error.contains("--flag=@home"), "{error}");
        assert!(!read_tables("/nowhere.toml").unwrap_err().to_string().contains('@'));
    }

    #[test]
    fn an_argument_that_is_not_utf8_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let args = [b"r".to_vec(), b"p".to_vec(), b"in\xff".to_vec()];
        let error = expand(args.map(OsString::from_vec)).unwrap_err().to_string();
        assert_eq!(error, "in\u{fffd}: this argument is not UTF-8");
    }
}
