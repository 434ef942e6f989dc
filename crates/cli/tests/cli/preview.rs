//! What a destructive act shows before it asks.

use airunner_core::PrincipalType;

use crate::{
    live::Live,
    prompt::{at_terminal, cli},
};

#[test]
fn whoever_would_lose_authority_is_shown_with_its_certificates_and_jobs() {
    let live = Live::new();
    let _worker = live.worker();
    live.run(&["job", "start", "--", "sleep", "600"]).succeeded();
    let hit = live.json(&["principal", "suspend", "w1", "--dry-run"]);
    assert_eq!(hit["dry_run"], true);
    assert_eq!(hit["certificates"].as_array().unwrap().len(), 1);
    assert_eq!(hit["running_jobs"][0]["command"], "sleep");
    let serial = hit["certificates"][0]["serial_number"].as_str().unwrap();

    let line = format!("{} principal suspend w1; echo code=$?", cli());
    let shown = at_terminal(&live.bed, &line, &[("[y/N] ", b"n\n")]);
    for part in ["w1, worker, active", "1 certificate in force", serial, "sleep 600", "nothing was changed"] {
        assert!(shown.contains(part), "{part} is not in {shown:?}");
    }
    let status = || live.json(&["principal", "get", "w1"])["status"].clone();
    assert_eq!(status(), "active");
    let shown = at_terminal(&live.bed, &line, &[("[y/N] ", b"y\n")]);
    assert!(shown.contains("w1 is suspended") && shown.contains("code=0"), "{shown:?}");
    assert_eq!(status(), "suspended");
}

#[test]
fn without_a_terminal_what_can_be_taken_back_is_done_and_the_rest_needs_yes() {
    let live = Live::new();
    live.principal("ann", PrincipalType::User);
    live.run(&["principal", "suspend", "ann"]).succeeded();
    live.run(&["principal", "activate", "ann"]).succeeded();
    for act in ["revoke", "delete"] {
        live.run(&["principal", act, "ann"]).failed(2, "--yes");
    }
    assert_eq!(live.json(&["principal", "get", "ann"])["status"], "active");
}

#[test]
fn the_certificates_that_would_be_revoked_are_named() {
    let live = Live::new();
    live.principal("ann", PrincipalType::User);
    let listed = live.json(&["certificate", "list", "--principal", "ann"]);
    let serial = listed["certificates"][0]["serial_number"].as_str().unwrap();
    for which in ["--principal ann", serial] {
        let line = format!("{} certificate revoke {which}", cli());
        let shown = at_terminal(&live.bed, &line, &[("[y/N] ", b"n\n")]);
        assert!(shown.contains(serial) && shown.contains("expires in"), "{shown:?}");
        assert!(shown.contains("Revoke 1 certificate") && shown.contains("nothing was changed"), "{shown:?}");
    }
    live.run(&["certificate", "revoke", serial]).failed(2, "--yes");
    live.run(&["certificate", "revoke", serial, "--yes"]).succeeded();
    assert_eq!(live.json(&["certificate", "get", serial])["revoked"], true);
}
