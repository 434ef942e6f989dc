//! Values of flags that have a form of their own: durations, pairs, ids that may stand in two places.

use std::{str::FromStr, time::Duration};

use airunner_core::{EnrollmentId, JobId, PrincipalId};
use clap::Args;

/// A duration, as 90d, 12h, 30m, 300s.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    airunner_host::duration::parse(text).map_err(|error| error.message().to_owned())
}

/// A duration on the wire.
pub(crate) fn wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) String, pub(crate) String);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self(key.to_owned(), value.to_owned())),
            _ => Err("write it as KEY=VALUE".to_owned()),
        }
    }
}

macro_rules! id_args {
    ($($(#[doc = $doc:literal])+ $name:ident($id:ty, $value_name:literal, $alias:literal),)+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Args)]
        #[group(skip)]
        pub(crate) struct $name {
            $(#[doc = $doc])+
            #[arg(value_name = $value_name, required_unless_present = "id")]
            positional: Option<$id>,
            /// The same, as a flag
            #[arg(long, value_name = $value_name, conflicts_with = "positional", alias = $alias)]
            id: Option<$id>,
        }

        impl $name {
            /// The id, from wherever it stands.
            pub(crate) fn get(&self) -> String {
                self.positional.as_ref().or(self.id.as_ref()).map(ToString::to_string).unwrap_or_default()
            }
        }
    )+ };
}

id_args! {
    /// The principal's id
    PrincipalArg(PrincipalId, "PRINCIPAL", "account"),
    /// The job's id
    JobArg(JobId, "JOB", "job"),
    /// The enrolment's id
    EnrollmentArg(EnrollmentId, "ENROLLMENT", "enrollment"),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_a_key_and_its_value_may_have_anything() {
        assert_eq!("A=b=c".parse::<Pair>().unwrap(), Pair("A".into(), "b=c".into()));
        assert_eq!("A=".parse::<Pair>().unwrap(), Pair("A".into(), String::new()));
        assert!("A".parse::<Pair>().is_err() && "=b".parse::<Pair>().is_err());
    }
}
