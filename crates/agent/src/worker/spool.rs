//! A job's output that memory has no room for, on disk: in a file without a name, written round and round, of which
//! nothing is left whatever becomes of the worker. When output goes there is `outbox`'s to say.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::task::spawn_blocking;

/// The file of one attempt, made when it is first written to.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    size: u64,
    ring: Mutex<Ring>,
}

/// Positions count from the first byte ever written; where they are in the file is the rest of their division by its size.
#[derive(Debug, Default)]
struct Ring {
    file: Option<Arc<File>>,
    written: u64,
    freed: u64,
}

/// Where a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    start: u64,
    pub(super) len: usize,
}

impl Place {
    fn end(self) -> u64 {
        self.start + self.len as u64
    }
}

impl Spool {
    /// Of at most `size` bytes, in this directory.
    pub(super) fn new(directory: PathBuf, size: u64) -> Self {
        Self { directory, size, ring: Mutex::default() }
    }

    /// Bytes that there is room for.
    pub(super) fn room(&self) -> u64 {
        let ring = self.lock();
        self.size - (ring.written - ring.freed)
    }

    /// Writes these pieces, one behind the other; there must be room for them. One call at a time: what is written later
    /// is freed later. It is not synced, as it is of no use to another run of the worker.
    ///
    /// # Errors
    /// Where the disk is full or broken; then nothing was written.
    pub(super) async fn write(&self, pieces: Vec<Bytes>) -> io::Result<Vec<Place>> {
        let (file, start) = {
            let ring = self.lock();
            (ring.file.clone(), ring.written)
        };
        let (directory, size) = (self.directory.clone(), self.size);
        let write = move || {
            let file = file.map_or_else(|| tempfile::tempfile_in(directory).map(Arc::new), Ok)?;
            let mut places: Vec<Place> = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let start = places.last().map_or(start, |last| last.end());
                let place = Place { start, len: piece.len() };
                let mut written = 0;
                for (at, part) in parts(place, size) {
                    file.write_all_at(&piece[written..written + part], at)?;
                    written += part;
                }
                places.push(place);
            }
            io::Result::Ok((file, places))
        };
        let (file, places) = spawn_blocking(write).await.map_err(io::Error::other)??;
        let mut ring = self.lock();
        ring.file = Some(file);
        ring.written = places.last().map_or(start, |last| last.end());
        Ok(places)
    }

    /// What is at these places, which were written and not freed.
    ///
    /// # Errors
    /// Where the disk does not give it back.
    pub(super) async fn read(&self, places: Vec<Place>) -> io::Result<Vec<Bytes>> {
        let file = self.lock().file.clone().ok_or(io::ErrorKind::NotFound)?;
        let size = self.size;
        let read = move || {
            let piece = |place: Place| {
                let mut bytes = vec![0; place.len];
                let mut read = 0;
                for (at, part) in parts(place, size) {
                    file.read_exact_at(&mut bytes[read..read + part], at)?;
                    read += part;
                }
                Ok(Bytes::from(bytes))
            };
            places.into_iter().map(piece).collect()
        };
        spawn_blocking(read).await.map_err(io::Error::other)?
    }

    /// Nobody wants what is at this place any more, nor what was written before it. A file of which nothing is wanted is
    /// given up.
    pub(super) fn free(&self, place: Place) {
        let mut ring = self.lock();
        ring.freed = place.end();
        if ring.freed == ring.written
            && let Some(file) = ring.file.take()
        {
            // That of a large file takes its time.
            spawn_blocking(move || drop(file));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in the file a place is, and how much of it: it may go over the end.
fn parts(place: Place, size: u64) -> impl Iterator<Item = (u64, usize)> {
    let at = place.start % size;
    let first = place.len.min(usize::try_from(size - at).unwrap_or(usize::MAX));
    [(at, first), (0, place.len - first)].into_iter().filter(|(_, len)| *len > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(byte: u8, len: usize) -> Bytes {
        Bytes::from(vec![byte; len])
    }

    #[tokio::test]
    async fn the_file_is_written_round_and_round_and_never_larger_than_said() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path().to_owned(), 100);
        let mut kept: Vec<(Place, Bytes)> = Vec::new();
        for n in 0..50_u8 {
            while spool.room() < 30 {
                spool.free(kept.remove(0).0);
            }
            let pieces = vec![piece(n, 23), piece(n + 100, 7)];
            kept.extend(spool.write(pieces.clone()).await.unwrap().into_iter().zip(pieces));
            let file = spool.lock().file.clone().unwrap();
            assert!(file.metadata().unwrap().len() <= 100);
            let (places, bytes): (Vec<_>, Vec<_>) = kept.iter().cloned().unzip();
            assert_eq!(spool.read(places).await.unwrap(), bytes);
        }
    }

    #[tokio::test]
    async fn nothing_of_it_has_a_name_and_an_empty_one_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path().to_owned(), 100);
        let places = spool.write(vec![piece(1, 60), piece(2, 40)]).await.unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(spool.room(), 0);
        spool.free(places[0]);
        assert_eq!(spool.room(), 60);
        spool.free(places[1]);
        assert_eq!(spool.room(), 100);
        assert!(spool.lock().file.is_none());
        let again = spool.write(vec![piece(3, 100)]).await.unwrap();
        assert_eq!(spool.read(again).await.unwrap(), [piece(3, 100)]);
    }

    #[tokio::test]
    async fn what_could_not_be_written_takes_no_room() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path().join("missing"), 100);
        assert!(spool.write(vec![piece(1, 60)]).await.is_err());
        assert_eq!(spool.room(), 100);
    }
}
