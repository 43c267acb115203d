//! Trajectories: one episode as it was recorded, every stream on its own clock.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Column, Finding};

/// Where an episode came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The file (or the folder of a split recording), relative to the input's root.
    pub file: String,
    /// Which episode of that file, from 0.
    pub episode: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.file, self.episode)
    }
}

/// One episode as recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    /// Where it came from.
    pub origin: Origin,
    /// The dataset split it belongs to, such as `train`.
    pub split: Option<String>,
    /// The Unix time of instant 0 in nanoseconds; 0 where the recording has no wall clock.
    pub epoch_ns: i64,
    /// The streams, sorted by name.
    pub streams: Vec<Stream>,
    /// What the recording says of the episode as a whole.
    pub metadata: BTreeMap<String, String>,
    /// What the reader noticed.
    pub findings: Vec<Finding>,
}

/// Samples that share one clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// The topic, or `steps` where the format has one clock only.
    pub name: String,
    /// Where `times_ns` come from.
    pub clock: Clock,
    /// Published once for whoever comes later (ROS transient local): known at every later instant, and no
    /// measure of how long the episode is.
    pub latched: bool,
    /// Sampling instants in nanoseconds from the episode's epoch, as recorded: not yet checked for order.
    pub times_ns: Vec<i64>,
    /// The values, one row of each per instant.
    pub features: Vec<Feature>,
}

/// Where a stream's instants come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// The stamp in the message's own header: when it was measured.
    HeaderStamp,
    /// When the recorder received the message.
    LogTime,
    /// When the publisher sent the message.
    PublishTime,
    /// No instants were recorded: they follow from a stated rate.
    NominalRate,
}

/// One named quantity of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Unique in the trajectory: `/joint_states.position`, `steps/observation/state`.
    pub name: String,
    /// Shape of one row; `[]` is a scalar.
    pub shape: Vec<usize>,
    /// One name per component, row-major, where the recording gives them.
    pub names: Option<Vec<String>>,
    /// What the format says the values are.
    pub meaning: Meaning,
    /// The values.
    pub column: Column,
}

/// What a format declares about a feature. Only ever set from a declaration (a message type, a feature class),
/// never from how the numbers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// Nothing in particular.
    Plain,
    /// A unit quaternion.
    Quaternion(QuaternionOrder),
    /// A JPEG or PNG file per row.
    EncodedImage,
    /// An instruction in natural language.
    Instruction,
}

/// Component order of a quaternion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuaternionOrder {
    /// Scalar last, as in ROS and SciPy.
    Xyzw,
    /// Scalar first, as in MuJoCo and Eigen's constructor.
    Wxyz,
}

impl Feature {
    /// Values per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Stream {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times_ns.len()
    }

    /// Whether the stream has no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times_ns.is_empty()
    }

    /// The stream restricted to the samples in `rows`.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        Self {
            name: self.name.clone(),
            clock: self.clock,
            latched: self.latched,
            times_ns: self.times_ns[rows.clone()].to_vec(),
            features: self
                .features
                .iter()
                .map(|f| Feature { column: f.column.slice(rows.clone(), f.width()), ..f.without_values() })
                .collect(),
        }
    }
}

impl Feature {
    /// The same feature with an empty column.
    #[must_use]
    pub fn without_values(&self) -> Self {
        Self {
            name: self.name.clone(),
            shape: self.shape.clone(),
            names: self.names.clone(),
            meaning: self.meaning,
            column: Column::new(self.column.kind()),
        }
    }
}

impl Trajectory {
    /// Bytes of payload held in memory.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.streams
            .iter()
            .map(|s| s.times_ns.len() * 8 + s.features.iter().map(|f| f.column.byte_len()).sum::<usize>())
            .sum()
    }

    /// Where the feature called `name` is: indices of its stream and of the feature in it.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<(usize, usize)> {
        let within = |s: &Stream| s.features.iter().position(|f| f.name == name);
        self.streams.iter().enumerate().find_map(|(stream, s)| within(s).map(|feature| (stream, feature)))
    }

    /// The feature called `name`, with the stream it belongs to.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<(&Stream, &Feature)> {
        self.position(name)
            .map(|(stream, feature)| (&self.streams[stream], &self.streams[stream].features[feature]))
    }
}
