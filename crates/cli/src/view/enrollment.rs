//! Enrolments: single-use tokens, without their secrets but for the one moment when one is made.

use airunner_proto::ca::v1 as pb;
use serde::Serialize;

use super::{Fields, principal::type_name, text, time};
use crate::report::Human;

/// An enrolment.
#[derive(Serialize)]
pub(crate) struct EnrollmentView {
    enrollment_id: String,
    principal_id: String,
    principal_type: &'static str,
    created_by: String,
    created_at: Option<String>,
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl From<pb::EnrollmentToken> for EnrollmentView {
    fn from(enrollment: pb::EnrollmentToken) -> Self {
        Self {
            principal_type: type_name(enrollment.principal_type),
            created_at: time(enrollment.created_at.as_ref()),
            expires_at: time(enrollment.expires_at.as_ref()),
            used_at: time(enrollment.used_at.as_ref()),
            serial_number: text(enrollment.serial_number),
            description: text(enrollment.description),
            enrollment_id: enrollment.enrollment_id,
            principal_id: enrollment.principal_id,
            created_by: enrollment.created_by,
            token: None,
        }
    }
}

impl EnrollmentView {
    /// The head of a table of enrolments.
    pub(crate) const HEAD: &'static [&'static str] =
        &["enrollment", "principal", "by", "created", "expires", "status"];

    /// With the secret, which is shown this once.
    pub(crate) fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    pub(crate) fn row(&self, now: &str) -> Vec<String> {
        let status = match (&self.used_at, &self.expires_at) {
            (Some(_), _) => "used",
            (None, Some(at)) if at.as_str() <= now => "expired",
            _ => "open",
        };
        vec![
            self.enrollment_id.clone(),
            self.principal_id.clone(),
            self.created_by.clone(),
            self.created_at.clone().unwrap_or_default(),
            self.expires_at.clone().unwrap_or_default(),
            status.to_owned(),
        ]
    }

    /// The secret stands last, where it is easy to take.
    pub(crate) fn fields(&self) -> Human {
        Fields::new()
            .with("enrollment", &self.enrollment_id)
            .with("principal", format!("{} ({})", self.principal_id, self.principal_type))
            .maybe("description", self.description.as_ref())
            .maybe("expires", self.expires_at.as_ref())
            .maybe("token", self.token.as_ref())
            .done()
    }
}
