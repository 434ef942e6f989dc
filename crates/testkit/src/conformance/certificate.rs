//! What a `CertificateStore` must do with certificates that are there. How they come to be is in `issuance.rs` and
//! `renewal.rs`.

use std::collections::{BTreeMap, BTreeSet};

use airunner_core::{
    Certificate, CertificateFilter, CertificateRef, ChangeKind, Identity, IssuerId, Label, Page, PageRequest,
    PrincipalStatus, Profile, Result, Revocation, RevocationReason, RevocationTarget, Serial, Stores,
};

use super::world::{NOW, World, after, after_hours, every_page, refused};
use crate::records::{self, audit};

pub async fn what_is_recorded_is_read_back(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("Straße-less_w1".replace('ß', "ss").as_str()).await;
    let leaf = Certificate {
        serial: Serial::from_bytes(&[0xff; 20]).unwrap(),
        subject_dn: "CN=Jürgen \\, \u{1F980}".to_owned(),
        profile: Profile::Service,
        labels: BTreeMap::from([("clé".to_owned(), "välue".to_owned())]),
        description: "for 'tests'".to_owned(),
        ..world.leaf(&principal)
    };
    let leaf = world.record(leaf).await;
    let certificates = &world.stores.certificates;
    assert_eq!(certificates.get_by_fingerprint(&leaf.fingerprint).await.unwrap(), Some(leaf.clone()));
    assert_eq!(certificates.get_by_serial(&leaf.serial).await.unwrap(), std::slice::from_ref(&leaf));
    let identity = certificates.identity(&leaf.reference()).await.unwrap();
    assert_eq!(identity, Some(Identity { certificate: leaf, principal }));
}

pub async fn what_is_unknown_is_not_there(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaf = world.leaf(&principal);
    let certificates = &world.stores.certificates;
    assert_eq!(certificates.identity(&leaf.reference()).await.unwrap(), None);
    assert_eq!(certificates.get_by_fingerprint(&leaf.fingerprint).await.unwrap(), None);
    assert_eq!(certificates.get_by_serial(&leaf.serial).await.unwrap(), []);
    refused(certificates.mark_seen(&leaf.reference(), NOW).await, Label::NotFound);
    let target = RevocationTarget::Certificate(leaf.reference());
    refused(certificates.would_revoke(&target, NOW, 10).await, Label::NotFound);
    let revoked = certificates.revoke(&target, RevocationReason::Superseded, audit("c", "x", NOW)).await;
    refused(revoked, Label::NotFound);
    let target = RevocationTarget::Principal(records::id("nobody"));
    let revoked = certificates.revoke(&target, RevocationReason::Superseded, audit("c", "x", NOW)).await;
    refused(revoked, Label::NotFound);
    assert_eq!(world.audited("c").await, 0);
}

pub async fn an_identity_shows_what_its_principal_has_become(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaf = world.issue(&principal).await;
    let suspended = world.suspend(&principal).await;
    let identity = world.stores.certificates.identity(&leaf.reference()).await.unwrap().unwrap();
    assert_eq!(identity.principal, suspended);
}

pub async fn identities_are_read_together_in_the_order_asked_for(stores: Stores) {
    let world = World::new(stores);
    let (one, other) = (world.worker("w1").await, world.worker("w2").await);
    let leaves = [world.issue(&one).await, world.issue(&other).await, world.issue(&one).await];
    let unknown = world.leaf(&one).reference();
    let asked: Vec<_> =
        [leaves[2].reference(), unknown, leaves[0].reference(), leaves[1].reference(), leaves[2].reference()]
            .into();
    let found = world.stores.certificates.identities(&asked).await.unwrap();
    let mut apart = Vec::new();
    for reference in &asked {
        apart.push(world.stores.certificates.identity(reference).await.unwrap());
    }
    assert_eq!(found, apart);
    assert_eq!(found.iter().filter(|identity| identity.is_some()).count(), 4);
    let too_many = vec![unknown; 1_001];
    assert!(world.stores.certificates.identities(&too_many).await.is_err());
}

pub async fn two_issuers_may_use_one_serial_number(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let ours = world.issue(&principal).await;
    let theirs = Certificate {
        serial: ours.serial,
        issuer_id: IssuerId::from_bytes([0x22; 16]),
        ..world.leaf(&principal)
    };
    let theirs = world.record(theirs).await;
    let certificates = &world.stores.certificates;
    let both = certificates.get_by_serial(&ours.serial).await.unwrap();
    assert_eq!(both.len(), 2);
    assert!(both.contains(&ours) && both.contains(&theirs));
    // What happens to one does not happen to the other.
    let target = RevocationTarget::Certificate(theirs.reference());
    let entry = audit("c", "x", NOW);
    let revoked = certificates.revoke(&target, RevocationReason::Superseded, entry).await.unwrap();
    assert_eq!(revoked, [theirs.reference()]);
    assert!(certificates.mark_seen(&ours.reference(), NOW).await.unwrap());
    assert_eq!(world.stored(&ours).await.revocation, None);
    assert_eq!(world.stored(&theirs).await.first_seen_at, None);
    let identity = certificates.identity(&theirs.reference()).await.unwrap().unwrap();
    assert_eq!(identity.certificate.fingerprint, theirs.fingerprint);
}

pub async fn the_first_sight_is_noted_once(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaf = world.issue(&principal).await;
    let certificates = &world.stores.certificates;
    assert!(certificates.mark_seen(&leaf.reference(), after(1)).await.unwrap());
    assert!(certificates.mark_seen(&leaf.reference(), after(2)).await.unwrap());
    assert_eq!(world.stored(&leaf).await.first_seen_at, Some(after(1)));
    assert_eq!(world.changes().await, []);
}

pub async fn what_is_revoked_is_never_first_seen(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaf = world.issue(&principal).await;
    revoke(&world, RevocationTarget::Certificate(leaf.reference())).await;
    assert!(!world.stores.certificates.mark_seen(&leaf.reference(), after(1)).await.unwrap());
    assert_eq!(world.stored(&leaf).await.first_seen_at, None);
}

pub async fn revoking_says_when_and_why_and_tells_everyone_once(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaf = world.issue(&principal).await;
    let target = RevocationTarget::Certificate(leaf.reference());
    assert_eq!(revoke(&world, target.clone()).await, [leaf.reference()]);
    let revocation = Revocation { at: after(3), reason: RevocationReason::KeyCompromise };
    assert_eq!(world.stored(&leaf).await, Certificate { revocation: Some(revocation), ..leaf.clone() });
    // Again: no error, nothing happens, and the first reason stays.
    let entry = audit("certificate.revoke", "x", after(9));
    let certificates = &world.stores.certificates;
    let again = certificates.revoke(&target, RevocationReason::Superseded, entry).await.unwrap();
    assert_eq!(again, []);
    assert_eq!(world.stored(&leaf).await.revocation, Some(revocation));
    let told = ChangeKind::Certificate { reference: leaf.reference(), revoked: true };
    assert_eq!(world.changes().await, [told]);
    assert_eq!(world.changes_after(0).await[0].at, after(3));
    assert_eq!(world.audited("certificate.revoke").await, 2);
}

pub async fn every_reason_is_kept(stores: Stores) {
    let world = World::new(stores);
    let unlimited = airunner_core::Principal { max_certificates: 0, ..records::principal("w1") };
    let principal = world.create(unlimited).await;
    for reason in RevocationReason::ALL {
        let leaf = world.issue(&principal).await;
        let target = RevocationTarget::Certificate(leaf.reference());
        world.stores.certificates.revoke(&target, *reason, audit("c", "x", NOW)).await.unwrap();
        assert_eq!(world.stored(&leaf).await.revocation.unwrap().reason, *reason);
    }
}

pub async fn what_has_expired_is_not_revoked(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaf = world.issue(&principal).await;
    let target = RevocationTarget::Certificate(leaf.reference());
    let certificates = &world.stores.certificates;
    for at in [leaf.expires_at, leaf.expires_at.plus(std::time::Duration::from_secs(1))] {
        let revoked = certificates.revoke(&target, RevocationReason::Superseded, audit("c", "x", at)).await;
        assert_eq!(revoked.unwrap(), []);
    }
    let last = leaf.expires_at.minus(std::time::Duration::from_millis(1));
    let revoked = certificates.revoke(&target, RevocationReason::Superseded, audit("c", "x", last)).await;
    assert_eq!(revoked.unwrap(), [leaf.reference()]);
}

pub async fn a_principal_loses_all_that_is_unexpired(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let other = world.worker("w2").await;
    let expired = Certificate { expires_at: after(2), ..world.leaf(&principal) };
    let expired = world.record(expired).await;
    let first = world.issue(&principal).await;
    let renewed = world.renew(&first).await;
    let others = world.issue(&other).await;
    let target = RevocationTarget::Principal(records::id("W1"));
    let would = world.stores.certificates.would_revoke(&target, after(3), 10).await.unwrap();
    let revoked = revoke(&world, target.clone()).await;
    let expected = BTreeSet::from([first.reference(), renewed.reference()]);
    assert_eq!(BTreeSet::from_iter(revoked), expected);
    assert_eq!(BTreeSet::from_iter(would), expected);
    assert_eq!(world.stored(&expired).await.revocation, None);
    assert_eq!(world.stored(&others).await.revocation, None);
    assert_eq!(world.changes().await.len(), 2);
    assert_eq!(revoke(&world, target).await, []);
}

pub async fn a_dry_run_changes_nothing_and_keeps_its_limit(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    for _ in 0..3 {
        world.issue(&principal).await;
    }
    let target = RevocationTarget::Principal(principal.id.clone());
    let certificates = &world.stores.certificates;
    assert_eq!(certificates.would_revoke(&target, NOW, 2).await.unwrap().len(), 2);
    assert_eq!(certificates.would_revoke(&target, NOW, 10).await.unwrap().len(), 3);
    assert_eq!(certificates.would_revoke(&target, after_hours(24), 10).await.unwrap(), []);
    assert_eq!(world.changes().await, []);
}

pub async fn lists_run_from_the_newest(stores: Stores) {
    let world = World::new(stores);
    let mut issued = Vec::new();
    for n in 0..7_u32 {
        let principal = world.worker(&format!("w{n}")).await;
        // Expiry says nothing about age.
        let expires_at = after_hours(u64::from(100 - n));
        issued.push(world.record(Certificate { expires_at, ..world.leaf(&principal) }).await.serial);
    }
    issued.reverse();
    for size in [1, 3, 7, 50] {
        let rows = every_page(size, |page| list(&world, CertificateFilter::default(), page)).await;
        assert_eq!(serials(&rows), issued);
    }
}

pub async fn lists_are_cut_to_what_the_filter_names(stores: Stores) {
    let world = World::new(stores);
    let w1 = world.worker("w1").await;
    let w2 = world.worker("w2").await;
    let a = world.issue(&w1).await;
    let b = world.record(Certificate { expires_at: after_hours(2), ..world.leaf(&w1) }).await;
    let c = world.record(Certificate { expires_at: after_hours(1), ..world.leaf(&w2) }).await;
    let d = world.issue(&w2).await;
    revoke(&world, RevocationTarget::Certificate(d.reference())).await;
    let any = || CertificateFilter { now: NOW, ..CertificateFilter::default() };
    let found = async |filter| {
        serials(&every_page(1, |page| list(&world, CertificateFilter::clone(&filter), page)).await)
    };

    let of_w1 = CertificateFilter { principal_id: Some(records::id("W1")), ..any() };
    assert_eq!(found(of_w1.clone()).await, [b.serial, a.serial]);
    assert_eq!(found(CertificateFilter { revoked: Some(true), ..any() }).await, [d.serial]);
    let unrevoked = CertificateFilter { revoked: Some(false), ..any() };
    assert_eq!(found(unrevoked).await, [c.serial, b.serial, a.serial]);
    let later = CertificateFilter { active: true, now: after_hours(1), ..any() };
    assert_eq!(found(later).await, [b.serial, a.serial]);
    // What expires soon comes in order of expiry.
    let soon = CertificateFilter { expires_before: Some(after_hours(3)), ..any() };
    assert_eq!(found(soon.clone()).await, [c.serial, b.serial]);
    let edge = CertificateFilter { expires_before: Some(after_hours(2)), now: after_hours(1), ..any() };
    assert_eq!(found(edge).await, [c.serial]);
    let both = CertificateFilter { principal_id: of_w1.principal_id.clone(), ..soon };
    assert_eq!(found(both).await, [b.serial]);
    let none = CertificateFilter { active: true, ..CertificateFilter { revoked: Some(true), ..any() } };
    assert_eq!(found(none).await, []);
}

pub async fn what_expires_soon_includes_the_revoked_unless_they_are_left_out(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let a = world.record(Certificate { expires_at: after_hours(1), ..world.leaf(&principal) }).await;
    let b = world.record(Certificate { expires_at: after_hours(2), ..world.leaf(&principal) }).await;
    let c = world.record(Certificate { expires_at: after_hours(3), ..world.leaf(&principal) }).await;
    revoke(&world, RevocationTarget::Certificate(b.reference())).await;
    let soon = |revoked| CertificateFilter {
        expires_before: Some(after_hours(9)),
        revoked,
        now: NOW,
        ..CertificateFilter::default()
    };
    let found = async |revoked| serials(&every_page(1, |page| list(&world, soon(revoked), page)).await);
    assert_eq!(found(None).await, [a.serial, b.serial, c.serial]);
    assert_eq!(found(Some(false)).await, [a.serial, c.serial]);
    assert_eq!(found(Some(true)).await, [b.serial]);
}

pub async fn pages_lose_nothing_while_others_issue(stores: Stores) {
    let world = World::new(stores);
    let unlimited = airunner_core::Principal { max_certificates: 0, ..records::principal("w1") };
    let principal = world.create(unlimited).await;
    let mut old = BTreeSet::new();
    for _ in 0..40 {
        old.insert(world.issue(&principal).await.serial);
    }
    let (writing, holder) = (world.clone(), principal.clone());
    let writer = tokio::spawn(async move {
        for _ in 0..40 {
            writing.issue(&holder).await;
        }
    });
    let rows = every_page(3, |page| list(&world, CertificateFilter::default(), page)).await;
    writer.await.unwrap();
    let found: BTreeSet<_> = serials(&rows).into_iter().collect();
    assert_eq!(found.len(), rows.len(), "a certificate stands on two pages");
    assert!(found.is_superset(&old), "a page lost a certificate");
}

pub async fn the_nearest_expiries_come_first(stores: Stores) {
    let world = World::new(stores);
    let w1 = world.worker("w1").await;
    let w2 = world.worker("w2").await;
    let a = world.record(Certificate { expires_at: after_hours(3), ..world.leaf(&w1) }).await;
    let b = world.record(Certificate { expires_at: after_hours(1), ..world.leaf(&w2) }).await;
    let c = world.record(Certificate { expires_at: after_hours(2), ..world.leaf(&w1) }).await;
    let d = world.record(Certificate { expires_at: after_hours(1), ..world.leaf(&w1) }).await;
    revoke(&world, RevocationTarget::Certificate(d.reference())).await;
    let nearest =
        async |now, limit| serials(&world.stores.certificates.nearest_expiries(now, limit).await.unwrap());
    assert_eq!(nearest(NOW, 10).await, [b.serial, c.serial, a.serial]);
    assert_eq!(nearest(NOW, 2).await, [b.serial, c.serial]);
    assert_eq!(nearest(after_hours(1), 10).await, [c.serial, a.serial]);
}

pub async fn a_suspension_revokes_nothing(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaf = world.issue(&principal).await;
    world.suspend(&principal).await;
    world.set_status(&principal, PrincipalStatus::Active).await;
    assert_eq!(world.stored(&leaf).await, leaf);
}

async fn revoke(world: &World, target: RevocationTarget) -> Vec<CertificateRef> {
    let entry = audit("certificate.revoke", "x", after(3));
    world.stores.certificates.revoke(&target, RevocationReason::KeyCompromise, entry).await.unwrap()
}

async fn list(world: &World, filter: CertificateFilter, page: PageRequest) -> Result<Page<Certificate>> {
    world.stores.certificates.list_certificates(&filter, &page).await
}

fn serials(certificates: &[Certificate]) -> Vec<Serial> {
    certificates.iter().map(|certificate| certificate.serial).collect()
}
