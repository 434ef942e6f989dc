//! What a `PrincipalStore` must do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use airunner_core::{
    ChangeKind, EnrolScope, Label, PageRequest, Principal, PrincipalFilter, PrincipalStatus, PrincipalType,
    PrincipalUpdate, RevocationReason, Role, StatusChange, Stores,
};

use super::world::{NOW, World, after, every_page, race, refused};
use crate::records::{self, audit, id};

fn to(status: PrincipalStatus) -> StatusChange {
    StatusChange { status, reason: "because".to_owned(), revoke: None, keep_an_admin: false }
}

fn everything() -> Principal {
    Principal {
        principal_type: PrincipalType::Service,
        roles: BTreeSet::from([Role::Enroller, Role::Viewer]),
        enrol_scope: Some(EnrolScope {
            id_prefix: "web-".to_owned(),
            types: BTreeSet::from([PrincipalType::Worker, PrincipalType::Service]),
        }),
        dns_names: vec!["a.example.org".parse().unwrap(), "*.b.example.org".parse().unwrap()],
        email: "günther@例え.jp".to_owned(),
        description: "one 'quoted' \u{1F980}\nand a NUL \u{0} byte".to_owned(),
        max_certificates: 0,
        validity: Some(Duration::from_secs(3_601)),
        metadata: BTreeMap::from([("région".to_owned(), "Île-de-France".to_owned())]),
        version: 99,
        ..records::principal("Full.Name_1@example+x-y")
    }
}

pub async fn what_is_created_is_read_back(stores: Stores) {
    let world = World::new(stores);
    let created = world.create(everything()).await;
    assert_eq!(created, Principal { version: 1, ..everything() });
    let read = world.stores.principals.get_principal(&created.id).await.unwrap();
    assert_eq!(read, Some(created));
    assert_eq!(world.audited("principal.create").await, 1);
}

pub async fn ids_are_found_whatever_their_case(stores: Stores) {
    let world = World::new(stores);
    world.worker("Alice").await;
    let found = world.stores.principals.get_principal(&id("aLICE")).await.unwrap();
    assert_eq!(found.unwrap().id, id("Alice"));
    assert_eq!(world.stores.principals.get_principal(&id("alic")).await.unwrap(), None);
}

pub async fn an_id_is_taken_in_every_case_and_for_ever(stores: Stores) {
    let world = World::new(stores);
    let alice = world.worker("alice").await;
    let again = |id: &str| {
        world.stores.principals.create_principal(records::principal(id), audit("principal.create", id, NOW))
    };
    refused(again("ALICE").await, Label::AlreadyExists);
    world.set_status(&alice, PrincipalStatus::Deleted).await;
    refused(again("Alice").await, Label::AlreadyExists);
    assert_eq!(world.audited("principal.create").await, 1, "a refused act left an audit entry");
}

pub async fn of_many_that_create_one_id_one_wins(stores: Stores) {
    let world = World::new(stores);
    let results =
        race((0..32).map(|n| {
            let stores = world.stores.clone();
            let principal = Principal { description: n.to_string(), ..records::principal("w1") };
            async move {
                stores.principals.create_principal(principal, audit("principal.create", "w1", NOW)).await
            }
        }))
        .await;
    let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(world.stores.principals.get_principal(&id("w1")).await.unwrap().as_ref(), Some(won[0]));
}

pub async fn a_dns_name_belongs_to_one_principal(stores: Stores) {
    let world = World::new(stores);
    let names = vec!["db.example.org".parse().unwrap()];
    let first = world.create(Principal { dns_names: names.clone(), ..records::principal("first") }).await;
    let second = Principal { dns_names: names.clone(), ..records::principal("second") };
    let create = || world.stores.principals.create_principal(second.clone(), audit("a", "second", NOW));
    refused(create().await, Label::AlreadyExists);
    let third = world.worker("third").await;
    let take = |expected| {
        let update = PrincipalUpdate { dns_names: Some(names.clone()), ..PrincipalUpdate::default() };
        world.stores.principals.update_principal(&third.id, expected, update, audit("a", "third", NOW))
    };
    refused(take(1).await, Label::AlreadyExists);
    // Its own names are no obstacle, and those of a deleted principal are free.
    let update = PrincipalUpdate { dns_names: Some(names.clone()), ..PrincipalUpdate::default() };
    let kept = world.stores.principals.update_principal(&first.id, 1, update, audit("a", "first", NOW)).await;
    assert_eq!(kept.unwrap().dns_names, names);
    world.set_status(&first, PrincipalStatus::Deleted).await;
    assert_eq!(take(1).await.unwrap().dns_names, names);
    refused(create().await, Label::AlreadyExists);
}

pub async fn a_dns_name_that_is_given_up_is_free(stores: Stores) {
    let world = World::new(stores);
    let names = vec!["db.example.org".parse().unwrap()];
    let first = world.create(Principal { dns_names: names.clone(), ..records::principal("first") }).await;
    let update = PrincipalUpdate { dns_names: Some(Vec::new()), ..PrincipalUpdate::default() };
    world.stores.principals.update_principal(&first.id, 1, update, audit("a", "first", NOW)).await.unwrap();
    let second = world.create(Principal { dns_names: names.clone(), ..records::principal("second") }).await;
    assert_eq!(second.dns_names, names);
}

pub async fn an_update_overwrites_what_it_names(stores: Stores) {
    let world = World::new(stores);
    let before = world.create(everything()).await;
    let update = PrincipalUpdate {
        description: Some("new".to_owned()),
        validity: Some(None),
        ..PrincipalUpdate::default()
    };
    let after = world.stores.principals.update_principal(&before.id, 1, update, audit("u", "x", NOW)).await;
    let expected = Principal { description: "new".to_owned(), validity: None, version: 2, ..before };
    assert_eq!(after.unwrap(), expected);
    let read = world.stores.principals.get_principal(&expected.id).await.unwrap();
    assert_eq!(read, Some(expected));
    assert_eq!(world.changes().await, [], "no authority was changed");
}

pub async fn a_write_of_an_old_version_is_refused(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let principals = &world.stores.principals;
    let update = PrincipalUpdate { email: Some("x@example.org".to_owned()), ..PrincipalUpdate::default() };
    let done = principals.update_principal(&principal.id, 1, update.clone(), audit("u", "w1", NOW)).await;
    assert_eq!(done.unwrap().version, 2);
    let late = principals.update_principal(&principal.id, 1, update, audit("u", "w1", NOW)).await;
    refused(late, Label::VersionConflict);
    let roles = BTreeSet::from([Role::Viewer]);
    let late = principals.set_roles(&principal.id, 1, roles, audit("r", "w1", NOW)).await;
    refused(late, Label::VersionConflict);
    assert_eq!(world.audited("u").await + world.audited("r").await, 1);
}

pub async fn of_many_that_write_one_version_one_wins(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let results = race((0..32).map(|n| {
        let (stores, id) = (world.stores.clone(), principal.id.clone());
        let update =
            PrincipalUpdate { email: Some(format!("{n}@example.org")), ..PrincipalUpdate::default() };
        async move { stores.principals.update_principal(&id, 1, update, audit("u", "w1", NOW)).await }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let read = world.stores.principals.get_principal(&principal.id).await.unwrap();
    assert_eq!(read.unwrap().version, 2);
}

pub async fn what_is_unknown_is_not_found(stores: Stores) {
    let principals = stores.principals;
    let entry = || audit("a", "nobody", NOW);
    let update = PrincipalUpdate::default();
    refused(principals.update_principal(&id("nobody"), 1, update, entry()).await, Label::NotFound);
    refused(principals.set_roles(&id("nobody"), 1, BTreeSet::new(), entry()).await, Label::NotFound);
    let suspended = principals.set_status(&id("nobody"), to(PrincipalStatus::Suspended), entry()).await;
    refused(suspended, Label::NotFound);
}

pub async fn roles_are_set_and_everyone_is_told(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let roles = BTreeSet::from([Role::Viewer, Role::User]);
    let after =
        world.stores.principals.set_roles(&principal.id, 1, roles.clone(), audit("r", "w1", NOW)).await;
    let after = after.unwrap();
    assert_eq!((after.roles, after.version), (roles, 2));
    let told = ChangeKind::Principal { id: principal.id, status: PrincipalStatus::Active };
    assert_eq!(world.changes().await, [told]);
}

pub async fn the_last_admin_keeps_its_role(stores: Stores) {
    let world = World::new(stores);
    let root = world.admin("root").await;
    let demote = |principal: &Principal, version| {
        let roles = BTreeSet::from([Role::Viewer]);
        let id = principal.id.clone();
        let principals = world.stores.principals.clone();
        async move { principals.set_roles(&id, version, roles, audit("r", id.as_str(), NOW)).await }
    };
    refused(demote(&root, 1).await, Label::LastAdmin);
    // A suspended admin does not count, one by role does, and one whose roles lack admin does not.
    let second = world.admin("second").await;
    world.suspend(&second).await;
    refused(demote(&root, 1).await, Label::LastAdmin);
    let other = Principal { roles: BTreeSet::from([Role::User]), ..records::principal("other") };
    world.create(Principal { principal_type: PrincipalType::Admin, ..other }).await;
    refused(demote(&root, 1).await, Label::LastAdmin);
    world
        .create(Principal { roles: BTreeSet::from([Role::Admin, Role::User]), ..records::principal("w") })
        .await;
    assert_eq!(demote(&root, 1).await.unwrap().version, 2);
}

pub async fn suspension_says_when_and_why_until_it_is_over(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let change = to(PrincipalStatus::Suspended);
    let entry = audit("principal.suspend", "w1", after(5));
    let suspended = world.stores.principals.set_status(&principal.id, change, entry).await.unwrap();
    assert_eq!(suspended.status, PrincipalStatus::Suspended);
    assert_eq!(suspended.suspended_at, Some(after(5)));
    assert_eq!(suspended.suspended_reason, "because");
    assert_eq!(suspended.version, 2);
    let read = world.stores.principals.get_principal(&principal.id).await.unwrap();
    assert_eq!(read.as_ref(), Some(&suspended));
    let active = world.set_status(&principal, PrincipalStatus::Active).await;
    assert_eq!(active, Principal { version: 3, ..principal.clone() });
    let told = |status| ChangeKind::Principal { id: principal.id.clone(), status };
    let all = [told(PrincipalStatus::Suspended), told(PrincipalStatus::Active)];
    assert_eq!(world.changes().await, all);
    assert_eq!(world.changes_after(0).await[0].at, after(5));
}

pub async fn the_status_that_it_has_changes_nothing_but_is_audited(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let first = world.suspend(&principal).await;
    assert_eq!(world.suspend(&principal).await, first);
    assert_eq!(world.changes().await.len(), 1);
    assert_eq!(world.audited("principal.status").await, 2);
}

pub async fn what_is_deleted_stays_deleted(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let deleted = world.set_status(&principal, PrincipalStatus::Deleted).await;
    for status in [PrincipalStatus::Active, PrincipalStatus::Suspended] {
        let again =
            world.stores.principals.set_status(&principal.id, to(status), audit("a", "w1", NOW)).await;
        refused(again, Label::PrincipalNotActive);
    }
    let roles = BTreeSet::from([Role::Viewer]);
    let roles = world.stores.principals.set_roles(&principal.id, 2, roles, audit("a", "w1", NOW)).await;
    refused(roles, Label::PrincipalNotActive);
    let update = PrincipalUpdate { email: Some(String::new()), ..PrincipalUpdate::default() };
    let update =
        world.stores.principals.update_principal(&principal.id, 2, update, audit("a", "w1", NOW)).await;
    refused(update, Label::PrincipalNotActive);
    let read = world.stores.principals.get_principal(&principal.id).await.unwrap();
    assert_eq!(read, Some(deleted));
}

pub async fn the_last_admin_stays_where_that_is_asked_for(stores: Stores) {
    let world = World::new(stores);
    let root = world.admin("root").await;
    let change = StatusChange { keep_an_admin: true, ..to(PrincipalStatus::Suspended) };
    let kept = world.stores.principals.set_status(&root.id, change, audit("a", "root", NOW)).await;
    refused(kept, Label::LastAdmin);
    assert_eq!(world.suspend(&root).await.status, PrincipalStatus::Suspended);
}

pub async fn admins_that_suspend_one_another_leave_one(stores: Stores) {
    let world = World::new(stores);
    let mut admins = Vec::new();
    for n in 0..8 {
        admins.push(world.admin(&format!("admin-{n}")).await);
    }
    let results = race(admins.iter().map(|admin| {
        let (stores, id) = (world.stores.clone(), admin.id.clone());
        let change = StatusChange { keep_an_admin: true, ..to(PrincipalStatus::Suspended) };
        async move { stores.principals.set_status(&id, change, audit("a", "x", NOW)).await }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 7);
}

pub async fn a_denial_can_revoke_in_the_same_act(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let certificate = world.issue(&principal).await;
    let revoke = Some(RevocationReason::CessationOfOperation);
    let change = StatusChange { revoke, ..to(PrincipalStatus::Deleted) };
    let entry = audit("principal.delete", "w1", after(1));
    world.stores.principals.set_status(&principal.id, change, entry).await.unwrap();
    let revocation = world.stored(&certificate).await.revocation.unwrap();
    assert_eq!(revocation.reason, RevocationReason::CessationOfOperation);
    assert_eq!(revocation.at, after(1));
    let reference = certificate.reference();
    let told = [
        ChangeKind::Principal { id: principal.id.clone(), status: PrincipalStatus::Deleted },
        ChangeKind::Certificate { reference, revoked: true },
    ];
    assert_eq!(world.changes().await, told);
}

pub async fn a_status_that_it_has_can_still_revoke(stores: Stores) {
    let world = World::new(stores);
    let principal = world.worker("w1").await;
    let certificate = world.issue(&principal).await;
    world.suspend(&principal).await;
    let revoke = Some(RevocationReason::KeyCompromise);
    let change = StatusChange { revoke, ..to(PrincipalStatus::Suspended) };
    world.stores.principals.set_status(&principal.id, change, audit("a", "w1", NOW)).await.unwrap();
    assert!(world.stored(&certificate).await.revocation.is_some());
}

pub async fn lists_are_in_order_and_leave_out_what_is_deleted(stores: Stores) {
    let world = World::new(stores);
    for name in ["b", "C", "a", "d"] {
        world.worker(name).await;
    }
    let gone = world.worker("aa").await;
    world.set_status(&gone, PrincipalStatus::Deleted).await;
    let all = PrincipalFilter::default();
    let names = every_page(2, |page| list(&world, &all, page)).await;
    assert_eq!(names.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["a", "b", "C", "d"]);
    let deleted = PrincipalFilter { status: Some(PrincipalStatus::Deleted), ..all };
    assert_eq!(every_page(2, |page| list(&world, &deleted, page)).await.len(), 1);
}

pub async fn lists_are_cut_to_what_the_filter_names(stores: Stores) {
    let world = World::new(stores);
    world.admin("root").await;
    for n in 0..6 {
        let principal = world.worker(&format!("Web-{n}")).await;
        if n % 2 == 0 {
            world.suspend(&principal).await;
        }
    }
    world.worker("db-1").await;
    let filter = PrincipalFilter {
        principal_type: Some(PrincipalType::Worker),
        status: Some(PrincipalStatus::Suspended),
        id_prefix: Some("wEB-".to_owned()),
    };
    let rows = every_page(2, |page| list(&world, &filter, page)).await;
    assert_eq!(rows.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["Web-0", "Web-2", "Web-4"]);
    let admins = PrincipalFilter { principal_type: Some(PrincipalType::Admin), ..PrincipalFilter::default() };
    assert_eq!(every_page(2, |page| list(&world, &admins, page)).await.len(), 1);
}

pub async fn pages_lose_nothing_while_others_write(stores: Stores) {
    let world = World::new(stores);
    for n in 0..40 {
        world.worker(&format!("old-{n:02}")).await;
    }
    let writing = world.clone();
    let writer = tokio::spawn(async move {
        for n in 0..40 {
            writing.worker(&format!("{}-{n:02}", if n % 2 == 0 { "a" } else { "z" })).await;
        }
    });
    let all = PrincipalFilter::default();
    let rows = every_page(3, |page| list(&world, &all, page)).await;
    writer.await.unwrap();
    let ids: BTreeSet<_> = rows.iter().map(|one| one.id.clone()).collect();
    assert_eq!(ids.len(), rows.len(), "a row stands on two pages");
    assert_eq!(ids.iter().filter(|id| id.as_str().starts_with("old-")).count(), 40);
}

pub async fn a_page_token_of_no_list_is_refused(stores: Stores) {
    for token in ["nonsense", "%%%", "cDE", "cGE\u{e9}"] {
        let page = PageRequest::parse(10, token).unwrap();
        let filter = airunner_core::CertificateFilter::default();
        refused(stores.certificates.list_certificates(&filter, &page).await, Label::PageToken);
    }
}

async fn list(
    world: &World,
    filter: &PrincipalFilter,
    page: PageRequest,
) -> airunner_core::Result<airunner_core::Page<Principal>> {
    world.stores.principals.list_principals(filter, &page).await
}
