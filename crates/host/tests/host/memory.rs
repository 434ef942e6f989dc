//! The memory backend: made at each start, gone at each end.

use std::path::Path;

use airunner_core::Label;
use airunner_host::{Config, Home, bootstrap::Outcome, open_app};
use airunner_pki::{IssuerCertificate, verify_issued_by};

use crate::bed::{Bed, random};

fn config() -> Config {
    let text = "environment = \"local\"\n[store]\nbackend = \"memory\"\n";
    Config::parse(Path::new("server.toml"), text).unwrap()
}

#[tokio::test]
async fn everything_is_made_and_no_file_is() {
    let bed = Bed::new();
    let host = open_app(&config(), None, &|_| None, bed.clock.clone(), random()).await.unwrap();
    let made = host.made.unwrap();
    assert!(made.steps.iter().all(|step| step.outcome == Outcome::Made), "{:?}", made.steps);
    let issuers = host.app.issuers().current();
    let issuing = &issuers.signing().unwrap().issuer.certificate;
    for credentials in [&made.server, &made.admin] {
        verify_issued_by(&credentials.chain[0], issuing).unwrap();
        let leaf = IssuerCertificate::parse(&credentials.chain[1]).unwrap();
        assert_eq!(leaf.der(), issuing.der());
    }
    assert!(!bed.home.path().exists());
}

#[tokio::test]
async fn with_a_home_the_admin_finds_its_files_at_every_start() {
    let bed = Bed::new();
    let mut admins = Vec::new();
    for _ in 0..2 {
        let host =
            open_app(&config(), Some(&bed.home), &|_| None, bed.clock.clone(), random()).await.unwrap();
        let made = host.made.unwrap();
        let files = bed.files();
        assert_eq!(files["admin/ca.pem"], host.app.issuers().current().bundle().roots_pem.as_bytes());
        admins.push(made.admin.chain[0].clone());
    }
    assert_ne!(admins[0], admins[1]);
}

#[tokio::test]
async fn it_writes_over_no_environment_that_lasts() {
    let bed = Bed::new();
    bed.bootstrap().await;
    let refused = open_app(&config(), Some(&bed.home), &|_| None, bed.clock.clone(), random()).await;
    assert_eq!(refused.err().unwrap().label(), Label::File);
    let elsewhere = Home::at(bed.folder.path().join("elsewhere"));
    assert!(open_app(&config(), Some(&elsewhere), &|_| None, bed.clock.clone(), random()).await.is_ok());
}
