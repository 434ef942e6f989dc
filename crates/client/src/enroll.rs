//! Enrolment: from a token to an identity on the disk. The token goes to nobody but the server whose root it names.

use std::{path::PathBuf, sync::Arc, time::Duration};

use airunner_core::{
    Clock, EnrollmentTokenText, Error as CoreError, Fingerprint, KeyAlgorithm, Label, PrincipalId, Secret,
};
use airunner_net::{
    ClientTls, TlsFailure, TlsProfile, bundle_probe_config, client_config, system::SystemClock,
};
use airunner_pki::{create_csr, sha256};
use airunner_proto::ca::v1::{
    EnrollRequest, GetTrustBundleRequest, certificate_service_client::CertificateServiceClient,
    enrollment_service_client::EnrollmentServiceClient,
};
use tokio::task::spawn_blocking;

use crate::{
    Channel, Endpoint, Error, IdentityFiles, LoadedIdentity, Result,
    channel::Patience,
    client::{DEFAULT_SILENCE, roots_of},
    identity::{FolderLock, Issued, PendingKey},
};

/// What enrolment needs. [`EnrollOptions::new`] fills in what is usual.
#[derive(Clone)]
pub struct EnrollOptions {
    /// The token, as the admin's call printed it.
    pub token: Secret,
    /// Where the identity is to be; made if it is missing.
    pub folder: PathBuf,
    /// What TLS is allowed.
    pub profile: TlsProfile,
    /// The type of the new key; by default P-256, under the `p384` profile P-384.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Encrypts the key on the disk.
    pub passphrase: Option<Secret>,
    /// How long a call may take.
    pub timeout: Duration,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl EnrollOptions {
    /// The usual enrolment.
    pub fn new(token: Secret, folder: impl Into<PathBuf>) -> Self {
        Self {
            token,
            folder: folder.into(),
            profile: TlsProfile::Default,
            key_algorithm: None,
            passphrase: None,
            timeout: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
        }
    }
}

impl EnrollOptions {
    const fn patience(&self) -> Patience {
        Patience { timeout: self.timeout, silence: DEFAULT_SILENCE }
    }
}

/// What enrolment came to.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The identity, as it is on the disk.
    pub identity: LoadedIdentity,
    /// Its folder.
    pub files: IdentityFiles,
    /// Whom the certificate names.
    pub principal_id: PrincipalId,
    /// `host:port` of the API listener, as the server knows it; may be empty.
    pub api_address: String,
}

/// Redeems a token: makes a key, gets its certificate, and puts both into the folder.
///
/// The key is on the disk before it is asked for, so after a crash or a lost answer the same call finishes: the server
/// gives the same certificate to the same token and key again.
///
/// # Errors
/// `server-untrusted` where the server is not the one that the token names: then the token was not sent;
/// `unreachable`; `token-invalid`, `token-expired`, `token-used`, `token-void`; `file`.
pub async fn enroll(options: EnrollOptions) -> Result<Enrolled> {
    // What is no text is refused like any other text that is no token.
    let token = EnrollmentTokenText::parse(std::str::from_utf8(options.token.expose()).unwrap_or_default())?;
    let endpoint: Endpoint = token.address.parse()?;
    let files = IdentityFiles::at(&options.folder, options.passphrase.clone());
    let lock = files.lock(&*options.clock).await?;
    let root = prove_root(&options, &endpoint, token.root).await?;
    // Before the first byte of the token leaves this machine, the key can't be lost any more.
    let (lock, key) = {
        let (files, algorithm) = (files.clone(), algorithm(&options));
        let pending = PendingKey::Enrollment(token.id);
        blocking(move || files.pending_key(&lock, pending, algorithm).map(|key| (lock, key))).await?
    };
    let tls = ClientTls { profile: options.profile, roots: vec![root], identity: None };
    let config = client_config(tls, Arc::clone(&options.clock))?;
    let channel = Channel::new(endpoint.clone(), config, 1, options.patience(), Arc::clone(&options.clock));
    let request = EnrollRequest { token: token.expose(), csr: create_csr(&key)? };
    let answer = EnrollmentServiceClient::new(channel).enroll(request).await;
    let answer = answer.map_err(|status| told_apart(status.into(), &endpoint))?.into_inner();
    let certificate = answer.certificate.ok_or_else(|| incomplete("certificate"))?;
    let principal_id = certificate.principal_id.parse()?;
    let identity = {
        let files = files.clone();
        blocking(move || {
            let lock: FolderLock = lock;
            let (chain_pem, roots_pem) = (&answer.chain_pem, &answer.roots_pem);
            let issued = Issued { key: &key, certificate_pem: &certificate.pem, chain_pem, roots_pem };
            files.install(&lock, &issued)
        })
        .await?
    };
    Ok(Enrolled { identity, files, principal_id, api_address: answer.api_address })
}

/// Asks the server for its roots over a connection that proves nothing, and returns the one that the token names.
async fn prove_root(options: &EnrollOptions, endpoint: &Endpoint, wanted: Fingerprint) -> Result<Vec<u8>> {
    let config = bundle_probe_config(options.profile)?.unverified_config();
    let channel = Channel::new(endpoint.clone(), config, 1, options.patience(), Arc::clone(&options.clock));
    let bundle = CertificateServiceClient::new(channel).get_trust_bundle(GetTrustBundleRequest {}).await?;
    let roots = roots_of(bundle.into_inner().roots_pem.as_bytes())?;
    let shown: Vec<String> =
        roots.iter().map(|root| Fingerprint::from_bytes(sha256(root)).to_hex()).collect();
    let root = roots.into_iter().find(|root| sha256(root) == *wanted.as_bytes());
    root.ok_or_else(|| {
        Error::new(
            Label::ServerUntrusted,
            format!(
                "wrong CA fingerprint: the token is for the root {}, and {endpoint} shows {}. Either the token is of \
                 another environment, or someone stands between. The token was not sent: ask the admin who made it for \
                 one of this environment, and for its address",
                wanted.to_hex(),
                shown.join(", "),
            ),
        )
    })
}

/// Tells a server that shows the right root, and has no certificate under it, from one that is away.
fn told_apart(error: Error, endpoint: &Endpoint) -> Error {
    if TlsFailure::among(&error) != Some(TlsFailure::ServerUntrusted) {
        return error;
    }
    Error::new(
        Label::ServerUntrusted,
        format!(
            "{endpoint} shows the root that the token names, and no certificate of its own under it: someone may stand \
             between. The token was not sent: check the address with the admin who made the token",
        ),
    )
    .with_cause(error)
}

fn algorithm(options: &EnrollOptions) -> KeyAlgorithm {
    options.key_algorithm.unwrap_or(match options.profile {
        TlsProfile::Default => KeyAlgorithm::EcdsaP256,
        TlsProfile::P384 => KeyAlgorithm::EcdsaP384,
    })
}

pub(crate) fn incomplete(what: &str) -> Error {
    CoreError::internal(format!("the answer has no {what}")).into()
}

/// Runs what reads and writes files where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> airunner_core::Result<T> + Send + 'static,
) -> Result<T> {
    Ok(spawn_blocking(work).await.map_err(CoreError::internal)??)
}
