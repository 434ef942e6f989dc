//! The intents on the change feed.

use airunner_core::{
    ChangeBatch, ChangeFeed, ChangeKind, ChangeNumber, DenialSnapshot, Intent, Result, Timestamp,
};
use async_trait::async_trait;

use crate::{
    engine::{Engine, Ports},
    rows::Rows,
};

/// Changes that one read brings, at most.
const MAX_CHANGES: u32 = 10_000;

#[async_trait]
impl<E: Engine> ChangeFeed for Ports<E> {
    async fn changes_after(&self, number: ChangeNumber, limit: u32) -> Result<ChangeBatch> {
        let batch =
            self.read(Intent::ChangesAfter, move |rows| after(rows, number, limit.min(MAX_CHANGES))).await?;
        if let ChangeBatch::Changes(changes) = &batch {
            self.handed_out(changes.last().map_or(number, |change| change.number));
        }
        Ok(batch)
    }

    async fn wait(&self) -> Result<()> {
        self.changed().await
    }

    async fn denials(&self, now: Timestamp) -> Result<DenialSnapshot> {
        let snapshot = self.read(Intent::Denials, move |rows| denials(rows, now)).await?;
        self.handed_out(snapshot.number);
        Ok(snapshot)
    }

    fn tells_of_edits(&self) -> bool {
        E::TELLS_OF_EDITS
    }

    async fn append_change(&self, kind: ChangeKind, now: Timestamp) -> Result<()> {
        self.write(Intent::AppendChange, move |rows| rows.append_change(now, &kind)).await
    }

    async fn prune_changes(&self, before: Timestamp, limit: u32) -> Result<u32> {
        self.write(Intent::PruneChanges, move |rows| rows.delete_changes(before, limit)).await
    }
}

fn denials(rows: &dyn Rows, now: Timestamp) -> Result<DenialSnapshot> {
    let number = rows.last_change()?;
    let mut principals = rows.denied_principals(now)?;
    let mut certificates = rows.revoked_certificates(now)?;
    // Where reads are not of one moment, rows may show what was changed since: whoever follows hears of that next.
    for change in rows.changes_after(number, MAX_CHANGES)? {
        match change.kind {
            ChangeKind::Principal { id, .. } => {
                principals.retain(|(denied, _)| denied.folded() != id.folded());
            }
            ChangeKind::Certificate { reference, .. } => certificates.retain(|denied| *denied != reference),
            ChangeKind::Issuers => {}
        }
    }
    Ok(DenialSnapshot { number, principals, certificates })
}

fn after(rows: &dyn Rows, number: ChangeNumber, limit: u32) -> Result<ChangeBatch> {
    let last = rows.last_change()?;
    if number == last || limit == 0 {
        return Ok(ChangeBatch::Changes(Vec::new()));
    }
    // A number that was never given is of another store, or of one that was restored since.
    if number > last {
        return Ok(ChangeBatch::Pruned);
    }
    let changes = rows.changes_after(number, limit)?;
    // Numbers have no gaps, so only pruning can have taken the next one away.
    let is_next = changes.first().is_some_and(|change| change.number == number + 1);
    Ok(if is_next { ChangeBatch::Changes(changes) } else { ChangeBatch::Pruned })
}
