//! What a `ChangeFeed` must do: a number for every change of authority, without gaps, and none for anything else.

use std::{collections::BTreeSet, time::Duration};

use airunner_core::{
    CertificateRef, ChangeBatch, ChangeKind, DenialSnapshot, PrincipalStatus, RevocationReason,
    RevocationTarget, Stores,
};

use super::world::{NOW, World, after, after_hours, race};
use crate::records::{self, audit};

pub async fn the_feed_begins_empty(stores: Stores) {
    assert_eq!(stores.changes.changes_after(0, 10).await.unwrap(), ChangeBatch::Changes(Vec::new()));
    assert_eq!(stores.changes.denials(NOW).await.unwrap(), DenialSnapshot::default());
}

pub async fn what_changes_no_authority_writes_nothing(stores: Stores) {
    let world = World::new(stores);
    let admin = world.admin("admin-1").await;
    let worker = world.worker("w1").await;
    let leaf = world.issue(&worker).await;
    world.renew(&leaf).await;
    let token = records::enrollment(&worker, &admin, NOW, world.random());
    world.stores.enrollments.create_token(token, None, audit("t", "x", NOW)).await.unwrap();
    let job = records::job("w1", NOW, world.random());
    world.stores.jobs.enqueue_jobs(vec![job], None, audit("j", "x", NOW)).await.unwrap();
    assert_eq!(world.changes().await, []);
}

pub async fn changes_are_read_from_any_place_in_any_number(stores: Stores) {
    let world = World::new(stores);
    let worker = world.worker("w1").await;
    for _ in 0..3 {
        world.suspend(&worker).await;
        world.set_status(&worker, PrincipalStatus::Active).await;
    }
    let numbers = async |after, limit| match world.stores.changes.changes_after(after, limit).await.unwrap() {
        ChangeBatch::Changes(changes) => changes.iter().map(|change| change.number).collect::<Vec<_>>(),
        ChangeBatch::Pruned => panic!("nothing was pruned"),
    };
    assert_eq!(numbers(0, 100).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(2, 3).await, [3, 4, 5]);
    assert_eq!(numbers(6, 3).await, Vec::<u64>::new());
}

pub async fn a_follower_ahead_of_the_store_is_told_to_load_anew(stores: Stores) {
    assert_eq!(stores.changes.changes_after(7, 10).await.unwrap(), ChangeBatch::Pruned);
}

pub async fn what_a_hand_changed_is_told_by_whoever_finds_it(stores: Stores) {
    let world = World::new(stores);
    let worker = world.worker("w1").await;
    let leaf = world.issue(&worker).await;
    world.suspend(&worker).await;
    let told = [
        ChangeKind::Principal { id: worker.id.clone(), status: PrincipalStatus::Deleted },
        ChangeKind::Certificate { reference: leaf.reference(), revoked: true },
        ChangeKind::Certificate { reference: leaf.reference(), revoked: false },
        ChangeKind::Issuers,
    ];
    for kind in &told {
        world.stores.changes.append_change(kind.clone(), after(1)).await.unwrap();
    }
    assert_eq!(world.changes().await[1..], told);
    assert!(world.changes_after(1).await.iter().all(|change| change.at == after(1)));
}

pub async fn numbers_have_no_gaps_when_many_write(stores: Stores) {
    let world = World::new(stores);
    race((0..8).map(|n| {
        let world = world.clone();
        async move {
            let worker = world.worker(&format!("w{n}")).await;
            for _ in 0..4 {
                // A refused act between two others must not use up a number.
                let unknown = RevocationTarget::Principal(records::id("nobody"));
                let reason = RevocationReason::Superseded;
                let refused = world.stores.certificates.revoke(&unknown, reason, audit("x", "x", NOW)).await;
                assert!(refused.is_err());
                world.suspend(&worker).await;
                world.set_status(&worker, PrincipalStatus::Active).await;
            }
        }
    }))
    .await;
    assert_eq!(world.changes().await.len(), 64);
}

pub async fn a_reader_never_overtakes_a_writer(stores: Stores) {
    let world = World::new(stores);
    let writing = world.clone();
    let writer = tokio::spawn(async move {
        race((0..4).map(|n| {
            let world = writing.clone();
            async move {
                let worker = world.worker(&format!("w{n}")).await;
                for _ in 0..10 {
                    world.suspend(&worker).await;
                    world.set_status(&worker, PrincipalStatus::Active).await;
                }
            }
        }))
        .await
    });
    let mut last = 0;
    while last < 80 {
        for change in world.changes_after(last).await {
            assert_eq!(change.number, last + 1, "a number was skipped");
            last = change.number;
        }
        world.stores.changes.wait().await.unwrap();
    }
    writer.await.unwrap();
}

pub async fn what_was_pruned_is_said_to_be(stores: Stores) {
    let world = World::new(stores);
    let worker = world.worker("w1").await;
    let at = |seconds, status| {
        let change =
            airunner_core::StatusChange { status, reason: String::new(), revoke: None, keep_an_admin: false };
        world.stores.principals.set_status(&worker.id, change, audit("s", "w1", after(seconds)))
    };
    at(1, PrincipalStatus::Suspended).await.unwrap();
    at(2, PrincipalStatus::Active).await.unwrap();
    at(3, PrincipalStatus::Suspended).await.unwrap();
    let changes = &world.stores.changes;
    assert_eq!(changes.prune_changes(after(3), 1).await.unwrap(), 1);
    assert_eq!(changes.changes_after(0, 10).await.unwrap(), ChangeBatch::Pruned);
    assert_eq!(world.changes_after(1).await.len(), 2);
    assert_eq!(changes.prune_changes(after(3), 10).await.unwrap(), 1);
    assert_eq!(changes.changes_after(1, 10).await.unwrap(), ChangeBatch::Pruned);
    assert_eq!(changes.prune_changes(after(9), 10).await.unwrap(), 1);
    // With nothing left the last number still counts, and is not given again.
    assert_eq!(changes.changes_after(2, 10).await.unwrap(), ChangeBatch::Pruned);
    assert_eq!(world.changes_after(3).await, []);
    at(10, PrincipalStatus::Active).await.unwrap();
    assert_eq!(world.changes_after(3).await[0].number, 4);
    assert_eq!(changes.denials(after(10)).await.unwrap().number, 4);
}

pub async fn waiting_ends_with_a_change(stores: Stores) {
    let world = World::new(stores);
    let worker = world.worker("w1").await;
    let follower = world.clone();
    let followed = tokio::spawn(async move {
        while follower.changes_after(0).await.is_empty() {
            follower.stores.changes.wait().await.unwrap();
        }
    });
    world.suspend(&worker).await;
    tokio::time::timeout(Duration::from_secs(5), followed).await.expect("the change is seen").unwrap();
}

pub async fn waiting_ends_without_a_change_too(stores: Stores) {
    let waited = tokio::time::timeout(Duration::from_secs(5), stores.changes.wait()).await;
    waited.expect("a wait ends by itself").unwrap();
}

pub async fn a_snapshot_holds_every_denial_in_force(stores: Stores) {
    let world = World::new(stores);
    let active = world.worker("active").await;
    let suspended = world.worker("suspended").await;
    let deleted = world.worker("deleted").await;
    let poor = world.worker("poor").await;
    for principal in [&active, &suspended, &deleted] {
        world.issue(principal).await;
    }
    let mut revoked = BTreeSet::new();
    for _ in 0..2 {
        let leaf = world.issue(&active).await;
        revoked.insert(revoke(&world, leaf.reference()).await);
    }
    world.suspend(&suspended).await;
    world.suspend(&poor).await;
    world.set_status(&deleted, PrincipalStatus::Deleted).await;
    let snapshot = world.stores.changes.denials(after(1)).await.unwrap();
    assert_eq!(snapshot.number, 5);
    assert_eq!(BTreeSet::from_iter(snapshot.certificates), revoked);
    let principals: BTreeSet<_> =
        snapshot.principals.iter().map(|(id, status)| (id.as_str(), status.as_str())).collect();
    // Who owns nothing unexpired needs no denial.
    assert_eq!(principals, BTreeSet::from([("suspended", "suspended"), ("deleted", "deleted")]));
    let later = world.stores.changes.denials(after_hours(24)).await.unwrap();
    assert_eq!(later, DenialSnapshot { number: 5, ..DenialSnapshot::default() });
}

pub async fn a_snapshot_and_what_follows_it_are_the_whole(stores: Stores) {
    let world = World::new(stores);
    let worker =
        world.create(airunner_core::Principal { max_certificates: 0, ..records::principal("w1") }).await;
    let mut leaves = Vec::new();
    for _ in 0..40 {
        leaves.push(world.issue(&worker).await.reference());
    }
    let (writing, all) = (world.clone(), leaves.clone());
    let writer = tokio::spawn(async move {
        for leaf in all {
            revoke(&writing, leaf).await;
        }
    });
    let snapshot = world.stores.changes.denials(after(1)).await.unwrap();
    writer.await.unwrap();
    let mut seen: BTreeSet<_> = snapshot.certificates.iter().copied().collect();
    assert_eq!(seen.len() as u64, snapshot.number);
    for change in world.changes_after(snapshot.number).await {
        if let ChangeKind::Certificate { reference, .. } = change.kind {
            assert!(seen.insert(reference), "a change stands in the snapshot and after it");
        }
    }
    assert_eq!(seen, leaves.into_iter().collect());
}

async fn revoke(world: &World, reference: CertificateRef) -> CertificateRef {
    let target = RevocationTarget::Certificate(reference);
    let entry = audit("certificate.revoke", "x", NOW);
    world.stores.certificates.revoke(&target, RevocationReason::KeyCompromise, entry).await.unwrap();
    reference
}
