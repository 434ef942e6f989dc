//! The proof `token`: whether it still counts. Its text is core's.

use airunner_core::{EnrollmentToken, EnrollmentTokenText, Error, Label, Principal, Result, Secret};
use airunner_pki::sha256;

use super::{creator_still_may, void};
use crate::context::Context;

/// What a good token proves.
pub(crate) struct Proof {
    pub(crate) token: EnrollmentToken,
    pub(crate) subject: Principal,
    pub(crate) creator: Principal,
}

/// Checks a token's secret, time, creator and principal. That it is used once only is checked where it is used up.
pub(crate) async fn verify(context: &Context, text: &str) -> Result<Proof> {
    let text = EnrollmentTokenText::parse(text)?;
    let token = context.stores.enrollments.get_token(&text.id).await?;
    let hash = Secret::new(sha256(text.secret().expose()).to_vec());
    let token = token.filter(|token| hash.matches(&token.secret_hash)).ok_or_else(|| {
        Error::new(
            Label::TokenInvalid,
            "this enrolment token is unknown here or was deleted: ask for a new one",
        )
    })?;
    // A used token goes on to where the same key may have its certificate again.
    if token.used_at.is_none() && token.expires_at <= context.now() {
        return Err(Error::new(Label::TokenExpired, "this enrolment token has expired: ask for a new one"));
    }
    let principals = &context.stores.principals;
    let creator = principals.get_principal(&token.created_by).await?;
    let creator = creator
        .filter(|creator| creator_still_may(creator, &token))
        .ok_or_else(|| void("who made this enrolment token may no longer do so"))?;
    let subject = principals.get_principal(&token.principal_id).await?;
    let unchanged = |subject: &Principal| {
        subject.principal_type == token.principal_type && subject.effective_roles() == token.roles
    };
    let subject = subject.filter(unchanged).ok_or_else(|| {
        void("the principal's type or roles have changed since this enrolment token was made")
    })?;
    Ok(Proof { token, subject, creator })
}
