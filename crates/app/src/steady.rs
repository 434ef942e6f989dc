//! The time that a server acts by: its machine's, but for leaps. Whose clock is right is for the fleet to judge.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use airunner_core::{Clock, Monotonic, Timestamp};
use async_trait::async_trait;

/// How far the machine's wall clock may be from where its own steady clock says it should be.
const MAX_LEAP: Duration = Duration::from_secs(30);
/// Nothing was believed yet.
const UNKNOWN: i64 = i64::MIN;

/// A clock that does not follow a leap, ahead or back, of which nobody knows that it is right: what would be decided by
/// one (a lease until tomorrow or yesterday, a certificate that is over already) outlives the leap.
pub(crate) struct SteadyClock {
    machine: Arc<dyn Clock>,
    /// What the wall clock was ahead of the steady one when it was last believed, in milliseconds.
    offset: AtomicI64,
}

/// What the machine's clocks show at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The wall clock.
    pub(crate) now: Timestamp,
    /// By how much it has leapt ahead of the time that the server acts by, if it has.
    pub(crate) leapt_ahead: Option<Duration>,
    steady: i64,
}

impl SteadyClock {
    /// Over the machine's, which is followed until it was first believed.
    pub(crate) fn new(machine: Arc<dyn Clock>) -> Self {
        Self { machine, offset: AtomicI64::new(UNKNOWN) }
    }

    /// What the machine's clocks show.
    pub(crate) fn read(&self) -> Reading {
        let (now, steady) = (self.machine.now(), millis(self.machine.monotonic()));
        let ahead = self.expected(steady).map(|expected| now.since(expected));
        Reading { now, leapt_ahead: ahead.filter(|ahead| *ahead > MAX_LEAP), steady }
    }

    /// From now on leaps are measured from this reading, which was found to be right: so a correction in small steps is
    /// none.
    pub(crate) fn believe(&self, reading: Reading) {
        self.offset.store(reading.now.as_millis() - reading.steady, Relaxed);
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
        let leapt = |expected: &Timestamp| now.since(*expected).max(expected.since(now)) > MAX_LEAP;
        expected.filter(leapt).unwrap_or(now)
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

    fn clock() -> (Arc<FakeClock>, SteadyClock) {
        let machine = Arc::new(FakeClock::new());
        let steady = SteadyClock::new(machine.clone());
        steady.believe(steady.read());
        (machine, steady)
    }

    #[test]
    fn a_leap_is_not_followed_either_way_and_small_steps_are() {
        for leap in [31 * SECOND, 3_600 * SECOND] {
            let (machine, steady) = clock();
            machine.advance(leap);
            let right = machine.now();
            machine.set(right.plus(leap));
            assert_eq!((steady.now(), steady.read().leapt_ahead), (right, Some(leap)));
            machine.set(right.minus(leap));
            assert_eq!((steady.now(), steady.read().leapt_ahead), (right, None));
            machine.advance(SECOND);
            assert_eq!(steady.now(), right.plus(SECOND), "time goes on meanwhile");
            machine.set(right.plus(2 * SECOND));
            assert_eq!(steady.now(), machine.now(), "it is right again");
        }
        let (machine, steady) = clock();
        for _ in 0..3 {
            machine.set(steady.now().plus(29 * SECOND));
            assert_eq!((steady.now(), steady.read().leapt_ahead), (machine.now(), None));
            steady.believe(steady.read());
        }
    }

    #[test]
    fn what_was_never_believed_is_followed_and_what_is_found_to_be_right_is_believed() {
        let machine = Arc::new(FakeClock::new());
        let steady = SteadyClock::new(machine.clone());
        machine.set(FakeClock::START.plus(3_600 * SECOND));
        assert_eq!(
            (steady.now(), steady.read().leapt_ahead),
            (machine.now(), None),
            "a start before the time is set"
        );
        steady.believe(steady.read());
        machine.set(FakeClock::START);
        assert_eq!(steady.now(), FakeClock::START.plus(3_600 * SECOND));
        steady.believe(steady.read());
        assert_eq!(steady.now(), FakeClock::START, "the store's time was set right as well");
    }
}
