//! What an `EnrollmentStore` must do. Using a token is in `issuance.rs`.

use airunner_core::{
    EnrollmentToken, Label, Page, PageRequest, PrincipalId, PrincipalStatus, RequestKey, Result, Stores,
};

use super::world::{NOW, World, after_hours, every_page, refused};
use crate::records::{self, audit, request};

pub async fn what_is_created_is_read_back(stores: Stores) {
    let world = World::new(stores);
    let token = token(&world).await;
    let token = EnrollmentToken { description: "für w1".to_owned(), ..token };
    create(&world, &token, None).await.unwrap();
    assert_eq!(world.stores.enrollments.get_token(&token.id).await.unwrap(), Some(token));
    assert_eq!(world.audited("token.create").await, 1);
}

pub async fn only_an_active_principal_gets_one(stores: Stores) {
    let world = World::new(stores);
    let token = token(&world).await;
    let principal = world.stores.principals.get_principal(&token.principal_id).await.unwrap().unwrap();
    for status in [PrincipalStatus::Suspended, PrincipalStatus::Deleted] {
        world.set_status(&principal, status).await;
        refused(create(&world, &token, None).await, Label::PrincipalNotActive);
    }
    let nobody = EnrollmentToken { principal_id: records::id("nobody"), ..token };
    refused(create(&world, &nobody, None).await, Label::NotFound);
    assert_eq!(world.audited("token.create").await, 0);
}

pub async fn a_token_id_is_used_once(stores: Stores) {
    let world = World::new(stores);
    let token = token(&world).await;
    create(&world, &token, None).await.unwrap();
    let other = EnrollmentToken { secret_hash: [9; 32], ..token.clone() };
    refused(create(&world, &other, None).await, Label::AlreadyExists);
    assert_eq!(world.stores.enrollments.get_token(&token.id).await.unwrap(), Some(token));
}

pub async fn a_repeated_request_voids_the_earlier_token(stores: Stores) {
    let world = World::new(stores);
    let first = token(&world).await;
    let another = || EnrollmentToken {
        id: records::enrollment(&records::principal("w1"), &records::principal("a"), NOW, world.random()).id,
        ..first.clone()
    };
    let key = || Some(request("admin-1", "r1", "w1"));
    create(&world, &first, key()).await.unwrap();
    let second = another();
    create(&world, &second, key()).await.unwrap();
    assert_eq!(world.stores.enrollments.get_token(&first.id).await.unwrap(), None);
    assert_eq!(world.stores.enrollments.get_token(&second.id).await.unwrap(), Some(second.clone()));
    // The third voids the second, and another content voids nothing.
    let third = another();
    create(&world, &third, key()).await.unwrap();
    assert_eq!(world.stores.enrollments.get_token(&second.id).await.unwrap(), None);
    let other = Some(request("admin-1", "r1", "w2"));
    refused(create(&world, &another(), other).await, Label::RequestReused);
    assert!(world.stores.enrollments.get_token(&third.id).await.unwrap().is_some());
}

pub async fn a_deleted_token_is_gone(stores: Stores) {
    let world = World::new(stores);
    let token = token(&world).await;
    create(&world, &token, None).await.unwrap();
    let delete = || world.stores.enrollments.delete_token(&token.id, audit("token.delete", "x", NOW));
    delete().await.unwrap();
    assert_eq!(world.stores.enrollments.get_token(&token.id).await.unwrap(), None);
    refused(delete().await, Label::NotFound);
    assert_eq!(world.audited("token.delete").await, 1);
}

pub async fn lists_run_from_the_newest_and_may_be_of_one_creator(stores: Stores) {
    let world = World::new(stores);
    let worker = world.worker("w1").await;
    let creators = [world.admin("Ann").await, world.admin("bob").await];
    let mut ids = Vec::new();
    for n in 0..7 {
        let token = records::enrollment(&worker, &creators[n % 2], after_hours(n as u64), world.random());
        create(&world, &token, None).await.unwrap();
        ids.push(token.id);
    }
    ids.reverse();
    let all = every_page(2, |page| list(&world, None, page)).await;
    assert_eq!(all.iter().map(|token| token.id).collect::<Vec<_>>(), ids);
    let of_ann = every_page(3, |page| list(&world, Some("aNN"), page)).await;
    assert_eq!(of_ann.len(), 4);
    assert!(of_ann.iter().all(|token| token.created_by == creators[0].id));
    assert_eq!(every_page(3, |page| list(&world, Some("nobody"), page)).await, []);
}

/// A token for a worker, not yet stored.
async fn token(world: &World) -> EnrollmentToken {
    let admin = world.admin("admin-1").await;
    let worker = world.worker("w1").await;
    records::enrollment(&worker, &admin, NOW, world.random())
}

async fn create(world: &World, token: &EnrollmentToken, request: Option<RequestKey>) -> Result<()> {
    let entry = audit("token.create", token.principal_id.as_str(), NOW);
    world.stores.enrollments.create_token(token.clone(), request, entry).await
}

async fn list(world: &World, created_by: Option<&str>, page: PageRequest) -> Result<Page<EnrollmentToken>> {
    let created_by: Option<PrincipalId> = created_by.map(records::id);
    world.stores.enrollments.list_tokens(created_by.as_ref(), &page).await
}
