//! Times: exact for programs, beside now for people.

use airunner_core::Timestamp;
use serde::{Serialize, Serializer};

/// A time. Programs get it in RFC 3339, in UTC, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) Timestamp);

/// Units from the longest on: seconds in one, and its name.
const UNITS: [(u64, &str); 5] = [(31_557_600, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];

impl Moment {
    /// How long ago, or in how long: in the largest unit of which there are two, to be read at a glance.
    pub(crate) fn beside(self, now: Timestamp) -> String {
        let (between, is_past) =
            if self.0 <= now { (now.since(self.0), true) } else { (self.0.since(now), false) };
        let seconds = between.as_secs();
        let unit = UNITS.iter().find(|(length, _)| seconds >= 2 * length).unwrap_or(&UNITS[4]);
        let count = seconds / unit.0;
        match (count, is_past) {
            (0, _) => "now".to_owned(),
            (count, true) => format!("{count} {} ago", unit.1),
            (count, false) => format!("in {count} {}", unit.1),
        }
    }

    /// Both, for where one thing is looked at.
    pub(crate) fn told(self, now: Timestamp) -> String {
        format!("{} ({})", self.0, self.beside(now))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A cell of a table; empty where there is no time.
pub(crate) fn beside(at: Option<Moment>, now: Timestamp) -> String {
    at.map(|at| at.beside(now)).unwrap_or_default()
}

/// A line of a record; empty where there is no time.
pub(crate) fn told(at: Option<Moment>, now: Timestamp) -> String {
    at.map(|at| at.told(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn at(seconds: i64) -> Moment {
        Moment(Timestamp::from_millis(NOW.as_millis() + seconds * 1_000))
    }

    #[test]
    fn a_time_is_told_in_the_largest_unit_of_which_there_are_two() {
        for (seconds, text) in [
            (0, "now"),
            (-1, "1 s ago"),
            (-119, "119 s ago"),
            (-120, "2 min ago"),
            (-7_199, "119 min ago"),
            (-86_400, "24 h ago"),
            (-172_800, "2 d ago"),
            (30 * 86_400, "in 30 d"),
            (90 * 86_400, "in 90 d"),
            (3_650 * 86_400, "in 9 y"),
        ] {
            assert_eq!(at(seconds).beside(NOW), text, "{seconds}");
        }
    }

    #[test]
    fn programs_get_the_exact_time_and_who_looks_at_one_thing_gets_both() {
        assert_eq!(serde_json::to_string(&at(0)).unwrap(), "\"2027-01-15T08:00:00Z\"");
        assert_eq!(at(-60).told(NOW), "2027-01-15T07:59:00Z (60 s ago)");
    }
}
