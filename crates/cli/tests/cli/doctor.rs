//! What is looked at, with and without a server, and what is said to do about it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use airunner_core::{PrincipalType, Role};
use serde_json::Value;

use crate::{
    bed::{Bed, Run},
    live::Live,
};

/// The document of a run that ended with this code.
fn examined(bed: &Bed, code: i32, args: &[&str]) -> Value {
    let run = bed.run(&[&["doctor", "--output", "json"], args].concat());
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

/// What was found of a check, in one state.
fn found<'a>(document: &'a Value, check: &str, state: &str) -> &'a Value {
    let findings = document["findings"].as_array().unwrap();
    let is_it = |finding: &&Value| finding["check"] == check && finding["state"] == state;
    findings.iter().find(is_it).unwrap_or_else(|| panic!("no {state} {check} in {document:#}"))
}

fn count(document: &Value, state: &str) -> usize {
    document["findings"].as_array().unwrap().iter().filter(|finding| finding["state"] == state).count()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn all_is_well_where_all_is_well() {
    let live = Live::new();
    let document = examined(&live.bed, 0, &[]);
    assert_eq!(document["healthy"], true);
    for check in [
        "private key",
        "OIDs",
        "certificate",
        "trust bundle",
        "chain",
        "API listener",
        "clock",
        "version",
        "roles",
        "trust bundle of the server",
        "issuing CA of the server",
        "store and feed",
        "isolation of jobs",
    ] {
        found(&document, check, "ok");
    }
    assert_eq!(count(&document, "wrong") + count(&document, "warning"), 0, "{document:#}");
    // What can't be had on this machine is told with what to do.
    let isolation = found(&document, "isolation of jobs", "ok");
    let is_whole = !isolation["finding"].as_str().unwrap().contains("without");
    assert_eq!(isolation["remedy"].is_null(), is_whole, "{isolation:#}");
    let Run { code, stdout, stderr } = live.run(&["doctor"]);
    assert_eq!((code, stderr.as_str()), (0, "all is well\n"), "{stdout}");
}

#[test]
fn without_a_server_it_says_so_and_looks_at_the_rest() {
    let bed = Bed::bootstrapped();
    let document = examined(&bed, 1, &["--server", "127.0.0.1:1"]);
    assert_eq!(document["healthy"], false);
    let down = found(&document, "API listener", "wrong");
    assert!(down["finding"].as_str().unwrap().contains("the server is down"), "{down}");
    assert!(down["remedy"].as_str().unwrap().contains("airunner-server"), "{down}");
    for check in
        ["configuration", "server's keys", "server's certificate", "issuing CA", "certificate", "chain"]
    {
        found(&document, check, "ok");
    }
    found(&document, "store and feed", "skipped");
    for finding in document["findings"].as_array().unwrap() {
        assert!(finding["state"] == "ok" || finding["remedy"].is_string(), "{finding}");
    }
    let text = bed.run(&["doctor", "--server", "127.0.0.1:1"]);
    assert!(text.stdout.contains("→ ") && text.stderr.contains("wrong: "), "{}{}", text.stdout, text.stderr);
}

#[test]
fn each_listener_of_the_environment_on_this_machine_is_asked() {
    let live = Live::new();
    let addresses = live.server.addresses;
    let home = Bed::new();
    let listener = |name: &str, address: std::net::SocketAddr| format!("--{name}-addr={address}");
    let flags = [
        listener("api", addresses.api),
        listener("public", addresses.public.unwrap()),
        listener("plain", addresses.plain),
        listener("metrics", addresses.metrics.unwrap()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    home.run(&[&["bootstrap", "--environment=local"], &flags[..]].concat()).succeeded();
    let folder = home.home().display().to_string();
    let document = examined(&live.bed, 0, &["--home", &folder]);
    for check in ["public listener", "plain listener", "metrics listener", "store and feed", "store"] {
        found(&document, check, "ok");
    }
}

#[test]
fn a_key_that_others_may_read_is_told_with_the_command() {
    let bed = Bed::bootstrapped();
    let key = bed.home().join("admin/key.pem");
    set_mode(&key, 0o644);
    set_mode(&bed.home().join("server/key.pem"), 0o640);
    let document = examined(&bed, 1, &["--server", "127.0.0.1:1"]);
    let remedy = found(&document, "private key", "wrong")["remedy"].as_str().unwrap();
    assert!(remedy.starts_with(&format!("chmod 600 {}", key.display())), "{remedy}");
    found(&document, "server's keys", "wrong");
}

#[test]
fn an_identity_of_another_environment_is_told() {
    let (live, other) = (Live::new(), Live::new());
    let roots = |live: &Live| live.bed.folder.path().join("identity/roots.pem").display().to_string();
    let document = examined(&live.bed, 1, &["--cacert", &roots(&other)]);
    found(&document, "chain", "wrong");
    found(&document, "API listener", "wrong");
}

#[test]
fn a_suspended_principal_and_a_wrong_role_are_told_with_what_an_admin_can_do() {
    let live = Live::new();
    let ann = live.principal("ann", PrincipalType::User);
    live.run(&["principal", "suspend", "ann", "--reason", "lost", "--yes"]).succeeded();
    let document = examined(&ann, 1, &[]);
    found(&document, "API listener", "ok");
    let told = found(&document, "identity", "wrong");
    assert!(told["finding"].as_str().unwrap().contains("principal-suspended"), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("principal activate"), "{told}");

    let eve = live.principal_of_role("eve", Role::Enroller);
    let document = examined(&eve, 0, &[]);
    assert!(found(&document, "roles", "warning")["remedy"].as_str().unwrap().contains("--enrol-prefix"));
}

#[test]
fn a_configuration_with_a_typo_or_no_identity_is_told() {
    let bed = Bed::bootstrapped();
    let config = bed.home().join("server.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[serverr]\n")).unwrap();
    fs::remove_file(bed.home().join("admin/cert.pem")).unwrap();
    let document = examined(&bed, 1, &[]);
    assert!(found(&document, "configuration", "wrong")["finding"].as_str().unwrap().contains("server.toml"));
    found(&document, "identity", "wrong");
    found(&document, "API listener", "skipped");
    let empty = Bed::new();
    let document = examined(&empty, 1, &[]);
    assert!(found(&document, "identity", "wrong")["remedy"].as_str().unwrap().contains("bootstrap"));
}
