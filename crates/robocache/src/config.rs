//! The command line: what can be typed, and nothing that acts on it.
//!
//! Every flag is also an environment variable (`ROBOCACHE_` and its name) and a key of an `@ file.toml`. What is typed here is
//! text and numbers; [`crate::settings`] turns it into what the pipeline works with.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use resample::Rate;
use trajectory::read::bag::EpisodesFrom;
use trajectory::write::Format;

use crate::units::{ByteSize, Span};

const EXAMPLES: &str = "\
Examples:
  robocache inspect recordings/                        what is in there: rates, gaps, clocks
  robocache inspect recordings/ --write-map map.toml   draft a training schema to edit
  robocache preprocess --input-dir recordings/ --output-dir out/ \\
      --target-frequency 50 --map map.toml             one grid, ready to train on
  robocache preprocess @ job.toml --batch-size 128     flags kept in a file; the line wins
  robocache verify out/                                re-read it against its manifest

Exit codes:
  0 done                                               2 wrong configuration or input
  3 done, with episodes left out (0 in a pod)          75 storage unavailable, try again
  143 stopped by SIGTERM; an interrupted job continues when it is run again";

/// Raw robot recordings onto one exact time grid, ready to train on.
#[derive(Debug, Parser)]
#[command(name = "robocache", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Resample recordings onto a grid and publish a training set
    #[command(after_help = EXAMPLES)]
    Preprocess(Box<PreprocessArgs>),
    /// Show what `preprocess` would do, without writing anything
    Plan(Box<PlanArgs>),
    /// Show what recordings hold: episodes, features, shapes, rates, jitter, gaps, clocks
    Inspect(Box<InspectArgs>),
    /// Re-read an output and compare it with its manifest
    Verify(VerifyArgs),
    /// Resample a small recorded dataset and draw what changed
    Demo(DemoArgs),
}

/// What is read, and how it is understood.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Input")]
pub(crate) struct InputArgs {
    /// Rate of recordings that carry no timestamps (RLDS), in hertz: `5`, `3.75`, `30000/1001`.
    /// Datasets of the Open X-Embodiment collection are known by name
    #[arg(long, env = "ROBOCACHE_SOURCE_FREQUENCY", value_name = "HZ")]
    pub(crate) source_frequency: Option<Rate>,
    /// What an episode of a bag is: `file` (the whole recording), `gap:2s` (cut where every stream is silent for longer), or
    /// `topic:/recording` (while that topic is true)
    #[arg(long, env = "ROBOCACHE_EPISODES_FROM", default_value = "file", value_name = "RULE")]
    pub(crate) episodes_from: EpisodesFrom,
    /// Which clock a topic goes by, as `/joint_states=log-time` (or `header-stamp`); repeatable. By default the stamp in the
    /// message's header, unless it is empty or counts from another origin
    #[arg(long, env = "ROBOCACHE_CLOCK", value_name = "TOPIC=CLOCK", value_delimiter = ',')]
    pub(crate) clock: Vec<String>,
    /// Shift a topic's clock, as `/camera/image=-12ms`; repeatable
    #[arg(
        long,
        env = "ROBOCACHE_CLOCK_OFFSET",
        value_name = "TOPIC=TIME",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub(crate) clock_offset: Vec<String>,
    /// Keep only topics or features that match, with `*` for anything; repeatable
    #[arg(long, env = "ROBOCACHE_INCLUDE", value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) include: Vec<String>,
    /// Leave out topics or features that match, with `*` for anything; repeatable
    #[arg(long, env = "ROBOCACHE_EXCLUDE", value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) exclude: Vec<String>,
    /// Most memory one episode may take
    #[arg(long, env = "ROBOCACHE_MAX_EPISODE_SIZE", default_value = "4GiB", value_name = "SIZE")]
    pub(crate) max_episode_size: ByteSize,
}

/// Arguments of `preprocess`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PreprocessArgs {
    /// Folder or file to read: bags (.mcap, rosbag2), RLDS/TFDS; its format is recognised; repeat it to merge several
    #[arg(long, env = "ROBOCACHE_INPUT_DIR", value_name = "PATH", required = true)]
    pub(crate) input_dir: Vec<String>,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) time: TimeArgs,
    #[command(flatten)]
    pub(crate) schema: SchemaArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Where the result goes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Folder for the result: new, empty, or an interrupted run of this same job
    #[arg(long, env = "ROBOCACHE_OUTPUT_DIR", value_name = "PATH")]
    pub(crate) output_dir: String,
    /// What to write: `lerobot` (v3.0) or `parquet`
    #[arg(long, env = "ROBOCACHE_FORMAT", default_value = "lerobot", value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Precision to train in. LeRobot and Parquet store float32, so this rounds nothing there
    #[arg(long, env = "ROBOCACHE_DTYPE", default_value = "float32")]
    pub(crate) dtype: DtypeArg,
    /// How much input goes into one output file
    #[arg(long, env = "ROBOCACHE_SHARD_SIZE", default_value = "64MiB", value_name = "SIZE")]
    pub(crate) shard_size: ByteSize,
    /// Replace an earlier result of another job
    #[arg(long, env = "ROBOCACHE_OVERWRITE")]
    pub(crate) overwrite: bool,
}

/// The grid, and what a value between two samples is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct TimeArgs {
    /// Rate of the output grid in hertz: `50`, `29.97`, `30000/1001`. LeRobot takes whole numbers only
    #[arg(long, env = "ROBOCACHE_TARGET_FREQUENCY", value_name = "HZ")]
    pub(crate) target_frequency: Rate,
    /// Policy of a feature or of some components, as `/pose.position=hold` or `steps/action[3:6]=slerp-rpy`; repeatable.
    /// Policies: linear, hold, nearest, any, slerp-xyzw, slerp-wxyz, slerp-rotvec, slerp-6d, slerp-rpy
    #[arg(long, env = "ROBOCACHE_POLICY", value_name = "WHAT=POLICY", value_delimiter = ';')]
    pub(crate) policy: Vec<String>,
    /// `mixed` interpolates floats (linear and slerp look one sample ahead); `causal` takes the latest sample everywhere
    #[arg(long, env = "ROBOCACHE_PRESET", default_value = "mixed")]
    pub(crate) preset: Preset,
    /// Longest interval between samples that is bridged; default: three median periods, at least 100 ms
    #[arg(long, env = "ROBOCACHE_MAX_GAP", value_name = "TIME")]
    pub(crate) max_gap: Option<Span>,
    /// What becomes of rows in a longer one: marked in a `gap_mask` column, the episode cut there, or the episode left out
    #[arg(long, env = "ROBOCACHE_ON_GAP", default_value = "mask")]
    pub(crate) on_gap: OnGap,
    /// Outside a stream that is not required: hold its last sample, write NaN, or let it bound the episode after all
    #[arg(long, env = "ROBOCACHE_EDGE", default_value = "hold")]
    pub(crate) edge: Edge,
}

/// What the output's columns are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Schema")]
pub(crate) struct SchemaArgs {
    /// TOML file with the tables `map`, `policy` and `stream`; `inspect --write-map` drafts one
    #[arg(long, env = "ROBOCACHE_MAP", value_name = "FILE")]
    pub(crate) map: Option<PathBuf>,
    /// Task of every episode, in place of what the recording says
    #[arg(long, env = "ROBOCACHE_TASK", value_name = "TEXT")]
    pub(crate) task: Option<String>,
    /// Which episodes, counted over the whole input from 0: `0-9,15`
    #[arg(long, env = "ROBOCACHE_EPISODES", value_name = "LIST")]
    pub(crate) episodes: Option<String>,
}

/// How the work is done. Nothing here changes the result.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Work")]
pub(crate) struct RunArgs {
    /// Most episodes resampled at once
    #[arg(long, env = "ROBOCACHE_BATCH_SIZE", default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: u32,
    /// What a bad episode means: reported, left out and exit code 3 (`fail`), or expected and exit code 0 (`skip`). Either way
    /// the job goes on and the manifest lists it with the reason
    #[arg(long, env = "ROBOCACHE_ON_ERROR", default_value = "fail")]
    pub(crate) on_error: OnError,
    /// Threads that resample; default: one per core
    #[arg(long, env = "ROBOCACHE_THREADS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) threads: Option<u32>,
    /// Prometheus Pushgateway to report to. Accepted; this version pushes nothing and says so
    #[arg(long, env = "ROBOCACHE_PROMETHEUS_PUSHGATEWAY", value_name = "URL")]
    pub(crate) prometheus_pushgateway: Option<String>,
}

/// Arguments of `plan`: those of `preprocess`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) preprocess: PreprocessArgs,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArgs {
    /// Folder or file to read
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// Look at this many episodes only
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print everything as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Draft the training schema from what is there, as a TOML file to edit and give to `preprocess --map`
    #[arg(long, value_name = "FILE")]
    pub(crate) write_map: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    /// An output of `preprocess`
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the recordings, the result and the picture; replaced if it is an earlier demo's
    #[arg(long, default_value = "robocache-demo", value_name = "PATH")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeArg {
    Bfloat16,
    Float16,
    Float32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    Mixed,
    Causal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnGap {
    Mask,
    Split,
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Edge {
    Hold,
    Nan,
    Trim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    Fail,
    Skip,
}
