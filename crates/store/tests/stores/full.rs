//! A full disk: writes are refused, reads go on, and with room again writes do too, without a restart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use airunner_core::{Label, OutputChunk, OutputStream, Sequence, Stores};
use airunner_store::SqliteStore;
use airunner_testkit::records::{self, audit};
use rusqlite::Connection;

use crate::world::{NOW, Place, issue, options, random, worker};

/// Names the directory for the tests that run as children of others.
const DIR: &str = "AIRUNNER_TEST_FULL_DIR";

async fn write(stores: &Stores) -> airunner_core::Result<()> {
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
    let refusals: Vec<_> = NAMESPACES
        .iter()
        .map_while(|namespace| on_small_disk(namespace, dir.path()).err())
        .map(|refusal| refusal.trim().to_owned())
        .collect();
    assert!(
        refusals.len() < NAMESPACES.len(),
        "this test needs a small file system, and may not mount one: run it as root, or let this user have namespaces \
         of its own (kernel.unprivileged_userns_clone=1, user.max_user_namespaces > 0, and no container profile that \
         forbids them). It was told: {refusals:?}"
    );
}

/// Who may mount a file system: root; anyone else where it is root of a namespace of its own.
const NAMESPACES: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];

/// Runs the test below on a file system of 4 MiB. Fails, with what was said, where it can't be mounted.
fn on_small_disk(namespace: &[&str], dir: &Path) -> Result<(), String> {
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(namespace).args(["sh", "-c", script]).arg(dir);
    let output = in_child(&mut command, dir, "full::on_a_full_disk").map_err(|error| error.to_string())?;
    let said = said(&output);
    // What refuses before the test has begun is `unshare` or `mount`.
    if !output.status.success() && !said.contains("running 1 test") {
        return Err(said);
    }
    assert_passed(&output);
    Ok(())
}

#[test]
fn files_that_may_grow_no_more_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    // A process that did not expect the limit would be ended by its signal.
    shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    assert_passed(&in_child(&mut shell, dir.path(), "full::under_a_limit").unwrap());
}

/// Runs a test that is ignored otherwise as a child of `command`.
fn in_child(command: &mut Command, dir: &Path, test: &str) -> io::Result<Output> {
    let own = std::env::current_exe().unwrap();
    command.arg(own).args(["--exact", test, "--ignored", "--nocapture"]).env(DIR, dir).output()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_passed(output: &Output) {
    assert!(output.status.success() && said(output).contains("1 passed"), "{}", said(output));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a small file system: a test above runs it on one"]
async fn on_a_full_disk() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let filler = dir.join("filler");
    let fill_disk = || {
        let full = fs::write(&filler, vec![0; 8 * 1024 * 1024]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    };
    survives(&dir, fill_disk, || fs::remove_file(&filler).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "limits its process: a test above runs it as a child"]
async fn under_a_limit() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let limit = |size: &str| {
        let own = std::process::id().to_string();
        let set = Command::new("prlimit").args(["--pid", &own, &format!("--fsize={size}:")]).status();
        assert!(set.expect("this test needs prlimit, of util-linux").success());
    };
    // One more batch of output is cut in the middle.
    survives(&dir, || limit("16384"), || limit("unlimited")).await;
}

/// A store on a disk that gets full, and gets room again.
async fn survives(dir: &Path, fill_disk: impl FnOnce(), make_room: impl FnOnce()) {
    let store = SqliteStore::open(options(dir)).unwrap();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    let leaf = issue(&stores, &principal).await;
    let job = records::job("w1", NOW, random()).id;
    let chunk = |n| OutputChunk {
        sequence: Sequence::new(1, n),
        at: NOW,
        stream: OutputStream::Stdout,
        bytes: vec![u8::try_from(n % 256).unwrap(); 10_000].into(),
    };
    stores.output.append_output(&job, &[chunk(1)]).await.unwrap();
    fill_disk();

    assert_eq!(fill(&stores).await, Label::StoreFull);
    let refused = stores.output.append_output(&job, &[chunk(2), chunk(3)]).await.unwrap_err();
    assert_eq!(refused.label(), Label::StoreFull);
    assert_eq!(stores.output.last_output(&job, 1).await.unwrap(), Some(Sequence::new(1, 1)));
    let identity = stores.certificates.identity(&leaf.reference()).await.unwrap();
    assert_eq!(identity.unwrap().certificate, leaf);

    make_room();
    write(&stores).await.unwrap();
    stores.output.append_output(&job, &[chunk(2), chunk(3)]).await.unwrap();
    let read = stores.output.output_after(&job, Sequence::default(), usize::MAX).await.unwrap();
    assert_eq!(read.chunks, [chunk(1), chunk(2), chunk(3)]);
    store.quick_check().await.unwrap();
}
