//! `certificate generate`: key, CSR and certificate in one.

use std::{path::PathBuf, time::Duration};

use airunner_core::{KeyAlgorithm, Label};
use airunner_host::{
    files::{self, Access},
    key_file,
};
use airunner_net::TlsProfile;
use airunner_pki::{PrivateKey, create_csr};
use airunner_proto::ca::v1 as pb;
use clap::Args;
use serde::Serialize;

use crate::{
    Result,
    commands::enroll::{KeyType, absolute, new_key_passphrase},
    context::Context,
    failure::Failure,
    report::Report,
    value::{PrincipalArg, duration, wire},
    view::{Fields, certificate::CertificateView},
};

/// Make a key and a CSR here, and have the certificate issued. The key never leaves this machine.
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    /// Where key.pem, cert.pem, ca.pem and bundle.pem are put; by default a folder of the principal's name
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// The type of the key
    #[arg(long, value_enum, value_name = "TYPE")]
    key_type: Option<KeyType>,
    /// A shorter life than the principal's
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    validity: Option<Duration>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
}

#[derive(Serialize)]
struct GeneratedView {
    #[serde(flatten)]
    certificate: CertificateView,
    folder: PathBuf,
}

impl GenerateArgs {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let principal_id = self.principal.get();
        let folder = self.output_dir.clone().unwrap_or_else(|| PathBuf::from(&principal_id));
        let folder = absolute(&folder)?;
        // Before the key, so that one is not left behind by a caller who is nobody.
        let client = context.client()?;
        let key = self.key(context, &folder)?;
        let request = pb::IssueCertificateRequest {
            principal_id,
            csr: create_csr(&key)?,
            validity: self.validity.map(wire),
            description: self.description,
            // The same key again is the same request, so that a lost answer costs no second certificate.
            request_id: key.subject_public_key().fingerprint().to_hex(),
        };
        let (issued, bundle) = crate::context::block_on(async {
            let issued = client.certificates().issue_certificate(request).await?.into_inner();
            let bundle = client.certificates().get_trust_bundle(pb::GetTrustBundleRequest {}).await?;
            Ok((issued, bundle.into_inner()))
        })?;
        let certificate = CertificateView::from(issued.certificate.unwrap_or_default());
        let chain = format!("{}{}", certificate.pem, issued.chain_pem);
        let with_roots = format!("{chain}{}", bundle.roots_pem);
        for (name, text) in [("cert.pem", &chain), ("ca.pem", &bundle.roots_pem), ("bundle.pem", &with_roots)]
        {
            files::write(&folder.join(name), text.as_bytes(), Access::Public)?;
        }
        let human = Fields::new()
            .with("certificate", &certificate.serial_number)
            .maybe("expires", certificate.expires_at.as_ref())
            .with("folder", folder.display().to_string())
            .done();
        Ok(Report::new(GeneratedView { certificate, folder }, human))
    }

    /// A key that waits for its certificate since an earlier try, or a new one, on the disk before it is used.
    fn key(&self, context: &Context, folder: &std::path::Path) -> Result<PrivateKey> {
        let path = folder.join("key.pem");
        if folder.join("cert.pem").exists() {
            return Err(Failure::new(
                Label::AlreadyExists,
                format!("{} holds a certificate already: choose another --output-dir", folder.display()),
            ));
        }
        let passphrase = new_key_passphrase(context)?;
        if let Some(key) = key_file::find(&path, passphrase.as_ref())? {
            return Ok(key);
        }
        let algorithm = match (self.key_type, context.connection()?.tls_profile) {
            (Some(key_type), _) => key_type.into(),
            (None, TlsProfile::Default) => KeyAlgorithm::EcdsaP256,
            (None, TlsProfile::P384) => KeyAlgorithm::EcdsaP384,
        };
        let key = PrivateKey::generate(algorithm)?;
        files::create_private_folder(folder)?;
        key_file::write(&path, &key, passphrase.as_ref())?;
        Ok(key)
    }
}
