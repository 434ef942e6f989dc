//! Three servers over the same tables: a denial by one is in force on all that serve, whoever of them is killed or cut
//! off, and so is one that a hand wrote with the AWS CLI.

use std::{process::Command, sync::Mutex, time::Duration};

use airunner_core::PrincipalType;
use airunner_e2e::{Line, http};
use airunner_proto::{
    ca::v1::{RevokeCertificatesRequest, RevokeCertificatesResponse},
    principal::v1::{SuspendPrincipalRequest, SuspendPrincipalResponse},
};
use airunner_testkit::emulator::{CREDENTIALS, REGION, program};
use tonic::Code;

use crate::{
    aws::{OFFLINE_ROOT, World, in_aws},
    bed::*,
};

/// How long a denial may take to reach another server.
const DENIED_WITHIN: Duration = Duration::from_millis(600);
/// How long an edit by hand may take to be found.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// After this long without its store a server serves nobody any more.
const SERVES_NOBODY_AFTER: Duration = Duration::from_secs(5);
/// By how much later than it should something may be seen on a busy machine.
const LATE: Duration = Duration::from_millis(1_500);

/// A call that asks the store nothing.
const ALIVE: &str = "/grpc.health.v1.Health/Check";

/// A server with its own way to the store.
struct Server {
    process: Process,
    line: Line,
}

impl Server {
    async fn start(world: &World) -> Self {
        let emulator = world.place.endpoint.trim_start_matches("http://").parse().unwrap();
        let line = Line::to(emulator).await;
        let mut command = world.command(&["--ready-fd", "1"]);
        command.env("AIRUNNER_AWS_ENDPOINT", format!("http://{}", line.address()));
        Self { process: Process::start(command), line }
    }
}

/// A worker of this name with its line open at `server`.
async fn worker(world: &World, by: &Server, server: &Server, id: &str) -> (Worker, Identity) {
    let identity = world.bed.principal(&by.process, id, PrincipalType::Worker).await;
    (Worker::open(&world.bed, &server.process, &identity).await, identity)
}

async fn suspend(world: &World, by: &Server, id: &str) {
    let admin = world.bed.connect(&by.process, &world.bed.admin()).await;
    let request = SuspendPrincipalRequest { principal_id: id.to_owned(), ..Default::default() };
    let _: SuspendPrincipalResponse = admin.ask(SUSPEND, &request).await;
}

/// The worker's line ends with `label` within `limit` of now.
async fn ends(worker: &mut Worker, label: &str, limit: Duration) {
    let began = now();
    worker.is_denied(label).await;
    let took = now().since(began);
    assert!(took <= limit, "{label} took {took:?}");
}

/// Requests to the store for who presented a certificate.
async fn identities_read(server: &Server) -> String {
    let metrics = http(server.process.metrics, "GET", "/metrics", &[]).await.unwrap().body;
    let line =
        metrics.lines().find(|line| line.starts_with("airunner_store_requests_total{intent=\"identity\"}"));
    line.expect("a connection was authenticated").to_owned()
}

/// Runs the AWS CLI, as an admin would.
fn by_hand(world: &World, args: &[&str]) {
    let mut command = Command::new(program("aws"));
    command.args(["--endpoint-url", &world.place.endpoint, "--region", REGION]).args(args).envs(CREDENTIALS);
    let output = command.output().expect("this test needs the AWS CLI: run `make test-tools`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_denial_is_late_on_no_server_that_serves() {
    in_aws("aws_fleet::a_denial_is_late_on_no_server_that_serves", async |world| {
        world.configure_with_tables(OFFLINE_ROOT);
        world.bootstrap().await;
        let first = Server::start(&world).await;
        let second = Server::start(&world).await;
        let third = Server::start(&world).await;

        // A request on a connection that is there asks the store nothing.
        let warm = world.bed.connect(&first.process, &world.bed.admin()).await;
        assert_eq!(warm.probe(ALIVE).await.unwrap().code, Code::Ok);
        let asked = identities_read(&first).await;
        for _ in 0..50 {
            assert_eq!(warm.probe(ALIVE).await.unwrap().code, Code::Ok);
        }
        assert_eq!(identities_read(&first).await, asked);

        // All three serve: each hears of what another wrote.
        let (mut on_second, _) = worker(&world, &first, &second, "w1").await;
        let (mut on_third, identity) = worker(&world, &first, &third, "w2").await;
        suspend(&world, &first, "w1").await;
        ends(&mut on_second, "principal-suspended", DENIED_WITHIN).await;
        let admin = world.bed.connect(&second.process, &world.bed.admin()).await;
        let serial_number = identity.serial.clone();
        let request = RevokeCertificatesRequest { serial_number, ..Default::default() };
        let _: RevokeCertificatesResponse = admin.ask(REVOKE, &request).await;
        ends(&mut on_third, "certificate-revoked", DENIED_WITHIN).await;

        // One is killed: the others go on, and hear of each other.
        let (mut on_third, _) = worker(&world, &first, &third, "w3").await;
        drop(second);
        suspend(&world, &first, "w3").await;
        ends(&mut on_third, "principal-suspended", DENIED_WITHIN).await;

        // One is cut off from the store: it takes nobody new, and after five seconds serves nobody.
        let (mut on_third, identity) = worker(&world, &first, &third, "w4").await;
        third.line.cut();
        let cut = now();
        suspend(&world, &first, "w4").await;
        third.process.until_ready_says(503, "feed-stale").await;
        let refused =
            world.bed.connect(&third.process, &world.bed.admin()).await.probe(WHO_AM_I).await.unwrap();
        assert_eq!((refused.code, refused.label.as_str()), (Code::Unavailable, "feed-stale"));
        // A worker's line asks the store, and may end by its silence before the feed's counts.
        assert_eq!(on_third.end().await.code, Code::Unavailable);
        let refused = Mutex::new(None);
        until("live connections are refused", async || {
            let answer = on_third.client.probe(ALIVE).await.unwrap();
            let is_refused = answer.code != Code::Ok;
            *refused.lock().unwrap() = is_refused.then_some(answer);
            is_refused
        })
        .await;
        let refused = refused.into_inner().unwrap().unwrap();
        assert_eq!((refused.code, refused.label.as_str()), (Code::Unavailable, "feed-stale"));
        let took = now().since(cut);
        assert!(took <= SERVES_NOBODY_AFTER + LATE, "it served for {took:?}");

        // Once it hears again it serves again, and knows what was denied meanwhile.
        third.line.mend();
        third.process.until_ready_says(200, "ready").await;
        assert_eq!(world.bed.refused(&third.process, &identity).await, "principal-suspended");
        third.process.stop();
        first.process.stop();
    });
}

#[test]
fn a_table_that_is_dead_is_named_by_ready_until_it_answers_again() {
    in_aws("aws_fleet::a_table_that_is_dead_is_named_by_ready_until_it_answers_again", async |world| {
        world.configure_with_tables(OFFLINE_ROOT);
        world.bootstrap().await;
        let server = Server::start(&world).await;
        let admin = world.bed.connect(&server.process, &world.bed.admin()).await;
        assert_eq!(admin.probe(LIST_PRINCIPALS).await.unwrap().code, Code::Ok);
        server.line.close_to("\"airunner_prod_principals\"");
        // Nothing asks this table but those who list it: what is asked of it is refused, by name and at once.
        let refused = Mutex::new(Vec::new());
        until("the table is found to be dead", async || {
            let answer = admin.probe(LIST_PRINCIPALS).await.unwrap();
            refused.lock().unwrap().push(answer);
            server.process.ready().await.0 == 503
        })
        .await;
        for answer in refused.into_inner().unwrap() {
            assert_eq!((answer.code, answer.label.as_str()), (Code::Unavailable, "store-unavailable"));
        }
        let said = server.process.until_ready_says(503, "store-unavailable").await;
        assert!(said.contains("the store's table principals does not answer"), "{said}");
        // What asks other tables is served meanwhile.
        assert_eq!(admin.probe(LIST_JOBS).await.unwrap().code, Code::Ok);

        server.line.mend();
        server.process.until_ready_says(200, "ready").await;
        assert_eq!(admin.probe(LIST_PRINCIPALS).await.unwrap().code, Code::Ok);
        server.process.stop();
    });
}

#[test]
fn an_edit_with_the_aws_cli_is_in_force_on_all_within_5_s() {
    in_aws("aws_fleet::an_edit_with_the_aws_cli_is_in_force_on_all_within_5_s", async |world| {
        world.configure_with_tables(OFFLINE_ROOT);
        world.bootstrap().await;
        let (first, second) = (Server::start(&world).await, Server::start(&world).await);
        let (mut on_first, _) = worker(&world, &first, &first, "w1").await;
        let (mut on_second, identity) = worker(&world, &first, &second, "w2").await;
        let edit = ["dynamodb", "update-item", "--update-expression"];
        let principal = r#"{":s": {"S": "suspended"}}"#;
        let key = r#"{"principal_id": {"S": "w1"}}"#;
        let table = ["--table-name", "airunner_prod_principals", "--key", key];
        let change = ["SET #s = :s", "--expression-attribute-names", r##"{"#s": "status"}"##];
        let values = ["--expression-attribute-values", principal];
        by_hand(&world, &[&edit[..], &change, &table, &values].concat());
        ends(&mut on_first, "principal-suspended", FOUND_WITHIN).await;

        let key = format!(r#"{{"serial_number": {{"S": "{}"}}}}"#, identity.serial);
        let table = ["--table-name", "airunner_prod_certificates", "--key", &key];
        let change = ["SET revoked = :r"];
        let values = ["--expression-attribute-values", r#"{":r": {"BOOL": true}}"#];
        by_hand(&world, &[&edit[..], &change, &table, &values].concat());
        ends(&mut on_second, "certificate-revoked", FOUND_WITHIN).await;

        // Who comes anew is refused by either, since the rows are what counts.
        for server in [&first, &second] {
            assert_eq!(world.bed.refused(&server.process, &identity).await, "certificate-revoked");
        }
        first.process.stop();
        second.process.stop();
    });
}
