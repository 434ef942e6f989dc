//! CertificateService over the use cases of certificates.

use std::time::Duration;

use airunner_app::certificate::{CertificateName, IssueRequest, RevokeTarget};
use airunner_core::{Certificate, CertificateFilter, CertificateRef, Error, PageRequest, Result};
use airunner_pki::certificate_to_pem;
use airunner_proto::ca::v1::{self as pb, certificate_service_server::CertificateService};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, Call, answer, call, convert};
use crate::router::RequestContext;

/// How long `wait` waits for the other servers.
const PATIENCE: Duration = Duration::from_secs(10);

/// CertificateService.
pub struct CertificateApi(pub Api);

#[async_trait]
impl CertificateService for CertificateApi {
    async fn issue_certificate(
        &self,
        request: Request<pb::IssueCertificateRequest>,
    ) -> Result<Response<pb::IssueCertificateResponse>, Status> {
        let call = call(request)?;
        call.answer(self.issue(&call).await)
    }

    async fn register_certificate(
        &self,
        request: Request<pb::RegisterCertificateRequest>,
    ) -> Result<Response<pb::RegisterCertificateResponse>, Status> {
        let call = call(request)?;
        let registered = async {
            let id = call.message.principal_id.parse()?;
            let wanted = &call.message;
            self.0
                .app
                .certificates
                .register(&call.caller, &id, &wanted.certificate, &wanted.description)
                .await
        };
        call.answer(
            registered.await.map(|certificate| pb::RegisterCertificateResponse {
                certificate: Some(message(&certificate)),
            }),
        )
    }

    async fn renew_certificate(
        &self,
        request: Request<pb::RenewCertificateRequest>,
    ) -> Result<Response<pb::RenewCertificateResponse>, Status> {
        let call = call(request)?;
        let renewed = self.0.app.certificates.renew(&call.caller, &call.message.csr).await;
        call.answer(renewed.map(|renewed| pb::RenewCertificateResponse {
            certificate: Some(message(&renewed.issued.certificate)),
            chain_pem: renewed.issued.chain_pem,
            predecessor_retire_at: Some(convert::time(renewed.predecessor_retire_at)),
        }))
    }

    async fn get_certificate(
        &self,
        request: Request<pb::GetCertificateRequest>,
    ) -> Result<Response<pb::GetCertificateResponse>, Status> {
        let call = call(request)?;
        let found = async {
            let name = name(&call.message.serial_number, &call.message.fingerprint)?;
            let name =
                name.ok_or_else(|| Error::invalid("serial_number", "name a serial number or a fingerprint"))?;
            self.0.app.certificates.get(&call.caller, &name).await
        };
        call.answer(
            found.await.map(|found| pb::GetCertificateResponse { certificate: Some(message(&found)) }),
        )
    }

    async fn list_certificates(
        &self,
        request: Request<pb::ListCertificatesRequest>,
    ) -> Result<Response<pb::ListCertificatesResponse>, Status> {
        let call = call(request)?;
        let listed = async {
            let page = PageRequest::parse(call.message.page_size, &call.message.page_token)?;
            let filter = self.filter(&call.message)?;
            self.0.app.certificates.list(&call.caller, filter, &page).await
        };
        call.answer(listed.await.map(|page| pb::ListCertificatesResponse {
            certificates: page.items.iter().map(message).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn revoke_certificates(
        &self,
        request: Request<pb::RevokeCertificatesRequest>,
    ) -> Result<Response<pb::RevokeCertificatesResponse>, Status> {
        let call = call(request)?;
        call.answer(self.revoke(&call).await)
    }

    async fn get_trust_bundle(
        &self,
        request: Request<pb::GetTrustBundleRequest>,
    ) -> Result<Response<pb::GetTrustBundleResponse>, Status> {
        let request_id = RequestContext::id_of(request.extensions());
        let issuers = self.0.app.issuers().current();
        let bundle = issuers.bundle();
        answer(
            &request_id,
            Ok(pb::GetTrustBundleResponse {
                roots_pem: bundle.roots_pem.clone(),
                issuing_pem: bundle.issuing_pem.clone(),
                trust_domain: self.0.app.settings().trust_domain.to_string(),
                bundle_hash: bundle.hash.clone(),
            }),
        )
    }
}

impl CertificateApi {
    async fn issue(&self, call: &Call<pb::IssueCertificateRequest>) -> Result<pb::IssueCertificateResponse> {
        let wanted = &call.message;
        let request_id = &wanted.request_id;
        let request = IssueRequest {
            principal_id: wanted.principal_id.parse()?,
            csr: wanted.csr.clone(),
            validity: convert::from_duration("validity", wanted.validity)?,
            description: wanted.description.clone(),
            request_id: (!request_id.is_empty()).then(|| request_id.parse()).transpose()?,
        };
        let issued = self.0.app.certificates.issue(&call.caller, request).await?;
        Ok(pb::IssueCertificateResponse {
            certificate: Some(message(&issued.certificate)),
            chain_pem: issued.chain_pem,
        })
    }

    async fn revoke(
        &self,
        call: &Call<pb::RevokeCertificatesRequest>,
    ) -> Result<pb::RevokeCertificatesResponse> {
        let wanted = &call.message;
        let target = match (name(&wanted.serial_number, &wanted.fingerprint)?, wanted.principal_id.as_str()) {
            (Some(name), "") => RevokeTarget::Certificate(name),
            (None, id) if !id.is_empty() => RevokeTarget::Principal(id.parse()?),
            _ => {
                return Err(Error::invalid(
                    "serial_number",
                    "name one: a serial number, a fingerprint or a principal",
                ));
            }
        };
        let reason = convert::from_reason("reason", wanted.reason)?;
        let app = &self.0.app;
        let revoked = app.certificates.revoke(&call.caller, &target, reason, wanted.dry_run).await?;
        let servers = if wanted.wait && !wanted.dry_run {
            app.fleet.applied_everywhere(app.fleet.applied(), PATIENCE).await?
        } else {
            Vec::new()
        };
        Ok(pb::RevokeCertificatesResponse {
            serial_numbers: revoked.iter().map(|CertificateRef { serial, .. }| serial.to_string()).collect(),
            servers: servers.into_iter().map(server_message).collect(),
        })
    }

    fn filter(&self, wanted: &pb::ListCertificatesRequest) -> Result<CertificateFilter> {
        let id = &wanted.principal_id;
        let now = self.0.app.clock().now();
        let within = convert::from_duration("expires_within", wanted.expires_within)?;
        Ok(CertificateFilter {
            principal_id: (!id.is_empty()).then(|| id.parse()).transpose()?,
            expires_before: within.map(|within| now.plus(within)),
            revoked: wanted.revoked,
            active: wanted.active,
            now,
        })
    }
}

/// The certificate that a serial number or a fingerprint names; none where both are empty.
fn name(serial: &str, fingerprint: &str) -> Result<Option<CertificateName>> {
    match (serial, fingerprint) {
        ("", "") => Ok(None),
        (serial, "") => Ok(Some(CertificateName::Serial(serial.parse()?))),
        ("", fingerprint) => Ok(Some(CertificateName::Fingerprint(fingerprint.parse()?))),
        _ => Err(Error::invalid("serial_number", "name a serial number or a fingerprint, not both")),
    }
}

fn server_message(server: airunner_app::fleet::Applied) -> pb::ServerApplied {
    pb::ServerApplied {
        server_id: server.server.id.to_string(),
        address: server.server.address,
        applied: server.applied,
        fenced: server.fenced,
    }
}

/// A certificate on the wire.
pub(super) fn message(certificate: &Certificate) -> pb::Certificate {
    let reason = certificate.revocation.map(|revocation| convert::reason(revocation.reason));
    pb::Certificate {
        serial_number: certificate.serial.to_string(),
        issuer_id: certificate.issuer_id.to_string(),
        principal_id: certificate.principal_id.to_string(),
        principal_type: convert::principal_type(certificate.principal_type) as i32,
        fingerprint: certificate.fingerprint.to_string(),
        subject_dn: certificate.subject_dn.clone(),
        profile: certificate.profile.as_str().to_owned(),
        labels: certificate.labels.clone().into_iter().collect(),
        issued_at: Some(convert::time(certificate.issued_at)),
        expires_at: Some(convert::time(certificate.expires_at)),
        retire_at: certificate.retire_at.map(convert::time),
        first_seen_at: certificate.first_seen_at.map(convert::time),
        lineage_id: certificate.lineage_id.to_string(),
        predecessor: certificate
            .predecessor
            .map(|reference| reference.serial.to_string())
            .unwrap_or_default(),
        revoked: certificate.revocation.is_some(),
        revoked_at: certificate.revocation.map(|revocation| convert::time(revocation.at)),
        revocation_reason: reason.unwrap_or_default() as i32,
        description: certificate.description.clone(),
        pem: certificate_to_pem(&certificate.der),
        job_id: certificate.job.as_ref().map(|job| job.id.to_string()).unwrap_or_default(),
    }
}
