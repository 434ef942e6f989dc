//! Following a job: every event once, in order, whatever happens to the connection.

use airunner_client::{Client, FollowFrom, FollowOptions, Followed, follow_job};
use airunner_core::{Label, PrincipalType};
use airunner_e2e::TestServer;
use airunner_proto::{
    job::v1::{CompleteJobsRequest, Completion, Exit, JobState, completion, exit, job_event::Kind},
    principal::v1::SuspendPrincipalRequest,
};
use futures_util::StreamExt as _;

use crate::bed::{Held, Proxy, client, client_through, loaded, seen_serial, soon, until};

/// Reads on until the chunk with this number, and returns the numbers that were read.
async fn read_until(
    stream: &mut (impl futures_util::Stream<Item = airunner_client::Result<Followed>> + Unpin),
    last: u64,
) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let Followed::Event(event) = soon(stream.next()).await.unwrap().unwrap() else {
            panic!("the job has not ended")
        };
        if let Some(Kind::Output(output)) = event.kind {
            let number: u64 = std::str::from_utf8(&output.data).unwrap().parse().unwrap();
            assert_eq!(event.sequence, (1 << 40) + number);
            numbers.push(number);
        }
    }
    numbers
}

async fn complete(held: &Held) {
    let exit = Exit { how: Some(exit::How::Code(7)) };
    let outcome = Some(completion::Outcome::Exited(exit));
    let completion = Completion { task_token: held.claim.task_token.clone(), outcome, usage: None };
    let request = CompleteJobsRequest { completions: vec![completion] };
    let results = held.worker.jobs().complete_jobs(request).await.unwrap().into_inner().results;
    assert_eq!(results[0].error_label, "");
}

fn follow(
    client: &Client,
    job_id: &str,
    from: FollowFrom,
) -> impl futures_util::Stream<Item = airunner_client::Result<Followed>> + Unpin + use<> {
    Box::pin(follow_job(client, job_id, FollowOptions { from, without_output: false }))
}

#[tokio::test]
async fn a_watcher_gets_every_event_once_over_lost_connections_and_then_the_end() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.addresses.api).await;
    let mut held = Held::new(&server, &client(&server, &server.admin)).await;
    let watcher = client_through(&proxy, &server, &server.admin);
    held.publish(3).await;
    let mut stream = follow(&watcher, &held.job_id, FollowFrom::Start);
    let mut numbers = read_until(&mut stream, 3).await;
    for round in 1..=4 {
        proxy.cut();
        held.publish(3).await;
        numbers.extend(read_until(&mut stream, 3 + round * 3).await);
    }
    assert_eq!(numbers, (1..=15).collect::<Vec<_>>());
    assert_eq!(proxy.accepted(), 5);

    complete(&held).await;
    let mut last = None;
    while let Some(followed) = soon(stream.next()).await {
        last = Some(followed.unwrap());
    }
    let Some(Followed::Ended(ended)) = last else { panic!("{last:?}") };
    assert_eq!(ended.state(), JobState::Completed);
    assert_eq!(ended.exit.unwrap().how, Some(exit::How::Code(7)));
    server.stop().await;
}

#[tokio::test]
async fn an_exchanged_identity_moves_the_watch_without_gap_or_repeat() {
    let server = TestServer::start().await;
    let mut held = Held::new(&server, &client(&server, &server.admin)).await;
    let watcher = client(&server, &server.admin);
    held.publish(2).await;
    let mut stream = follow(&watcher, &held.job_id, FollowFrom::Start);
    let mut numbers = read_until(&mut stream, 2).await;
    let mut expected = 2;
    for _ in 0..2 {
        let before = seen_serial(&watcher).await;
        watcher.replace_identity(loaded(&server.issue(&server.admin.id).await)).unwrap();
        held.publish(2).await;
        expected += 2;
        numbers.extend(read_until(&mut stream, expected).await);
        assert_ne!(seen_serial(&watcher).await, before);
        // The move goes on while the stream is read; then the old connection has nothing left on it.
        let reading = async { numbers.extend(read_until(&mut stream, u64::MAX).await) };
        let moved = until(|| live_of(&server) == 1);
        tokio::select! {
            () = reading => panic!("there was nothing to read"),
            () = moved => {}
        }
    }
    assert_eq!(numbers, (1..=expected).collect::<Vec<_>>());
    server.stop().await;
}

fn live_of(server: &TestServer) -> usize {
    server.app.live().of_principal(&server.admin.id).len()
}

#[tokio::test]
async fn a_watch_may_begin_anywhere() {
    let server = TestServer::start().await;
    let mut held = Held::new(&server, &client(&server, &server.admin)).await;
    let watcher = client(&server, &server.admin);
    held.publish(4).await;
    let mut stream = follow(&watcher, &held.job_id, FollowFrom::After((1 << 40) + 3));
    assert_eq!(read_until(&mut stream, 4).await, [4]);

    // Until the watch is in force, what is published is of the past.
    let mut stream = follow(&watcher, &held.job_id, FollowFrom::Now);
    let first = loop {
        tokio::select! {
            biased;
            first = stream.next() => break first,
            () = held.publish(1) => {}
        }
    };
    let Some(Ok(Followed::Event(event))) = first else { panic!("{first:?}") };
    let number = event.sequence - (1 << 40);
    assert!(number > 4, "event {number} is of the past");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_gives_up_only_on_a_denial() {
    let server = TestServer::start().await;
    let owner = server.principal("alice", PrincipalType::User).await;
    let alice = client(&server, &owner);
    let mut held = Held::new(&server, &alice).await;
    let mut stream = follow(&alice, &held.job_id, FollowFrom::Start);
    held.publish(1).await;
    read_until(&mut stream, 1).await;
    let request = SuspendPrincipalRequest { principal_id: "alice".to_owned(), ..Default::default() };
    client(&server, &server.admin).principals().suspend_principal(request).await.unwrap();
    let error = soon(stream.next()).await.unwrap().unwrap_err();
    assert!(error.is(Label::PrincipalSuspended), "{error:?}");
    assert!(soon(stream.next()).await.is_none());

    let unknown = "01970000-0000-7000-8000-000000000000";
    let admin = client(&server, &server.admin);
    let mut stream = follow(&admin, unknown, FollowFrom::Start);
    assert!(soon(stream.next()).await.unwrap().unwrap_err().is(Label::NotFound));
    server.stop().await;
}
