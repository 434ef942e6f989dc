//! What an admin does to the file with a distribution's `sqlite3` counts, and every server hears of it.

use std::{collections::BTreeSet, process::Command, time::Duration};

use airunner_core::{
    Change, ChangeBatch, ChangeKind, Label, PrincipalStatus, RevocationReason, Role, Stores,
};
use airunner_testkit::records::{self, audit, id};

use crate::world::{NOW, Place, issue, random, worker};

/// The first change after `number`, which must come within 600 ms.
async fn heard(stores: &Stores, number: u64) -> Change {
    let hear = async {
        loop {
            match stores.changes.changes_after(number, 1).await.unwrap() {
                ChangeBatch::Changes(changes) if changes.is_empty() => stores.changes.wait().await.unwrap(),
                ChangeBatch::Changes(mut changes) => return changes.remove(0),
                ChangeBatch::Pruned => panic!("nothing was pruned"),
            }
        }
    };
    tokio::time::timeout(Duration::from_millis(600), hear).await.expect("the change is heard within 600 ms")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_set_by_hand_is_heard_and_changes_the_version() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    place.by_hand("UPDATE principals SET status='suspended' WHERE principal_id='W1'");
    let told = ChangeKind::Principal { id: principal.id.clone(), status: PrincipalStatus::Suspended };
    assert_eq!(heard(&stores, 0).await.kind, told);
    let found = stores.principals.get_principal(&principal.id).await.unwrap().unwrap();
    assert_eq!(found.status, PrincipalStatus::Suspended);
    assert_eq!((found.suspended_at, found.version), (None, 2));
    // A decision that rests on the row as it was before is refused.
    place.by_hand("UPDATE principals SET status='active' WHERE principal_id='w1'");
    let leaf = records::certificate(&principal, NOW, random());
    let late = stores.certificates.record_issued(records::issuance(leaf)).await;
    assert_eq!(late.unwrap_err().label(), Label::VersionConflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_set_by_hand_is_left_as_it_is() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    worker(&stores, "w1").await;
    place.by_hand("UPDATE principals SET status='suspended', version=version+1 WHERE principal_id='w1'");
    let found = stores.principals.get_principal(&id("w1")).await.unwrap().unwrap();
    assert_eq!(found.version, 2);
    place.by_hand("UPDATE principals SET description='no authority' WHERE principal_id='w1'");
    assert_eq!(place.by_hand("SELECT count(*), max(number) FROM changes"), "1|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_hand_changes_of_a_principal_changes_its_version() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    place.by_hand("UPDATE principals SET email='w1@example.com', validity=3600 WHERE principal_id='w1'");
    let found = stores.principals.get_principal(&principal.id).await.unwrap().unwrap();
    assert_eq!(found.version, principal.version + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_set_by_hand_are_heard() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    worker(&stores, "w1").await;
    place.by_hand("UPDATE principals SET roles='viewer, user' WHERE principal_id='w1'");
    let told = ChangeKind::Principal { id: id("w1"), status: PrincipalStatus::Active };
    assert_eq!(heard(&stores, 0).await.kind, told);
    let found = stores.principals.get_principal(&id("w1")).await.unwrap().unwrap();
    assert_eq!(found.roles, BTreeSet::from([Role::Viewer, Role::User]));
    // Roles that don't exist let nobody in.
    place.by_hand("UPDATE principals SET roles='god' WHERE principal_id='w1'");
    assert_eq!(stores.principals.get_principal(&id("w1")).await.unwrap_err().label(), Label::Internal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_revoked_by_hand_is_heard_and_takes_no_slot() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    let leaf = issue(&stores, &principal).await;
    issue(&stores, &principal).await;
    issue(&stores, &principal).await;
    place.by_hand(&format!("UPDATE certificates SET revoked=1 WHERE serial_number='{}'", leaf.serial));
    let told = ChangeKind::Certificate { reference: leaf.reference(), revoked: true };
    assert_eq!(heard(&stores, 0).await.kind, told);
    let found = stores.certificates.get_by_fingerprint(&leaf.fingerprint).await.unwrap().unwrap();
    assert_eq!(found.revocation.unwrap().reason, RevocationReason::Unspecified);
    assert_eq!(stores.changes.denials(NOW).await.unwrap().certificates, [leaf.reference()]);
    let last = issue(&stores, &principal).await;
    // Taken back, it counts again, also against the limit.
    place.by_hand(&format!("UPDATE certificates SET revoked=0 WHERE serial_number='{}'", leaf.serial));
    let told = ChangeKind::Certificate { reference: leaf.reference(), revoked: false };
    assert_eq!(heard(&stores, 1).await.kind, told);
    let found = stores.certificates.get_by_fingerprint(&leaf.fingerprint).await.unwrap().unwrap();
    assert_eq!(found, leaf);
    place.by_hand(&format!("UPDATE certificates SET revoked=1 WHERE serial_number='{}'", last.serial));
    let full = records::issuance(records::certificate(&principal, NOW, random()));
    let full = stores.certificates.record_issued(full).await.unwrap_err();
    assert_eq!(full.label(), Label::TooManyCertificates);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_and_why_may_be_left_out_or_misspelt() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    let leaf = issue(&stores, &principal).await;
    place.by_hand("UPDATE certificates SET revoked=1, revocation_reason='stolen!', revoked_at=5");
    let found = stores.certificates.get_by_fingerprint(&leaf.fingerprint).await.unwrap().unwrap();
    let revocation = found.revocation.unwrap();
    assert_eq!((revocation.reason, revocation.at.as_millis()), (RevocationReason::Unspecified, 5));
    place.by_hand("UPDATE certificates SET revoked_at=NULL, revocation_reason=NULL");
    let found = stores.certificates.get_by_fingerprint(&leaf.fingerprint).await.unwrap().unwrap();
    assert_eq!(found.revocation.unwrap().at, leaf.issued_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_deleted_by_hand_is_a_denial() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let principal = worker(&stores, "w1").await;
    let far = airunner_core::Timestamp::from_millis(9_000_000_000_000);
    let leaf =
        airunner_core::Certificate { expires_at: far, ..records::certificate(&principal, NOW, random()) };
    stores.certificates.record_issued(records::issuance(leaf.clone())).await.unwrap();
    place.by_hand("DELETE FROM certificates");
    let told = ChangeKind::Certificate { reference: leaf.reference(), revoked: true };
    assert_eq!(heard(&stores, 0).await.kind, told);
    place.by_hand("DELETE FROM principals");
    let told = ChangeKind::Principal { id: principal.id, status: PrincipalStatus::Deleted };
    assert_eq!(heard(&stores, 1).await.kind, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuers_state_set_by_hand_is_heard() {
    let place = Place::new();
    let store = place.open();
    let stores = store.stores();
    let issuer = records::issuer(NOW, random());
    stores.issuers.found_ca(vec![issuer], &[], audit("ca.found", "x", NOW)).await.unwrap();
    heard(&stores, 0).await;
    place.by_hand("UPDATE issuers SET state='destroyed'");
    assert_eq!(heard(&stores, 1).await.kind, ChangeKind::Issuers);
    assert_eq!(stores.issuers.list_issuers().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_of_the_hand_is_refused() {
    let place = Place::new();
    let store = place.open();
    let principal = worker(&store.stores(), "w1").await;
    issue(&store.stores(), &principal).await;
    for slip in [
        "UPDATE principals SET status='suspendet'",
        "UPDATE certificates SET revoked=7",
        "UPDATE certificates SET revoked='yes'",
        "UPDATE issuers SET state=NULL; INSERT INTO issuers (state) VALUES ('gone')",
    ] {
        let output = Command::new("sqlite3").arg(place.db()).arg(slip).output().unwrap();
        assert!(!output.status.success(), "{slip}");
    }
}
