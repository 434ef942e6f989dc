//! Rows of jobs, and of what makes one the only one of its kind. Their input and their events are in `job_parts.rs`.

use airunner_core::{
    InputWriter, Intent, Job, JobControl, JobFilter, JobId, JobInput, JobState, Labels, Lease, PrincipalId,
    QueueName, Result, Timestamp,
};
use airunner_store::backend::{
    Alike, InputWritten, JobRows, LAST_IN_LINE, Lane, Place, Visit, alike, control, delayed, in_line, place,
    rank_of,
};
use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};

use super::{
    DynamoRows,
    item::{Fields, Item, Row},
    key::{JOB_SHARDS, RowKey, shard},
    link::number_at,
    listing::{Bounds, Listing, at_one_time, numbered, timed},
    transaction::Rely,
};
use crate::tables::{JOB_UNIQUE, JOBS};

/// Jobs of one shard and state that are counted at most: counting more would cost more than the number is worth.
const COUNTED: i32 = 1_000;

pub(super) fn read(item: &Item) -> Result<Job> {
    let row = Row(item);
    let holder: Option<PrincipalId> = row.word_or_none("holder_id")?;
    let deadline = row.time_or_none("deadline")?;
    let worker = row.word_or_none("worker")?;
    Ok(Job {
        id: row.word("job_id")?,
        queue: row.word("queue")?,
        owner: row.word("owner_id")?,
        spec: row.json("spec")?,
        state: row.word("state")?,
        attempt: row.number("attempt")?,
        handed_back: row.number("handed_back")?,
        lease: holder.zip(deadline).map(|(holder, deadline)| Lease { holder, worker, deadline }),
        process_id: row.number_or_none("process_id")?,
        exit: row.json_or_none("exit")?,
        reason: row.text_or_empty("reason")?,
        usage: row.json_or_none("usage")?,
        cancellation: row.json_or_none("cancellation")?,
        certificates: row.json_or_none("certificates")?.unwrap_or_default(),
        created_at: row.time("created_at")?,
        visible_at: row.time("visible_at")?,
        started_at: row.time_or_none("started_at")?,
        rank: row.number_or_none("rank")?,
        finished_at: row.time_or_none("finished_at")?,
    })
}

fn write(job: &Job, number: i64, ttl: Option<i64>) -> Result<Item> {
    let shard = shard_of(&job.id);
    let lease = job.lease.as_ref();
    let mut fields = Fields::default()
        .word("queue", &job.queue)
        .text("owner", job.owner.folded())
        .word("owner_id", &job.owner)
        .word("state", job.state)
        .number("attempt", job.attempt)
        .number("handed_back", job.handed_back)
        .word_or_none("holder", lease.map(|lease| lease.holder.folded()))
        .word_or_none("holder_id", lease.map(|lease| &lease.holder))
        .word_or_none("worker", lease.and_then(|lease| lease.worker))
        .time_or_none("deadline", lease.map(|lease| lease.deadline))
        .number_or_none("process_id", job.process_id)
        .json_or_none("exit", job.exit.as_ref())?
        .text("reason", &job.reason)
        .json_or_none("usage", job.usage.as_ref())?
        .json_or_none("cancellation", job.cancellation.as_ref())?
        .json_or_none("certificates", Some(&job.certificates).filter(|some| !some.is_empty()))?
        .time("created_at", job.created_at)
        .time("visible_at", job.visible_at)
        .number_or_none("rank", job.rank)
        .time_or_none("started_at", job.started_at)
        .time_or_none("finished_at", job.finished_at)
        .json("spec", &job.spec)?
        .number("number", number)
        .word("created_shard", shard)
        .text("state_shard", format!("{}#{shard}", job.state));
    if let Some(place) = place(job) {
        let lane = Lane::of(job);
        fields = fields
            .text("due_shard", waiting(&lane, shard))
            .number("due_at", place)
            .text("turn", turn(&lane, &job.owner));
    }
    if let Some(lease) = lease {
        fields = fields.text("due_shard", running(shard)).time("due_at", lease.deadline);
    }
    if !job.state.has_ended() {
        fields = fields.text("alike_shard", format!("{}#{shard}", likeness(job)));
    }
    Ok(fields.number_or_none("ttl", ttl).done())
}

fn shard_of(id: &JobId) -> u8 {
    shard(id.as_bytes(), JOB_SHARDS)
}

fn waiting(lane: &Lane, shard: u8) -> String {
    format!("waiting#{}#{shard}", name(lane))
}

/// Where an owner's jobs wait in a lane, over all shards.
fn turn(lane: &Lane, owner: &PrincipalId) -> String {
    format!("{}#{}", name(lane), owner.folded())
}

/// A lane in a key, which has no room for all that it may require.
fn name(lane: &Lane) -> String {
    let Lane { queue, requires } = lane;
    let mut digest = Context::new(&SHA256);
    for (name, value) in requires {
        for text in [name, value] {
            digest.update(&text.len().to_be_bytes());
            digest.update(text.as_bytes());
        }
    }
    if requires.is_empty() {
        return format!("{queue}#");
    }
    format!("{queue}#{}", HEXLOWER.encode(&digest.finish().as_ref()[..16]))
}

fn running(shard: u8) -> String {
    format!("running#{shard}")
}

fn likeness(job: &Job) -> String {
    HEXLOWER.encode(&alike(job))
}

fn due(partition: impl Fn(u8) -> String, bounds: Bounds) -> Listing<Place> {
    Listing {
        table: &JOBS,
        index: Some("by_due"),
        partitions: (0..JOB_SHARDS).map(partition).collect(),
        bounds,
        descending: false,
        place: |item| timed(item, "due_at"),
        is_tie: at_one_time,
    }
}

fn listed(index: &'static str, partitions: Vec<String>, after: Option<Place>) -> Listing<Place> {
    Listing {
        table: &JOBS,
        index: Some(index),
        partitions,
        bounds: after.map(|after| Bounds::to(after.number)).unwrap_or_default(),
        descending: true,
        place: numbered,
        is_tie: at_one_time,
    }
}

fn of_state(state: JobState) -> Vec<String> {
    (0..JOB_SHARDS).map(|shard| format!("{state}#{shard}")).collect()
}

fn ended() -> impl Iterator<Item = JobState> {
    JobState::ALL.iter().copied().filter(|state| state.has_ended())
}

impl DynamoRows {
    fn job_row(&self, id: &JobId, rely: Rely) -> Result<Option<Item>> {
        self.tx.get(RowKey::of(&JOBS, &id.to_string()), rely)
    }

    fn jobs_where(
        &self,
        listing: &Listing<Place>,
        limit: u32,
        wanted: impl Fn(&Job) -> bool,
    ) -> Result<Vec<Job>> {
        let found = self.tx.first(listing, limit as usize, |item| Ok(wanted(&read(item)?)))?;
        found.iter().map(read).collect()
    }

    /// The first jobs of a lane. Others take them too: whoever met them takes some of the first that are left, and not
    /// the very first again.
    fn some_first(
        &self,
        listing: &Listing<Place>,
        limit: u32,
        wanted: impl Fn(&Job) -> bool,
    ) -> Result<Vec<Job>> {
        if self.tx.attempt == 0 {
            return self.jobs_where(listing, limit, wanted);
        }
        let mut some = self.jobs_where(listing, limit.saturating_mul(4), wanted)?;
        let skip = usize::from(self.tx.link.random.array::<1>()[0]);
        let spare = some.len().saturating_sub(limit as usize);
        some.drain(..if spare == 0 { 0 } else { skip % (spare + 1) });
        some.truncate(limit as usize);
        Ok(some)
    }
}

/// Whether the job waits in this lane.
fn is_in(lane: &Lane, job: &Job) -> bool {
    job.state == JobState::Scheduled && job.queue == lane.queue && job.spec.requires == lane.requires
}

impl JobRows for DynamoRows {
    fn job(&self, id: &JobId) -> Result<Option<Job>> {
        self.job_row(id, Rely::Yes)?.map(|item| read(&item)).transpose()
    }

    fn job_control(&self, id: &JobId) -> Result<Option<JobControl>> {
        // An id is drawn at random: whether it is taken is looked at only where the commit met it.
        if self.tx.is(Intent::EnqueueJobs) && self.tx.attempt == 0 {
            return Ok(None);
        }
        Ok(self.job(id)?.as_ref().map(control))
    }

    fn scan_jobs(
        &self,
        filter: &JobFilter,
        after: Option<Place>,
        visit: Visit<'_, (Place, Job)>,
    ) -> Result<()> {
        let state = filter.state.filter(|state| !state.has_ended() || filter.owner.is_none());
        let (index, partitions) = match (&filter.holder, state, &filter.owner) {
            (Some(holder), ..) => ("by_holder", vec![holder.folded()]),
            (None, Some(state), _) => ("by_state", of_state(state)),
            (None, None, Some(owner)) => ("by_owner", vec![owner.folded()]),
            (None, None, None) => ("by_creation", (0..JOB_SHARDS).map(|shard| shard.to_string()).collect()),
        };
        self.tx.visit(&listed(index, partitions, after), &mut |place, item| {
            if after.is_some_and(|after| place >= after) { Ok(true) } else { visit((place, read(&item)?)) }
        })
    }

    fn lanes(&self, queue: &QueueName) -> Result<Vec<Labels>> {
        self.known_lanes(queue)
    }

    fn open_lane(&mut self, lane: &Lane, now: Timestamp) -> Result<()> {
        self.use_lane(lane, now)
    }

    fn waiting_jobs(&self, lane: &Lane, limit: u32) -> Result<Vec<Job>> {
        let waits = |job: &Job| job.rank.is_some() && is_in(lane, job);
        let listing = due(|shard| waiting(lane, shard), Bounds::to(LAST_IN_LINE));
        self.some_first(&listing, limit, waits)
    }

    fn due_jobs(&self, lane: &Lane, now: Timestamp, limit: u32) -> Result<Vec<Job>> {
        if !self.has_due(lane, now)? {
            return Ok(Vec::new());
        }
        let waits = |job: &Job| job.rank.is_none() && job.visible_at <= now && is_in(lane, job);
        let bounds = Bounds::between(LAST_IN_LINE + 1, delayed(now));
        self.some_first(&due(|shard| waiting(lane, shard), bounds), limit, waits)
    }

    fn first_place(&self, lane: &Lane, from: i64) -> Result<Option<i64>> {
        let first = self.tx.peek(&due(|shard| waiting(lane, shard), Bounds::from(from)))?;
        first.map(|item| Row(&item).number("due_at")).transpose()
    }

    fn last_rank(&self, lane: &Lane, priority: i32, owner: &PrincipalId) -> Result<Option<u64>> {
        let listing = Listing {
            table: &JOBS,
            index: Some("by_turn"),
            partitions: vec![turn(lane, owner)],
            bounds: Bounds::between(in_line(priority, 0), in_line(priority, u64::MAX)),
            descending: true,
            place: |item| Row(item).number::<i64>("due_at"),
            is_tie: |_, _| false,
        };
        let last = self.tx.peek(&listing)?;
        last.map(|item| Row(&item).number("due_at").map(rank_of)).transpose()
    }

    fn queue_clock(&self, queue: &QueueName, priority: i32) -> Result<u64> {
        self.clock_of(queue, priority)
    }

    fn advance_clock(&mut self, queue: &QueueName, priority: i32, rank: u64, now: Timestamp) -> Result<()> {
        self.note_clock(queue, priority, rank, now)
    }

    fn lapsed_jobs(&self, before: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let lapsed = |job: &Job| {
            job.state == JobState::Running && job.lease.as_ref().is_some_and(|lease| lease.deadline < before)
        };
        self.jobs_where(&due(running, Bounds::to(before.as_millis())), limit, lapsed)
    }

    /// In order of their coming: who came before `before` and has ended is over but for what ran across it.
    fn over_jobs(&self, before: Timestamp, limit: u32) -> Result<Vec<JobId>> {
        let listing = Listing {
            bounds: Bounds::to(number_at(before)),
            descending: false,
            ..listed("by_state", ended().flat_map(of_state).collect(), None)
        };
        let over = |job: &Job| job.finished_at.is_some_and(|at| at < before);
        Ok(self.jobs_where(&listing, limit, over)?.iter().map(|job| job.id).collect())
    }

    fn delete_job(&mut self, id: &JobId) -> Result<()> {
        self.delete_parts(id)?;
        self.tx.delete(RowKey::of(&JOBS, &id.to_string()));
        Ok(())
    }

    fn held_jobs(&self, holder: &PrincipalId, limit: u32) -> Result<Vec<Job>> {
        let folded = holder.folded();
        let held = |job: &Job| job.lease.as_ref().is_some_and(|lease| lease.holder.folded() == folded);
        self.jobs_where(&listed("by_holder", vec![folded.clone()], None), limit, held)
    }

    /// For a job that wants to be the only one both are looked for; for another only whether one does.
    fn jobs_alike(&self, job: &Job) -> Result<Alike> {
        let alike = likeness(job);
        let rely = if job.spec.unique { Rely::Yes } else { Rely::No };
        let unique = self.tx.get(RowKey::of(&JOB_UNIQUE, &alike), rely)?.is_some();
        if unique || !job.spec.unique {
            return Ok(Alike { any: unique, unique });
        }
        let partitions = (0..JOB_SHARDS).map(|shard| format!("{alike}#{shard}")).collect();
        let live = |job: &Job| !job.state.has_ended();
        let any = !self.jobs_where(&listed("by_likeness", partitions, None), 1, live)?.is_empty();
        Ok(Alike { any, unique })
    }

    fn count_jobs(&self) -> Result<Vec<(JobState, u64)>> {
        let counted = |state: &JobState| {
            Ok((*state, self.tx.count(&listed("by_state", of_state(*state), None), COUNTED)?))
        };
        JobState::ALL.iter().map(counted).collect()
    }

    fn input_written(&self, id: &JobId) -> Result<InputWritten> {
        self.read_input_written(id)
    }

    fn inputs_after(&self, id: &JobId, after: u64, limit: u32) -> Result<Vec<JobInput>> {
        self.read_inputs(id, after, limit)
    }

    fn insert_input(&mut self, id: &JobId, input: &JobInput, writer: Option<InputWriter>) -> Result<()> {
        self.write_input(id, input, writer)
    }

    fn delete_inputs(&mut self, id: &JobId) -> Result<()> {
        self.forget_inputs(id)
    }

    fn insert_job(&mut self, job: &Job) -> Result<()> {
        let number = self.tx.number(job.created_at);
        if job.state == JobState::Scheduled && job.rank.is_none() {
            self.delays(&Lane::of(job));
        }
        self.tx.put(RowKey::of(&JOBS, &job.id.to_string()), write(job, number, None)?);
        if job.spec.unique {
            let item = Fields::default().word("job_id", job.id).done();
            self.tx.put(RowKey::of(&JOB_UNIQUE, &likeness(job)), item);
        }
        Ok(())
    }

    fn update_job(&mut self, job: &Job) -> Result<()> {
        let Some(before) = self.job_row(&job.id, Rely::Yes)? else { return Ok(()) };
        let number = Row(&before).number("number")?;
        if job.state == JobState::Scheduled && job.rank.is_none() {
            self.delays(&Lane::of(job));
        }
        self.put_off_parts(&before, job)?;
        let ttl = job.finished_at.map(|at| self.ttl_of_job(at));
        self.tx.put(RowKey::of(&JOBS, &job.id.to_string()), write(job, number, ttl)?);
        if job.spec.unique && job.state.has_ended() {
            self.tx.delete(RowKey::of(&JOB_UNIQUE, &likeness(job)));
        }
        Ok(())
    }
}
