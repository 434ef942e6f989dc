//! IssuerService over the use cases of issuers.

use airunner_pki::certificate_to_pem;
use airunner_proto::ca::v1::{self as pb, issuer_service_server::IssuerService};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, call, convert};

/// IssuerService.
pub struct IssuerApi(pub Api);

#[async_trait]
impl IssuerService for IssuerApi {
    async fn renew_issuer(
        &self,
        request: Request<pb::RenewIssuerRequest>,
    ) -> Result<Response<pb::RenewIssuerResponse>, Status> {
        let call = call(request)?;
        let renewed = self.0.app.renew_issuer(&call.caller).await;
        call.answer(renewed.map(|issuer| pb::RenewIssuerResponse {
            issuer: Some(pb::Issuer {
                issuer_id: issuer.record.id.to_string(),
                subject_dn: issuer.certificate.subject_dn().to_owned(),
                created_at: Some(convert::time(issuer.record.created_at)),
                expires_at: Some(convert::time(issuer.record.expires_at)),
                pem: certificate_to_pem(&issuer.record.der),
            }),
        }))
    }
}
