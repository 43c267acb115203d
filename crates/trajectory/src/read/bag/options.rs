//! Options of a bag: which topics, which episodes, and what `metadata.yaml` says of the files.
//!
//! What a person types ([`EpisodesFrom`] by its `FromStr`, [`TopicFilter`] by its patterns) is parsed here and
//! nowhere else; `Display` gives back what `FromStr` accepts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::Clock;

/// How a recording is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BagOptions {
    /// What an episode is.
    pub episodes: EpisodesFrom,
    /// Nanoseconds added to every instant of a topic, by topic name.
    pub clock_offsets_ns: BTreeMap<String, i64>,
    /// Topics whose clock is the user's choice ([`Clock::LogTime`] or [`Clock::HeaderStamp`]) and not found out.
    pub clocks: BTreeMap<String, Clock>,
    /// Which topics are decoded.
    pub topics: TopicFilter,
}

/// What an episode of a recording is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EpisodesFrom {
    /// The whole recording, split files included.
    #[default]
    File,
    /// A span that ends where every topic is silent at once for longer than this.
    Gap {
        /// Longest silence inside an episode, in nanoseconds.
        longer_than_ns: i64,
    },
    /// A span in which the first scalar of this topic is on: `true`, above zero, or a text that is not empty.
    Topic(String),
}

/// Why a text is not an [`EpisodesFrom`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseEpisodesError {
    /// None of the three forms.
    #[error("`{0}` does not say where episodes come from: use `file`, `gap:5s` or `topic:/recording`")]
    UnknownForm(String),
    /// The bound of a gap is not a duration.
    #[error(
        "`{0}` is not a duration: write a positive number and its unit (ns, us, ms or s), such as `gap:500ms`"
    )]
    NotADuration(String),
    /// No topic after `topic:`.
    #[error("`topic:` needs the topic that marks episodes, such as `topic:/recording`")]
    NoTopic,
}

impl FromStr for EpisodesFrom {
    type Err = ParseEpisodesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "file" => Ok(Self::File),
            Some(("gap", bound)) => match duration_ns(bound) {
                Some(longer_than_ns) => Ok(Self::Gap { longer_than_ns }),
                None => Err(ParseEpisodesError::NotADuration(bound.into())),
            },
            Some(("topic", "")) => Err(ParseEpisodesError::NoTopic),
            Some(("topic", topic)) => Ok(Self::Topic(topic.into())),
            _ => Err(ParseEpisodesError::UnknownForm(text.into())),
        }
    }
}

impl fmt::Display for EpisodesFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Gap { longer_than_ns } => {
                let (unit, scale) = UNITS
                    .into_iter()
                    .find(|(_, scale)| longer_than_ns % scale == 0)
                    .expect("the last unit is one nanosecond, which divides everything");
                write!(f, "gap:{}{unit}", longer_than_ns / scale)
            }
            Self::Topic(topic) => write!(f, "topic:{topic}"),
        }
    }
}

/// Units of a duration in nanoseconds, longest first. No unit's name is a suffix of an earlier one but `s`,
/// so parsing goes from the end of the list.
const UNITS: [(&str, i64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// Parses `1.5s` exactly, without going through a float; `None` unless positive and whole in nanoseconds.
#[must_use]
pub fn duration_ns(text: &str) -> Option<i64> {
    let (number, scale) =
        UNITS.iter().rev().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole_ns = whole.parse::<i64>().ok()?.checked_mul(scale)?;
    let parts = fraction.parse::<i64>().ok()? * scale;
    let per_whole = 10_i64.pow(fraction.len() as u32);
    if parts % per_whole != 0 {
        return None;
    }
    whole_ns.checked_add(parts / per_whole).filter(|ns| *ns > 0)
}

/// Which topics are decoded: those that match an `include` pattern (or all, if there is none) and no `exclude`
/// pattern. `*` in a pattern stands for any run of characters, `/` included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicFilter {
    /// Patterns of topics wanted; empty means all.
    pub include: Vec<String>,
    /// Patterns of topics not wanted; they win over `include`.
    pub exclude: Vec<String>,
}

impl TopicFilter {
    /// Whether `topic` is to be decoded.
    #[must_use]
    pub fn allows(&self, topic: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|p| matches(p.as_bytes(), topic.as_bytes()));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// Wildcard match that goes back only to the last `*`, so no pattern takes more than |pattern| × |text| steps.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            last_star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = last_star {
            last_star = Some((star, from + 1));
            p = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Why a `metadata.yaml` cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BagMetadataError {
    /// The bag's messages are not in MCAP files.
    #[error("metadata.yaml: the bag is stored as `{0}`, not mcap: convert it with `ros2 bag convert`")]
    Storage(String),
    /// The files as a whole are compressed.
    #[error(
        "metadata.yaml: the bag's files are compressed as a whole ({0}): decompress them, or record with the mcap \
         storage's own chunk compression (`--storage-preset-profile zstd_fast`)"
    )]
    FileCompression(String),
    /// Each message is compressed on its own.
    #[error(
        "metadata.yaml: the bag's messages are compressed one by one ({0}): rewrite it with `ros2 bag convert` \
         and no compression_mode"
    )]
    MessageCompression(String),
    /// No file is named.
    #[error("metadata.yaml: no relative_file_paths: run `ros2 bag reindex` on the folder")]
    NoFiles,
    /// A file is named that is not inside the bag's folder.
    #[error("metadata.yaml: `{0}` is not a path inside the bag's folder")]
    Outside(String),
}

/// The files of a rosbag2 folder in recording order, from its `metadata.yaml` (versions 1 to 9,
/// `rosbag2_storage/metadata_io.cpp` in ros2/rosbag2).
///
/// This is no YAML parser: it reads the block style that rosbag2 and its peers write, and of that only the keys
/// `storage_identifier`, `compression_format`, `compression_mode` and `relative_file_paths`, each on a line of its
/// own, with plain or quoted one-line values. Everything else is passed over.
///
/// # Errors
/// When the bag is not stored as plain MCAP files, or names none.
pub fn bag_files(metadata_yaml: &str) -> Result<Vec<String>, BagMetadataError> {
    let mut storage = String::new();
    let mut compression = (String::new(), String::new());
    let mut files = Vec::new();
    let mut list_indent = None;
    for line in metadata_yaml.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if let Some(key_indent) = list_indent {
            // A list may stand at its key's own indent.
            if let (true, Some(item)) = (indent >= key_indent, trimmed.strip_prefix("- ")) {
                files.push(unquoted(item));
                continue;
            }
            list_indent = None;
        }
        let Some((key, value)) = trimmed.split_once(':') else { continue };
        match key {
            "storage_identifier" => storage = unquoted(value),
            "compression_format" => compression.0 = unquoted(value),
            "compression_mode" => compression.1 = unquoted(value).to_ascii_uppercase(),
            "relative_file_paths" => list_indent = Some(indent),
            _ => {}
        }
    }
    if !storage.is_empty() && storage != "mcap" {
        return Err(BagMetadataError::Storage(storage));
    }
    match compression.1.as_str() {
        "FILE" => return Err(BagMetadataError::FileCompression(compression.0)),
        "MESSAGE" => return Err(BagMetadataError::MessageCompression(compression.0)),
        _ => {}
    }
    let outside = |f: &&String| f.starts_with('/') || f.split(['/', '\\']).any(|part| part == "..");
    match files.iter().find(outside) {
        Some(file) => Err(BagMetadataError::Outside(file.clone())),
        None if files.is_empty() => Err(BagMetadataError::NoFiles),
        None => Ok(files),
    }
}

/// A one-line YAML scalar without its quotes.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)) {
            return inner.into();
        }
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_from_is_read_and_written() {
        for text in ["file", "gap:5s", "gap:1500ms", "gap:20us", "gap:7ns", "topic:/recording"] {
            assert_eq!(text.parse::<EpisodesFrom>().unwrap().to_string(), text);
        }
        assert_eq!("gap:1.5s".parse(), Ok(EpisodesFrom::Gap { longer_than_ns: 1_500_000_000 }));
        for text in
            ["", "File", "gap:", "gap:5", "gap:-1s", "gap:0s", "gap:1.5ns", "gap:99999999999s", "topic:"]
        {
            assert!(text.parse::<EpisodesFrom>().is_err(), "{text}");
        }
        let error = "gap:soon".parse::<EpisodesFrom>().unwrap_err().to_string();
        assert!(error.contains("gap:500ms"), "{error}");
    }

    #[test]
    fn patterns_choose_topics() {
        let filter = TopicFilter {
            include: vec!["/arm*".into(), "*camera*".into()],
            exclude: vec!["*/raw".into(), "/arm/debug".into()],
        };
        assert!(filter.allows("/arm/joint_states"));
        assert!(filter.allows("/left/camera/jpeg"));
        assert!(!filter.allows("/left/camera/raw"));
        assert!(!filter.allows("/arm/debug"));
        assert!(!filter.allows("/tf"));
        assert!(TopicFilter::default().allows("/anything"));
        assert!(matches(b"a*b*c", b"axxbxbxc") && !matches(b"a*b*c", b"axxbxbx") && matches(b"**", b""));
    }

    const METADATA: &str = "rosbag2_bagfile_information:\n  version: 9\n  storage_identifier: mcap\n  \
        relative_file_paths:\n    - run_0.mcap\n    - \"run_1.mcap\"\n  duration:\n    nanoseconds: 5\n  \
        topics_with_message_count:\n    - topic_metadata:\n        name: /a\n  compression_format: \"\"\n  \
        compression_mode: \"\"\n";

    #[test]
    fn metadata_yaml_names_the_files_in_order() {
        assert_eq!(bag_files(METADATA).unwrap(), ["run_0.mcap", "run_1.mcap"]);
        // rosbags writes the list at its key's own indent.
        let flat = "  relative_file_paths:\n  - a.mcap\n  ros_distro: x\n  storage_identifier: mcap\n";
        assert_eq!(bag_files(flat).unwrap(), ["a.mcap"]);
    }

    #[test]
    fn metadata_yaml_that_cannot_be_followed_says_what_to_do() {
        let with = |from: &str, to: &str| bag_files(&METADATA.replace(from, to)).unwrap_err();
        assert_eq!(
            with("identifier: mcap", "identifier: sqlite3"),
            BagMetadataError::Storage("sqlite3".into())
        );
        let file_mode =
            with("format: \"\"\n  compression_mode: \"\"", "format: zstd\n  compression_mode: FILE");
        assert_eq!(file_mode, BagMetadataError::FileCompression("zstd".into()));
        let message_mode =
            with("format: \"\"\n  compression_mode: \"\"", "format: zstd\n  compression_mode: message");
        assert_eq!(message_mode, BagMetadataError::MessageCompression("zstd".into()));
        assert_eq!(with("run_0.mcap", "../run_0.mcap"), BagMetadataError::Outside("../run_0.mcap".into()));
        assert_eq!(bag_files("{}"), Err(BagMetadataError::NoFiles));
    }
}
