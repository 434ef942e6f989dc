//! Messages of the API as reports show them: names in place of numbers, times in UTC, nothing where nothing is.

pub(crate) mod audit;
pub(crate) mod certificate;
pub(crate) mod enrollment;
pub(crate) mod job;
pub(crate) mod principal;

use airunner_core::Timestamp;
use prost_types::Timestamp as Wire;

/// A time in RFC 3339, UTC, to the second.
pub(crate) fn time(at: Option<&Wire>) -> Option<String> {
    at.map(|at| Timestamp::from_millis(at.seconds.saturating_mul(1_000)).to_string())
}

/// A duration as people write it.
pub(crate) fn duration(duration: Option<prost_types::Duration>) -> Option<String> {
    duration.and_then(|duration| duration.try_into().ok()).map(airunner_host::duration::format)
}

/// A text, none where it is empty.
pub(crate) fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The fields of a form for people: those that are there.
pub(crate) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    pub(crate) fn maybe(self, name: &'static str, value: Option<&(impl ToString + ?Sized)>) -> Self {
        match value {
            Some(value) => self.with(name, value.to_string()),
            None => self,
        }
    }

    pub(crate) fn list(self, name: &'static str, values: &[String]) -> Self {
        if values.is_empty() { self } else { self.with(name, values.join(", ")) }
    }

    pub(crate) fn done(self) -> crate::report::Human {
        crate::report::Human::Fields(self.0)
    }
}

/// Pairs as one line for people.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<String> {
    pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}
