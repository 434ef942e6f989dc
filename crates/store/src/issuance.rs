//! How a signed certificate comes to be recorded: the checks that each way of issuing demands, and what it writes.

use airunner_core::{
    Certificate, CertificateRef, EnrollmentId, Error, Issuance, IssuanceKind, Issued, Job, JobCertificate,
    Label, PrincipalId, PrincipalStatus, Result, Revocation, RevocationReason, Timestamp,
};

use crate::{
    job,
    principal::{check_version, not_active},
    reference, request,
    rows::{Rows, Standing},
};

/// What a kind of issuance found, before anything is written.
enum Finding {
    /// This attempt was made before, and that is its certificate.
    Existing(Box<Certificate>),
    /// It starts a lineage.
    Begin,
    /// It starts a lineage and uses up a token.
    BeginWith(EnrollmentId),
    /// It succeeds a certificate, in the place of an unseen successor where there is one.
    Succeed { predecessor: CertificateRef, retire_at: Timestamp, replaced: Option<CertificateRef> },
    /// It is this job's, which the row says from now on.
    OfJob(Box<Job>),
}

pub(crate) fn record(rows: &mut dyn Rows, issuance: &Issuance) -> Result<Issued> {
    let now = issuance.audit.at;
    let certificate = &issuance.certificate;
    if let Some(earlier) = request::earlier(rows, issuance.request.as_ref(), now)? {
        let earlier = reference::read(&earlier)?;
        let found = rows.certificate(&earlier)?;
        let found = found.ok_or_else(|| Error::not_found("certificate", earlier.serial))?;
        return Ok(Issued::Existing(Box::new(found)));
    }
    let standing = active(rows, &certificate.principal_id)?;
    check_version(&certificate.principal_id, standing.version, issuance.principal_version)?;
    let finding = examine(rows, issuance, standing)?;
    if let Finding::Existing(existing) = finding {
        return Ok(Issued::Existing(existing));
    }
    rows.insert_certificate(certificate)?;
    write(rows, certificate, &finding, now)?;
    request::keep(rows, issuance.request.as_ref(), || reference::write(&certificate.reference()), now)?;
    rows.insert_audit(&issuance.audit)?;
    Ok(Issued::New)
}

/// The principal's standing, if it is active.
pub(crate) fn active(rows: &dyn Rows, id: &PrincipalId) -> Result<Standing> {
    let standing = rows.standing(id)?.ok_or_else(|| Error::not_found("principal", id))?;
    if standing.status != PrincipalStatus::Active {
        return Err(not_active(id, standing.status));
    }
    Ok(standing)
}

fn examine(rows: &dyn Rows, issuance: &Issuance, standing: Standing) -> Result<Finding> {
    let now = issuance.audit.at;
    let certificate = &issuance.certificate;
    match &issuance.kind {
        IssuanceKind::Issue | IssuanceKind::Register => {
            check_slot(rows, &certificate.principal_id, standing, now)?;
            Ok(Finding::Begin)
        }
        IssuanceKind::Enrol { token, creator, creator_version } => {
            if let Some(existing) = used_before(rows, token, certificate, now)? {
                return Ok(Finding::Existing(Box::new(existing)));
            }
            check_creator(rows, creator, *creator_version)?;
            check_slot(rows, &certificate.principal_id, standing, now)?;
            Ok(Finding::BeginWith(*token))
        }
        IssuanceKind::Renew { predecessor, retire_at } => {
            renewal(rows, certificate, predecessor, *retire_at, now)
        }
        IssuanceKind::Job { attempt, holder } => of_job(rows, certificate, holder, *attempt, now),
    }
}

/// The job that holds its certificate, if `holder` holds its lease.
fn of_job(
    rows: &dyn Rows,
    certificate: &Certificate,
    holder: &PrincipalId,
    attempt: u32,
    now: Timestamp,
) -> Result<Finding> {
    let id = certificate.job.as_ref().map(|job| job.id);
    let id = id.ok_or_else(|| Error::internal("a job's certificate names no job"))?;
    let mut job = job::held(rows, holder, id, attempt, now)?;
    if job.owner.folded() != certificate.principal_id.folded() {
        return Err(Error::internal("a job's certificate names another than its owner"));
    }
    job.certificates.retain(|one| one.expires_at > now);
    if job.certificates.len() >= JobCertificate::MAX {
        return Err(Error::new(
            Label::LimitReached,
            format!("job {id} has {} certificates in force: use the last one", JobCertificate::MAX),
        ));
    }
    let (reference, expires_at) = (certificate.reference(), certificate.expires_at);
    job.certificates.push(JobCertificate { reference, expires_at });
    Ok(Finding::OfJob(Box::new(job)))
}

fn check_slot(rows: &dyn Rows, id: &PrincipalId, standing: Standing, now: Timestamp) -> Result<()> {
    let limit = standing.max_certificates;
    if limit == 0 || rows.active_lineages(id, now, limit)? < limit {
        return Ok(());
    }
    Err(Error::new(
        Label::TooManyCertificates,
        format!(
            "{id} has {limit} active certificates, as many as it may: revoke one or raise max_certificates"
        ),
    ))
}

/// What this key got for this token already, if the token is used; the refusals of a token, if it can't be used.
fn used_before(
    rows: &dyn Rows,
    id: &EnrollmentId,
    certificate: &Certificate,
    now: Timestamp,
) -> Result<Option<Certificate>> {
    let refused = |label, message: &str| Err(Error::new(label, message));
    let Some(token) = rows.token(id)? else {
        return refused(Label::TokenInvalid, "there is no such enrolment token: ask for a new one");
    };
    if token.principal_id.folded() != certificate.principal_id.folded() {
        return refused(Label::TokenInvalid, "this enrolment token is another principal's");
    }
    if token.used_at.is_none() {
        if token.expires_at <= now {
            return refused(Label::TokenExpired, "this enrolment token has expired: ask for a new one");
        }
        return Ok(None);
    }
    let of_this_key = token.certificate.filter(|_| token.used_key == Some(certificate.public_key));
    let existing = of_this_key.map(|reference| rows.certificate(&reference)).transpose()?.flatten();
    match existing.filter(|existing| existing.is_active(now)) {
        Some(existing) => Ok(Some(existing)),
        None => refused(Label::TokenUsed, "this enrolment token was used: ask for a new one"),
    }
}

fn check_creator(rows: &dyn Rows, creator: &PrincipalId, expected: u64) -> Result<()> {
    match rows.standing(creator)? {
        Some(standing) => check_version(creator, standing.version, expected),
        None => Err(Error::new(
            Label::TokenVoid,
            "who made this enrolment token is no longer known: ask for a new one",
        )),
    }
}

fn renewal(
    rows: &dyn Rows,
    certificate: &Certificate,
    reference: &CertificateRef,
    retire_at: Timestamp,
    now: Timestamp,
) -> Result<Finding> {
    let found = rows.with_successor(reference)?;
    let (predecessor, successor) = found.ok_or_else(|| Error::not_found("certificate", reference.serial))?;
    if predecessor.lineage_id != certificate.lineage_id
        || predecessor.principal_id.folded() != certificate.principal_id.folded()
    {
        return Err(Error::internal("a successor names another lineage or principal than its predecessor"));
    }
    if !predecessor.is_active(now) {
        return Err(Error::new(
            Label::CertificateEnded,
            "the certificate to renew is expired, revoked or retired: enrol anew",
        ));
    }
    let retire_at = predecessor.retire_at.unwrap_or(retire_at.min(predecessor.expires_at));
    let successor = successor.map(|successor| rows.certificate(&successor)).transpose()?.flatten();
    let replaced = match successor {
        None => None,
        Some(successor) if successor.public_key == certificate.public_key => {
            return Ok(Finding::Existing(Box::new(successor)));
        }
        Some(successor) if successor.first_seen_at.is_some() => {
            return Err(Error::new(
                Label::LineageForked,
                "this certificate was renewed with another key, and that successor is in use: \
                 find out who has the key, and revoke what should not be",
            ));
        }
        Some(successor) => Some(successor),
    };
    let replaced = replaced.filter(|one| one.revocation.is_none()).map(|one| one.reference());
    Ok(Finding::Succeed { predecessor: *reference, retire_at, replaced })
}

fn write(rows: &mut dyn Rows, certificate: &Certificate, finding: &Finding, now: Timestamp) -> Result<()> {
    match finding {
        Finding::Existing(_) => Ok(()),
        Finding::Begin => rows.begin_lineage(certificate),
        Finding::OfJob(job) => {
            rows.begin_lineage(certificate)?;
            rows.update_job(job)
        }
        Finding::BeginWith(token) => {
            rows.begin_lineage(certificate)?;
            rows.use_token(token, now, certificate)
        }
        Finding::Succeed { predecessor, retire_at, replaced } => {
            if let Some(replaced) = replaced {
                let revocation = Revocation { at: now, reason: RevocationReason::Superseded };
                rows.revoke_certificate(replaced, revocation)?;
            }
            rows.succeed(predecessor, *retire_at, &certificate.reference())
        }
    }
}
