//! A full disk: writes are refused, reads go on, and with room again writes do too, without a restart.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use airunner_core::{Label, OutputChunk, OutputStream, Result, Sequence, Stores};
use airunner_store::SqliteStore;
use airunner_testkit::records::{self, audit};
use rusqlite::Connection;

use crate::world::{NOW, Place, issue, options, random, worker};

/// Names the directory for the test that runs as a child of another.
const DIR: &str = "AIRUNNER_TEST_FULL_DIR";

async fn write(stores: &Stores) -> Result<()> {
    stores.audit.record(audit("filler", &"x".repeat(3_000), NOW)).await
}

/// Writes until nothing more fits; what refused.
async fn fill(stores: &Stores) -> Label {
    for _ in 0..5_000 {
        if let Err(error) = write(stores).await {
            assert!(error.retry_after().is_some());
            return error.label();
        }
    }
    panic!("the store takes more than it should");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_at_its_limit_reads_and_recovers() {
    let place = Place::new();
    let limited = airunner_store::SqliteOptions { max_bytes: Some(2 * 1024 * 1024), ..options(place.path()) };
    let store = SqliteStore::open(limited).unwrap();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    let leaf = issue(&stores, &principal).await;
    let unlimited = airunner_core::PrincipalUpdate { max_certificates: Some(0), ..Default::default() };
    let principals = &stores.principals;
    principals.update_principal(&principal.id, 1, unlimited, audit("u", "w1", NOW)).await.unwrap();
    assert_eq!(fill(&stores).await, Label::StoreFull);
    // Nothing that was acknowledged is gone, and nothing that was refused is there.
    let identity = stores.certificates.identity(&leaf.reference()).await.unwrap();
    assert_eq!(identity.unwrap().certificate, leaf);
    let full = loop {
        let leaf = records::certificate(&principal, NOW, random());
        let issuance = airunner_core::Issuance { principal_version: 2, ..records::issuance(leaf.clone()) };
        if let Err(error) = stores.certificates.record_issued(issuance).await {
            assert_eq!(error.label(), Label::StoreFull);
            break leaf;
        }
    };
    assert_eq!(stores.certificates.get_by_fingerprint(&full.fingerprint).await.unwrap(), None);
    stores.changes.wait().await.unwrap();
    // Someone makes room.
    place.by_hand("DELETE FROM audit_log WHERE entry LIKE '%filler%'");
    let issuance = airunner_core::Issuance { principal_version: 2, ..records::issuance(full) };
    let issued = stores.certificates.record_issued(issuance).await.unwrap();
    assert_eq!(issued, airunner_core::Issued::New);
    store.quick_check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_kept_waiting_refuses_what_it_cannot_queue() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let other = Connection::open(place.db()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..6_000 {
        let stores = stores.clone();
        waiting.spawn(async move { write(&stores).await.err() });
    }
    // Those that don't fit are told at once; the others wait for the lock.
    let refused = tokio::time::timeout(Duration::from_secs(4), waiting.join_next()).await;
    let refused = refused.expect("a refusal does not wait").unwrap().unwrap().unwrap();
    assert_eq!(refused.label(), Label::StoreUnavailable);
    assert!(refused.retry_after().is_some());
    // Reads need no lock.
    assert_eq!(stores.audit.tail(1).await.unwrap(), []);
    other.execute_batch("ROLLBACK").unwrap();
    let mut written = 0;
    while let Some(done) = waiting.join_next().await {
        written += usize::from(done.unwrap().is_none());
    }
    assert!(written >= 4_000, "only {written} were written");
}

#[test]
fn a_full_disk_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let test = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(dir.path())
        .arg(test)
        .args(["--exact", "full::on_a_full_disk", "--ignored"])
        .env(DIR, dir.path())
        .output();
    let Ok(output) = output else { return };
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Only root may mount; elsewhere the test above has to do.
    let may_not = ["Operation not permitted", "permission denied", "must be superuser"];
    if may_not.iter().any(|reason| said.contains(reason)) {
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a small file system: the test above runs it on one"]
async fn on_a_full_disk() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let store = SqliteStore::open(options(&dir)).unwrap();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    let leaf = issue(&stores, &principal).await;
    let job = records::job("w1", NOW, random()).id;
    let chunk = |n| OutputChunk {
        sequence: Sequence::new(1, n),
        at: NOW,
        stream: OutputStream::Stdout,
        bytes: vec![u8::try_from(n % 256).unwrap(); 10_000],
    };
    stores.output.append_output(&job, &[chunk(1)]).await.unwrap();
    let filler = dir.join("filler");
    // It ends with the disk full, which is what is wanted.
    let _ = fs::write(&filler, vec![0; 8 * 1024 * 1024]);

    assert_eq!(fill(&stores).await, Label::StoreFull);
    let refused = stores.output.append_output(&job, &[chunk(2), chunk(3)]).await.unwrap_err();
    assert_eq!(refused.label(), Label::StoreFull);
    assert_eq!(stores.output.last_output(&job, 1).await.unwrap(), Some(Sequence::new(1, 1)));
    let identity = stores.certificates.identity(&leaf.reference()).await.unwrap();
    assert_eq!(identity.unwrap().certificate, leaf);

    fs::remove_file(&filler).unwrap();
    write(&stores).await.unwrap();
    stores.output.append_output(&job, &[chunk(2), chunk(3)]).await.unwrap();
    let read = stores.output.output_after(&job, Sequence::default(), usize::MAX).await.unwrap();
    assert_eq!(read.chunks, [chunk(1), chunk(2), chunk(3)]);
    store.quick_check().await.unwrap();
}
