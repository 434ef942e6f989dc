//! What a `KeyringStore` must do.

use airunner_core::{DataKey, DataKeyId, KeyPurpose, Label, Stores};

use super::world::{NOW, World, race, refused};
use crate::records;

pub async fn a_keyring_is_kept_as_it_was_made(stores: Stores) {
    let world = World::new(stores);
    assert_eq!(world.stores.keyring.get_keyring().await.unwrap(), None);
    let keyring = records::keyring(NOW, world.random());
    world.stores.keyring.create_keyring(keyring.clone()).await.unwrap();
    assert_eq!(world.stores.keyring.get_keyring().await.unwrap(), Some(keyring));
}

pub async fn there_is_one_keyring(stores: Stores) {
    let world = World::new(stores);
    let results = race((0..16).map(|_| {
        let (stores, keyring) = (world.stores.clone(), records::keyring(NOW, world.random()));
        async move { stores.keyring.create_keyring(keyring.clone()).await.map(|()| keyring) }
    }))
    .await;
    let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(world.stores.keyring.get_keyring().await.unwrap().as_ref(), Some(won[0]));
    let late = records::keyring(NOW, world.random());
    refused(world.stores.keyring.create_keyring(late).await, Label::AlreadyExists);
}

pub async fn a_keyring_has_one_active_key_of_a_purpose(stores: Stores) {
    let world = World::new(stores);
    let mut keyring = records::keyring(NOW, world.random());
    let mut added = keyring.keys.pop().unwrap();
    refused(world.stores.keyring.add_data_key(added.clone()).await, Label::NotFound);
    world.stores.keyring.create_keyring(keyring.clone()).await.unwrap();
    added.purpose = KeyPurpose::JobSecret;
    let results = race((0..8).map(|_| {
        let key = DataKey { id: DataKeyId::new(NOW, world.random()), ..added.clone() };
        let stores = world.stores.clone();
        async move { stores.keyring.add_data_key(key).await.unwrap() }
    }))
    .await;
    let stored = world.stores.keyring.get_keyring().await.unwrap().unwrap();
    assert_eq!(stored.keys.len(), keyring.keys.len() + 1);
    assert!(stored.keys.starts_with(&keyring.keys), "the new one comes after those that were there");
    assert!(results.iter().all(|result| *result == stored), "everyone is told of the one that won");
}
