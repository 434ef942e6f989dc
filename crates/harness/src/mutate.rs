//! Inputs out of others, where no fuzzer is at hand: a few changes at random, which repeat with their seed. Coverage
//! is not looked at.

use airunner_core::SecureRandom as _;
use airunner_testkit::random::SeededRandom;

/// Bytes of an input at most.
const MOST: usize = 64 * 1024;
/// Changes of one input at most.
const CHANGES: usize = 6;
/// Numbers at which readers of lengths go wrong.
const EDGES: [u32; 8] = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];

/// Makes inputs.
pub struct Mutator(SeededRandom);

impl Mutator {
    /// The inputs that belong to `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed))
    }

    /// An input made from one of `corpus`.
    pub fn input(&self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(CHANGES) {
            self.change(&mut input, corpus);
        }
        input.truncate(MOST);
        input
    }

    fn change(&self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let length = self.below(17).min(input.len() - at);
        match self.below(8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..at + length)),
            2 => input.insert(at, self.byte()),
            3 => {
                let again = input[at..at + length].to_vec();
                input.splice(at..at, again);
            }
            4 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let to = (from + self.below(64)).min(other.len());
                input.splice(at..at + length, other[from..to].iter().copied());
            }
            5 if input.len() >= at + 4 => {
                input[at..at + 4].copy_from_slice(&EDGES[self.below(EDGES.len())].to_be_bytes());
            }
            6 if at < input.len() => input[at] ^= 1 << self.below(8),
            _ if at < input.len() => input[at] = self.byte(),
            _ => input.push(self.byte()),
        }
    }

    fn byte(&self) -> u8 {
        let mut byte = [0];
        self.0.fill(&mut byte);
        byte[0]
    }

    fn below(&self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        usize::try_from(u64::from_be_bytes(bytes) % bound.max(1) as u64).expect("less than a usize")
    }
}
