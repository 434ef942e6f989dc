//! Commands that look at files and ask no server.

use std::{fs, process::Command};

use crate::bed::{Bed, Run};

#[test]
fn a_certificate_is_shown_as_openssl_has_it() {
    let bed = Bed::bootstrapped();
    let path = bed.home().join("admin/cert.pem").display().to_string();
    let shown = bed.json(&["certificate", "show", &path]);
    let leaf = &shown["certificates"][0];
    assert_eq!(leaf["principal_id"], "admin");
    assert_eq!(leaf["uris"][0], "spiffe://local.airunner.internal/admin/admin");
    let serial =
        Run::of(Command::new("openssl").args(["x509", "-noout", "-serial", "-in", &path])).succeeded();
    let serial = serial.stdout.trim().trim_start_matches("serial=").to_lowercase();
    assert_eq!(leaf["serial_number"], serial.as_str());
    assert_eq!(shown["certificates"].as_array().unwrap().len(), 2);
}

#[test]
fn a_certificate_of_another_environment_does_not_verify() {
    let (bed, other) = (Bed::bootstrapped(), Bed::bootstrapped());
    let path = |bed: &Bed| bed.home().join("admin/cert.pem").display().to_string();
    let verified = bed.json(&["certificate", "verify", &path(&bed)]);
    assert_eq!(verified["valid"], true);
    let refused = bed.run(&["certificate", "verify", &path(&other)]);
    assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
}

#[test]
fn the_server_s_certificate_is_rotated_alone() {
    let bed = Bed::bootstrapped();
    let read = |name: &str| fs::read(bed.home().join(name)).unwrap();
    let (server, admin) = (read("server/cert.pem"), read("admin/cert.pem"));
    bed.run(&["certificate", "rotate"]).failed(2, "--server");
    bed.run(&["certificate", "rotate", "--server"]).succeeded();
    assert!(read("server/cert.pem") != server);
    assert!(read("admin/cert.pem") == admin);
}

#[test]
fn without_an_environment_the_error_names_the_way_to_one() {
    let bed = Bed::new();
    bed.run(&["ca", "renew-issuer"]).failed(1, "bootstrap --environment=local");
    bed.run(&["certificate", "rotate", "--server"]).failed(1, "bootstrap --environment=local");
    bed.run(&["whoami"]).failed(2, "bootstrap --environment local");
}

#[test]
fn the_root_key_may_be_elsewhere_and_is_then_asked_for_by_name() {
    let bed = Bed::bootstrapped();
    let elsewhere = bed.folder.path().join("safe.pem");
    fs::rename(bed.home().join("ca-key.pem"), &elsewhere).unwrap();
    bed.run(&["bootstrap", "--environment=local"]).succeeded();
    bed.run(&["ca", "renew-issuer"]).failed(5, "ca-key.pem");
}
