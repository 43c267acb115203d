//! Findings: what a reader noticed that a person should know, though it did not stop the work.

use serde::{Deserialize, Serialize};

/// One observation about a recording: a flag, not a verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Stable kebab-case code a script may match on, such as `clock-fallback`.
    pub code: String,
    /// The stream, feature, split or file it is about.
    pub subject: String,
    /// One sentence: what was seen and what was done about it. Lower case, no full stop.
    pub message: String,
}

impl Finding {
    /// A finding `code` about `subject`.
    pub fn new(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), subject: subject.into(), message: message.into() }
    }
}
