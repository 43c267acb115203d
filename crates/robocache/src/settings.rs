//! Settings: the command line, checked against itself.

use resample::Rate;
use trajectory::read::Limits;
use trajectory::read::bag::{BagOptions, TopicFilter};
use trajectory::write::Format;

use crate::config::{DtypeArg, InputArgs, PreprocessArgs};
use crate::error::{Error, Result};
use crate::map::{Map, parse_clock, parse_policy};
use crate::recipe::Wishes;
use crate::source::ReadOptions;
use crate::units::Span;

/// What a `preprocess` or `plan` works with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) inputs: Vec<String>,
    pub(crate) read: ReadOptions,
    pub(crate) wishes: Wishes,
    /// Which episodes, as inclusive ranges in ascending order; all if `None`.
    pub(crate) episodes: Option<Vec<(u64, u64)>>,
    pub(crate) shard_bytes: u64,
    /// Things worth saying before the work begins.
    pub(crate) notes: Vec<String>,
}

impl Settings {
    /// Checks `args`, with the tables an `@ file.toml` left over.
    pub(crate) fn new(args: &PreprocessArgs, tables: toml::Table) -> Result<Self> {
        let file = args.schema.map.as_ref().map(|path| path.display().to_string());
        let map = Map::read(tables, file.as_deref())?;
        let rate = args.time.target_frequency;
        check_rate(rate, args.output.format)?;
        let policies = args.time.policy.iter().map(|text| parse_policy(text)).collect::<Result<_>>()?;
        let read = read_options(&args.input, &map)?;
        let filter = TopicFilter { include: args.input.include.clone(), exclude: args.input.exclude.clone() };
        let mut notes = notes(args);
        let filtered = !filter.include.is_empty() || !filter.exclude.is_empty();
        if filtered && !map.columns.is_empty() {
            notes.push(
                "a map names every column itself: --include and --exclude at most say which topics are read"
                    .into(),
            );
        }
        let wishes = Wishes {
            rate,
            on_gap: args.time.on_gap,
            edge: args.time.edge,
            preset: args.time.preset,
            max_gap_ns: args.time.max_gap.map(|span| positive("--max-gap", span.nanoseconds)).transpose()?,
            format: args.output.format,
            map,
            policies,
            task: args.schema.task.clone(),
            filter,
        };
        Ok(Self {
            inputs: args.input_dir.clone(),
            read,
            wishes,
            episodes: args.schema.episodes.as_deref().map(parse_episodes).transpose()?,
            shard_bytes: args.output.shard_size.bytes,
            notes,
        })
    }
}

fn positive(what: &str, nanoseconds: i64) -> Result<i64> {
    if nanoseconds > 0 {
        Ok(nanoseconds)
    } else {
        Err(Error::invalid(format!("{what} must be longer than nothing")))
    }
}

/// How recordings are understood; shared with `inspect`.
pub(crate) fn read_options(args: &InputArgs, map: &Map) -> Result<ReadOptions> {
    let mut bag = BagOptions {
        episodes: args.episodes_from.clone(),
        topics: TopicFilter { include: topics_only(&args.include), exclude: args.exclude.clone() },
        ..BagOptions::default()
    };
    let offsets =
        map.streams.iter().filter_map(|(name, options)| Some((name.clone(), options.clock_offset_ns?)));
    bag.clock_offsets_ns.extend(offsets);
    bag.clocks.extend(map.streams.iter().filter_map(|(name, options)| Some((name.clone(), options.clock?))));
    for text in &args.clock {
        let parsed = text.rsplit_once('=').and_then(|(topic, clock)| Some((topic, parse_clock(clock)?)));
        let (topic, clock) = parsed.ok_or_else(|| {
            Error::invalid(format!(
                "--clock {text}: write TOPIC=log-time or TOPIC=header-stamp, as /joint_states=log-time"
            ))
        })?;
        bag.clocks.insert(topic.into(), clock);
    }
    for text in &args.clock_offset {
        let parsed =
            text.rsplit_once('=').and_then(|(topic, span)| Some((topic, span.parse::<Span>().ok()?)));
        let (topic, span) = parsed.ok_or_else(|| {
            Error::invalid(format!("--clock-offset {text}: write TOPIC=TIME, as /camera/image=-12ms"))
        })?;
        bag.clock_offsets_ns.insert(topic.into(), span.nanoseconds);
    }
    let limits = Limits { episode_bytes: args.max_episode_size.bytes, ..Limits::default() };
    Ok(ReadOptions { bag, source_rate: args.source_frequency, limits })
}

/// What of `--include` the reader of bags may go by: only topics named in full, since a pattern may match a feature of a topic
/// that it does not match itself. The recipe applies the patterns to features either way.
fn topics_only(patterns: &[String]) -> Vec<String> {
    let whole = |pattern: &String| pattern.starts_with('/') && !pattern.contains(['.', '*']);
    if patterns.iter().all(whole) { patterns.to_vec() } else { Vec::new() }
}

fn check_rate(rate: Rate, format: Format) -> Result<()> {
    if format == Format::LeRobot && rate.as_integer().is_none() {
        return Err(Error::invalid(format!(
            "--target-frequency {rate}: LeRobot datasets have a whole number of frames per second; take {:.0}, or keep the \
             exact rate with --format parquet",
            rate.as_f64().round().max(1.0)
        )));
    }
    Ok(())
}

fn notes(args: &PreprocessArgs) -> Vec<String> {
    let mut notes = Vec::new();
    if args.output.dtype != DtypeArg::Float32 {
        let dtype = format!("{:?}", args.output.dtype).to_lowercase();
        notes.push(format!(
            "--dtype {dtype}: {} stores float32, so nothing is rounded; cast when loading",
            args.output.format
        ));
    }
    if let Some(url) = &args.run.prometheus_pushgateway {
        notes.push(format!("--prometheus-pushgateway {url}: this version pushes no metrics"));
    }
    notes
}

/// Parses `0-9,15`.
fn parse_episodes(text: &str) -> Result<Vec<(u64, u64)>> {
    let wrong = || Error::invalid(format!("--episodes {text}: write numbers and ranges, as 0-9,15"));
    let mut ranges = Vec::new();
    for item in text.split(',').map(str::trim) {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        let range: (u64, u64) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
        if range.0 > range.1 {
            return Err(wrong());
        }
        ranges.push(range);
    }
    ranges.sort_unstable();
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episode_lists() {
        assert_eq!(parse_episodes("15,0-9").unwrap(), [(0, 9), (15, 15)]);
        for bad in ["", "a", "9-0", "1-", "-1"] {
            assert!(parse_episodes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fractional_rate_is_for_parquet() {
        let rate: Rate = "29.97".parse().unwrap();
        assert!(check_rate(rate, Format::LeRobot).unwrap_err().to_string().contains("--format parquet"));
        assert!(check_rate(rate, Format::Parquet).is_ok());
    }
}
