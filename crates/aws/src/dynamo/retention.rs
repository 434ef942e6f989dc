//! How long the rows of a job are kept. DynamoDB removes rows by their time to live, for nothing and days late; what it
//! has not removed by then is deleted by whoever keeps house.

use std::time::Duration;

use airunner_core::{Job, JobId, Result, Timestamp};
use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;

use super::{
    DynamoRows,
    error::{Fault, fault},
    item::{Item, Row},
    job,
    job_parts::overflow,
    key::{RowKey, primary},
    listing::{Bounds, Listing},
    transaction::noted,
};
use crate::tables::{JOB_EVENTS, JOB_INPUTS, TTL, Table};

/// Events and input are written while their job lives: their time to live allows for this much more of its life. That
/// of a job which lives on is put off in time.
const LIFE: Duration = Duration::from_hours(30 * 24);

/// Rows that are deleted or written anew at a time.
const AT_ONCE: usize = 25;

/// A row of a table, by its key.
type Part = (&'static Table, Item);

impl DynamoRows {
    /// Time to live of the row of a job that ended at `at`, in seconds.
    pub(super) fn ttl_of_job(&self, at: Timestamp) -> i64 {
        at.plus(self.tx.link.job_retention).as_millis() / 1_000
    }

    /// Time to live of what is written of a job at `at`, in seconds.
    pub(super) fn ttl_of_part(&self, at: Timestamp) -> i64 {
        self.ttl_of_job(at.plus(LIFE))
    }

    /// Puts the time to live of a job's events and input off where its life goes on past what they allow for; `before` is
    /// its row until now. They are written apart from the transaction: later is never wrong.
    pub(super) fn put_off_parts(&self, before: &Item, job: &Job) -> Result<()> {
        let halves = |job: &Job| reach(job).since(job.created_at).as_secs() / (LIFE.as_secs() / 2);
        // Of nearly every job that is all there is to know.
        if halves(job) == 0 || halves(job) <= halves(&job::read(before)?) {
            return Ok(());
        }
        let until = AttributeValue::N(self.ttl_of_part(reach(job)).to_string());
        self.each_part(&self.parts(&job.id)?, async |table, key| {
            let name = self.tx.link.name(table);
            let update = self.tx.link.client.update_item().table_name(&name).set_key(Some(key));
            let update = update.update_expression("SET #t = :t").expression_attribute_names("#t", TTL);
            let update = update.expression_attribute_values(":t", until.clone());
            // A row that has gone meanwhile is not made anew.
            let there = update
                .condition_expression("attribute_exists(#k)")
                .expression_attribute_names("#k", table.key.hash.name);
            there.send().await.map(drop).map_err(|error| fault(error, &name))
        })
    }

    /// Deletes a job's events and input, apart from the transaction: what is left of a job without them is deleted by
    /// the next that tries.
    pub(super) fn delete_parts(&self, id: &JobId) -> Result<()> {
        self.each_part(&self.parts(id)?, async |table, key| {
            let name = self.tx.link.name(table);
            let delete = self.tx.link.client.delete_item().table_name(&name).set_key(Some(key));
            delete.send().await.map(drop).map_err(|error| fault(error, &name))
        })
    }

    fn each_part(
        &self,
        parts: &[Part],
        act: impl AsyncFn(&'static Table, Item) -> Result<(), Fault>,
    ) -> Result<()> {
        for some in parts.chunks(AT_ONCE) {
            let acts = some.iter().map(|(table, key)| act(table, key.clone()));
            for ((table, _), answer) in some.iter().zip(self.tx.link.wait(join_all(acts))) {
                match noted(&self.tx.link, table, answer) {
                    Ok(()) | Err(Fault::Met) => {}
                    Err(other) => return Err(other.error()),
                }
            }
        }
        Ok(())
    }

    /// Every row of the job's events and of its input.
    fn parts(&self, id: &JobId) -> Result<Vec<Part>> {
        let job = id.to_string();
        let mut parts = Vec::new();
        for item in self.tx.all(&all_events(&job))? {
            let sequence = Row(&item).number("sequence")?;
            for n in 0..Row(&item).number_or_none::<i64>("more")?.unwrap_or(0) {
                parts.push((
                    &JOB_EVENTS,
                    RowKey::number(&JOB_EVENTS, &overflow(id, sequence), n).attributes(),
                ));
            }
            parts.push((&JOB_EVENTS, primary(&JOB_EVENTS, &item)));
        }
        for item in self.tx.all(&all_input(&job))? {
            parts.push((&JOB_INPUTS, primary(&JOB_INPUTS, &item)));
        }
        Ok(parts)
    }
}

/// The latest that is known of the job's life.
fn reach(job: &Job) -> Timestamp {
    let deadline = job.lease.as_ref().map(|lease| lease.deadline);
    job.finished_at.or(deadline).unwrap_or(job.visible_at).max(job.created_at)
}

fn all_events(job: &str) -> Listing<u64> {
    Listing {
        table: &JOB_EVENTS,
        index: None,
        partitions: vec![job.to_owned()],
        bounds: Bounds::from(0),
        descending: false,
        place: |item| Row(item).number("sequence"),
        is_tie: |_, _| false,
    }
}

fn all_input(job: &str) -> Listing<String> {
    Listing {
        table: &JOB_INPUTS,
        index: None,
        partitions: vec![job.to_owned()],
        bounds: Bounds::text("#", "~"),
        descending: false,
        place: |item| Ok(Row(item).text("piece")?.to_owned()),
        is_tie: |_, _| false,
    }
}
