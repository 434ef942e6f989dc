//! The time that a server acts by: its machine's, but for a leap ahead. Whose clock is right is for the fleet to judge.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use airunner_core::{Clock, Monotonic, Timestamp};
use async_trait::async_trait;

/// How far the machine's wall clock may be ahead of where its own steady clock says it should be.
const MAX_AHEAD: Duration = Duration::from_secs(30);
/// Nothing was believed yet.
const UNKNOWN: i64 = i64::MIN;

/// A clock that does not follow a leap ahead: what would be decided by one (a lease until tomorrow, a certificate that is
/// over already, a job that waits for an hour) outlives the leap. A fall back it follows, since what was written before
/// shows that.
pub(crate) struct SteadyClock {
    machine: Arc<dyn Clock>,
    /// What the wall clock was ahead of the steady one when it was last believed, in milliseconds.
    offset: AtomicI64,
}

impl SteadyClock {
    /// Over the machine's, which is believed until [`Self::leap`] is first asked.
    pub(crate) fn new(machine: Arc<dyn Clock>) -> Self {
        Self { machine, offset: AtomicI64::new(UNKNOWN) }
    }

    /// What the machine's clock shows, and by how much it has leapt ahead if it has. If not, leaps are measured from
    /// here: so a correction in small steps is none.
    pub(crate) fn leap(&self) -> (Timestamp, Option<Duration>) {
        let (now, steady) = (self.machine.now(), millis(self.machine.monotonic()));
        let leap =
            self.expected(steady).map(|expected| now.since(expected)).filter(|ahead| *ahead > MAX_AHEAD);
        if leap.is_none() {
            self.offset.store(now.as_millis() - steady, Relaxed);
        }
        (now, leap)
    }

    fn expected(&self, steady: i64) -> Option<Timestamp> {
        let offset = self.offset.load(Relaxed);
        (offset != UNKNOWN).then(|| Timestamp::from_millis(offset.saturating_add(steady)))
    }
}

fn millis(steady: Monotonic) -> i64 {
    i64::try_from(steady.since(Monotonic::default()).as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let now = self.machine.now();
        let expected = self.expected(millis(self.machine.monotonic()));
        expected.filter(|expected| now.since(*expected) > MAX_AHEAD).unwrap_or(now)
    }

    fn monotonic(&self) -> Monotonic {
        self.machine.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        self.machine.sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use airunner_testkit::clock::FakeClock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_leap_ahead_is_not_followed_and_a_fall_and_small_steps_are() {
        let machine = Arc::new(FakeClock::new());
        let steady = SteadyClock::new(machine.clone());
        assert_eq!(steady.leap(), (FakeClock::START, None));
        machine.advance(SECOND);
        let right = machine.now();
        machine.set(right.plus(31 * SECOND));
        assert_eq!(steady.now(), right);
        assert_eq!(steady.leap(), (machine.now(), Some(31 * SECOND)));
        machine.advance(SECOND);
        assert_eq!(steady.now(), right.plus(SECOND), "time goes on meanwhile");
        for _ in 0..3 {
            machine.set(steady.now().plus(29 * SECOND));
            assert_eq!((steady.now(), steady.leap().1), (machine.now(), None));
        }
        machine.set(FakeClock::START);
        assert_eq!((steady.now(), steady.leap().1), (FakeClock::START, None));
    }
}
