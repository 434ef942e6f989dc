//! The server as this caller sees it: whether it is reached and accepts the identity, its clock, version, roles, roots
//! and health.

use std::collections::BTreeSet;

use airunner_client::{Client, Error};
use airunner_core::{Permission, Role, Timestamp};
use airunner_pki::certificates_from_pem;
use airunner_proto::{
    ca::v1::GetTrustBundleRequest,
    principal::v1::{WhoAmIRequest, WhoAmIResponse},
};
use tokio::time::timeout;
use tonic::{Status, metadata::MetadataMap};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::{Findings, PATIENCE};
use crate::{
    context::Context,
    failure::advice,
    view::principal::{principal_type, role},
};

/// Seconds by which two clocks may differ without a word; the header tells whole ones.
const CLOCK_NOTICE: i64 = 3;
/// Seconds from which on certificates of a minute ago are not valid yet, and tokens of now expired.
const CLOCK_LIMIT: i64 = 30;
/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Asks the server.
pub(crate) async fn examine(findings: &mut Findings, context: &Context, client: &Client, roots: &[Vec<u8>]) {
    let endpoint = client.endpoint().to_string();
    let asked = context.now();
    let answer = limited(client.principals().who_am_i(WhoAmIRequest {})).await;
    match answer {
        None => {
            down(findings, &format!("{endpoint} does not answer within {} s", PATIENCE.as_secs()), None);
        }
        Some(Err(status)) => {
            let metadata = status.metadata().clone();
            let error = Error::from(status);
            let label = error.label().to_owned();
            if label == "unreachable" || label == "deadline" {
                down(findings, error.message(), advice(&error));
                return;
            }
            if label == "server-untrusted" {
                findings.wrong(
                    "API listener",
                    error.message(),
                    "is it the server of this environment? Look at --server, --cacert and the profile; and \
                     is this machine's clock right (date -u)?",
                );
                return;
            }
            findings.ok("API listener", format!("{endpoint} answers"));
            clock(findings, asked, context.now(), &metadata);
            let remedy = advice(&error).unwrap_or("see docs/errors.md for what this word means");
            findings.wrong("identity", format!("{} ({label})", error.message()), remedy);
        }
        Some(Ok(answer)) => {
            findings.ok("API listener", format!("{endpoint} answers"));
            clock(findings, asked, context.now(), answer.metadata());
            let me = answer.into_inner();
            version(findings, &me.server_version);
            roles(findings, &me);
            bundle(findings, client, roots, context.now()).await;
            health(findings, client).await;
        }
    }
}

fn down(findings: &mut Findings, why: &str, remedy: Option<&str>) {
    let remedy = remedy.unwrap_or("start airunner-server, or name another with --server");
    findings.wrong("API listener", format!("the server is down, or can't be reached: {why}"), remedy);
    for check in ["clock", "version", "roles", "trust bundle of the server", "store and feed"] {
        findings.skipped(check, "only the server knows", "run doctor again when it answers");
    }
}

/// The answer, or none where it does not come in time.
async fn limited<T>(call: impl Future<Output = Result<T, Status>>) -> Option<Result<T, Status>> {
    timeout(PATIENCE, call).await.ok()
}

/// Compares the clocks by the header `Date` (RFC 9110 section 6.6.1), which tells whole seconds.
fn clock(findings: &mut Findings, asked: Timestamp, answered: Timestamp, answer: &MetadataMap) {
    const REMEDY: &str = "set the clock of whichever is wrong: timedatectl set-ntp true";
    let date = answer.get("date").and_then(|date| date.to_str().ok());
    let Some(theirs) = date.and_then(http_date) else {
        findings.skipped("clock", "the server does not tell its time", "compare them by hand: date -u");
        return;
    };
    // Whatever lies between asking and being answered is no difference.
    let (earliest, latest) = (asked.as_secs(), answered.as_secs());
    let skew = if theirs < earliest { theirs - earliest } else { (theirs - latest).max(0) };
    let told = match skew {
        0 => "the server's and this machine's agree".to_owned(),
        skew if skew > 0 => format!("the server's is {skew} s ahead of this machine's"),
        skew => format!("the server's is {} s behind this machine's", -skew),
    };
    match skew.abs() {
        skew if skew >= CLOCK_LIMIT => findings.wrong("clock", told, REMEDY),
        skew if skew >= CLOCK_NOTICE => findings.warning("clock", told, REMEDY),
        _ => findings.ok("clock", told),
    }
}

/// Seconds since 1970 of an HTTP date.
fn http_date(text: &str) -> Option<i64> {
    let parsed = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(parsed.timestamp().as_second())
}

fn version(findings: &mut Findings, theirs: &str) {
    let told = match theirs {
        "" => "the server does not tell its version: it is older than this program".to_owned(),
        theirs => format!("server {theirs}, this program {VERSION}"),
    };
    if same_series(theirs, VERSION) {
        findings.ok("version", told);
    } else {
        findings.warning("version", told, "install both from one release; the server first");
    }
}

/// Whether two versions speak alike: the same first number, and while that is 0, the same second one (Semantic
/// Versioning, item 4).
fn same_series(one: &str, other: &str) -> bool {
    let series = |version: &str| {
        let mut parts = version.split('.').map(str::to_owned);
        let major = parts.next().unwrap_or_default();
        let minor = if major == "0" { parts.next() } else { None };
        (major, minor)
    };
    series(one) == series(other)
}

/// Compares what the server lets the caller do with what its roles are for, and its type with its roles.
fn roles(findings: &mut Findings, me: &WhoAmIResponse) {
    let Some(principal) = &me.principal else {
        findings.wrong("roles", "the server does not say who is calling", "is it of another version?");
        return;
    };
    let kind = principal_type(principal.r#type);
    let set: Vec<String> = principal.roles.iter().map(|number| role(*number)).collect();
    let names = if set.is_empty() { vec![kind.clone()] } else { set };
    let held: Vec<Role> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let everyone = [Permission::SelfService, Permission::Anonymous];
    let due: BTreeSet<String> = held
        .iter()
        .flat_map(|role| role.permissions())
        .chain(&everyone)
        .map(|permission| permission.as_str().to_owned())
        .collect();
    let given: BTreeSet<String> = me.permissions.iter().cloned().collect();
    let told = format!("{} is {kind} with {}", principal.principal_id, names.join(", "));
    if due == given {
        findings.ok("roles", format!("{told}: {} permissions, as the roles say", given.len()));
    } else {
        let differ: Vec<_> = due.symmetric_difference(&given).cloned().collect();
        findings.warning(
            "roles",
            format!("{told}, but the server sees {} otherwise", differ.join(", ")),
            "server and program are of different versions: install both from one release",
        );
    }
    let needed = match kind.as_str() {
        "worker" => Some(Permission::JobsDequeue),
        "user" if held.as_slice() == [Role::User] => Some(Permission::JobsSubmit),
        _ => None,
    };
    if let Some(needed) = needed.filter(|needed| !given.contains(needed.as_str())) {
        findings.wrong(
            "roles",
            format!("a {kind} without {needed} can't do what it is for"),
            format!(
                "an admin can change it: airunner-cli principal roles {} --default",
                principal.principal_id
            ),
        );
    }
    if held.contains(&Role::Enroller) && principal.enrol_scope.is_none() && !held.contains(&Role::Admin) {
        findings.warning(
            "roles",
            "an enroller without a scope may enrol nobody",
            "an admin can set it: airunner-cli principal update ID --enrol-prefix TEXT --enrol-types worker",
        );
    }
}

/// Compares the roots that are pinned here with those that the server hands out, and looks at its issuing CAs.
async fn bundle(findings: &mut Findings, client: &Client, pinned: &[Vec<u8>], now: Timestamp) {
    const CHECK: &str = "trust bundle of the server";
    let bundle = match limited(client.certificates().get_trust_bundle(GetTrustBundleRequest {})).await {
        Some(Ok(answer)) => answer.into_inner(),
        Some(Err(status)) => {
            findings.wrong(CHECK, Error::from(status).message(), "see the server's log");
            return;
        }
        None => {
            findings.wrong(CHECK, "the server does not hand it out in time", "see the server's log");
            return;
        }
    };
    let certificates = |pem: &str| match pem.trim() {
        "" => Vec::new(),
        pem => certificates_from_pem(pem.as_bytes()).unwrap_or_default(),
    };
    let theirs: BTreeSet<Vec<u8>> = certificates(&bundle.roots_pem).into_iter().collect();
    let ours: BTreeSet<Vec<u8>> = pinned.iter().cloned().collect();
    match (theirs.difference(&ours).count(), ours.difference(&theirs).count()) {
        (0, 0) => findings
            .ok(CHECK, format!("the same as here: {} of {}", counted(ours.len()), bundle.trust_domain)),
        (new, 0) => findings.warning(
            CHECK,
            format!("has {} that this machine does not trust yet", counted(new)),
            "airunner-cli renew, or airunner-cli ca bundle --out FILE for --cacert",
        ),
        (_, old) => findings.warning(
            CHECK,
            format!("{} that this machine trusts is no longer in it", counted(old)),
            "airunner-cli renew, or airunner-cli ca bundle --out FILE for --cacert",
        ),
    }
    for issuing in certificates(&bundle.issuing_pem) {
        findings.ca(
            "issuing CA of the server",
            &issuing,
            now,
            "on the server's machine: airunner-cli ca renew-issuer",
        );
    }
}

/// What the server says of itself: whether it writes and hears its change feed.
async fn health(findings: &mut Findings, client: &Client) {
    const REMEDY: &str = "see the server's log, and /ready?verbose of its metrics listener";
    match limited(client.health().check(HealthCheckRequest::default())).await {
        Some(Ok(answer)) if answer.get_ref().status == ServingStatus::Serving as i32 => {
            findings.ok("store and feed", "the server says that it serves");
        }
        Some(Ok(_)) => findings.wrong("store and feed", "the server says that it does not serve", REMEDY),
        Some(Err(status)) => findings.wrong("store and feed", Error::from(status).message(), REMEDY),
        None => findings.wrong("store and feed", "the server does not say in time", REMEDY),
    }
}

fn counted(roots: usize) -> String {
    if roots == 1 { "1 root".to_owned() } else { format!("{roots} roots") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn seen(date: &str, asked: i64, answered: i64) -> (super::super::State, String) {
        let mut findings = Findings::default();
        let mut answer = MetadataMap::new();
        answer.insert("date", date.parse().unwrap());
        clock(&mut findings, at(asked), at(answered), &answer);
        let finding = findings.0.remove(0);
        (finding.state, finding.finding)
    }

    #[test]
    fn a_clock_is_compared_with_the_time_between_question_and_answer() {
        use super::super::State;
        // 951,782,400 in seconds since 1970.
        const DATE: &str = "Tue, 29 Feb 2000 00:00:00 GMT";
        const THEN: i64 = 951_782_400;
        assert_eq!(seen(DATE, THEN - 4, THEN + 1).0, State::Ok);
        assert_eq!(
            seen(DATE, THEN - 6, THEN - 5),
            (State::Warning, "the server's is 5 s ahead of this machine's".to_owned())
        );
        assert_eq!(
            seen(DATE, THEN + 60, THEN + 61),
            (State::Wrong, "the server's is 60 s behind this machine's".to_owned())
        );
        assert_eq!(seen("yesterday", THEN, THEN).0, State::Skipped);
    }

    #[test]
    fn versions_of_one_series_speak_alike() {
        assert!(same_series("0.1.0", "0.1.9") && same_series("1.2.0", "1.9.3"));
        assert!(
            !same_series("0.1.0", "0.2.0") && !same_series("1.0.0", "2.0.0") && !same_series("", "0.1.0")
        );
    }

    #[test]
    fn a_worker_that_may_not_take_jobs_is_told() {
        let me = WhoAmIResponse {
            principal: Some(airunner_proto::principal::v1::Principal {
                principal_id: "w".to_owned(),
                r#type: airunner_proto::principal::v1::PrincipalType::Worker as i32,
                roles: vec![airunner_proto::principal::v1::Role::Viewer as i32],
                ..Default::default()
            }),
            permissions: ["jobs:list", "events:stream", "self", "anonymous"].map(str::to_owned).to_vec(),
            ..WhoAmIResponse::default()
        };
        let mut findings = Findings::default();
        roles(&mut findings, &me);
        assert_eq!(findings.count(super::super::State::Ok), 1);
        assert!(findings.0[1].remedy.as_ref().unwrap().contains("principal roles w --default"));
    }
}
