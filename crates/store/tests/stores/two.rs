//! Two processes with one file: here, two stores in one process, which share nothing but the file.

use std::{sync::Arc, time::Duration};

use airunner_core::{ChangeBatch, ChangeKind, Label, PrincipalStatus, Stores};
use airunner_store::SqliteStore;
use airunner_testkit::records;

use crate::world::{NOW, Place, issue, options, random, suspend, worker};

#[tokio::test(flavor = "multi_thread")]
async fn both_write_and_neither_loses_anything() {
    let place = Place::new();
    let (one, two) = (place.open(), place.open());
    let mut tasks = Vec::new();
    for (name, store) in [("one", &one), ("two", &two)] {
        for task in 0..4 {
            let stores = store.stores();
            tasks.push(tokio::spawn(async move {
                let mut issued = Vec::new();
                for n in 0..10 {
                    let principal = worker(&stores, &format!("{name}-{task}-{n}")).await;
                    issued.push(issue(&stores, &principal).await);
                    suspend(&stores, &principal).await;
                }
                issued
            }));
        }
    }
    let mut issued = Vec::new();
    for task in tasks {
        issued.extend(task.await.unwrap());
    }
    for stores in [one.stores(), two.stores()] {
        for leaf in &issued {
            let identity = stores.certificates.identity(&leaf.reference()).await.unwrap().unwrap();
            assert_eq!(identity.certificate, *leaf);
            assert_eq!(identity.principal.status, PrincipalStatus::Suspended);
        }
        let ChangeBatch::Changes(changes) = stores.changes.changes_after(0, 1_000).await.unwrap() else {
            panic!("nothing was pruned")
        };
        assert!(changes.iter().map(|change| change.number).eq(1..=80), "change numbers have a gap");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_number_is_unique_over_both() {
    let place = Place::new();
    let (one, two) = (place.open(), place.open());
    let principal = worker(&one.stores(), "w1").await;
    let leaf = issue(&one.stores(), &principal).await;
    let again =
        airunner_core::Certificate { serial: leaf.serial, ..records::certificate(&principal, NOW, random()) };
    let again = two.stores().certificates.record_issued(records::issuance(again)).await;
    assert_eq!(again.unwrap_err().label(), Label::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_changes_the_other_hears_within_600_ms() {
    let place = Place::new();
    let (one, two) = (place.open(), place.open());
    let principal = worker(&one.stores(), "w1").await;
    for number in 0..5 {
        let stores = two.stores();
        let following = tokio::spawn(async move { follow(&stores, number).await });
        let status = if number % 2 == 0 { PrincipalStatus::Suspended } else { PrincipalStatus::Active };
        let change =
            airunner_core::StatusChange { status, reason: String::new(), revoke: None, keep_an_admin: false };
        let audit = records::audit("s", "w1", NOW);
        one.stores().principals.set_status(&principal.id, change, audit).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(600), following).await;
        let told = ChangeKind::Principal { id: principal.id.clone(), status };
        assert_eq!(heard.expect("it is heard within 600 ms").unwrap(), told);
    }
}

#[test]
fn many_that_start_at_once_make_one_store() {
    let place = Arc::new(Place::new());
    let starting: Vec<_> = (0..8)
        .map(|_| {
            let place = place.clone();
            std::thread::spawn(move || SqliteStore::open(options(place.path())).map(drop))
        })
        .collect();
    for thread in starting {
        thread.join().unwrap().unwrap();
    }
    assert_eq!(place.by_hand("SELECT group_concat(version) FROM schema_versions"), "1,2,3");
}

async fn follow(stores: &Stores, number: u64) -> ChangeKind {
    loop {
        match stores.changes.changes_after(number, 1).await.unwrap() {
            ChangeBatch::Changes(mut changes) if !changes.is_empty() => return changes.remove(0).kind,
            _ => stores.changes.wait().await.unwrap(),
        }
    }
}
