//! What an `AuditStore` must do.

use std::collections::BTreeMap;

use airunner_core::{AuditEntry, AuditOutcome, Stores};

use super::world::{NOW, World, race};
use crate::records;

pub async fn what_is_recorded_is_read_back(stores: Stores) {
    let entry = AuditEntry {
        outcome: AuditOutcome::Refused("not-owner".to_owned()),
        detail: BTreeMap::from([("grund".to_owned(), "„so“ \u{1F980} 'x' \u{0}".to_owned())]),
        ..records::audit("job.cancel", "übung", NOW)
    };
    stores.audit.record(entry.clone()).await.unwrap();
    let tail = stores.audit.tail(10).await.unwrap();
    assert_eq!(tail.iter().map(|record| &record.entry).collect::<Vec<_>>(), [&entry]);
}

pub async fn entries_are_numbered_in_order(stores: Stores) {
    let world = World::new(stores);
    for n in 0..10 {
        let entry = records::audit(&format!("a.{n}"), "x", NOW);
        world.stores.audit.record(entry).await.unwrap();
    }
    let all = world.stores.audit.after(0, 100).await.unwrap();
    let actions: Vec<_> = all.iter().map(|record| record.entry.action.as_str()).collect();
    assert_eq!(actions, ["a.0", "a.1", "a.2", "a.3", "a.4", "a.5", "a.6", "a.7", "a.8", "a.9"]);
    assert!(all.is_sorted_by(|one, next| one.number < next.number));
    assert_eq!(world.stores.audit.tail(3).await.unwrap(), all[7..]);
    assert_eq!(world.stores.audit.after(all[4].number, 2).await.unwrap(), all[5..7]);
    assert_eq!(world.stores.audit.after(all[9].number, 2).await.unwrap(), []);
    assert_eq!(world.stores.audit.tail(0).await.unwrap(), []);
}

pub async fn none_is_lost_when_many_write(stores: Stores) {
    let world = World::new(stores);
    race((0..8).map(|task| {
        let stores = world.stores.clone();
        async move {
            for n in 0..8 {
                let entry = records::audit("a", &format!("{task}/{n}"), NOW);
                stores.audit.record(entry).await.unwrap();
            }
        }
    }))
    .await;
    assert_eq!(world.audited("a").await, 64);
}
