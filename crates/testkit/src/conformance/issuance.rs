//! What recording a certificate demands: of its principal, its serial number, its slot, its request and its token.

use airunner_core::{
    Certificate, EnrollmentToken, Issuance, IssuanceKind, Issued, Label, Principal, PrincipalStatus,
    PrincipalUpdate, Result, RevocationReason, RevocationTarget, Stores,
};

use super::world::{NOW, World, after, after_hours, race, refused};
use crate::records::{self, audit, request};

pub async fn a_serial_number_is_used_once_by_an_issuer(stores: Stores) {
    let world = World::new(stores);
    let w1 = world.worker("w1").await;
    let w2 = world.worker("w2").await;
    let first = world.issue(&w1).await;
    let second = Certificate { serial: first.serial, ..world.leaf(&w2) };
    refused(record(&world, records::issuance(second.clone())).await, Label::AlreadyExists);
    assert_eq!(world.stores.certificates.get_by_serial(&first.serial).await.unwrap(), [first]);
    assert_eq!(world.stores.certificates.get_by_fingerprint(&second.fingerprint).await.unwrap(), None);
    assert_eq!(world.audited("certificate.issue").await, 1);
}

pub async fn of_many_that_use_one_serial_number_one_wins(stores: Stores) {
    let world = World::new(stores);
    let principal = world.create(unlimited("w1")).await;
    let serial = world.leaf(&principal).serial;
    let racers: Vec<_> = (0..32).map(|_| Certificate { serial, ..world.leaf(&principal) }).collect();
    let results = race(racers.into_iter().map(|leaf| {
        let stores = world.stores.clone();
        async move { stores.certificates.record_issued(records::issuance(leaf)).await }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(world.stores.certificates.get_by_serial(&serial).await.unwrap().len(), 1);
}

pub async fn only_an_active_principal_gets_one(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    for status in [PrincipalStatus::Suspended, PrincipalStatus::Deleted] {
        let changed = world.set_status(&principal, status).await;
        let leaf = world.leaf(&principal);
        let issuance = Issuance { principal_version: changed.version, ..records::issuance(leaf) };
        refused(record(&world, issuance).await, Label::PrincipalNotActive);
    }
    let nobody = records::principal("nobody");
    refused(record(&world, records::issuance(world.leaf(&nobody))).await, Label::NotFound);
}

pub async fn a_decision_on_an_old_version_is_refused(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let update = PrincipalUpdate { email: Some("x@example.org".to_owned()), ..PrincipalUpdate::default() };
    world.stores.principals.update_principal(&principal.id, 1, update, audit("u", "w1", NOW)).await.unwrap();
    let leaf = world.leaf(&principal);
    refused(record(&world, records::issuance(leaf.clone())).await, Label::VersionConflict);
    let issuance = Issuance { principal_version: 2, ..records::issuance(leaf) };
    assert_eq!(record(&world, issuance).await.unwrap(), Issued::New);
}

pub async fn a_principal_has_as_many_lineages_as_it_may(stores: Stores) {
    let world = World::new(stores);
    let principal = world.create(Principal { max_certificates: 2, ..records::principal("w1") }).await;
    let first = world.issue(&principal).await;
    world.issue(&principal).await;
    let full = records::issuance(world.leaf(&principal));
    refused(record(&world, full.clone()).await, Label::TooManyCertificates);
    let registered = Issuance { kind: IssuanceKind::Register, ..full.clone() };
    refused(record(&world, registered).await, Label::TooManyCertificates);
    // Renewing takes no slot, and predecessor and successor share one.
    let renewed = world.renew(&first).await;
    refused(record(&world, full.clone()).await, Label::TooManyCertificates);
    // The slot is free when every certificate of the lineage is revoked.
    revoke(&world, &renewed).await;
    refused(record(&world, full.clone()).await, Label::TooManyCertificates);
    revoke(&world, &first).await;
    assert_eq!(record(&world, full).await.unwrap(), Issued::New);
    assert_eq!(world.audited("certificate.issue").await, 4);
}

pub async fn what_expired_or_retired_takes_no_slot(stores: Stores) {
    let world = World::new(stores);
    let principal = world.create(Principal { max_certificates: 1, ..records::principal("w1") }).await;
    let first = world.issue(&principal).await;
    let at = |now, world: &World| {
        let leaf = records::certificate(&principal, now, world.random());
        Issuance { audit: audit("certificate.issue", "x", now), ..records::issuance(leaf) }
    };
    let just_before = after_hours(24).minus(std::time::Duration::from_millis(1));
    refused(record(&world, at(just_before, &world)).await, Label::TooManyCertificates);
    // Renewed with a shorter life: what counts is when the last of the lineage ends.
    let short = records::successor(&first, NOW, world.random());
    let short = Certificate { expires_at: after_hours(2), ..short };
    let renewal = records::renewal(short, first.reference());
    assert_eq!(record(&world, renewal).await.unwrap(), Issued::New);
    let just_before = after_hours(2).minus(std::time::Duration::from_millis(1));
    refused(record(&world, at(just_before, &world)).await, Label::TooManyCertificates);
    assert_eq!(record(&world, at(after_hours(2), &world)).await.unwrap(), Issued::New);
}

pub async fn no_limit_is_no_limit(stores: Stores) {
    let world = World::new(stores);
    let principal = world.create(unlimited("w1")).await;
    for _ in 0..20 {
        world.issue(&principal).await;
    }
    assert_eq!(world.audited("certificate.issue").await, 20);
}

pub async fn of_many_that_want_the_last_slots_as_many_get_one(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaves: Vec<_> = (0..32).map(|_| world.leaf(&principal)).collect();
    let results = race(leaves.into_iter().map(|leaf| {
        let stores = world.stores.clone();
        async move { stores.certificates.record_issued(records::issuance(leaf)).await }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    for result in results.into_iter().filter(Result::is_err) {
        refused(result, Label::TooManyCertificates);
    }
}

pub async fn a_request_that_is_repeated_gets_the_same_certificate(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let with = |leaf, caller, id, content| {
        let issuance = Issuance { request: Some(request(caller, id, content)), ..records::issuance(leaf) };
        world.stores.certificates.record_issued(issuance)
    };
    let first = world.leaf(&principal);
    assert_eq!(with(first.clone(), "admin-1", "r1", "a").await.unwrap(), Issued::New);
    let again = with(world.leaf(&principal), "ADMIN-1", "r1", "a").await.unwrap();
    assert_eq!(again, Issued::Existing(Box::new(first)));
    refused(with(world.leaf(&principal), "admin-1", "r1", "b").await, Label::RequestReused);
    // The id belongs to its caller.
    assert_eq!(with(world.leaf(&principal), "admin-2", "r1", "b").await.unwrap(), Issued::New);
    assert_eq!(world.audited("certificate.issue").await, 2);
}

pub async fn a_request_is_forgotten_after_a_day(stores: Stores) {
    let world = World::new(stores);
    let principal = world.create(unlimited("w1")).await;
    let at = |now| Issuance {
        request: Some(request("admin-1", "r1", "a")),
        audit: audit("certificate.issue", "x", now),
        ..records::issuance(world.leaf(&principal))
    };
    assert_eq!(record(&world, at(NOW)).await.unwrap(), Issued::New);
    let last = after_hours(24).minus(std::time::Duration::from_millis(1));
    assert!(matches!(record(&world, at(last)).await.unwrap(), Issued::Existing(_)));
    assert_eq!(record(&world, at(after_hours(24))).await.unwrap(), Issued::New);
    assert!(matches!(record(&world, at(after_hours(25))).await.unwrap(), Issued::Existing(_)));
}

pub async fn of_many_with_one_request_one_is_new(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let leaves: Vec<_> = (0..32).map(|_| world.leaf(&principal)).collect();
    let results = race(leaves.into_iter().map(|leaf| {
        let stores = world.stores.clone();
        let request = Some(request("admin-1", "r1", "a"));
        let issuance = Issuance { request, ..records::issuance(leaf) };
        async move { stores.certificates.record_issued(issuance).await.unwrap() }
    }))
    .await;
    assert_eq!(results.iter().filter(|issued| **issued == Issued::New).count(), 1);
}

pub async fn a_refused_request_is_not_kept(stores: Stores) {
    let world = World::new(stores);
    let principal = world.create(Principal { max_certificates: 1, ..records::principal("w1") }).await;
    let held = world.issue(&principal).await;
    let request = Some(request("admin-1", "r1", "a"));
    let issuance = Issuance { request, ..records::issuance(world.leaf(&principal)) };
    refused(record(&world, issuance.clone()).await, Label::TooManyCertificates);
    revoke(&world, &held).await;
    assert_eq!(record(&world, issuance).await.unwrap(), Issued::New);
}

pub async fn a_token_is_used_once(stores: Stores) {
    let world = World::new(stores);
    let (principal, token) = with_token(&world).await;
    let leaf = world.leaf(&principal);
    let enrolment = Issuance {
        audit: audit("certificate.enrol", "w1", after(5)),
        ..records::enrolment(leaf.clone(), &token)
    };
    assert_eq!(record(&world, enrolment).await.unwrap(), Issued::New);
    let used = world.stores.enrollments.get_token(&token.id).await.unwrap().unwrap();
    assert_eq!(used.used_at, Some(after(5)));
    assert_eq!(used.used_key, Some(leaf.public_key));
    assert_eq!(used.certificate, Some(leaf.reference()));
    // The same key gets the same certificate, another gets nothing.
    let again = Certificate { public_key: leaf.public_key, ..world.leaf(&principal) };
    let again = record(&world, records::enrolment(again, &token)).await.unwrap();
    assert_eq!(again, Issued::Existing(Box::new(leaf.clone())));
    let other = records::enrolment(world.leaf(&principal), &token);
    refused(record(&world, other).await, Label::TokenUsed);
    // Not even the same key, once the certificate is over.
    revoke(&world, &leaf).await;
    let again = Certificate { public_key: leaf.public_key, ..world.leaf(&principal) };
    refused(record(&world, records::enrolment(again, &token)).await, Label::TokenUsed);
}

pub async fn a_repeated_enrolment_works_after_the_token_expired(stores: Stores) {
    let world = World::new(stores);
    let (principal, token) = with_token(&world).await;
    let leaf = world.leaf(&principal);
    assert_eq!(record(&world, records::enrolment(leaf.clone(), &token)).await.unwrap(), Issued::New);
    let again = Certificate { public_key: leaf.public_key, ..world.leaf(&principal) };
    let late = Issuance {
        audit: audit("certificate.enrol", "w1", after_hours(2)),
        ..records::enrolment(again, &token)
    };
    assert_eq!(record(&world, late).await.unwrap(), Issued::Existing(Box::new(leaf)));
}

pub async fn a_token_that_does_not_count_enrols_nobody(stores: Stores) {
    let world = World::new(stores);
    let (principal, token) = with_token(&world).await;
    let other = world.worker("w2").await;
    let of_another = records::enrolment(world.leaf(&other), &token);
    refused(record(&world, of_another).await, Label::TokenInvalid);
    let expired = Issuance {
        audit: audit("certificate.enrol", "w1", token.expires_at),
        ..records::enrolment(world.leaf(&principal), &token)
    };
    refused(record(&world, expired).await, Label::TokenExpired);
    let entry = audit("token.delete", "x", NOW);
    world.stores.enrollments.delete_token(&token.id, entry).await.unwrap();
    let deleted = records::enrolment(world.leaf(&principal), &token);
    refused(record(&world, deleted).await, Label::TokenInvalid);
    assert_eq!(world.audited("certificate.issue").await + world.audited("certificate.enrol").await, 0);
}

pub async fn a_token_counts_while_its_creator_is_as_it_was(stores: Stores) {
    let world = World::new(stores);
    let (principal, token) = with_token(&world).await;
    let creator = world.stores.principals.get_principal(&token.created_by).await.unwrap().unwrap();
    world.suspend(&creator).await;
    let enrolment = records::enrolment(world.leaf(&principal), &token);
    refused(record(&world, enrolment).await, Label::VersionConflict);
    let unknown = IssuanceKind::Enrol { token: token.id, creator: records::id("nobody"), creator_version: 1 };
    let enrolment = Issuance { kind: unknown, ..records::issuance(world.leaf(&principal)) };
    refused(record(&world, enrolment).await, Label::TokenVoid);
    let unused = world.stores.enrollments.get_token(&token.id).await.unwrap().unwrap();
    assert_eq!(unused, token);
}

pub async fn an_enrolment_needs_a_slot_and_keeps_the_token_without(stores: Stores) {
    let world = World::new(stores);
    let (principal, token) = with_token(&world).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(world.issue(&principal).await);
    }
    let enrolment = records::enrolment(world.leaf(&principal), &token);
    refused(record(&world, enrolment.clone()).await, Label::TooManyCertificates);
    revoke(&world, &held[0]).await;
    assert_eq!(record(&world, enrolment).await.unwrap(), Issued::New);
}

pub async fn of_many_keys_that_use_one_token_one_wins(stores: Stores) {
    let world = World::new(stores);
    let (principal, token) = with_token(&world).await;
    let leaves: Vec<_> = (0..32).map(|_| world.leaf(&principal)).collect();
    let results = race(leaves.into_iter().map(|leaf| {
        let (stores, token) = (world.stores.clone(), token.clone());
        async move { stores.certificates.record_issued(records::enrolment(leaf, &token)).await }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| matches!(result, Ok(Issued::New))).count(), 1);
    for result in results.into_iter().filter(Result::is_err) {
        refused(result, Label::TokenUsed);
    }
}

pub async fn a_suspension_and_an_issuance_never_both_win(stores: Stores) {
    let world = World::new(stores);
    for n in 0..16 {
        let principal = world.worker(&format!("w{n}")).await;
        let leaf = world.leaf(&principal);
        let (issuing, suspending) = (world.stores.clone(), world.clone());
        let issue =
            tokio::spawn(async move { issuing.certificates.record_issued(records::issuance(leaf)).await });
        let suspended = suspending.suspend(&principal).await;
        let issued = issue.await.unwrap();
        // Whoever came first: after the suspension there is no more than was answered.
        let filter = airunner_core::CertificateFilter {
            principal_id: Some(suspended.id),
            ..airunner_core::CertificateFilter::default()
        };
        let page = airunner_core::PageRequest::first(10);
        let there = world.stores.certificates.list_certificates(&filter, &page).await.unwrap();
        assert_eq!(there.items.len(), usize::from(issued.is_ok()));
    }
}

fn unlimited(id: &str) -> Principal {
    Principal { max_certificates: 0, ..records::principal(id) }
}

/// A worker and an unused token for it.
async fn with_token(world: &World) -> (Principal, EnrollmentToken) {
    let admin = world.admin("admin-1").await;
    let principal = world.worker("w1").await;
    let token = records::enrollment(&principal, &admin, NOW, world.random());
    let entry = audit("token.create", "w1", NOW);
    world.stores.enrollments.create_token(token.clone(), None, entry).await.unwrap();
    (principal, token)
}

async fn record(world: &World, issuance: Issuance) -> Result<Issued> {
    world.stores.certificates.record_issued(issuance).await
}

async fn revoke(world: &World, certificate: &Certificate) {
    let target = RevocationTarget::Certificate(certificate.reference());
    let entry = audit("certificate.revoke", "x", NOW);
    world.stores.certificates.revoke(&target, RevocationReason::Superseded, entry).await.unwrap();
}
