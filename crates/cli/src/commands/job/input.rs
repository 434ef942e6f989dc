//! What is written to a job: standard input as it comes, or what is typed.

use std::io::{self, Read as _};

use airunner_client::{Backoff, Client, Error};
use airunner_core::Label;
use airunner_proto::job::v1::{CancelJobRequest, ResizeJobRequest, Terminal, WriteJobInputRequest};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{context::Context, failure::Result, report::Output};

/// Bytes of standard input in one call at most.
pub(super) const PIECE: usize = 64 * 1024;
/// What a terminal takes for the end of its input where a line begins: control-D.
const END: u8 = 4;

/// One attachment that writes to a job. What it sends is sent again over a lost connection, and written once.
pub(super) struct Writer<'c> {
    context: &'c Context,
    client: &'c Client,
    job_id: &'c str,
    id: String,
    pieces: u64,
    /// Until its first piece is written: then it has the input.
    take: bool,
}

impl<'c> Writer<'c> {
    /// Where `take` is set it takes the input from whoever has written before.
    pub(super) fn new(context: &'c Context, client: &'c Client, job_id: &'c str, take: bool) -> Self {
        let id = uuid::Builder::from_random_bytes(context.random.array()).into_uuid().to_string();
        Self { context, client, job_id, id, pieces: 0, take }
    }

    /// Writes; at the end, says so.
    ///
    /// # Errors
    /// `job-ended`, `input-taken`, `limit-reached`.
    pub(super) async fn write(&mut self, data: Vec<u8>, end: bool) -> Result<(), Error> {
        self.pieces += 1;
        let request = WriteJobInputRequest {
            job_id: self.job_id.to_owned(),
            data,
            end,
            writer_id: self.id.clone(),
            piece: self.pieces,
            take: self.take,
        };
        let client = self.client;
        self.until_answered(async || client.jobs().write_job_input(request.clone()).await.map(drop)).await
    }

    /// Changes the size of the job's terminal.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) async fn resize(&mut self, terminal: Terminal) -> Result<(), Error> {
        self.pieces += 1;
        let request = ResizeJobRequest {
            job_id: self.job_id.to_owned(),
            terminal: Some(terminal),
            writer_id: self.id.clone(),
            piece: self.pieces,
            take: self.take,
        };
        let client = self.client;
        self.until_answered(async || client.jobs().resize_job(request.clone()).await.map(drop)).await
    }

    async fn until_answered(
        &mut self,
        send: impl AsyncFn() -> Result<(), tonic::Status>,
    ) -> Result<(), Error> {
        let mut backoff = Backoff::default();
        loop {
            let Err(error) = send().await.map_err(Error::from) else {
                self.take = false;
                return Ok(());
            };
            if !error.is_transient() || error.is(Label::LimitReached) {
                return Err(error);
            }
            let pause = backoff.next(&*self.context.random).max(error.retry_after().unwrap_or_default());
            self.context.clock.sleep(pause).await;
        }
    }
}

/// Sends standard input to the job, piece by piece, up to its end.
///
/// # Errors
/// Where it can't be read or sent; that the job has ended is none.
pub(super) async fn feed(mut writer: Writer<'_>, is_terminal: bool) -> Result<()> {
    let mut pieces = read_stdin();
    loop {
        let piece = pieces.recv().await.unwrap_or_else(|| Ok(Vec::new())).map_err(unreadable)?;
        let is_last = piece.is_empty();
        let written = if is_last && is_terminal {
            writer.write(vec![END], false).await
        } else {
            writer.write(piece, is_last).await
        };
        match written {
            Ok(()) if !is_last => {}
            Ok(()) => return Ok(()),
            // It has had enough: what it did not read it did not want.
            Err(error) if error.is(Label::JobEnded) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What comes on standard input; an empty piece, or the end of the channel, is its end.
pub(super) fn read_stdin() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, pieces) = mpsc::channel(4);
    spawn_blocking(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut piece = vec![0; PIECE];
            let read = input.read(&mut piece).map(|count| {
                piece.truncate(count);
                piece
            });
            let is_last = !matches!(&read, Ok(piece) if !piece.is_empty());
            if sender.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    pieces
}

pub(super) fn unreadable(error: io::Error) -> airunner_core::Error {
    airunner_core::Error::new(Label::File, format!("standard input can't be read: {error}")).with_cause(error)
}

/// Stops a job that did not get all of its input: it would wait for the rest for ever, or take a part for the whole.
pub(super) async fn stop(client: &Client, output: Output, job_id: &str) {
    let request = CancelJobRequest { job_id: job_id.to_owned(), ..CancelJobRequest::default() };
    match client.jobs().cancel_job(request).await.map_err(Error::from) {
        Ok(_) => output.note(&format!("{job_id} did not get all of its input: it is stopped")),
        // It has had enough: what it did not read it did not want.
        Err(error) if error.is(Label::JobEnded) => {}
        Err(error) => {
            output.note(&format!("{job_id} did not get all of its input, and can't be stopped: {error}"));
        }
    }
}
