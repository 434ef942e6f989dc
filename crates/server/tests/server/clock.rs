//! A clock that is behind what was written before, and the way out where it was the other that was wrong.

use std::time::Duration;

use airunner_core::Clock as _;
use airunner_e2e::http;
use airunner_net::system::SystemClock;
use airunner_proto::audit::v1::{TailAuditRequest, TailAuditResponse};
use tonic::Code;

use crate::bed::*;

const HOUR: Duration = Duration::from_hours(1);
const REMEDY: &str = "`airunner-server db clock-reset`";

impl Bed {
    /// The store as it is after this machine's clock fell back by so much; or after a server ran that was ahead by it,
    /// and is gone.
    fn fall_back(&self, by: Duration) {
        let highest = SystemClock.now().plus(by).as_millis();
        let gone = "01a20482-6efb-72e6-b4d4-3bbc671b2704";
        self.by_hand(&format!(
            "UPDATE housekeeping SET highest_time = {highest}, deadline = {highest}, holder = '{gone}'"
        ));
    }

    fn highest_time(&self) -> i64 {
        self.by_hand("SELECT highest_time FROM housekeeping").parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_behind_serves_nobody_and_names_the_way_out() {
    let bed = Bed::new().await;
    bed.fall_back(HOUR);
    let server = bed.start();
    let said = server.until_ready_says(503, "clock-skew").await;
    assert!(
        said.contains("s behind the newest time in the store: set it right") && said.contains(REMEDY),
        "{said}"
    );
    assert_eq!(http(server.plain, "GET", "/health", &[]).await.unwrap().status, 200, "it lives all the same");
    let refused = bed.connect(&server, &bed.admin()).await.probe(WHO_AM_I).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unavailable, "clock-skew"));
    assert!(refused.message.contains(REMEDY), "{}", refused.message);
    assert!(server.stop().contains("this server is not ready"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_falls_back_under_a_server_refuses_whoever_comes_and_nobody_who_is_there() {
    let bed = Bed::new().await;
    let server = bed.start();
    let live = bed.connect(&server, &bed.admin()).await;
    assert_eq!(live.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    bed.fall_back(HOUR);
    server.until_ready_says(503, "clock-skew").await;
    let refused = bed.connect(&server, &bed.admin()).await.probe(WHO_AM_I).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unavailable, "clock-skew"));
    assert_eq!(live.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_time_is_set_right_by_hand_and_the_server_goes_on() {
    let bed = Bed::new().await;
    let server = bed.start();
    bed.fall_back(HOUR);
    server.until_ready_says(503, "clock-skew").await;
    let before = bed.highest_time();
    let unasked = bed.run(&["db", "clock-reset"]);
    assert!(unasked.ended_with(2).stderr.contains("repeat it with --yes"), "{}", unasked.stderr);
    assert_eq!(bed.highest_time(), before, "nothing is done that nobody has agreed to");
    assert_eq!(server.ready().await.0, 503);

    let done = bed.run(&["db", "clock-reset", "--yes"]);
    assert!(
        done.ended_with(0).stdout.contains("Nothing that expired in between would count again."),
        "{}",
        done.stdout
    );
    assert!(bed.highest_time() <= SystemClock.now().as_millis());
    server.until_ready_says(200, "ready").await;
    let admin = bed.connect(&server, &bed.admin()).await;
    assert_eq!(admin.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    let request = TailAuditRequest { count: 1, follow: false };
    let last: TailAuditResponse = admin.ask(TAIL_AUDIT, &request).await;
    let entry = last.entry.unwrap();
    assert_eq!((entry.action.as_str(), entry.principal.as_str()), ("clock.reset", "server"));
    assert_eq!(entry.detail["certificates"], "0");
    until("housekeeping is someone's", async || {
        bed.by_hand("SELECT holder FROM housekeeping") == bed.by_hand("SELECT server_id FROM servers")
    })
    .await;

    let again = bed.run(&["db", "clock-reset", "--yes"]);
    assert!(again.ended_with(0).stdout.contains("there is nothing to set"), "{}", again.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_come_back_to_life_is_named_before_it_does() {
    let bed = Bed::new().await;
    let serial = bed.by_hand("SELECT serial_number FROM certificates WHERE principal_id = 'admin'");
    bed.fall_back(HOUR * 24 * 200);
    let asked = bed.run(&["db", "clock-reset"]);
    let named = format!("certificate {serial} of admin, until ");
    assert!(asked.ended_with(2).stdout.contains(&named), "{}", asked.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_there_is_not_made() {
    let bed = Bed::new().await;
    std::fs::remove_file(bed.store()).unwrap();
    assert!(bed.run(&["db", "clock-reset", "--yes"]).ended_with(1).stderr.contains("there is no store"));
    assert!(!bed.store().exists());
}
