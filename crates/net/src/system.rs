//! The real clock and the real randomness. They stand here because server, client and bench all need them and all
//! build on this crate; everything else takes them as [`Clock`] and [`SecureRandom`].

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use airunner_core::{Clock, Monotonic, SecureRandom, Timestamp};
use async_trait::async_trait;
use ring::rand::SecureRandom as _;

/// The machine's clock. All values of it tell the same time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The latest wall time that was told in this process, in milliseconds.
static LATEST: AtomicI64 = AtomicI64::new(0);

/// When monotonic time began, for this process.
static START: LazyLock<Instant> = LazyLock::new(instant);

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the clock that everybody else takes as an argument"
        )]
        let now = SystemTime::now();
        // A machine whose clock stands before 1970 gets the epoch.
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        advance(&LATEST, i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        // START first: it may be set by this very call.
        let start = *START;
        Monotonic::new(instant().saturating_duration_since(start))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else takes as an argument")]
fn instant() -> Instant {
    Instant::now()
}

/// The later of `millis` and what `latest` holds, which it then holds.
fn advance(latest: &AtomicI64, millis: i64) -> Timestamp {
    let before = latest.fetch_max(millis, Ordering::Relaxed);
    Timestamp::from_millis(before.max(millis))
}

/// The operating system's randomness.
#[derive(Clone, Debug)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// The one source there is.
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl SecureRandom for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        if self.0.fill(buffer).is_err() {
            tracing::error!(
                "the operating system gives no random bytes: stopping, since nothing here is safe without"
            );
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_does_not_follow_a_clock_that_is_set_back() {
        let latest = AtomicI64::new(0);
        let told = [1_000, 2_000, 500, 1_999, 2_001].map(|millis| advance(&latest, millis).as_millis());
        assert_eq!(told, [1_000, 2_000, 2_000, 2_000, 2_001]);
    }

    #[test]
    fn monotonic_time_is_the_same_for_every_clock() {
        let earlier = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= earlier);
    }

    #[test]
    fn random_bytes_differ() {
        let random: &dyn SecureRandom = &SystemRandom::new();
        assert_ne!(random.array::<32>(), random.array::<32>());
    }
}
