//! How an enrolment token looks, without its secret.

use airunner_core::Timestamp;
use airunner_proto::ca::v1 as pb;
use serde::Serialize;

use super::{
    cell,
    moment::{Moment, beside},
    principal::principal_type,
    some, time,
};

/// An enrolment token as it is kept.
#[derive(Debug, Serialize)]
pub(crate) struct EnrollmentView {
    pub(crate) enrollment_id: String,
    pub(crate) principal_id: String,
    principal_type: String,
    created_by: String,
    created_at: Option<Moment>,
    pub(crate) expires_at: Option<Moment>,
    used_at: Option<Moment>,
    serial_number: Option<String>,
    description: Option<String>,
}

impl EnrollmentView {
    /// The headers of [`EnrollmentView::row`].
    pub(crate) const HEADERS: &[&str] = &["ID", "PRINCIPAL", "CREATED BY", "EXPIRES", "USED", "DESCRIPTION"];

    /// A row of a list, as it is at `now`.
    pub(crate) fn row(&self, now: Timestamp) -> [String; 6] {
        let (id, principal, creator) =
            (self.enrollment_id.clone(), self.principal_id.clone(), self.created_by.clone());
        let (expires, used) = (beside(self.expires_at, now), beside(self.used_at, now));
        [id, principal, creator, expires, used, cell(self.description.as_ref())]
    }
}

impl From<pb::EnrollmentToken> for EnrollmentView {
    fn from(enrollment: pb::EnrollmentToken) -> Self {
        Self {
            enrollment_id: enrollment.enrollment_id,
            principal_id: enrollment.principal_id,
            principal_type: principal_type(enrollment.principal_type),
            created_by: enrollment.created_by,
            created_at: time(enrollment.created_at.as_ref()),
            expires_at: time(enrollment.expires_at.as_ref()),
            used_at: time(enrollment.used_at.as_ref()),
            serial_number: some(&enrollment.serial_number),
            description: some(&enrollment.description),
        }
    }
}
