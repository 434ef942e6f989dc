//! What stores must do with the certificates of jobs: record them under a lease, and revoke them with its end.

use std::{collections::BTreeSet, time::Duration};

use airunner_core::{
    AttemptOutcome, Certificate, CertificateRef, CertifiedJob, ChangeKind, Completion, Exit, Fencing,
    Issuance, IssuanceKind, Issued, Job, JobCertificate, JobState, Label, Permission, Principal,
    PrincipalStatus, Profile, Result, Revocation, RevocationReason, RevocationTarget, Stores, Timestamp,
};

use super::world::{NOW, World, after, refused};
use crate::records::{self, JobExt as _, id};

/// The end of a lease that `World` gives.
const DEADLINE: u64 = 300;

pub async fn what_the_holder_of_a_lease_gets_is_read_back(stores: Stores) {
    let world = World::new(stores);
    let (alice, job) = running(&world).await;
    let leaf = leaf(&world, &alice, &job);
    assert_eq!(record(&world, &job, leaf.clone()).await.unwrap(), Issued::New);
    assert_eq!(world.stored(&leaf).await, leaf);
    let identity = world.stores.certificates.identity(&leaf.reference()).await.unwrap().unwrap();
    assert_eq!((identity.certificate, identity.principal.id), (leaf.clone(), alice.id));
    let given = JobCertificate { reference: leaf.reference(), expires_at: leaf.expires_at };
    let stored = world.stores.jobs.get_job(&job.id).await.unwrap();
    assert_eq!(stored, Some(Job { certificates: vec![given], ..job }));
    assert_eq!(world.audited("certificate.issue").await, 1);
    assert_eq!(certificate_changes(&world).await, []);
}

pub async fn only_the_holder_of_the_lease_gets_one_and_only_in_time(stores: Stores) {
    let world = World::new(stores);
    let (alice, job) = running(&world).await;
    world.worker("w2").await;
    let of = |attempt, holder: &str, at| {
        let mut issuance = issuance(&job, Certificate { issued_at: at, ..leaf(&world, &alice, &job) });
        issuance.kind = IssuanceKind::Job { attempt, holder: id(holder) };
        issuance
    };
    for wrong in [of(1, "w2", NOW), of(2, "w1", NOW), of(0, "w1", NOW), of(1, "w1", after(DEADLINE))] {
        refused(world.stores.certificates.record_issued(wrong).await, Label::LeaseLost);
    }
    let bob = world.worker("bob").await;
    let bobs = issuance(&job, leaf(&world, &bob, &job));
    assert!(world.stores.certificates.record_issued(bobs).await.is_err(), "it names its job's owner");
    world.suspend(&alice).await;
    let late = of(1, "w1", NOW);
    refused(world.stores.certificates.record_issued(late).await, Label::PrincipalNotActive);
    let job = world.stores.jobs.get_job(&job.id).await.unwrap().unwrap();
    assert_eq!(job.certificates, []);
}

pub async fn it_takes_no_slot_and_is_revoked_with_all_of_its_owners(stores: Stores) {
    let world = World::new(stores);
    let alice = world.create(Principal { max_certificates: 1, ..records::principal("alice") }).await;
    let job = running_of(&world).await;
    let jobs = leaf(&world, &alice, &job);
    record(&world, &job, jobs.clone()).await.unwrap();
    let own = world.issue(&alice).await;
    let next = records::issuance(world.leaf(&alice));
    refused(world.stores.certificates.record_issued(next).await, Label::TooManyCertificates);
    let target = RevocationTarget::Principal(alice.id.clone());
    let audit = records::audit("certificate.revoke", "alice", after(1));
    let revoked = world.stores.certificates.revoke(&target, RevocationReason::KeyCompromise, audit).await;
    let revoked: BTreeSet<_> = revoked.unwrap().into_iter().collect();
    assert_eq!(revoked, BTreeSet::from([jobs.reference(), own.reference()]));
}

pub async fn every_end_of_an_attempt_revokes_what_it_was_given(stores: Stores) {
    let world = World::new(stores);
    let alice = world.worker("alice").await;
    let exited = |code| AttemptOutcome::Exited(Exit::Code(code));
    let failed = AttemptOutcome::Failed("no".to_owned());
    for outcome in [
        exited(0),
        exited(1),
        failed,
        AttemptOutcome::Cancelled(None),
        AttemptOutcome::TimedOut(None),
        AttemptOutcome::HandedBack,
    ] {
        let job = running_of(&world).await;
        let given = leaf(&world, &alice, &job);
        record(&world, &job, given.clone()).await.unwrap();
        let done = world.complete("w1", &job, outcome.clone()).await.unwrap();
        is_over(&world, &given, &done, after(10)).await;
        world.drain().await;
    }
    let job = running_of(&world).await;
    let given = leaf(&world, &alice, &job);
    record(&world, &job, given.clone()).await.unwrap();
    let lapsed = after(DEADLINE + 3);
    let taken = world.stores.jobs.expire_leases(lapsed, 100, Fencing(0)).await.unwrap().remove(0);
    is_over(&world, &given, &taken, lapsed).await;
    world.drain().await;

    let job = running_of(&world).await;
    let given = leaf(&world, &alice, &job);
    record(&world, &job, given.clone()).await.unwrap();
    let taken = world.stores.jobs.end_leases_of(&id("w1"), after(20), 100).await.unwrap().remove(0);
    is_over(&world, &given, &taken, after(20)).await;
    assert_eq!(certificate_changes(&world).await.len(), 8, "one change a job");
}

pub async fn a_job_that_never_asked_for_one_ends_without_a_change(stores: Stores) {
    let world = World::new(stores);
    let (_, job) = running(&world).await;
    world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(0))).await.unwrap();
    assert_eq!(certificate_changes(&world).await, []);
}

pub async fn what_has_expired_or_was_revoked_is_left_as_it_is(stores: Stores) {
    let world = World::new(stores);
    let (alice, job) = running(&world).await;
    let expired = Certificate { expires_at: after(5), ..leaf(&world, &alice, &job) };
    let revoked = leaf(&world, &alice, &job);
    for one in [&expired, &revoked] {
        record(&world, &job, one.clone()).await.unwrap();
    }
    let target = RevocationTarget::Certificate(revoked.reference());
    let audit = records::audit("certificate.revoke", "x", after(1));
    world.stores.certificates.revoke(&target, RevocationReason::KeyCompromise, audit).await.unwrap();
    world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(0))).await.unwrap();
    assert_eq!(world.stored(&expired).await.revocation, None);
    let by_hand = Revocation { at: after(1), reason: RevocationReason::KeyCompromise };
    assert_eq!(world.stored(&revoked).await.revocation, Some(by_hand));
    assert_eq!(certificate_changes(&world).await, [revoked.reference()]);
}

pub async fn a_job_is_given_only_so_many_at_a_time(stores: Stores) {
    let world = World::new(stores);
    let (alice, job) = running(&world).await;
    let short = Certificate { expires_at: after(60), ..leaf(&world, &alice, &job) };
    record(&world, &job, short).await.unwrap();
    for _ in 1..JobCertificate::MAX {
        record(&world, &job, leaf(&world, &alice, &job)).await.unwrap();
    }
    refused(record(&world, &job, leaf(&world, &alice, &job)).await, Label::LimitReached);
    let later = Certificate { issued_at: after(60), ..leaf(&world, &alice, &job) };
    record(&world, &job, later).await.unwrap();
}

pub async fn a_repeated_request_gets_the_same_one(stores: Stores) {
    let world = World::new(stores);
    let (alice, job) = running(&world).await;
    let asked =
        |leaf| Issuance { request: Some(records::request("w1", "r-1", "csr")), ..issuance(&job, leaf) };
    let first = leaf(&world, &alice, &job);
    let issued = world.stores.certificates.record_issued(asked(first.clone())).await.unwrap();
    assert_eq!(issued, Issued::New);
    let again = world.stores.certificates.record_issued(asked(leaf(&world, &alice, &job))).await.unwrap();
    assert_eq!(again, Issued::Existing(Box::new(first)));
}

pub async fn a_large_batch_of_ends_revokes_them_all(stores: Stores) {
    const JOBS: u32 = 64;
    let world = World::new(stores);
    let alice = world.worker("alice").await;
    let wanting: Vec<_> = (0..JOBS).map(|_| asking(&world)).collect();
    let audit = records::audit("job.enqueue", "x", NOW);
    world.stores.jobs.enqueue_jobs(wanting, None, audit).await.unwrap();
    let mut given = Vec::new();
    let mut ends = Vec::new();
    for job in world.lease("w1", JOBS).await {
        let leaf = leaf(&world, &alice, &job);
        record(&world, &job, leaf.clone()).await.unwrap();
        given.push(leaf.reference());
        let outcome = AttemptOutcome::Exited(Exit::Code(0));
        ends.push(Completion { job_id: job.id, attempt: job.attempt, outcome, usage: None });
    }
    let done = world.stores.jobs.complete_jobs(&id("w1"), &ends, after(10)).await.unwrap();
    assert!(done.iter().all(|done| done.as_ref().is_ok_and(|job| job.state == JobState::Completed)));
    let told: BTreeSet<_> = certificate_changes(&world).await.into_iter().collect();
    assert_eq!((given.len(), told), (JOBS as usize, given.into_iter().collect()));
}

pub async fn a_suspended_owner_of_nothing_else_is_among_the_denials(stores: Stores) {
    let world = World::new(stores);
    let (alice, job) = running(&world).await;
    let given = leaf(&world, &alice, &job);
    record(&world, &job, given.clone()).await.unwrap();
    world.suspend(&alice).await;
    let denied = world.stores.changes.denials(after(1)).await.unwrap();
    assert_eq!(denied.principals, [(alice.id.clone(), PrincipalStatus::Suspended)]);
    let over = world.stores.changes.denials(given.expires_at).await.unwrap();
    assert_eq!(over.principals, []);
}

/// `alice`, and a job of hers that `w1` runs and that is to have a certificate.
async fn running(world: &World) -> (Principal, Job) {
    let alice = world.worker("alice").await;
    let job = running_of(world).await;
    (alice, job)
}

async fn running_of(world: &World) -> Job {
    world.running_with(asking(world), "w1").await
}

fn asking(world: &World) -> Job {
    world.job().with(|spec| spec.certificate = Some(grants()))
}

fn grants() -> BTreeSet<Permission> {
    BTreeSet::from([Permission::JobsList, Permission::JobsSubmit])
}

fn leaf(world: &World, owner: &Principal, job: &Job) -> Certificate {
    Certificate {
        profile: Profile::Job,
        expires_at: NOW.plus(Duration::from_hours(1)),
        job: Some(CertifiedJob { id: job.id, grants: grants() }),
        ..world.leaf(owner)
    }
}

fn issuance(job: &Job, certificate: Certificate) -> Issuance {
    let kind = IssuanceKind::Job { attempt: job.attempt, holder: id("w1") };
    Issuance { kind, ..records::issuance(certificate) }
}

async fn record(world: &World, job: &Job, certificate: Certificate) -> Result<Issued> {
    world.stores.certificates.record_issued(issuance(job, certificate)).await
}

/// The certificate ended with the attempt.
async fn is_over(world: &World, given: &Certificate, job: &Job, at: Timestamp) {
    assert_eq!(job.certificates, []);
    let revocation = Revocation { at, reason: RevocationReason::CessationOfOperation };
    assert_eq!(world.stored(given).await.revocation, Some(revocation));
    assert_eq!(certificate_changes(world).await.last(), Some(&given.reference()));
}

/// The certificates whose revocation the feed has told, in order.
async fn certificate_changes(world: &World) -> Vec<CertificateRef> {
    let changes = world.changes().await.into_iter();
    let revoked = changes.filter_map(|kind| match kind {
        ChangeKind::Certificate { reference, revoked: true } => Some(reference),
        _ => None,
    });
    revoked.collect()
}
