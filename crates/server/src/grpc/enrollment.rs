//! EnrollmentService over the use cases of enrolment.

use airunner_app::enrollment::{DEFAULT_TTL, TokenRequest};
use airunner_core::{EnrollmentToken, PageRequest, Result};
use airunner_proto::ca::v1::{self as pb, enrollment_service_server::EnrollmentService};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, Call, answer, call, certificate, convert};
use crate::router::RequestContext;

/// EnrollmentService.
pub struct EnrollmentApi(pub Api);

#[async_trait]
impl EnrollmentService for EnrollmentApi {
    async fn create_enrollment_token(
        &self,
        request: Request<pb::CreateEnrollmentTokenRequest>,
    ) -> Result<Response<pb::CreateEnrollmentTokenResponse>, Status> {
        let call = call(request)?;
        call.answer(self.create(&call).await)
    }

    async fn list_enrollment_tokens(
        &self,
        request: Request<pb::ListEnrollmentTokensRequest>,
    ) -> Result<Response<pb::ListEnrollmentTokensResponse>, Status> {
        let call = call(request)?;
        let listed = async {
            let page = PageRequest::parse(call.message.page_size, &call.message.page_token)?;
            self.0.app.enrollments.list(&call.caller, &page).await
        };
        call.answer(listed.await.map(|page| pb::ListEnrollmentTokensResponse {
            enrollments: page.items.iter().map(message).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn delete_enrollment_token(
        &self,
        request: Request<pb::DeleteEnrollmentTokenRequest>,
    ) -> Result<Response<pb::DeleteEnrollmentTokenResponse>, Status> {
        let call = call(request)?;
        let deleted = async {
            let id = call.message.enrollment_id.parse()?;
            self.0.app.enrollments.delete(&call.caller, &id).await
        };
        call.answer(deleted.await.map(|()| pb::DeleteEnrollmentTokenResponse {}))
    }

    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let context = RequestContext::of(request.extensions());
        let message = request.into_inner();
        let app = &self.0.app;
        let enrolled =
            app.enrollments.enroll(&message.token, &message.csr, &context.address, &context.request_id).await;
        answer(
            &context.request_id,
            enrolled.map(|issued| pb::EnrollResponse {
                certificate: Some(certificate::message(&issued.certificate)),
                chain_pem: issued.chain_pem,
                roots_pem: app.issuers().current().bundle().roots_pem.clone(),
                api_address: app.settings().api_address.clone(),
            }),
        )
    }
}

impl EnrollmentApi {
    async fn create(
        &self,
        call: &Call<pb::CreateEnrollmentTokenRequest>,
    ) -> Result<pb::CreateEnrollmentTokenResponse> {
        let wanted = &call.message;
        let request_id = &wanted.request_id;
        let request = TokenRequest {
            principal_id: wanted.principal_id.parse()?,
            ttl: convert::from_duration("ttl", wanted.ttl)?.unwrap_or(DEFAULT_TTL),
            description: wanted.description.clone(),
            address: wanted.address.clone(),
            request_id: (!request_id.is_empty()).then(|| request_id.parse()).transpose()?,
        };
        let (record, token) = self.0.app.enrollments.create(&call.caller, request).await?;
        Ok(pb::CreateEnrollmentTokenResponse { enrollment: Some(message(&record)), token: token.expose() })
    }
}

fn message(token: &EnrollmentToken) -> pb::EnrollmentToken {
    pb::EnrollmentToken {
        enrollment_id: token.id.to_string(),
        principal_id: token.principal_id.to_string(),
        principal_type: convert::principal_type(token.principal_type) as i32,
        created_by: token.created_by.to_string(),
        created_at: Some(convert::time(token.created_at)),
        expires_at: Some(convert::time(token.expires_at)),
        used_at: token.used_at.map(convert::time),
        serial_number: token
            .certificate
            .map(|certificate| certificate.serial.to_string())
            .unwrap_or_default(),
        description: token.description.clone(),
    }
}
