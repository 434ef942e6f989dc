//! What jobs that do the same have in common.

use airunner_core::Job;
use ring::digest::{Context, SHA256};

/// What jobs of the same owner, command and arguments have in common.
pub fn alike(job: &Job) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    let owner = job.owner.folded();
    let parts = [owner.as_str(), job.spec.command.as_str()]
        .into_iter()
        .chain(job.spec.args.iter().map(String::as_str));
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut common = [0; 16];
    common.copy_from_slice(&context.finish().as_ref()[..16]);
    common
}
