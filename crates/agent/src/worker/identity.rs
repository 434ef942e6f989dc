//! A job's own identity: a key that is nowhere but in memory, and a certificate that is renewed for as long as the job
//! runs. What others need of it lies in files that the job can read and not write; what they mean to the job, variables
//! tell that `airunner-cli` knows too.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use airunner_client::{Backoff, Error};
use airunner_core::{KeyAlgorithm, Timestamp, uuid_v7};
use airunner_exec::{MemoryFile, Spec};
use airunner_net::TlsProfile;
use airunner_pki::{PrivateKey, create_csr};
use airunner_proto::{
    ca::v1::GetTrustBundleRequest,
    job::v1::{IssueJobCertificateRequest, Note, job_event::Kind},
};
use tokio::task::spawn_blocking;

use super::{
    held::Held,
    options::{failed, make_directory},
    shared::Shared,
    task::Failed,
};

/// The certificate with the issuing CA behind it.
const CERTIFICATE: &str = "client.pem";
/// The roots of the environment.
const ROOTS: &str = "ca.pem";
/// How long a job that is to have a certificate waits for a server that gives it none.
const PATIENCE: Duration = Duration::from_mins(1);
/// The shortest pause between two renewals, whatever a certificate's life.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// A job's identity. Its owner removes it with [`JobIdentity::remove`].
pub(super) struct JobIdentity {
    directory: PathBuf,
    key: MemoryFile,
    csr: Vec<u8>,
    /// How long until the certificate is to be renewed: two thirds of its life.
    renew_after: Duration,
}

impl JobIdentity {
    /// Makes a key, and has the server certify it.
    pub(super) async fn obtain(shared: &Shared, held: &Held, name: &str) -> Result<Self, Failed> {
        let algorithm = match shared.client.profile() {
            TlsProfile::P384 => KeyAlgorithm::EcdsaP384,
            TlsProfile::Default => KeyAlgorithm::EcdsaP256,
        };
        let key = PrivateKey::generate(algorithm)?;
        let csr = create_csr(&key)?;
        let key = MemoryFile::new(key.to_pem(None)?.expose())
            .map_err(|error| Failed(format!("the job's key can't be kept in memory: {error}")))?;
        let directory = shared.site.identities.join(name);
        make_directory(&directory, 0o755)?;
        let mut identity = Self { directory, key, csr, renew_after: Duration::ZERO };
        let started = shared.clock.monotonic();
        let mut backoff = Backoff::default();
        loop {
            let error = match identity.renew(shared, held).await {
                Ok(()) => return Ok(identity),
                Err(error) => error,
            };
            if !error.is_transient() || shared.clock.monotonic().since(started) > PATIENCE {
                return Err(Failed(format!("the job's certificate can't be had: {error}")));
            }
            shared.clock.sleep(backoff.next(&*shared.random)).await;
        }
    }

    /// Tells the job where it finds all of it.
    pub(super) fn furnish(&self, spec: Spec, shared: &Shared) -> Spec {
        spec.env("AIRUNNER_SERVER", shared.client.endpoint().to_string())
            .env("AIRUNNER_CACERT", self.directory.join(ROOTS))
            .env("AIRUNNER_CLIENT_CERT", self.directory.join(CERTIFICATE))
            .memory_file("AIRUNNER_CLIENT_KEY", &self.key)
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Renews the certificate whenever that is due, until it is dropped.
    pub(super) async fn keep(&mut self, shared: Arc<Shared>, held: Arc<Held>) -> Infallible {
        loop {
            shared.clock.sleep(self.renew_after.max(LEAST_PAUSE)).await;
            let mut backoff = Backoff::default();
            let mut is_told = false;
            while let Err(error) = self.renew(&shared, &held).await {
                tracing::warn!(%error, job = held.job_id, "a job's certificate can't be renewed; trying again");
                if !error.is_transient() && !is_told {
                    is_told = true;
                    let message = format!("the job's certificate can't be renewed: {error}");
                    held.outbox.push(
                        Kind::Note(Note { message }),
                        shared.clock.now(),
                        shared.clock.monotonic(),
                    );
                }
                shared.clock.sleep(backoff.next(&*shared.random).max(LEAST_PAUSE)).await;
            }
        }
    }

    /// Removes its files.
    pub(super) async fn remove(self) {
        let directory = self.directory.clone();
        let removed = spawn_blocking(move || fs::remove_dir_all(directory)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, directory = %self.directory.display(), "a job's certificate can't be removed; the next start does it");
        }
    }

    /// Asks for a certificate of the same key, and puts it in the place of the one before.
    async fn renew(&mut self, shared: &Shared, held: &Held) -> Result<(), Error> {
        let now = shared.clock.now();
        let request = IssueJobCertificateRequest {
            task_token: held.token.clone(),
            csr: self.csr.clone(),
            request_id: uuid_v7(now, &*shared.random).to_string(),
        };
        let roots =
            shared.client.certificates().get_trust_bundle(GetTrustBundleRequest {}).await?.into_inner();
        let issued = shared.client.jobs().issue_job_certificate(request).await?.into_inner();
        let certificate = issued.certificate.unwrap_or_default();
        let expires_at = certificate.expires_at.unwrap_or_default();
        let life = Timestamp::from_millis(expires_at.seconds.saturating_mul(1_000)).since(now);
        let (directory, chain) = (self.directory.clone(), certificate.pem + &issued.chain_pem);
        spawn_blocking(move || {
            replace(&directory.join(ROOTS), &roots.roots_pem)?;
            replace(&directory.join(CERTIFICATE), &chain)
        })
        .await
        .map_err(airunner_core::Error::internal)??;
        self.renew_after = life * 2 / 3;
        Ok(())
    }
}

/// Whoever reads it sees the old text or the new.
fn replace(path: &Path, text: &str) -> airunner_core::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let new = path.with_extension("new");
    fs::write(&new, text).map_err(failed("write", &new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).map_err(failed("write", &new))?;
    fs::rename(&new, path).map_err(failed("replace", path))
}
