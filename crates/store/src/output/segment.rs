//! The segment files of one job: `ATTEMPT-FIRST_N.seg` in the job's directory, appended to, never changed. All calls
//! block. Whoever calls sees to it that one append runs at a time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use airunner_core::{OutputChunk, Sequence};

use super::{
    all_of,
    record::{self, HEADER, Header},
};

/// The file that says up to where output is gone.
const LOST: &str = "lost";

/// Bytes that are written before the disk is waited for, give or take a chunk. Whoever else waits for the same disk, as a
/// revocation does, waits for that much, and not for all that a job printed.
const PIECE: u64 = 1024 * 1024;

/// A segment file.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The place of its first chunk, which is its name.
    pub(super) first: Sequence,
    path: PathBuf,
    len: u64,
}

/// Where the next chunk of an attempt goes.
pub(super) struct Tail {
    attempt: u32,
    /// The last chunk that is kept.
    last: Option<Sequence>,
    open: Option<Open>,
}

/// The segment that is appended to.
struct Open {
    file: File,
    /// Its sound part; what lies behind it was torn by a crash.
    len: u64,
}

/// How large things may get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a job, headers included.
    pub(super) job: u64,
    /// Bytes of a segment; past it a new one is begun.
    pub(super) segment: u64,
}

/// The segments of the job, in order. None where the job has no output.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(first) = entry.file_name().to_str().and_then(read_name) else { continue };
        match entry.metadata() {
            Ok(metadata) => segments.push(Segment { first, path: entry.path(), len: metadata.len() }),
            // It was let go meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

fn read_name(name: &str) -> Option<Sequence> {
    let (attempt, n) = name.strip_suffix(".seg")?.split_once('-')?;
    Some(Sequence::new(attempt.parse().ok()?, n.parse().ok()?))
}

fn write_name(first: Sequence) -> String {
    format!("{:010}-{:013}.seg", first.attempt(), first.n())
}

/// Up to where output is gone, if some is.
pub(super) fn lost_until(dir: &Path) -> io::Result<Option<Sequence>> {
    match fs::read_to_string(dir.join(LOST)) {
        Ok(text) => Ok(text.trim().parse().ok().map(Sequence::from_u64)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Segment {
    /// Goes through the records from `offset` on, as long as they are sound and `visit` wants more. Returns where it
    /// stopped: behind the last record that `visit` took.
    pub(super) fn scan(
        &self,
        offset: u64,
        skip_until: Sequence,
        mut visit: impl FnMut(OutputChunk) -> bool,
    ) -> io::Result<u64> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut end = offset;
        while let Some(header) = next_header(&mut reader)? {
            if header.sequence <= skip_until {
                reader.seek_relative(i64::try_from(header.len).unwrap_or(i64::MAX))?;
            } else {
                let mut bytes = vec![0; header.len];
                if !fill(&mut reader, &mut bytes)? {
                    break;
                }
                let Some(chunk) = header.chunk(bytes.into()) else { break };
                if !visit(chunk) {
                    break;
                }
            }
            end += (HEADER + header.len) as u64;
        }
        Ok(end)
    }

    /// Whether a record that lies after `after` begins at `offset`, or nothing does.
    pub(super) fn continues_at(&self, offset: u64, after: Sequence) -> io::Result<bool> {
        if offset >= self.len {
            return Ok(offset == self.len);
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(next_header(&mut file)?.is_some_and(|header| header.sequence > after))
    }
}

fn next_header(reader: &mut impl Read) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER];
    Ok(if fill(reader, &mut bytes)? { Header::read(bytes) } else { None })
}

/// Whether there was enough to fill the buffer.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The last chunk that is kept of the attempt, and the length of the sound part of its newest segment.
fn last_of(segments: &[Segment], attempt: u32) -> io::Result<(Option<Sequence>, u64)> {
    let mut newest_end = None;
    for segment in segments.iter().rev().filter(|segment| segment.first.attempt() == attempt) {
        let mut last = None;
        let end = segment.scan(0, Sequence::default(), |chunk| {
            last = Some(chunk.sequence);
            true
        })?;
        let newest_end = *newest_end.get_or_insert(end);
        if last.is_some() {
            return Ok((last, newest_end));
        }
    }
    Ok((None, newest_end.unwrap_or(0)))
}

/// The last chunk of the attempt that was kept, even if it is gone since. Changes nothing.
pub(super) fn last(dir: &Path, attempt: u32) -> io::Result<Option<Sequence>> {
    let (last, _) = last_of(&list(dir)?, attempt)?;
    Ok(last.or(lost_until(dir)?.filter(|lost| lost.attempt() == attempt)))
}

impl Tail {
    /// Finds where the attempt's output ends.
    pub(super) fn find(dir: &Path, attempt: u32) -> io::Result<Self> {
        let segments = list(dir)?;
        let (last, len) = last_of(&segments, attempt)?;
        let newest = segments.iter().rfind(|segment| segment.first.attempt() == attempt);
        let open = |segment: &Segment| OpenOptions::new().write(true).open(&segment.path);
        let open = newest.map(open).transpose()?.map(|file| Open { file, len });
        Ok(Self { attempt, last, open })
    }

    /// Whether it is the attempt's tail still: another server may have appended since, to this segment or, where this
    /// one is full, to a newer one.
    pub(super) fn is_current(&self, attempt: u32, limits: Limits) -> bool {
        let as_left = |open: &Open| {
            open.len < limits.segment
                && open
                    .file
                    .metadata()
                    .is_ok_and(|metadata| metadata.len() == open.len && metadata.nlink() > 0)
        };
        self.attempt == attempt && self.open.as_ref().is_some_and(as_left)
    }

    /// Appends those chunks that are not kept yet, durably.
    pub(super) fn append(&mut self, dir: &Path, chunks: &[OutputChunk], limits: Limits) -> io::Result<()> {
        let new = chunks.iter().filter(|chunk| self.last.is_none_or(|last| chunk.sequence > last));
        let new: Vec<_> = new.collect();
        let mut rest = new.as_slice();
        let mut begun = false;
        while let Some(first) = rest.first() {
            if self.open.as_ref().is_none_or(|open| open.len >= limits.segment) {
                self.open = Some(begin(dir, first.sequence)?);
                begun = true;
            }
            let Some(open) = &mut self.open else { break };
            let (piece, others) = rest.split_at(first_piece(rest, limits.segment - open.len));
            open.append(piece)?;
            self.last = piece.last().map(|chunk| chunk.sequence);
            rest = others;
        }
        // A chunk that was there already may have been written by an append that failed before it was durable.
        if new.is_empty()
            && let Some(open) = &self.open
        {
            open.file.sync_data()?;
        }
        // Room for the newest segment is made when it is begun.
        if begun { enforce(dir, limits.job.saturating_sub(limits.segment)) } else { Ok(()) }
    }
}

impl Open {
    fn append(&mut self, chunks: &[&OutputChunk]) -> io::Result<()> {
        // What a crash tore, or another attempt to write left, is no part of the file.
        if self.file.metadata()?.len() != self.len {
            self.file.set_len(self.len)?;
        }
        let written = write_at(&self.file, self.len, chunks);
        let written = written.and_then(|end| self.file.sync_data().map(|()| end));
        if written.is_err() {
            // It is not durable, so nobody may take it for kept.
            let _ = self.file.set_len(self.len);
        }
        self.len = written?;
        Ok(())
    }
}

/// How many of the chunks are written together: one, and those that both a piece and the segment have room for.
fn first_piece(chunks: &[&OutputChunk], room: u64) -> usize {
    let mut bytes = 0;
    let fits = |chunk: &&&OutputChunk| {
        let fits = bytes < room.min(PIECE);
        bytes += (HEADER + chunk.bytes.len()) as u64;
        fits
    };
    chunks.iter().take_while(fits).count().max(1)
}

/// Writes the chunks' records, beginning at `start`; returns where they end.
fn write_at(mut file: &File, start: u64, chunks: &[&OutputChunk]) -> io::Result<u64> {
    let headers: Vec<_> = chunks.iter().map(|chunk| record::header(chunk)).collect();
    let parts = headers.iter().zip(chunks).flat_map(|(header, chunk)| [&header[..], &chunk.bytes]);
    let mut parts: Vec<_> = parts.map(IoSlice::new).collect();
    let mut rest = parts.as_mut_slice();
    let mut end = file.seek(SeekFrom::Start(start))?;
    while !rest.is_empty() {
        let written = match file.write_vectored(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            written => written?,
        };
        end += written as u64;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(end)
}

fn begin(dir: &Path, first: Sequence) -> io::Result<Open> {
    if !dir.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent)?;
        }
    }
    let path = dir.join(write_name(first));
    // One of this name is there if an append failed after it was made; it holds nothing that was kept.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    sync_dir(dir)?;
    Ok(Open { file, len: 0 })
}

/// Bytes that the job's segments take up.
pub(super) fn bytes(dir: &Path) -> io::Result<u64> {
    Ok(list(dir)?.iter().map(|segment| segment.len).sum())
}

/// Lets every segment go, and leaves word of it. Returns how many bytes they were.
pub(super) fn release(dir: &Path) -> io::Result<u64> {
    let segments = list(dir)?;
    let Some(last) = segments.last() else { return Ok(0) };
    mark_lost(dir, all_of(last.first.attempt()))?;
    for segment in &segments {
        fs::remove_file(&segment.path)?;
    }
    Ok(segments.iter().map(|segment| segment.len).sum())
}

/// Removes the job's directory. Returns how many bytes its segments were.
pub(super) fn remove(dir: &Path) -> io::Result<u64> {
    let bytes = bytes(dir)?;
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(bytes),
        removed => removed.map(|()| bytes),
    }
}

/// Writes durably that output up to here is gone.
fn mark_lost(dir: &Path, until: Sequence) -> io::Result<()> {
    let marker = dir.join("lost.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&marker)?;
    writeln!(file, "{until}")?;
    file.sync_data()?;
    fs::rename(&marker, dir.join(LOST))?;
    sync_dir(dir)
}

/// Lets the oldest segments go until the job keeps to its limit; the newest stays.
fn enforce(dir: &Path, limit: u64) -> io::Result<()> {
    let segments = list(dir)?;
    let mut total: u64 = segments.iter().map(|segment| segment.len).sum();
    for pair in segments.windows(2).take_while(|pair| {
        let over = total > limit;
        total -= pair[0].len;
        over
    }) {
        // First it is written that it goes, so that nobody misses it unawares.
        mark_lost(dir, Sequence::from_u64(pair[1].first.as_u64().saturating_sub(1)))?;
        fs::remove_file(&pair[0].path)?;
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
