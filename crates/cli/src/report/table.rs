//! Columns for people. On a terminal the last one is wrapped to fit, where there is room for it; elsewhere a row is a
//! line, whatever its length.

use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, presets::NOTHING};

use super::visible;

/// Columns that the last one must have at least to be wrapped into: with less, a long line is easier to read.
const LEAST: usize = 12;
/// Columns between two.
const GAP: u16 = 2;

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
            table.add_row(row.iter().map(|cell| visible(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP)).set_constraint(ColumnConstraint::ContentWidth);
        }
        let last = self.headers.len() - 1;
        let before: u16 = table.column_max_content_widths().iter().take(last).map(|width| width + GAP).sum();
        let room = width.filter(|width| usize::from(width.saturating_sub(before)) >= LEAST);
        if let (Some(width), Some(column)) = (room, table.column_mut(last)) {
            column.remove_constraint();
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        lines(table.lines())
    }
}

/// Names and values, one a line; empty values are left out.
pub(super) fn record(fields: &[(&str, String)], has_colour: bool) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let (bold, normal) = if has_colour { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    lines(shown.map(|(name, value)| format!("{bold}{name:<width$}{normal}{}", visible(value))))
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
        let mut table = Table::new(&["ID", "COMMAND"], "nothing");
        table.add(["0198a2f4-aaaa".to_owned(), "echo a rather long line that goes on and on".to_owned()]);
        table.add(["b".to_owned(), "\u{1b}[31mred".to_owned()]);
        table
    }

    #[test]
    fn in_a_pipe_columns_are_aligned_and_nothing_is_wrapped() {
        assert_eq!(
            table().render(None, false),
            "ID             COMMAND\n0198a2f4-aaaa  echo a rather long line that goes on and on\nb              \
             \\u{1b}[31mred\n"
        );
    }

    #[test]
    fn on_a_terminal_the_last_column_is_wrapped() {
        let text = table().render(Some(40), false);
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("0198a2f4-aaaa"), "{text}");
    }

    #[test]
    fn on_a_terminal_that_is_too_narrow_a_row_stays_a_line() {
        assert_eq!(table().render(Some(20), false), table().render(None, false));
    }

    #[test]
    fn colour_is_in_the_header_alone() {
        let text = table().render(Some(80), true);
        assert!(text.lines().next().unwrap().contains("\u{1b}[1m"), "{text:?}");
        assert!(!text.lines().skip(1).any(|line| line.contains('\u{1b}')), "{text:?}");
        assert!(!table().render(None, false).contains('\u{1b}'));
    }

    #[test]
    fn an_empty_table_is_no_text_and_a_note() {
        let table = Table::new(&["ID"], "no jobs");
        assert_eq!((table.render(None, false).as_str(), table.note_if_empty()), ("", Some("no jobs")));
    }

    #[test]
    fn a_record_leaves_out_what_is_empty() {
        let fields = [("id", "a".to_owned()), ("email", String::new()), ("created at", "x".to_owned())];
        assert_eq!(record(&fields, false), "id          a\ncreated at  x\n");
    }
}
