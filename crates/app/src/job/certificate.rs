//! Certificates of jobs: for as long as it runs, a job may show who it is, and do for its owner what that granted it.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use airunner_core::{CertifiedJob, Error, Grants, IssuanceKind, Permission, RequestId, RequestKey, Result};
use airunner_pki::{sha256, verify_csr};

use super::{Jobs, lease_lost};
use crate::{
    authn::Caller,
    authz::{PermissionSet, Target, may},
    certificate::{IssuedCertificate, Leaf, issue_leaf},
    recent::for_principal,
};

/// The longest life of a job's certificate, and the default.
pub const MAX_VALIDITY: Duration = Duration::from_hours(1);

impl Jobs {
    /// Issues a certificate of the job for the key that the CSR proves, to whoever holds the lease that the token names.
    /// It names the job, and its owner in the extensions, and is revoked when the lease ends.
    ///
    /// # Errors
    /// Those of a CSR; `lease-lost`; `invalid-argument` where the job was enqueued without a certificate;
    /// `principal-not-active` where its owner is not; `limit-reached`.
    pub async fn issue_certificate(
        &self,
        caller: &Caller,
        task_token: &str,
        csr: &[u8],
        request_id: Option<RequestId>,
    ) -> Result<IssuedCertificate> {
        caller.permit::<may::JobsDequeue>(Target::Any).map(drop)?;
        let (id, attempt) = self.context.task_tokens.read(task_token)?;
        let verified = verify_csr(csr, &self.context.settings.accepted_keys)?;
        let job = self.find(&id).await?;
        if !job.is_held(caller.principal_id(), attempt, self.context.now()) {
            return Err(lease_lost(&id, attempt));
        }
        let grants = job.spec.certificate.as_ref().ok_or_else(|| {
            Error::invalid("task_token", "this job was enqueued without a certificate (`certificate`)")
        })?;
        let (job, verified, request_id) = (&job, &verified, &request_id);
        let issued = for_principal(&self.context, &job.owner, |owner| async move {
            let permit = caller.permit::<may::JobsDequeue>(Target::Job(job))?;
            let now = self.context.now();
            let request = request_id.clone().map(|request| RequestKey {
                caller: caller.principal_id().clone(),
                method: "IssueJobCertificate",
                id: request,
                content: sha256(&[task_token.as_bytes(), csr].concat()),
            });
            let leaf = Leaf {
                principal: &owner,
                key: verified.public_key(),
                validity: Some(self.context.settings.job_validity),
                description: "",
                kind: IssuanceKind::Job { attempt, holder: caller.principal_id().clone() },
                lineage: None,
                job: Some(CertifiedJob { id, grants: grants.clone() }),
                request,
            };
            issue_leaf(&self.context, leaf, now, permit.audit(now, "job.issue-certificate", id)).await
        })
        .await?;
        self.context.counters.issued.fetch_add(1, Relaxed);
        Ok(issued)
    }
}

/// Checks what a job may be granted by `caller`: what it may do itself.
///
/// # Errors
/// `escalation`; `invalid-argument` for what is nobody's to grant.
pub(super) fn check_grants(caller: &Caller, grants: &Grants) -> Result<()> {
    let everyones = [Permission::SelfService, Permission::Anonymous];
    if let Some(granted) = grants.iter().find(|granted| everyones.contains(granted)) {
        return Err(Error::invalid(
            "certificate.grants",
            format!("{granted} is not granted: everyone has it"),
        ));
    }
    caller.require_to_confer(grants.iter().copied().collect::<PermissionSet>())
}
