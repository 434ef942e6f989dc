//! A report that is shown again and again: on a terminal in the place of the one before, elsewhere where it has changed.

use airunner_core::Timestamp;

use super::{Format, Output, Report, document, visible};
use crate::{failure::Result, view::moment::Moment};

/// Home; what is written then takes the place of what is there (ECMA-48 sections 8.3.21 and 8.3.39).
const HOME: &str = "\u{1b}[H";
const TO_END_OF_LINE: &str = "\u{1b}[K\n";
const TO_END_OF_SCREEN: &str = "\u{1b}[J";
const CLEAR: &str = "\u{1b}[2J";

/// Where it is shown.
pub(crate) struct Screen {
    output: Output,
    last: Option<serde_norway::Value>,
    is_clear: bool,
}

impl Screen {
    pub(super) const fn new(output: Output) -> Self {
        Self { output, last: None, is_clear: false }
    }

    /// Shows a report.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(crate) fn show(&mut self, report: &Report, now: Timestamp) -> Result<()> {
        if let Some((_, lines)) = self.output.size().filter(|_| self.output.format == Format::Table) {
            let mut text = report.human(self.output);
            if let Some(empty) = report.note_if_empty() {
                text = format!("{empty}\n");
            }
            return self.draw(&text, lines, report.note.as_deref(), now);
        }
        if self.last.is_some() && self.last == report.value {
            return Ok(());
        }
        let is_first = self.last.is_none();
        self.last.clone_from(&report.value);
        if let (Some(value), Format::Json | Format::Yaml) = (&report.value, self.output.format) {
            return self.output.write(document(value, self.output.format, false)?.as_bytes());
        }
        let gap = if is_first { "" } else { "\n" };
        self.output.write(format!("{gap}{}", report.human(self.output)).as_bytes())
    }

    /// Says why there is nothing new, and leaves what is there.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(crate) fn trouble(&mut self, why: &str, now: Timestamp) -> Result<()> {
        let line = format!("{}: {}", Moment(now).0, visible(why));
        if self.is_clear {
            return self.output.write(format!("{HOME}{line}{TO_END_OF_LINE}").as_bytes());
        }
        self.output.note(&line);
        Ok(())
    }

    fn draw(&mut self, text: &str, lines: u16, note: Option<&str>, now: Timestamp) -> Result<()> {
        // One for the time above, one for what may be left out, and the one on which the cursor stands.
        let room = usize::from(lines.saturating_sub(3)).max(1);
        let total = text.lines().count();
        let clear = if self.is_clear { "" } else { CLEAR };
        let last = if total > room {
            Some(format!("… {} more lines", total - room))
        } else {
            note.map(|note| visible(note).into_owned())
        };
        let lines = text.lines().take(room).chain(last.as_deref());
        let mut drawn = format!("{clear}{HOME}{now}  (Ctrl-C ends){TO_END_OF_LINE}");
        for line in lines {
            drawn.push_str(line);
            drawn.push_str(TO_END_OF_LINE);
        }
        drawn.push_str(TO_END_OF_SCREEN);
        self.is_clear = true;
        self.output.write(drawn.as_bytes())
    }
}
