//! A worker's lines when they are lost or many: no claim is lost for long, and no lease is handed to two processes.

use std::time::Duration;

use airunner_core::{Clock as _, Intent, PrincipalType};
use airunner_e2e::{Gates, Point, RawClient, TestServer, TestServerOptions};
use airunner_proto::job::v1::{
    Claim, DequeueJobsRequest, GetJobRequest, GetJobResponse, JobSpec, JobState,
    dequeue_jobs_response::Message,
};
use tonic::Code;

use crate::{calls::*, worker::*};

/// A run of a worker process.
const THIS: &str = "01890000-0000-7000-8000-00000000000a";
/// Another.
const OTHER: &str = "01890000-0000-7000-8000-00000000000b";

/// How long a test waits for what must happen at once, and would else happen seconds later.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A line of this process, for jobs of a queue.
fn line(queue: &str, worker_id: &str, held: &[&Claim]) -> DequeueJobsRequest {
    DequeueJobsRequest {
        queues: vec![queue.to_owned()],
        max_jobs: 8,
        visibility_timeout: seconds(10),
        task_tokens: held.iter().map(|claim| claim.task_token.clone()).collect(),
        worker_id: worker_id.to_owned(),
        ..Default::default()
    }
}

fn on(queue: &str) -> JobSpec {
    JobSpec { queue: queue.to_owned(), ..job("true") }
}

/// A server with gates, a user, and a client of a worker.
struct Bed {
    server: TestServer,
    gates: Gates,
    user: RawClient,
    worker: RawClient,
}

impl Bed {
    async fn new() -> Self {
        let gates = Gates::default();
        let options = TestServerOptions { gates: gates.clone(), ..TestServerOptions::default() };
        let server = TestServer::start_with(options).await;
        let (user, _) = client(&server, "u1", PrincipalType::User).await;
        let (worker, _) = client(&server, "w1", PrincipalType::Worker).await;
        Self { server, gates, user, worker }
    }

    async fn open(&self, request: DequeueJobsRequest) -> Worker {
        Worker::open_with(self.worker.clone(), request).await
    }

    async fn state(&self, id: &str) -> (JobState, u32) {
        let found: GetJobResponse = self.user.ask(GET_JOB, &GetJobRequest { job_id: id.to_owned() }).await;
        let job = found.job.unwrap();
        (job.state(), job.attempt)
    }

    /// Lets every lease run out.
    async fn end_leases(&self) {
        self.server.turn_ahead(Duration::from_secs(13)).await;
        assert!(self.server.app.housekeeping.step().await.unwrap());
    }
}

fn number(claim: &Claim) -> u32 {
    claim.job.as_ref().unwrap().attempt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_was_lost_with_its_line_comes_again_under_the_same_lease() {
    let bed = Bed::new().await;
    let mut first = bed.open(line("default", THIS, &[])).await;
    let environment = [("SECRET".to_owned(), "for the worker only".to_owned())].into();
    let id = enqueue(&bed.user, JobSpec { environment, ..job("true") }).await;
    // What is not answered may as well have been lost: the server can't tell.
    let lost = first.claim().await;
    drop(first);

    let mut next = bed.open(line("default", THIS, &[])).await;
    let again = next.claim().await;
    assert_eq!((&again.task_token, number(&again)), (&lost.task_token, 1));
    assert_eq!(again.environment["SECRET"], "for the worker only");
    let events = vec![started(1, 1, bed.server.clock.now())];
    assert_eq!(next.publish(&again.task_token, events).await.code, Code::Ok);
    assert_eq!(next.complete(&again.task_token, exited(0)).await.error_label, "");
    assert_eq!(bed.state(&id).await, (JobState::Completed, 1));
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_line_is_opened_for_and_what_was_started_does_not_come_again() {
    let bed = Bed::new().await;
    let mut first = bed.open(line("default", THIS, &[])).await;
    enqueue(&bed.user, job("true")).await;
    let named = first.claim().await;
    enqueue(&bed.user, job("true")).await;
    let begun = first.claim().await;
    let events = vec![started(1, 1, bed.server.clock.now())];
    assert_eq!(first.publish(&begun.task_token, events).await.code, Code::Ok);
    drop(first);

    // The worker was just about to tell of the start of the one that it names.
    let mut next = bed.open(line("default", THIS, &[&named])).await;
    next.waiting().await;
    let events = vec![started(1, 1, bed.server.clock.now())];
    assert_eq!(next.publish(&named.task_token, events).await.code, Code::Ok);
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_process_gets_the_claim_before_its_lease_is_over() {
    let bed = Bed::new().await;
    let mut first = bed.open(line("default", THIS, &[])).await;
    let id = enqueue(&bed.user, job("true")).await;
    first.claim().await;
    drop(first);

    // The same principal, started anew or on another machine; a worker that does not say which process it is; and
    // another principal that says it is this process.
    let mut restarted = bed.open(line("default", OTHER, &[])).await;
    restarted.waiting().await;
    bed.open(line("default", "", &[])).await.waiting().await;
    let (thief, _) = client(&bed.server, "w2", PrincipalType::Worker).await;
    Worker::open_with(thief, line("default", THIS, &[])).await.waiting().await;
    assert_eq!(bed.state(&id).await, (JobState::Running, 1));
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_old_line_takes_that_is_not_known_to_be_dead_comes_on_the_new_one() {
    let bed = Bed::new().await;
    let mut old = bed.open(line("old", THIS, &[])).await;
    old.waiting().await;
    let mut new = bed.open(line("new", THIS, &[])).await;
    new.waiting().await;
    let id = enqueue(&bed.user, on("old")).await;
    // It waits on another queue, so it can't have leased the job itself.
    let claim = new.claim().await;
    assert_eq!((claim.job.as_ref().unwrap().job_id.as_str(), number(&claim)), (id.as_str(), 1));
    assert_eq!(old.claim().await.task_token, claim.task_token);
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_between_the_lease_and_the_claim_loses_nothing() {
    let bed = Bed::new().await;
    let mut first = bed.open(line("default", THIS, &[])).await;
    first.waiting().await;
    let gate = bed.gates.close(Point::Leased);
    let id = enqueue(&bed.user, job("true")).await;
    gate.reached().await;
    assert_eq!(bed.state(&id).await, (JobState::Running, 1));
    drop(first);
    let mut next = bed.open(line("default", THIS, &[])).await;
    assert_eq!(number(&next.claim().await), 1);
    gate.open();
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_runs_out_while_it_is_looked_for_is_another_attempt() {
    let bed = Bed::new().await;
    let mut first = bed.open(line("default", THIS, &[])).await;
    let id = enqueue(&bed.user, job("true")).await;
    first.claim().await;
    drop(first);

    let gate = bed.gates.close(Point::ExtendAsked);
    let mut next = bed.open(line("default", THIS, &[])).await;
    gate.reached().await;
    bed.end_leases().await;
    gate.open();
    assert_eq!(number(&next.claim().await), 2, "the first lease is over");
    assert_eq!(bed.state(&id).await, (JobState::Running, 2));
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_line_hears_of_the_server_s_end_at_once() {
    let bed = Bed::new().await;
    let mut worker = bed.open(line("default", "", &[])).await;
    worker.waiting().await;
    bed.server.app.fleet.drain();
    let told = tokio::time::timeout(AT_ONCE, worker.next()).await.expect("it is woken, and does not look");
    assert!(matches!(told, Message::Drain(_)), "{told:?}");
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_line_asks_the_store_for_nothing_and_is_there_when_a_job_comes() {
    let bed = Bed::new().await;
    let asked = || {
        let latency = |intent| bed.server.stores.measures.latency(intent);
        let count = |intent| latency(intent).counts().into_iter().map(|(_, count)| count).sum::<u64>();
        [Intent::LeaseJobs, Intent::ListJobs, Intent::JobControls].map(count)
    };
    let mut worker = bed.open(line("default", THIS, &[])).await;
    let mut silent = async || {
        let said = worker.waiting();
        tokio::pin!(said);
        loop {
            tokio::select! {
                () = &mut said => break,
                () = bed.server.advance(Duration::from_millis(1_500)) => {}
            }
        }
    };
    // Another line of this process may have taken jobs until a minute has passed.
    for _ in 0..5 {
        silent().await;
    }
    let before = asked();
    silent().await;
    silent().await;
    assert_eq!(asked(), before);
    let id = enqueue(&bed.user, job("true")).await;
    assert_eq!(worker.claim().await.job.unwrap().job_id, id);
    bed.server.stop().await;
}
