//! A worker that runs nothing: its line, and what it says of its leases.

use airunner_core::{Sequence, Timestamp};
use airunner_e2e::{Answer, AnswerStream, RawClient};
use airunner_proto::job::v1::{
    Claim, CompleteJobsRequest, CompleteJobsResponse, Completion, CompletionResult, DequeueJobsRequest,
    DequeueJobsResponse, ExtendLeaseRequest, ExtendLeaseResponse, JobEvent, LeaseResult, Output,
    OutputStream, PublishEventBatchRequest, Started, completion::Outcome, dequeue_jobs_response::Message,
    job_event,
};

use crate::calls::*;

/// A worker with an open line.
pub(crate) struct Worker {
    pub(crate) client: RawClient,
    line: AnswerStream,
}

impl Worker {
    /// Opens a line for one job at a time, and waits until it is in force.
    pub(crate) async fn open(client: RawClient) -> Self {
        Self::open_with(client, DequeueJobsRequest { max_jobs: 1, ..Default::default() }).await
    }

    /// Opens a line.
    pub(crate) async fn open_with(client: RawClient, request: DequeueJobsRequest) -> Self {
        let line = client.open(DEQUEUE, &request).await.unwrap();
        Self { client, line }
    }

    /// Reads until the line says that it waits: what was to be leased was leased.
    pub(crate) async fn waiting(&mut self) {
        let first: DequeueJobsResponse = self.line.message().await;
        assert!(matches!(first.message, Some(Message::Waiting(_))), "{first:?}");
    }

    /// What the line says next, but that it waits.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            match self.line.message::<DequeueJobsResponse>().await.message.unwrap() {
                Message::Waiting(_) => {}
                message => return message,
            }
        }
    }

    /// The next job.
    pub(crate) async fn claim(&mut self) -> Claim {
        match self.next().await {
            Message::Claim(claim) => claim,
            other => panic!("no claim: {other:?}"),
        }
    }

    /// How the line ended.
    pub(crate) async fn end(&mut self) -> Answer {
        self.line.end().await
    }

    /// Publishes a batch.
    pub(crate) async fn publish(&self, task_token: &str, events: Vec<JobEvent>) -> Answer {
        let request = PublishEventBatchRequest { task_token: task_token.to_owned(), events };
        self.client.call(PUBLISH, &request).await.unwrap()
    }

    /// Ends one lease.
    pub(crate) async fn complete(&self, task_token: &str, outcome: Outcome) -> CompletionResult {
        let completion =
            Completion { task_token: task_token.to_owned(), outcome: Some(outcome), usage: None };
        let request = CompleteJobsRequest { completions: vec![completion] };
        let mut done: CompleteJobsResponse = self.client.ask(COMPLETE, &request).await;
        done.results.remove(0)
    }

    /// Extends one lease.
    pub(crate) async fn extend(&self, task_token: &str, by: i64) -> LeaseResult {
        let request =
            ExtendLeaseRequest { task_tokens: vec![task_token.to_owned()], visibility_timeout: seconds(by) };
        let mut extended: ExtendLeaseResponse = self.client.ask(EXTEND, &request).await;
        extended.results.remove(0)
    }
}

/// The next job, past the news that a lease which the worker itself has ended is over.
pub(crate) async fn next_claim(worker: &mut Worker) -> Claim {
    loop {
        match worker.next().await {
            Message::Claim(claim) => return claim,
            Message::LeaseLost(_) => {}
            other => panic!("no claim: {other:?}"),
        }
    }
}

/// The process ended with this code.
pub(crate) fn exited(code: i32) -> Outcome {
    use airunner_proto::job::v1::{Exit, exit::How};
    Outcome::Exited(Exit { how: Some(How::Code(code)) })
}

/// The process runs.
pub(crate) fn started(attempt: u32, n: u64, now: Timestamp) -> JobEvent {
    event(attempt, n, now, job_event::Kind::Started(Started { process_id: 4_711 }))
}

/// The process printed this.
pub(crate) fn printed(attempt: u32, n: u64, now: Timestamp, bytes: &[u8]) -> JobEvent {
    let stream = OutputStream::Stdout as i32;
    event(attempt, n, now, job_event::Kind::Output(Output { stream, data: bytes.to_vec().into() }))
}

/// Any event.
pub(crate) fn event(attempt: u32, n: u64, now: Timestamp, kind: job_event::Kind) -> JobEvent {
    JobEvent { sequence: Sequence::new(attempt, n).as_u64(), at: Some(at(now)), kind: Some(kind) }
}
