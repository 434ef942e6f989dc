//! "Did you mean": names that are there and look like one that is not. It asks the server what the caller may list;
//! who may not is told nothing.

use std::time::Duration;

use airunner_client::Client;
use airunner_core::Label;
use airunner_proto::{
    ca::v1::{ListCertificatesRequest, ListEnrollmentTokensRequest},
    job::v1::ListJobsRequest,
    principal::v1::ListPrincipalsRequest,
};
use clap::error::{ContextKind, ContextValue};
use strsim::damerau_levenshtein;
use tokio::time::timeout;

use crate::{
    complete::scanned,
    context::{Context, Environment},
    failure::{Failure, Result},
    runtime::wait,
};

/// How long the failure waits for suggestions.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names that are looked through at most, in one list.
const LOOKED_THROUGH: u32 = 1_000;
/// Names that are suggested at most.
const SUGGESTED: usize = 3;
/// Letters of a name's beginning that tell which are meant: less could be any of them.
const LEAST_BEGINNING: usize = 3;

/// What was named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named<'a> {
    /// A principal, by its id.
    Principal(&'a str),
    /// A job, by its id.
    Job(&'a str),
    /// A certificate, by its serial number.
    Certificate(&'a str),
    /// An enrolment token, by its id.
    Enrollment(&'a str),
}

impl Named<'_> {
    const fn name(&self) -> &str {
        match self {
            Self::Principal(name) | Self::Job(name) | Self::Certificate(name) | Self::Enrollment(name) => {
                name
            }
        }
    }
}

/// Does what was asked for; where there is nothing of that name, adds those that may have been meant.
///
/// # Errors
/// What `work` fails with; [`Failure::Near`] around `not-found`.
pub(crate) async fn or_near<T>(
    client: &Client,
    named: Named<'_>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match work.await {
        Err(Failure::Failed(error)) if error.is(Label::NotFound) => {
            let failure = Failure::Failed(error);
            Err(match near(client, named).await {
                near if near.is_empty() => failure,
                near => Failure::Near(near, Box::new(failure)),
            })
        }
        done => done,
    }
}

/// Names that may have been meant where a line could not be read for one that is malformed, as a part of an id is.
pub(crate) fn of_usage_error(error: &clap::Error, environment: &Environment) -> Vec<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (argument, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let named = match argument.trim_matches(['<', '>', '[', ']']).rsplit([' ', '<']).next() {
        Some("PRINCIPAL") => Named::Principal(value),
        Some("JOB") => Named::Job(value),
        Some("SERIAL") => Named::Certificate(value),
        Some("ENROLLMENT") => Named::Enrollment(value),
        _ => return Vec::new(),
    };
    let ask = || {
        let context = Context::quiet(scanned(std::env::args_os()), environment.clone())?;
        let client = context.client()?;
        wait(async { Ok(near(&client, named).await) })
    };
    ask().unwrap_or_default()
}

/// Names that look like this one, the likeliest first; none where they can't be had in time.
pub(crate) async fn near(client: &Client, named: Named<'_>) -> Vec<String> {
    let known = timeout(PATIENCE, known(client, named)).await;
    closest(named.name(), known.ok().and_then(Result::ok).unwrap_or_default())
}

/// Names of this kind that there are.
async fn known(client: &Client, named: Named<'_>) -> Result<Vec<String>> {
    let page_size = LOOKED_THROUGH;
    Ok(match named {
        Named::Principal(name) => {
            // In a large registry, those that begin alike are the likeliest.
            let mut ids = principals(client, name.chars().take(2).collect()).await?;
            ids.extend(principals(client, String::new()).await?);
            ids
        }
        Named::Job(_) => {
            let request = ListJobsRequest { page_size, ..ListJobsRequest::default() };
            let answer = client.jobs().list_jobs(request).await?.into_inner();
            answer.jobs.into_iter().map(|job| job.job_id).collect()
        }
        Named::Certificate(_) => {
            let request = ListCertificatesRequest { page_size, ..ListCertificatesRequest::default() };
            let answer = client.certificates().list_certificates(request).await?.into_inner();
            answer.certificates.into_iter().map(|certificate| certificate.serial_number).collect()
        }
        Named::Enrollment(_) => {
            let request = ListEnrollmentTokensRequest { page_size, ..ListEnrollmentTokensRequest::default() };
            let answer = client.enrollments().list_enrollment_tokens(request).await?.into_inner();
            answer.enrollments.into_iter().map(|enrollment| enrollment.enrollment_id).collect()
        }
    })
}

async fn principals(client: &Client, id_prefix: String) -> Result<Vec<String>> {
    let request =
        ListPrincipalsRequest { page_size: LOOKED_THROUGH, id_prefix, ..ListPrincipalsRequest::default() };
    let answer = client.principals().list_principals(request).await?.into_inner();
    Ok(answer.principals.into_iter().map(|principal| principal.principal_id).collect())
}

/// Those of `known` that are likeliest to have been meant by `wrong`.
pub(crate) fn closest(wrong: &str, mut known: Vec<String>) -> Vec<String> {
    known.sort_unstable();
    known.dedup();
    let wrong = wrong.to_lowercase();
    // A slip in three letters; of long ids, which nobody types, a few at most.
    let allowed = wrong.chars().count().div_ceil(3).min(4);
    let likeness = |name: &String| {
        let lower = name.to_lowercase();
        let begins = wrong.len() >= LEAST_BEGINNING
            && (lower.starts_with(&wrong) || (lower.len() >= LEAST_BEGINNING && wrong.starts_with(&lower)));
        let distance = damerau_levenshtein(&wrong, &lower);
        if distance <= allowed { Some(distance) } else { begins.then_some(allowed + 1) }
    };
    let mut found: Vec<_> = known.into_iter().filter_map(|name| Some((likeness(&name)?, name))).collect();
    found.sort_by_key(|(likeness, _)| *likeness);
    let best = found.first().map(|(likeness, _)| *likeness);
    let as_likely = found.into_iter().take_while(|(likeness, _)| Some(*likeness) == best);
    as_likely.take(SUGGESTED).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_beginnings_find_what_was_meant_and_nonsense_nothing() {
        let known = || ["worker-1", "worker-2", "build-farm", "ann", "admin"].map(str::to_owned).to_vec();
        for (wrong, meant) in [
            ("wroker-1", &["worker-1"][..]),
            ("worker-3", &["worker-1", "worker-2"]),
            ("build", &["build-farm"]),
            ("ADMIN", &["admin"]),
            ("anna", &["ann"]),
            ("xyzzyplugh", &[]),
            ("q", &[]),
        ] {
            assert_eq!(closest(wrong, known()), meant, "{wrong}");
        }
    }

    #[test]
    fn of_long_ids_a_few_letters_may_be_wrong_or_the_end_missing() {
        let ids = ["0198a2f4-c0de-7000-a000-000000000001", "0198a2f4-c0de-7111-b111-111111111111"];
        let known = || ids.map(str::to_owned).to_vec();
        assert_eq!(closest("0198a2f4-c0de-7000-a000-000000000099", known()), ids[..1]);
        assert_eq!(closest("0198a2f4", known()), ids);
    }
}
