//! What completes an argument with what there is: principals, certificates, jobs and enrolment tokens from the server,
//! profiles and RPCs from here. It never asks anyone, never waits long, and says nothing where it fails.

mod cache;

use std::{
    ffi::{OsStr, OsString},
    sync::mpsc,
    thread,
    time::Duration,
};

use airunner_client::{Client, ClientOptions};
use airunner_proto::{
    ca::v1::{ListCertificatesRequest, ListEnrollmentTokensRequest},
    job::v1::ListJobsRequest,
    principal::v1::ListPrincipalsRequest,
};
use clap_complete::{CompleteEnv, CompletionCandidate};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde::{Deserialize, Serialize};

use crate::{
    cli,
    connection::ConnectionArgs,
    context::{Context, Environment},
    failure::Result,
    profile::Profiles,
    runtime::wait_with_signals,
    view::{
        certificate::CertificateView, enrollment::EnrollmentView, job::JobView, moment::beside,
        principal::PrincipalView,
    },
};

/// The variable by which a shell asks this program to complete its line.
pub(crate) const VARIABLE: &str = "AIRUNNER_COMPLETE";
/// How long a shell waits at most, whatever the server or a file system does.
const PATIENCE: Duration = Duration::from_millis(800);
/// Names that are offered at most.
const OFFERED: u32 = 1_000;

/// Completes the line that a shell asks about, if this process was started for that; it does not return then.
pub(crate) fn answer() {
    CompleteEnv::with_factory(cli::definition).var(VARIABLE).complete();
}

/// One of what is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Offer {
    value: String,
    /// What a shell that can shows beside it.
    about: String,
}

/// Ids of principals.
pub(crate) fn principals(word: &OsStr) -> Vec<CompletionCandidate> {
    from_server("principals", word, async |client, _, id_prefix| {
        let request =
            ListPrincipalsRequest { page_size: OFFERED, id_prefix, ..ListPrincipalsRequest::default() };
        let listed = client.principals().list_principals(request).await?.into_inner().principals;
        let about = |view: PrincipalView| (view.principal_id, format!("{}, {}", view.r#type, view.status));
        Ok(listed.into_iter().map(|principal| about(PrincipalView::from(principal))).collect())
    })
}

/// Serial numbers of certificates.
pub(crate) fn certificates(word: &OsStr) -> Vec<CompletionCandidate> {
    from_server("certificates", word, async |client, context, _| {
        let request = ListCertificatesRequest { page_size: OFFERED, ..ListCertificatesRequest::default() };
        let listed = client.certificates().list_certificates(request).await?.into_inner().certificates;
        let about = |view: CertificateView| {
            let about = format!("{}, expires {}", view.principal_id, beside(view.expires_at, context.now()));
            (view.serial_number, about)
        };
        Ok(listed.into_iter().map(|certificate| about(CertificateView::of_list(certificate))).collect())
    })
}

/// Ids of jobs.
pub(crate) fn jobs(word: &OsStr) -> Vec<CompletionCandidate> {
    from_server("jobs", word, async |client, _, _| {
        let request = ListJobsRequest { page_size: OFFERED, ..ListJobsRequest::default() };
        let listed = client.jobs().list_jobs(request).await?.into_inner().jobs;
        let about = |view: JobView| {
            let about = format!("{}: {}", view.state, view.command_line());
            (view.job_id, about)
        };
        Ok(listed.into_iter().map(|job| about(JobView::from(job))).collect())
    })
}

/// Ids of enrolment tokens.
pub(crate) fn enrollments(word: &OsStr) -> Vec<CompletionCandidate> {
    from_server("enrollments", word, async |client, context, _| {
        let request =
            ListEnrollmentTokensRequest { page_size: OFFERED, ..ListEnrollmentTokensRequest::default() };
        let listed = client.enrollments().list_enrollment_tokens(request).await?.into_inner().enrollments;
        let about = |view: EnrollmentView| {
            let about =
                format!("for {}, expires {}", view.principal_id, beside(view.expires_at, context.now()));
            (view.enrollment_id, about)
        };
        Ok(listed.into_iter().map(|token| about(EnrollmentView::from(token))).collect())
    })
}

/// Names of profiles.
pub(crate) fn profiles(word: &OsStr) -> Vec<CompletionCandidate> {
    let offers = in_time(|| {
        let profiles = Profiles::read(&Environment::of_process())?;
        let offer = |(name, profile): (&str, &crate::profile::Profile)| Offer {
            value: name.to_owned(),
            about: profile.server.clone().unwrap_or_default(),
        };
        Ok(profiles.iter().map(offer).collect())
    });
    candidates(word, offers)
}

/// Names of RPCs.
pub(crate) fn rpcs(word: &OsStr) -> Vec<CompletionCandidate> {
    candidates(word, rpc_names().map(|(value, about)| Offer { value, about }).collect())
}

/// Every RPC that this program knows, and its service.
pub(crate) fn rpc_names() -> impl Iterator<Item = (String, String)> {
    let set = FileDescriptorSet::decode(airunner_proto::DESCRIPTOR_SET).unwrap_or_default();
    let ours = set.file.into_iter().filter(|file| file.package().starts_with("airunner."));
    ours.flat_map(|file| file.service).flat_map(|service| {
        let name = service.name().to_owned();
        service.method.into_iter().map(move |method| (method.name().to_owned(), name.clone()))
    })
}

/// What the server has, or had a moment ago. `list` gets the beginning of the word that is to be completed, for where
/// there are more than it can list.
fn from_server(
    kind: &'static str,
    word: &OsStr,
    list: impl AsyncFn(Client, &Context, String) -> Result<Vec<(String, String)>> + Send + 'static,
) -> Vec<CompletionCandidate> {
    let begun = word.to_string_lossy().into_owned();
    let offers = in_time(move || {
        let environment = Environment::of_process();
        let context = Context::quiet(scanned(std::env::args_os()), environment)?;
        let options = ClientOptions { timeout: PATIENCE, ..context.client_options()? };
        let cache = cache::Cache::of(&context, kind, &options);
        if let Some(offers) = cache.read() {
            return Ok(offers);
        }
        let offers = |listed: Vec<(String, String)>| {
            listed.into_iter().map(|(value, about)| Offer { value, about }).collect::<Vec<_>>()
        };
        let ask = async |begun: String| list(Client::new(options.clone())?, &context, begun).await;
        let listed = wait_with_signals(ask(String::new()));
        // A server that does not answer is not asked again with each key.
        cache
            .write(&listed.as_ref().map(|listed| offers(listed.clone())).unwrap_or_default(), listed.is_ok());
        let listed = listed?;
        let is_all = listed.len() < OFFERED as usize || begun.is_empty();
        Ok(offers(if is_all { listed } else { wait_with_signals(ask(begun))? }))
    });
    candidates(word, offers)
}

/// What comes of `work` before a shell has waited long enough.
fn in_time(work: impl FnOnce() -> Result<Vec<Offer>> + Send + 'static) -> Vec<Offer> {
    let (sender, receiver) = mpsc::channel();
    // What does not come in time ends with this process, which ends with the answer.
    thread::spawn(move || sender.send(work().unwrap_or_default()));
    receiver.recv_timeout(PATIENCE).unwrap_or_default()
}

fn candidates(word: &OsStr, offers: Vec<Offer>) -> Vec<CompletionCandidate> {
    let begun = word.to_string_lossy();
    let begins = |offer: &Offer| offer.value.starts_with(begun.as_ref());
    let candidate = |offer: Offer| {
        let about = crate::report::visible(&offer.about).into_owned();
        CompletionCandidate::new(offer.value).help((!about.is_empty()).then(|| about.into()))
    };
    offers.into_iter().filter(begins).map(candidate).collect()
}

/// The connection options in a line that is not finished: as much of it as can be understood.
pub(crate) fn scanned(line: impl Iterator<Item = OsString>) -> ConnectionArgs {
    let words: Vec<String> = line.map(|word| word.to_string_lossy().into_owned()).collect();
    let value = |option: &str| {
        // The last one counts, as it does where the line is read.
        words.iter().enumerate().rev().find_map(|(place, word)| match word.strip_prefix(option) {
            Some("") => words.get(place + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        })
    };
    ConnectionArgs {
        server: value("--server"),
        cacert: value("--cacert").map(Into::into),
        client_cert: value("--client-cert").map(Into::into),
        client_key: value("--client-key").map(Into::into),
        cert_bundle: value("--cert-bundle").map(Into::into),
        identity: value("--identity").map(Into::into),
        client_key_passphrase_file: value("--client-key-passphrase-file").map(Into::into),
        profile: value("--profile"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_a_line_that_is_not_finished() {
        let line = "airunner-cli -- airunner-cli --profile a principal get --server=h:1 --profile b wor";
        let found = scanned(line.split(' ').map(OsString::from));
        assert_eq!((found.server.as_deref(), found.profile.as_deref()), (Some("h:1"), Some("b")));
        assert_eq!(found.identity, None);
    }

    #[test]
    fn rpcs_are_named_each_once() {
        let mut names: Vec<_> = rpc_names().map(|(name, _)| name).collect();
        assert!(names.len() > 30 && names.iter().any(|name| name == "CancelJob"));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a name that is there twice names none");
    }

    #[test]
    fn what_does_not_come_in_time_is_nothing() {
        let (_sender, silence) = mpsc::channel::<()>();
        let offers = in_time(move || {
            let _ = silence.recv();
            Ok(vec![Offer { value: "late".to_owned(), about: String::new() }])
        });
        assert!(offers.is_empty());
    }
}
