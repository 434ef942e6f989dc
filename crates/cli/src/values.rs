//! Values of options that are more than text: durations, pairs, repositories, signals, and words out of a list.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use airunner_core::{
    Error, Fingerprint, Isolation, JobState, Permission, PrincipalType, Result, RevocationReason, Role,
    Serial,
};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A duration: 10s, 5m, 1h30m, 30d; 0 too.
pub(crate) fn duration(text: &str) -> Result<Duration> {
    if text == "0" { Ok(Duration::ZERO) } else { airunner_host::duration::parse(text) }
}

/// A duration on the wire.
pub(crate) fn wire(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default() }
}

/// Bytes: 4096, 64K, 256M, 2G, 1T, in powers of 1,024.
pub(crate) fn size(text: &str) -> Result<u64> {
    let refuse =
        || Error::invalid("size", format!("{text:?} is no size: write bytes, or as 64K, 256M, 2G or 1T"));
    let (digits, shift) = match text.as_bytes() {
        [.., b'K' | b'k'] => (&text[..text.len() - 1], 10),
        [.., b'M' | b'm'] => (&text[..text.len() - 1], 20),
        [.., b'G' | b'g'] => (&text[..text.len() - 1], 30),
        [.., b'T' | b't'] => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let bytes =
        digits.parse::<u64>().ok().filter(|_| is_number).and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(refuse)
}

/// A size, or 0 for nothing.
pub(crate) fn size_or_none(text: &str) -> Result<u64> {
    if text == "0" { Ok(0) } else { size(text) }
}

/// CPUs, to a thousandth: 2, 0.5, 1.25. As thousandths.
pub(crate) fn cpus(text: &str) -> Result<u32> {
    let refuse = || Error::invalid("cpus", format!("{text:?} is no number of CPUs: write one as 2 or 0.5"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 3 {
        return Err(refuse());
    }
    let thousandths = format!("{whole}{fraction:0<3}").parse::<u32>().ok();
    thousandths.filter(|thousandths| *thousandths > 0).ok_or_else(refuse)
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Before the first `=`.
    pub(crate) key: String,
    /// After it.
    pub(crate) value: String,
}

impl Pair {
    /// As a map on the wire has it.
    pub(crate) fn entry(&self) -> (String, String) {
        (self.key.clone(), self.value.clone())
    }
}

impl FromStr for Pair {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(Error::invalid("pair", format!("{text:?} is not KEY=VALUE"))),
        }
    }
}

/// `NAME=VALUE`, or `NAME` alone.
fn named(text: &str) -> (&str, Option<&str>) {
    text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)))
}

/// `NAME=VALUE`, or `NAME` for the value that this process has of it: so that a secret need not be an argument.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: String,
    /// What was said of its value.
    pub(crate) value: Option<String>,
}

impl FromStr for Variable {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = named(text);
        if name.is_empty() {
            return Err(Error::invalid("environment", format!("{text:?} is neither NAME=VALUE nor NAME")));
        }
        Ok(Self { name: name.to_owned(), value: value.map(str::to_owned) })
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variable({})", self.name)
    }
}

/// `NAME` for the value that this process has of it, or `NAME=@FILE` for what is in the file: a secret is no argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretVariable {
    /// Its name.
    pub(crate) name: String,
    /// Where its value is.
    pub(crate) file: Option<PathBuf>,
}

impl FromStr for SecretVariable {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, file) = named(text);
        let path = |value: &str| value.strip_prefix('@').filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = match file.map(path) {
            None => None,
            Some(Some(path)) => Some(path),
            // What was given is not said again: it may be the secret.
            Some(None) => {
                return Err(Error::invalid(
                    "secret_environment",
                    format!(
                        "a secret is no argument: {name} takes the value that it has here, {name}=@FILE what is in the file"
                    ),
                ));
            }
        };
        if name.is_empty() {
            return Err(Error::invalid("secret_environment", "a variable has a name: NAME or NAME=@FILE"));
        }
        Ok(Self { name: name.to_owned(), file })
    }
}

/// A signal by number (1 to 64) or name, with or without `SIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalNumber(pub(crate) i32);

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("WINCH", 28),
];

impl FromStr for SignalNumber {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let number = named.or_else(|| text.parse().ok()).filter(|number| (1..=64).contains(number));
        number.map(Self).ok_or_else(|| {
            Error::invalid(
                "signal",
                format!("{text:?} is no signal: write a name, as TERM, or a number from 1 to 64"),
            )
        })
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// What names one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateName {
    /// Its serial number.
    Serial(Serial),
    /// Its SHA-256.
    Fingerprint(Fingerprint),
}

impl FromStr for CertificateName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A serial number has at most 40 digits, so that the two can't be mistaken for each other.
        text.parse().map(Self::Fingerprint).or_else(|_| text.parse().map(Self::Serial))
    }
}

/// The types of principals.
pub(crate) fn principal_type() -> impl TypedValueParser<Value = PrincipalType> {
    let value = |kind: &PrincipalType| match kind {
        PrincipalType::User => PossibleValue::new("user").alias("human"),
        PrincipalType::Service => PossibleValue::new("service").alias("system"),
        kind => PossibleValue::new(kind.as_str()),
    };
    words(PrincipalType::ALL.iter().map(value))
}

/// The roles.
pub(crate) fn role() -> impl TypedValueParser<Value = Role> {
    words(Role::ALL.iter().map(|role| PossibleValue::new(role.as_str())))
}

/// The states of jobs.
pub(crate) fn job_state() -> impl TypedValueParser<Value = JobState> {
    words(JobState::ALL.iter().map(|state| PossibleValue::new(state.as_str())))
}

/// The levels of isolation.
pub(crate) fn isolation() -> impl TypedValueParser<Value = Isolation> {
    words(Isolation::ALL.iter().map(|level| PossibleValue::new(level.as_str())))
}

/// What a job can be granted: all that not everyone may.
pub(crate) fn grant() -> impl TypedValueParser<Value = Permission> {
    let everyones = [Permission::SelfService, Permission::Anonymous];
    let granted = Permission::ALL.iter().filter(move |permission| !everyones.contains(permission));
    words(granted.map(|permission| PossibleValue::new(permission.as_str())))
}

/// The reasons of revocations, as RFC 5280 spells them, in any case, and with words parted too.
pub(crate) fn reason(text: &str) -> Result<RevocationReason> {
    text.replace(['_', '-'], "").parse()
}

fn words<T>(values: impl Iterator<Item = PossibleValue>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(values).try_map(|word| word.parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_may_be_nothing() {
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        assert_eq!(duration("1h30m").unwrap(), Duration::from_mins(90));
        assert!(duration("10").is_err());
    }

    #[test]
    fn sizes_and_cpus_are_read_exactly() {
        for (text, bytes) in
            [("1", 1), ("64K", 65_536), ("256M", 256 << 20), ("2g", 2 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for wrong in ["", "K", "0", "-1", "+1", "1.5G", "1MB", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        for (text, thousandths) in [("2", 2_000), ("0.5", 500), ("1.25", 1_250), ("0.001", 1)] {
            assert_eq!(cpus(text).unwrap(), thousandths, "{text}");
        }
        for wrong in ["", ".5", "1.", "0", "0.0", "-1", "1e3", "0.0001", "5000000"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pair_is_cut_at_its_first_sign() {
        let pair: Pair = "a=b=c".parse().unwrap();
        assert_eq!((pair.key.as_str(), pair.value.as_str()), ("a", "b=c"));
        for wrong in ["", "a", "=b"] {
            assert!(wrong.parse::<Pair>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_variable_hides_its_value() {
        let variable: Variable = "PASSWORD=hunter2".parse().unwrap();
        assert!(!format!("{variable:?}").contains("hunter2"));
        assert_eq!("PASSWORD".parse::<Variable>().unwrap().value, None);
        assert_eq!("A=".parse::<Variable>().unwrap().value.as_deref(), Some(""));
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("15", 15), ("64", 64)] {
            assert_eq!(text.parse::<SignalNumber>().unwrap(), SignalNumber(number), "{text}");
        }
        for wrong in ["", "0", "65", "-9", "TERMINATE"] {
            assert!(wrong.parse::<SignalNumber>().is_err(), "{wrong}");
        }
        assert_eq!(SignalNumber(9).to_string(), "KILL");
        assert_eq!(SignalNumber(35).to_string(), "35");
    }

    #[test]
    fn a_certificate_is_named_by_either() {
        let serial = "0198a2f4c0de7000a000000000000001";
        assert!(matches!(serial.parse().unwrap(), CertificateName::Serial(_)));
        for fingerprint in ["ab".repeat(32), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()] {
            assert!(matches!(fingerprint.parse().unwrap(), CertificateName::Fingerprint(_)), "{fingerprint}");
        }
    }

    #[test]
    fn reasons_are_read_in_any_spelling() {
        for text in ["keyCompromise", "key_compromise", "KEY-COMPROMISE"] {
            assert_eq!(reason(text).unwrap(), RevocationReason::KeyCompromise, "{text}");
        }
        assert!(reason("whim").is_err());
    }
}
