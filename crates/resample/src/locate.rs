//! Places: where each instant of a grid falls among a stream's samples.
//!
//! One merge scan per stream, since both sequences are sorted: the cost is samples plus instants, and every feature of the
//! stream reuses the result.

use crate::{Grid, Policy};

/// How much the samples say about an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// At a sample, or between two that are close enough to bridge.
    Inside,
    /// Between two samples further apart than the largest gap: the earlier one is held, nothing is interpolated.
    Gap,
    /// Before the first sample.
    Before,
    /// After the last sample, by no more than the largest gap.
    After,
    /// After the last sample, by more than the largest gap.
    Stale,
}

/// Every instant of a grid, found among the samples of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// The latest sample at or before the instant; 0 before the first.
    pub left: Vec<u32>,
    /// How far towards the next sample, in `[0, 1)`; 0 at a sample, outside the samples and in a gap.
    pub weight: Vec<f64>,
    /// What the samples say about the instant.
    pub presence: Vec<Presence>,
}

/// Why instants are not a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// There are none.
    #[error("has no samples")]
    Empty,
    /// The same instant twice.
    #[error("two samples carry the same timestamp, {time_ns} ns")]
    Duplicate {
        /// The later of the two samples.
        index: usize,
        /// Their instant.
        time_ns: i64,
    },
    /// Time runs backwards.
    #[error("time runs backwards by {back_ns} ns")]
    Backwards {
        /// The first sample that is earlier than the one before it.
        index: usize,
        /// By how much.
        back_ns: i64,
    },
    /// More samples than an index counts.
    #[error("has more than {} samples", u32::MAX)]
    TooMany,
}

impl TimesError {
    /// The sample at fault, where there is one.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        match *self {
            Self::Duplicate { index, .. } | Self::Backwards { index, .. } => Some(index),
            Self::Empty | Self::TooMany => None,
        }
    }
}

/// Checks that instants are strictly increasing and that there is at least one.
///
/// # Errors
/// The first place where they are not.
pub fn check_times(times_ns: &[i64]) -> Result<(), TimesError> {
    if times_ns.is_empty() {
        return Err(TimesError::Empty);
    }
    if u32::try_from(times_ns.len()).is_err() {
        return Err(TimesError::TooMany);
    }
    for (i, pair) in times_ns.windows(2).enumerate() {
        if pair[1] == pair[0] {
            return Err(TimesError::Duplicate { index: i + 1, time_ns: pair[1] });
        }
        if pair[1] < pair[0] {
            return Err(TimesError::Backwards { index: i + 1, back_ns: pair[0].saturating_sub(pair[1]) });
        }
    }
    Ok(())
}

/// The median interval between samples; `None` for fewer than two samples.
#[must_use]
pub fn median_period_ns(times_ns: &[i64]) -> Option<i64> {
    let mut periods: Vec<i64> = times_ns.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let middle = periods.len() / 2;
    (!periods.is_empty()).then(|| *periods.select_nth_unstable(middle).1)
}

/// The longest interval worth bridging where the user names none: three median periods, at least 100 ms.
#[must_use]
pub fn default_max_gap_ns(times_ns: &[i64]) -> i64 {
    median_period_ns(times_ns).unwrap_or(0).saturating_mul(3).max(100_000_000)
}

/// Finds every instant of `grid` among `times_ns`, bridging no interval longer than `max_gap_ns`.
///
/// # Errors
/// As [`check_times`].
pub fn locate(times_ns: &[i64], grid: &Grid, max_gap_ns: i64) -> Result<Located, TimesError> {
    check_times(times_ns)?;
    let mut out = Located {
        left: Vec::with_capacity(grid.rows()),
        weight: Vec::with_capacity(grid.rows()),
        presence: Vec::with_capacity(grid.rows()),
    };
    let mut left = 0;
    for instant in grid.instants_ns() {
        while times_ns.get(left + 1).is_some_and(|&t| t <= instant) {
            left += 1;
        }
        let (weight, presence) = place(instant, times_ns[left], times_ns.get(left + 1).copied(), max_gap_ns);
        out.left.push(u32::try_from(left).expect("check_times bounds the samples"));
        out.weight.push(weight);
        out.presence.push(presence);
    }
    Ok(out)
}

#[expect(clippy::cast_precision_loss, reason = "a weight needs 53 bits of an interval, not 64")]
fn place(instant: i64, left: i64, right: Option<i64>, max_gap_ns: i64) -> (f64, Presence) {
    if instant < left {
        return (0.0, Presence::Before);
    }
    if instant == left {
        return (0.0, Presence::Inside);
    }
    match right {
        None if instant.saturating_sub(left) > max_gap_ns => (0.0, Presence::Stale),
        None => (0.0, Presence::After),
        Some(right) if right.saturating_sub(left) > max_gap_ns => (0.0, Presence::Gap),
        Some(right) => {
            let (elapsed, interval) = (instant.abs_diff(left), right.abs_diff(left));
            (elapsed as f64 / interval as f64, Presence::Inside)
        }
    }
}

impl Located {
    /// For each instant, the sample that `policy` chooses, for values that can be chosen but not computed with: every
    /// policy but `nearest` takes the latest.
    #[must_use]
    pub fn pick(&self, policy: Policy) -> Vec<u32> {
        match policy {
            Policy::Nearest => {
                self.left.iter().zip(&self.weight).map(|(&l, &w)| l + u32::from(w > 0.5)).collect()
            }
            Policy::Linear | Policy::Slerp(_) | Policy::Hold | Policy::Any => self.left.clone(),
        }
    }

    /// For each instant, whether any of the events `happened[i]` (one per sample) fell after the previous instant and no
    /// later than this one. Before the first instant nothing is remembered: it only sees a sample exactly at it.
    #[must_use]
    pub fn any(&self, happened: &[bool]) -> Vec<bool> {
        let mut seen = None; // the latest sample already reported
        self.left
            .iter()
            .zip(&self.weight)
            .zip(&self.presence)
            .enumerate()
            .map(|(row, ((&left, &weight), &presence))| {
                if presence == Presence::Before {
                    return false;
                }
                let left = left as usize;
                let at_sample = weight == 0.0 && presence == Presence::Inside;
                let first_new = match seen {
                    Some(seen) => seen + 1,
                    None if row == 0 => left + usize::from(!at_sample),
                    None => 0,
                };
                seen = Some(left);
                happened[first_new.min(left + 1)..=left].contains(&true)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn grid(hz: u64, start_ms: i64, end_ms: i64) -> Grid {
        Grid::spanning(crate::Rate::new(hz, 1).unwrap(), start_ms * MS, end_ms * MS).unwrap()
    }

    #[test]
    fn instants_are_placed_between_their_neighbours() {
        let found = locate(&[0, 10 * MS, 40 * MS, 400 * MS], &grid(50, -20, 520), 100 * MS).unwrap();
        assert_eq!(found.presence[0], Presence::Before);
        assert_eq!((found.left[1], found.weight[1], found.presence[1]), (0, 0.0, Presence::Inside));
        assert_eq!((found.left[2], found.weight[2]), (1, 1.0 / 3.0));
        assert_eq!((found.left[3], found.weight[3], found.presence[3]), (2, 0.0, Presence::Inside));
        assert_eq!((found.left[4], found.weight[4], found.presence[4]), (2, 0.0, Presence::Gap));
        assert_eq!((found.left[21], found.presence[21]), (3, Presence::Inside));
        assert_eq!(found.presence[26], Presence::After);
        assert_eq!(found.presence[27], Presence::Stale);
    }

    #[test]
    fn a_clock_that_is_none_is_refused_with_the_place() {
        assert_eq!(check_times(&[]), Err(TimesError::Empty));
        assert_eq!(check_times(&[1, 2, 2]), Err(TimesError::Duplicate { index: 2, time_ns: 2 }));
        assert_eq!(
            check_times(&[i64::MAX, i64::MIN]),
            Err(TimesError::Backwards { index: 1, back_ns: i64::MAX })
        );
    }

    #[test]
    fn nearest_takes_the_closer_and_on_a_tie_the_earlier() {
        let found = locate(&[0, 40 * MS, 70 * MS], &grid(100, 0, 70), 100 * MS).unwrap();
        assert_eq!(found.pick(Policy::Nearest), [0, 0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(found.pick(Policy::Hold), [0, 0, 0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn each_event_is_reported_once_by_the_first_instant_that_may_know_it() {
        let times = [0, 5 * MS, 12 * MS, 20 * MS, 33 * MS];
        let found = locate(&times, &grid(100, 0, 40), 100 * MS).unwrap();
        assert_eq!(found.any(&[true, false, true, false, true]), [true, false, true, false, true]);
        let late = locate(&times, &grid(100, 10, 40), 100 * MS).unwrap();
        assert_eq!(late.any(&[true, true, false, false, true]), [false, false, false, true]);
        let early = locate(&times, &grid(100, -20, 10), 100 * MS).unwrap();
        assert_eq!(early.any(&[true, false, true, false, false]), [false, false, true, false]);
    }

    #[test]
    fn gaps_default_to_three_periods_but_never_below_100_ms() {
        assert_eq!(default_max_gap_ns(&[0, 5 * MS, 10 * MS, 400 * MS]), 100 * MS);
        assert_eq!(default_max_gap_ns(&[0, 200 * MS, 400 * MS]), 600 * MS);
        assert_eq!(default_max_gap_ns(&[7]), 100 * MS);
    }
}
