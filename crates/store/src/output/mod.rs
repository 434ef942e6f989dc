//! Output of jobs: what every backend agrees on, in memory here and in segment files beside it; `airunner-aws` has it in
//! S3.

mod files;
mod measured;
mod memory;
pub mod record;
mod segment;

pub(crate) use files::SegmentOutput;
pub use measured::Measured;
pub(crate) use memory::MemoryOutput;

use airunner_core::{Error, Label, OutputChunk, Result, Sequence};

/// Bytes of one chunk, at most.
const MAX_CHUNK: usize = 256 * 1024;

/// Up to where output is gone, once all of the attempts up to this one is: before the event that ends it.
pub fn all_of(attempt: u32) -> Sequence {
    Sequence::new(attempt, Sequence::MAX_N)
}

/// Refuses what no worker of ours sends.
///
/// # Errors
/// `too-large` for a chunk of more than 256 KiB; `invalid-argument` for chunks out of order or of two attempts.
pub fn check(chunks: &[OutputChunk]) -> Result<()> {
    if chunks.iter().any(|chunk| chunk.bytes.len() > MAX_CHUNK) {
        return Err(Error::new(Label::TooLarge, "a chunk of output has at most 256 KiB: cut it"));
    }
    let in_order = chunks.is_sorted_by(|one, next| {
        one.sequence < next.sequence && one.sequence.attempt() == next.sequence.attempt()
    });
    if in_order {
        return Ok(());
    }
    Err(Error::invalid("chunks", "chunks are of one attempt, in order of their sequence"))
}
