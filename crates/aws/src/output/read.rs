//! Reading output: the objects after a place, in windows. What overlaps is given once.

use airunner_core::{Error, JobId, Label, OutputChunk, OutputRead, Result, Sequence};
use airunner_store::output::record::{HEADER, Header};

use super::{Inner, PLACES, lock, names::Object};

/// Bytes that are read of an object at a time; several times the longest record.
const WINDOW: u64 = 1024 * 1024;
/// How often the list is read anew because an object in it is gone: merged, or let go.
const TRIES: u32 = 5;

pub(super) async fn after(
    inner: &Inner,
    job: JobId,
    after: Sequence,
    max_bytes: usize,
) -> Result<OutputRead> {
    for _ in 0..TRIES {
        if let Some(read) = try_after(inner, job, after, max_bytes).await? {
            return Ok(read);
        }
    }
    Err(Error::new(Label::StoreUnavailable, "output is being merged faster than it can be read: try again"))
}

/// None where an object of the list was gone by the time it was read.
async fn try_after(
    inner: &Inner,
    job: JobId,
    after: Sequence,
    max_bytes: usize,
) -> Result<Option<OutputRead>> {
    let listing = inner.bucket.list(&job, Some(after.attempt())).await?;
    let lost_until = listing.lost_until().filter(|lost| *lost > after);
    let mut reader = Reader {
        place: lost_until.unwrap_or(after),
        bytes: 0,
        max_bytes,
        read: OutputRead { chunks: Vec::new(), lost_until },
    };
    for object in &listing.objects {
        if object.last <= reader.place {
            continue;
        }
        match reader.take(inner, job, object).await? {
            Taken::All => {}
            Taken::Full => break,
            Taken::Gone => return Ok(None),
        }
    }
    Ok(Some(reader.read))
}

/// All chunks of an object; none where it is gone.
pub(super) async fn whole(inner: &Inner, job: JobId, object: &Object) -> Result<Option<Vec<OutputChunk>>> {
    let read = OutputRead::default();
    let mut reader = Reader { place: Sequence::default(), bytes: 0, max_bytes: usize::MAX, read };
    match reader.take(inner, job, object).await? {
        Taken::Gone => Ok(None),
        Taken::All | Taken::Full => Ok(Some(reader.read.chunks)),
    }
}

struct Reader {
    /// Chunks up to and including this one are had.
    place: Sequence,
    bytes: usize,
    max_bytes: usize,
    read: OutputRead,
}

enum Taken {
    All,
    Full,
    Gone,
}

impl Reader {
    async fn take(&mut self, inner: &Inner, job: JobId, object: &Object) -> Result<Taken> {
        let key = object.key(job);
        let known = lock(&inner.places).get(&(job, self.place)).cloned();
        let mut offset = known.filter(|(known, _)| *known == key).map_or(0, |(_, offset)| offset);
        while offset < object.size {
            let Some(window) = inner.bucket.get(&key, offset, WINDOW.min(object.size - offset)).await? else {
                return Ok(Taken::Gone);
            };
            let (parsed, is_full) = self.parse(&window);
            offset += parsed as u64;
            if is_full {
                remember(inner, (job, self.place), (key, offset));
                return Ok(Taken::Full);
            }
            if parsed == 0 {
                // Objects are put whole: somebody else wrote to this one.
                tracing::error!(
                    key,
                    offset,
                    "an object with output is damaged; the rest of it is passed over"
                );
                break;
            }
        }
        self.place = self.place.max(object.last);
        Ok(Taken::All)
    }

    /// Takes the whole records of `window`. Returns how many bytes they were, and whether there is no room for more.
    fn parse(&mut self, window: &[u8]) -> (usize, bool) {
        let mut rest = window;
        while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
            let Some(header) = Header::read(*header) else { break };
            let Some((bytes, after)) = after.split_at_checked(header.len) else { break };
            if header.sequence > self.place {
                let Some(chunk) = header.chunk(bytes.to_vec().into()) else { break };
                self.bytes += bytes.len();
                if self.bytes > self.max_bytes && !self.read.chunks.is_empty() {
                    return (window.len() - rest.len(), true);
                }
                self.place = chunk.sequence;
                self.read.chunks.push(chunk);
            }
            rest = after;
        }
        (window.len() - rest.len(), false)
    }
}

/// So that the next read of a watcher begins where this one ended.
fn remember(inner: &Inner, at: (JobId, Sequence), place: (String, u64)) {
    let mut places = lock(&inner.places);
    if places.len() >= PLACES {
        places.clear();
    }
    places.insert(at, place);
}
