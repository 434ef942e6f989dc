//! Opening, closing and copying the file, and what is said where it can't be opened.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
};

use airunner_core::{ChangeBatch, Job, Label};
use airunner_store::{SqliteOptions, SqliteStore};
use airunner_testkit::records::{self, audit};

use crate::world::{NOW, Place, issue, options, random, revoke, worker};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Opening must fail, with a message that holds `says`.
#[track_caller]
fn refused(options: SqliteOptions, says: &str) {
    match SqliteStore::open(options) {
        Ok(_) => panic!("should have been refused: {says}"),
        Err(error) => {
            assert_eq!(error.label(), Label::File, "{error:?}");
            assert!(error.message().contains(says), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_opening_again() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    let leaf = issue(&stores, &principal).await;
    let revoked = issue(&stores, &principal).await;
    revoke(&stores, &revoked).await;
    let keyring = records::keyring(NOW, random());
    stores.keyring.create_keyring(keyring.clone()).await.unwrap();
    let job = records::job("w1", NOW, random());
    stores.jobs.enqueue_jobs(vec![job.clone()], None, audit("j", "x", NOW)).await.unwrap();
    let log = stores.audit.tail(100).await.unwrap();
    store.close();
    // A closed store says so.
    assert_eq!(stores.audit.tail(1).await.unwrap_err().label(), Label::StoreUnavailable);
    let late = stores.audit.record(audit("late", "x", NOW)).await;
    assert_eq!(late.unwrap_err().label(), Label::StoreUnavailable);

    let again = place.open();
    assert!(!again.had_log(), "closing left a log");
    let stores = again.stores();
    assert_eq!(stores.certificates.get_by_fingerprint(&leaf.fingerprint).await.unwrap(), Some(leaf));
    assert_eq!(stores.changes.denials(NOW).await.unwrap().certificates, [revoked.reference()]);
    assert_eq!(stores.keyring.get_keyring().await.unwrap(), Some(keyring));
    let kept = stores.jobs.get_job(&job.id).await.unwrap().unwrap();
    assert!(kept.rank.is_some(), "it stands in line");
    assert_eq!(Job { rank: None, ..kept }, job);
    assert_eq!(stores.audit.tail(100).await.unwrap(), log);
    let ChangeBatch::Changes(changes) = stores.changes.changes_after(0, 10).await.unwrap() else {
        panic!("nothing was pruned")
    };
    assert_eq!(changes.len(), 1);
    again.quick_check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_answers_whoever_waits() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let writing: Vec<_> = (0..64)
        .map(|n| {
            let stores = stores.clone();
            tokio::spawn(async move { stores.audit.record(audit("a", &n.to_string(), NOW)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    let mut kept = 0;
    for task in writing {
        match task.await.unwrap() {
            Ok(()) => kept += 1,
            Err(error) => assert_eq!(error.label(), Label::StoreUnavailable),
        }
    }
    let again = place.open();
    assert_eq!(again.stores().audit.tail(100).await.unwrap().len(), kept);
}

#[test]
fn only_the_owner_may_read_what_is_made() {
    let place = Place::new();
    let _store = place.open();
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        assert_eq!(mode(&place.path().join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&place.path().join("output")), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_a_store_of_its_own() {
    let place = Place::new();
    let store = place.open();
    let principal = worker(&store.stores(), "w1").await;
    let leaf = issue(&store.stores(), &principal).await;
    revoke(&store.stores(), &leaf).await;
    let copy = place.path().join("copy.db");
    store.backup(&copy).await.unwrap();
    assert_eq!(mode(&copy), 0o600);
    assert_eq!(store.backup(&copy).await.unwrap_err().label(), Label::File);
    // What comes after it is not in it.
    worker(&store.stores(), "w2").await;
    let copy = SqliteStore::open(SqliteOptions::new(&copy, place.path().join("output-2"))).unwrap();
    let found = copy.stores().certificates.get_by_fingerprint(&leaf.fingerprint).await.unwrap().unwrap();
    assert!(found.revocation.is_some());
    assert_eq!(copy.stores().principals.get_principal(&records::id("w2")).await.unwrap(), None);
    assert_eq!(copy.stores().changes.denials(NOW).await.unwrap().number, 1);
}

#[test]
fn a_file_that_is_no_store_is_left_alone() {
    let place = Place::new();
    fs::write(place.db(), "dear diary").unwrap();
    refused(options(place.path()), "not a store of ours");
    assert_eq!(fs::read_to_string(place.db()).unwrap(), "dear diary");
}

#[test]
fn another_programs_database_is_left_alone() {
    let place = Place::new();
    place.by_hand("CREATE TABLE bookmarks (url TEXT)");
    refused(options(place.path()), "belongs to another program");
    assert_eq!(place.by_hand("SELECT name FROM sqlite_master"), "bookmarks");
}

#[test]
fn a_newer_version_is_not_touched() {
    let place = Place::new();
    place.open().close();
    place.by_hand("PRAGMA user_version = 99");
    refused(options(place.path()), "newer version");
}

#[test]
fn a_damaged_file_is_told() {
    let place = Place::new();
    place.open().close();
    let file = fs::OpenOptions::new().write(true).open(place.db()).unwrap();
    file.write_all_at(&[0xff; 4_000], 60).unwrap();
    refused(options(place.path()), "damaged");
}

#[test]
fn a_path_that_leads_nowhere_is_told() {
    let place = Place::new();
    let nowhere = place.path().join("no/such/dir/store.db");
    refused(SqliteOptions::new(nowhere, place.path().join("output")), "no directory");
    refused(SqliteOptions::new(place.path(), place.path().join("output")), "is a directory");
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    refused(SqliteOptions::new(place.db(), file.join("output")), "output");
}

#[test]
fn a_store_that_others_may_write_is_refused() {
    let place = Place::new();
    place.open().close();
    fs::set_permissions(place.db(), fs::Permissions::from_mode(0o666)).unwrap();
    refused(options(place.path()), "chmod 600");
    fs::set_permissions(place.db(), fs::Permissions::from_mode(0o640)).unwrap();
    place.open().close();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_behind_the_first_page_is_found_by_the_check() {
    let place = Place::new();
    let store = place.open();
    for n in 0..50 {
        let principal = worker(&store.stores(), &format!("w{n}")).await;
        issue(&store.stores(), &principal).await;
    }
    store.close();
    let file = fs::OpenOptions::new().write(true).open(place.db()).unwrap();
    let len = file.metadata().unwrap().len();
    file.write_all_at(&[0xff; 4_096], len - 4_096).unwrap();
    let store = place.open();
    assert_eq!(store.quick_check().await.unwrap_err().label(), Label::Internal);
}
