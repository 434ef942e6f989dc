//! Why someone may or may not: asked of a server, told in both forms.

use airunner_core::{PrincipalType, Role};

use crate::live::Live;

#[test]
fn a_yes_says_by_what_and_over_what() {
    let live = Live::new();
    live.principal("ann", PrincipalType::User);
    let told = live.json(&["authz", "explain", "ann", "CancelJob"]);
    assert_eq!(told["allowed"], true);
    assert_eq!(told["method"], "/airunner.job.v1.JobService/CancelJob");
    assert_eq!((told["permission"].as_str(), told["type"].as_str()), (Some("jobs:cancel"), Some("user")));
    assert_eq!(told["notes"][0], "over jobs that it owns, no others");
    let text = live.run(&["authz", "explain", "ann", "/airunner.job.v1.JobService/CancelJob"]).succeeded();
    assert!(text.stdout.contains("ann may: it has jobs:cancel by its role user"), "{}", text.stdout);
}

#[test]
fn a_no_says_what_is_missing_and_who_has_it() {
    let live = Live::new();
    live.principal("w", PrincipalType::Worker);
    let told = live.json(&["authz", "explain", "w", "PrincipalService.SuspendPrincipal"]);
    assert_eq!(told["allowed"], false);
    assert_eq!(told["reason"], "w may not: principals:manage is not in its role worker");
    assert_eq!(told["roles_that_allow"], serde_json::json!(["admin"]));
    live.run(&["principal", "suspend", "w", "--reason", "lost", "--yes"]).succeeded();
    let told = live.json(&["authz", "explain", "w", "DequeueJobs"]);
    assert_eq!((told["allowed"].as_bool(), told["status"].as_str()), (Some(false), Some("suspended")));
    assert!(told["reason"].as_str().unwrap().contains("suspended (lost)"), "{told}");
}

#[test]
fn an_rpc_or_a_principal_that_is_not_there_is_said_and_only_readers_may_ask() {
    let live = Live::new();
    live.run(&["authz", "explain", "admin", "Frobnicate"]).failed(1, "there is no RPC");
    live.run(&["authz", "explain", "nobody", "CancelJob"]).failed(5, "not-found");
    let viewer = live.principal_of_role("eve", Role::Viewer);
    viewer.run(&["authz", "explain", "admin", "CancelJob"]).failed(4, "principals:read");
}
