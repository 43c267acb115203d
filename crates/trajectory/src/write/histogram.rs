//! Histograms: what the quantiles of the whole dataset come from.
//!
//! Pass 2 knows the extent of every component, so all files share one set of bins and their histograms add up exactly.
//! [`ColumnRanges`] comes from the summaries, [`Histograms`] from each rewritten file, and [`Histograms::merge`] in
//! any order gives the same counts.
//!
//! Error: a quantile is within `(max - min) / 5000` of the exact one; integers that span fewer than 5000 values have a
//! bin each and are exact.

use serde::{Deserialize, Serialize};

use super::stats::{self, Moments};
use super::{ShardSummary, WriteError};
use crate::{Dtype, Schema};

/// Bins of a histogram, as many as lerobot 0.4.4 has.
pub const BINS: usize = 5000;

/// The extent of one component over the whole dataset, cut into [`BINS`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extent {
    min: f64,
    max: f64,
    /// Bins per unit.
    scale: f64,
    /// Each bin holds one integer.
    integers: bool,
}

impl Extent {
    pub(super) fn new(moments: &Moments, integers: bool) -> Self {
        let (min, max) = (moments.min, moments.max);
        let integers = integers && max - min < BINS as f64;
        Self { min, max, scale: if integers { 1.0 } else { BINS as f64 / (max - min) }, integers }
    }

    fn bin(&self, value: f64) -> usize {
        // A float that no integer can hold saturates, and NaN (an extent of zero) becomes bin 0.
        (((value - self.min) * self.scale) as usize).min(BINS - 1)
    }

    /// An estimate of the value that is `place`th of `count` in `bin`.
    fn value(&self, bin: usize, place: u64, count: u64) -> f64 {
        if self.integers {
            return self.min + bin as f64;
        }
        let within = (place as f64 + 0.5) / count as f64;
        (self.min + (bin as f64 + within) / self.scale).max(self.min).min(self.max)
    }
}

/// The smallest and largest value of every float and integer component over the whole dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnRanges {
    /// Per column of the schema; `None` where there are no numbers to bin.
    pub(super) columns: Vec<Option<Vec<Extent>>>,
}

impl ColumnRanges {
    /// The ranges over all shards.
    ///
    /// # Errors
    /// If a summary was not made with `schema`.
    pub fn new(schema: &Schema, shards: &[ShardSummary]) -> Result<Self, WriteError> {
        let moments = super::merged::merged_moments(schema, shards)?;
        let columns = schema.columns.iter().zip(moments).map(|(spec, moments)| {
            let integers = match spec.dtype {
                Dtype::Float32 => false,
                Dtype::Int64 => true,
                _ => return None,
            };
            moments.map(|all| all.components.iter().map(|m| Extent::new(m, integers)).collect())
        });
        Ok(Self { columns: columns.collect() })
    }
}

/// Counts per bin of one component. In JSON a list of numbers in pairs: bins skipped, then the count of the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<u64>", try_from = "Vec<u64>")]
pub struct Histogram {
    bins: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { bins: vec![0; BINS] }
    }
}

impl From<Histogram> for Vec<u64> {
    fn from(histogram: Histogram) -> Self {
        let mut out = Self::new();
        let mut skipped = 0;
        for count in histogram.bins {
            if count == 0 {
                skipped += 1;
            } else {
                out.extend([skipped, count]);
                skipped = 0;
            }
        }
        out
    }
}

impl TryFrom<Vec<u64>> for Histogram {
    type Error = String;

    fn try_from(pairs: Vec<u64>) -> Result<Self, String> {
        let mut out = Self::default();
        let mut next = 0_usize;
        for pair in pairs.chunks(2) {
            let &[skipped, count] = pair else { return Err("histogram has half a pair".to_owned()) };
            let bin = usize::try_from(skipped).ok().and_then(|skipped| next.checked_add(skipped));
            let slot = bin.and_then(|bin| out.bins.get_mut(bin));
            *slot.ok_or_else(|| format!("histogram has more than {BINS} bins"))? = count;
            next = bin.unwrap_or(BINS) + 1;
        }
        Ok(out)
    }
}

impl Histogram {
    pub(super) fn add(&mut self, extent: &Extent, value: f64) {
        self.bins[extent.bin(value)] += 1;
    }

    /// The [`stats::QUANTILES`] of what was counted.
    fn quantiles(&self, extent: &Extent) -> [f64; 5] {
        let up_to: Vec<u64> = self
            .bins
            .iter()
            .scan(0_u64, |sum, &count| {
                *sum = sum.saturating_add(count);
                Some(*sum)
            })
            .collect();
        let total = up_to.last().copied().unwrap_or(0);
        stats::quantiles(total, |rank| {
            let bin = up_to.partition_point(|&up_to| up_to <= rank).min(BINS - 1);
            let before = up_to[bin] - self.bins[bin];
            extent.value(bin, rank - before, self.bins[bin].max(1))
        })
    }
}

/// The histograms of one file, or of several merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histograms {
    /// Per column of the schema, per component; `None` for columns without numbers.
    columns: Vec<Option<Vec<Histogram>>>,
}

impl Histograms {
    /// Empty histograms for `ranges`.
    #[must_use]
    pub fn new(ranges: &ColumnRanges) -> Self {
        let empty = |extents: &Vec<Extent>| vec![Histogram::default(); extents.len()];
        Self { columns: ranges.columns.iter().map(|c| c.as_ref().map(empty)).collect() }
    }

    pub(super) fn column_mut(&mut self, column: usize) -> Option<&mut Vec<Histogram>> {
        self.columns.get_mut(column)?.as_mut()
    }

    /// Adds the counts of `other`.
    ///
    /// # Errors
    /// If it is about other columns.
    pub fn merge(&mut self, other: &Self) -> Result<(), WriteError> {
        let shape = |h: &Self| h.columns.iter().map(|c| c.as_ref().map(Vec::len)).collect::<Vec<_>>();
        if shape(self) != shape(other) {
            return Err(WriteError::Staged("two histograms are about different columns".to_owned()));
        }
        let pairs = self.columns.iter_mut().flatten().flatten().zip(other.columns.iter().flatten().flatten());
        for (mine, theirs) in pairs {
            for (mine, theirs) in mine.bins.iter_mut().zip(&theirs.bins) {
                *mine = mine.saturating_add(*theirs);
            }
        }
        Ok(())
    }

    /// The quantiles of component `component` of column `column`, whose extent follows from `moments`.
    pub(super) fn quantiles(
        &self,
        (column, component): (usize, usize),
        moments: &Moments,
        integers: bool,
    ) -> Result<[f64; 5], WriteError> {
        let histogram = self.columns.get(column).and_then(|c| c.as_ref()?.get(component));
        let counted = histogram.map_or(0, |h| h.bins.iter().fold(0_u64, |sum, &n| sum.saturating_add(n)));
        match histogram {
            Some(histogram) if counted == moments.valid => {
                Ok(histogram.quantiles(&Extent::new(moments, integers)))
            }
            _ => Err(WriteError::Staged(format!(
                "histograms of column {column} hold {counted} values and not {}: a file is missing or counted twice",
                moments.valid
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(values: &[f64], extent: &Extent) -> Histogram {
        let mut out = Histogram::default();
        for &value in values {
            out.add(extent, value);
        }
        out
    }

    fn moments(values: &[f64]) -> Moments {
        let fold = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap();
        Moments { valid: values.len() as u64, min: fold(f64::min), max: fold(f64::max), mean: 0.0, m2: 0.0 }
    }

    #[test]
    fn json_is_sparse_and_exact() {
        let extent = Extent::new(&moments(&[0.0, 1.0]), false);
        let full = histogram(&[0.0, 0.0, 0.5, 1.0], &extent);
        let json = serde_json::to_string(&full).unwrap();
        assert_eq!(json, "[0,2,2499,1,2498,1]");
        assert_eq!(serde_json::from_str::<Histogram>(&json).unwrap(), full);
    }

    #[test]
    fn hostile_json_is_refused() {
        for json in ["[1]", "[5000,1]", "[18446744073709551615,1,0,1]", "[4999,1,0,1]"] {
            assert!(serde_json::from_str::<Histogram>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_constant_has_its_value_at_every_quantile() {
        let extent = Extent::new(&moments(&[0.3]), false);
        assert_eq!(histogram(&[0.3; 7], &extent).quantiles(&extent), [0.3; 5]);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_bin(values in prop::collection::vec(-1e3..1e3_f64, 1..300)) {
            let extent = Extent::new(&moments(&values), false);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let want = stats::quantiles(sorted.len() as u64, |rank| sorted[rank as usize]);
            let width = (extent.max - extent.min) / BINS as f64;
            for (got, want) in histogram(&values, &extent).quantiles(&extent).into_iter().zip(want) {
                prop_assert!((got - want).abs() <= width * (1.0 + 1e-9), "{} {}", got, want);
            }
        }

        #[test]
        fn few_integers_are_exact(values in prop::collection::vec(-2000..2000_i32, 1..300)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let extent = Extent::new(&moments(&values), true);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let want = stats::quantiles(sorted.len() as u64, |rank| sorted[rank as usize]);
            prop_assert_eq!(histogram(&values, &extent).quantiles(&extent), want);
        }
    }
}
