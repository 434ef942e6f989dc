//! Carries a job's output from its pipes to the log files and the reader. Must not change, reorder within a
//! stream, or drop a byte; what waits is bounded, and then the job's pipe blocks.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::job::State;
use crate::log_reader::Progress;
use crate::pty::Master;

/// The most bytes of one [`Chunk`].
pub const CHUNK_LIMIT: usize = 64 * 1024;

/// How long a pipe is read on, once the job has ended, that a process outside its group still holds open.
pub const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Which of a job's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Descriptor 1; all that is written to a terminal.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// Some output, byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its place in the order of arrival over both streams, from 0 without a gap.
    pub sequence: u64,
    /// The stream it came from.
    pub stream: Stream,
    /// How many bytes of that stream came before.
    pub offset: u64,
    /// 1 to [`CHUNK_LIMIT`] bytes.
    pub bytes: Vec<u8>,
}

/// Output may hold secrets, and this ends up in logs: only the length is shown.
impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sequence, stream, offset, bytes } = self;
        write!(f, "Chunk {{ #{sequence}, {stream:?} at {offset}, {} bytes }}", bytes.len())
    }
}

/// The live output of a job. Not reading it blocks the job; dropping it discards what is still to come (but
/// not from the log files).
#[derive(Debug)]
pub struct Output {
    chunks: mpsc::Receiver<Chunk>,
}

impl Output {
    /// The next chunk in order of arrival, or `None` after the last. Safe to cancel.
    pub async fn next(&mut self) -> Option<Chunk> {
        self.chunks.recv().await
    }
}

/// How the output ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Bytes of standard output.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
    /// A process that left the job's group still held a pipe, and reading stopped after [`DRAIN_TIME`]. All
    /// that the job's own group wrote is there.
    pub held: bool,
}

/// The output could not be carried whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{stream:?} of the job cannot be {action}: {source}; what the log files hold is not all")]
pub struct OutputError {
    stream: Stream,
    action: &'static str,
    source: Arc<io::Error>,
}

/// What [`Pump`] tells when it is done.
pub(crate) type Outcome = Option<Result<Drained, OutputError>>;

/// Reads both pipes in one task, so that the order of arrival is one order.
#[derive(Debug)]
pub(crate) struct Pump {
    stdout: Side,
    stderr: Side,
    sequence: u64,
    reader: Option<mpsc::Sender<Chunk>>,
    /// What is in the log files, for their readers.
    logged: watch::Sender<Progress>,
    error: Option<OutputError>,
}

#[derive(Debug)]
struct Side {
    source: Option<Source>,
    buffer: Vec<u8>,
    offset: u64,
    log: Option<Arc<File>>,
}

/// Where a stream comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Pipe(pipe::Receiver),
    Terminal(Arc<Master>),
}

impl Pump {
    /// A terminal has one stream only.
    pub(crate) fn new(
        stdout: Source,
        stderr: Option<Source>,
        buffer: usize,
        logged: watch::Sender<Progress>,
    ) -> (Self, Output) {
        let (sender, chunks) = mpsc::channel(buffer);
        let pump = Self {
            stdout: Side::new(Some(stdout)),
            stderr: Side::new(stderr),
            sequence: 0,
            reader: Some(sender),
            logged,
            error: None,
        };
        (pump, Output { chunks })
    }

    pub(crate) fn log_to(&mut self, (stdout, stderr): (File, File)) {
        self.stdout.log = Some(Arc::new(stdout));
        self.stderr.log = Some(Arc::new(stderr));
    }

    /// Runs until both pipes have ended, or the job has and its pipes are drained.
    pub(crate) async fn run(mut self, mut state: watch::Receiver<State>, outcome: watch::Sender<Outcome>) {
        while self.open() {
            let (stream, read) = tokio::select! {
                read = self.stdout.read(), if self.stdout.open() => (Stream::Stdout, read),
                read = self.stderr.read(), if self.stderr.open() => (Stream::Stderr, read),
                // An error means that the supervising task is gone, and the group with it.
                _ = state.wait_for(State::ended) => break,
            };
            self.carry(stream, read).await;
        }
        let held = self.drain().await;
        self.logged.send_modify(|logged| logged.ended = true);
        // The reader sees the end only when the outcome can be asked for.
        let drained = Drained { stdout: self.stdout.offset, stderr: self.stderr.offset, held };
        outcome.send_replace(Some(self.error.take().map_or(Ok(drained), Err)));
    }

    /// Reads what the group left in the pipes, however slow the reader is; then, for a bounded time, what a
    /// process that left the group adds. Whether such a one is still there at the end.
    async fn drain(&mut self) -> bool {
        let mut owed = (self.stdout.waiting(), self.stderr.waiting());
        let mut deadline = Box::pin(sleep(DRAIN_TIME));
        while self.open() {
            let (stream, read) = tokio::select! {
                biased;
                () = &mut deadline => return true,
                read = self.stdout.read(), if self.stdout.open() => (Stream::Stdout, read),
                read = self.stderr.read(), if self.stderr.open() => (Stream::Stderr, read),
            };
            let length = read.as_ref().map_or(0, |length| *length as u64);
            self.carry(stream, read).await;
            if owed != (0, 0) {
                // Our own bytes do not use up the time of the others', and neither does a slow reader.
                match stream {
                    Stream::Stdout => owed.0 = owed.0.saturating_sub(length),
                    Stream::Stderr => owed.1 = owed.1.saturating_sub(length),
                }
                deadline = Box::pin(sleep(DRAIN_TIME));
            }
        }
        false
    }

    fn open(&self) -> bool {
        self.stdout.open() || self.stderr.open()
    }

    /// Takes what was read to the log and to the reader, waiting for both.
    async fn carry(&mut self, stream: Stream, read: io::Result<usize>) {
        let side = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let length = match read {
            Ok(0) => {
                side.source = None;
                return;
            }
            Ok(length) => length,
            Err(source) => {
                side.source = None;
                self.fail(stream, "read", source);
                return;
            }
        };
        let mut bytes = side.buffer[..length].to_vec();
        let offset = side.offset;
        side.offset += length as u64;
        if let Some(log) = side.log.clone() {
            let (back, written) = append(log, bytes).await;
            bytes = back;
            match written {
                Ok(()) => self.tell(stream),
                Err(source) => {
                    side.log = None;
                    self.fail(stream, "logged", source);
                }
            }
        }
        let chunk = Chunk { sequence: self.sequence, stream, offset, bytes };
        self.sequence += 1;
        if let Some(reader) = &self.reader
            && reader.send(chunk).await.is_err()
        {
            // The reader was dropped: it wants no more, and the job must not block on it.
            self.reader = None;
        }
    }

    /// Lets the readers of the log have what was written.
    fn tell(&self, stream: Stream) {
        self.logged.send_modify(|logged| match stream {
            Stream::Stdout => logged.stdout = self.stdout.offset,
            Stream::Stderr => logged.stderr = self.stderr.offset,
        });
    }

    /// The first error is told; the rest of the output is still carried.
    fn fail(&mut self, stream: Stream, action: &'static str, source: io::Error) {
        self.error.get_or_insert(OutputError { stream, action, source: Arc::new(source) });
    }
}

impl Side {
    fn new(source: Option<Source>) -> Self {
        Self { source, buffer: vec![0; CHUNK_LIMIT], offset: 0, log: None }
    }

    fn open(&self) -> bool {
        self.source.is_some()
    }

    /// Safe to cancel: nothing is read then.
    async fn read(&mut self) -> io::Result<usize> {
        match &mut self.source {
            Some(Source::Pipe(pipe)) => pipe.read(&mut self.buffer).await,
            Some(Source::Terminal(master)) => master.read(&mut self.buffer).await,
            None => Ok(0),
        }
    }

    /// How many bytes are there to be read now.
    fn waiting(&self) -> u64 {
        match &self.source {
            Some(Source::Pipe(pipe)) => rustix::io::ioctl_fionread(pipe).unwrap_or(0),
            Some(Source::Terminal(master)) => rustix::io::ioctl_fionread(master).unwrap_or(0),
            None => 0,
        }
    }
}

impl Source {
    pub(crate) fn pipe(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self::Pipe(pipe::Receiver::from_owned_fd(pipe)?))
    }
}

async fn append(log: Arc<File>, bytes: Vec<u8>) -> (Vec<u8>, io::Result<()>) {
    let write = tokio::task::spawn_blocking(move || {
        let written = (&*log).write_all(&bytes);
        (bytes, written)
    });
    // It fails only when the runtime is shutting down, and this task with it.
    write.await.unwrap_or_else(|error| (Vec::new(), Err(io::Error::other(error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_log_disk_is_told_and_the_live_output_goes_on() {
        let (out, mut job) = io::pipe().unwrap();
        let (err, _) = io::pipe().unwrap();
        let (out, err) = (Source::pipe(out.into()).unwrap(), Source::pipe(err.into()).unwrap());
        let (logged, _) = watch::channel(Progress::default());
        let (mut pump, mut output) = Pump::new(out, Some(err), 4, logged);
        let full = || File::options().write(true).open("/dev/full").unwrap();
        pump.log_to((full(), full()));
        job.write_all(b"bytes").unwrap();
        drop(job);
        let (_running, state) = watch::channel(State::Running);
        let (sender, outcome) = watch::channel(None);
        pump.run(state, sender).await;
        assert_eq!(output.next().await.unwrap().bytes, b"bytes");
        assert!(output.next().await.is_none());
        let error = outcome.borrow().clone().unwrap().unwrap_err();
        assert!(error.to_string().contains("Stdout of the job cannot be logged"), "{error}");
    }
}
