//! Jobs and their events in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, RangeInclusive},
};

use airunner_core::{
    ControlEvent, InputWriter, Job, JobControl, JobFilter, JobId, JobInput, JobState, Labels, PrincipalId,
    QueueName, Result, Sequence, Timestamp,
};

use super::State;
use crate::{
    job::control,
    line::{LAST_IN_LINE, Lane, delayed, in_line, place, rank_of},
    rows::{Alike, EventRows, InputWritten, JobRows, Place, Visit},
};

impl State {
    fn live(&self) -> impl Iterator<Item = &Job> {
        self.live_jobs.iter().filter_map(|number| self.jobs.get(number))
    }

    /// The jobs of a lane that stand at these places, in order.
    fn standing(&self, lane: &Lane, places: RangeInclusive<i64>) -> impl Iterator<Item = &Job> {
        let bounds = (*places.start(), i64::MIN)..=(*places.end(), i64::MAX);
        let standing =
            self.waiting.get(lane).into_iter().flat_map(move |places| places.range(bounds.clone()));
        standing.filter_map(|(_, number)| self.jobs.get(number))
    }

    fn stand(&mut self, number: i64, job: &Job) {
        if let Some(place) = place(job) {
            self.waiting.entry(Lane::of(job)).or_default().insert((place, number));
            self.turns.entry((Lane::of(job), job.owner.folded())).or_default().insert((place, number));
        }
    }

    fn leave(&mut self, number: i64, job: &Job) {
        if let Some(place) = place(job) {
            take(&mut self.waiting, &Lane::of(job), (place, number));
            take(&mut self.turns, &(Lane::of(job), job.owner.folded()), (place, number));
        }
    }

    fn job_row(&self, id: &JobId) -> Option<&Job> {
        self.job_numbers.get(id).and_then(|number| self.jobs.get(number))
    }
}

/// Takes a value out of a set, and the set out of the map with its last.
fn take<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<(i64, i64)>>, key: &K, value: (i64, i64)) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

impl JobRows for State {
    fn job(&self, id: &JobId) -> Result<Option<Job>> {
        Ok(self.job_row(id).cloned())
    }

    fn job_control(&self, id: &JobId) -> Result<Option<JobControl>> {
        Ok(self.job_row(id).map(control))
    }

    fn scan_jobs(
        &self,
        _filter: &JobFilter,
        after: Option<Place>,
        visit: Visit<'_, (Place, Job)>,
    ) -> Result<()> {
        let until = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.row_number()));
        for (number, job) in self.jobs.range((Bound::Unbounded, until)).rev() {
            if !visit((Place::numbered(*number), job.clone()))? {
                break;
            }
        }
        Ok(())
    }

    fn lanes(&self, queue: &QueueName) -> Result<Vec<Labels>> {
        let first = Lane { queue: queue.clone(), requires: Labels::new() };
        let lanes = self.waiting.range(first..).map(|(lane, _)| lane);
        Ok(lanes.take_while(|lane| lane.queue == *queue).map(|lane| lane.requires.clone()).collect())
    }

    fn open_lane(&mut self, _lane: &Lane, _now: Timestamp) -> Result<()> {
        Ok(())
    }

    fn waiting_jobs(&self, lane: &Lane, limit: u32) -> Result<Vec<Job>> {
        Ok(self.standing(lane, 0..=LAST_IN_LINE).take(limit as usize).cloned().collect())
    }

    fn due_jobs(&self, lane: &Lane, now: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let due = LAST_IN_LINE + 1..=delayed(now);
        Ok(self.standing(lane, due).take(limit as usize).cloned().collect())
    }

    fn first_place(&self, lane: &Lane, from: i64) -> Result<Option<i64>> {
        let places = self.waiting.get(lane);
        Ok(places.and_then(|places| places.range((from, i64::MIN)..).next()).map(|(place, _)| *place))
    }

    fn last_rank(&self, lane: &Lane, priority: i32, owner: &PrincipalId) -> Result<Option<u64>> {
        let places = self.turns.get(&(lane.clone(), owner.folded()));
        let of_priority = (in_line(priority, 0), i64::MIN)..=(in_line(priority, u64::MAX), i64::MAX);
        let last = places.and_then(|places| places.range(of_priority).next_back());
        Ok(last.map(|(place, _)| rank_of(*place)))
    }

    fn queue_clock(&self, queue: &QueueName, priority: i32) -> Result<u64> {
        Ok(self.clocks.get(&(queue.clone(), priority)).copied().unwrap_or(0))
    }

    fn advance_clock(&mut self, queue: &QueueName, priority: i32, rank: u64, _now: Timestamp) -> Result<()> {
        let clock = self.clocks.entry((queue.clone(), priority)).or_default();
        *clock = rank.max(*clock);
        Ok(())
    }

    fn lapsed_jobs(&self, before: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let deadline = |job: &Job| job.lease.as_ref().map(|lease| lease.deadline);
        let lapsed = |job: &&Job| deadline(job).is_some_and(|deadline| deadline < before);
        let mut lapsed: Vec<_> = self.live().filter(lapsed).collect();
        lapsed.sort_by_key(|job| deadline(job));
        Ok(lapsed.into_iter().take(limit as usize).cloned().collect())
    }

    fn over_jobs(&self, before: Timestamp, limit: u32) -> Result<Vec<JobId>> {
        let over = self.over_jobs.range(..(before, i64::MIN)).take(limit as usize);
        Ok(over.filter_map(|(_, number)| self.jobs.get(number)).map(|job| job.id).collect())
    }

    fn delete_job(&mut self, id: &JobId) -> Result<()> {
        let Some(number) = self.job_numbers.remove(id) else { return Ok(()) };
        if let Some(job) = self.jobs.remove(&number) {
            self.leave(number, &job);
            self.over_jobs.remove(&(job.finished_at.unwrap_or_default(), number));
        }
        self.live_jobs.remove(&number);
        self.delete_inputs(id)?;
        let of_job = (*id, Sequence::default())..=(*id, Sequence::from_u64(u64::MAX));
        let events: Vec<_> = self.events.range(of_job).map(|(place, _)| *place).collect();
        for place in &events {
            self.events.remove(place);
        }
        Ok(())
    }

    fn held_jobs(&self, holder: &PrincipalId, limit: u32) -> Result<Vec<Job>> {
        let holder = holder.folded();
        let held = |job: &&Job| job.lease.as_ref().is_some_and(|lease| lease.holder.folded() == holder);
        Ok(self.live().filter(held).take(limit as usize).cloned().collect())
    }

    fn jobs_alike(&self, job: &Job) -> Result<Alike> {
        let is_alike = |other: &&Job| {
            other.owner.folded() == job.owner.folded()
                && other.spec.command == job.spec.command
                && other.spec.args == job.spec.args
        };
        let alike = self.live().filter(is_alike);
        Ok(alike.fold(Alike::default(), |alike, other| Alike {
            any: true,
            unique: alike.unique || other.spec.unique,
        }))
    }

    fn count_jobs(&self) -> Result<Vec<(JobState, u64)>> {
        let mut counts = BTreeMap::new();
        for job in self.jobs.values() {
            *counts.entry(job.state).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    fn input_written(&self, id: &JobId) -> Result<InputWritten> {
        let pieces = self.inputs.range((*id, 0)..=(*id, u64::MAX)).map(|(_, piece)| piece);
        Ok(pieces.fold(InputWritten::default(), |written, (input, writer)| InputWritten {
            last: input.n,
            bytes: written.bytes + input.bytes.len() as u64,
            end: input.end,
            writer: *writer,
        }))
    }

    fn inputs_after(&self, id: &JobId, after: u64, limit: u32) -> Result<Vec<JobInput>> {
        let places = (Bound::Excluded((*id, after)), Bound::Included((*id, u64::MAX)));
        Ok(self.inputs.range(places).map(|(_, (input, _))| input.clone()).take(limit as usize).collect())
    }

    fn insert_input(&mut self, id: &JobId, input: &JobInput, writer: Option<InputWriter>) -> Result<()> {
        self.inputs.insert((*id, input.n), (input.clone(), writer));
        Ok(())
    }

    fn delete_inputs(&mut self, id: &JobId) -> Result<()> {
        let pieces: Vec<_> = self.inputs.range((*id, 0)..=(*id, u64::MAX)).map(|(place, _)| *place).collect();
        for place in &pieces {
            self.inputs.remove(place);
        }
        Ok(())
    }

    fn insert_job(&mut self, job: &Job) -> Result<()> {
        let number = self.next_number();
        self.job_numbers.insert(job.id, number);
        self.jobs.insert(number, job.clone());
        self.live_jobs.insert(number);
        self.stand(number, job);
        Ok(())
    }

    fn update_job(&mut self, job: &Job) -> Result<()> {
        if let Some(number) = self.job_numbers.get(&job.id).copied() {
            if let Some(before) = self.jobs.insert(number, job.clone()) {
                self.leave(number, &before);
            }
            self.stand(number, job);
            if let Some(at) = job.finished_at {
                self.live_jobs.remove(&number);
                self.over_jobs.insert((at, number));
            }
        }
        Ok(())
    }
}

impl EventRows for State {
    fn events_after(&self, job: &JobId, after: Sequence, limit: u32) -> Result<Vec<ControlEvent>> {
        let until = Bound::Included((*job, Sequence::from_u64(u64::MAX)));
        let events = self.events.range((Bound::Excluded((*job, after)), until));
        Ok(events.map(|(_, event)| event.clone()).take(limit as usize).collect())
    }

    fn last_event(&self, job: &JobId, attempt: u32) -> Result<Option<Sequence>> {
        let places = (*job, Sequence::new(attempt, 0))..(*job, Sequence::end_of(attempt));
        Ok(self.events.range(places).next_back().map(|((_, sequence), _)| *sequence))
    }

    fn insert_event(&mut self, job: &JobId, event: &ControlEvent) -> Result<()> {
        self.events.entry((*job, event.sequence)).or_insert_with(|| event.clone());
        Ok(())
    }
}
