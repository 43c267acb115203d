//! Episodes of a recording: spans of time, and what each stream holds of them.
//!
//! [`Recording::spans`] finds the spans, [`Recording::episode`] cuts one. Each stream is cut on its own clock. Latched
//! streams take no part in where spans begin and end; their last value from before a span is carried into it, with
//! its true instant, which lies before the episode's epoch.
//!
//! Invariant: with [`EpisodesFrom::File`] every sample is in the one episode; otherwise each sample of a stream
//! that is not latched is in one episode or, between two, in none.

use std::collections::BTreeMap;
use std::ops::Range;

use super::clock::rows_of;
use super::options::EpisodesFrom;
use crate::read::ReadError;
use crate::{Column, Finding, Origin, Stream, Trajectory};

/// A whole recording, instants in Unix nanoseconds.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) name: String,
    pub(super) streams: Vec<Stream>,
    /// The streams of the topic that marks episodes, which are no part of them.
    pub(super) marks: Vec<Stream>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) findings: Vec<Finding>,
    /// Whether each stream's instants are in order, so that a cut may search instead of look at all.
    pub(super) sorted: Vec<bool>,
}

/// An episode's extent in Unix nanoseconds: its end is excluded, `None` is the end of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start_ns: i64,
    end_ns: Option<i64>,
}

impl Span {
    const ALL: Self = Self { start_ns: i64::MIN, end_ns: None };

    fn contains(self, t: i64) -> bool {
        t >= self.start_ns && self.end_ns.is_none_or(|end| t < end)
    }
}

impl Recording {
    /// The episodes' extents in order.
    ///
    /// # Errors
    /// When the topic that should mark episodes is missing, has nothing to go by, or is never on.
    pub(super) fn spans(&self, from: &EpisodesFrom) -> Result<Vec<Span>, ReadError> {
        match from {
            EpisodesFrom::File => Ok(vec![Span::ALL]),
            EpisodesFrom::Gap { longer_than_ns } => Ok(self.spans_by_gap(*longer_than_ns)),
            EpisodesFrom::Topic(topic) => self.spans_by_topic(topic),
        }
    }

    fn spans_by_gap(&self, longer_than_ns: i64) -> Vec<Span> {
        let live = self.streams.iter().filter(|s| !s.latched);
        let mut times: Vec<i64> = live.flat_map(|s| s.times_ns.iter().copied()).collect();
        times.sort_unstable();
        let starts_after = |pair: &[i64]| {
            let silence = pair[1].abs_diff(pair[0]);
            (silence > longer_than_ns.unsigned_abs()).then_some(pair[1])
        };
        let mut starts = vec![i64::MIN];
        starts.extend(times.windows(2).filter_map(starts_after));
        let ends = starts.iter().skip(1).copied().map(Some).chain([None]);
        starts.iter().zip(ends).map(|(&start_ns, end_ns)| Span { start_ns, end_ns }).collect()
    }

    fn spans_by_topic(&self, topic: &str) -> Result<Vec<Span>, ReadError> {
        let fail = |problem: String| Err(ReadError::new(&self.name, problem).feature(topic));
        let mut marks = Vec::new();
        for stream in &self.marks {
            let header = format!("{}.header.", stream.name);
            let is_scalar = |f: &&crate::Feature| f.shape.is_empty() && !f.name.starts_with(&header);
            let Some(feature) = stream.features.iter().find(is_scalar) else {
                return fail("the topic that marks episodes has no scalar field to go by".into());
            };
            let Some(values) = mark_values(&feature.column) else {
                return fail(format!(
                    "episodes are marked by a boolean, an integer or a text, but `{}` is {}",
                    feature.name,
                    feature.column.kind().name()
                ));
            };
            marks.extend(stream.times_ns.iter().copied().zip(values));
        }
        if marks.is_empty() {
            return fail("the topic that marks episodes is not in the recording, or cannot be read".into());
        }
        marks.sort_by_key(|(t, _)| *t);
        let mut spans: Vec<Span> = Vec::new();
        let mut now = None;
        for (t, mark) in marks {
            if mark == now {
                continue;
            }
            if let (Some(_), Some(last)) = (&now, spans.last_mut()) {
                last.end_ns = Some(t);
            }
            if mark.is_some() {
                spans.push(Span { start_ns: t, end_ns: None });
            }
            now = mark;
        }
        if spans.is_empty() {
            return fail("the topic that marks episodes is never on, so there is no episode".into());
        }
        Ok(spans)
    }

    /// Takes the episode number `number` with the extent `span` out of the recording; the last may take all.
    ///
    /// # Errors
    /// When it has no sample, or spans more than an i64 of nanoseconds.
    pub(super) fn episode(&mut self, number: u64, span: Span) -> Result<Box<Trajectory>, ReadError> {
        let origin = Origin { file: self.name.clone(), episode: number };
        let fail = |problem: &str| ReadError::in_episode(&origin, problem);
        let mut findings = self.findings.clone();
        let mut streams = if span == Span::ALL {
            std::mem::take(&mut self.streams)
        } else {
            let cut = self.streams.iter().zip(&self.sorted).map(|(s, sorted)| (s, cut(s, *sorted, span)));
            cut.filter_map(|(whole, part)| {
                if part.is_none() && !whole.latched {
                    let message = "the stream has no sample in this episode, which therefore lacks it";
                    findings.push(Finding::new("stream-absent", &whole.name, message));
                }
                part
            })
            .collect()
        };
        if self.marks.iter().any(|_| span.end_ns.is_none()) {
            let message = "the recording ends before the topic that marks episodes turns this one off";
            findings.push(Finding::new("episode-not-ended", origin.to_string(), message));
        }
        let earliest = |latched: bool| {
            streams.iter().filter(|s| s.latched == latched).flat_map(|s| s.times_ns.iter().copied()).min()
        };
        let Some(epoch_ns) = earliest(false).or_else(|| earliest(true)) else {
            return Err(fail("the episode has no sample"));
        };
        for t in streams.iter_mut().flat_map(|s| s.times_ns.iter_mut()) {
            *t = t.checked_sub(epoch_ns).ok_or_else(|| fail("its instants are more than 292 years apart"))?;
        }
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        findings.sort_unstable();
        findings.dedup();
        let metadata = self.metadata.clone();
        Ok(Box::new(Trajectory { origin, split: None, epoch_ns, streams, metadata, findings }))
    }
}

/// What of `stream` belongs to `span`; `None` if nothing.
fn cut(stream: &Stream, sorted: bool, span: Span) -> Option<Stream> {
    let times = &stream.times_ns;
    let mut rows: Vec<usize> = if sorted {
        let start = times.partition_point(|t| *t < span.start_ns);
        (start..span.end_ns.map_or(times.len(), |end| times.partition_point(|t| *t < end))).collect()
    } else {
        (0..times.len()).filter(|row| span.contains(times[*row])).collect()
    };
    if stream.latched {
        let before = (0..times.len()).filter(|row| times[*row] < span.start_ns);
        if let Some(last) = before.max_by_key(|row| times[*row]) {
            rows.insert(0, last);
        }
    }
    let contiguous: Range<usize> = *rows.first()?..rows.last()? + 1;
    if contiguous.len() == rows.len() && rows.is_sorted() {
        return Some(stream.slice(contiguous));
    }
    Some(Stream {
        name: stream.name.clone(),
        clock: stream.clock,
        latched: stream.latched,
        times_ns: rows.iter().map(|row| times[*row]).collect(),
        features: stream.features.iter().map(|f| rows_of(f, &rows)).collect(),
    })
}

/// What each row says: `None` is off, and two equal values are the same episode. `None` as a whole for a column that
/// cannot mark episodes.
fn mark_values(column: &Column) -> Option<Vec<Option<Vec<u8>>>> {
    Some(match column {
        Column::Bool(v) => v.iter().map(|on| on.then(Vec::new)).collect(),
        Column::I64(v) => v.iter().map(|n| (*n > 0).then(|| n.to_le_bytes().to_vec())).collect(),
        Column::Str(v) => v.iter().map(|text| (!text.is_empty()).then(|| text.to_vec())).collect(),
        Column::F32(_) | Column::F64(_) | Column::Bytes(_) => return None,
    })
}
