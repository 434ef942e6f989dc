//! Output of jobs: what both backends agree on, in memory here and in segment files beside it.

mod files;
mod measured;
mod memory;
mod record;
mod segment;

pub(crate) use files::SegmentOutput;
pub(crate) use measured::Measured;
pub(crate) use memory::MemoryOutput;

use airunner_core::{Error, Label, OutputChunk, Result};

/// Bytes of one chunk, at most.
const MAX_CHUNK: usize = 256 * 1024;

/// Refuses what no worker of ours sends.
fn check(chunks: &[OutputChunk]) -> Result<()> {
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
