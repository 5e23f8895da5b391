//! Lengths of time as Go writes them: `2160h`, `1h30m`, `10s`.
//!
//! It refuses negative ones, units above the hour (a day is not always 24 hours) and bare numbers other than 0.

use std::time::Duration;

const NANOS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Longest text of a length of time; nobody needs more digits.
const TEXT_OCTETS_MAX: usize = 64;

/// Parses what Go's `time.ParseDuration` parses, up to its bound of about 292 years; the error says what is wrong.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() || text.len() > TEXT_OCTETS_MAX {
        return Err(format!("{text:?} is not a length of time such as 1h30m"));
    }
    if text.starts_with('-') {
        return Err(format!("{text:?} is negative"));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (part, after) = part(text, rest)?;
        nanos = nanos.checked_add(part).filter(|nanos| *nanos <= i64::MAX as u64).ok_or_else(|| too_long(text))?;
        rest = after;
    }
    Ok(Duration::from_nanos(nanos))
}

/// One number with its unit, in nanoseconds, and what comes after it.
fn part<'a>(text: &str, rest: &'a str) -> Result<(u64, &'a str), String> {
    let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, after) = rest.split_at(number_end);
    let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
    let (unit, after) = after.split_at(unit_end);
    let Some(&(_, nanos_per_unit)) = NANOS.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit {
            "" => format!("{text:?} lacks a unit; use h, m, s or ms"),
            "d" => format!("{text:?} has unit d; use hours, 24h for a day"),
            unit => format!("{text:?} has the unknown unit {unit:?}; use h, m, s or ms"),
        });
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(format!("{text:?} is not a length of time such as 1h30m"));
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long(text))? };
    let nanos = whole.checked_mul(nanos_per_unit).ok_or_else(|| too_long(text))?;
    Ok((nanos.saturating_add(fraction_nanos(fraction, nanos_per_unit)), after))
}

/// The fraction of a unit, cut to whole nanoseconds.
fn fraction_nanos(digits: &str, nanos_per_unit: u64) -> u64 {
    // 18 digits are finer than a nanosecond of an hour; more would overflow.
    let digits = &digits[..digits.len().min(18)];
    let numerator: u128 = digits.parse().unwrap_or(0);
    (numerator * u128::from(nanos_per_unit) / 10_u128.pow(digits.len() as u32)) as u64
}

fn too_long(text: &str) -> String {
    format!("{text:?} is longer than 292 years")
}

/// Prints hours, minutes and seconds, those that are not zero: `1h30m`, `10s`, `1.5s`, `0s`.
pub fn format(span: Duration) -> String {
    let seconds = span.as_secs();
    let mut text = String::new();
    for (amount, unit) in [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm')] {
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    let nanos = span.subsec_nanos();
    if nanos > 0 {
        let fraction = format!("{nanos:09}");
        text.push_str(&format!("{}.{}s", seconds % 60, fraction.trim_end_matches('0')));
    } else if !seconds.is_multiple_of(60) || text.is_empty() {
        text.push_str(&format!("{}s", seconds % 60));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_go_parses() {
        let table = [
            ("0", 0),
            ("0s", 0),
            ("2160h", 2160 * 3_600_000_000_000),
            ("2160h0m0s", 2160 * 3_600_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+10s", 10_000_000_000),
            ("500ms", 500_000_000),
            ("1us2µs3μs4ns", 6_004),
            ("1m1m", 120_000_000_000),
            ("0.000000001s", 1),
            ("0.3333333333333333333h", 1_199_999_999_999),
        ];
        for (text, nanos) in table {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses() {
        let table = [
            ("", "such as"),
            ("3600", "lacks a unit"),
            ("1h30", "lacks a unit"),
            ("30d", "24h for a day"),
            ("1y", "unknown unit"),
            ("1 h", "unknown unit"),
            ("h", "such as"),
            (".s", "such as"),
            ("1.2.3s", "such as"),
            ("-1h", "negative"),
            ("9223372037s", "292 years"),
            ("99999999999999999999h", "292 years"),
            ("2562048h", "292 years"),
        ];
        for (text, said) in table {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(parse(&"1s".repeat(33)).is_err());
    }

    #[test]
    fn prints_what_people_write() {
        let table = [(0, "0s"), (10_000, "10s"), (5_400_000, "1h30m"), (7_776_000_000, "2160h"), (3_601_500, "1h1.5s")];
        for (millis, text) in table {
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
    }

    proptest! {
        #[test]
        fn there_and_back(nanos in 0..i64::MAX as u64) {
            let span = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(span)), Ok(span));
        }

        #[test]
        fn never_panics(text in "\\PC{0,70}") {
            let _ = parse(&text);
        }
    }
}
