//! How an entry of the audit log looks.

use std::collections::BTreeMap;

use airunner_proto::audit::v1 as pb;
use serde::Serialize;

use super::{pairs, precise_time, some};

/// Who did what to what.
#[derive(Debug, Serialize)]
pub(crate) struct AuditView {
    number: u64,
    at: Option<String>,
    principal: Option<String>,
    certificate: Option<String>,
    address: Option<String>,
    action: String,
    target: Option<String>,
    refused: Option<String>,
    request_id: Option<String>,
    detail: BTreeMap<String, String>,
}

impl AuditView {
    /// One line, for people.
    pub(crate) fn line(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let refused = self.refused.as_ref().map(|label| format!("refused: {label}"));
        let words = [
            text(&self.at),
            text(&self.principal),
            self.action.clone(),
            text(&self.target),
            refused.unwrap_or_else(|| "done".to_owned()),
            pairs(&self.detail),
        ];
        words.join("  ").trim_end().to_owned()
    }
}

impl From<pb::AuditEntry> for AuditView {
    fn from(entry: pb::AuditEntry) -> Self {
        Self {
            number: entry.number,
            at: precise_time(entry.at.as_ref()),
            principal: some(&entry.principal),
            certificate: some(&entry.certificate),
            address: some(&entry.address),
            action: entry.action,
            target: some(&entry.target),
            refused: some(&entry.refused),
            request_id: some(&entry.request_id),
            detail: entry.detail.into_iter().collect(),
        }
    }
}
