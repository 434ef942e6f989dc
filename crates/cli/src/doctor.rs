//! What `doctor` finds: each check with its state, what was seen, and what to do. How it is printed is not known here.

pub(crate) mod cloud;
pub(crate) mod environment;
pub(crate) mod identity;
pub(crate) mod isolation;
pub(crate) mod listener;
pub(crate) mod server;

use std::{path::Path, time::Duration};

use airunner_core::Timestamp;
use airunner_pki::IssuerCertificate;
use serde::Serialize;

use crate::view::moment::Moment;

/// How long one question to a server may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long before its end someone should know of a CA's.
const CA_NOTICE: Duration = Duration::from_hours(24 * 90);

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// It works, and someone should look.
    Warning,
    /// It does not work.
    Wrong,
    /// It could not be looked at.
    Skipped,
}

impl State {
    /// The word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
            Self::Skipped => "skipped",
        }
    }
}

/// What was seen, and what to do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) state: State,
    #[expect(clippy::struct_field_names, reason = "the name that it has in the document")]
    pub(crate) finding: String,
    pub(crate) remedy: Option<String>,
}

/// All that was found, in the order in which it was looked at.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    /// It is as it should be.
    pub(crate) fn ok(&mut self, check: &'static str, finding: impl Into<String>) {
        self.add(check, State::Ok, finding.into(), None);
    }

    /// It is as it is, which is no fault; `remedy` would make it more.
    pub(crate) fn ok_with_remedy(
        &mut self,
        check: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, State::Ok, finding.into(), Some(remedy.into()));
    }

    /// It works, and someone should look.
    pub(crate) fn warning(
        &mut self,
        check: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, State::Warning, finding.into(), Some(remedy.into()));
    }

    /// It does not work.
    pub(crate) fn wrong(
        &mut self,
        check: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, State::Wrong, finding.into(), Some(remedy.into()));
    }

    /// It could not be looked at; `remedy` is how it could.
    pub(crate) fn skipped(
        &mut self,
        check: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, State::Skipped, finding.into(), Some(remedy.into()));
    }

    /// How many came out so.
    pub(crate) fn count(&self, state: State) -> usize {
        self.0.iter().filter(|finding| finding.state == state).count()
    }

    fn add(&mut self, check: &'static str, state: State, finding: String, remedy: Option<String>) {
        self.0.push(Finding { check, state, finding, remedy });
    }

    /// A CA certificate's life.
    pub(crate) fn ca(&mut self, check: &'static str, der: &[u8], now: Timestamp, remedy: &str) {
        match IssuerCertificate::parse(der) {
            Err(error) => self.wrong(check, format!("can't be read: {error}"), remedy),
            Ok(ca) => {
                let (name, end) = (ca.subject_dn(), Moment(ca.not_after()));
                if ca.not_after() <= now {
                    self.wrong(check, format!("{name} ended {}", end.told(now)), remedy);
                } else if ca.not_after() <= now.plus(CA_NOTICE) {
                    self.warning(check, format!("{name} ends {}", end.told(now)), remedy);
                } else {
                    self.ok(check, format!("{name} until {}", end.told(now)));
                }
            }
        }
    }

    /// A secret's file: there, and its owner's alone.
    pub(crate) fn secret_file(&mut self, check: &'static str, path: &Path, missing: &str) {
        use std::os::unix::fs::MetadataExt as _;
        let shown = path.display();
        match std::fs::metadata(path) {
            Err(error) => self.wrong(check, format!("{shown}: {error}"), missing),
            Ok(metadata) if metadata.mode() & 0o077 != 0 => {
                let mode = metadata.mode() & 0o777;
                self.wrong(
                    check,
                    format!("{shown} is open to others (mode {mode:04o})"),
                    format!("chmod 600 {shown}; if anyone may have read it, replace it"),
                );
            }
            Ok(_) => self.ok(check, format!("{shown} is its owner's alone")),
        }
    }
}
