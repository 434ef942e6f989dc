//! What the tests beside it arrange with: a directory, a store in it, and short ways to fill the store.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use airunner_core::{
    Certificate, Issued, Principal, PrincipalStatus, RevocationReason, RevocationTarget, SecureRandom,
    StatusChange, Stores, Timestamp,
};
use airunner_store::{SqliteOptions, SqliteStore};
use airunner_testkit::{clock::FakeClock, conformance::OUTPUT_LIMIT, random::SeededRandom, records};
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = FakeClock::START;

/// A directory for a store. It goes with the value.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.path().join("store.db")
    }

    pub(crate) fn open(&self) -> SqliteStore {
        SqliteStore::open(options(self.path())).unwrap()
    }

    /// Runs SQL with the distribution's `sqlite3`, as an admin would, and returns what it prints.
    pub(crate) fn by_hand(&self, sql: &str) -> String {
        let output = Command::new("sqlite3").arg(self.db()).arg(sql).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// A store in `dir`.
pub(crate) fn options(dir: &Path) -> SqliteOptions {
    let output_limit = OUTPUT_LIMIT;
    SqliteOptions { output_limit, ..SqliteOptions::new(dir.join("store.db"), dir.join("output")) }
}

/// Randomness for tests that don't care which.
pub(crate) fn random() -> &'static dyn SecureRandom {
    static RANDOM: SeededRandom = SeededRandom::new(11);
    &RANDOM
}

pub(crate) async fn worker(stores: &Stores, id: &str) -> Principal {
    let audit = records::audit("principal.create", id, NOW);
    stores.principals.create_principal(records::principal(id), audit).await.unwrap()
}

/// Records a new certificate of `principal`, which is at version 1.
pub(crate) async fn issue(stores: &Stores, principal: &Principal) -> Certificate {
    let leaf = records::certificate(principal, NOW, random());
    let issued = stores.certificates.record_issued(records::issuance(leaf.clone())).await;
    assert_eq!(issued.unwrap(), Issued::New);
    leaf
}

pub(crate) async fn suspend(stores: &Stores, principal: &Principal) {
    let change = StatusChange {
        status: PrincipalStatus::Suspended,
        reason: "a test".to_owned(),
        revoke: None,
        keep_an_admin: false,
    };
    let audit = records::audit("principal.suspend", principal.id.as_str(), NOW);
    stores.principals.set_status(&principal.id, change, audit).await.unwrap();
}

pub(crate) async fn revoke(stores: &Stores, certificate: &Certificate) {
    let target = RevocationTarget::Certificate(certificate.reference());
    let audit = records::audit("certificate.revoke", "x", NOW);
    stores.certificates.revoke(&target, RevocationReason::KeyCompromise, audit).await.unwrap();
}
