//! Entries of the audit log.

use std::collections::BTreeMap;

use airunner_proto::audit::v1 as pb;
use serde::Serialize;

use super::{pairs, text, time};

/// An entry.
#[derive(Serialize)]
pub(crate) struct AuditView {
    number: u64,
    at: Option<String>,
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    action: String,
    target: String,
    /// The label of the refusal; none where it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    detail: BTreeMap<String, String>,
}

impl From<pb::AuditEntry> for AuditView {
    fn from(entry: pb::AuditEntry) -> Self {
        Self {
            number: entry.number,
            at: time(entry.at.as_ref()),
            principal: entry.principal,
            certificate: text(entry.certificate),
            address: text(entry.address),
            action: entry.action,
            target: entry.target,
            refused: text(entry.refused),
            request_id: text(entry.request_id),
            detail: entry.detail.into_iter().collect(),
        }
    }
}

impl AuditView {
    /// The head of a table of entries.
    pub(crate) const HEAD: &'static [&'static str] =
        &["at", "principal", "action", "target", "result", "detail"];

    pub(crate) fn row(&self) -> Vec<String> {
        vec![
            self.at.clone().unwrap_or_default(),
            self.principal.clone(),
            self.action.clone(),
            self.target.clone(),
            self.refused.clone().unwrap_or_else(|| "done".to_owned()),
            pairs(&self.detail).join(" "),
        ]
    }

    /// The entry as one line.
    pub(crate) fn line(&self) -> String {
        self.row().join("  ").trim_end().to_owned()
    }
}
