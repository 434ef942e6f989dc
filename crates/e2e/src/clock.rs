//! A clock that runs like the machine's, ahead of it by as much as a test says.

use std::{
    sync::atomic::{AtomicI64, Ordering::SeqCst},
    time::Duration,
};

use airunner_core::{Clock, Monotonic, Timestamp};
use airunner_net::system::SystemClock;
use async_trait::async_trait;
use tokio::sync::Notify;

/// The shifted clock.
#[derive(Debug, Default)]
pub struct ShiftedClock {
    wall: AtomicI64,
    steady: AtomicI64,
    advanced: Notify,
}

impl ShiftedClock {
    /// Lets time pass: wall and monotonic time alike. Whoever sleeps no longer than that wakes.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.wall.fetch_add(millis, SeqCst);
        self.steady.fetch_add(millis, SeqCst);
        self.advanced.notify_waiters();
    }

    /// Sets the wall clock alone ahead or back, as a broken machine does.
    pub fn jump(&self, millis: i64) {
        self.wall.fetch_add(millis, SeqCst);
    }
}

#[async_trait]
impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.wall.load(SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        let ahead = u64::try_from(self.steady.load(SeqCst)).unwrap_or(0);
        SystemClock.monotonic().plus(Duration::from_millis(ahead))
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.monotonic().plus(duration);
        loop {
            let advanced = self.advanced.notified();
            let left = until.since(self.monotonic());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = SystemClock.sleep(left) => return,
                () = advanced => {}
            }
        }
    }
}
