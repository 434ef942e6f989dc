//! The server keeps what its OpenAPI document promises, in the eyes of software that others wrote.

use std::{process::Command, time::Duration};

use airunner_e2e::TestServer;

use crate::{
    calls::*,
    tls::{Other, tool},
};

/// What takes things away; on its own, so that the rest meets things that are there.
const TAKES_AWAY: &str = "^(Revoke|Delete|Suspend)";
/// What is said where no made-up token happened to be malformed.
const ENROLL_ALONE: &str = "401 Unauthorized (1 operation):\n  - POST /v1/enroll\n";
/// Every stream is over by then.
const DEADLINE: &str = "Connect-Timeout-Ms: 300";

fn document() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json").to_owned()
}

#[test]
fn the_description_is_valid_to_a_validator_that_others_wrote() {
    let checked = Command::new(tool("openapi-spec-validator")).arg(document()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Has schemathesis call the server as its admin.
async fn fuzz(server: &TestServer, arguments: &[&str]) {
    let other = Other::new(server, Some(&server.admin));
    let mut command = tokio::process::Command::new(tool("schemathesis"));
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis.toml");
    command.args(["--config-file", config, "run", &document()]);
    command.args(["--url", &format!("https://{}", server.addresses.api), "--header", DEADLINE]);
    command.args([
        "--tls-verify",
        "root.pem",
        "--request-cert",
        "chain.pem",
        "--request-cert-key",
        "key.pem",
    ]);
    command.args(["--seed", "1", "--no-shrink", "--continue-on-failure", "--request-timeout", "10"]);
    command.args(arguments).env("NO_COLOR", "1");
    let ended = other.run_for(command, b"", Duration::from_mins(5)).await;
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    // A token that was made up is refused, whoever shows it.
    let is_refused = said.contains("Authentication failed: ") && !said.contains(ENROLL_ALONE);
    assert!(said.contains("generated") && !is_refused, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fuzzer_of_apis_finds_no_answer_that_the_description_does_not_know() {
    let server = TestServer::start().await;
    fuzz(&server, &["--max-examples", "12", "--exclude-operation-id-regex", TAKES_AWAY]).await;
    let alone = ["--phases", "examples,coverage,fuzzing", "--include-operation-id-regex", TAKES_AWAY];
    fuzz(&server, &[&["--max-examples", "12"], &alone[..]].concat()).await;
    // Every call was that of an admin who counts.
    assert_eq!(admin(&server).await.probe(WHO_AM_I).await.unwrap().code, tonic::Code::Ok);
    server.stop().await;
}
