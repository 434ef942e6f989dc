//! What a command came to, and the one place that prints it: tables for people, one document for programs, bytes as
//! they are. No command writes to standard output by itself.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use airunner_core::Label;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::json;

use crate::{Result, failure::Failure};

/// In which form reports are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// What a command came to.
pub(crate) struct Report {
    document: Box<dyn Document>,
    human: Human,
    code: u8,
}

/// The form for people.
pub(crate) enum Human {
    /// Rows under their names.
    Table { head: &'static [&'static str], rows: Vec<Vec<String>>, empty: &'static str },
    /// Names with their values, one a line.
    Fields(Vec<(&'static str, String)>),
    /// As it is.
    Text(String),
}

impl Report {
    /// A report with a document for programs and a form for people.
    pub(crate) fn new(document: impl Serialize + 'static, human: Human) -> Self {
        Self { document: Box::new(document), human, code: 0 }
    }

    /// A report of a command that has written all there is itself.
    pub(crate) fn nothing() -> Self {
        Self::new((), Human::Text(String::new()))
    }

    /// With another exit code than 0.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What the process exits with once this is printed.
    pub(crate) fn exit_code(&self) -> u8 {
        self.code
    }
}

trait Document {
    fn json(&self) -> Result<String>;
    fn yaml(&self) -> Result<String>;
}

impl<T: Serialize> Document for T {
    fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).map_err(airunner_core::Error::internal)?)
    }

    fn yaml(&self) -> Result<String> {
        Ok(serde_norway::to_string(self).map_err(airunner_core::Error::internal)?)
    }
}

/// Standard output and standard error, and what is known about who reads them.
pub(crate) struct Console {
    output: Output,
    out_is_terminal: bool,
    error_is_terminal: bool,
    no_color: bool,
}

impl Console {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            out_is_terminal: io::stdout().is_terminal(),
            error_is_terminal: io::stderr().is_terminal(),
            // https://no-color.org: set, and not empty.
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        }
    }

    /// Prints a report.
    pub(crate) fn print(&self, report: &Report) -> Result<()> {
        let mut text = match self.output {
            Output::Json => report.document.json()?,
            Output::Yaml => report.document.yaml()?,
            Output::Table => self.human(&report.human),
        };
        if matches!(self.output, Output::Table) && text.is_empty() || text == "null" {
            return Ok(());
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.write(text.as_bytes())
    }

    /// Writes bytes as they are, at once.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// Writes bytes as they are to standard error.
    pub(crate) fn write_error(&self, bytes: &[u8]) -> Result<()> {
        Ok(io::stderr().lock().write_all(bytes)?)
    }

    /// Writes one entry of a list that has no end: a JSON line, or a line for people.
    pub(crate) fn line(&self, document: &impl Serialize, human: &str) -> Result<()> {
        let mut text = match self.output {
            Output::Json => serde_json::to_string(document).map_err(airunner_core::Error::internal)?,
            Output::Yaml => {
                let text = serde_norway::to_string(document).map_err(airunner_core::Error::internal)?;
                format!("---\n{}", text.trim_end())
            }
            Output::Table => printable(human),
        };
        text.push('\n');
        self.write(text.as_bytes())
    }

    /// Says something beside the report, on standard error.
    pub(crate) fn note(&self, text: &str) {
        say(&printable(text));
    }

    /// Says why a command failed.
    pub(crate) fn print_failure(&self, failure: &Failure) {
        match failure {
            Failure::ClosedPipe => {}
            Failure::Interrupted(message) if message.is_empty() => {}
            Failure::Interrupted(message) => self.note(message),
            Failure::Usage(message) => {
                say(&format!("{} {}\n\nFor more, try '--help'.", self.error_word(), printable(message)));
            }
            Failure::Error(error) if self.output == Output::Json => {
                let mut fields = json!({ "label": error.label(), "message": error.message() });
                for (name, value) in [("field", error.field()), ("request_id", error.request_id())] {
                    if let Some(value) = value {
                        fields[name] = value.into();
                    }
                }
                self.note(&json!({ "error": fields }).to_string());
            }
            Failure::Error(error) => {
                let mut text = format!("{} [{}]", error.message(), error.label());
                if let Some(field) = error.field().filter(|field| !error.message().contains(field)) {
                    let _ = write!(text, " (field {field})");
                }
                if let Some(id) = error.request_id().filter(|_| error.is(Label::Internal)) {
                    let _ = write!(text, " (request {id})");
                }
                if let Some(after) = error.retry_after() {
                    let _ = write!(text, "; try again in {} s", after.as_secs().max(1));
                }
                say(&format!("{} {}", self.error_word(), printable(&text)));
            }
        }
    }

    fn error_word(&self) -> &'static str {
        if self.error_is_terminal && !self.no_color { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" }
    }

    fn human(&self, human: &Human) -> String {
        match human {
            Human::Text(text) => text.clone(),
            Human::Fields(fields) => {
                let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                fields.iter().fold(String::new(), |mut text, (name, value)| {
                    let _ = writeln!(text, "{}  {}", self.bold(&format!("{name:width$}")), printable(value));
                    text
                })
            }
            Human::Table { rows, empty, .. } if rows.is_empty() && self.out_is_terminal => {
                (*empty).to_owned()
            }
            Human::Table { head, rows, .. } => self.table(head, rows),
        }
    }

    /// A table; on a terminal it fits its width, elsewhere every row is one line.
    fn table(&self, head: &[&str], rows: &[Vec<String>]) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let arrangement =
            if self.out_is_terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        table.set_content_arrangement(arrangement);
        table.set_header(head.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let text = table.to_string();
        let mut lines = text.lines().map(str::trim_end);
        let first = lines.next().map(|line| self.bold(line)).unwrap_or_default();
        lines.fold(first, |mut text, line| {
            text.push('\n');
            text.push_str(line);
            text
        })
    }

    fn bold(&self, text: &str) -> String {
        if self.out_is_terminal && !self.no_color {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes a line to standard error.
fn say(text: &str) {
    // Whoever closed standard error does not want to know.
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Text from elsewhere, harmless to a terminal: control characters would move the cursor, or worse.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(out_is_terminal: bool, no_color: bool) -> Console {
        Console { output: Output::Table, out_is_terminal, error_is_terminal: out_is_terminal, no_color }
    }

    #[test]
    fn a_piped_table_is_plain_and_every_row_one_line() {
        let rows = vec![vec!["a".repeat(200), "x".into()], vec!["b".into(), "y".into()]];
        let text = console(false, false).table(&["name", "value"], &rows);
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains('\u{1b}'));
        assert!(text.starts_with("NAME"));
        assert!(text.lines().all(|line| line.trim_end() == line));
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let rows = vec![vec!["a".into()]];
        assert!(console(true, false).table(&["name"], &rows).contains('\u{1b}'));
        assert!(!console(true, true).table(&["name"], &rows).contains('\u{1b}'));
        assert_eq!(console(true, true).error_word(), "error:");
        assert!(console(true, false).error_word().contains('\u{1b}'));
    }

    #[test]
    fn control_characters_from_elsewhere_never_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{7}\r"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        let fields = Human::Fields(vec![("name", "x\u{1b}]0;title\u{7}".into())]);
        assert!(!console(false, false).human(&fields).contains('\u{1b}'));
    }

    #[test]
    fn documents_come_in_both_forms() {
        let report = Report::new(json!({ "id": "x" }), Human::Text(String::new()));
        assert_eq!(report.document.json().unwrap(), "{\n  \"id\": \"x\"\n}");
        assert_eq!(report.document.yaml().unwrap(), "id: x\n");
    }
}
