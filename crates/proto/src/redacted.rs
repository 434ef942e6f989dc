//! `Debug` for messages that hold a secret: it shows that there is one, and nothing of it.

use std::fmt;

use crate::ca::v1::{CreateEnrollmentTokenResponse, EnrollRequest};

impl fmt::Debug for EnrollRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollRequest").field("csr", &self.csr.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for CreateEnrollmentTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateEnrollmentTokenResponse")
            .field("enrollment", &self.enrollment)
            .finish_non_exhaustive()
    }
}
