//! RLDS episodes, as TensorFlow Datasets stores them: one TFRecord file per shard, one `tf.train.Example` per episode.
//!
//! The flow: [`RldsInfo::parse`] reads the declarations, [`RldsInfo::layout`] sorts the files into splits and shards,
//! and one [`RldsReader`] per file asks for it in blocks, front to back, and yields a trajectory per record. RLDS has no
//! instants: they follow from a rate, which the caller states or finds in [`super::oxe`], and come as [`Instants`].
//!
//! Invariants: a record that cannot be used costs one episode, with an error that names it; a file with fewer or more
//! records than the dataset says is an error; and reading a range of records gives what reading all and
//! slicing would give.

mod dataset;
mod episode;
mod info;
#[cfg(test)]
mod testing;

use std::ops::Range;
use std::sync::Arc;

pub use dataset::{RldsLayout, RldsShard, RldsSplit};
pub use info::RldsInfo;

use super::example::parse_example;
use super::tfrecord::{Next, RecordReader};
use super::{InputFile, Limits, ReadError, Reader, Step};
use crate::{Origin, Trajectory};

/// A reader of one shard.
#[derive(Debug)]
pub struct RldsReader {
    records: RecordReader,
    source: Source,
    /// Records of the file to yield.
    episodes: Range<u64>,
    /// Records the file must have.
    expected: Option<u64>,
    ended: bool,
}

/// All that turns a record into a trajectory.
#[derive(Debug)]
struct Source {
    path: String,
    info: Arc<RldsInfo>,
    split: Option<String>,
    instants: Instants,
    limits: Limits,
}

/// When step `k` of an episode was taken, in nanoseconds from its first; `None` past what an `i64` holds.
#[derive(Clone)]
pub struct Instants(Arc<dyn Fn(u64) -> Option<i64> + Send + Sync>);

impl Instants {
    /// Instants by rule.
    pub fn new(instant_ns: impl Fn(u64) -> Option<i64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(instant_ns))
    }
}

impl std::fmt::Debug for Instants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instants")
    }
}

impl RldsReader {
    /// A reader of `file` that yields the records `episodes` (`None`: all), whose steps were taken at `instants`, as episodes of
    /// `split`.
    #[must_use]
    pub fn new(
        file: InputFile,
        info: Arc<RldsInfo>,
        split: Option<String>,
        episodes: Option<Range<u64>>,
        instants: Instants,
        limits: Limits,
    ) -> Self {
        let source = Source { path: file.path.clone(), info, split, instants, limits };
        let records = RecordReader::new(file, limits.record_bytes);
        Self { records, source, episodes: episodes.unwrap_or(0..u64::MAX), expected: None, ended: false }
    }

    /// The same reader for a file that must have `records` records, if that is known: see [`RldsShard::episodes`].
    /// Another number is an error once the file's end (or the range's end, if it is the same) is reached.
    #[must_use]
    pub fn expecting(mut self, records: Option<u64>) -> Self {
        self.expected = records;
        self
    }

    /// The same reader asking for at most `block_bytes` at a time instead of 1 MiB.
    #[must_use]
    pub fn with_block_bytes(mut self, block_bytes: u64) -> Self {
        self.records = self.records.with_block_bytes(block_bytes);
        self
    }

    fn advance(&mut self) -> Result<Step, ReadError> {
        loop {
            let number = self.records.number();
            if number >= self.episodes.end {
                return self.finish();
            }
            let next =
                if number < self.episodes.start { self.records.skip()? } else { self.records.advance()? };
            return Ok(match next {
                Next::Skipped => continue,
                Next::Need(range) => Step::Need { file: 0, range },
                Next::Record { number, offset, data } => {
                    Step::Episode(self.source.trajectory(number, offset, data).map(Box::new))
                }
                Next::Spoiled(error) => Step::Episode(Err(error)),
                Next::End => return self.finish(),
            });
        }
    }

    /// The end of the file or of the range: compares the records that were met with what must be there.
    fn finish(&self) -> Result<Step, ReadError> {
        let number = self.records.number();
        let problem = match self.expected {
            Some(expected) if self.records.at_end() && number != expected => {
                format!("the file has {number} records, the dataset says {expected}")
            }
            Some(expected) if !self.records.at_end() && number >= expected => {
                format!("the file has more than {number} records, the dataset says {expected}")
            }
            // A range is cut from a known number of records: a file that ends before it has lost some.
            None if self.records.at_end() && self.episodes.end != u64::MAX && number < self.episodes.end => {
                format!("the file has {number} records, {} were asked for", self.episodes.end)
            }
            _ => return Ok(Step::End),
        };
        Err(ReadError::new(&self.source.path, problem))
    }
}

impl Source {
    fn trajectory(&self, number: u64, offset: u64, data: &[u8]) -> Result<Trajectory, ReadError> {
        let origin = Origin { file: self.path.clone(), episode: number };
        let example = parse_example(data, self.limits.episode_bytes).map_err(|error| {
            ReadError::in_episode(&origin, format!("the record is no tf.train.Example: {error}"))
                .offset(offset + error.offset as u64)
        })?;
        if example.len() > self.limits.features {
            let problem =
                format!("the record has {} keys, the limit is {}", example.len(), self.limits.features);
            return Err(ReadError::in_episode(&origin, problem));
        }
        episode::trajectory(&self.info, &self.instants, origin, self.split.clone(), example)
    }
}

impl Reader for RldsReader {
    fn step(&mut self) -> Result<Step, ReadError> {
        if self.ended {
            return Ok(Step::End);
        }
        let step = self.advance();
        self.ended = !matches!(step, Ok(Step::Need { .. } | Step::Episode(_)));
        step
    }

    fn provide(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.records.provide(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tfrecord;
    use super::testing::{FEATURES, record};
    use super::*;

    type Outcome = (Vec<Result<Box<Trajectory>, ReadError>>, Result<(), ReadError>);

    /// Drives a reader over `bytes`, and says how many bytes it asked for.
    fn drive(mut reader: RldsReader, bytes: &[u8]) -> (Outcome, usize) {
        let (mut episodes, mut asked) = (Vec::new(), 0);
        loop {
            match reader.step() {
                Ok(Step::Need { file, range }) => {
                    assert!(file == 0 && range.start < range.end && range.end <= bytes.len() as u64);
                    let block = &bytes[range.start as usize..range.end as usize];
                    asked += block.len();
                    reader.provide(block).expect("what was asked for");
                }
                Ok(Step::Episode(episode)) => episodes.push(episode),
                Ok(Step::End) => return ((episodes, Ok(())), asked),
                Err(error) => {
                    assert!(matches!(reader.step(), Ok(Step::End)));
                    return ((episodes, Err(error)), asked);
                }
            }
        }
    }

    fn reader(bytes: &[u8], episodes: Option<Range<u64>>) -> RldsReader {
        let file = InputFile { path: "d/x-train.tfrecord".into(), size: bytes.len() as u64 };
        let info = Arc::new(RldsInfo::parse(FEATURES.as_bytes(), None).expect("valid"));
        let instants = Instants::new(|k| Some(k as i64 * 200_000_000));
        RldsReader::new(file, info, Some("train".into()), episodes, instants, Limits::default())
    }

    fn shard(steps: &[u16]) -> Vec<u8> {
        let records: Vec<_> = steps.iter().enumerate().map(|(i, steps)| record(i as u16, *steps)).collect();
        tfrecord::encode(&records)
    }

    #[test]
    fn each_record_is_an_episode_with_its_number() {
        let bytes = shard(&[2, 3, 1]);
        let ((episodes, end), _) = drive(reader(&bytes, None).expecting(Some(3)), &bytes);
        assert_eq!(end, Ok(()));
        let lengths: Vec<_> = episodes
            .iter()
            .flatten()
            .map(|t| (t.origin.to_string(), t.streams[0].len(), t.streams[0].times_ns.last().copied()))
            .collect();
        let name = |k| format!("d/x-train.tfrecord#{k}");
        assert_eq!(
            lengths,
            [(name(0), 2, Some(200_000_000)), (name(1), 3, Some(400_000_000)), (name(2), 1, Some(0))]
        );
    }

    #[test]
    fn a_wrong_checksum_costs_one_episode() {
        let mut bytes = shard(&[2, 3, 1]);
        bytes[30] ^= 0x10;
        let ((episodes, end), _) = drive(reader(&bytes, None).expecting(Some(3)), &bytes);
        assert_eq!((episodes.len(), end), (3, Ok(())));
        let error = episodes[0].as_ref().expect_err("spoiled");
        assert!(error.problem.contains("checksum"), "{error}");
        assert!(episodes[1].is_ok() && episodes[2].is_ok());
    }

    #[test]
    fn a_record_that_is_no_example_costs_one_episode() {
        let bytes = tfrecord::encode(&[record(0, 2), b"no example".to_vec(), record(1, 2)]);
        let ((episodes, end), _) = drive(reader(&bytes, None), &bytes);
        assert_eq!((episodes.len(), end), (3, Ok(())));
        let error = episodes[1].as_ref().expect_err("spoiled");
        assert_eq!(error.place.episode, Some(1));
        assert!(error.problem.starts_with("the record is no tf.train.Example"), "{error}");
    }

    #[test]
    fn another_number_of_records_than_the_dataset_says_is_an_error() {
        let bytes = shard(&[1, 1]);
        for (expected, range, problem) in [
            (Some(3), None, Some("the file has 2 records, the dataset says 3")),
            (Some(1), None, Some("the file has 2 records, the dataset says 1")),
            (Some(1), Some(0..1), Some("the file has more than 1 records, the dataset says 1")),
            (None, Some(1..4), Some("the file has 2 records, 4 were asked for")),
            (Some(2), Some(0..1), None),
            (Some(2), Some(0..2), None),
            (Some(2), Some(1..1), None),
            (None, Some(0..1), None),
        ] {
            let ((_, end), _) = drive(reader(&bytes, range.clone()).expecting(expected), &bytes);
            assert_eq!(end.err().map(|e| e.problem).as_deref(), problem, "{expected:?} {range:?}");
        }
        let ((episodes, end), _) = drive(reader(&[], None).expecting(Some(0)), &[]);
        assert_eq!((episodes, end), (vec![], Ok(())));
    }

    #[test]
    fn a_range_costs_its_own_bytes_and_little_more() {
        let bytes = shard(&[200; 10]);
        let ((episodes, end), asked) = drive(reader(&bytes, Some(8..9)).with_block_bytes(256), &bytes);
        assert_eq!((episodes.len(), end), (1, Ok(())));
        assert!(asked < bytes.len() / 10 + 1024, "{asked} of {}", bytes.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_range_equals_a_slice_of_the_whole(
            steps in prop::collection::vec(1_u16..30, 1..8),
            start in 0_u64..8,
            length in 0_u64..8,
            block_bytes in 1_u64..3000,
        ) {
            let bytes = shard(&steps);
            let ((whole, end), _) = drive(reader(&bytes, None), &bytes);
            prop_assert_eq!(end, Ok(()));
            let range = start.min(steps.len() as u64)..(start + length).min(steps.len() as u64);
            let ((part, end), _) = drive(reader(&bytes, Some(range.clone())).with_block_bytes(block_bytes), &bytes);
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(&part[..], &whole[range.start as usize..range.end as usize]);
        }

        #[test]
        fn mutated_shards_never_panic(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
            sound_checksums: bool,
        ) {
            // With its checksums mended, the damage reaches the parsers behind the framing.
            let mut inner = record(0, 3);
            let mut bytes = if sound_checksums { Vec::new() } else { shard(&[3, 2]) };
            let target = if sound_checksums { &mut inner } else { &mut bytes };
            for (index, byte) in flips {
                let at = index.index(target.len());
                target[at] = byte;
            }
            if sound_checksums {
                bytes = tfrecord::encode(&[inner]);
            } else {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            let _ = drive(reader(&bytes, None), &bytes);
        }
    }
}
