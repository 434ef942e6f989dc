//! The servers of an environment: this one's heartbeat, what the others have applied, whose clock to believe, and
//! whether this server is ready.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use airunner_core::{
    ChangeNumber, Error, HeartbeatReply, Label, Monotonic, QueueName, Result, ServerId, ServerRow, Timestamp,
};

use crate::{
    context::Context,
    status::{Freshness, freshness, require_fresh},
};

/// How often a server writes its row.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// A server whose counter has stood still this long has stopped serving by its own rule.
pub const FENCED_AFTER: Duration = Duration::from_secs(6);
/// How far behind the highest time a server may be.
const MAX_BEHIND: Duration = Duration::from_secs(2);
/// How far ahead of others, or of its own steady clock, a server may be.
const MAX_AHEAD: Duration = Duration::from_secs(30);

/// How far one server has come with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Which server.
    pub server: ServerRow,
    /// Whether the change is in force on it.
    pub applied: bool,
    /// Whether it stands still, and so serves nobody.
    pub fenced: bool,
}

/// Why this server is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// The label that calls are refused with.
    pub label: Label,
    /// What is wrong, in a sentence.
    pub message: String,
}

/// A counter's last movement, as seen from here.
struct Sighting {
    server: ServerId,
    counter: u64,
    at: Monotonic,
}

/// This server among the others.
pub struct Fleet {
    context: Arc<Context>,
    id: ServerId,
    address: String,
    counter: AtomicU64,
    draining: AtomicBool,
    store_full: AtomicBool,
    clock_fault: Mutex<Option<String>>,
    last_beat: Mutex<Option<(Timestamp, Monotonic)>>,
    sightings: Mutex<Vec<Sighting>>,
}

impl Fleet {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let id = ServerId::new(context.now(), &*context.random);
        let address = context.settings.api_address.clone();
        Self {
            context,
            id,
            address,
            counter: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            store_full: AtomicBool::new(false),
            clock_fault: Mutex::new(None),
            last_beat: Mutex::new(None),
            sightings: Mutex::new(Vec::new()),
        }
    }

    /// This server's id, new with every start.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// Writes this server's row every second until it is dropped.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.beat().await {
                tracing::warn!(?error, "the heartbeat can't be written");
            }
            self.context.clock.sleep(HEARTBEAT).await;
        }
    }

    /// Writes this server's row once, and judges the clocks.
    ///
    /// # Errors
    /// `store-full`, `store-unavailable` and the like.
    pub async fn beat(&self) -> Result<()> {
        let now = self.context.now();
        let jumped = self.jumped(now);
        let row = self.row(now);
        let reply =
            self.context.stores.servers.heartbeat(row, jumped.is_none() && self.is_clock_good()).await;
        self.store_full.store(matches!(&reply, Err(error) if error.label() == Label::StoreFull), SeqCst);
        let reply = reply?;
        self.note(&reply);
        let fault = jumped.or_else(|| clock_fault(now, self.id, &reply, |row| self.is_live(row)));
        let mut current = self.clock_fault.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = fault.as_ref().filter(|_| current.is_none()) {
            tracing::error!(fault, "this server is not ready");
        }
        *current = fault;
        Ok(())
    }

    /// Takes the row away: this server stops.
    ///
    /// # Errors
    /// `store-unavailable` and the like.
    pub async fn leave(&self) -> Result<()> {
        self.context.stores.servers.leave(&self.id).await
    }

    /// From now on `/ready` fails and workers are sent elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, SeqCst);
    }

    /// Whether this server is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Everything that is wrong with this server; nothing when it is ready.
    pub fn unready(&self) -> Vec<Unready> {
        let mut faults = Vec::new();
        let mut fault = |label, message: String| faults.push(Unready { label, message });
        if self.is_draining() {
            fault(Label::Draining, "this server is shutting down".to_owned());
        }
        if freshness(&self.context) != Freshness::Fresh {
            fault(Label::FeedStale, "the change feed has been silent for more than 2 s".to_owned());
        }
        if self.store_full.load(SeqCst) {
            fault(Label::StoreFull, "the store's disk is full: writes are refused, reads go on".to_owned());
        }
        if let Some(message) = self.clock_fault.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            fault(Label::ClockSkew, message);
        }
        faults
    }

    /// Whether a new connection may be taken.
    ///
    /// # Errors
    /// `feed-stale`, `clock-skew`.
    pub fn admit_connection(&self) -> Result<()> {
        require_fresh(&self.context, Freshness::Fresh)?;
        let fault = self.clock_fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fault.map_or(Ok(()), |message| Err(Error::new(Label::ClockSkew, message)))
    }

    /// Whether a request on a live connection may be served.
    ///
    /// # Errors
    /// `feed-stale`.
    pub fn admit_request(&self) -> Result<()> {
        require_fresh(&self.context, Freshness::Silent)
    }

    /// How far every server has come with `change`; waits up to `patience` for those that live to apply it.
    ///
    /// # Errors
    /// `store-unavailable` and the like.
    pub async fn applied_everywhere(&self, change: ChangeNumber, patience: Duration) -> Result<Vec<Applied>> {
        let end = self.context.clock.monotonic().plus(patience);
        loop {
            let reply = self.context.stores.servers.servers().await?;
            self.note(&reply);
            let applied: Vec<_> =
                reply.servers.into_iter().map(|server| self.judge(server, change)).collect();
            let done = applied.iter().all(|server| server.applied || server.fenced);
            if done || self.context.clock.monotonic() >= end {
                return Ok(applied);
            }
            self.context.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// The last change that is in force here.
    pub fn applied(&self) -> ChangeNumber {
        self.context.status.applied()
    }

    /// Whether any live server has a worker waiting on this queue.
    ///
    /// # Errors
    /// `store-unavailable` and the like.
    pub async fn has_worker(&self, queue: &QueueName) -> Result<bool> {
        if self.context.jobs.waiting_queues().contains(queue) {
            return Ok(true);
        }
        let reply = self.context.stores.servers.servers().await?;
        self.note(&reply);
        Ok(reply
            .servers
            .iter()
            .any(|row| row.id != self.id && self.is_live(row) && row.queues.contains(queue)))
    }

    fn judge(&self, server: ServerRow, change: ChangeNumber) -> Applied {
        // What this server has applied is known here before its row says so.
        let number = if server.id == self.id { self.applied() } else { server.applied };
        Applied { applied: number >= change, fenced: server.id != self.id && !self.is_live(&server), server }
    }

    fn row(&self, now: Timestamp) -> ServerRow {
        ServerRow {
            id: self.id,
            address: self.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            counter: self.counter.fetch_add(1, SeqCst) + 1,
            applied: self.applied(),
            bundle_hash: self.context.issuers.current().bundle().hash.clone(),
            queues: self.context.jobs.waiting_queues(),
            at: now,
        }
    }

    fn is_clock_good(&self) -> bool {
        self.clock_fault.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether wall time has run away from monotonic time since the last heartbeat.
    fn jumped(&self, now: Timestamp) -> Option<String> {
        let steady = self.context.clock.monotonic();
        let mut last = self.last_beat.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = last.map(|(wall, at)| wall.plus(steady.since(at)));
        let ahead = expected.map_or(Duration::ZERO, |expected| now.since(expected));
        if ahead > MAX_AHEAD {
            return Some(format!("the machine's clock jumped {} s ahead: set it right", ahead.as_secs()));
        }
        *last = Some((now, steady));
        None
    }

    fn note(&self, reply: &HeartbeatReply) {
        let now = self.context.clock.monotonic();
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        sightings.retain(|sighting| reply.servers.iter().any(|row| row.id == sighting.server));
        for row in &reply.servers {
            match sightings.iter_mut().find(|sighting| sighting.server == row.id) {
                Some(sighting) if sighting.counter == row.counter => {}
                Some(sighting) => (sighting.counter, sighting.at) = (row.counter, now),
                None => sightings.push(Sighting { server: row.id, counter: row.counter, at: now }),
            }
        }
    }

    fn is_live(&self, row: &ServerRow) -> bool {
        let now = self.context.clock.monotonic();
        let sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        let sighting = sightings.iter().find(|sighting| sighting.server == row.id);
        sighting.is_none_or(|sighting| now.since(sighting.at) < FENCED_AFTER)
    }
}

/// What the others' times say against this server's.
fn clock_fault(
    now: Timestamp,
    own: ServerId,
    reply: &HeartbeatReply,
    is_live: impl Fn(&ServerRow) -> bool,
) -> Option<String> {
    let behind = reply.highest.since(now);
    if behind > MAX_BEHIND {
        return Some(format!(
            "this machine's clock is {} s behind the newest time in the store: set it right",
            behind.as_secs()
        ));
    }
    let others = reply.servers.iter().filter(|row| row.id != own && is_live(row));
    let ahead = others.map(|row| now.since(row.at)).min()?;
    (ahead > MAX_AHEAD).then(|| {
        format!("this machine's clock is {} s ahead of the other servers': set it right", ahead.as_secs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(highest: i64, others: &[i64]) -> HeartbeatReply {
        let row = |(n, at): (usize, &i64)| ServerRow {
            id: ServerId::from_bytes([u8::try_from(n).unwrap() + 1; 16]),
            address: String::new(),
            version: String::new(),
            counter: 1,
            applied: 0,
            bundle_hash: String::new(),
            queues: Vec::new(),
            at: Timestamp::from_millis(*at),
        };
        HeartbeatReply {
            highest: Timestamp::from_millis(highest),
            servers: others.iter().enumerate().map(row).collect(),
        }
    }

    #[test]
    fn a_clock_is_judged_by_the_highest_time_and_by_the_others() {
        let own = ServerId::from_bytes([0; 16]);
        let fault =
            |now, reply: &HeartbeatReply| clock_fault(Timestamp::from_millis(now), own, reply, |_| true);
        assert_eq!(fault(10_000, &reply(12_000, &[])), None);
        assert!(fault(10_000, &reply(12_001, &[])).unwrap().contains("behind"));
        assert_eq!(fault(40_000, &reply(40_000, &[10_000])), None);
        assert!(fault(40_001, &reply(40_001, &[10_000])).unwrap().contains("ahead"));
        // One other that agrees is enough: it is the third that is behind.
        assert_eq!(fault(50_000, &reply(50_000, &[1_000, 49_000])), None);
    }
}
