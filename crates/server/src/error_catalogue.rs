//! docs/errors.md, out of the code: every label with its codes, when it happens and what to do.

use airunner_core::{Error, Kind, Label};

use crate::{
    error::{codes, http_status, status},
    json::{Telling, told},
};

const HEAD: &str = "\
# Errors
Every failure carries a label, which programs match on and which never changes its meaning, and a sentence that says what to do. Over gRPC the label is
the `reason` of `google.rpc.ErrorInfo`, whose `metadata` names the field at fault and the request's id; `google.rpc.RetryInfo` says when to try again.
Over REST it is `error.label`, beside `error.message`, `error.field` and `error.request_id`; Connect's paths have Connect's form and its table of
statuses. In the TLS handshake there is only an alert.

This page is made by `make docs-generate` from `crates/core/src/label.rs`.

| label | gRPC | REST | Connect | when | what to do |
|---|---|---|---|---|---|
";

/// The page.
pub fn markdown() -> String {
    let row = |label: &Label| {
        let (code, http) = codes(*label);
        let connect = told(&status(&Error::new(*label, ""), ""), Telling::Connect, http_status);
        let cell = |text: &str| text.trim().replace('|', "\\|");
        let kind = if label.kind() == Kind::Internal { " (the caller sees the id only)" } else { "" };
        format!(
            "| `{}` | {code:?} {} | {} | {} | {}{kind} | {} |\n",
            label.as_str(),
            code as i32,
            http.as_u16(),
            connect.as_u16(),
            cell(label.meaning()),
            cell(label.remedy()),
        )
    };
    Label::ALL.iter().fold(HEAD.to_owned(), |page, label| page + &row(label))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_docs_is_that_of_this_code() {
        let committed = include_str!("../../../docs/errors.md");
        assert!(
            committed == super::markdown(),
            "errors have changed: run `make docs-generate` and commit the result"
        );
    }
}
