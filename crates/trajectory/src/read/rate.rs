//! Nominal sampling rates, as exact fractions.
//!
//! Some formats record no instants: row `k` was sampled at the k-th tick of a rate stated elsewhere. A rate is kept as
//! the fraction it is (`3.75` = 15/4, `30000/1001`), so instant `k` is computed from `k` alone and never drifts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Largest numerator and denominator, which bounds every product below in 128 bits: 2^64 · 10^9 · 10^9 · 2 < 2^127.
const TERM_MAX: u64 = 1_000_000_000;
/// Rates outside these bounds are typing errors: one sample in about 17 minutes, and a million a second.
const RATE_HZ_MIN: (u64, u64) = (1, 1_000);
const RATE_HZ_MAX: (u64, u64) = (1_000_000, 1);

/// A sampling rate in hertz as a fraction in lowest terms, between 0.001 Hz and 1 MHz.
///
/// It is written `5`, `3.75` or `30000/1001`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceRate {
    numerator: u64,
    denominator: u64,
}

/// Why a text or a fraction is not a [`SourceRate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The text is neither a whole number, nor a decimal, nor a fraction.
    #[error("`{0}` is not a rate: write hertz as 5, 3.75 or 30000/1001")]
    Syntax(String),
    /// The number is a rate no robot has.
    #[error("a rate of {0} Hz is outside 0.001 Hz to 1 MHz")]
    OutOfRange(String),
}

impl SourceRate {
    /// The rate `numerator / denominator` in hertz.
    ///
    /// # Errors
    /// [`RateError::OutOfRange`] for zero, for anything outside 0.001 Hz to 1 MHz, and where a term of the reduced
    /// fraction exceeds 10^9.
    pub fn new(numerator: u64, denominator: u64) -> Result<Self, RateError> {
        let refused = || RateError::OutOfRange(format!("{numerator}/{denominator}"));
        if numerator == 0 || denominator == 0 {
            return Err(refused());
        }
        let divisor = greatest_common_divisor(numerator, denominator);
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        let at_least = |(n, d): (u64, u64)| {
            u128::from(numerator) * u128::from(d) >= u128::from(n) * u128::from(denominator)
        };
        let at_most = |(n, d): (u64, u64)| {
            u128::from(numerator) * u128::from(d) <= u128::from(n) * u128::from(denominator)
        };
        let terms_fit = numerator <= TERM_MAX && denominator <= TERM_MAX;
        if terms_fit && at_least(RATE_HZ_MIN) && at_most(RATE_HZ_MAX) {
            Ok(Self { numerator, denominator })
        } else {
            Err(refused())
        }
    }

    /// Numerator of the reduced fraction.
    #[must_use]
    pub fn numerator(self) -> u64 {
        self.numerator
    }

    /// Denominator of the reduced fraction.
    #[must_use]
    pub fn denominator(self) -> u64 {
        self.denominator
    }

    /// Instant `k` in nanoseconds: round(k · denominator · 10^9 / numerator), halves up; `None` past the year 2262,
    /// where an i64 ends.
    #[must_use]
    pub fn instant_ns(self, k: u64) -> Option<i64> {
        let numerator = i128::from(self.numerator);
        let scaled = i128::from(k) * i128::from(self.denominator) * 1_000_000_000;
        i64::try_from((2 * scaled + numerator) / (2 * numerator)).ok()
    }
}

impl FromStr for SourceRate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let syntax = || RateError::Syntax(text.to_owned());
        let whole = |digits: &str| -> Result<u64, RateError> {
            // `u64::from_str` also takes a leading `+`, which nobody means here.
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(syntax());
            }
            digits.parse().map_err(|_| RateError::OutOfRange(text.to_owned()))
        };
        let (numerator, denominator) = if let Some((numerator, denominator)) = text.split_once('/') {
            (whole(numerator.trim())?, whole(denominator.trim())?)
        } else if let Some((units, decimals)) = text.trim().split_once('.') {
            let decimals = decimals.trim_end_matches('0');
            let scale = u32::try_from(decimals.len())
                .ok()
                .and_then(|n| 10_u64.checked_pow(n))
                .ok_or_else(|| RateError::OutOfRange(text.to_owned()))?;
            let fraction = if decimals.is_empty() { 0 } else { whole(decimals)? };
            let numerator = whole(units)?.checked_mul(scale).and_then(|n| n.checked_add(fraction));
            (numerator.ok_or_else(|| RateError::OutOfRange(text.to_owned()))?, scale)
        } else {
            (whole(text.trim())?, 1)
        };
        Self::new(numerator, denominator).map_err(|_| RateError::OutOfRange(text.to_owned()))
    }
}

impl TryFrom<String> for SourceRate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<SourceRate> for String {
    fn from(rate: SourceRate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for SourceRate {
    /// `5`, `3.75`, or `30000/1001` where no short decimal is exact. Parsing gives the same rate back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for decimals in 0..=6_u32 {
            let scale = 10_u64.pow(decimals);
            if scale % self.denominator == 0 {
                let scaled = self.numerator * (scale / self.denominator);
                write!(f, "{}", scaled / scale)?;
                if decimals > 0 {
                    write!(f, ".{:0width$}", scaled % scale, width = decimals as usize)?;
                }
                return Ok(());
            }
        }
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> SourceRate {
        text.parse().expect("a rate")
    }

    #[test]
    fn reads_whole_decimal_and_fractional_rates() {
        for (text, numerator, denominator) in [
            ("5", 5, 1),
            ("3.75", 15, 4),
            ("30000/1001", 30000, 1001),
            ("12.50", 25, 2),
            ("10/4", 5, 2),
            ("5.", 5, 1),
        ] {
            assert_eq!(
                (rate(text).numerator(), rate(text).denominator()),
                (numerator, denominator),
                "{text}"
            );
        }
        assert_eq!(rate("29.97").to_string(), "29.97");
        assert_eq!(rate("30000/1001").to_string(), "30000/1001");
    }

    #[test]
    fn refuses_what_no_robot_has() {
        for text in [
            "", "0", "0.0", "1/0", "0/1", "-5", "+5", "1e3", "NaN", "2000000", "1/2000", ".5", "5 Hz",
            "1/2/3",
        ] {
            assert!(text.parse::<SourceRate>().is_err(), "{text}");
        }
        assert!("99999999999999999999".parse::<SourceRate>().is_err());
        assert!("3.1415926535897932384626".parse::<SourceRate>().is_err());
    }

    #[test]
    fn instants_are_exact_and_never_drift() {
        assert_eq!(rate("5").instant_ns(7), Some(1_400_000_000));
        assert_eq!(rate("3.75").instant_ns(1), Some(266_666_667));
        assert_eq!(rate("3.75").instant_ns(3), Some(800_000_000));
        assert_eq!(rate("30000/1001").instant_ns(30_000_000), Some(1_001_000_000_000_000));
        assert_eq!(rate("0.001").instant_ns(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn a_rate_survives_its_text(numerator in 1_u64..100_000, denominator in 1_u64..2_000) {
            if let Ok(rate) = SourceRate::new(numerator, denominator) {
                prop_assert_eq!(rate.to_string().parse::<SourceRate>(), Ok(rate));
            }
        }

        #[test]
        fn instants_rise(numerator in 1_u64..1_000_000, denominator in 1_u64..1_000, k in 0_u64..1_000_000) {
            if let Ok(rate) = SourceRate::new(numerator, denominator) {
                prop_assert!(rate.instant_ns(k) < rate.instant_ns(k + 1));
            }
        }

        #[test]
        fn any_text_is_refused_or_read(text in ".{0,40}") {
            let _ = text.parse::<SourceRate>();
        }
    }
}
