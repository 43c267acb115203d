//! Grids: exact rational rates, and the instants they put on a clock.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

const NANOSECONDS: i128 = 1_000_000_000;

/// Largest numerator and denominator of a rate, after reduction: products with any `i64` time stay within `i128`.
const MAX_TERM: u64 = 1_000_000_000_000;

/// An exact rate in hertz, `numerator / denominator` in lowest terms.
///
/// Written `50`, `29.97` (exactly 2997/100) or `30000/1001`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    numerator: NonZeroU64,
    denominator: NonZeroU64,
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a rate: write hertz as `50`, `29.97` or `30000/1001`, above 0 and below 10^12")]
pub struct RateError {
    text: String,
}

impl Rate {
    /// `numerator / denominator` hertz; `None` if either is 0 or, reduced, above 10^12.
    #[must_use]
    pub fn new(numerator: u64, denominator: u64) -> Option<Self> {
        let divisor = gcd(numerator, denominator);
        if divisor == 0 {
            return None;
        }
        let (n, d) = (numerator / divisor, denominator / divisor);
        if n > MAX_TERM || d > MAX_TERM {
            return None;
        }
        Some(Self { numerator: NonZeroU64::new(n)?, denominator: NonZeroU64::new(d)? })
    }

    /// Instant `k` of a grid that starts at 0: `round(k · denominator · 10^9 / numerator)` nanoseconds, halves up;
    /// `None` past the end of `i64` (292 years).
    #[must_use]
    pub fn instant_ns(self, k: u64) -> Option<i64> {
        let (n, d) = (i128::from(self.numerator.get()), i128::from(self.denominator.get()));
        let doubled = i128::from(k).checked_mul(d)?.checked_mul(2 * NANOSECONDS)?;
        i64::try_from((doubled + n) / (2 * n)).ok()
    }

    /// How many instants of a grid that starts at 0 lie in `[0, span_ns]`; 0 for a negative span.
    #[must_use]
    pub fn instants_within(self, span_ns: i64) -> u64 {
        if span_ns < 0 {
            return 0;
        }
        // instant(k) <= span  <=>  (2·k·d·1e9 + n) / (2n) < span + 1  <=>  2·k·d·1e9 < 2n·span + n
        let (n, d) = (i128::from(self.numerator.get()), i128::from(self.denominator.get()));
        let bound = 2 * n * i128::from(span_ns) + n;
        let step = 2 * d * NANOSECONDS;
        u64::try_from((bound + step - 1) / step).unwrap_or(u64::MAX)
    }

    /// The rate as a whole number of hertz, if it is one.
    #[must_use]
    pub fn as_integer(self) -> Option<u64> {
        (self.denominator.get() == 1).then_some(self.numerator.get())
    }

    /// Numerator and denominator, in lowest terms.
    #[must_use]
    pub fn as_fraction(self) -> (NonZeroU64, NonZeroU64) {
        (self.numerator, self.denominator)
    }

    /// The nearest `f64`, in hertz. For display and for formats that store seconds; never for the grid itself.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "terms are at most 10^12, exact in f64")]
    pub fn as_f64(self) -> f64 {
        self.numerator.get() as f64 / self.denominator.get() as f64
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        parse(text.trim()).ok_or_else(|| RateError { text: text.into() })
    }
}

fn parse(text: &str) -> Option<Rate> {
    let digits =
        |s: &str| (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse::<u64>().ok())?;
    if let Some((numerator, denominator)) = text.split_once('/') {
        return Rate::new(digits(numerator.trim())?, digits(denominator.trim())?);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction = fraction.trim_end_matches('0');
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let tail = if fraction.is_empty() { 0 } else { digits(fraction)? };
    Rate::new(digits(whole)?.checked_mul(scale)?.checked_add(tail)?, scale)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator.get() {
            1 => write!(f, "{}", self.numerator),
            d => write!(f, "{}/{d}", self.numerator),
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The instants of one episode: `start_ns + rate.instant_ns(k)` for `k` in `0..rows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    rate: Rate,
    start_ns: i64,
    rows: usize,
}

impl Grid {
    /// All instants of `rate` from `start_ns` through `end_ns`, both included; empty if the end comes first.
    ///
    /// `None` if that is more instants than a `u32` counts, which no episode has.
    #[must_use]
    pub fn spanning(rate: Rate, start_ns: i64, end_ns: i64) -> Option<Self> {
        let rows = match end_ns.checked_sub(start_ns) {
            Some(span) => rate.instants_within(span),
            None if end_ns < start_ns => 0,
            None => return None,
        };
        let rows = usize::try_from(u32::try_from(rows).ok()?).ok()?;
        Some(Self { rate, start_ns, rows })
    }

    /// Number of instants.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The first instant, were there one.
    #[must_use]
    pub fn start_ns(&self) -> i64 {
        self.start_ns
    }

    /// The rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// The instants in order, in nanoseconds on the streams' clock.
    pub fn instants_ns(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.rows as u64).map(|k| {
            let offset = self.rate.instant_ns(k).expect("instants within the span fit i64");
            self.start_ns + offset
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn decimal_rates_are_exact_fractions() {
        assert_eq!(rate("50.0"), Rate::new(50, 1).unwrap());
        assert_eq!(rate("29.97"), Rate::new(2997, 100).unwrap());
        assert_eq!(rate("60000/2002").to_string(), "30000/1001");
        assert_eq!(rate("3.75").to_string(), "15/4");
        for bad in ["", "0", "-5", "nan", "1e3", "5/0", "1/", ".5", "5.", "99999999999999999999", "٣"] {
            match bad {
                "5." => assert_eq!(rate(bad), rate("5")),
                _ => assert!(bad.parse::<Rate>().is_err(), "{bad}"),
            }
        }
    }

    /// Ten hours of NTSC video: every instant is the nearest nanosecond of the real one, so nothing accumulates.
    #[test]
    fn hours_of_fractional_rates_never_drift() {
        for (text, n, d) in [("29.97", 2997i128, 100i128), ("30000/1001", 30000, 1001)] {
            let r = rate(text);
            let hours = r.instants_within(10 * 3600 * 1_000_000_000);
            for k in (0..hours).step_by(997).chain(hours - 3..hours) {
                let error = i128::from(r.instant_ns(k).unwrap()) * n - i128::from(k) * d * NANOSECONDS;
                assert!(2 * error.abs() <= n, "instant {k} of {text} is off by {error}/{n} ns");
            }
        }
        assert_eq!(rate("30000/1001").instant_ns(30_000), Some(1_001_000_000_000));
        assert_eq!(rate("29.97").instant_ns(2997 * 3600), Some(360_000_000_000_000));
    }

    #[test]
    fn a_grid_covers_its_span_and_no_more() {
        let grid = Grid::spanning(rate("50"), 7, 7 + 100_000_000).unwrap();
        assert_eq!(
            grid.instants_ns().collect::<Vec<_>>(),
            [7, 20_000_007, 40_000_007, 60_000_007, 80_000_007, 100_000_007]
        );
        assert_eq!(Grid::spanning(rate("50"), 7, 6).unwrap().rows(), 0);
        assert_eq!(Grid::spanning(rate("50"), i64::MAX, i64::MIN).unwrap().rows(), 0);
        assert!(Grid::spanning(rate("1000"), i64::MIN, i64::MAX).is_none());
    }

    proptest! {
        #[test]
        fn counting_instants_agrees_with_placing_them(n in 1u64..100_000, d in 1u64..5_000, span in 0i64..1_000_000_000_000) {
            let r = Rate::new(n, d).unwrap();
            let count = r.instants_within(span);
            prop_assert!(count >= 1);
            prop_assert!(r.instant_ns(count - 1).unwrap() <= span);
            prop_assert!(r.instant_ns(count).unwrap() > span);
        }

        #[test]
        fn text_round_trips(n in 1u64..1_000_000, d in 1u64..1_000_000) {
            let r = Rate::new(n, d).unwrap();
            prop_assert_eq!(rate(&r.to_string()), r);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Rate>();
        }
    }
}
