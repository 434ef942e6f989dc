//! Clocks that run away and feeds that fall silent: a server that can't vouch for anyone says so and serves nobody.

use std::{sync::Arc, time::Duration};

use airunner_core::{Clock as _, PrincipalStatus, PrincipalType, StatusChange, Stores};
use airunner_e2e::{
    Credentials, Gates, HttpAnswer, MemoryKeyWrap, Point, RawClient, ShiftedClock, TestServer,
    TestServerOptions, http,
};
use airunner_store::MemoryStore;
use tonic::Code;

use crate::{calls::*, worker::*};

async fn ready(server: &TestServer) -> HttpAnswer {
    http(server.addresses.metrics.unwrap(), "GET", "/ready?verbose", &[]).await.unwrap()
}

/// Why the server is not ready; nothing when it is.
async fn unready(server: &TestServer) -> String {
    let answer = ready(server).await;
    if answer.status == 200 {
        return String::new();
    }
    assert_eq!(answer.status, 503);
    answer.body.lines().next().unwrap().to_owned()
}

/// What a new connection hears.
async fn new_connection(server: &TestServer, who: &Credentials) -> (Code, String) {
    let answer = server.connect(Some(who)).await.unwrap().probe(WHO_AM_I).await.unwrap();
    (answer.code, answer.label)
}

async fn call(client: &RawClient) -> (Code, String) {
    let answer = client.probe(WHO_AM_I).await.unwrap();
    (answer.code, answer.label)
}

fn fine() -> (Code, String) {
    (Code::Ok, String::new())
}

fn unavailable(label: &str) -> (Code, String) {
    (Code::Unavailable, label.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_falls_back_stops_new_connections_and_no_live_ones() {
    let server = TestServer::start().await;
    let live = admin(&server).await;
    assert_eq!(call(&live).await, fine());
    server.clock.jump(-10_000);
    server.app.fleet.beat().await.unwrap();
    assert_eq!(unready(&server).await, "clock-skew");
    assert!(ready(&server).await.body.contains("behind the newest time"), "it says what is wrong");
    assert_eq!(new_connection(&server, &server.admin).await, unavailable("clock-skew"));
    assert_eq!(call(&live).await, fine());

    server.clock.jump(10_000);
    server.app.fleet.beat().await.unwrap();
    assert_eq!(unready(&server).await, "");
    assert_eq!(new_connection(&server, &server.admin).await, fine());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_leaps_ahead_is_not_believed_and_not_written() {
    let server = TestServer::start().await;
    let live = admin(&server).await;
    assert_eq!(call(&live).await, fine());
    server.clock.jump(29_000);
    server.app.fleet.beat().await.unwrap();
    assert_eq!(unready(&server).await, "", "a small correction is none of our business");

    let before = server.clock.now();
    server.clock.jump(31_000);
    server.app.fleet.beat().await.unwrap();
    assert_eq!(unready(&server).await, "clock-skew");
    assert!(ready(&server).await.body.contains("jumped 31 s ahead"));
    assert_eq!(new_connection(&server, &server.admin).await, unavailable("clock-skew"));
    assert_eq!(call(&live).await, fine());
    let highest = server.stores.servers.servers().await.unwrap().highest;
    assert!(highest < before.plus(Duration::from_secs(20)), "the wrong time is not handed on");
    assert!(!server.app.housekeeping.step().await.unwrap(), "nobody's lease ends by a wrong clock");

    server.clock.jump(-31_000);
    server.app.fleet.beat().await.unwrap();
    assert_eq!(unready(&server).await, "");
    assert_eq!(new_connection(&server, &server.admin).await, fine());
    server.stop().await;
}

/// A server over these stores with a clock of its own, ahead by so much.
async fn another(stores: &Stores, wrap: &Arc<MemoryKeyWrap>, ahead: i64) -> TestServer {
    let clock = Arc::<ShiftedClock>::default();
    clock.jump(ahead);
    TestServer::start_with(TestServerOptions {
        stores: Some(stores.clone()),
        wrap: wrap.clone(),
        clock,
        ..Default::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_ahead_of_the_others_does_not_drag_them_along() {
    let (stores, wrap) = (MemoryStore::new(1 << 30).stores(), Arc::new(MemoryKeyWrap::new()));
    let right = another(&stores, &wrap, 0).await;
    let wrong = another(&stores, &wrap, 60_000).await;
    // It knows once it has seen that the other lives.
    right.app.fleet.beat().await.unwrap();
    wrong.app.fleet.beat().await.unwrap();
    assert_eq!(unready(&wrong).await, "clock-skew");
    assert!(ready(&wrong).await.body.contains("ahead of the other servers'"));
    assert!(!wrong.app.housekeeping.step().await.unwrap());
    right.app.fleet.beat().await.unwrap();
    assert_eq!(unready(&right).await, "", "the server whose clock is right goes on");
    assert_eq!(new_connection(&right, &right.admin).await, fine());
    wrong.stop().await;
    right.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_of_a_server_that_died_long_ago_judges_no_clock() {
    let (stores, wrap) = (MemoryStore::new(1 << 30).stores(), Arc::new(MemoryKeyWrap::new()));
    another(&stores, &wrap, 0).await.crash();
    let restarted = another(&stores, &wrap, 10 * 60_000).await;
    restarted.app.fleet.beat().await.unwrap();
    assert_eq!(unready(&restarted).await, "");
    assert_eq!(new_connection(&restarted, &restarted.admin).await, fine());
    restarted.advance(Duration::from_secs(6)).await;
    restarted.app.fleet.beat().await.unwrap();
    let highest = stores.servers.servers().await.unwrap().highest;
    assert!(highest.since(restarted.clock.now()).is_zero(), "nobody is ahead");
    assert!(restarted.clock.now().since(highest) < Duration::from_secs(5), "its time is the environment's");
    restarted.stop().await;
}

struct Silence {
    server: TestServer,
    /// The store itself, past the gates.
    stores: Stores,
    gates: Gates,
}

async fn with_gates() -> Silence {
    let (stores, gates) = (MemoryStore::new(1 << 30).stores(), Gates::default());
    let options =
        TestServerOptions { stores: Some(stores.clone()), gates: gates.clone(), ..Default::default() };
    Silence { server: TestServer::start_with(options).await, stores, gates }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_feed_stops_new_connections_then_live_ones_and_ends_with_the_silence() {
    let Silence { server, gates, .. } = with_gates().await;
    let mut worker = Worker::open(client(&server, "w1", PrincipalType::Worker).await.0).await;
    worker.waiting().await;
    let feed = gates.close(Point::ChangesAsked);
    feed.reached().await;

    server.clock.advance(Duration::from_secs(2));
    assert_eq!(unready(&server).await, "feed-stale");
    let newcomer = server.connect(Some(&server.admin)).await.unwrap();
    assert_eq!(call(&newcomer).await, unavailable("feed-stale"));
    assert_eq!(call(&worker.client).await, fine(), "live connections go on for a while");
    // Nothing is known of who came meanwhile: the connection goes away, so that its owner comes again.
    newcomer.closed().await;

    server.clock.advance(Duration::from_secs(3));
    assert_eq!(call(&worker.client).await, unavailable("feed-stale"));
    let end = worker.end().await;
    assert_eq!((end.code, end.label.as_str()), (Code::Unavailable, "feed-stale"));

    feed.open();
    eventually("a server that is ready again", async || unready(&server).await.is_empty()).await;
    assert_eq!(call(&worker.client).await, fine(), "nobody has been denied meanwhile");
    assert_eq!(new_connection(&server, &server.admin).await, fine());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_denied_during_the_silence_is_denied_before_anything_is_served_again() {
    let Silence { server, stores, gates } = with_gates().await;
    let (user, credentials) = client(&server, "u1", PrincipalType::User).await;
    assert_eq!(call(&user).await, fine());
    let feed = gates.close(Point::ChangesAsked);
    feed.reached().await;
    let change = StatusChange {
        status: PrincipalStatus::Suspended,
        reason: String::new(),
        revoke: None,
        keep_an_admin: true,
    };
    stores.principals.set_status(&credentials.id, change, server.audit("principal.suspend")).await.unwrap();
    server.clock.advance(Duration::from_secs(5));
    assert_eq!(call(&user).await, unavailable("feed-stale"));
    feed.open();
    loop {
        let answer = call(&user).await;
        if answer != unavailable("feed-stale") {
            assert_eq!(answer, (Code::Unauthenticated, "principal-suspended".to_owned()));
            break;
        }
    }
    server.stop().await;
}
