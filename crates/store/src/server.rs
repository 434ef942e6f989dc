//! The intents on servers, on the highest time, and on the housekeeping lease.

use std::time::Duration;

use airunner_core::{
    AuditEntry, Error, Fencing, HeartbeatReply, Intent, Label, Result, ServerId, ServerRow, ServerStore,
    Timestamp,
};
use async_trait::async_trait;

use crate::{
    engine::{Engine, Ports},
    rows::{Housekeeping, Rows},
};

/// How long after its deadline a lease is left to its holder, whose clock may be behind.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

#[async_trait]
impl<E: Engine> ServerStore for Ports<E> {
    async fn heartbeat(&self, row: ServerRow, write_time: bool) -> Result<HeartbeatReply> {
        self.write(Intent::Heartbeat, move |rows| {
            if write_time && row.at > rows.highest_time()? {
                rows.set_highest_time(row.at)?;
            }
            rows.put_server(&row)?;
            everyone(&*rows)
        })
        .await
    }

    async fn servers(&self) -> Result<HeartbeatReply> {
        self.read(Intent::Servers, everyone).await
    }

    async fn leave(&self, id: &ServerId) -> Result<()> {
        let id = *id;
        self.write(Intent::Leave, move |rows| {
            let lease = rows.housekeeping()?;
            rows.delete_server(&id)?;
            if lease.holder == Some(id) {
                rows.set_housekeeping(&Housekeeping { holder: None, ..lease })?;
            }
            Ok(())
        })
        .await
    }

    async fn prune_servers(&self, before: Timestamp) -> Result<u32> {
        self.write(Intent::PruneServers, move |rows| rows.delete_servers_before(before)).await
    }

    async fn hold_housekeeping(
        &self,
        id: &ServerId,
        now: Timestamp,
        life: Duration,
    ) -> Result<Option<Fencing>> {
        let id = *id;
        self.write(Intent::HoldHousekeeping, move |rows| hold(rows, id, now, now.plus(life))).await
    }

    async fn reset_time(&self, expected: Timestamp, audit: AuditEntry) -> Result<()> {
        self.write(Intent::ResetTime, move |rows| {
            let (highest, lease) = (rows.highest_time()?, rows.housekeeping()?);
            if highest != expected {
                return Err(Error::new(
                    Label::VersionConflict,
                    format!(
                        "a server wrote another time meanwhile, {highest}: see that every machine's clock is right, \
                         and try again"
                    ),
                ));
            }
            rows.set_highest_time(audit.at)?;
            rows.set_housekeeping(&Housekeeping { holder: None, ..lease })?;
            rows.insert_audit(&audit)
        })
        .await
    }
}

fn everyone(rows: &dyn Rows) -> Result<HeartbeatReply> {
    Ok(HeartbeatReply { highest: rows.highest_time()?, servers: rows.servers()? })
}

fn hold(rows: &mut dyn Rows, id: ServerId, now: Timestamp, deadline: Timestamp) -> Result<Option<Fencing>> {
    let lease = rows.housekeeping()?;
    let number = match lease.holder {
        Some(holder) if holder == id => lease.number,
        Some(_) if lease.deadline.plus(GRACE) > now => return Ok(None),
        _ => Fencing(lease.number.0 + 1),
    };
    rows.set_housekeeping(&Housekeeping { holder: Some(id), number, deadline })?;
    Ok(Some(number))
}

/// Refuses whoever held the housekeeping lease before its present holder.
pub(crate) fn check_fencing(rows: &dyn Rows, fencing: Fencing) -> Result<()> {
    if fencing >= rows.housekeeping()?.number {
        return Ok(());
    }
    Err(Error::new(Label::VersionConflict, "another server has taken over housekeeping: stop"))
}
