//! `certificate` commands that add one: generate, issue, register.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use airunner_client::Client;
use airunner_core::{Error, KeyAlgorithm, Label, PrincipalId, Secret};
use airunner_host::{
    files::{self, Access},
    key_file,
};
use airunner_net::TlsProfile;
use airunner_pki::{AcceptedKeys, PrivateKey, create_csr, sha256, verify_csr};
use airunner_proto::ca::v1::{
    GetTrustBundleRequest, IssueCertificateRequest, IssueCertificateResponse, RegisterCertificateRequest,
};
use clap::{Args, ValueEnum};
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::PrincipalName;
use crate::{
    commands::present,
    context::Context,
    failure::Result,
    report::Report,
    runtime::wait,
    secret_input, values,
    view::{certificate::CertificateView, moment::told},
};

/// A key's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyType {
    /// ECDSA on P-256
    P256,
    /// ECDSA on P-384
    P384,
    /// ECDSA on P-521
    P521,
    /// Ed25519, where the environment accepts it
    Ed25519,
}

impl From<KeyType> for KeyAlgorithm {
    fn from(kind: KeyType) -> Self {
        match kind {
            KeyType::P256 => Self::EcdsaP256,
            KeyType::P384 => Self::EcdsaP384,
            KeyType::P521 => Self::EcdsaP521,
            KeyType::Ed25519 => Self::Ed25519,
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// Where key.pem, csr.pem, cert.pem, ca.pem and bundle.pem are written [default: a folder called as the principal]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// The key's type [default: p256, under the TLS profile p384 that]
    #[arg(long, value_enum, value_name = "TYPE")]
    key_type: Option<KeyType>,
    /// A file whose first line encrypts the key
    #[arg(long, value_name = "FILE")]
    key_passphrase_file: Option<PathBuf>,
    /// Its life, shorter than the principal's, as 24h
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    validity: Option<Duration>,
    /// A word for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
}

#[derive(Serialize)]
struct GeneratedView {
    certificate: CertificateView,
    folder: PathBuf,
    key: PathBuf,
    csr: PathBuf,
    cert: PathBuf,
    ca: PathBuf,
    bundle: PathBuf,
}

impl GenerateArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let id = self.name.get()?;
        let folder = self.output_dir.clone().unwrap_or_else(|| PathBuf::from(id.as_str()));
        let passphrase = self.key_passphrase_file.as_deref().map(secret_input::first_line).transpose()?;
        let algorithm = self.key_type.map(KeyAlgorithm::from);
        let algorithm = match (algorithm, context.connection()?.tls_profile) {
            (Some(algorithm), _) => algorithm,
            (None, TlsProfile::Default) => KeyAlgorithm::EcdsaP256,
            (None, TlsProfile::P384) => KeyAlgorithm::EcdsaP384,
        };
        let client = context.client()?;
        let cert = folder.join("cert.pem");
        if cert.exists() {
            let message = format!("{} is there already: choose another --output-dir", cert.display());
            return Err(Error::new(Label::AlreadyExists, message).into());
        }
        files::create_private_folder(&folder)?;
        let csr = request_in(&folder, algorithm, passphrase.as_ref())?;
        let (issued, roots_pem) = wait(async {
            let issued = self.ask(&client, id, csr).await?;
            let bundle = client.certificates().get_trust_bundle(GetTrustBundleRequest {}).await?;
            Ok((issued, bundle.into_inner().roots_pem))
        })?;
        let certificate = CertificateView::from(present(issued.certificate, "certificate")?);
        let chain = joined(&[certificate.pem.as_deref().unwrap_or_default(), &issued.chain_pem]);
        let view = GeneratedView {
            key: folder.join("key.pem"),
            csr: folder.join("csr.pem"),
            ca: folder.join("ca.pem"),
            bundle: folder.join("bundle.pem"),
            certificate,
            cert,
            folder,
        };
        files::write(&view.ca, roots_pem.as_bytes(), Access::Public)?;
        files::write(&view.bundle, joined(&[&chain, &roots_pem]).as_bytes(), Access::Public)?;
        // The last one: where it is there, the rest is.
        files::write(&view.cert, chain.as_bytes(), Access::Public)?;
        let text = format!(
            "{}: certificate {} until {}",
            view.folder.display(),
            view.certificate.serial_number,
            told(view.certificate.expires_at, context.now())
        );
        let hint = format!("use it with --identity {}", view.folder.display());
        Ok(Report::text(text, &view)?.with_hint(hint))
    }

    /// Asks for the certificate. The request id is that of the CSR, so that a repetition gets the same certificate.
    async fn ask(&self, client: &Client, id: &PrincipalId, csr: Vec<u8>) -> Result<IssueCertificateResponse> {
        let request = IssueCertificateRequest {
            principal_id: id.to_string(),
            request_id: HEXLOWER.encode(&sha256(&csr)),
            csr,
            validity: self.validity.map(values::wire),
            description: self.description.clone(),
        };
        Ok(client.certificates().issue_certificate(request).await?.into_inner())
    }
}

/// The CSR in the folder with its key. Both are on the disk before anyone is asked, and a repetition finds them.
fn request_in(folder: &Path, algorithm: KeyAlgorithm, passphrase: Option<&Secret>) -> Result<Vec<u8>> {
    let (key_path, csr_path) = (folder.join("key.pem"), folder.join("csr.pem"));
    let key = if let Some(key) = key_file::find(&key_path, passphrase)? {
        key
    } else {
        let key = PrivateKey::generate(algorithm)?;
        key_file::write(&key_path, &key, passphrase)?;
        key
    };
    let any = AcceptedKeys::new([
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::EcdsaP521,
        KeyAlgorithm::Ed25519,
    ]);
    let is_of_key =
        |csr: &Vec<u8>| verify_csr(csr, &any).is_ok_and(|csr| csr.public_key() == key.subject_public_key());
    if let Some(csr) = files::read(&csr_path)?.filter(is_of_key) {
        return Ok(csr);
    }
    let block = pem::Pem::new("CERTIFICATE REQUEST", create_csr(&key)?);
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let csr = pem::encode_config(&block, config).into_bytes();
    files::write(&csr_path, &csr, Access::Public)?;
    Ok(csr)
}

#[derive(Args, Debug)]
pub(super) struct IssueArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// The CSR (PKCS#10, PEM or DER); - is standard input
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// Its life, shorter than the principal's, as 24h
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    validity: Option<Duration>,
    /// A word for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Repeated with the same id and CSR within a day, it is the same certificate
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    request_id: String,
}

#[derive(Serialize)]
struct IssuedView {
    certificate: CertificateView,
    chain_pem: String,
}

impl IssueArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let request = IssueCertificateRequest {
            principal_id: self.name.get()?.to_string(),
            csr: read(&self.csr)?,
            validity: self.validity.map(values::wire),
            description: self.description.clone(),
            request_id: self.request_id.clone(),
        };
        let client = context.client()?;
        let answer =
            wait(async { Ok(client.certificates().issue_certificate(request).await?.into_inner()) })?;
        let view = IssuedView {
            certificate: present(answer.certificate, "certificate")?.into(),
            chain_pem: answer.chain_pem,
        };
        let pem = view.certificate.pem.as_deref().unwrap_or_default();
        Report::text(joined(&[pem, &view.chain_pem]), &view)
    }
}

#[derive(Args, Debug)]
pub(super) struct RegisterArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// The certificate, PEM or DER; - is standard input
    #[arg(long, alias = "cert", value_name = "FILE")]
    certificate: PathBuf,
    /// A word for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
}

impl RegisterArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let request = RegisterCertificateRequest {
            principal_id: self.name.get()?.to_string(),
            certificate: read(&self.certificate)?,
            description: self.description.clone(),
        };
        let client = context.client()?;
        let answer =
            wait(async { Ok(client.certificates().register_certificate(request).await?.into_inner()) })?;
        let view = CertificateView::from(present(answer.certificate, "certificate")?);
        Report::record(view.fields(context.now()), &view)
    }
}

/// A file of at most 1 MiB, or standard input.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().take(1 << 20).read_to_end(&mut bytes);
        read.map_err(|error| Error::new(Label::File, format!("can't read standard input: {error}")))?;
        return Ok(bytes);
    }
    let found = files::read(path)?;
    Ok(found.ok_or_else(|| Error::new(Label::File, format!("there is no file {}", path.display())))?)
}

/// PEM texts one after the other.
fn joined(pems: &[&str]) -> String {
    let texts = pems.iter().map(|pem| pem.trim_end()).filter(|pem| !pem.is_empty());
    texts.flat_map(|pem| [pem, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn key_and_request_are_private_and_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = request_in(folder.path(), KeyAlgorithm::EcdsaP256, None).unwrap();
        let key = std::fs::read(folder.path().join("key.pem")).unwrap();
        let mode = std::fs::metadata(folder.path().join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = request_in(folder.path(), KeyAlgorithm::EcdsaP384, None).unwrap();
        assert_eq!(first, second);
        assert_eq!(std::fs::read(folder.path().join("key.pem")).unwrap(), key);
    }

    #[test]
    fn a_request_of_another_key_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let first = request_in(folder.path(), KeyAlgorithm::EcdsaP256, None).unwrap();
        std::fs::remove_file(folder.path().join("key.pem")).unwrap();
        assert_ne!(request_in(folder.path(), KeyAlgorithm::EcdsaP256, None).unwrap(), first);
    }
}
