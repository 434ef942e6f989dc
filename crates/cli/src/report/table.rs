//! Rows and records for people, as wide as the terminal at most: the last column is wrapped; where there is no room for
//! that, each row becomes a record. Elsewhere a row is a line, whatever its length.

use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, presets::NOTHING};

use super::{tone::Tone, visible};

/// Columns that the last one must have at least to be wrapped into: with less, a record is easier to read.
const LEAST: usize = 12;
/// Columns between two.
const GAP: u16 = 2;
/// Headers and names whose values are words of state, which have a colour each.
const STATES: [&str; 3] = ["state", "status", "allowed"];

/// Rows under headers. Only the last column is ever wrapped: the others are what one copies from.
#[derive(Debug)]
pub(crate) struct Table {
    headers: &'static [&'static str],
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// A table; `empty` is what is said where it has no rows.
    pub(crate) fn new(headers: &'static [&'static str], empty: &'static str) -> Self {
        Self { headers, rows: Vec::new(), empty }
    }

    /// Adds a row of as many cells as there are headers.
    pub(crate) fn add<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.headers.len());
        self.rows.push(cells.into());
    }

    /// What to say where there are no rows.
    pub(super) fn note_if_empty(&self) -> Option<&'static str> {
        self.rows.is_empty().then_some(self.empty)
    }

    /// The text, at most `width` columns wide where a width is given.
    pub(super) fn render(&self, width: Option<u16>, has_colour: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = self.laid_out(has_colour);
        let Some(width) = width else { return lines(table.lines()) };
        let last = self.headers.len() - 1;
        let widths = table.column_max_content_widths();
        let before: u16 = widths.iter().take(last).map(|width| width + GAP).sum();
        if before + widths[last] <= width {
            return lines(table.lines());
        }
        if usize::from(width.saturating_sub(before)) < LEAST {
            return self.as_records(width, has_colour);
        }
        if let Some(column) = table.column_mut(last) {
            column.remove_constraint();
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        lines(table.lines())
    }

    fn laid_out(&self, has_colour: bool) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING).force_no_tty();
        if has_colour {
            table.enforce_styling();
        }
        let header = |text: &&str| {
            if has_colour { Cell::new(text).add_attribute(Attribute::Bold) } else { Cell::new(text) }
        };
        table.set_header(self.headers.iter().map(header));
        for row in &self.rows {
            table.add_row(row.iter().zip(self.headers).map(|(text, header)| {
                let cell = Cell::new(visible(text));
                let tone = if has_colour && is_state(header) { Tone::of(text) } else { None };
                tone.map_or(cell.clone(), |tone| cell.fg(tone.cell()))
            }));
        }
        let last = self.headers.len() - 1;
        for (place, column) in table.column_iter_mut().enumerate() {
            let gap = if place == last { 0 } else { GAP };
            column.set_padding((0, gap)).set_constraint(ColumnConstraint::ContentWidth);
        }
        table
    }

    fn as_records(&self, width: u16, has_colour: bool) -> String {
        let names: Vec<String> = self.headers.iter().map(|header| header.to_lowercase()).collect();
        let as_record = |row: &Vec<String>| {
            let fields: Vec<_> = names.iter().map(String::as_str).zip(row.iter().cloned()).collect();
            record(&fields, Some(width), has_colour)
        };
        self.rows.iter().map(as_record).collect::<Vec<_>>().join("\n")
    }
}

/// Names and values, one a line, wrapped to `width` where one is given; empty values are left out.
pub(super) fn record(fields: &[(&str, String)], width: Option<u16>, has_colour: bool) -> String {
    let indent = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    let (bold, normal) = if has_colour { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
    lines(shown.map(|(name, value)| {
        let text = wrapped(&visible(value), indent, width.map(usize::from));
        let tone = if has_colour && is_state(name) { Tone::of(value) } else { None };
        let text = tone.map_or(text.clone(), |tone| tone.paint(&text));
        let indent = if text.starts_with('\n') { 0 } else { indent };
        format!("{bold}{name:<indent$}{normal}{text}")
    }))
}

/// The text in lines of what `width` leaves beside `indent`, at spaces. A word that is longer than that stays whole, on
/// a line of its own: it is there to be copied.
fn wrapped(text: &str, indent: usize, width: Option<usize>) -> String {
    let length = |text: &str| text.chars().count();
    let Some(room) = width.map(|width| width.saturating_sub(indent)).filter(|room| length(text) > *room)
    else {
        return text.to_owned();
    };
    let longest = text.split(' ').map(length).max().unwrap_or(0);
    let (room, indent, mut wrapped) = if longest > room {
        (room + indent - 2, 2, "\n  ".to_owned())
    } else {
        (room, indent, String::new())
    };
    let mut used = 0;
    for word in text.split(' ') {
        if used > 0 && used + 1 + length(word) > room {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += length(word);
    }
    wrapped
}

fn is_state(name: &str) -> bool {
    STATES.iter().any(|state| name.eq_ignore_ascii_case(state))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "STATUS", "COMMAND"], "nothing");
        table.add([
            "0198a2f4-aaaa".to_owned(),
            "active".to_owned(),
            "echo a rather long line that goes on and on".to_owned(),
        ]);
        table.add(["b".to_owned(), "revoked".to_owned(), "\u{1b}[31mred".to_owned()]);
        table
    }

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap()
    }

    #[test]
    fn in_a_pipe_columns_are_aligned_and_nothing_is_wrapped() {
        assert_eq!(
            table().render(None, false),
            "ID             STATUS   COMMAND\n0198a2f4-aaaa  active   echo a rather long line that goes on and \
             on\nb              revoked  \\u{1b}[31mred\n"
        );
    }

    #[test]
    fn on_a_terminal_the_last_column_is_wrapped_to_its_width_exactly() {
        let natural = widest(&table().render(None, false));
        for width in 36..natural {
            let text = table().render(Some(u16::try_from(width).unwrap()), false);
            assert!(text.lines().count() > 3 && widest(&text) <= width, "{width}: {text}");
            assert!(text.contains("0198a2f4-aaaa  active"), "{text}");
        }
        let fits = table().render(Some(u16::try_from(natural).unwrap()), false);
        assert_eq!(fits, table().render(None, false));
    }

    #[test]
    fn on_a_terminal_that_is_too_narrow_rows_are_records() {
        let text = table().render(Some(30), false);
        assert!(widest(&text) <= 30, "{text}");
        assert_eq!(
            text,
            "id       0198a2f4-aaaa\nstatus   active\ncommand  echo a rather long\n         line that goes on and\n         \
             on\n\nid       b\nstatus   revoked\ncommand  \\u{1b}[31mred\n"
        );
    }

    #[test]
    fn colour_is_in_the_header_and_in_words_of_state() {
        let text = table().render(Some(80), true);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("\u{1b}[1m"), "{text:?}");
        assert!(lines[1].contains("\u{1b}[38;5;2mactive"), "{text:?}");
        let revoked = lines.iter().find(|line| line.starts_with('b')).unwrap();
        assert!(revoked.contains("\u{1b}[38;5;1mrevoked"), "{text:?}");
        assert!(!table().render(None, false).contains('\u{1b}'));
    }

    #[test]
    fn an_empty_table_is_no_text_and_a_note() {
        let table = Table::new(&["ID"], "no jobs");
        assert_eq!((table.render(None, false).as_str(), table.note_if_empty()), ("", Some("no jobs")));
    }

    #[test]
    fn a_record_leaves_out_what_is_empty_and_keeps_long_words_whole() {
        let fields = [("id", "a".to_owned()), ("email", String::new()), ("created at", "x".to_owned())];
        assert_eq!(record(&fields, None, false), "id          a\ncreated at  x\n");
        let fields = [("fingerprint", "abcdefghijklmnopqrstuvwxyz".to_owned())];
        assert_eq!(record(&fields, Some(30), false), "fingerprint\n  abcdefghijklmnopqrstuvwxyz\n");
    }
}
