//! How long to wait before the next try.

use std::time::Duration;

use airunner_core::SecureRandom;

/// Waiting times that double from try to try, each shortened at random by up to a half so that many clients of one
/// server don't come back at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    /// Between `least` (the first) and `most`.
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, tries: 0 }
    }

    /// The next waiting time.
    pub fn next(&mut self, random: &dyn SecureRandom) -> Duration {
        let full = self.least.saturating_mul(1 << self.tries.min(20)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        let [byte] = random.array::<1>();
        full.mul_f64(1.0 - f64::from(byte) / 512.0)
    }

    /// Begins anew: something worked.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

impl Default for Backoff {
    /// 100 ms to 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(u8);

    impl SecureRandom for Always {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    #[test]
    fn waits_double_up_to_the_most_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|_| backoff.next(&Always(0)).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        backoff.reset();
        assert_eq!(backoff.next(&Always(0)).as_millis(), 100);
    }

    #[test]
    fn chance_shortens_a_wait_by_half_at_most() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(100));
        let shortest = backoff.next(&Always(255));
        assert!((Duration::from_millis(50)..Duration::from_millis(51)).contains(&shortest), "{shortest:?}");
        for _ in 0..100 {
            assert!(backoff.next(&Always(0)) == Duration::from_millis(100));
        }
    }
}
