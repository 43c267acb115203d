//! The CPU reference: rows of numbers onto a grid.
//!
//! A [`Job`] is one output column of one episode, `[rows, width]` row-major, put together from [`Part`]s: runs of
//! components that come from one feature and share one policy. Places in time were found before ([`crate::locate()`]) and
//! are only applied here. Jobs run in parallel and each is sequential inside, so the number of threads never changes a bit.
//!
//! Bytes moved per job, the floor: `rows · width · 4` written, and of the source each row once.

use rayon::prelude::*;

use crate::rotation::{self, Quaternion};
use crate::{Located, Policy, Presence, Rotation};

/// Recorded numbers, row-major `[samples, width]`.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
    /// Integers, exact up to 2^53.
    I64(&'a [i64]),
    /// Truth values as 0 and 1.
    Bool(&'a [bool]),
}

/// A run of components of one output column.
#[derive(Debug)]
pub struct Part<'a> {
    /// The recorded feature.
    pub values: Values<'a>,
    /// Values per row of the recorded feature.
    pub source_width: usize,
    /// First component taken from it.
    pub from: usize,
    /// First component written in the output column.
    pub to: usize,
    /// How many components.
    pub width: usize,
    /// How values between samples are made.
    pub policy: Policy,
    /// Where the instants fall among the samples.
    pub located: &'a Located,
    /// Whether instants outside the samples are NaN; else the nearest sample is held.
    pub nan_outside: bool,
}

/// One output column of one episode.
#[derive(Debug)]
pub struct Job<'a> {
    /// The output, row-major `[rows, width]`.
    pub out: &'a mut [f32],
    /// Values per row of the output.
    pub width: usize,
    /// Who writes which of its components.
    pub parts: Vec<Part<'a>>,
}

/// What the numbers do not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a rotation: a zero quaternion, parallel axes or a value that is not finite")]
pub struct ResampleError {
    /// Which job.
    pub job: usize,
    /// Which of its parts.
    pub part: usize,
    /// Which sample of the recorded feature.
    pub sample: usize,
}

/// Runs every job, in parallel, and returns what failed: for each failed job the first (by part, then sample) row that is
/// not a rotation under a `slerp` policy. The other jobs are complete.
///
/// # Panics
/// If a part does not fit its feature or its output: the caller's shapes are wrong.
#[must_use]
pub fn resample(jobs: &mut [Job<'_>]) -> Vec<ResampleError> {
    jobs.par_iter_mut().enumerate().filter_map(|(index, job)| run(index, job).err()).collect()
}

fn run(index: usize, job: &mut Job<'_>) -> Result<(), ResampleError> {
    for (number, part) in job.parts.iter().enumerate() {
        assert!(part.from + part.width <= part.source_width, "a part reads past its feature's row");
        assert!(part.to + part.width <= job.width, "a part writes past its column's row");
        let failed = |sample| ResampleError { job: index, part: number, sample };
        match part.values {
            Values::F32(v) => write_part(part, v, f64::from, job.out, job.width),
            Values::F64(v) => write_part(part, v, |x| x, job.out, job.width),
            #[expect(clippy::cast_precision_loss, reason = "documented: integers are exact up to 2^53")]
            Values::I64(v) => write_part(part, v, |x| x as f64, job.out, job.width),
            Values::Bool(v) => write_part(part, v, |x| f64::from(u8::from(x)), job.out, job.width),
        }
        .map_err(failed)?;
        if part.nan_outside {
            blank_outside(part, job.out, job.width);
        }
    }
    Ok(())
}

fn write_part<T: Copy + Sync>(
    part: &Part<'_>,
    source: &[T],
    to_f64: impl Fn(T) -> f64 + Copy,
    out: &mut [f32],
    out_width: usize,
) -> Result<(), usize> {
    match part.policy {
        Policy::Linear => lerp_rows(part, source, to_f64, out, out_width),
        Policy::Slerp(kind) => return slerp_rows(part, kind, source, to_f64, out, out_width),
        Policy::Hold | Policy::Nearest => pick_rows(part, source, to_f64, out, out_width),
        Policy::Any => any_rows(part, source, to_f64, out, out_width),
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "outputs are single precision")]
fn lerp_rows<T: Copy>(
    part: &Part<'_>,
    source: &[T],
    to_f64: impl Fn(T) -> f64,
    out: &mut [f32],
    out_width: usize,
) {
    let places = part.located.left.iter().zip(&part.located.weight);
    for (out, (&left, &weight)) in out.chunks_exact_mut(out_width).zip(places) {
        let out = &mut out[part.to..part.to + part.width];
        let start = left as usize * part.source_width + part.from;
        let a = &source[start..start + part.width];
        if weight == 0.0 {
            for (o, &a) in out.iter_mut().zip(a) {
                *o = to_f64(a) as f32;
            }
        } else {
            let next = start + part.source_width;
            let b = &source[next..next + part.width];
            for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
                let (a, b) = (to_f64(a), to_f64(b));
                *o = (a + weight * (b - a)) as f32;
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "outputs are single precision")]
fn pick_rows<T: Copy>(
    part: &Part<'_>,
    source: &[T],
    to_f64: impl Fn(T) -> f64,
    out: &mut [f32],
    out_width: usize,
) {
    for (out, &row) in out.chunks_exact_mut(out_width).zip(&part.located.pick(part.policy)) {
        let start = row as usize * part.source_width + part.from;
        let values = &source[start..start + part.width];
        for (o, &v) in out[part.to..part.to + part.width].iter_mut().zip(values) {
            *o = to_f64(v) as f32;
        }
    }
}

fn any_rows<T: Copy>(
    part: &Part<'_>,
    source: &[T],
    to_f64: impl Fn(T) -> f64,
    out: &mut [f32],
    out_width: usize,
) {
    for component in 0..part.width {
        let column = source.iter().skip(part.from + component).step_by(part.source_width);
        let happened: Vec<bool> = column.map(|&v| to_f64(v) != 0.0).collect();
        for (out, seen) in out.chunks_exact_mut(out_width).zip(part.located.any(&happened)) {
            out[part.to + component] = f32::from(u8::from(seen));
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "outputs are single precision")]
fn slerp_rows<T: Copy>(
    part: &Part<'_>,
    kind: Rotation,
    source: &[T],
    to_f64: impl Fn(T) -> f64 + Copy,
    out: &mut [f32],
    out_width: usize,
) -> Result<(), usize> {
    assert_eq!(part.width, kind.width(), "a slerp part is exactly one rotation wide");
    let rows = source.chunks_exact(part.source_width);
    let rows: Vec<[f64; 6]> =
        rows.map(|row| widen(&row[part.from..part.from + part.width], to_f64)).collect();
    let rotations = aligned(kind, &rows)?;
    let is_quaternion = matches!(kind, Rotation::QuaternionXyzw | Rotation::QuaternionWxyz);
    let places = part.located.left.iter().zip(&part.located.weight);
    for (out, (&left, &weight)) in out.chunks_exact_mut(out_width).zip(places) {
        let left = left as usize;
        let recorded = &rows[left][..part.width];
        let mut row = [0.0; 6];
        let row = &mut row[..part.width];
        if weight > 0.0 {
            let turned = rotation::slerp(rotations[left], rotations[left + 1], weight);
            rotation::encode(kind, turned, recorded, row);
        } else if is_quaternion {
            rotation::encode(kind, rotations[left], recorded, row);
        } else {
            row.copy_from_slice(recorded);
        }
        for (o, &v) in out[part.to..part.to + part.width].iter_mut().zip(&*row) {
            *o = v as f32;
        }
    }
    Ok(())
}

fn widen<T: Copy>(row: &[T], to_f64: impl Fn(T) -> f64) -> [f64; 6] {
    let mut out = [0.0; 6];
    for (o, &v) in out.iter_mut().zip(row) {
        *o = to_f64(v);
    }
    out
}

/// Every sample as a unit quaternion on the same half of the sphere as the one before it: drivers flip signs at will.
fn aligned(kind: Rotation, rows: &[[f64; 6]]) -> Result<Vec<Quaternion>, usize> {
    let mut out: Vec<Quaternion> = Vec::with_capacity(rows.len());
    for (sample, row) in rows.iter().enumerate() {
        let q = rotation::decode(kind, &row[..kind.width()]).ok_or(sample)?;
        let q = out.last().map_or(q, |&previous| rotation::align(q, previous));
        out.push(q);
    }
    Ok(out)
}

fn blank_outside(part: &Part<'_>, out: &mut [f32], out_width: usize) {
    for (out, presence) in out.chunks_exact_mut(out_width).zip(&part.located.presence) {
        if matches!(presence, Presence::Before | Presence::After | Presence::Stale) {
            out[part.to..part.to + part.width].fill(f32::NAN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Grid, Rate, locate};
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn part<'a>(values: Values<'a>, width: usize, policy: Policy, located: &'a Located) -> Part<'a> {
        Part { values, source_width: width, from: 0, to: 0, width, policy, located, nan_outside: false }
    }

    fn one(values: Values<'_>, width: usize, policy: Policy, located: &Located) -> Vec<f32> {
        let mut out = vec![0.0; located.left.len() * width];
        let parts = vec![part(values, width, policy, located)];
        assert_eq!(resample(&mut [Job { out: &mut out, width, parts }]), []);
        out
    }

    /// A recording's clock: strictly increasing, jittered, now and then with a hole.
    fn clock() -> impl Strategy<Value = Vec<i64>> {
        proptest::collection::vec(1i64..40 * MS, 1..80).prop_map(|steps| {
            steps
                .iter()
                .scan(0i64, |now, step| {
                    *now += step;
                    Some(*now)
                })
                .collect()
        })
    }

    fn grid_over(times: &[i64], hz: u64) -> Grid {
        Grid::spanning(Rate::new(hz, 1).unwrap(), times[0], times[times.len() - 1]).unwrap()
    }

    proptest! {
        #[test]
        fn linear_functions_are_reproduced(times in clock(), slope in -3.0f64..3.0, offset in -2.0f64..2.0) {
            let line = |t: i64| slope * (t as f64 / 1e9) + offset;
            let values: Vec<f64> = times.iter().map(|&t| line(t)).collect();
            let grid = grid_over(&times, 97);
            let found = locate(&times, &grid, i64::MAX).unwrap();
            let out = one(Values::F64(&values), 1, Policy::Linear, &found);
            for (t, got) in grid.instants_ns().zip(out) {
                // Within one unit in the last place of single precision at this magnitude.
                prop_assert!((f64::from(got) - line(t)).abs() <= 6.0 * f64::from(f32::EPSILON));
            }
        }

        #[test]
        fn constants_stay_constant(times in clock(), value in any::<f32>().prop_filter("finite", |v| v.is_finite())) {
            let found = locate(&times, &grid_over(&times, 200), 15 * MS).unwrap();
            for policy in [Policy::Linear, Policy::Hold, Policy::Nearest] {
                let out = one(Values::F32(&vec![value; times.len()]), 1, policy, &found);
                prop_assert!(out.iter().all(|&v| v == value));
            }
        }

        /// A grid whose instants are the samples gives the samples back, bit for bit, whatever the policy.
        #[test]
        fn resampling_at_the_samples_is_the_identity(values in proptest::collection::vec(-10.0f32..10.0, 2..60)) {
            let rate = Rate::new(50, 1).unwrap();
            let times: Vec<i64> = (0..values.len() as u64).map(|k| rate.instant_ns(k).unwrap()).collect();
            let found = locate(&times, &grid_over(&times, 50), 100 * MS).unwrap();
            for policy in [Policy::Linear, Policy::Hold, Policy::Nearest] {
                prop_assert_eq!(&one(Values::F32(&values), 1, policy, &found), &values);
            }
            let vectors: Vec<f32> = values.iter().flat_map(|&v| [v / 4.0, 0.1, -v / 5.0]).collect();
            for kind in [Rotation::RotationVector, Rotation::Rpy] {
                prop_assert_eq!(&one(Values::F32(&vectors), 3, Policy::Slerp(kind), &found), &vectors);
            }
        }

        /// Sign flips, wrong lengths and any step: unit length, no jump, constant speed about the axis.
        #[test]
        fn slerp_sees_through_sign_flips(times in clock(), speed in 0.1f64..3.0, flips in any::<u64>(), scale in 0.5f64..2.0) {
            let turned = |t: i64| speed * (t as f64 / 1e9) / 2.0;
            let rows: Vec<f64> = times.iter().enumerate().flat_map(|(i, &t)| {
                let sign = if flips >> (i % 64) & 1 == 1 { -scale } else { scale };
                [0.0, 0.0, sign * turned(t).sin(), sign * turned(t).cos()]
            }).collect();
            let grid = grid_over(&times, 100);
            let found = locate(&times, &grid, i64::MAX).unwrap();
            let out = one(Values::F64(&rows), 4, Policy::Slerp(Rotation::QuaternionXyzw), &found);
            let mut previous: Option<&[f32]> = None;
            for (t, q) in grid.instants_ns().zip(out.chunks(4)) {
                let norm: f32 = q.iter().map(|v| v * v).sum();
                prop_assert!((norm - 1.0).abs() < 1e-6);
                let expected = [turned(t).sin(), turned(t).cos()];
                let same = (f64::from(q[2]) * expected[0] + f64::from(q[3]) * expected[1]).abs();
                prop_assert!(same > 1.0 - 1e-6, "{q:?} at {t}");
                if let Some(p) = previous {
                    prop_assert!(p.iter().zip(q).map(|(a, b)| a * b).sum::<f32>() > 0.0, "a jump at {t}");
                }
                previous = Some(q);
            }
        }

        #[test]
        fn the_number_of_threads_never_changes_a_bit(times in clock(), seed in any::<u64>()) {
            let values: Vec<f64> = (0..times.len() * 4).map(|i| ((i as u64 ^ seed) as f64).sin() + 1.5).collect();
            let found = locate(&times, &grid_over(&times, 333), 100 * MS).unwrap();
            let run_with = |threads| {
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                    let mut outs = vec![vec![0.0; found.left.len() * 4]; 8];
                    let mut jobs: Vec<Job> = outs.iter_mut().enumerate().map(|(i, out)| Job {
                        out, width: 4,
                        parts: vec![part(Values::F64(&values), 4,
                            if i % 2 == 0 { Policy::Linear } else { Policy::Slerp(Rotation::QuaternionWxyz) }, &found)],
                    }).collect();
                    assert_eq!(resample(&mut jobs), []);
                    outs.concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
                })
            };
            prop_assert_eq!(run_with(1), run_with(5));
        }
    }

    #[test]
    fn one_column_is_put_together_from_several_streams() {
        let grid = Grid::spanning(Rate::new(100, 1).unwrap(), 0, 20 * MS).unwrap();
        let (slow, fast) = ([0, 20 * MS], [0, 5 * MS, 10 * MS, 15 * MS, 20 * MS]);
        let (slow_at, fast_at) =
            (locate(&slow, &grid, 100 * MS).unwrap(), locate(&fast, &grid, 100 * MS).unwrap());
        let mut out = vec![0.0; 9];
        let parts = vec![
            Part { to: 1, width: 2, ..part(Values::F32(&[1.0, 2.0, 3.0, 4.0]), 2, Policy::Linear, &slow_at) },
            Part {
                from: 1,
                width: 1,
                ..part(Values::I64(&[0, 10, 0, 11, 0, 12, 0, 13, 0, 14]), 2, Policy::Hold, &fast_at)
            },
        ];
        assert_eq!(resample(&mut [Job { out: &mut out, width: 3, parts }]), []);
        assert_eq!(out, [10.0, 1.0, 2.0, 12.0, 2.0, 3.0, 14.0, 3.0, 4.0]);
    }

    #[test]
    fn a_gap_is_held_not_bridged_and_the_outside_can_be_nan() {
        let grid = Grid::spanning(Rate::new(10, 1).unwrap(), -100 * MS, 500 * MS).unwrap();
        let found = locate(&[0, 300 * MS, 400 * MS], &grid, 100 * MS).unwrap();
        let mut out = vec![0.0; 7];
        let parts = vec![Part {
            nan_outside: true,
            ..part(Values::F32(&[1.0, 4.0, 5.0]), 1, Policy::Linear, &found)
        }];
        assert_eq!(resample(&mut [Job { out: &mut out, width: 1, parts }]), []);
        assert!(out[0].is_nan() && out[6].is_nan());
        assert_eq!(out[1..6], [1.0, 1.0, 1.0, 4.0, 5.0]);
    }

    #[test]
    fn a_row_that_is_no_rotation_is_named() {
        let grid = Grid::spanning(Rate::new(10, 1).unwrap(), 0, 200 * MS).unwrap();
        let found = locate(&[0, 100 * MS, 200 * MS], &grid, 100 * MS).unwrap();
        let values = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        let mut out = vec![0.0; 12];
        let parts = vec![part(Values::F32(&values), 4, Policy::Slerp(Rotation::QuaternionXyzw), &found)];
        let errors = resample(&mut [Job { out: &mut out, width: 4, parts }]);
        assert_eq!(errors, [ResampleError { job: 0, part: 0, sample: 1 }]);
    }
}
