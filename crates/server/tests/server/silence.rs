//! A store that answers nobody: the change feed falls silent, and the server stops serving by its own rule.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use airunner_core::PrincipalType;
use airunner_e2e::http;
use tonic::Code;

use crate::bed::*;

/// After this long nobody new is served, and after the other nobody at all.
const NO_CONNECTIONS: Duration = Duration::from_secs(2);
const NO_REQUESTS: Duration = Duration::from_secs(5);
/// By how much later than it should a refusal may be seen on a busy machine, and by how much sooner: the feed was heard
/// last before the store fell silent.
const LATE: Duration = Duration::from_millis(1_500);
const EARLY: Duration = Duration::from_millis(600);

/// A call that asks the store nothing: in the silence others wait for it.
const ALIVE: &str = "/grpc.health.v1.Health/Check";

/// Locks every slot for readers of SQLite's shared memory file, and says so; lets go when its input ends.
const LOCK_READERS_OUT: &str = "
import fcntl, sys
shm = open(sys.argv[1], 'r+b')
fcntl.lockf(shm, fcntl.LOCK_EX, 5, 123)
print('locked', flush=True)
sys.stdin.read()
";

/// Another process that keeps everyone from reading the store, until this is dropped.
struct Silence(Child);

impl Silence {
    fn of(bed: &Bed) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", LOCK_READERS_OUT])
            .arg(bed.store().with_extension("db-shm"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        Self(child)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_feed_stops_new_connections_after_2_s_and_requests_after_5_until_it_is_heard_again() {
    let bed = Bed::new().await;
    let server = bed.start();
    let mut worker =
        Worker::open(&bed, &server, &bed.principal(&server, "w1", PrincipalType::Worker).await).await;
    let live = bed.connect(&server, &bed.admin()).await;
    assert_eq!(live.probe(ALIVE).await.unwrap().code, Code::Ok);
    let silence = Silence::of(&bed);
    let began = now();
    let assert_after = |limit: Duration| {
        let took = now().since(began);
        assert!(took + EARLY >= limit && took <= limit + LATE, "{took:?} instead of {limit:?}");
    };

    let said = server.until_ready_says(503, "feed-stale").await;
    assert!(said.contains("silent for more than 2 s"), "{said}");
    assert_after(NO_CONNECTIONS);
    let refused = bed.connect(&server, &bed.admin()).await.probe(WHO_AM_I).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unavailable, "feed-stale"));
    assert_eq!(live.probe(ALIVE).await.unwrap().code, Code::Ok, "live connections go on for a while");

    until("live connections are refused", async || live.probe(ALIVE).await.unwrap().code != Code::Ok).await;
    assert_after(NO_REQUESTS);
    let refused = live.probe(ALIVE).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unavailable, "feed-stale"));
    let end = worker.end().await;
    assert_eq!((end.code, end.label.as_str()), (Code::Unavailable, "feed-stale"));
    assert_after(NO_REQUESTS);
    let metrics = http(server.metrics, "GET", "/metrics", &[]).await.unwrap();
    assert_eq!(metrics.status, 200, "who looks after it sees it still");
    assert!(!metrics.body.contains("airunner_jobs{"), "what can't be counted is left out");

    drop(silence);
    server.until_ready_says(200, "ready").await;
    assert_eq!(live.probe(WHO_AM_I).await.unwrap().code, Code::Ok, "nobody was denied meanwhile");
    let newcomer = bed.connect(&server, &bed.admin()).await;
    assert_eq!(newcomer.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    server.stop();
}
