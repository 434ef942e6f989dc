//! The rolling look at the rows behind live connections: what no change row announces (the end of an overlap that
//! another server set, an edit by hand) reaches them this way, and where it denies something, everyone else too.

use std::{collections::HashSet, sync::Arc, time::Duration};

use airunner_core::{ChangeKind, Identity, Result};

use crate::authn::{Authenticator, Standing};

/// How often a connection is looked at where an edit by hand tells of itself, and where it does not: there it must be
/// found within 5 s.
const TOLD: Duration = Duration::from_secs(30);
const UNTOLD: Duration = Duration::from_secs(4);

/// Connections that one look reads at most.
const BATCH: usize = 500;

impl Authenticator {
    /// Looks at those of `standings` that are due, and returns how many those were.
    ///
    /// # Errors
    /// `store-unavailable` and the like; the standings that were not read are left as they are.
    pub async fn recheck(&self, standings: &[Arc<Standing>]) -> Result<usize> {
        let context = self.context();
        let every = if context.stores.changes.tells_of_edits() { TOLD } else { UNTOLD };
        let now = context.now();
        let due: Vec<_> = standings.iter().filter(|standing| standing.is_due(now, every)).collect();
        for some in due.chunks(BATCH) {
            self.look_at(some).await?;
        }
        Ok(due.len())
    }

    async fn look_at(&self, standings: &[&Arc<Standing>]) -> Result<()> {
        let context = self.context();
        let before: Vec<_> = standings.iter().map(|standing| standing.changes()).collect();
        let references: Vec<_> = standings.iter().map(|standing| standing.claim().certificate).collect();
        let identities = context.stores.certificates.identities(&references).await?;
        let mut told = HashSet::new();
        for ((standing, identity), before) in standings.iter().zip(identities).zip(before) {
            // What was applied meanwhile is newer than what was read.
            if standing.changes() != before {
                continue;
            }
            let untold = self.untold(standing, identity.as_ref());
            standing.update(identity.as_ref(), None, context.now());
            for kind in untold {
                if told.insert(format!("{kind:?}")) {
                    tracing::warn!(?kind, "a row was edited by hand: everyone is told");
                    context.stores.changes.append_change(kind, context.now()).await?;
                }
            }
        }
        Ok(())
    }

    /// What the rows say that the change feed has not said.
    fn untold(&self, standing: &Standing, identity: Option<&Identity>) -> Vec<ChangeKind> {
        let mut untold = Vec::new();
        let status = &self.context().status;
        let reference = standing.claim().certificate;
        let is_revoked = identity.is_none_or(|identity| identity.certificate.revocation.is_some());
        if is_revoked && !status.is_revoked(&reference) {
            untold.push(ChangeKind::Certificate { reference, revoked: true });
        }
        if let (Some(identity), Some(known)) = (identity, standing.principal()) {
            let principal = &identity.principal;
            if principal.status != known.status || principal.roles != known.roles {
                untold.push(ChangeKind::Principal { id: principal.id.clone(), status: principal.status });
            }
        }
        untold
    }
}
