//! `certificate` commands that ask no server: show, verify, rotate.

use std::path::{Path, PathBuf};

use airunner_core::{Clock, Error, Fingerprint, Label, Timestamp};
use airunner_host::{Home, local};
use airunner_net::TlsProfile;
use airunner_pki::{OidArc, ParsedCertificate, certificates_from_pem, parse_certificate, sha256};
use clap::Args;
use data_encoding::HEXLOWER;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Serialize;

use super::issue::read;
use crate::{
    bootstrap::AwsArgs,
    commands::ca::{local_home, means},
    context::Context,
    failure::{Failure, Result},
    report::Report,
    runtime::wait,
    view::moment::Moment,
};

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// The certificates, PEM or DER; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct ShownView {
    certificates: Vec<ParsedView>,
}

/// What is in a certificate.
#[derive(Serialize)]
pub(crate) struct ParsedView {
    pub(crate) serial_number: String,
    pub(crate) subject_dn: String,
    principal_id: Option<String>,
    principal_type: Option<String>,
    pub(crate) is_ca: bool,
    key_type: &'static str,
    not_before: Moment,
    pub(crate) not_after: Moment,
    dns_names: Vec<String>,
    ip_addresses: Vec<String>,
    uris: Vec<String>,
    emails: Vec<String>,
    authority_key_id: Option<String>,
    pub(crate) fingerprint: String,
    fingerprint_hex: String,
}

impl From<&ParsedCertificate> for ParsedView {
    fn from(parsed: &ParsedCertificate) -> Self {
        Self {
            serial_number: parsed.serial.to_string(),
            subject_dn: parsed.subject_dn.clone(),
            principal_id: parsed.principal.as_ref().map(|(_, id)| id.to_string()),
            principal_type: parsed.principal.as_ref().map(|(kind, _)| kind.to_string()),
            is_ca: parsed.is_ca,
            key_type: parsed.public_key.algorithm().as_str(),
            not_before: Moment(parsed.not_before),
            not_after: Moment(parsed.not_after),
            dns_names: parsed.dns_names.iter().map(ToString::to_string).collect(),
            ip_addresses: parsed.ip_addresses.iter().map(ToString::to_string).collect(),
            uris: parsed.uris.clone(),
            emails: parsed.emails.clone(),
            authority_key_id: parsed.authority_key_id.as_deref().map(|id| HEXLOWER.encode(id)),
            fingerprint: parsed.fingerprint.to_string(),
            fingerprint_hex: parsed.fingerprint.to_hex(),
        }
    }
}

impl ParsedView {
    /// Everything, for people who look at `now`.
    pub(crate) fn fields(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            ("serial number", self.serial_number.clone()),
            ("subject", self.subject_dn.clone()),
            ("principal", text(&self.principal_id)),
            ("type", text(&self.principal_type)),
            ("CA", if self.is_ca { "yes".to_owned() } else { String::new() }),
            ("key", self.key_type.to_owned()),
            ("from", self.not_before.told(now)),
            ("until", self.not_after.told(now)),
            ("DNS names", self.dns_names.join(", ")),
            ("IP addresses", self.ip_addresses.join(", ")),
            ("URIs", self.uris.join(", ")),
            ("email", self.emails.join(", ")),
            ("authority key", text(&self.authority_key_id)),
            ("fingerprint", self.fingerprint.clone()),
            ("fingerprint, hex", self.fingerprint_hex.clone()),
        ]
    }
}

impl ShowArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let certificates = parsed(&self.file)?.iter().map(|(_, parsed)| ParsedView::from(parsed)).collect();
        let view = ShownView { certificates };
        Report::records(view.certificates.iter().map(|view| view.fields(context.now())).collect(), &view)
    }
}

/// The certificates of a file, each with its DER.
fn parsed(path: &Path) -> Result<Vec<(Vec<u8>, ParsedCertificate)>> {
    let bytes = read(path)?;
    let named = |error: Error| Error::new(Label::File, format!("{}: {error}", path.display()));
    let ders = match bytes.first() {
        // A certificate in DER is a SEQUENCE (X.690 section 8.9).
        Some(0x30) => vec![bytes],
        _ => certificates_from_pem(&bytes).map_err(named)?,
    };
    let parse = |der: Vec<u8>| parse_certificate(&der, &OidArc::default()).map(|parsed| (der, parsed));
    Ok(ders.into_iter().map(parse).collect::<airunner_core::Result<_>>().map_err(named)?)
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// The certificate, leaf first and whatever is above it, PEM or DER; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct VerifiedView {
    valid: bool,
    certificate: ParsedView,
    /// SHA-256 of the roots that it was checked against, hex.
    roots: Vec<String>,
}

impl VerifyArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let connection = context.connection()?;
        let roots = connection.roots()?;
        let chain = parsed(&self.file)?;
        let ((_, leaf), _) =
            chain.split_first().ok_or_else(|| Failure::Usage("there is no certificate".to_owned()))?;
        // Exit code 3 is for a caller who is not authenticated: here nobody calls.
        let failed = |failure| Failure::WithCode(1, Box::new(failure));
        check_chain(&chain, &roots, &*context.clock).map_err(failed)?;
        let view = VerifiedView {
            valid: true,
            certificate: ParsedView::from(leaf),
            roots: roots.iter().map(|root| Fingerprint::from_bytes(sha256(root)).to_hex()).collect(),
        };
        let text = format!(
            "valid: {} under the roots of this environment, until {}",
            view.certificate.subject_dn,
            view.certificate.not_after.told(context.now())
        );
        Ok(Report::text(text, &view)?.with_hint(
            "whether it was revoked, or its principal suspended, the server knows: airunner-cli certificate get SERIAL",
        ))
    }
}

/// Checks the chain of an identity, leaf first, DER, under these roots.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_identity(chain: &[Vec<u8>], roots: &[Vec<u8>], clock: &dyn Clock) -> Result<()> {
    let parse = |der: &Vec<u8>| Ok((der.clone(), parse_certificate(der, &OidArc::default())?));
    let chain = chain.iter().map(parse).collect::<airunner_core::Result<Vec<_>>>()?;
    check_chain(&chain, roots, clock)
}

/// Builds the chain from the leaf to a root, as a TLS peer does, for what the leaf is for.
fn check_chain(chain: &[(Vec<u8>, ParsedCertificate)], roots: &[Vec<u8>], clock: &dyn Clock) -> Result<()> {
    let refuse = |why: String| Failure::from(Error::invalid("certificate", why));
    let Some(((leaf_der, leaf), above)) = chain.split_first() else {
        return Err(refuse("there is no certificate".to_owned()));
    };
    let now = clock.now();
    check_time(leaf, now)?;
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.as_slice())).map_err(Error::internal)?;
    }
    let store = std::sync::Arc::new(store);
    let provider = TlsProfile::Default.provider();
    let leaf_der = CertificateDer::from(leaf_der.as_slice());
    let above: Vec<_> = above.iter().map(|(der, _)| CertificateDer::from(der.as_slice())).collect();
    let seconds = u64::try_from(now.as_secs()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let name = leaf.dns_names.first().map(ToString::to_string);
    let name = name.or_else(|| leaf.ip_addresses.first().map(ToString::to_string));
    let verified = if let (None, Some(name)) = (&leaf.principal, name) {
        let name = ServerName::try_from(name).map_err(Error::internal)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(store, provider).build();
        verifier.map_err(Error::internal)?.verify_server_cert(&leaf_der, &above, &name, &[], at).map(drop)
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(store, provider).build();
        verifier.map_err(Error::internal)?.verify_client_cert(&leaf_der, &above, at).map(drop)
    };
    verified.map_err(|error| {
        refuse(format!(
            "{} is not valid under the roots of this environment: {error}; is the issuing CA in the file, and is it of \
             this environment?",
            leaf.subject_dn
        ))
    })
}

fn check_time(leaf: &ParsedCertificate, now: Timestamp) -> Result<()> {
    if now > leaf.not_after {
        let message = format!("{} has expired, at {}", leaf.subject_dn, leaf.not_after);
        return Err(Error::new(Label::CertificateExpired, message).into());
    }
    if now < leaf.not_before {
        let message = format!(
            "{} counts from {} only: is the clock of this machine right?",
            leaf.subject_dn, leaf.not_before
        );
        return Err(Error::new(Label::ClockSkew, message).into());
    }
    Ok(())
}

#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    /// The server's certificate (there is no other that is rotated so)
    #[arg(long, required = true)]
    server: bool,
    /// The folder of the environment [env: AIRUNNER_HOME] [default: where `bootstrap` makes it]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(flatten)]
    aws: AwsArgs,
}

#[derive(Serialize)]
struct RotatedView {
    outcome: &'static str,
    detail: String,
    /// Where servers find the certificate: a file, or a parameter of SSM.
    cert: String,
    key: String,
}

impl RotateArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let home: Home = local_home(self.home.as_deref(), context)?;
        let variable = |name: &str| context.environment.variable(name);
        let means = means(&variable, self.aws.settings(), context);
        let rotated = wait(async { Ok(local::rotate_server(&home, &means).await?) })?;
        let view = RotatedView {
            outcome: rotated.step.outcome.as_str(),
            detail: rotated.step.detail,
            cert: rotated.cert,
            key: rotated.key,
        };
        let text = format!("server certificate {}: {}", view.outcome, view.detail);
        Ok(Report::text(text, &view)?.with_hint("a running server takes it up by itself"))
    }
}
