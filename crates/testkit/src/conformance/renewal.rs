//! What renewing demands: a live predecessor, one key a successor, and no fork.

use airunner_core::{
    Certificate, CertificateFilter, CertificateRef, ChangeKind, Issuance, IssuanceKind, Issued, Label,
    PageRequest, PrincipalStatus, Result, RevocationReason, RevocationTarget, Stores, Timestamp,
};

use super::world::{NOW, World, after, after_hours, race, refused};
use crate::records::{self, audit};

pub async fn a_successor_joins_the_lineage_and_its_predecessor_retires(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let second = world.renew(&first).await;
    assert_eq!(world.stored(&first).await.retire_at, Some(after_hours(1)));
    let stored = world.stored(&second).await;
    assert_eq!(stored, second);
    assert_eq!(stored.predecessor, Some(first.reference()));
    assert_eq!(world.changes().await, [], "a renewal takes no authority away");
}

pub async fn an_overlap_ends_at_expiry_at_the_latest(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let successor = records::successor(&first, NOW, world.random());
    let kind = IssuanceKind::Renew { predecessor: first.reference(), retire_at: after_hours(1_000) };
    let renewal = Issuance { kind, ..records::issuance(successor) };
    assert_eq!(record(&world, renewal).await.unwrap(), Issued::New);
    assert_eq!(world.stored(&first).await.retire_at, Some(first.expires_at));
}

pub async fn what_is_over_is_not_renewed(stores: Stores) {
    let world = World::new(stores);
    let expired = first(&world).await;
    let at = |predecessor: &Certificate, now: Timestamp| {
        let successor = records::successor(predecessor, now, world.random());
        records::renewal(successor, predecessor.reference())
    };
    refused(record(&world, at(&expired, expired.expires_at)).await, Label::CertificateEnded);
    let retired = expired;
    world.renew(&retired).await;
    refused(record(&world, at(&retired, after_hours(1))).await, Label::CertificateEnded);
    let holder = world.worker("w2").await;
    let revoked = world.issue(&holder).await;
    revoke(&world, &revoked.reference()).await;
    refused(record(&world, at(&revoked, after(1))).await, Label::CertificateEnded);
    let unknown = world.leaf(&holder);
    refused(record(&world, at(&unknown, NOW)).await, Label::NotFound);
}

pub async fn a_suspended_principal_renews_nothing(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let principal = world.stores.principals.get_principal(&first.principal_id).await.unwrap().unwrap();
    let suspended = world.set_status(&principal, PrincipalStatus::Suspended).await;
    let successor = records::successor(&first, NOW, world.random());
    let renewal =
        Issuance { principal_version: suspended.version, ..records::renewal(successor, first.reference()) };
    refused(record(&world, renewal).await, Label::PrincipalNotActive);
}

pub async fn the_same_key_gets_the_same_successor(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let second = world.renew(&first).await;
    let again = |world: &World| {
        let again = records::successor(&first, after(9), world.random());
        let again = Certificate { public_key: second.public_key, ..again };
        records::renewal(again, first.reference())
    };
    let existing = Issued::Existing(Box::new(second.clone()));
    assert_eq!(record(&world, again(&world)).await.unwrap(), existing);
    // Also when it is in use, and the end of the overlap stays where it was.
    assert!(world.stores.certificates.mark_seen(&second.reference(), after(9)).await.unwrap());
    assert!(matches!(record(&world, again(&world)).await.unwrap(), Issued::Existing(_)));
    assert_eq!(world.stored(&first).await.retire_at, Some(after_hours(1)));
}

pub async fn an_unseen_successor_is_replaced(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let second = world.renew(&first).await;
    let third = records::successor(&first, after(60), world.random());
    let renewal = records::renewal(third.clone(), first.reference());
    assert_eq!(record(&world, renewal).await.unwrap(), Issued::New);
    let revocation = world.stored(&second).await.revocation.unwrap();
    assert_eq!(revocation.reason, RevocationReason::Superseded);
    assert_eq!(revocation.at, after(60));
    let told = ChangeKind::Certificate { reference: second.reference(), revoked: true };
    assert_eq!(world.changes().await, [told]);
    // What was replaced can't come into use any more; what replaced it can.
    assert!(!world.stores.certificates.mark_seen(&second.reference(), after(61)).await.unwrap());
    assert!(world.stores.certificates.mark_seen(&third.reference(), after(61)).await.unwrap());
    assert_eq!(world.stored(&first).await.retire_at, Some(after_hours(1)), "a time that was set stays");
}

pub async fn a_seen_successor_is_a_fork(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let second = world.renew(&first).await;
    assert!(world.stores.certificates.mark_seen(&second.reference(), after(1)).await.unwrap());
    let third = records::successor(&first, after(2), world.random());
    let renewal = records::renewal(third, first.reference());
    refused(record(&world, renewal).await, Label::LineageForked);
    assert_eq!(world.stored(&second).await.revocation, None);
}

pub async fn a_replacement_of_a_used_serial_number_replaces_nothing(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let second = world.renew(&first).await;
    let third = records::successor(&first, NOW, world.random());
    let third = Certificate { serial: second.serial, ..third };
    let renewal = records::renewal(third, first.reference());
    refused(record(&world, renewal).await, Label::AlreadyExists);
    assert_eq!(world.stored(&second).await.revocation, None);
    assert_eq!(world.changes().await, []);
}

pub async fn of_many_with_one_key_one_is_new(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let public_key = records::fingerprint("one key");
    let results = renew_at_once(&world, &first, |leaf| Certificate { public_key, ..leaf }).await;
    assert_eq!(results.iter().filter(|result| matches!(result, Ok(Issued::New))).count(), 1);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(live_successors(&world, &first).await, 1);
}

pub async fn of_many_with_their_own_keys_one_stays(stores: Stores) {
    let world = World::new(stores);
    let first = first(&world).await;
    let results = renew_at_once(&world, &first, |leaf| leaf).await;
    assert!(results.iter().all(|result| matches!(result, Ok(Issued::New))));
    assert_eq!(live_successors(&world, &first).await, 1);
    assert_eq!(world.changes().await.len(), 31);
}

pub async fn first_sight_and_replacement_never_both_win(stores: Stores) {
    let world = World::new(stores);
    for n in 0..16 {
        let holder = world.worker(&format!("r{n}")).await;
        let first = world.issue(&holder).await;
        let second = world.renew(&first).await;
        let third = records::successor(&first, NOW, world.random());
        let renewal = records::renewal(third, first.reference());
        let renewing = world.stores.clone();
        let renewed = tokio::spawn(async move { renewing.certificates.record_issued(renewal).await });
        let seen = world.stores.certificates.mark_seen(&second.reference(), NOW).await.unwrap();
        let replaced = renewed.await.unwrap().is_ok();
        assert_ne!(seen, replaced);
        assert_eq!(world.stored(&second).await.revocation.is_some(), replaced);
    }
}

pub async fn a_long_lineage_keeps_one_slot(stores: Stores) {
    let world = World::new(stores);
    let mut newest = first(&world).await;
    for _ in 0..10 {
        newest = world.renew(&newest).await;
    }
    let holder = world.stores.principals.get_principal(&newest.principal_id).await.unwrap().unwrap();
    world.issue(&holder).await;
    world.issue(&holder).await;
    let full = records::issuance(world.leaf(&holder));
    refused(record(&world, full).await, Label::TooManyCertificates);
}

/// The first certificate of a new worker.
async fn first(world: &World) -> Certificate {
    let principal = world.worker("w1").await;
    world.issue(&principal).await
}

async fn renew_at_once(
    world: &World,
    predecessor: &Certificate,
    shape: impl Fn(Certificate) -> Certificate,
) -> Vec<Result<Issued>> {
    let leaves: Vec<_> =
        (0..32).map(|_| shape(records::successor(predecessor, NOW, world.random()))).collect();
    race(leaves.into_iter().map(|leaf| {
        let (stores, predecessor) = (world.stores.clone(), predecessor.reference());
        async move { stores.certificates.record_issued(records::renewal(leaf, predecessor)).await }
    }))
    .await
}

async fn live_successors(world: &World, predecessor: &Certificate) -> usize {
    let filter = CertificateFilter { revoked: Some(false), ..CertificateFilter::default() };
    let page = world.stores.certificates.list_certificates(&filter, &PageRequest::first(100)).await.unwrap();
    let succeeds = |certificate: &&Certificate| certificate.predecessor == Some(predecessor.reference());
    page.items.iter().filter(succeeds).count()
}

async fn record(world: &World, issuance: Issuance) -> Result<Issued> {
    world.stores.certificates.record_issued(issuance).await
}

async fn revoke(world: &World, reference: &CertificateRef) {
    let target = RevocationTarget::Certificate(*reference);
    let entry = audit("certificate.revoke", "x", NOW);
    world.stores.certificates.revoke(&target, RevocationReason::Superseded, entry).await.unwrap();
}
