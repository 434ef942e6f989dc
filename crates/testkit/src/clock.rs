//! A clock that stands still until a test moves it, and whose sleepers a test can wait for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airunner_core::{Clock, Monotonic, Timestamp};
use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

/// A fake clock. Share it as an `Arc`: what sleeps on it wakes when [`FakeClock::advance`] passes its end.
pub struct FakeClock {
    state: Mutex<State>,
    sleepers: watch::Sender<usize>,
}

struct State {
    now: Timestamp,
    monotonic: Duration,
    next_id: u64,
    /// Who sleeps, by the monotonic time of waking and a number of their own.
    sleeping: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
}

impl FakeClock {
    /// Where fake time begins unless a test says otherwise: 2040-01-01, midnight UTC. Far ahead of any real clock: an emulator
    /// removes, by its own, what has a time to live that is over.
    pub const START: Timestamp = Timestamp::from_millis(2_208_988_800_000);

    /// A clock that shows [`FakeClock::START`].
    pub fn new() -> Self {
        Self::starting_at(Self::START)
    }

    /// A clock that shows `now`.
    pub fn starting_at(now: Timestamp) -> Self {
        let state = State { now, monotonic: Duration::ZERO, next_id: 0, sleeping: BTreeMap::new() };
        Self { state: Mutex::new(state), sleepers: watch::Sender::new(0) }
    }

    /// Moves wall and monotonic time on, and wakes every sleeper whose time has come, earliest first.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.lock();
        state.now = state.now.plus(duration);
        state.monotonic += duration;
        let reached = state.monotonic;
        while let Some(entry) = state.sleeping.first_entry() {
            if entry.key().0 > reached {
                break;
            }
            // A sleeper that has gone away meanwhile needs no waking.
            let _ = entry.remove().send(());
        }
        self.publish(&state);
    }

    /// Sets wall time, forwards or backwards, as when a process starts anew on a machine whose clock was changed.
    /// Monotonic time and sleepers don't notice.
    pub fn set(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// Returns once at least `count` tasks sleep on this clock: whoever waits for that can advance without a race.
    pub async fn wait_for_sleepers(&self, count: usize) {
        // The sender lives in self, so the wait can't fail.
        let _ = self.sleepers.subscribe().wait_for(|sleeping| *sleeping >= count).await;
    }

    /// How many tasks sleep on this clock.
    pub fn sleepers(&self) -> usize {
        *self.sleepers.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        self.sleepers.send_replace(state.sleeping.len());
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::new(self.lock().monotonic)
    }

    async fn sleep(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        let (waker, woken) = oneshot::channel();
        let key = {
            let mut state = self.lock();
            let key = (state.monotonic + duration, state.next_id);
            state.next_id += 1;
            state.sleeping.insert(key, waker);
            self.publish(&state);
            key
        };
        let _sleeper = Sleeper { clock: self, key };
        // The waker is dropped only with the clock, which this call borrows.
        let _ = woken.await;
    }
}

/// Takes a sleeper off the list when its sleep ends, even by being dropped.
struct Sleeper<'c> {
    clock: &'c FakeClock,
    key: (Duration, u64),
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let mut state = self.clock.lock();
        if state.sleeping.remove(&self.key).is_some() {
            self.clock.publish(&state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_come_and_not_before() {
        let clock = Arc::new(FakeClock::new());
        let sleeping = clock.clone();
        let task = tokio::spawn(async move { sleeping.sleep(Duration::from_secs(10)).await });
        clock.wait_for_sleepers(1).await;
        clock.advance(Duration::from_millis(9_999));
        assert_eq!(clock.sleepers(), 1);
        clock.advance(Duration::from_millis(1));
        task.await.unwrap();
        assert_eq!(clock.sleepers(), 0);
        assert_eq!(clock.now(), FakeClock::START.plus(Duration::from_secs(10)));
    }

    #[tokio::test]
    async fn a_sleep_that_is_dropped_is_no_longer_counted() {
        let clock = Arc::new(FakeClock::new());
        let sleeping = clock.clone();
        let task = tokio::spawn(async move { sleeping.sleep(Duration::from_secs(10)).await });
        clock.wait_for_sleepers(1).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn setting_the_wall_time_leaves_monotonic_time_alone() {
        let clock = FakeClock::new();
        clock.set(Timestamp::from_millis(5));
        assert_eq!(clock.now(), Timestamp::from_millis(5));
        assert_eq!(clock.monotonic(), Monotonic::default());
    }
}
