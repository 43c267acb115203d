//! Quantities as people type them: `200ms`, `64MiB`.

use std::fmt;
use std::str::FromStr;

use trajectory::read::bag::duration_ns;

/// A span of time in nanoseconds, typed as `1.5s`, `200ms`, `30us`, `10ns`, with an optional sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) nanoseconds: i64,
}

/// A number of bytes, typed as `64MiB`, `2GB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteSize {
    pub(crate) bytes: u64,
}

/// `number` times `scale`, exactly, if it is a whole number.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let denominator = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let numerator: u64 = format!("{whole}{fraction}").parse().ok()?;
    let product = u128::from(numerator) * u128::from(scale);
    let exact = product % u128::from(denominator) == 0;
    exact.then(|| u64::try_from(product / u128::from(denominator)).ok())?
}

fn split_unit(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..at].trim(), &text[at..])
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (sign, length) = text.trim().strip_prefix('-').map_or((1, text.trim()), |length| (-1, length));
        duration_ns(length)
            .map(|nanoseconds| Self { nanoseconds: sign * nanoseconds })
            .ok_or_else(|| format!("`{text}` is not a time: write `1.5s`, `200ms`, `30us` or `10ns`"))
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text.trim());
        let scale = match unit {
            "" | "B" => Some(1),
            "kB" | "KB" => Some(1_000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let bytes = scale.and_then(|scale| scaled(number, scale));
        bytes
            .filter(|&bytes| bytes > 0)
            .map(|bytes| Self { bytes })
            .ok_or_else(|| format!("`{text}` is not a size: write `64MiB`, `2GB` or a number of bytes"))
    }
}

impl fmt::Display for ByteSize {
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes as f64;
        match self.bytes {
            b if b >= 1_000_000_000 => write!(f, "{:.2} GB", bytes / 1e9),
            b if b >= 1_000_000 => write!(f, "{:.1} MB", bytes / 1e6),
            b if b >= 1_000 => write!(f, "{:.1} kB", bytes / 1e3),
            b => write!(f, "{b} B"),
        }
    }
}

/// `1 episode`, `2 episodes`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Nanoseconds as people read them.
#[expect(clippy::cast_precision_loss, reason = "for display")]
pub(crate) fn show_ns(nanoseconds: i64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds.unsigned_abs() {
        n if n >= 1_000_000_000 => format!("{:.2} s", value / 1e9),
        n if n >= 1_000_000 => format!("{:.1} ms", value / 1e6),
        n if n >= 1_000 => format!("{:.1} µs", value / 1e3),
        _ => format!("{nanoseconds} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_exact() {
        assert_eq!("1.5s".parse::<Span>().unwrap().nanoseconds, 1_500_000_000);
        assert_eq!("-12ms".parse::<Span>().unwrap().nanoseconds, -12_000_000);
        assert_eq!("64MiB".parse::<ByteSize>().unwrap().bytes, 64 << 20);
        for bad in ["", "5", "ms", "1e3s", "0.5ns", "99999999999s", "--1s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        for bad in ["", "0", "-1MB", "5XB", "0.3B"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
