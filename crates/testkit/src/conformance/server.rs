//! What a `ServerStore` must do.

use std::time::Duration;

use airunner_core::{Fencing, Label, Labels, ServedQueue, ServerRow, Stores, Timestamp};

use super::world::{NOW, World, after, race};
use crate::records;

const LIFE: Duration = Duration::from_secs(10);

pub async fn a_heartbeat_brings_every_row(stores: Stores) {
    let world = World::new(stores);
    let first = ServerRow {
        queues: vec![
            ServedQueue {
                queue: records::queue("gpu"),
                labels: Some(Labels::from([("arch".to_owned(), "ärm".to_owned())])),
            },
            ServedQueue { queue: records::queue("default"), labels: None },
        ],
        applied: 7,
        bundle_hash: "abc".to_owned(),
        ..records::server(NOW, world.random())
    };
    let reply = world.stores.servers.heartbeat(first.clone(), true).await.unwrap();
    assert_eq!(reply.servers, std::slice::from_ref(&first));
    assert_eq!(reply.highest, NOW);
    let second = records::server(after(1), world.random());
    let reply = world.stores.servers.heartbeat(second.clone(), true).await.unwrap();
    assert_eq!(reply.servers.len(), 2);
    assert!(reply.servers.contains(&first) && reply.servers.contains(&second));
    let again = ServerRow { counter: 2, at: after(2), queues: Vec::new(), ..first };
    world.stores.servers.heartbeat(again.clone(), true).await.unwrap();
    let reply = world.stores.servers.servers().await.unwrap();
    assert!(reply.servers.contains(&again) && reply.servers.contains(&second));
    assert_eq!(reply.servers.len(), 2);
}

pub async fn the_highest_time_only_grows_and_only_when_it_may(stores: Stores) {
    let world = World::new(stores);
    let row = records::server(after(100), world.random());
    let beat = |at: Timestamp, write| world.stores.servers.heartbeat(ServerRow { at, ..row.clone() }, write);
    assert_eq!(beat(after(100), true).await.unwrap().highest, after(100));
    assert_eq!(beat(after(50), true).await.unwrap().highest, after(100));
    assert_eq!(beat(after(200), false).await.unwrap().highest, after(100));
    assert_eq!(beat(after(101), true).await.unwrap().highest, after(101));
    assert_eq!(world.stores.servers.servers().await.unwrap().highest, after(101));
}

pub async fn the_highest_time_is_set_back_unless_another_was_written_meanwhile(stores: Stores) {
    let world = World::new(stores);
    let [one, two] = [0, 1].map(|_| records::server(after(500), world.random()));
    let servers = &world.stores.servers;
    servers.heartbeat(one.clone(), true).await.unwrap();
    servers.hold_housekeeping(&one.id, after(500), LIFE).await.unwrap();
    let late = servers.reset_time(after(499), records::audit("clock.reset", "", after(100))).await;
    assert_eq!(late.unwrap_err().label(), Label::VersionConflict);
    assert_eq!(servers.servers().await.unwrap().highest, after(500));
    assert_eq!(world.stores.audit.tail(10).await.unwrap(), []);

    let audit = records::audit("clock.reset", "", after(100));
    servers.reset_time(after(500), audit.clone()).await.unwrap();
    assert_eq!(servers.servers().await.unwrap().highest, after(100));
    assert_eq!(world.stores.audit.tail(10).await.unwrap()[0].entry, audit);
    // A deadline of the wrong time keeps nobody from the work.
    assert_eq!(servers.hold_housekeeping(&two.id, after(101), LIFE).await.unwrap(), Some(Fencing(2)));
    // From there it grows again.
    let right = ServerRow { at: after(101), ..two };
    assert_eq!(servers.heartbeat(right, true).await.unwrap().highest, after(101));
}

pub async fn who_leaves_or_falls_silent_is_gone(stores: Stores) {
    let world = World::new(stores);
    let mut rows = Vec::new();
    for n in 0..4 {
        let row = records::server(after(n), world.random());
        world.stores.servers.heartbeat(row.clone(), true).await.unwrap();
        rows.push(row);
    }
    world.stores.servers.leave(&rows[3].id).await.unwrap();
    world.stores.servers.leave(&rows[3].id).await.unwrap();
    assert_eq!(world.stores.servers.prune_servers(after(2)).await.unwrap(), 2);
    assert_eq!(world.stores.servers.servers().await.unwrap().servers, [rows[2].clone()]);
}

pub async fn housekeeping_is_one_servers_until_its_time_is_over(stores: Stores) {
    let world = World::new(stores);
    let [one, two] = [0, 1].map(|_| records::server(NOW, world.random()).id);
    let servers = &world.stores.servers;
    let hold = async |id, now| servers.hold_housekeeping(id, now, LIFE).await.unwrap();
    assert_eq!(hold(&one, NOW).await, Some(Fencing(1)));
    assert_eq!(hold(&two, after(5)).await, None);
    // Extending keeps the number.
    assert_eq!(hold(&one, after(5)).await, Some(Fencing(1)));
    // Another gets it two seconds after the deadline, and not before.
    assert_eq!(hold(&two, after(16)).await, None);
    assert_eq!(hold(&two, after(17)).await, Some(Fencing(2)));
    assert_eq!(hold(&one, after(18)).await, None);
}

pub async fn who_leaves_gives_housekeeping_up(stores: Stores) {
    let world = World::new(stores);
    let [one, two] = [0, 1].map(|_| records::server(NOW, world.random()).id);
    let servers = &world.stores.servers;
    assert_eq!(servers.hold_housekeeping(&one, NOW, LIFE).await.unwrap(), Some(Fencing(1)));
    servers.leave(&two).await.unwrap();
    assert_eq!(servers.hold_housekeeping(&two, after(1), LIFE).await.unwrap(), None);
    servers.leave(&one).await.unwrap();
    assert_eq!(servers.hold_housekeeping(&two, after(1), LIFE).await.unwrap(), Some(Fencing(2)));
    // The number grows with every change of holder, back to the first one too.
    servers.leave(&two).await.unwrap();
    assert_eq!(servers.hold_housekeeping(&one, after(2), LIFE).await.unwrap(), Some(Fencing(3)));
}

pub async fn of_many_that_want_housekeeping_one_gets_it(stores: Stores) {
    let world = World::new(stores);
    let results = race((0..32).map(|_| {
        let (stores, id) = (world.stores.clone(), records::server(NOW, world.random()).id);
        async move { stores.servers.hold_housekeeping(&id, NOW, LIFE).await.unwrap() }
    }))
    .await;
    assert_eq!(results.into_iter().flatten().collect::<Vec<_>>(), [Fencing(1)]);
}
