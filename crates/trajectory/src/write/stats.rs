//! Statistics of columns: per episode exactly, and merged over episodes.
//!
//! Follows what training code expects of LeRobot (lerobot 0.4.4, `datasets/compute_stats.py`): minimum, maximum,
//! mean, population standard deviation and the quantiles 1, 10, 50, 90 and 99 %, one value per *component*. The
//! components of a row are its last dimension: a `[2, 3]` feature has three, each pooled over both rows, since that is
//! the shape a policy's normalisation broadcasts. Where lerobot estimates the quantiles of an episode with a histogram,
//! these are exact, by sorting, with the linear interpolation of `numpy.quantile`.
//!
//! Invariants: masked rows and non-finite values take no part and are counted; every number that leaves is finite, so
//! that JSON can hold it; merging in a fixed order gives the same bits wherever it runs.

use serde::{Deserialize, Serialize};

/// The quantiles every summary holds, in order: `q01`, `q10`, `q50`, `q90`, `q99`.
pub const QUANTILES: [f64; 5] = [0.01, 0.10, 0.50, 0.90, 0.99];

/// The names of [`QUANTILES`] in files.
pub(super) const QUANTILE_NAMES: [&str; 5] = ["q01", "q10", "q50", "q90", "q99"];

/// Count, extent, mean and spread of one component.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// Finite values in rows that are not masked.
    pub valid: u64,
    /// The smallest of them; 0 where there is none, as for the other fields.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The sum of squared deviations from the mean.
    pub m2: f64,
}

impl Moments {
    /// Moments of `values`, two passes in order.
    fn of<T: Copy>(values: &[T], value: impl Fn(T) -> f64) -> Self {
        let Some(&first) = values.first() else { return Self::default() };
        let first = value(first);
        let (mut min, mut max, mut sum) = (first, first, 0.0);
        for x in values.iter().map(|&v| value(v)) {
            min = min.min(x);
            max = max.max(x);
            sum += x;
        }
        let valid = values.len() as u64;
        if min == max {
            // Rounding in the sum must not give a constant a spread that a policy would divide by.
            return Self { valid, min, max, mean: min, m2: 0.0 };
        }
        let mean = sum / valid as f64;
        let m2 = values.iter().map(|&v| (value(v) - mean) * (value(v) - mean)).sum();
        Self { valid, min, max, mean, m2 }
    }

    /// The population standard deviation.
    #[must_use]
    pub fn std(&self) -> f64 {
        if self.valid == 0 { 0.0 } else { (self.m2 / self.valid as f64).sqrt() }
    }

    /// Adds the values that `other` summarises: the parallel formula of Chan, Golub and LeVeque (1979).
    pub fn merge(&mut self, other: &Self) {
        if other.valid == 0 {
            return;
        }
        if self.valid == 0 {
            *self = *other;
            return;
        }
        let (a, b) = (self.valid as f64, other.valid as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * (b / (a + b));
        self.m2 += other.m2 + delta * delta * (a * b / (a + b));
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.valid = self.valid.saturating_add(other.valid);
    }
}

/// Statistics of one component over one episode. In JSON a pair, since a marker holds thousands: the count, and the
/// list of minimum, maximum, mean, sum of squared deviations and the quantiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "(u64, [f64; 9])", from = "(u64, [f64; 9])")]
pub struct ComponentStats {
    /// Count, extent, mean and spread.
    pub moments: Moments,
    /// The [`QUANTILES`].
    pub quantiles: [f64; 5],
}

impl From<ComponentStats> for (u64, [f64; 9]) {
    fn from(ComponentStats { moments, quantiles }: ComponentStats) -> Self {
        let Moments { valid, min, max, mean, m2 } = moments;
        let [q01, q10, q50, q90, q99] = quantiles;
        (valid, [min, max, mean, m2, q01, q10, q50, q90, q99])
    }
}

impl From<(u64, [f64; 9])> for ComponentStats {
    fn from((valid, [min, max, mean, m2, quantiles @ ..]): (u64, [f64; 9])) -> Self {
        Self { moments: Moments { valid, min, max, mean, m2 }, quantiles }
    }
}

/// Statistics of one column over one episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnStats {
    /// Rows that are not masked; for images, frames that were sampled.
    pub rows: u64,
    /// One per component; for images one per colour channel, in `[0, 1]`.
    pub components: Vec<ComponentStats>,
}

/// Values of a numeric column that can be ordered.
pub(super) trait Scalar: Copy {
    /// An ordered stand-in for a finite value.
    type Key: Ord + Copy;
    /// `None` if the value is not finite.
    fn key(self) -> Option<Self::Key>;
    /// The value of a key.
    fn value(key: Self::Key) -> f64;
}

impl Scalar for f32 {
    type Key = u32;

    fn key(self) -> Option<u32> {
        // Floats of one sign order like their bits, so flipping the right ones orders all of them: integers sort
        // several times faster than floats under a comparison function.
        let bits = self.to_bits();
        self.is_finite().then_some(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
    }

    fn value(key: u32) -> f64 {
        f64::from(Self::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key }))
    }
}

impl Scalar for i64 {
    type Key = Self;

    fn key(self) -> Option<Self> {
        Some(self)
    }

    fn value(key: Self) -> f64 {
        key as f64
    }
}

impl Scalar for bool {
    type Key = Self;

    fn key(self) -> Option<Self> {
        Some(self)
    }

    fn value(key: Self) -> f64 {
        f64::from(u8::from(key))
    }
}

/// Statistics of `values`, row-major `[masked.len(), width]`, for `components` components.
pub(super) fn column<T: Scalar>(
    values: &[T],
    width: usize,
    components: usize,
    masked: &[bool],
) -> ColumnStats {
    let mut keys = Vec::with_capacity(values.len() / components.max(1));
    let components = (0..components)
        .map(|component| {
            keys.clear();
            for (row, _) in masked.iter().enumerate().filter(|(_, masked)| !**masked) {
                let row = &values[row * width..(row + 1) * width];
                keys.extend(row[component..].iter().step_by(components).filter_map(|v| v.key()));
            }
            // The moments come before the sort, in row order.
            let moments = Moments::of(&keys, T::value);
            keys.sort_unstable();
            let quantiles = quantiles(keys.len() as u64, |rank| T::value(keys[rank as usize]));
            ComponentStats { moments, quantiles }
        })
        .collect();
    ColumnStats { rows: masked.iter().filter(|masked| !**masked).count() as u64, components }
}

/// The [`QUANTILES`] of `count` values of which `order(rank)` is the one at `rank`, from 0, in ascending order.
/// Interpolates as `numpy.quantile` does by default; zeros if there is no value.
pub(super) fn quantiles(count: u64, order: impl Fn(u64) -> f64) -> [f64; 5] {
    QUANTILES.map(|q| {
        let Some(last) = count.checked_sub(1) else { return 0.0 };
        let place = q * last as f64;
        let rank = (place.floor() as u64).min(last);
        let (low, high) = (order(rank), order((rank + 1).min(last)));
        let weight = place - rank as f64;
        // numpy interpolates from the nearer end, which keeps the result within both.
        if weight < 0.5 { low + (high - low) * weight } else { high - (high - low) * (1.0 - weight) }
    })
}

/// Statistics over a set of `(value, times)` pairs in ascending order of value.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Values with how many were counted up to and including each.
    steps: Vec<(f64, u64)>,
    moments: Moments,
}

impl Counted {
    /// `pairs` ascend.
    pub(super) fn new(pairs: impl Iterator<Item = (f64, u64)>) -> Self {
        let mut out = Self::default();
        for (value, times) in pairs.filter(|&(_, times)| times > 0) {
            out.moments.merge(&Moments { valid: times, min: value, max: value, mean: value, m2: 0.0 });
            out.steps.push((value, out.moments.valid));
        }
        out
    }

    pub(super) fn stats(&self) -> ComponentStats {
        let order = |rank| {
            let at = self.steps.partition_point(|&(_, up_to)| up_to <= rank);
            self.steps.get(at).map_or(0.0, |&(value, _)| value)
        };
        ComponentStats { moments: self.moments, quantiles: quantiles(self.moments.valid, order) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Straight from the definitions, in f64.
    fn naive(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
    }

    fn close(a: f64, b: f64, scale: f64) -> bool {
        (a - b).abs() <= 1e-12 * scale.max(1.0)
    }

    #[test]
    fn components_are_the_last_dimension() {
        // Two rows of shape [2, 3].
        let values: Vec<f32> = (0_u8..12).map(f32::from).collect();
        let stats = column(&values, 6, 3, &[false, false]);
        assert_eq!(stats.rows, 2);
        let means: Vec<f64> = stats.components.iter().map(|c| c.moments.mean).collect();
        assert_eq!(means, [4.5, 5.5, 6.5]);
        assert_eq!(stats.components[0].moments.valid, 4);
    }

    #[test]
    fn masked_rows_and_nan_are_left_out_and_counted() {
        let values = [1.0, f32::NAN, f32::INFINITY, 3.0, 100.0];
        let stats = column(&values, 1, 1, &[false, false, false, false, true]);
        let moments = stats.components[0].moments;
        assert_eq!((stats.rows, moments.valid), (4, 2));
        assert_eq!((moments.min, moments.max, moments.mean, moments.std()), (1.0, 3.0, 2.0, 1.0));
    }

    #[test]
    fn nothing_valid_gives_zeros() {
        let stats = column(&[f32::NAN], 1, 1, &[false]);
        assert_eq!(stats.components[0], ComponentStats { moments: Moments::default(), quantiles: [0.0; 5] });
        assert_eq!(column::<f32>(&[5.0], 1, 1, &[true]).rows, 0);
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([3, 1, 4, 1, 5, 9, 2, 6], [.01, .1, .5, .9, .99])
        let stats = column(&[3_i64, 1, 4, 1, 5, 9, 2, 6], 1, 1, &[false; 8]);
        let want = [1.0, 1.0, 3.5, 6.9, 8.79];
        for (got, want) in stats.components[0].quantiles.into_iter().zip(want) {
            assert!(close(got, want, 10.0), "{got} {want}");
        }
    }

    #[test]
    fn a_constant_has_no_spread() {
        let moments = column(&[0.1_f32; 1000], 1, 1, &[false; 1000]).components[0].moments;
        assert_eq!((moments.mean, moments.std()), (f64::from(0.1_f32), 0.0));
    }

    proptest! {
        #[test]
        fn keys_order_floats(a in any::<f32>(), b in any::<f32>()) {
            if let (Some(ka), Some(kb)) = (a.key(), b.key()) {
                prop_assert_eq!(f32::value(ka), f64::from(a));
                if a < b { prop_assert!(ka < kb); }
            }
        }

        #[test]
        fn merging_parts_gives_the_whole(
            parts in prop::collection::vec(prop::collection::vec(-1e6_f32..1e6, 0..40), 1..8),
        ) {
            let mut merged = Moments::default();
            for part in &parts {
                merged.merge(&column(part, 1, 1, &vec![false; part.len()]).components[0].moments);
            }
            let all: Vec<f64> = parts.concat().into_iter().map(f64::from).collect();
            prop_assert_eq!(merged.valid, all.len() as u64);
            if !all.is_empty() {
                let (mean, std) = naive(&all);
                prop_assert!(close(merged.mean, mean, 1e6) && close(merged.std(), std, 1e9));
                prop_assert_eq!(merged.min, all.iter().copied().fold(f64::INFINITY, f64::min));
                prop_assert_eq!(merged.max, all.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            }
        }

        #[test]
        fn counted_equals_the_values_written_out(times in prop::collection::vec(0_u64..5, 1..20)) {
            let counted = Counted::new(times.iter().enumerate().map(|(v, &n)| (v as f64, n))).stats();
            let written: Vec<i64> =
                times.iter().enumerate().flat_map(|(v, &n)| vec![v as i64; n as usize]).collect();
            let want = column(&written, 1, 1, &vec![false; written.len()]).components[0];
            prop_assert_eq!(counted.quantiles, want.quantiles);
            prop_assert!(close(counted.moments.mean, want.moments.mean, 20.0));
            prop_assert!(close(counted.moments.m2, want.moments.m2, 20_000.0));
        }
    }
}
