//! What an `IssuerStore` must do.

use airunner_core::{ChangeKind, Issuer, IssuerId, IssuerKind, IssuerState, Label, Result, Stores};

use super::world::{NOW, World, after, race, refused};
use crate::records::{self, audit};

pub async fn a_ca_is_founded_and_read_back_oldest_first(stores: Stores) {
    let world = World::new(stores);
    let issuers = ca(&world);
    found(&world, &issuers, &[]).await.unwrap();
    assert_eq!(world.stores.issuers.list_issuers().await.unwrap(), issuers);
    assert_eq!(world.changes().await, [ChangeKind::Issuers, ChangeKind::Issuers]);
    assert_eq!(world.changes_after(0).await[0].at, NOW);
    assert_eq!(world.audited("ca.found").await, 1);
}

pub async fn before_it_there_is_none(stores: Stores) {
    assert_eq!(stores.issuers.list_issuers().await.unwrap(), []);
}

pub async fn a_ca_is_founded_once(stores: Stores) {
    let world = World::new(stores);
    let first = ca(&world);
    found(&world, &first, &[]).await.unwrap();
    let second = ca(&world);
    refused(found(&world, &second, &[]).await, Label::AlreadyExists);
    refused(found(&world, &second, &[first[0].id]).await, Label::AlreadyExists);
    assert_eq!(world.stores.issuers.list_issuers().await.unwrap(), first);
    assert_eq!(world.audited("ca.found").await, 1);
}

pub async fn a_ca_is_replaced_by_name(stores: Stores) {
    let world = World::new(stores);
    let first = ca(&world);
    found(&world, &first, &[]).await.unwrap();
    let second = ca(&world);
    found(&world, &second, &[first[0].id, first[1].id]).await.unwrap();
    assert_eq!(world.stores.issuers.list_issuers().await.unwrap(), second);
    // What is destroyed need not be named again.
    let third = ca(&world);
    found(&world, &third, &[second[0].id, second[1].id]).await.unwrap();
    assert_eq!(world.stores.issuers.list_issuers().await.unwrap(), third);
    refused(found(&world, &first, &[third[0].id, third[1].id]).await, Label::AlreadyExists);
}

pub async fn of_many_that_found_a_ca_one_wins(stores: Stores) {
    let world = World::new(stores);
    let results = race((0..32).map(|_| {
        let (stores, issuers) = (world.stores.clone(), ca(&world));
        async move { stores.issuers.found_ca(issuers, &[], audit("ca.found", "x", NOW)).await }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(world.stores.issuers.list_issuers().await.unwrap().len(), 2);
}

pub async fn an_issuing_ca_has_a_successor(stores: Stores) {
    let world = World::new(stores);
    let issuers = ca(&world);
    found(&world, &issuers, &[]).await.unwrap();
    let successor = records::issuer(after(60), world.random());
    succeed(&world, &successor, &issuers[1].id).await.unwrap();
    let listed = world.stores.issuers.list_issuers().await.unwrap();
    let retired = Issuer { state: IssuerState::Retired, ..issuers[1].clone() };
    assert_eq!(listed, [issuers[0].clone(), retired, successor.clone()]);
    assert!(world.changes().await.len() > 2, "a succession is told");
    // The predecessor must be the one that signs now.
    let late = records::issuer(after(61), world.random());
    refused(succeed(&world, &late, &issuers[1].id).await, Label::VersionConflict);
    refused(succeed(&world, &late, &issuers[0].id).await, Label::VersionConflict);
    refused(succeed(&world, &late, &IssuerId::from_bytes([9; 16])).await, Label::VersionConflict);
    assert_eq!(world.audited("ca.renew").await, 1);
    succeed(&world, &late, &successor.id).await.unwrap();
}

pub async fn of_many_successors_one_wins(stores: Stores) {
    let world = World::new(stores);
    let issuers = ca(&world);
    found(&world, &issuers, &[]).await.unwrap();
    let results =
        race((0..16).map(|_| {
            let (stores, predecessor) = (world.stores.clone(), issuers[1].id);
            let successor = records::issuer(after(60), world.random());
            async move {
                stores.issuers.succeed_issuer(successor, &predecessor, audit("ca.renew", "x", NOW)).await
            }
        }))
        .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(world.stores.issuers.list_issuers().await.unwrap().len(), 3);
}

/// A root and an issuing CA.
fn ca(world: &World) -> Vec<Issuer> {
    let root = Issuer { kind: IssuerKind::Root, sealed_key: None, ..records::issuer(NOW, world.random()) };
    let issuing = Issuer { parent: Some(root.id), ..records::issuer(after(1), world.random()) };
    vec![root, issuing]
}

async fn found(world: &World, issuers: &[Issuer], replacing: &[IssuerId]) -> Result<()> {
    let entry = audit("ca.found", "x", NOW);
    world.stores.issuers.found_ca(issuers.to_vec(), replacing, entry).await
}

async fn succeed(world: &World, successor: &Issuer, predecessor: &IssuerId) -> Result<()> {
    let entry = audit("ca.renew", "x", after(60));
    world.stores.issuers.succeed_issuer(successor.clone(), predecessor, entry).await
}
