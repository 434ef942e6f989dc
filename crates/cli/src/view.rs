//! How what the server answers looks: stable snake_case keys, times in RFC 3339, enum names in lower case. Where it is
//! printed is `report`'s business.

pub(crate) mod audit;
pub(crate) mod certificate;
pub(crate) mod enrollment;
pub(crate) mod history;
pub(crate) mod job;
pub(crate) mod moment;
pub(crate) mod principal;
pub(crate) mod usage;

use std::{collections::BTreeMap, time::Duration};

use airunner_core::Timestamp;

use self::moment::Moment;

/// A time on the wire as we keep it.
pub(crate) fn timestamp(at: &prost_types::Timestamp) -> Timestamp {
    let millis = at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos / 1_000_000));
    Timestamp::from_millis(millis)
}

/// A time on the wire, as it is told.
pub(crate) fn time(at: Option<&prost_types::Timestamp>) -> Option<Moment> {
    at.map(|at| Moment(timestamp(at)))
}

/// A time in RFC 3339, in UTC, to the millisecond: for what happens often.
pub(crate) fn precise_time(at: Option<&prost_types::Timestamp>) -> Option<String> {
    let at = timestamp(at?);
    let text = at.to_string();
    Some(format!("{}.{:03}Z", text.trim_end_matches('Z'), at.as_millis().rem_euclid(1_000)))
}

/// A duration as options are written.
pub(crate) fn duration(duration: Option<&prost_types::Duration>) -> Option<String> {
    let duration = Duration::try_from(*duration?).ok()?;
    Some(airunner_host::duration::format(duration))
}

/// Text, none where it is empty.
pub(crate) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The name of an enum's value: what follows its prefix, in lower case. A value of a newer server is its number.
pub(crate) fn word<E: TryFrom<i32>>(
    number: i32,
    name: impl FnOnce(&E) -> &'static str,
    prefix: &str,
) -> String {
    match E::try_from(number) {
        Ok(value) => {
            let name = name(&value);
            name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
        }
        Err(_) => format!("unknown_{number}"),
    }
}

/// Pairs in one line.
pub(crate) fn pairs(pairs: &BTreeMap<String, String>) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// An optional cell of a table.
pub(crate) fn cell(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use airunner_proto::principal::v1::PrincipalType;

    use super::*;

    #[test]
    fn times_are_told_to_the_second_or_the_millisecond() {
        let at = prost_types::Timestamp { seconds: 951_782_400, nanos: 7_999_999 };
        assert_eq!(time(Some(&at)).unwrap().0.to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(precise_time(Some(&at)).as_deref(), Some("2000-02-29T00:00:00.007Z"));
        assert_eq!(time(None), None);
    }

    #[test]
    fn enum_names_lose_their_prefix() {
        let name = |number| word(number, PrincipalType::as_str_name, "PRINCIPAL_TYPE_");
        assert_eq!(name(1), "admin");
        assert_eq!(name(99), "unknown_99");
    }
}
