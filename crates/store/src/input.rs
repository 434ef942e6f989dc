//! What goes into a job: who may write it, how much, and how long it is kept.

use airunner_core::{AuditEntry, Error, InputWrite, InputWriter, Job, JobInput, Label, Result};

use crate::rows::{InputWritten, Rows};

/// Bytes that are kept of one job, at most. What each piece costs beside its bytes counts too.
const MAX_INPUT: u64 = 1024 * 1024;

pub(crate) fn write(rows: &mut dyn Rows, write: &InputWrite, audit: &AuditEntry) -> Result<()> {
    let id = &write.job_id;
    let job = rows.job_control(id)?.ok_or_else(|| Error::not_found("job", id))?;
    if job.state.has_ended() {
        return Err(Error::new(Label::JobEnded, format!("the job has ended: it is {}", job.state)));
    }
    let written = rows.input_written(id)?;
    if is_repeated(&written, write.writer) {
        return Ok(());
    }
    if written.end {
        return Err(Error::new(
            Label::JobEnded,
            "the job's standard input was closed: nothing more is taken",
        ));
    }
    let same = written.writer.map(|writer| writer.id) == write.writer.map(|writer| writer.id);
    if written.writer.is_some() && !same && !write.take {
        return Err(Error::new(Label::InputTaken, "someone else writes to this job: take it over, or watch"));
    }
    if written.bytes + write.bytes.len() as u64 > MAX_INPUT {
        return Err(Error::new(
            Label::LimitReached,
            "a job takes at most 1 MiB of standard input: let it fetch what is larger",
        ));
    }
    if write.end || !write.bytes.is_empty() || write.size.is_some() {
        let (n, bytes) = (written.last + 1, write.bytes.clone());
        let input = JobInput { n, bytes, end: write.end, size: write.size };
        rows.insert_input(id, &input, write.writer)?;
    }
    if same && write.writer.is_some() { Ok(()) } else { rows.insert_audit(audit) }
}

/// Whether the last writer sends again what it has written: its answer was lost.
fn is_repeated(written: &InputWritten, writer: Option<InputWriter>) -> bool {
    let earlier = written.writer.zip(writer);
    earlier.is_some_and(|(last, again)| last.id == again.id && again.piece <= last.piece)
}

/// Forgets the input of a job whose attempt is over, unless another one is to read it: what was typed at a terminal
/// answered what stood there, and is never typed again.
pub(crate) fn forget(rows: &mut dyn Rows, job: &Job) -> Result<()> {
    let is_of_use = job.spec.terminal().is_none() && !job.state.has_ended();
    if job.spec.takes_input() && !is_of_use { rows.delete_inputs(&job.id) } else { Ok(()) }
}
