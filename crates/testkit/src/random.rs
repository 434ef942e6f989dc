//! Randomness that repeats: the same seed gives the same bytes, so a failing test fails again. Never for keys that
//! anyone trusts.

use std::sync::atomic::{AtomicU64, Ordering};

use airunner_core::SecureRandom;
use ring::digest::{Context, SHA256};

/// SHA-256 over the seed and a counter. Threads that share one get different bytes.
#[derive(Debug)]
pub struct SeededRandom {
    seed: u64,
    blocks: AtomicU64,
}

impl SeededRandom {
    /// The sequence that belongs to `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed, blocks: AtomicU64::new(0) }
    }
}

impl SecureRandom for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let block = self.blocks.fetch_add(1, Ordering::Relaxed);
            let mut context = Context::new(&SHA256);
            context.update(&self.seed.to_be_bytes());
            context.update(&block.to_be_bytes());
            chunk.copy_from_slice(&context.finish().as_ref()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(random: &dyn SecureRandom) -> [u8; 40] {
        random.array()
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        assert_eq!(bytes(&SeededRandom::new(1)), bytes(&SeededRandom::new(1)));
        assert_ne!(bytes(&SeededRandom::new(1)), bytes(&SeededRandom::new(2)));
    }

    #[test]
    fn bytes_drawn_later_differ() {
        let random = SeededRandom::new(1);
        assert_ne!(bytes(&random), bytes(&random));
    }
}
