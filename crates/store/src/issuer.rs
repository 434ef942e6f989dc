//! The intents on issuers.

use airunner_core::{AuditEntry, Error, Intent, Issuer, IssuerId, IssuerState, IssuerStore, Label, Result};
use async_trait::async_trait;

use crate::{
    engine::{Engine, Ports},
    rows::Rows,
};

#[async_trait]
impl<E: Engine> IssuerStore for Ports<E> {
    async fn found_ca(&self, issuers: Vec<Issuer>, replacing: &[IssuerId], audit: AuditEntry) -> Result<()> {
        let replacing = replacing.to_vec();
        self.write(Intent::FoundCa, move |rows| found(rows, &issuers, &replacing, &audit)).await
    }

    async fn succeed_issuer(
        &self,
        successor: Issuer,
        predecessor: &IssuerId,
        audit: AuditEntry,
    ) -> Result<()> {
        let predecessor = *predecessor;
        self.write(Intent::SucceedIssuer, move |rows| succeed(rows, &successor, &predecessor, &audit)).await
    }

    async fn list_issuers(&self) -> Result<Vec<Issuer>> {
        self.read(Intent::ListIssuers, living).await
    }
}

/// Those that are not destroyed.
fn living(rows: &dyn Rows) -> Result<Vec<Issuer>> {
    let mut issuers = rows.issuers()?;
    issuers.retain(|issuer| issuer.state != IssuerState::Destroyed);
    Ok(issuers)
}

fn found(rows: &mut dyn Rows, issuers: &[Issuer], replacing: &[IssuerId], audit: &AuditEntry) -> Result<()> {
    let standing = living(rows)?;
    if standing.iter().any(|issuer| !replacing.contains(&issuer.id)) {
        return Err(Error::new(
            Label::AlreadyExists,
            "this store has a certificate authority: use it, or replace it by name",
        ));
    }
    check_new(rows, issuers)?;
    for old in &standing {
        rows.set_issuer_state(&old.id, IssuerState::Destroyed, audit.at)?;
    }
    for issuer in issuers {
        rows.insert_issuer(issuer, audit.at)?;
    }
    rows.insert_audit(audit)
}

fn succeed(
    rows: &mut dyn Rows,
    successor: &Issuer,
    predecessor: &IssuerId,
    audit: &AuditEntry,
) -> Result<()> {
    let signs = |issuer: &&Issuer| issuer.kind.signs_leaves() && issuer.state == IssuerState::Active;
    if living(rows)?.iter().find(signs).map(|issuer| issuer.id) != Some(*predecessor) {
        return Err(Error::new(
            Label::VersionConflict,
            format!("{predecessor} is not the active issuing CA: list the issuers again and retry"),
        ));
    }
    check_new(rows, std::slice::from_ref(successor))?;
    rows.set_issuer_state(predecessor, IssuerState::Retired, audit.at)?;
    rows.insert_issuer(&Issuer { state: IssuerState::Active, ..successor.clone() }, audit.at)?;
    rows.insert_audit(audit)
}

fn check_new(rows: &dyn Rows, issuers: &[Issuer]) -> Result<()> {
    let taken: Vec<_> = rows.issuers()?.iter().map(|issuer| issuer.id).collect();
    match issuers.iter().find(|issuer| taken.contains(&issuer.id)) {
        Some(issuer) => Err(Error::new(
            Label::AlreadyExists,
            format!("there is an issuer {}: draw another id", issuer.id),
        )),
        None => Ok(()),
    }
}
