//! Use cases of enrolment: tokens, and the first certificate. What proves a new machine's right to one is a closed
//! list, one module a proof.

pub mod token;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use airunner_core::{
    Actor, EnrollmentId, EnrollmentToken, EnrollmentTokenText, Error, IssuanceKind, Label, Page, PageRequest,
    Permission, Principal, PrincipalId, PrincipalStatus, RequestId, RequestKey, Result,
};
use airunner_pki::{sha256, verify_csr};

use crate::{
    authn::Caller,
    authz::{Target, may, require_to_ask_for, require_to_enrol, system_entry},
    certificate::{IssuedCertificate, Leaf, issue_leaf, require_active},
    context::{Context, retrying},
    principal::check_text,
};

/// The shortest life of a token.
pub const MIN_TTL: Duration = Duration::from_mins(1);
/// The longest life of a token.
pub const MAX_TTL: Duration = Duration::from_hours(7 * 24);
/// The life of a token where nothing else is said.
pub const DEFAULT_TTL: Duration = Duration::from_hours(1);

/// Enrolment.
pub struct Enrollments {
    context: Arc<Context>,
}

/// What a token is asked for.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// For whom.
    pub principal_id: PrincipalId,
    /// How long it may be used.
    pub ttl: Duration,
    /// For people.
    pub description: String,
    /// `host:port` of the public listener as the new machine reaches it; empty is the server's own.
    pub address: String,
    /// The same id again makes a new secret and voids the old.
    pub request_id: Option<RequestId>,
}

impl Enrollments {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Makes a token; the text is shown this once.
    ///
    /// # Errors
    /// `not-found`, `principal-not-active`; `escalation` outside an enroller's scope.
    pub async fn create(
        &self,
        caller: &Caller,
        request: TokenRequest,
    ) -> Result<(EnrollmentToken, EnrollmentTokenText)> {
        let permit = caller.permit::<may::CertsEnrol>(Target::Any)?;
        check_text("description", &request.description)?;
        if !(MIN_TTL..=MAX_TTL).contains(&request.ttl) {
            return Err(Error::invalid("ttl", "a token's life is between 1 minute and 7 days"));
        }
        let address = if request.address.is_empty() {
            self.context.settings.public_address.clone()
        } else {
            EnrollmentTokenText::check_address(&request.address)?;
            request.address.clone()
        };
        let subject = self.subject(caller, &request.principal_id).await?;
        let now = self.context.now();
        let secret: [u8; 32] = self.context.random.array();
        let record = EnrollmentToken {
            id: EnrollmentId::new(now, &*self.context.random),
            secret_hash: sha256(&secret),
            principal_id: subject.id.clone(),
            principal_type: subject.principal_type,
            roles: subject.effective_roles(),
            created_by: caller.principal_id().clone(),
            created_at: now,
            expires_at: now.plus(request.ttl),
            used_at: None,
            used_key: None,
            certificate: None,
            description: request.description.clone(),
        };
        let root = self.context.issuers.current().root()?.certificate.fingerprint();
        let text = EnrollmentTokenText::new(record.id, &secret, &address, root);
        let mut audit = permit.audit(now, "enrollment.create", &subject.id);
        audit.detail.insert("enrollment".to_owned(), record.id.to_string());
        let key = request.request_id.clone().map(|id| RequestKey {
            caller: caller.principal_id().clone(),
            method: "CreateEnrollmentToken",
            id,
            content: sha256(format!("{}\n{:?}\n{address}", subject.id, request.ttl).as_bytes()),
        });
        self.context.stores.enrollments.create_token(record.clone(), key, audit).await?;
        Ok((record, text))
    }

    /// Tokens, newest first: all for who manages principals, else the caller's own.
    ///
    /// # Errors
    /// `page-token`.
    pub async fn list(&self, caller: &Caller, page: &PageRequest) -> Result<Page<EnrollmentToken>> {
        caller.permit::<may::CertsEnrol>(Target::Any).map(drop)?;
        let own = (!sees_all(caller)).then(|| caller.principal_id());
        self.context.stores.enrollments.list_tokens(own, page).await
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// `not-found`, also for a token of another where the caller sees only its own.
    pub async fn delete(&self, caller: &Caller, id: &EnrollmentId) -> Result<()> {
        let permit = caller.permit::<may::CertsEnrol>(Target::Any)?;
        let token = self.context.stores.enrollments.get_token(id).await?;
        let token = token.filter(|token| sees_all(caller) || token.created_by == *caller.principal_id());
        let token = token.ok_or_else(|| Error::not_found("enrolment token", id))?;
        let audit = permit.audit(self.context.now(), "enrollment.delete", token.id);
        self.context.stores.enrollments.delete_token(id, audit).await
    }

    /// Turns a token and a CSR into a first certificate. A retry with the same key gets the same one. Anyone may
    /// call this: the token is what proves the right to it.
    ///
    /// # Errors
    /// `token-invalid`, `token-expired`, `token-used`, `token-void`; those of a CSR; `too-many-certificates`.
    pub async fn enroll(
        &self,
        text: &str,
        csr: &[u8],
        address: &str,
        request_id: &str,
    ) -> Result<IssuedCertificate> {
        let csr = verify_csr(csr, &self.context.settings.accepted_keys)?;
        let enrolled = retrying(|| async {
            let proof = token::verify(&self.context, text).await?;
            let now = self.context.now();
            let mut audit =
                system_entry(now, proof.subject.id.as_str(), "enrollment.enroll", &proof.subject.id);
            audit.actor = Actor { address: address.to_owned(), ..audit.actor };
            request_id.clone_into(&mut audit.request_id);
            audit.detail.insert("enrollment".to_owned(), proof.token.id.to_string());
            let leaf = Leaf {
                principal: &proof.subject,
                key: csr.public_key(),
                validity: None,
                description: &proof.token.description,
                kind: IssuanceKind::Enrol {
                    token: proof.token.id,
                    creator: proof.creator.id.clone(),
                    creator_version: proof.creator.version,
                },
                lineage: None,
                job: None,
                request: None,
            };
            issue_leaf(&self.context, leaf, now, audit).await
        })
        .await?;
        self.context.counters.enrolled.fetch_add(1, Relaxed);
        Ok(enrolled)
    }

    async fn subject(&self, caller: &Caller, id: &PrincipalId) -> Result<Principal> {
        require_to_ask_for(caller, id)?;
        let found = self.context.stores.principals.get_principal(id).await?;
        let subject = found.ok_or_else(|| {
            Error::new(Label::NotFound, format!("there is no principal {id}: create it first"))
        })?;
        require_to_enrol(caller, &subject.id, subject.principal_type, &subject.effective_roles())?;
        require_active(&subject)?;
        Ok(subject)
    }
}

fn sees_all(caller: &Caller) -> bool {
    caller.permissions().contains(Permission::PrincipalsManage)
}

/// Whether who made a token still may: it is active, and what it brings in is still within its reach.
fn creator_still_may(creator: &Principal, token: &EnrollmentToken) -> bool {
    let default_roles = BTreeSet::from([token.principal_type.into()]);
    let in_scope = || {
        let covers =
            |scope: &airunner_core::EnrolScope| scope.covers(&token.principal_id, token.principal_type);
        token.roles == default_roles && creator.enrol_scope.as_ref().is_some_and(covers)
    };
    creator.status == PrincipalStatus::Active
        && creator.may(Permission::CertsEnrol)
        && (creator.may(Permission::PrincipalsManage) || in_scope())
}

pub(crate) fn void(why: &str) -> Error {
    Error::new(Label::TokenVoid, format!("{why}: ask for a new enrolment token"))
}
