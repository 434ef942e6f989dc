//! Durations as people write them: `90d`, `1h`, `300s`. Calendars are not known here.

use std::time::Duration;

use airunner_core::{Error, Label, Result};

/// Units by their name, in milliseconds, longest first.
const UNITS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration: whole numbers with units, longest first, as in `90d`, `1h30m`, `300s`, `250ms`.
///
/// # Errors
/// `config` with an example of what is wanted.
pub fn parse(text: &str) -> Result<Duration> {
    let wrong = || {
        let example = "a duration is written as 90d, 12h, 30m, 300s or 250ms";
        Error::new(Label::Config, format!("{text:?} is no duration: {example}"))
    };
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let name = &rest[digits..digits + letters];
        let (_, millis) = units.find(|(unit, _)| *unit == name).ok_or_else(wrong)?;
        total = number.checked_mul(*millis).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[digits + letters..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

/// Writes a duration so that [`parse`] reads it: at most its two longest units.
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, millis) in UNITS {
        let count = rest / millis;
        rest %= millis;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units() {
        for (text, seconds) in [("90d", 7_776_000), ("1h", 3_600), ("300s", 300), ("1h30m", 5_400), ("0s", 0)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(parse("250ms").unwrap(), Duration::from_millis(250));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "90", "d", "1 h", "-1h", "1h1h", "1m1h", "1.5h", "99999999999999999999d", "1y", "é"]
        {
            assert!(parse(text).unwrap_err().message().contains("90d"), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["90d", "1h30m", "300s", "2d3h", "0s", "1s250ms"] {
            let duration = parse(text).unwrap();
            assert_eq!(parse(&format(duration)).unwrap(), duration, "{text}");
        }
    }
}
