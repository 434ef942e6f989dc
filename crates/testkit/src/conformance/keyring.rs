//! What a `KeyringStore` must do.

use airunner_core::{Label, Stores};

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
