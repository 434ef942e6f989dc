//! Echo: a bare tonic handler that takes and gives messages of the size of issuance, behind our own listener and with
//! client certificates, but with no authentication, no store and no signature.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use airunner_client::{Client, ClientOptions, Endpoint, IdentitySource, LoadedIdentity};
use airunner_core::{KeyAlgorithm, PrincipalType, Profile, Result, Serial, Timestamp};
use airunner_net::{
    ClientVerifier, Connection, ConnectionHandler, Limits, Listener, RevocationView, ServerIdentity,
    TlsIdentity, TlsProfile, TrustAnchors, serve_http, serve_tls, server_config,
    system::{SystemClock, SystemRandom},
};
use airunner_pki::{
    CaParams, IssuerCertificate, LeafParams, OidArc, PrivateKey, certificate_to_pem, create_csr,
    prepare_leaf, prepare_single,
};
use airunner_proto::ca::v1::{
    self as pb,
    certificate_service_server::{CertificateService, CertificateServiceServer},
};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use super::{
    BenchArgs,
    load::{Measured, drive},
};

/// Runs echo.
pub(super) async fn run(args: &BenchArgs) -> airunner_client::Result<Measured> {
    let ca = Ca::new().await?;
    let (address, shutdown) = ca.serve().await?;
    let mut options = ClientOptions::new(
        format!("https://127.0.0.1:{}", address.port()).parse::<Endpoint>()?,
        certificate_to_pem(ca.issuer.der()),
        Some(ca.client().await?),
    );
    options.connections = args.connections.get();
    let client = Client::connect(options).await?;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let request = pb::IssueCertificateRequest {
        principal_id: "bench-1".to_owned(),
        csr: create_csr(&key)?,
        ..pb::IssueCertificateRequest::default()
    };
    let callers = vec![(client, request); args.callers.get()];
    let measured = drive(callers, args, |caller| async move {
        let (client, request) = &*caller.lock().await;
        let answer = client.certificates().issue_certificate(request.clone()).await;
        answer.map(|_| Some(1)).map_err(|status| status.to_string())
    })
    .await;
    shutdown.cancel();
    Ok(measured)
}

/// A CA that lives as long as the run.
pub(super) struct Ca {
    key: PrivateKey,
    issuer: IssuerCertificate,
    random: SystemRandom,
}

impl Ca {
    pub(super) async fn new() -> Result<Self> {
        let random = SystemRandom::new();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
        let (not_before, not_after) = life();
        let params = CaParams {
            serial: Serial::new(not_before, &random),
            subject: "bench".to_owned(),
            public_key: key.subject_public_key().clone(),
            not_before,
            not_after,
        };
        let signed = prepare_single(&params)?.sign(&key).await?;
        Ok(Self { issuer: IssuerCertificate::parse(signed.der())?, key, random })
    }

    async fn leaf(&self, profile: Profile) -> Result<(Vec<u8>, PrivateKey)> {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
        let (not_before, not_after) = life();
        let is_server = profile == Profile::Server;
        let id = "bench".parse()?;
        let params = LeafParams {
            serial: Serial::new(not_before, &self.random),
            public_key: key.subject_public_key().clone(),
            common_name: "bench".to_owned(),
            profile,
            uri: (!is_server).then(|| "spiffe://bench/admin/bench".to_owned()),
            dns_names: Vec::new(),
            ip_addresses: if is_server { vec![Ipv4Addr::LOCALHOST.into()] } else { Vec::new() },
            email: None,
            principal: (!is_server).then_some((PrincipalType::Admin, id)),
            not_before,
            not_after,
        };
        let signed = prepare_leaf(&self.issuer, &params, &OidArc::default())?.sign(&self.key).await?;
        Ok((signed.into_der(), key))
    }

    async fn client(&self) -> airunner_client::Result<IdentitySource> {
        let (der, key) = self.leaf(Profile::Client).await?;
        let pem = certificate_to_pem(&der);
        let identity = LoadedIdentity::from_pem(pem.as_bytes(), key.to_pem(None)?.expose(), None, &[])?;
        Ok(IdentitySource::Loaded(Box::new(identity)))
    }

    /// Serves echo until the token is cancelled.
    async fn serve(&self) -> Result<(std::net::SocketAddr, CancellationToken)> {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), "bench").await?;
        let address = listener.local_addr();
        let (der, key) = self.leaf(Profile::Server).await?;
        let identity = TlsIdentity::from_der(vec![der], &key.to_pkcs8(), TlsProfile::Default)?;
        let anchors = TrustAnchors::new(vec![self.issuer.der().to_vec()])?;
        let verifier =
            ClientVerifier::new(TlsProfile::Default, anchors, Arc::new(Nothing), Arc::new(SystemClock));
        let config =
            server_config(TlsProfile::Default, ServerIdentity::new(identity), Some(Arc::new(verifier)))?;
        let shutdown = CancellationToken::new();
        let limits = Limits::default();
        let handler = Echo { limits: limits.clone(), routes: routes(self.issuer.der()) };
        tokio::spawn(serve_tls(listener, config, limits, shutdown.clone(), Arc::new(handler)));
        Ok((address, shutdown))
    }
}

fn life() -> (Timestamp, Timestamp) {
    use airunner_core::Clock as _;
    let now = SystemClock.now().floor_second();
    (now.minus(Duration::from_mins(1)), now.plus(Duration::from_hours(24)))
}

struct Nothing;

impl RevocationView for Nothing {
    fn is_revoked(&self, _authority_key_id: &[u8], _serial: &[u8]) -> bool {
        false
    }
}

struct Echo {
    limits: Limits,
    routes: axum::Router,
}

#[async_trait]
impl ConnectionHandler for Echo {
    async fn serve(&self, connection: Connection) {
        let service = TowerToHyperService::new(self.routes.clone());
        serve_http(connection.stream, service, &self.limits, &connection.handle).await;
    }
}

fn routes(der: &[u8]) -> axum::Router {
    let certificate = pb::Certificate {
        serial_number: "019ab0000000700080000000000000000".to_owned(),
        issuer_id: "019ab000-0000-7000-8000-000000000000".to_owned(),
        principal_id: "bench-1".to_owned(),
        fingerprint: "A".repeat(44),
        subject_dn: "CN=bench-1".to_owned(),
        profile: "client".to_owned(),
        issued_at: Some(prost_types::Timestamp::default()),
        expires_at: Some(prost_types::Timestamp::default()),
        lineage_id: "019ab000-0000-7000-8000-000000000000".to_owned(),
        pem: certificate_to_pem(der),
        ..pb::Certificate::default()
    };
    let answer =
        pb::IssueCertificateResponse { certificate: Some(certificate), chain_pem: certificate_to_pem(der) };
    tonic::service::Routes::new(CertificateServiceServer::new(Bare(answer))).prepare().into_axum_router()
}

/// Answers issuance with the same certificate each time, and nothing else.
struct Bare(pb::IssueCertificateResponse);

macro_rules! absent {
    ($($name:ident($request:ty) -> $response:ty;)+) => {
        #[async_trait]
        impl CertificateService for Bare {
            async fn issue_certificate(
                &self,
                _request: Request<pb::IssueCertificateRequest>,
            ) -> Result<Response<pb::IssueCertificateResponse>, Status> {
                Ok(Response::new(self.0.clone()))
            }
            $(
                async fn $name(&self, _request: Request<$request>) -> Result<Response<$response>, Status> {
                    Err(Status::unimplemented("echo answers issuance alone"))
                }
            )+
        }
    };
}

absent! {
    register_certificate(pb::RegisterCertificateRequest) -> pb::RegisterCertificateResponse;
    renew_certificate(pb::RenewCertificateRequest) -> pb::RenewCertificateResponse;
    get_certificate(pb::GetCertificateRequest) -> pb::GetCertificateResponse;
    list_certificates(pb::ListCertificatesRequest) -> pb::ListCertificatesResponse;
    revoke_certificates(pb::RevokeCertificatesRequest) -> pb::RevokeCertificatesResponse;
    get_trust_bundle(pb::GetTrustBundleRequest) -> pb::GetTrustBundleResponse;
}
