//! The clock of a topic, and its streams on it.
//!
//! The header's stamp says when something was measured, the log time when the recorder heard of it: the stamp is taken
//! where it can be. It cannot if it was not filled in (zero), or if it counts from another origin than the recorder's
//! clock (simulation time, seconds since boot): then the whole topic goes by log time, and a finding says so. A clock
//! offset the user states is part of the stamp before it is judged, since it may be what brings the two together.
//!
//! Rows are put in log-time order, stably, since a file may hold them otherwise. Stamps are not sorted: their
//! order in a stream is as received, and what is wrong with it is for the caller to see.

use super::topic::Topic;
use crate::{Clock, Column, Feature, Finding, Stream};

/// Stamps that differ from log time by more, at the median, do not count from the same origin.
const FOREIGN_NS: u64 = 60_000_000_000;

/// The streams of `topic` with instants in Unix nanoseconds, on the clock the user chose or else the better one.
///
/// # Errors
/// When an instant with `offset_ns` added does not fit.
pub(super) fn streams_of(
    topic: Topic,
    offset_ns: i64,
    chosen: Option<Clock>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Stream>, String> {
    let stamped = topic.streams.iter().any(|s| !s.header_ns.is_empty());
    let clock = match chosen {
        Some(Clock::HeaderStamp) if stamped => Clock::HeaderStamp,
        Some(Clock::LogTime) => Clock::LogTime,
        _ => choose(&topic, offset_ns, findings),
    };
    let latched = topic.latched;
    let mut streams = Vec::with_capacity(topic.streams.len());
    for mut builder in topic.streams {
        let log_ns = std::mem::take(&mut builder.log_ns);
        let header_ns = std::mem::take(&mut builder.header_ns);
        let name = builder.name.clone();
        let instants = if clock == Clock::HeaderStamp { &header_ns } else { &log_ns };
        let shifted = |t: &i64| {
            t.checked_add(offset_ns)
                .ok_or(format!("the clock offset {offset_ns} ns takes an instant out of range"))
        };
        let mut times_ns = instants.iter().map(shifted).collect::<Result<Vec<_>, _>>()?;
        let mut features = builder.into_features(log_ns.len(), findings);
        if !log_ns.is_sorted() {
            let mut order: Vec<usize> = (0..log_ns.len()).collect();
            order.sort_by_key(|row| log_ns[*row]);
            times_ns = order.iter().map(|row| times_ns[*row]).collect();
            features.iter_mut().for_each(|f| *f = rows_of(f, &order));
        }
        streams.push(Stream { name, clock, latched, times_ns, features });
    }
    Ok(streams)
}

fn choose(topic: &Topic, offset_ns: i64, findings: &mut Vec<Finding>) -> Clock {
    let stamps = || topic.streams.iter().flat_map(|s| s.header_ns.iter().copied());
    let zero = stamps().filter(|t| *t == 0).count();
    let count = stamps().count();
    if count == 0 || zero == count && !topic.declares_header() {
        return Clock::LogTime;
    }
    let mut fall_back = |seen: String| {
        findings.push(Finding::new(
            "clock-fallback",
            &topic.name,
            format!("{seen}, so its clock is the log time"),
        ));
        Clock::LogTime
    };
    if zero > 0 {
        return fall_back(format!("{zero} of {count} header stamps are zero"));
    }
    let pairs = topic.streams.iter().flat_map(|s| s.header_ns.iter().zip(&s.log_ns));
    let mut apart_ns: Vec<u64> =
        pairs.map(|(header, log)| header.saturating_add(offset_ns).abs_diff(*log)).collect();
    let (_, median, _) = apart_ns.select_nth_unstable(count / 2);
    if *median > FOREIGN_NS {
        let seconds = *median as f64 / 1e9;
        return fall_back(format!(
            "its header stamps are {seconds:.1} s from the log times at the median, so they count from another origin \
             (simulation or time since boot)"
        ));
    }
    Clock::HeaderStamp
}

/// The rows `rows` of `feature`, in that order.
pub(super) fn rows_of(feature: &Feature, rows: &[usize]) -> Feature {
    fn pick<T: Copy>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
        rows.iter().flat_map(|row| values[row * width..(row + 1) * width].iter().copied()).collect()
    }
    let width = feature.width();
    let column = match &feature.column {
        Column::F32(v) => Column::F32(pick(v, rows, width)),
        Column::F64(v) => Column::F64(pick(v, rows, width)),
        Column::I64(v) => Column::I64(pick(v, rows, width)),
        Column::Bool(v) => Column::Bool(pick(v, rows, width)),
        Column::Str(v) => Column::Str(rows.iter().map(|row| v.get(*row)).collect()),
        Column::Bytes(v) => Column::Bytes(rows.iter().map(|row| v.get(*row)).collect()),
    };
    Feature { column, ..feature.without_values() }
}
