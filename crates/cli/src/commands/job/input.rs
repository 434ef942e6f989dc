//! Standard input, on its way to a job.

use std::io::Read as _;

use airunner_client::Client;
use airunner_core::{Error, Label};
use airunner_proto::job::v1::{CancelJobRequest, WriteJobInputRequest};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{failure::Result, report::Output};

/// Bytes of standard input in one call at most.
const PIECE: usize = 64 * 1024;

/// Sends standard input to the job, piece by piece. A piece is sent once: twice is worse than not at all.
///
/// # Errors
/// Where it can't be read or sent; that the job has ended is none.
pub(super) async fn feed(client: &Client, job_id: &str) -> Result<()> {
    let (sender, mut pieces) = mpsc::channel::<std::io::Result<Vec<u8>>>(4);
    let reading = spawn_blocking(move || {
        let mut input = std::io::stdin().lock();
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
    let unreadable = |error| Error::new(Label::File, format!("standard input can't be read: {error}"));
    while let Some(piece) = pieces.recv().await {
        let data = piece.map_err(unreadable)?;
        let end = data.is_empty();
        let request = WriteJobInputRequest { job_id: job_id.to_owned(), data, end };
        match client.jobs().write_job_input(request).await.map_err(airunner_client::Error::from) {
            Ok(_) => {}
            // It has had enough: what it did not read it did not want.
            Err(error) if error.is(Label::JobEnded) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(reading.await.map_err(Error::internal)?)
}

/// Stops a job that did not get all of its input: it would wait for the rest for ever, or take a part for the whole.
pub(super) async fn stop(client: &Client, output: Output, job_id: &str) {
    let request = CancelJobRequest { job_id: job_id.to_owned(), ..CancelJobRequest::default() };
    match client.jobs().cancel_job(request).await.map_err(airunner_client::Error::from) {
        Ok(_) => output.note(&format!("{job_id} did not get all of its input: it is stopped")),
        // It has had enough: what it did not read it did not want.
        Err(error) if error.is(Label::JobEnded) => {}
        Err(error) => {
            output.note(&format!("{job_id} did not get all of its input, and can't be stopped: {error}"));
        }
    }
}
