//! The intents on enrolment tokens. They are used up by recording a certificate.

use airunner_core::{
    AuditEntry, EnrollmentId, EnrollmentStore, EnrollmentToken, Error, Intent, Label, Page, PageRequest,
    PrincipalId, RequestKey, Result,
};
use async_trait::async_trait;

use crate::{
    engine::{Engine, Ports},
    issuance::active,
    paging::Tokens,
    request,
    rows::{Place, Rows},
};

const TOKENS: Tokens = Tokens('e');

#[async_trait]
impl<E: Engine> EnrollmentStore for Ports<E> {
    async fn create_token(
        &self,
        token: EnrollmentToken,
        request: Option<RequestKey>,
        audit: AuditEntry,
    ) -> Result<()> {
        self.write(Intent::CreateToken, move |rows| create(rows, &token, request.as_ref(), &audit)).await
    }

    async fn get_token(&self, id: &EnrollmentId) -> Result<Option<EnrollmentToken>> {
        let id = *id;
        self.read(Intent::GetToken, move |rows| rows.token(&id)).await
    }

    async fn list_tokens(
        &self,
        created_by: Option<&PrincipalId>,
        page: &PageRequest,
    ) -> Result<Page<EnrollmentToken>> {
        let (created_by, page) = (created_by.cloned(), page.clone());
        self.read(Intent::ListTokens, move |rows| list(rows, created_by.as_ref(), &page)).await
    }

    async fn delete_token(&self, id: &EnrollmentId, audit: AuditEntry) -> Result<()> {
        let id = *id;
        self.write(Intent::DeleteToken, move |rows| {
            if !rows.delete_token(&id)? {
                return Err(Error::not_found("enrolment token", id));
            }
            rows.insert_audit(&audit)
        })
        .await
    }
}

fn create(
    rows: &mut dyn Rows,
    token: &EnrollmentToken,
    request: Option<&RequestKey>,
    audit: &AuditEntry,
) -> Result<()> {
    let earlier = request::earlier(rows, request, audit.at)?;
    active(rows, &token.principal_id)?;
    if rows.token(&token.id)?.is_some() {
        return Err(Error::new(
            Label::AlreadyExists,
            "an enrolment token of this id exists: draw another id",
        ));
    }
    if let Some(earlier) = earlier {
        // It may be deleted by now, which is all that is wanted.
        rows.delete_token(&earlier.parse()?)?;
    }
    rows.insert_token(token)?;
    request::keep(rows, request, || token.id.to_string(), audit.at)?;
    rows.insert_audit(audit)
}

fn list(
    rows: &dyn Rows,
    created_by: Option<&PrincipalId>,
    page: &PageRequest,
) -> Result<Page<EnrollmentToken>> {
    let after = TOKENS.read(page, Place::read)?;
    let wanted =
        |token: &EnrollmentToken| created_by.is_none_or(|id| id.folded() == token.created_by.folded());
    TOKENS.collect(page, wanted, Place::write, |visit| rows.scan_tokens(created_by, after, visit))
}
