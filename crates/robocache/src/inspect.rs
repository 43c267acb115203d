//! `inspect`: what recordings hold, before anything is done to them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use base::exit::Exit;
use base::telemetry::Progress;
use resample::{check_times, default_max_gap_ns, median_period_ns};
use serde::Serialize;
use trajectory::read::ReadError;
use trajectory::read::bag::TopicFilter;
use trajectory::{Clock, Finding, Meaning, Stream, Trajectory};

use crate::config::InspectArgs;
use crate::draft;
use crate::error::{Error, Result};
use crate::map::Map;
use crate::recipe::keeps;
use crate::settings::read_options;
use crate::source::Input;
use crate::units::{ByteSize, show_ns};

/// Everything `inspect --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    recordings: Vec<RecordingReport>,
    episodes: Vec<EpisodeReport>,
    errors: Vec<ErrorReport>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct RecordingReport {
    name: String,
    format: &'static str,
    split: Option<String>,
    bytes: u64,
    files: usize,
}

#[derive(Debug, Serialize)]
struct EpisodeReport {
    file: String,
    episode: u64,
    split: Option<String>,
    epoch_ns: i64,
    duration_seconds: f64,
    streams: Vec<StreamReport>,
    metadata: BTreeMap<String, String>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct ErrorReport {
    file: String,
    episode: Option<u64>,
    problem: String,
}

/// One stream of one episode. Intervals are those between consecutive samples.
#[derive(Debug, Clone, Serialize)]
struct StreamReport {
    name: String,
    clock: Clock,
    latched: bool,
    samples: usize,
    first_ns: i64,
    last_ns: i64,
    /// One over the median interval.
    rate_hz: Option<f64>,
    /// 95th percentile of how far an interval is from the median one.
    jitter_ns: Option<i64>,
    longest_interval_ns: Option<i64>,
    /// Intervals longer than the default largest gap.
    gaps: usize,
    /// Why the clock cannot be used as it is.
    problem: Option<String>,
    features: Vec<FeatureReport>,
}

#[derive(Debug, Clone, Serialize)]
struct FeatureReport {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    names: Option<Vec<String>>,
    meaning: Meaning,
}

/// Runs the command.
pub(crate) fn inspect(args: &InspectArgs, tables: toml::Table) -> Result<Exit> {
    let options = read_options(&args.input, &Map::read(tables, None)?)?;
    let filter = TopicFilter { include: args.input.include.clone(), exclude: args.input.exclude.clone() };
    let input = Input::open(&args.paths, options)?;
    let total = input.recordings.iter().map(crate::source::Recording::bytes).sum();
    let progress = Progress::new("episodes", total);
    let mut sample: Option<Trajectory> = None;
    let mut report = Report {
        recordings: input.recordings.iter().map(describe_recording).collect(),
        episodes: Vec::new(),
        errors: Vec::new(),
        findings: input.findings.clone(),
    };
    for recording in 0..input.recordings.len() {
        let seen = RefCell::new(&mut report);
        input.read(
            recording,
            None,
            &|bytes| {
                progress.read(bytes);
                ControlFlow::Continue(())
            },
            &mut |episode| {
                let mut report = seen.borrow_mut();
                match episode {
                    Ok(mut trajectory) => {
                        progress.done(0);
                        retain(&mut trajectory, &filter);
                        report.episodes.push(describe_episode(&trajectory));
                        sample.get_or_insert(*trajectory);
                    }
                    Err(error) => report.errors.push(describe_error(error)),
                }
                let enough = args.limit.is_some_and(|limit| report.episodes.len() >= limit);
                if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        )?;
        if args.limit.is_some_and(|limit| report.episodes.len() >= limit) {
            break;
        }
    }
    let _ = progress.finish();
    report.findings.sort();
    report.findings.dedup();
    if args.json {
        out!("{}", serde_json::to_string_pretty(&report).expect("a report has string keys"));
    } else {
        print(&report);
    }
    if let Some(path) = &args.write_map {
        let sample =
            sample.ok_or_else(|| Error::invalid("there is no readable episode to draft a map from"))?;
        let text = draft::draft(&sample);
        let path = path.display().to_string();
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", &path));
        base::store::open(folder, "")?.put_if_absent(name, text.as_bytes()).map_err(Error::from).and_then(
            |put| match put {
                base::store::Put::Created => Ok(()),
                base::store::Put::AlreadyExists => {
                    Err(Error::invalid(format!("{path} exists; remove it or choose another name")))
                }
            },
        )?;
        eprintln!(
            "wrote {path}; edit it, then: robocache preprocess --input-dir {} --map {path} …",
            args.paths.join(" --input-dir ")
        );
    }
    Ok(if report.errors.is_empty() { Exit::Done } else { Exit::DoneWithSkips })
}

/// Leaves the features that `--include` and `--exclude` leave, and the streams that have any.
fn retain(trajectory: &mut Trajectory, filter: &TopicFilter) {
    for stream in &mut trajectory.streams {
        let name = stream.name.clone();
        stream.features.retain(|feature| keeps(filter, &name, feature));
    }
    trajectory.streams.retain(|stream| !stream.features.is_empty());
}

fn describe_recording(recording: &crate::source::Recording) -> RecordingReport {
    RecordingReport {
        name: recording.name.clone(),
        format: recording.format_name(),
        split: recording.split(),
        bytes: recording.bytes(),
        files: recording.files.len(),
    }
}

fn describe_error(error: ReadError) -> ErrorReport {
    ErrorReport { file: error.place.file.clone(), episode: error.place.episode, problem: error.to_string() }
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn describe_episode(trajectory: &Trajectory) -> EpisodeReport {
    let measured = || trajectory.streams.iter().filter(|s| !s.latched && !s.is_empty());
    let first = measured().filter_map(|s| s.times_ns.iter().min()).min().copied().unwrap_or(0);
    let last = measured().filter_map(|s| s.times_ns.iter().max()).max().copied().unwrap_or(0);
    EpisodeReport {
        file: trajectory.origin.file.clone(),
        episode: trajectory.origin.episode,
        split: trajectory.split.clone(),
        epoch_ns: trajectory.epoch_ns,
        duration_seconds: last.saturating_sub(first) as f64 / 1e9,
        streams: trajectory.streams.iter().map(describe_stream).collect(),
        metadata: trajectory.metadata.clone(),
        findings: trajectory.findings.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn describe_stream(stream: &Stream) -> StreamReport {
    let median = median_period_ns(&stream.times_ns).filter(|&period| period > 0);
    let intervals = || stream.times_ns.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    let mut deviations: Vec<i64> =
        median.map_or(Vec::new(), |m| intervals().map(|i| (i - m).abs()).collect());
    deviations.sort_unstable();
    let max_gap = default_max_gap_ns(&stream.times_ns);
    StreamReport {
        name: stream.name.clone(),
        clock: stream.clock,
        latched: stream.latched,
        samples: stream.len(),
        first_ns: stream.times_ns.first().copied().unwrap_or(0),
        last_ns: stream.times_ns.last().copied().unwrap_or(0),
        rate_hz: median.map(|period| 1e9 / period as f64),
        jitter_ns: deviations.get(deviations.len().saturating_sub(1) * 95 / 100).copied(),
        longest_interval_ns: intervals().max(),
        gaps: if stream.latched { 0 } else { intervals().filter(|&i| i > max_gap).count() },
        problem: check_times(&stream.times_ns).err().map(|e| match e.index() {
            Some(index) => format!("sample {index}: {e}"),
            None => e.to_string(),
        }),
        features: stream
            .features
            .iter()
            .map(|feature| FeatureReport {
                name: feature.name.clone(),
                dtype: feature.column.kind().name(),
                shape: feature.shape.clone(),
                names: feature.names.clone(),
                meaning: feature.meaning,
            })
            .collect(),
    }
}

fn print(report: &Report) {
    print_overview(report);
    print_streams(report);
    print_features(report);
    for error in &report.errors {
        out!("\nerror: {}", error.problem);
    }
    let mut findings: BTreeMap<&Finding, usize> = report.findings.iter().map(|f| (f, 0)).collect();
    for finding in report.episodes.iter().flat_map(|e| &e.findings) {
        *findings.entry(finding).or_default() += 1;
    }
    for (finding, episodes) in findings {
        let count = if episodes > 0 { format!(" ({episodes} episodes)") } else { String::new() };
        out!("\nnote [{}] {}: {}{count}", finding.code, finding.subject, finding.message);
    }
}

fn print_overview(report: &Report) {
    let mut formats: BTreeMap<(&str, Option<&str>), (usize, u64)> = BTreeMap::new();
    for recording in &report.recordings {
        let entry = formats.entry((recording.format, recording.split.as_deref())).or_default();
        entry.0 += 1;
        entry.1 += recording.bytes;
    }
    for ((format, split), (count, bytes)) in formats {
        let split = split.map_or(String::new(), |split| format!(", split {split}"));
        out!("{format}{split}: {count} recording(s), {}", ByteSize { bytes });
    }
    let seconds: f64 = report.episodes.iter().map(|e| e.duration_seconds).sum();
    let shortest = report.episodes.iter().map(|e| e.duration_seconds).fold(f64::INFINITY, f64::min);
    let longest = report.episodes.iter().map(|e| e.duration_seconds).fold(0.0, f64::max);
    match report.episodes.len() {
        0 => out!("no readable episode"),
        1 => out!("1 episode of {seconds:.2} s"),
        n => out!("{n} episodes of {shortest:.2} to {longest:.2} s, {seconds:.1} s in all"),
    }
}

/// One line per stream, over all episodes: sums of samples and gaps, medians of rates, the worst of the rest.
fn print_streams(report: &Report) {
    let mut streams: BTreeMap<&str, Vec<&StreamReport>> = BTreeMap::new();
    for stream in report.episodes.iter().flat_map(|e| &e.streams) {
        streams.entry(&stream.name).or_default().push(stream);
    }
    out!(
        "\n{:<28} {:<13} {:>9} {:>9} {:>10} {:>12} {:>5} {:>9}",
        "stream",
        "clock",
        "samples",
        "rate",
        "jitter",
        "longest gap",
        "gaps",
        "episodes"
    );
    for (name, all) in streams {
        let mut rates: Vec<f64> = all.iter().filter_map(|s| s.rate_hz).collect();
        rates.sort_by(f64::total_cmp);
        let rate = rates.get(rates.len() / 2).map_or("-".into(), |rate| format!("{rate:.1} Hz"));
        let span = |ns: Option<i64>| ns.map_or("-".into(), show_ns);
        let clock = if all[0].latched { "latched".into() } else { kebab(&all[0].clock) };
        out!(
            "{:<28} {:<13} {:>9} {:>9} {:>10} {:>12} {:>5} {:>9}",
            name,
            clock,
            all.iter().map(|s| s.samples).sum::<usize>(),
            rate,
            span(all.iter().filter_map(|s| s.jitter_ns).max()),
            span(all.iter().filter_map(|s| s.longest_interval_ns).max()),
            all.iter().map(|s| s.gaps).sum::<usize>(),
            format!("{}/{}", all.len(), report.episodes.len()),
        );
        if let Some(problem) = all.iter().find_map(|s| s.problem.as_ref()) {
            out!("  {problem}");
        }
    }
}

fn print_features(report: &Report) {
    let mut features: BTreeMap<&str, &FeatureReport> = BTreeMap::new();
    for feature in report.episodes.iter().flat_map(|e| &e.streams).flat_map(|s| &s.features) {
        features.entry(&feature.name).or_insert(feature);
    }
    out!("\n{:<44} {:<8} {:<8} components", "feature", "type", "shape");
    for (name, feature) in features {
        let kind = match feature.meaning {
            Meaning::EncodedImage => "image".into(),
            Meaning::Quaternion(_) => "quat".into(),
            Meaning::Instruction => "text".into(),
            Meaning::Plain => feature.dtype.to_string(),
        };
        out!(
            "{name:<44} {kind:<8} {:<8} {}",
            format!("{:?}", feature.shape),
            abridged(feature.names.as_deref())
        );
    }
}

fn abridged(names: Option<&[String]>) -> String {
    match names {
        None => String::new(),
        Some(names) if names.len() <= 8 => names.join(" "),
        Some(names) => format!("{} … {}", names[..6].join(" "), names[names.len() - 1]),
    }
}

fn kebab<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
