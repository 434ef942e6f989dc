//! The one place that prints: results in the format that was asked for, failures on stderr. What is in them is the
//! commands' business.

mod screen;
mod table;
mod text;
mod tone;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use airunner_core::Error;
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    context::Environment,
    failure::{Failure, Result, advice},
};

pub(crate) use screen::Screen;
pub(crate) use table::Table;
pub(crate) use text::visible;
pub(crate) use tone::Tone;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: tables on a terminal, aligned text in a pipe
    #[default]
    Table,
    /// One JSON document; of a command that follows something, one a line
    Json,
    /// One YAML document; of a command that follows something, many
    Yaml,
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// How they are written.
    pub(crate) format: Format,
    /// Whether a person reads stdout.
    pub(crate) is_terminal: bool,
    /// Whether that person's terminal shows more than plain text.
    pub(crate) has_charts: bool,
    has_colour: bool,
    stderr: Stderr,
}

/// What may be done with stderr.
#[derive(Clone, Copy, Debug)]
struct Stderr {
    is_terminal: bool,
    has_colour: bool,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Report {
    value: Option<serde_norway::Value>,
    human: Human,
    note: Option<String>,
    hint: Option<String>,
    code: u8,
}

#[derive(Debug)]
enum Human {
    Nothing,
    Text(String),
    Table(Table),
    Records(Vec<Vec<(&'static str, String)>>),
}

impl Report {
    /// Nothing more to say: all was written while it happened.
    pub(crate) fn nothing() -> Self {
        Self { value: None, human: Human::Nothing, note: None, hint: None, code: 0 }
    }

    /// A sentence, or a text that is the result itself.
    pub(crate) fn text(text: impl Into<String>, value: &impl Serialize) -> Result<Self> {
        Self::new(Human::Text(text.into()), value)
    }

    /// A text that is the same in every format.
    pub(crate) fn raw(text: impl Into<String>) -> Self {
        Self { human: Human::Text(text.into()), ..Self::nothing() }
    }

    /// What only programs and engineers read: people get it as YAML.
    pub(crate) fn document(value: &impl Serialize) -> Result<Self> {
        let text = serde_norway::to_string(value).map_err(Error::internal)?;
        Self::new(Human::Text(text), value)
    }

    /// A list.
    pub(crate) fn table(table: Table, value: &impl Serialize) -> Result<Self> {
        Self::new(Human::Table(table), value)
    }

    /// One thing with its properties; those that are empty are left out for people.
    pub(crate) fn record(fields: Vec<(&'static str, String)>, value: &impl Serialize) -> Result<Self> {
        Self::new(Human::Records(vec![fields]), value)
    }

    /// Several things with their properties.
    pub(crate) fn records(records: Vec<Vec<(&'static str, String)>>, value: &impl Serialize) -> Result<Self> {
        Self::new(Human::Records(records), value)
    }

    fn new(human: Human, value: &impl Serialize) -> Result<Self> {
        let value = serde_norway::to_value(value).map_err(Error::internal)?;
        Ok(Self { value: Some(value), human, note: None, hint: None, code: 0 })
    }

    /// Adds what a person may want to do next; it is said where stdout is a terminal only.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what people must know beside it; it goes to stderr.
    #[must_use]
    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Ends the process with this code.
    #[must_use]
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Prints it, and returns the exit code.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub(crate) fn print(&self, output: Output) -> Result<u8> {
        let text = match (&self.value, output.format) {
            (Some(value), Format::Json | Format::Yaml) => document(value, output.format, true)?,
            _ => self.human(output),
        };
        output.write(text.as_bytes())?;
        if output.format == Format::Table {
            self.note.iter().for_each(|note| output.note(note));
        }
        [self.hint.as_deref(), self.note_if_empty()].iter().flatten().for_each(|hint| output.hint(hint));
        Ok(self.code)
    }

    fn note_if_empty(&self) -> Option<&'static str> {
        match &self.human {
            Human::Table(table) => table.note_if_empty(),
            _ => None,
        }
    }

    fn human(&self, output: Output) -> String {
        match &self.human {
            Human::Nothing => String::new(),
            Human::Text(text) if text.is_empty() || text.ends_with('\n') => text.clone(),
            Human::Text(text) => format!("{text}\n"),
            Human::Table(table) => table.render(output.width(), output.has_colour),
            Human::Records(records) => {
                let width = output.width();
                let texts = records.iter().map(|fields| table::record(fields, width, output.has_colour));
                texts.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

impl Output {
    /// As the option says, else the variable AIRUNNER_OUTPUT, else for people.
    ///
    /// # Errors
    /// Usage, where the variable names no format.
    pub(crate) fn of_process(format: Option<Format>, environment: &Environment) -> Result<Self> {
        let named = environment.variable("AIRUNNER_OUTPUT");
        let of_variable = named.map(|name| {
            Format::from_str(&name, true).map_err(|_| {
                Failure::Usage(format!("AIRUNNER_OUTPUT is {name:?}: the formats are table, json and yaml"))
            })
        });
        let format = match format {
            Some(format) => format,
            None => of_variable.transpose()?.unwrap_or_default(),
        };
        let is_terminal = io::stdout().is_terminal();
        let is_plain = is_plain(environment);
        Ok(Self {
            format,
            is_terminal,
            has_charts: is_terminal && !is_plain && !is_other_than_utf8(environment),
            has_colour: is_terminal && !is_plain,
            stderr: Stderr::of_process(is_plain),
        })
    }

    /// Whether a person reads stderr.
    pub(crate) const fn is_watched(self) -> bool {
        self.stderr.is_terminal
    }

    /// Whether a person reads stderr, and stdout goes elsewhere.
    pub(crate) const fn is_watched_alone(self) -> bool {
        self.stderr.is_terminal && !self.is_terminal
    }

    /// Whether stderr may be coloured.
    pub(crate) const fn has_colour_on_stderr(self) -> bool {
        self.stderr.has_colour
    }

    /// Writes a result, or a part of one, to stdout at once.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`] where nobody reads any more.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<()> {
        write_to(&mut io::stdout().lock(), bytes)
    }

    /// Writes to stderr what belongs there, as the bytes that a job printed there.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(crate) fn write_stderr(self, bytes: &[u8]) -> Result<()> {
        write_to(&mut io::stderr().lock(), bytes)
    }

    /// Writes one of many results as they come.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(crate) fn item(self, text: &str, value: &impl Serialize) -> Result<()> {
        match self.format {
            Format::Table => self.write(format!("{text}\n").as_bytes()),
            format => {
                let value = serde_norway::to_value(value).map_err(Error::internal)?;
                self.write(document(&value, format, false)?.as_bytes())
            }
        }
    }

    /// Tells a person something beside the result. It is lost where nobody reads it.
    pub(crate) fn note(self, note: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", visible(note));
    }

    /// As [`Output::note`], where stdout is a terminal only.
    pub(crate) fn hint(self, hint: &str) {
        if self.is_terminal && self.format == Format::Table {
            self.note(hint);
        }
    }

    /// Where a list is shown again and again.
    pub(crate) fn screen(self) -> Screen {
        Screen::new(self)
    }

    fn width(self) -> Option<u16> {
        self.size().map(|(columns, _)| columns)
    }

    /// Columns and lines of the terminal.
    fn size(self) -> Option<(u16, u16)> {
        let size = || rustix::termios::tcgetwinsize(io::stdout()).ok();
        let size = self.is_terminal.then(size).flatten()?;
        (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
    }
}

impl Stderr {
    fn of_process(is_plain: bool) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { is_terminal, has_colour: is_terminal && !is_plain }
    }
}

/// Whether nothing is to be coloured, whatever reads it (no-color.org).
fn is_plain(environment: &Environment) -> bool {
    environment.variable("NO_COLOR").is_some()
        || environment.variable("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// Whether the locale's characters are of another encoding, which has none to draw with. The first of the three that is
/// set counts (POSIX, XBD 8.2).
fn is_other_than_utf8(environment: &Environment) -> bool {
    let set = |name: &&str| environment.variable(name).filter(|locale| !locale.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set);
    locale.is_some_and(|locale| !locale.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

/// Says on stderr what failed and what to do next. Returns the exit code.
pub(crate) fn print_failure(failure: &Failure, environment: &Environment) -> ExitCode {
    let mut near = String::new();
    let mut cause = failure;
    loop {
        cause = match cause {
            Failure::WithCode(_, inner) => inner,
            Failure::Near(names, inner) => {
                near = format!("  did you mean {}?\n", visible(&names.join(" or ")));
                inner
            }
            _ => break,
        }
    }
    let text = match cause {
        Failure::Failed(error) => {
            let (message, label) = (visible(error.message()), visible(error.label()));
            let after = error.retry_after().map(airunner_host::duration::format);
            let after = after.map(|after| format!("  try again in {after}\n")).unwrap_or_default();
            let advice = advice(error).map(|advice| format!("  {advice}\n")).unwrap_or_default();
            format!("{} {message} ({label})\n{after}{near}{advice}", error_word(environment))
        }
        Failure::Usage(message) => format!("{} {}\n", error_word(environment), visible(message)),
        Failure::Declined => "nothing was changed\n".to_owned(),
        // The terminal has echoed ^C: what comes next starts on a line of its own.
        Failure::Interrupted if io::stderr().is_terminal() => "\n".to_owned(),
        Failure::Interrupted
        | Failure::Terminated
        | Failure::Detached
        | Failure::OutputClosed
        | Failure::WithCode(..)
        | Failure::Near(..) => String::new(),
    };
    // Where stderr is closed too, the exit code has to say it.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(failure.exit_code())
}

/// Says on stderr which names may have been meant, if any.
pub(crate) fn suggest(names: &[String]) {
    if !names.is_empty() {
        let _ = writeln!(io::stderr().lock(), "  did you mean {}?", visible(&names.join(" or ")));
    }
}

/// What a failure begins with.
fn error_word(environment: &Environment) -> String {
    let word = "error:";
    if Stderr::of_process(is_plain(environment)).has_colour { Tone::Bad.paint(word) } else { word.to_owned() }
}

/// The value as text with a newline at its end: over many lines where it is the only one, else on one.
fn document(value: &serde_norway::Value, format: Format, is_only: bool) -> Result<String> {
    let text = match (format, is_only) {
        (Format::Yaml, true) => serde_norway::to_string(value).map_err(Error::internal)?,
        (Format::Yaml, false) => format!("---\n{}", serde_norway::to_string(value).map_err(Error::internal)?),
        (_, true) => serde_json::to_string_pretty(value).map_err(Error::internal)? + "\n",
        (_, false) => serde_json::to_string(value).map_err(Error::internal)? + "\n",
    };
    Ok(text)
}

fn write_to(stream: &mut impl Write, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).and_then(|()| stream.flush()).map_err(Failure::of_output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Thing {
        zeta: u32,
        alpha: Vec<&'static str>,
        none: Option<u32>,
    }

    const THING: Thing = Thing { zeta: 1, alpha: vec![], none: None };

    #[test]
    fn documents_keep_the_order_of_their_keys() {
        let value = serde_norway::to_value(&THING).unwrap();
        assert_eq!(
            document(&value, Format::Json, false).unwrap(),
            "{\"zeta\":1,\"alpha\":[],\"none\":null}\n"
        );
        assert_eq!(document(&value, Format::Yaml, true).unwrap(), "zeta: 1\nalpha: []\nnone: null\n");
        assert!(document(&value, Format::Yaml, false).unwrap().starts_with("---\nzeta"));
    }

    #[test]
    fn the_format_comes_from_the_option_then_the_variable() {
        let variable = Environment::new(|name| (name == "AIRUNNER_OUTPUT").then(|| "yaml".to_owned()));
        assert_eq!(Output::of_process(None, &variable).unwrap().format, Format::Yaml);
        assert_eq!(Output::of_process(Some(Format::Json), &variable).unwrap().format, Format::Json);
        let wrong = Environment::new(|_| Some("xml".to_owned()));
        assert!(matches!(Output::of_process(None, &wrong), Err(Failure::Usage(_))));
        let unset = Environment::new(|_| None);
        assert_eq!(Output::of_process(None, &unset).unwrap().format, Format::Table);
    }
}
