//! Rows of a job's standard input and of its control events. An item holds 400 KB at most: what is larger is split.

use airunner_core::{
    ControlEvent, Error, InputWriter, JobId, JobInput, Result, Sequence, TerminalSize, Timestamp,
};
use airunner_store::backend::{EventRows, InputWritten, JobRows as _};

use super::{
    DynamoRows,
    item::{Fields, Item, Row},
    key::RowKey,
    listing::{Bounds, Listing},
    transaction::Rely,
};
use crate::tables::{JOB_EVENTS, JOB_INPUTS};

/// Bytes of a value in one item, which leaves room for the rest of it.
const PIECE: usize = 256 * 1024;

/// The row that says how much was written; it goes when the input is forgotten, and the pieces by their time to live.
const WRITTEN: &str = "#written";

/// Ten digits: the order of the texts is that of the numbers.
fn piece(n: u64) -> String {
    format!("{n:010}")
}

impl DynamoRows {
    pub(super) fn read_input_written(&self, id: &JobId) -> Result<InputWritten> {
        let item = self.tx.get(RowKey::text(&JOB_INPUTS, &id.to_string(), WRITTEN), Rely::Yes)?;
        let Some(item) = item else { return Ok(InputWritten::default()) };
        let row = Row(&item);
        let writer = row.word_or_none("writer")?.zip(row.number_or_none("writer_piece")?);
        Ok(InputWritten {
            last: row.number("last")?,
            bytes: row.number("bytes")?,
            end: row.flag("ended"),
            writer: writer.map(|(id, piece)| InputWriter { id, piece }),
        })
    }

    pub(super) fn read_inputs(&self, id: &JobId, after: u64, limit: u32) -> Result<Vec<JobInput>> {
        let last = self.read_input_written(id)?.last;
        let mut found = Vec::new();
        if last <= after || limit == 0 {
            return Ok(found);
        }
        let listing = Listing {
            table: &JOB_INPUTS,
            index: None,
            partitions: vec![id.to_string()],
            bounds: Bounds::text(piece(after + 1), piece(last)),
            descending: false,
            place: |item| Ok(Row(item).text("piece")?.to_owned()),
            is_tie: |_, _| false,
        };
        self.tx.visit(&listing, &mut |place, item| {
            let row = Row(&item);
            let n = place.parse().map_err(|_| Error::internal("a piece of input has no number"))?;
            let size = row.number_or_none("size")?.map(TerminalSize::from_u32);
            found.push(JobInput { n, bytes: row.bytes("bytes")?, end: row.flag("ended"), size });
            Ok(found.len() < limit as usize)
        })?;
        Ok(found)
    }

    pub(super) fn write_input(
        &mut self,
        id: &JobId,
        input: &JobInput,
        writer: Option<InputWriter>,
    ) -> Result<()> {
        let written = self.read_input_written(id)?;
        let job = id.to_string();
        let written_for = self.job_begins(id)?;
        let pieces: Vec<&[u8]> =
            if input.bytes.is_empty() { vec![&[]] } else { input.bytes.chunks(PIECE).collect() };
        let last = input.n + pieces.len() as u64 - 1;
        for (n, bytes) in (input.n..).zip(&pieces) {
            let fields = Fields::default().bytes("bytes", *bytes).flag("ended", input.end && n == last);
            let fields = fields.number_or_none("size", input.size.map(TerminalSize::to_u32));
            let item = fields.number("ttl", self.ttl_of_part(written_for)).done();
            self.tx.put(RowKey::text(&JOB_INPUTS, &job, &piece(n)), item);
        }
        let item = Fields::default()
            .number("last", last)
            .number("bytes", written.bytes + input.bytes.len() as u64)
            .flag("ended", input.end)
            .word_or_none("writer", writer.map(|writer| writer.id))
            .number_or_none("writer_piece", writer.map(|writer| writer.piece))
            .number("ttl", self.ttl_of_part(written_for))
            .done();
        self.tx.put(RowKey::text(&JOB_INPUTS, &job, WRITTEN), item);
        Ok(())
    }

    pub(super) fn forget_inputs(&mut self, id: &JobId) -> Result<()> {
        let job = id.to_string();
        let key = RowKey::text(&JOB_INPUTS, &job, WRITTEN);
        if self.tx.get(key, Rely::Yes)?.is_some() {
            self.tx.delete(key);
        }
        Ok(())
    }

    /// When the job's latest attempt began, or may begin.
    fn job_begins(&self, id: &JobId) -> Result<Timestamp> {
        let job = self.job(id)?.ok_or_else(|| Error::not_found("job", id))?;
        Ok(job.started_at.unwrap_or(job.created_at).max(job.visible_at))
    }

    fn events(&self, job: &JobId, bounds: Bounds, descending: bool) -> Listing<u64> {
        Listing {
            table: &JOB_EVENTS,
            index: None,
            partitions: vec![job.to_string()],
            bounds,
            descending,
            place: |item| Row(item).number("sequence"),
            is_tie: |_, _| false,
        }
    }

    fn read_event(&self, job: &JobId, sequence: u64, item: &Item) -> Result<ControlEvent> {
        let row = Row(item);
        let mut text = row.text("kind")?.to_owned();
        for n in 0..row.number_or_none::<i64>("more")?.unwrap_or(0) {
            let more = self.tx.get(RowKey::number(&JOB_EVENTS, &overflow(job, sequence), n), Rely::No)?;
            let more = more.ok_or_else(|| Error::internal("a part of an event is gone"))?;
            text += Row(&more).text("kind")?;
        }
        let kind = serde_json::from_str(&text).map_err(Error::internal)?;
        Ok(ControlEvent { sequence: Sequence::from_u64(sequence), at: row.time("at")?, kind })
    }
}

/// The partition of the parts of an event that one item does not hold.
pub(super) fn overflow(job: &JobId, sequence: u64) -> String {
    format!("{job}~{sequence}")
}

fn place(sequence: Sequence) -> Result<i64> {
    i64::try_from(sequence.as_u64()).map_err(Error::internal)
}

impl EventRows for DynamoRows {
    fn events_after(&self, job: &JobId, after: Sequence, limit: u32) -> Result<Vec<ControlEvent>> {
        let mut found = Vec::new();
        // A place past all that is counted has nothing after it.
        let Some(from) = after.as_u64().checked_add(1).filter(|_| limit > 0) else { return Ok(found) };
        let listing = self.events(job, Bounds::from(from), false);
        self.tx.visit(&listing, &mut |sequence, item| {
            found.push(self.read_event(job, sequence, &item)?);
            Ok(found.len() < limit as usize)
        })?;
        Ok(found)
    }

    fn last_event(&self, job: &JobId, attempt: u32) -> Result<Option<Sequence>> {
        let end = Sequence::end_of(attempt).as_u64();
        let bounds = Bounds::between(Sequence::new(attempt, 0).as_u64(), end - 1);
        let last = self.tx.peek(&self.events(job, bounds, true))?;
        let last = last.map(|item| Row(&item).number("sequence")).transpose()?;
        Ok(last.map(Sequence::from_u64))
    }

    fn insert_event(&mut self, job: &JobId, event: &ControlEvent) -> Result<()> {
        let id = job.to_string();
        let key = RowKey::number(&JOB_EVENTS, &id, place(event.sequence)?);
        // A place is taken only by a retry, or by an earlier end: that is looked at where the commit met it.
        if self.tx.wrote(key) || (self.tx.attempt > 0 && self.tx.get(key, Rely::Yes)?.is_some()) {
            return Ok(());
        }
        let text = serde_json::to_string(&event.kind).map_err(Error::internal)?;
        let parts = split(&text, PIECE);
        let (first, more) = parts.split_first().unwrap_or((&"", &[]));
        let item = Fields::default()
            .time("at", event.at)
            .text("kind", *first)
            .number("more", more.len())
            .number("ttl", self.ttl_of_part(event.at))
            .done();
        self.tx.put(key, item);
        for (n, part) in (0..).zip(more) {
            let item = Fields::default().text("kind", *part).number("ttl", self.ttl_of_part(event.at)).done();
            self.tx.put(RowKey::number(&JOB_EVENTS, &overflow(job, event.sequence.as_u64()), n), item);
        }
        Ok(())
    }
}

/// Cuts a text into pieces of at most `most` bytes, between characters.
fn split(text: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(most));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_loses_nothing() {
        let text = "aé€😀".repeat(100);
        for most in 4..20 {
            let pieces = split(&text, most);
            assert!(pieces.iter().all(|piece| piece.len() <= most && !piece.is_empty()));
            assert_eq!(pieces.concat(), text);
        }
        assert_eq!(split("", 4), Vec::<&str>::new());
    }
}
