//! The environment of a server on this machine: its configuration, the files that it needs, and each of its listeners.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use airunner_client::ClientOptions;
use airunner_core::Label;
use airunner_host::{Config, Home, config::Backend};
use airunner_pki::{OidArc, certificates_from_pem, parse_certificate};
use rustix::fs::statvfs;

use super::{
    Findings, State,
    identity::said,
    listener::{from_here, get, trust_bundle},
};
use crate::{context::Context, failure::Failure, view::moment::Moment};

/// Bytes that should be left where the store is.
const LEAST_SPACE: u64 = 512 << 20;
const AGAIN: &str = "airunner-cli bootstrap --environment local makes what is missing";
const START: &str = "start it: airunner-server (its log says what keeps it from serving)";

/// Looks at the configuration and the files; the configuration comes back where it can be read.
pub(crate) fn examine(findings: &mut Findings, context: &Context, home: &Home) -> Option<Config> {
    let file = home.server_toml();
    let variable = |name: &str| context.environment.variable(name);
    let config = match Config::load(Some(&file), &variable, &[]) {
        Ok(config) => {
            findings.ok("configuration", format!("{} is valid", file.display()));
            config
        }
        Err(error) => {
            findings.wrong(
                "configuration",
                error.message(),
                format!(
                    "mend the line that it names, then airunner-server --config {} check",
                    file.display()
                ),
            );
            return None;
        }
    };
    if home.master_key().exists() {
        findings.secret_file("server's keys", &home.master_key(), AGAIN);
    }
    let is_elsewhere = config.tls().reads_parameters();
    if !is_elsewhere {
        findings.secret_file("server's keys", &home.server().key, AGAIN);
    }
    if home.ca_key().exists() {
        findings.secret_file("server's keys", &home.ca_key(), AGAIN);
    }
    if !is_elsewhere {
        server_certificate(findings, context, first_certificate(&home.server().cert));
    }
    issuing_ca(findings, context, &home.issuing());
    if config.store().backend() == Backend::Sqlite {
        store(findings, config.store().path());
    }
    Some(config)
}

/// The certificate that servers show, or why it can't be read.
pub(super) fn server_certificate(
    findings: &mut Findings,
    context: &Context,
    certificate: Result<Vec<u8>, Failure>,
) {
    const ROTATE: &str = "airunner-cli certificate rotate --server; a running server takes it up by itself";
    let now = context.now();
    let read = certificate.and_then(|der| parse_certificate(&der, &OidArc::default()).map_err(Failure::from));
    match read {
        Err(failure) => {
            findings.wrong("server's certificate", said(&failure), ROTATE);
        }
        Ok(leaf) => {
            let told = format!("{} until {}", names(&leaf), Moment(leaf.not_after).told(now));
            let (begin, end) = (leaf.not_before, leaf.not_after);
            if end <= now {
                findings.wrong("server's certificate", format!("it is over: {told}"), ROTATE);
            } else if end.since(now) < end.since(begin) / 3 {
                findings.warning("server's certificate", told, ROTATE);
            } else {
                findings.ok("server's certificate", told);
            }
        }
    }
}

fn names(leaf: &airunner_pki::ParsedCertificate) -> String {
    let dns = leaf.dns_names.iter().map(ToString::to_string);
    dns.chain(leaf.ip_addresses.iter().map(ToString::to_string)).collect::<Vec<_>>().join(", ")
}

fn issuing_ca(findings: &mut Findings, context: &Context, path: &Path) {
    match first_certificate(path) {
        Ok(der) => findings.ca("issuing CA", &der, context.now(), "airunner-cli ca renew-issuer"),
        // A single CA has none.
        Err(_) if !path.exists() => {}
        Err(failure) => findings.wrong("issuing CA", said(&failure), "airunner-cli ca renew-issuer"),
    }
}

fn first_certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| airunner_core::Error::new(Label::File, format!("{}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    first_of_pem(&pem, &path.display().to_string())
}

/// The first certificate of a PEM text that `name` holds.
pub(super) fn first_of_pem(pem: &[u8], name: &str) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| airunner_core::Error::new(Label::File, format!("{name}: {why}"));
    let mut found = certificates_from_pem(pem).map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()).into());
    }
    Ok(found.swap_remove(0))
}

/// The database: there, closed to others, and with room to grow.
fn store(findings: &mut Findings, path: &Path) {
    findings.secret_file(
        "store",
        path,
        "it is made when the server starts; if it was there, restore a backup",
    );
    let folder = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let Ok(space) = statvfs(&folder) else { return };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let told = format!("{} MiB are free in {}", free >> 20, folder.display());
    if free < LEAST_SPACE {
        findings.warning("store", told, "make room: a server whose disk is full refuses every write");
    } else {
        findings.ok("store", told);
    }
}

/// Asks the listeners that need no client certificate. `options` says under which roots.
pub(crate) async fn listeners(findings: &mut Findings, config: &Config, options: Option<&ClientOptions>) {
    let server = config.server();
    if let (Some(address), Some(options)) =
        (bound(findings, "public listener", server.public_addr()), options)
    {
        match trust_bundle(address, options).await {
            Ok(bundle) => {
                findings.ok("public listener", format!("{address} serves {}", bundle.trust_domain));
            }
            Err(failure) => findings.wrong("public listener", said(&failure), START),
        }
    }
    if let Some(address) = bound(findings, "plain listener", server.plain_addr()) {
        match get(address, "/health").await {
            Ok(answer) if answer.code == 200 => {
                findings.ok("plain listener", format!("{address} says {}", answer.body.trim()));
            }
            Ok(answer) => {
                findings.wrong(
                    "plain listener",
                    format!("{address} answers {} to /health", answer.code),
                    START,
                );
            }
            Err(failure) => findings.wrong("plain listener", said(&failure), START),
        }
    }
    if let Some(address) = bound(findings, "metrics listener", server.metrics_addr()) {
        readiness(findings, address).await;
    }
}

/// What the server itself says of its store and its feed.
async fn readiness(findings: &mut Findings, address: SocketAddr) {
    match get(address, "/ready?verbose").await {
        Ok(answer) if answer.code == 200 => {
            findings.ok("metrics listener", format!("{address} answers"));
            findings.ok("store and feed", "the server is ready: it writes, and hears its change feed");
        }
        Ok(answer) => {
            findings.ok("metrics listener", format!("{address} answers"));
            // The first line is the word, the others say why.
            for fault in answer.body.lines().skip(1) {
                findings.wrong(
                    "store and feed",
                    fault,
                    "see the server's log; docs/errors.md says what each word means",
                );
            }
            if findings.0.last().is_none_or(|last| last.state != State::Wrong) {
                findings.wrong("store and feed", answer.body.trim(), "see the server's log");
            }
        }
        Err(failure) => findings.wrong("metrics listener", said(&failure), START),
    }
}

/// The listener's address as it is reached from here.
fn bound(findings: &mut Findings, check: &'static str, address: SocketAddr) -> Option<SocketAddr> {
    if address.port() == 0 {
        let remedy = "give it a port in server.toml, or ask at the address that the server printed";
        findings.skipped(check, "the configuration lets the system choose its port", remedy);
        return None;
    }
    Some(from_here(address))
}
