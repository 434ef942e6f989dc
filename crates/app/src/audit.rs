//! Use cases of the audit log: reading it. Entries are written by the acts themselves.

use std::{sync::Arc, time::Duration};

use airunner_core::{AuditRecord, Error, Result};

use crate::{
    authn::Caller,
    authz::{Target, may},
    context::Context,
};

/// Entries of a tail at most.
pub const MAX_TAIL: u32 = 1_000;
/// How often a followed log is asked for more.
const POLL: Duration = Duration::from_millis(250);

/// The audit log.
pub struct Audit {
    context: Arc<Context>,
}

/// A reader of the log that goes on with what is written.
pub struct AuditFollower {
    context: Arc<Context>,
    caller: Caller,
    last: u64,
}

impl Audit {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// The newest `count` entries, oldest of them first, and a follower that starts after them.
    ///
    /// # Errors
    /// `invalid-argument` for more than 1,000.
    pub async fn tail(&self, caller: &Caller, count: u32) -> Result<(Vec<AuditRecord>, AuditFollower)> {
        caller.permit::<may::AuditRead>(Target::Any).map(drop)?;
        if count > MAX_TAIL {
            return Err(Error::invalid("count", format!("ask for at most {MAX_TAIL} entries")));
        }
        let entries = self.context.stores.audit.tail(count.max(1)).await?;
        let last = entries.last().map_or(0, |record| record.number);
        let follower = AuditFollower { context: self.context.clone(), caller: caller.clone(), last };
        Ok((entries, follower))
    }
}

impl AuditFollower {
    /// The entries after those that were returned before; waits until there are some.
    ///
    /// # Errors
    /// The caller's denial; `store-unavailable` and the like.
    pub async fn next(&mut self) -> Result<Vec<AuditRecord>> {
        loop {
            self.caller.check(self.context.now())?;
            let entries = self.context.stores.audit.after(self.last, MAX_TAIL).await?;
            if let Some(record) = entries.last() {
                self.last = record.number;
                return Ok(entries);
            }
            self.context.clock.sleep(POLL).await;
        }
    }
}
