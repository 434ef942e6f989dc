//! The servers of an environment: this one's heartbeat, what the others have applied, whose clock to believe, and
//! whether this server is ready.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use airunner_core::{
    ChangeNumber, Error, HeartbeatReply, Label, Labels, Monotonic, QueueName, Result, ServedQueue, ServerId,
    ServerRow, Timestamp, holds_all,
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
/// How far ahead of others a server may be.
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
    /// Whether it was seen to move at all: a row alone may be of a server that died long ago.
    moved: bool,
}

/// What is known of another server from its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It moved lately.
    Moves,
    /// It was not seen to move, but not watched for long enough either.
    Unknown,
    /// It stands still.
    Still,
}

/// What the others' times say of this server's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    Good,
    /// It is ahead of servers of which it is not known whether they live: nothing may be decided by it yet.
    Unsure,
    /// It is wrong, and how.
    Wrong(String),
}

/// This server among the others.
pub struct Fleet {
    context: Arc<Context>,
    id: ServerId,
    address: String,
    counter: AtomicU64,
    draining: AtomicBool,
    store_full: AtomicBool,
    clock: Mutex<Verdict>,
    ahead_millis: AtomicI64,
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
            clock: Mutex::new(Verdict::Unsure),
            ahead_millis: AtomicI64::new(0),
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
        let reading = self.context.steady.read();
        let now = reading.now;
        let judge = |reply: &HeartbeatReply| {
            self.note(reply);
            reading.leapt_ahead.map_or_else(
                || judge_clock(now, self.id, reply, |row| self.life(row)),
                |ahead| {
                    Verdict::Wrong(format!(
                        "the machine's clock jumped {:.0} s ahead: set it right; if it is right now, and was not before, \
                         restart this server",
                        ahead.as_secs_f64()
                    ))
                },
            )
        };
        // Judged before it is written: a time that is ahead of all others would put all others behind it.
        let before = judge(&self.context.stores.servers.servers().await?);
        let row = self.row(now);
        let reply = self.context.stores.servers.heartbeat(row, before == Verdict::Good).await;
        self.store_full.store(matches!(&reply, Err(error) if error.label() == Label::StoreFull), SeqCst);
        let reply = reply?;
        let verdict = judge(&reply);
        if verdict == Verdict::Good {
            self.context.steady.believe(reading);
        }
        let ahead = reading
            .leapt_ahead
            .map_or_else(|| ahead_of_others(now, self.id, &reply, |row| self.life(row)), millis);
        self.ahead_millis.store(ahead, SeqCst);
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Verdict::Wrong(fault), Verdict::Good | Verdict::Unsure) = (&verdict, &*clock) {
            tracing::error!(fault, "this server is not ready");
        }
        *clock = verdict;
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
        self.context.jobs.wake_lines();
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
        for part in self.context.stores.measures.unanswering() {
            fault(Label::StoreUnavailable, format!("the store's table {part} does not answer"));
        }
        if let Some(message) = self.clock_fault() {
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
        self.clock_fault().map_or(Ok(()), |message| Err(Error::new(Label::ClockSkew, message)))
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

    /// By how many milliseconds this server's clock was ahead at its last heartbeat: of its own steady time where it
    /// jumped, else of those other servers that live (up to a heartbeat of it is the age of what they wrote). Negative
    /// where it was behind the highest time in the store; 0 where there is nothing to compare it with.
    pub fn clock_ahead_millis(&self) -> i64 {
        self.ahead_millis.load(SeqCst)
    }

    /// The last change that is in force here.
    pub fn applied(&self) -> ChangeNumber {
        self.context.status.applied()
    }

    /// Whether any live server has a worker waiting on this queue that has what is required; of another server it may be
    /// believed where that has more kinds of workers than it tells.
    ///
    /// # Errors
    /// `store-unavailable` and the like.
    pub async fn has_worker(&self, queue: &QueueName, requires: &Labels) -> Result<bool> {
        if self.context.jobs.has_taker(queue, requires) {
            return Ok(true);
        }
        let reply = self.context.stores.servers.servers().await?;
        self.note(&reply);
        let serves = |served: &ServedQueue| {
            served.queue == *queue && served.labels.as_ref().is_none_or(|labels| holds_all(labels, requires))
        };
        let mut others = reply.servers.iter().filter(|row| row.id != self.id && self.is_live(row));
        Ok(others.any(|row| row.queues.iter().any(serves)))
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
            queues: self.context.jobs.served_queues(),
            at: now,
        }
    }

    /// Whether something may be ended because its time is over, as this server's clock has it.
    pub(crate) fn is_clock_good(&self) -> bool {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) == Verdict::Good
    }

    fn clock_fault(&self) -> Option<String> {
        match &*self.clock.lock().unwrap_or_else(PoisonError::into_inner) {
            Verdict::Good | Verdict::Unsure => None,
            Verdict::Wrong(fault) => Some(fault.clone()),
        }
    }

    fn note(&self, reply: &HeartbeatReply) {
        let now = self.context.clock.monotonic();
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        sightings.retain(|sighting| reply.servers.iter().any(|row| row.id == sighting.server));
        for row in &reply.servers {
            match sightings.iter_mut().find(|sighting| sighting.server == row.id) {
                Some(sighting) if sighting.counter == row.counter => {}
                Some(sighting) => {
                    (sighting.counter, sighting.at, sighting.moved) = (row.counter, now, true);
                }
                None => {
                    let counter = row.counter;
                    sightings.push(Sighting { server: row.id, counter, at: now, moved: false });
                }
            }
        }
    }

    fn is_live(&self, row: &ServerRow) -> bool {
        self.life(row) != Life::Still
    }

    fn life(&self, row: &ServerRow) -> Life {
        let now = self.context.clock.monotonic();
        let sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        match sightings.iter().find(|sighting| sighting.server == row.id) {
            Some(sighting) if now.since(sighting.at) >= FENCED_AFTER => Life::Still,
            Some(Sighting { moved: true, .. }) => Life::Moves,
            Some(_) | None => Life::Unknown,
        }
    }
}

/// What the others' times say of this server's.
fn judge_clock(
    now: Timestamp,
    own: ServerId,
    reply: &HeartbeatReply,
    life: impl Fn(&ServerRow) -> Life,
) -> Verdict {
    let behind = reply.highest.since(now);
    if behind > MAX_BEHIND {
        return Verdict::Wrong(format!(
            "this machine's clock is {} s behind the newest time in the store: set it right; if it is right, and the \
             store's time is not, set that with `airunner-server db clock-reset`",
            behind.as_secs()
        ));
    }
    let ahead_of = |wanted| ahead_of(now, own, reply, |row| life(row) == wanted);
    match (ahead_of(Life::Moves), ahead_of(Life::Unknown)) {
        (Some(ahead), _) if ahead > MAX_AHEAD => Verdict::Wrong(format!(
            "this machine's clock is {} s ahead of the other servers': set it right",
            ahead.as_secs()
        )),
        (None, Some(ahead)) if ahead > MAX_AHEAD => Verdict::Unsure,
        _ => Verdict::Good,
    }
}

/// How far this server's time is ahead of the nearest of these others', if there is one.
fn ahead_of(
    now: Timestamp,
    own: ServerId,
    reply: &HeartbeatReply,
    is_meant: impl Fn(&ServerRow) -> bool,
) -> Option<Duration> {
    let others = reply.servers.iter().filter(|row| row.id != own && is_meant(row));
    others.map(|row| now.since(row.at)).min()
}

/// See [`Fleet::clock_ahead_millis`].
fn ahead_of_others(
    now: Timestamp,
    own: ServerId,
    reply: &HeartbeatReply,
    life: impl Fn(&ServerRow) -> Life,
) -> i64 {
    let behind = reply.highest.since(now);
    if !behind.is_zero() {
        return -millis(behind);
    }
    ahead_of(now, own, reply, |row| life(row) == Life::Moves).map_or(0, millis)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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
    fn how_far_a_clock_is_ahead_is_told_by_the_highest_time_and_by_those_who_live() {
        let ahead = |now, reply: &HeartbeatReply, life: Life| {
            ahead_of_others(Timestamp::from_millis(now), ServerId::from_bytes([0; 16]), reply, |_| life)
        };
        assert_eq!(ahead(10_000, &reply(10_000, &[]), Life::Moves), 0);
        assert_eq!(ahead(10_000, &reply(12_500, &[9_000]), Life::Moves), -2_500);
        assert_eq!(ahead(10_000, &reply(10_000, &[9_500, 1_000]), Life::Moves), 500);
        assert_eq!(ahead(10_000, &reply(10_000, &[1_000]), Life::Still), 0);
    }

    #[test]
    fn a_clock_is_judged_by_the_highest_time_and_by_the_others() {
        let own = ServerId::from_bytes([0; 16]);
        let judge = |now, reply: &HeartbeatReply, life: Life| {
            judge_clock(Timestamp::from_millis(now), own, reply, |_| life)
        };
        let says = |verdict, word: &str| matches!(verdict, Verdict::Wrong(fault) if fault.contains(word));
        assert_eq!(judge(10_000, &reply(12_000, &[]), Life::Moves), Verdict::Good);
        assert!(says(judge(10_000, &reply(12_001, &[]), Life::Moves), "behind"));
        assert_eq!(judge(40_000, &reply(40_000, &[10_000]), Life::Moves), Verdict::Good);
        assert!(says(judge(40_001, &reply(40_001, &[10_000]), Life::Moves), "ahead"));
        // One other that agrees is enough: it is the third that is behind.
        assert_eq!(judge(50_000, &reply(50_000, &[1_000, 49_000]), Life::Moves), Verdict::Good);
        // A row that was only just found may be of a server that lives, or of one that died long ago.
        assert_eq!(judge(40_001, &reply(40_001, &[10_000]), Life::Unknown), Verdict::Unsure);
        assert_eq!(judge(40_001, &reply(40_001, &[10_000]), Life::Still), Verdict::Good);
    }
}
