//! Jobs and their events in memory.

use std::{collections::BTreeMap, ops::Bound};

use airunner_core::{
    ControlEvent, InputWriter, Job, JobControl, JobFilter, JobId, JobInput, JobState, PrincipalId, QueueName,
    Result, Sequence, Timestamp,
};

use super::State;
use crate::{
    job::control,
    rows::{Alike, EventRows, InputWritten, JobRows, Place, Visit},
};

impl State {
    fn live(&self) -> impl Iterator<Item = &Job> {
        self.live_jobs.iter().filter_map(|number| self.jobs.get(number))
    }

    fn job_row(&self, id: &JobId) -> Option<&Job> {
        self.job_numbers.get(id).and_then(|number| self.jobs.get(number))
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

    fn waiting_jobs(&self, queue: &QueueName, now: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let waits =
            |job: &&Job| job.state == JobState::Scheduled && job.queue == *queue && job.visible_at <= now;
        let mut waiting: Vec<_> = self.live().filter(waits).collect();
        waiting.sort_by_key(|job| job.visible_at);
        Ok(waiting.into_iter().take(limit as usize).cloned().collect())
    }

    fn lapsed_jobs(&self, before: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let deadline = |job: &Job| job.lease.as_ref().map(|lease| lease.deadline);
        let lapsed = |job: &&Job| deadline(job).is_some_and(|deadline| deadline < before);
        let mut lapsed: Vec<_> = self.live().filter(lapsed).collect();
        lapsed.sort_by_key(|job| deadline(job));
        Ok(lapsed.into_iter().take(limit as usize).cloned().collect())
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

    fn next_visible(&self, queue: &QueueName) -> Result<Option<Timestamp>> {
        let waits = |job: &&Job| job.state == JobState::Scheduled && job.queue == *queue;
        Ok(self.live().filter(waits).map(|job| job.visible_at).min())
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
        self.inputs.retain(|(job, _), _| job != id);
        Ok(())
    }

    fn insert_job(&mut self, job: &Job) -> Result<()> {
        let number = self.next_number();
        self.job_numbers.insert(job.id, number);
        self.jobs.insert(number, job.clone());
        self.live_jobs.insert(number);
        Ok(())
    }

    fn update_job(&mut self, job: &Job) -> Result<()> {
        if let Some(number) = self.job_numbers.get(&job.id) {
            self.jobs.insert(*number, job.clone());
            if job.state.has_ended() {
                self.live_jobs.remove(number);
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
