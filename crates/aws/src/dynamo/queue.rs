//! What is kept of a queue as a whole: which lanes its jobs wait in, and how far its ranks have come. Each server keeps a
//! copy for a second, and writes how far it has come once a second: a row that each lease wrote, or read, would be a hot
//! one. Which jobs wait is in `job.rs`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use airunner_core::{Labels, QueueName, Result, Timestamp};
use airunner_store::backend::{JobRows, LAST_IN_LINE, Lane, MAX_LANES, due_at};
use serde::{Deserialize, Serialize};

use super::{
    DynamoRows,
    circuit::now,
    item::{Fields, Item, Row},
    key::{RowKey, ttl},
    transaction::Rely,
};
use crate::tables::QUEUES;

/// How long a server goes by its copy of the row, and how seldom the row is written.
const FRESH: Duration = Duration::from_secs(1);

/// How exactly it is written when a lane was last waited in.
const NOTED: Duration = Duration::from_mins(1);

/// After this long without a job that came to it, an empty lane is forgotten where room is short. Indexes are behind by
/// far less.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// How long a lane that had no job whose time has come is taken to have none, but for those that are known.
const LOOK: Duration = Duration::from_millis(250);

/// Queues and lanes of which this process keeps something at most.
const KEPT: usize = 10_000;

/// A queue's row.
#[derive(Clone, Debug, Default)]
struct QueueRow {
    lanes: Vec<KnownLane>,
    clocks: BTreeMap<i32, u64>,
    written_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KnownLane {
    requires: Labels,
    used_at: Timestamp,
}

fn read(item: &Item) -> Result<QueueRow> {
    let row = Row(item);
    let clocks: Option<BTreeMap<i32, u64>> = row.json_or_none("clocks")?;
    Ok(QueueRow {
        lanes: row.json_or_none("lanes")?.unwrap_or_default(),
        clocks: clocks.unwrap_or_default(),
        written_at: row.time("written_at")?,
    })
}

/// What this process knows of queues without asking.
#[derive(Default)]
pub(super) struct Queues(Mutex<Known>);

#[derive(Default)]
struct Known {
    copies: HashMap<QueueName, Copy>,
    /// When a lane was last found without jobs whose time has come, and when that of the next of them comes.
    looked: HashMap<Lane, (Instant, Option<Timestamp>)>,
}

/// A copy of a row. Its clocks are those of what this process has leased, where that is further.
struct Copy {
    row: QueueRow,
    read_at: Option<Instant>,
}

impl Queues {
    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The copy, while it is fresh.
    fn fresh(&self, queue: &QueueName) -> Option<QueueRow> {
        self.with(|known| {
            let copy = known.copies.get(queue)?;
            copy.read_at.filter(|at| at.elapsed() < FRESH).map(|_| copy.row.clone())
        })
    }

    /// Keeps what was read; what is then known.
    fn keep(&self, queue: &QueueName, mut row: QueueRow) -> QueueRow {
        self.with(|known| {
            if known.copies.len() >= KEPT {
                known.copies.clear();
            }
            if let Some(copy) = known.copies.get(queue) {
                for (priority, clock) in &copy.row.clocks {
                    row.advance(*priority, *clock);
                }
            }
            let copy = Copy { row: row.clone(), read_at: Some(now()) };
            known.copies.insert(queue.clone(), copy);
            row
        })
    }

    /// Notes that the row is about to be another.
    fn outdate(&self, queue: &QueueName) {
        self.with(|known| {
            if let Some(copy) = known.copies.get_mut(queue) {
                copy.read_at = None;
            }
        });
    }

    fn advance(&self, queue: &QueueName, priority: i32, rank: u64) {
        self.with(|known| {
            if let Some(copy) = known.copies.get_mut(queue) {
                copy.row.advance(priority, rank);
            }
        });
    }

    /// Whether it is known that the time of none of the lane's delayed jobs has come.
    fn has_none_due(&self, lane: &Lane, now: Timestamp) -> bool {
        self.with(|known| {
            let found = known.looked.get(lane);
            found.is_some_and(|(at, next)| at.elapsed() < LOOK && next.is_none_or(|next| next > now))
        })
    }

    fn note_due(&self, lane: &Lane, next: Option<Timestamp>) {
        self.with(|known| {
            if known.looked.len() >= KEPT {
                known.looked.clear();
            }
            known.looked.insert(lane.clone(), (now(), next));
        });
    }

    fn forget_due(&self, lane: &Lane) {
        self.with(|known| known.looked.remove(lane));
    }
}

impl QueueRow {
    fn advance(&mut self, priority: i32, rank: u64) {
        let clock = self.clocks.entry(priority).or_default();
        *clock = rank.max(*clock);
    }
}

impl DynamoRows {
    pub(super) fn known_lanes(&self, queue: &QueueName) -> Result<Vec<Labels>> {
        let row = self.queue_row(queue)?;
        let lanes = row.lanes.into_iter().map(|lane| lane.requires);
        Ok([Labels::new()].into_iter().chain(lanes).collect())
    }

    pub(super) fn clock_of(&self, queue: &QueueName, priority: i32) -> Result<u64> {
        Ok(self.queue_row(queue)?.clocks.get(&priority).copied().unwrap_or(0))
    }

    /// Whether the time of a delayed job of the lane has come. An empty answer is gone by for a quarter of a second; what
    /// this process delays meanwhile it knows of.
    pub(super) fn has_due(&self, lane: &Lane, now: Timestamp) -> Result<bool> {
        let queues = &self.tx.link.queues;
        if queues.has_none_due(lane, now) {
            return Ok(false);
        }
        let next = self.first_place(lane, LAST_IN_LINE + 1)?.and_then(due_at);
        let has_due = next.is_some_and(|next| next <= now);
        if !has_due {
            queues.note_due(lane, next);
        }
        Ok(has_due)
    }

    /// Notes that a job of the lane is about to be delayed.
    pub(super) fn delays(&self, lane: &Lane) {
        self.tx.link.queues.forget_due(lane);
    }

    /// Notes that the lane is used, which is written to the minute.
    pub(super) fn use_lane(&mut self, lane: &Lane, now: Timestamp) -> Result<()> {
        let is_noted = |row: &QueueRow| {
            let mut lanes = row.lanes.iter();
            lanes.any(|known| known.requires == lane.requires && now.since(known.used_at) < NOTED)
        };
        if is_noted(&self.queue_row(&lane.queue)?) {
            return Ok(());
        }
        let mut row = self.stored(&lane.queue, Rely::Yes)?;
        row.lanes.retain(|known| known.requires != lane.requires);
        if row.lanes.len() >= MAX_LANES {
            self.forget_lanes(&lane.queue, &mut row, now)?;
        }
        row.lanes.push(KnownLane { requires: lane.requires.clone(), used_at: now });
        self.put_queue(&lane.queue, &row, now)
    }

    /// Notes how far the queue's ranks have come, which is written to the second.
    pub(super) fn note_clock(
        &mut self,
        queue: &QueueName,
        priority: i32,
        rank: u64,
        now: Timestamp,
    ) -> Result<()> {
        self.tx.link.queues.advance(queue, priority, rank);
        let is_written = |row: &QueueRow| now.since(row.written_at) < FRESH;
        if is_written(&self.queue_row(queue)?) {
            return Ok(());
        }
        let mut row = self.stored(queue, Rely::No)?;
        if is_written(&row) {
            return Ok(());
        }
        row.advance(priority, rank);
        self.put_queue(queue, &row, now)
    }

    fn queue_row(&self, queue: &QueueName) -> Result<QueueRow> {
        if let Some(row) = self.tx.link.queues.fresh(queue) {
            return Ok(row);
        }
        let row = self.stored(queue, Rely::No)?;
        Ok(self.tx.link.queues.keep(queue, row))
    }

    fn stored(&self, queue: &QueueName, rely: Rely) -> Result<QueueRow> {
        let item = self.tx.get(RowKey::of(&QUEUES, queue.as_str()), rely)?;
        item.map_or_else(|| Ok(QueueRow::default()), |item| read(&item))
    }

    fn put_queue(&mut self, queue: &QueueName, row: &QueueRow, now: Timestamp) -> Result<()> {
        // A clock may be lost. A lane may not: what waits in it, for however long, would never be found.
        let ttl = row.lanes.is_empty().then(|| ttl(now));
        let fields = Fields::default()
            .json("lanes", &row.lanes)?
            .json("clocks", &row.clocks)?
            .time("written_at", now)
            .number_or_none("ttl", ttl);
        self.tx.put(RowKey::of(&QUEUES, queue.as_str()), fields.done());
        self.tx.link.queues.outdate(queue);
        Ok(())
    }

    /// Drops lanes that nothing came to for a while and that hold nothing.
    fn forget_lanes(&self, queue: &QueueName, row: &mut QueueRow, now: Timestamp) -> Result<()> {
        let mut kept = Vec::new();
        for known in std::mem::take(&mut row.lanes) {
            let lane = Lane { queue: queue.clone(), requires: known.requires.clone() };
            if now.since(known.used_at) < FORGOTTEN || self.first_place(&lane, 0)?.is_some() {
                kept.push(known);
            }
        }
        row.lanes = kept;
        Ok(())
    }
}
