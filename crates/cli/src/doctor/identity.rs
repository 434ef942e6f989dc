//! The caller's own identity, from its files alone: permissions, pair, life, chain, roots, private extensions.

use std::path::PathBuf;

use airunner_client::LoadedIdentity;
use airunner_core::Timestamp;

use super::Findings;
use crate::{
    commands::certificate::check_identity,
    connection::{Connection, IdentityPlace},
    context::Context,
    failure::Failure,
    view::moment::Moment,
};

/// What to do about an identity that can't be used any more.
const ENROL: &str =
    "ask an admin for an enrolment token (airunner-cli enrollment create ID), then airunner-cli enroll";
const NEW_BUNDLE: &str = "get the roots anew from someone you trust (airunner-cli ca bundle --out FILE, on a machine that \
                          works), or enrol again";

/// Looks at the files. The identity comes back where it can be used at all.
pub(crate) fn examine(
    findings: &mut Findings,
    context: &Context,
    connection: &Connection,
) -> Option<LoadedIdentity> {
    let Some(place) = &connection.identity else {
        findings.wrong(
            "identity",
            "there is none: no option, variable or profile names one",
            "airunner-cli bootstrap --environment local, or airunner-cli enroll --save-profile NAME",
        );
        return None;
    };
    if let Some(key) = key_file(place) {
        findings.secret_file("private key", &key, ENROL);
    }
    let identity = match connection.load_identity() {
        Ok(identity) => identity,
        Err(failure) => {
            findings.wrong("identity", said(&failure), ENROL);
            return None;
        }
    };
    let now = context.now();
    names(findings, &identity);
    life(findings, &identity, now);
    roots(findings, context, connection, &identity);
    Some(identity)
}

/// The key's file, where it is one of those that a folder may have.
fn key_file(place: &IdentityPlace) -> Option<PathBuf> {
    match place {
        IdentityPlace::Files { key, .. } | IdentityPlace::Bundle { key, .. } => Some(key.clone()),
        IdentityPlace::Folder(folder) => {
            [folder.join("current/key.pem"), folder.join("key.pem")].into_iter().find(|path| path.exists())
        }
    }
}

/// The private extensions, and the SPIFFE id beside them.
fn names(findings: &mut Findings, identity: &LoadedIdentity) {
    let certificate = identity.certificate();
    let Some((kind, id)) = &certificate.principal else {
        findings.warning(
            "OIDs",
            format!("{} names no principal in private extensions", certificate.subject_dn),
            "fine where it was signed elsewhere and registered, or where ca.oid_arc is set; else enrol again",
        );
        return;
    };
    let path = format!("/{kind}/{id}");
    if certificate.uris.iter().any(|uri| uri.starts_with("spiffe://") && uri.ends_with(&path)) {
        findings.ok("OIDs", format!("{kind} {id}, and the SPIFFE id says the same"));
    } else {
        findings.wrong(
            "OIDs",
            format!("the private extensions say {kind} {id}, the names {}", certificate.uris.join(", ")),
            ENROL,
        );
    }
}

fn life(findings: &mut Findings, identity: &LoadedIdentity, now: Timestamp) {
    let (begin, end) = (identity.not_before(), identity.not_after());
    let told = Moment(end).told(now);
    let serial = identity.serial();
    if now < begin {
        findings.wrong(
            "certificate",
            format!("{serial} counts from {} only", Moment(begin).told(now)),
            "set this machine's clock: timedatectl set-ntp true",
        );
    } else if now >= end {
        findings.wrong("certificate", format!("{serial} expired {told}"), ENROL);
    } else if end.since(now) < end.since(begin) / 3 {
        findings.warning(
            "certificate",
            format!("{serial} expires {told}: a third of its life is left at most"),
            "airunner-cli renew, and airunner-cli agent to have it renewed from now on",
        );
    } else {
        findings.ok("certificate", format!("{serial} until {told}"));
    }
}

fn roots(findings: &mut Findings, context: &Context, connection: &Connection, identity: &LoadedIdentity) {
    let roots = match connection.roots() {
        Ok(roots) if !roots.is_empty() => roots,
        Ok(_) => {
            findings.wrong("trust bundle", "there are no roots to check the server by", NEW_BUNDLE);
            return;
        }
        Err(failure) => {
            findings.wrong("trust bundle", said(&failure), NEW_BUNDLE);
            return;
        }
    };
    for root in &roots {
        findings.ca("trust bundle", root, context.now(), NEW_BUNDLE);
    }
    match check_identity(identity.chain(), &roots, &*context.clock) {
        Ok(()) => findings.ok("chain", "leads from the certificate to a root of the trust bundle"),
        Err(failure) => findings.wrong("chain", said(&failure), NEW_BUNDLE),
    }
}

/// What a failure says.
pub(crate) fn said(failure: &Failure) -> String {
    match failure {
        Failure::Failed(error) => error.message().to_owned(),
        Failure::Usage(message) => message.clone(),
        Failure::Near(_, inner) | Failure::WithCode(_, inner) => said(inner),
        Failure::Declined
        | Failure::Interrupted
        | Failure::Terminated
        | Failure::Detached
        | Failure::OutputClosed => "it was given up".to_owned(),
    }
}
