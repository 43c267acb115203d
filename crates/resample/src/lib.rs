//! Irregular samples onto one exact time grid.
//!
//! Three steps, each used on its own: a [`Grid`] says which instants there are, [`locate()`] finds every instant among
//! a stream's samples (once per stream, by one merge scan, since both are sorted), and a [`Policy`] turns places into
//! values: [`resample`] for numbers, [`Located::pick`] for whatever can only be chosen, [`Located::any`] for events.
//!
//! Time is `i64` nanoseconds throughout; a rate is an exact fraction, so a grid never drifts. Arithmetic is `f64` with
//! transcendentals from `libm`, so the same input gives the same bits on every machine and for any number of threads.
//!
//! Invariants, as absences: nothing here knows what a file, a topic or a dataset is; nothing reads a clock; no value is
//! invented before a stream's first sample or across a gap longer than the caller allows.

mod cpu;
mod grid;
mod locate;
mod policy;
mod rotation;

pub use cpu::{Job, Part, ResampleError, Values, resample};
pub use grid::{Grid, Rate, RateError};
pub use locate::{Located, Presence, TimesError, check_times, default_max_gap_ns, locate, median_period_ns};
pub use policy::{Policy, PolicyError, Rotation};
