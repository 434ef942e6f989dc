//! The commands, one file a noun, and what several of them take. To add one: a module, a variant of [`Command`], a line
//! of [`Command::run`].

mod agent;
mod audit;
mod authz;
mod bench;
mod ca;
pub(crate) mod certificate;
mod completion;
mod doctor;
mod enroll;
mod enrollment;
mod job;
mod man;
mod principal;
mod profile;
mod renew;
mod watch;
mod whoami;
mod worker;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_norway::{Mapping, Value};

use crate::{
    bootstrap::BootstrapArgs,
    context::Context,
    failure::{Failure, Result},
    progress,
    report::{Output, Report},
};

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an environment: CA, server and admin certificates, configuration and profile
    Bootstrap(BootstrapArgs),
    /// Turn an enrolment token into a key, a certificate and, if you like, a profile
    Enroll(enroll::EnrollArgs),
    /// Renew an identity now: a new key and its certificate take the place of the old
    ///
    /// They are exchanged in the identity's folder (--identity, or that of the profile); whatever uses the folder takes
    /// them over. The old certificate still counts for an hour.
    Renew,
    /// Keep an identity fresh: renew it when two thirds of its life are over, until stopped
    Agent(agent::AgentArgs),
    /// Who you are to the server, by which certificate, and what you may do
    Whoami,
    /// Principals: who there is, what they are, and what they may do
    Principal(principal::PrincipalArgs),
    /// Certificates of principals
    Certificate(certificate::CertificateArgs),
    /// The certificate authority
    Ca(ca::CaArgs),
    /// Enrolment tokens, with which principals get their first certificate
    Enrollment(enrollment::EnrollmentArgs),
    /// Jobs; without a command, those of yours that are running
    Job(job::JobArgs),
    /// Take jobs and run them until stopped
    Worker(worker::WorkerArgs),
    /// The audit log
    Audit(audit::AuditArgs),
    /// Why someone may or may not do something
    Authz(authz::AuthzArgs),
    /// Look at everything that has to be right, and say what to do about what is not
    Doctor(doctor::DoctorArgs),
    /// Named connections: which there are, and which is used
    Profile(profile::ProfileArgs),
    /// Measure how much a server does in a time
    Bench(bench::BenchArgs),
    /// Print the completion of commands and options for a shell
    Completion(completion::CompletionArgs),
    /// Print this program's manual page, or write one for each command
    Man(man::ManArgs),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// What the command fails with.
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match self {
            Self::Bootstrap(args) => args.run(context),
            Self::Enroll(args) => args.run(context),
            Self::Renew => renew::run(context),
            Self::Agent(args) => args.run(context),
            Self::Whoami => whoami::run(context),
            Self::Principal(args) => args.run(context),
            Self::Certificate(args) => args.run(context),
            Self::Ca(args) => args.run(context),
            Self::Enrollment(args) => args.run(context),
            Self::Job(args) => args.run(context),
            Self::Worker(args) => args.run(context),
            Self::Audit(args) => args.run(context),
            Self::Authz(args) => args.run(context),
            Self::Doctor(args) => args.run(context),
            Self::Profile(args) => args.run(context),
            Self::Bench(args) => args.run(context),
            Self::Completion(args) => args.run(),
            Self::Man(args) => args.run(),
        }
    }
}

/// An id: positional, or as an option for scripts that name everything.
macro_rules! id_argument {
    ($(#[doc = $doc:literal])+ $name:ident: $id:ty, $value:literal, $alias:literal, $completer:path) => {
        $(#[doc = $doc])+
        #[derive(clap::Args, Clone, Debug)]
        pub(crate) struct $name {
            $(#[doc = $doc])+
            #[arg(
                value_name = $value,
                required_unless_present = "id_option",
                add = clap_complete::ArgValueCompleter::new($completer)
            )]
            id: Option<$id>,
            /// The same, as an option
            #[arg(
                long = "id",
                alias = $alias,
                value_name = $value,
                conflicts_with = "id",
                hide_short_help = true,
                add = clap_complete::ArgValueCompleter::new($completer)
            )]
            id_option: Option<$id>,
        }

        impl $name {
            /// The id.
            pub(crate) fn get(&self) -> $crate::failure::Result<&$id> {
                self.id.as_ref().or(self.id_option.as_ref()).ok_or_else(|| {
                    $crate::failure::Failure::Usage(concat!($value, " is missing").to_owned())
                })
            }
        }
    };
}

id_argument! {
    /// The principal's id
    PrincipalName: airunner_core::PrincipalId, "PRINCIPAL", "principal", crate::complete::principals
}
id_argument! {
    /// The job's id
    JobName: airunner_core::JobId, "JOB", "job", crate::complete::jobs
}
id_argument! {
    /// The enrolment token's id, as `enrollment list` shows it
    EnrollmentName: airunner_core::EnrollmentId, "ENROLLMENT", "enrollment", crate::complete::enrollments
}

/// How much of a list is wanted.
#[derive(Args, Clone, Debug)]
pub(crate) struct Paging {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where an earlier list ended, by the token that it named
    #[arg(long, value_name = "TEXT", hide_short_help = true)]
    page_token: Option<String>,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    /// What was found.
    pub(crate) items: Vec<T>,
    next: Option<String>,
}

impl Paging {
    /// Rows that one call gives at most.
    const PAGE: usize = 1_000;

    /// The whole list.
    pub(crate) const fn all() -> Self {
        Self { limit: u32::MAX, page_token: None }
    }

    /// Asks for page after page until there are as many as wanted. `fetch` takes size and token of a page, and returns
    /// its rows and the token of the next. Whoever waits for many pages sees how many rows have come.
    ///
    /// # Errors
    /// What `fetch` fails with.
    pub(crate) async fn collect<T>(
        &self,
        output: Output,
        mut fetch: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String)>,
    ) -> Result<Listed<T>> {
        let limit = if self.limit == u32::MAX { usize::MAX } else { self.limit as usize };
        let mut listed = Listed { items: Vec::new(), next: self.page_token.clone() };
        let mut progress = None;
        loop {
            let size = (limit - listed.items.len()).min(Self::PAGE);
            let size = u32::try_from(size).unwrap_or(self.limit);
            let (items, next) = fetch(size, listed.next.take().unwrap_or_default()).await?;
            listed.items.extend(items);
            listed.next = (!next.is_empty()).then_some(next);
            if listed.next.is_none() || listed.items.len() >= limit {
                return Ok(listed);
            }
            let so_far = listed.items.len();
            let shown = progress.get_or_insert_with(|| match limit {
                // How many there are is not known, but how many are wanted at most.
                usize::MAX => progress::spinner(output, "listing"),
                limit => progress::bar(output, limit as u64, "listing"),
            });
            shown.set(so_far as u64);
            shown.say(format!("listing, {so_far} so far"));
        }
    }
}

impl<T: Serialize> Listed<T> {
    /// The document: the items under `key`, and where to go on.
    ///
    /// # Errors
    /// None that can be caused.
    pub(crate) fn value(&self, key: &str) -> Result<Value> {
        let items = serde_norway::to_value(&self.items).map_err(airunner_core::Error::internal)?;
        let next = self.next.clone().map_or(Value::Null, Value::String);
        let mut document = Mapping::new();
        document.insert(key.into(), items);
        document.insert("next_page_token".into(), next);
        Ok(Value::Mapping(document))
    }

    /// The report with a word about what is not in it.
    pub(crate) fn note(&self, report: Report) -> Report {
        match &self.next {
            Some(_) => report.with_note(format!(
                "these are the first {}: there are more; raise --limit, or see next_page_token in --output json",
                self.items.len()
            )),
            None => report,
        }
    }
}

/// What an answer must have.
pub(crate) fn present<T>(part: Option<T>, what: &str) -> Result<T> {
    part.ok_or_else(|| {
        let message = format!("the server's answer has no {what}: is it of another version?");
        Failure::from(airunner_core::Error::new(airunner_core::Label::Internal, message))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::context::Environment;

    async fn collect(limit: u32, rows: usize) -> (Listed<usize>, Vec<u32>) {
        let sizes = Mutex::new(Vec::new());
        let paging = Paging { limit, page_token: None };
        let output = Output::of_process(None, &Environment::new(|_| None)).unwrap();
        let listed = paging
            .collect(output, async |size, token: String| {
                sizes.lock().unwrap().push(size);
                let start: usize = token.parse().unwrap_or(0);
                let end = rows.min(start + size as usize);
                Ok(((start..end).collect(), if end < rows { end.to_string() } else { String::new() }))
            })
            .await
            .unwrap();
        (listed, sizes.into_inner().unwrap())
    }

    #[tokio::test]
    async fn pages_are_asked_for_until_the_limit() {
        let (listed, sizes) = collect(2_500, 9_999).await;
        assert_eq!((listed.items.len(), sizes), (2_500, vec![1_000, 1_000, 500]));
        assert_eq!(listed.next.as_deref(), Some("2500"));
        let (listed, sizes) = collect(1_000, 3).await;
        assert_eq!((listed.items.len(), listed.next, sizes), (3, None, vec![1_000]));
    }
}
