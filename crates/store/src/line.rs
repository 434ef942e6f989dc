//! The order of a queue: which place a waiting job has, and which jobs are next. How a job moves from state to state is
//! in `transition.rs`.
//!
//! Within a queue and a priority this is start-time fair queueing (Goyal, Vin, Cheng 1996) with jobs of one size: the
//! queue's clock is the rank of the job that was leased last; a new job's rank is the clock, or one more than the rank
//! of the last job of its owner that waits. So every owner has one job at the head at a time, whatever waits behind it,
//! and who had nothing waiting pays nothing for that.
//!
//! Jobs that require different things of their worker wait in different lanes, so that one that nobody may take stands
//! in nobody's way. A lane that was not served while the clock went on lags behind it: a new job's rank is then that of
//! the lane's first, and a worker that serves the lane takes turns between it and those that don't lag, instead of
//! making all others wait until it has caught up.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, hash_map::Entry},
};

use airunner_core::{
    Error, Job, JobId, JobSpec, JobState, Label, Labels, LeaseRequest, QueueName, QueueOrder, Result,
    Timestamp, holds_all,
};

use crate::rows::Rows;

/// Lanes of a queue at most. Each is looked at on its own when a worker asks for jobs.
pub const MAX_LANES: usize = 32;

/// Jobs whose time has come that one lease brings into line at most.
const RELEASED: usize = 48;

/// Bits of a rank: at 100,000 jobs a second they last for 89 years.
const RANK_BITS: u32 = 48;

/// From here on places are those of jobs that may not be taken yet.
const DELAYED: i64 = 1 << 62;

/// Jobs that wait together: they require the same of their worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The queue.
    pub queue: QueueName,
    /// What is required.
    pub requires: Labels,
}

impl Lane {
    /// Where the job waits.
    pub fn of(job: &Job) -> Self {
        Self { queue: job.queue.clone(), requires: job.spec.requires.clone() }
    }
}

/// Where a waiting job stands in its lane, from the first to the last: by priority and rank; behind all those, what may
/// not be taken yet, by its time. None where it doesn't wait.
pub fn place(job: &Job) -> Option<i64> {
    (job.state == JobState::Scheduled).then(|| match job.rank {
        Some(rank) => in_line(job.spec.priority, rank),
        None => delayed(job.visible_at),
    })
}

/// The place of a job that may be taken.
pub fn in_line(priority: i32, rank: u64) -> i64 {
    let (lowest, highest) = JobSpec::PRIORITIES.into_inner();
    let class = i64::from(highest) - i64::from(priority.clamp(lowest, highest));
    let rank = rank.min((1 << RANK_BITS) - 1);
    (class << RANK_BITS) | i64::try_from(rank).unwrap_or(0)
}

/// The place of a job that may be taken at `at`.
pub fn delayed(at: Timestamp) -> i64 {
    DELAYED.saturating_add(at.as_millis().max(0))
}

/// When the job at this place may be taken, if not yet.
pub fn due_at(place: i64) -> Option<Timestamp> {
    place.checked_sub(DELAYED).filter(|at| *at >= 0).map(Timestamp::from_millis)
}

/// The last place of a job that may be taken.
pub const LAST_IN_LINE: i64 = DELAYED - 1;

/// The rank within a place in line.
pub fn rank_of(place: i64) -> u64 {
    u64::try_from(place & ((1 << RANK_BITS) - 1)).unwrap_or(0)
}

fn is_of(place: i64, priority: i32) -> bool {
    place >> RANK_BITS == in_line(priority, 0) >> RANK_BITS
}

/// Gives jobs their ranks as they come into line, in one transaction.
#[derive(Default)]
pub(crate) struct Ranks {
    /// What a job of an owner that has none waiting gets, by lane and priority.
    first: HashMap<(Lane, i32), u64>,
    /// By lane, priority and owner (folded).
    last: HashMap<(Lane, i32, String), u64>,
}

impl Ranks {
    /// The job as it waits from `now` on: in line, at the end of what its owner has there; or apart until its time.
    pub(crate) fn join(&mut self, rows: &dyn Rows, job: &mut Job, now: Timestamp) -> Result<()> {
        job.rank = None;
        if job.visible_at > now {
            return Ok(());
        }
        let (lane, priority) = (Lane::of(job), job.spec.priority);
        let first = self.first(rows, &lane, priority)?;
        let turn = (lane, priority, job.owner.folded());
        let last = match self.last.get(&turn) {
            Some(known) => Some(*known),
            None => rows.last_rank(&turn.0, priority, &job.owner)?,
        };
        let rank = last.map_or(first, |last| first.max(last + 1));
        self.last.insert(turn, rank);
        job.rank = Some(rank);
        Ok(())
    }

    fn first(&mut self, rows: &dyn Rows, lane: &Lane, priority: i32) -> Result<u64> {
        let key = (lane.clone(), priority);
        if let Some(known) = self.first.get(&key) {
            return Ok(*known);
        }
        let clock = rows.queue_clock(&lane.queue, priority)?;
        // What requires nothing is served by every worker of the queue, and never lags.
        let head =
            if lane.requires.is_empty() { None } else { rows.first_place(lane, in_line(priority, 0))? };
        let head = head.filter(|place| is_of(*place, priority)).map(rank_of);
        let first = head.map_or(clock, |head| clock.min(head));
        self.first.insert(key, first);
        Ok(first)
    }
}

/// The job as it waits for another attempt: at the place that it had where it kept its rank, else as a new one does.
pub(crate) fn come_back(rows: &mut dyn Rows, job: &mut Job, now: Timestamp) -> Result<()> {
    if !job.spec.requires.is_empty() {
        rows.open_lane(&Lane::of(job), now)?;
    }
    if job.rank.is_none() { Ranks::default().join(rows, job, now) } else { Ok(()) }
}

/// Opens the lanes that the jobs are to wait in.
pub(crate) fn open_lanes(rows: &mut dyn Rows, jobs: &[Job], now: Timestamp) -> Result<()> {
    let wanted: BTreeSet<Lane> = jobs.iter().map(Lane::of).filter(|lane| !lane.requires.is_empty()).collect();
    let mut known: HashMap<QueueName, HashSet<Labels>> = HashMap::new();
    for lane in &wanted {
        let lanes = match known.entry(lane.queue.clone()) {
            Entry::Occupied(lanes) => lanes.into_mut(),
            Entry::Vacant(place) => {
                let lanes = rows.lanes(&lane.queue)?.into_iter();
                place.insert(lanes.filter(|requires| !requires.is_empty()).collect())
            }
        };
        if !lanes.contains(&lane.requires) {
            check_lanes(rows, lane, lanes, &wanted)?;
            lanes.insert(lane.requires.clone());
        }
    }
    wanted.iter().try_for_each(|lane| rows.open_lane(lane, now))
}

/// Refuses one lane more where there are as many as may be.
fn check_lanes(rows: &dyn Rows, new: &Lane, lanes: &HashSet<Labels>, wanted: &BTreeSet<Lane>) -> Result<()> {
    let queue = &new.queue;
    if lanes.len() < MAX_LANES {
        return Ok(());
    }
    let mut held = 0;
    for requires in lanes {
        let lane = Lane { queue: queue.clone(), requires: requires.clone() };
        held += usize::from(wanted.contains(&lane) || rows.first_place(&lane, 0)?.is_some());
    }
    if held < MAX_LANES && lanes.len() < 4 * MAX_LANES {
        return Ok(());
    }
    Err(Error::new(
        Label::LimitReached,
        format!(
            "jobs that wait in the queue {queue} differ in what they require as much as they may, in {MAX_LANES} ways: \
             require what others do, wait until workers have taken some, or use another queue"
        ),
    )
    .with_field("requires"))
}

/// The jobs that the request is to get, in the order in which they are given, as they wait.
pub(crate) fn next_jobs(rows: &mut dyn Rows, request: &LeaseRequest) -> Result<Vec<Job>> {
    let max = request.max as usize;
    let mut names = request.queues.clone();
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let rounds = request.turn / names.len().max(1);
    let mut room = RELEASED;
    let mut jobs = Vec::new();
    match request.order {
        QueueOrder::Strict => {
            for name in &names {
                let left = max - jobs.len();
                let mut queue = Queue::open(rows, name, request, (left, request.turn), &mut room)?;
                while jobs.len() < max
                    && let Some(job) = queue.pop(rows)?
                {
                    jobs.push(job);
                }
                if jobs.len() == max {
                    break;
                }
            }
        }
        QueueOrder::InTurn => {
            let count = names.len().max(1);
            names.rotate_left(request.turn % count);
            let share = max.div_ceil(count);
            let open = |name| Queue::open(rows, name, request, (share, rounds), &mut room);
            let mut queues: VecDeque<_> = names.iter().map(open).collect::<Result<_>>()?;
            while jobs.len() < max
                && let Some(mut queue) = queues.pop_front()
            {
                if let Some(job) = queue.pop(rows)? {
                    jobs.push(job);
                    queues.push_back(queue);
                }
            }
        }
    }
    Ok(jobs)
}

/// Sets the clocks of the queues that these jobs were taken from.
pub(crate) fn advance_clocks(rows: &mut dyn Rows, jobs: &[Job], now: Timestamp) -> Result<()> {
    let mut clocks: BTreeMap<(&QueueName, i32), u64> = BTreeMap::new();
    for job in jobs {
        let clock = clocks.entry((&job.queue, job.spec.priority)).or_default();
        *clock = job.rank.unwrap_or(0).max(*clock);
    }
    clocks.into_iter().try_for_each(|((queue, priority), rank)| {
        if rank == 0 { Ok(()) } else { rows.advance_clock(queue, priority, rank, now) }
    })
}

/// A queue as one worker sees it.
struct Queue {
    name: QueueName,
    lanes: Vec<Waiting>,
    taken: HashSet<JobId>,
    clocks: HashMap<i32, u64>,
    turn: usize,
}

/// What waits in one lane, as far as it was read.
struct Waiting {
    lane: Lane,
    /// What this transaction has brought into line: its rows need not show what it has written itself.
    released: VecDeque<Job>,
    ready: VecDeque<Job>,
    read: usize,
    step: usize,
    is_over: bool,
}

impl Queue {
    /// `share` is how many jobs it is expected to give, `turn` which of its lanes is the next to be served, and `room` how
    /// many jobs may still be brought into line.
    fn open(
        rows: &mut dyn Rows,
        name: &QueueName,
        request: &LeaseRequest,
        (share, turn): (usize, usize),
        room: &mut usize,
    ) -> Result<Self> {
        let mut requirements = rows.lanes(name)?;
        requirements.retain(|requires| holds_all(&request.labels, requires));
        let step = share.div_ceil(requirements.len().max(1)).max(1);
        let mut lanes = Vec::with_capacity(requirements.len());
        for requires in requirements {
            let lane = Lane { queue: name.clone(), requires };
            let released: VecDeque<_> = release(rows, &lane, request.now, *room)?.into();
            *room -= released.len().min(*room);
            lanes.push(Waiting { lane, released, ready: VecDeque::new(), read: 0, step, is_over: false });
        }
        Ok(Self { name: name.clone(), lanes, taken: HashSet::new(), clocks: HashMap::new(), turn })
    }

    /// The next job, over all lanes.
    fn pop(&mut self, rows: &dyn Rows) -> Result<Option<Job>> {
        for waiting in &mut self.lanes {
            waiting.fill(rows, &self.taken)?;
        }
        let Some(at) = self.choose(rows)? else { return Ok(None) };
        let job = self.lanes[at].pop();
        if let Some(job) = &job {
            self.taken.insert(job.id);
            if let (Some(clock), Some(rank)) = (self.clocks.get_mut(&job.spec.priority), job.rank) {
                *clock = rank.max(*clock);
            }
        }
        Ok(job)
    }

    /// The lane that is next: the one whose first job has the first place, in turn with those that lag behind.
    fn choose(&mut self, rows: &dyn Rows) -> Result<Option<usize>> {
        let heads = self.lanes.iter().enumerate();
        let heads: Vec<(usize, &Job)> =
            heads.filter_map(|(at, waiting)| Some((at, waiting.first()?))).collect();
        let Some(priority) = heads.iter().map(|(_, job)| job.spec.priority).max() else { return Ok(None) };
        if heads.len() == 1 {
            return Ok(Some(heads[0].0));
        }
        let clock = match self.clocks.get(&priority) {
            Some(known) => *known,
            None => *self.clocks.entry(priority).or_insert(rows.queue_clock(&self.name, priority)?),
        };
        let heads = heads.into_iter().filter(|(_, job)| job.spec.priority == priority);
        let (lagging, abreast): (Vec<_>, Vec<_>) = heads.partition(|(_, job)| job.rank < Some(clock));
        let first = abreast.into_iter().max_by_key(|(_, job)| Reverse(order(job)));
        let served: Vec<usize> = lagging.iter().chain(first.iter()).map(|(at, _)| *at).collect();
        self.turn = self.turn.wrapping_add(1);
        Ok(served.get(self.turn % served.len().max(1)).copied())
    }
}

/// What decides among jobs that wait in different lanes.
fn order(job: &Job) -> (Option<i64>, Timestamp, JobId) {
    (place(job), job.created_at, job.id)
}

impl Waiting {
    /// Reads on until the lane's next job is known.
    fn fill(&mut self, rows: &dyn Rows, taken: &HashSet<JobId>) -> Result<()> {
        for known in [&mut self.released, &mut self.ready] {
            while known.front().is_some_and(|job| taken.contains(&job.id)) {
                known.pop_front();
            }
        }
        while self.ready.is_empty() && !self.is_over {
            let wanted = self.read + self.step;
            let found = rows.waiting_jobs(&self.lane, u32::try_from(wanted).unwrap_or(u32::MAX))?;
            self.is_over = found.len() < wanted;
            self.ready.extend(found.into_iter().skip(self.read).filter(|job| !taken.contains(&job.id)));
            self.read = wanted;
        }
        Ok(())
    }

    fn first(&self) -> Option<&Job> {
        let heads = [self.released.front(), self.ready.front()];
        heads.into_iter().flatten().min_by_key(|job| order(job))
    }

    fn pop(&mut self) -> Option<Job> {
        let is_released = match (self.released.front(), self.ready.front()) {
            (Some(released), Some(ready)) => order(released) <= order(ready),
            (released, _) => released.is_some(),
        };
        if is_released { self.released.pop_front() } else { self.ready.pop_front() }
    }
}

/// Brings jobs whose time has come into line; they come in the order of their places.
fn release(rows: &mut dyn Rows, lane: &Lane, now: Timestamp, most: usize) -> Result<Vec<Job>> {
    if most == 0 {
        return Ok(Vec::new());
    }
    let mut jobs = rows.due_jobs(lane, now, u32::try_from(most).unwrap_or(u32::MAX))?;
    let mut ranks = Ranks::default();
    for job in &mut jobs {
        ranks.join(rows, job, now)?;
        rows.update_job(job)?;
    }
    jobs.sort_by_key(place);
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use airunner_testkit::{
        clock::FakeClock,
        random::SeededRandom,
        records::{self, JobExt as _},
    };

    use super::*;

    #[test]
    fn places_run_by_priority_then_by_rank_and_end_with_what_is_delayed() {
        let of = |priority, rank| {
            let job = records::job("alice", FakeClock::START, &SeededRandom::new(1));
            place(&Job { rank, ..job.with(|spec| spec.priority = priority) }).unwrap()
        };
        let last = u64::MAX;
        let places =
            [of(100, Some(0)), of(100, Some(last)), of(0, Some(0)), of(0, Some(7)), of(-100, Some(last))];
        assert!(places.is_sorted(), "{places:?}");
        assert!(places[4] <= LAST_IN_LINE && of(100, None) > LAST_IN_LINE);
        assert_eq!((rank_of(places[3]), due_at(places[3])), (7, None));
        assert_eq!(due_at(of(0, None)), Some(FakeClock::START));
    }
}
