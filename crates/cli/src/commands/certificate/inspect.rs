//! `certificate show` and `verify`: certificates in files.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use airunner_core::{Kind, Label, Timestamp};
use airunner_host::files;
use airunner_pki::{
    IssuerCertificate, OidArc, ParsedCertificate, certificates_from_pem, parse_certificate, verify_issued_by,
};
use airunner_proto::ca::v1 as pb;
use clap::Args;
use serde::Serialize;

use crate::{
    Result,
    context::Context,
    failure::{FAILED, Failure},
    report::{Human, Report},
    view::{Fields, certificate::CertificateView},
};

/// Bytes that are read from standard input, at most.
const MAX_LEN: u64 = 1 << 20;

/// Show the certificates in a file.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// PEM or DER; - is standard input
    file: PathBuf,
}

/// Check a certificate in a file.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// PEM, leaf first, or DER; - is standard input
    file: PathBuf,
    /// Don't ask the registry: check chain and time against --cacert or the identity's roots
    #[arg(long)]
    offline: bool,
}

/// Reads a file, or standard input.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(MAX_LEN).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let missing = || Failure::new(Label::File, format!("there is no file {}", path.display()));
    files::read(path)?.ok_or_else(missing)
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = read(path)?;
    // DER begins with a SEQUENCE, PEM with a text.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes]);
    }
    let named = |error| Failure::new(Label::File, format!("{}: {error}", path.display()));
    certificates_from_pem(&bytes).map_err(named)
}

#[derive(Serialize)]
struct FileCertificate {
    serial_number: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_type: Option<&'static str>,
    is_ca: bool,
    key: &'static str,
    not_before: String,
    not_after: String,
    names: Vec<String>,
    sha256: String,
}

impl From<ParsedCertificate> for FileCertificate {
    fn from(certificate: ParsedCertificate) -> Self {
        let dns = certificate.dns_names.iter().map(|name| format!("DNS:{name}"));
        let addresses = certificate.ip_addresses.iter().map(|address| format!("IP:{address}"));
        let uris = certificate.uris.iter().map(|uri| format!("URI:{uri}"));
        let emails = certificate.emails.iter().map(|email| format!("email:{email}"));
        let principal = certificate.principal.as_ref();
        Self {
            names: dns.chain(addresses).chain(uris).chain(emails).collect(),
            serial_number: certificate.serial.to_string(),
            principal: principal.map(|(_, id)| id.to_string()),
            principal_type: principal.map(|(principal_type, _)| principal_type.as_str()),
            is_ca: certificate.is_ca,
            key: certificate.public_key.algorithm().as_str(),
            not_before: certificate.not_before.to_string(),
            not_after: certificate.not_after.to_string(),
            sha256: certificate.fingerprint.to_hex(),
            subject: certificate.subject_dn,
        }
    }
}

#[derive(Serialize)]
struct FileCertificates {
    certificates: Vec<FileCertificate>,
}

impl ShowArgs {
    pub(super) fn run(self, _context: &Context) -> Result<Report> {
        let parse = |der: Vec<u8>| Ok(parse_certificate(&der, &OidArc::default())?.into());
        let certificates = certificates(&self.file)?.into_iter().map(parse).collect::<Result<Vec<_>>>()?;
        let human = match certificates.as_slice() {
            [one] => fields(one),
            several => table(several),
        };
        Ok(Report::new(FileCertificates { certificates }, human))
    }
}

fn fields(certificate: &FileCertificate) -> Human {
    let principal = certificate.principal.as_ref().zip(certificate.principal_type);
    Fields::new()
        .with("serial", &certificate.serial_number)
        .with("subject", &certificate.subject)
        .maybe("principal", principal.map(|(id, kind)| format!("{id} ({kind})")).as_ref())
        .list("names", &certificate.names)
        .with("kind", if certificate.is_ca { "CA" } else { "leaf" })
        .with("key", certificate.key)
        .with("from", &certificate.not_before)
        .with("until", &certificate.not_after)
        .with("SHA-256", &certificate.sha256)
        .done()
}

fn table(certificates: &[FileCertificate]) -> Human {
    let row = |certificate: &FileCertificate| {
        let kind = if certificate.is_ca { "CA" } else { "leaf" };
        vec![
            kind.to_owned(),
            certificate.subject.clone(),
            certificate.key.to_owned(),
            certificate.not_after.clone(),
            certificate.serial_number.clone(),
        ]
    };
    let rows = certificates.iter().map(row).collect();
    Human::Table { head: &["kind", "subject", "key", "until", "serial"], rows, empty: "" }
}

/// One thing that was checked.
#[derive(Serialize)]
struct Check {
    check: &'static str,
    ok: bool,
    detail: String,
}

#[derive(Serialize)]
struct VerifyView {
    valid: bool,
    checks: Vec<Check>,
}

/// What a certificate is held against.
struct Anchors {
    roots: Vec<Vec<u8>>,
    issuing: Vec<Vec<u8>>,
    record: Option<Result<CertificateView>>,
}

impl VerifyArgs {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let chain = certificates(&self.file)?;
        let leaf_der =
            chain.first().ok_or_else(|| Failure::new(Label::File, "the file holds no certificate"))?;
        let leaf = parse_certificate(leaf_der, &OidArc::default())?;
        let anchors = if self.offline { offline(context)? } else { online(context, &leaf)? };
        let now = context.now();
        let mut checks = vec![check_chain(&chain, &anchors), check_time(&leaf, now)];
        if let Some(record) = anchors.record {
            checks.push(check_record(record, &now.to_string())?);
        }
        let rows = checks
            .iter()
            .map(|check| {
                vec![
                    check.check.to_owned(),
                    if check.ok { "ok" } else { "FAILED" }.to_owned(),
                    check.detail.clone(),
                ]
            })
            .collect();
        let human = Human::Table { head: &["check", "result", "detail"], rows, empty: "" };
        let valid = checks.iter().all(|check| check.ok);
        let report = Report::new(VerifyView { valid, checks }, human);
        Ok(if valid { report } else { report.with_code(FAILED) })
    }
}

fn offline(context: &Context) -> Result<Anchors> {
    let connection = context.connection()?;
    let roots = match connection.roots()? {
        Some(pem) => certificates_from_pem(&pem)?,
        None => connection.identity_files()?.load()?.roots().to_vec(),
    };
    Ok(Anchors { roots, issuing: Vec::new(), record: None })
}

fn online(context: &Context, leaf: &ParsedCertificate) -> Result<Anchors> {
    let request =
        pb::GetCertificateRequest { serial_number: String::new(), fingerprint: leaf.fingerprint.to_string() };
    let (bundle, record) = context.call(async |client| {
        let bundle = client.certificates().get_trust_bundle(pb::GetTrustBundleRequest {}).await?.into_inner();
        let record = client.certificates().get_certificate(request).await;
        Ok((bundle, record.map_err(Failure::from).map(|answer| answer.into_inner().certificate)))
    })?;
    let parse =
        |pem: &str| if pem.is_empty() { Ok(Vec::new()) } else { certificates_from_pem(pem.as_bytes()) };
    // A server's certificate names no principal, and stands in no registry.
    let is_registered = leaf.principal.is_some();
    let record = record.map(|certificate| CertificateView::from(certificate.unwrap_or_default()));
    Ok(Anchors {
        roots: parse(&bundle.roots_pem)?,
        issuing: parse(&bundle.issuing_pem)?,
        record: is_registered.then_some(record),
    })
}

fn check_chain(chain: &[Vec<u8>], anchors: &Anchors) -> Check {
    let issuers = |ders: &[Vec<u8>]| {
        ders.iter().filter_map(|der| IssuerCertificate::parse(der).ok()).collect::<Vec<_>>()
    };
    let roots = issuers(&anchors.roots);
    let between: Vec<_> = issuers(&chain[1..]).into_iter().chain(issuers(&anchors.issuing)).collect();
    let under = |der: &[u8], issuers: &[IssuerCertificate]| {
        issuers.iter().find(|issuer| verify_issued_by(der, issuer).is_ok()).cloned()
    };
    let root = under(&chain[0], &roots)
        .or_else(|| under(&chain[0], &between).and_then(|issuing| under(issuing.der(), &roots)));
    match root {
        Some(root) => Check { check: "chain", ok: true, detail: format!("under {}", root.subject_dn()) },
        None => {
            Check { check: "chain", ok: false, detail: "stands under no root of the trust bundle".to_owned() }
        }
    }
}

fn check_time(leaf: &ParsedCertificate, now: Timestamp) -> Check {
    let (ok, detail) = if now < leaf.not_before {
        (false, format!("begins at {}", leaf.not_before))
    } else if now >= leaf.not_after {
        (false, format!("ended at {}", leaf.not_after))
    } else {
        (true, format!("until {}", leaf.not_after))
    };
    Check { check: "time", ok, detail }
}

fn check_record(record: Result<CertificateView>, now: &str) -> Result<Check> {
    let check = "registry";
    match record {
        Ok(record) => {
            let status = record.status(now);
            Ok(Check { check, ok: status == "active", detail: status })
        }
        Err(Failure::Error(error)) if error.kind() == Kind::NotFound => {
            Ok(Check { check, ok: false, detail: "does not know it: nobody can call with it".to_owned() })
        }
        Err(failure) => Err(failure),
    }
}
