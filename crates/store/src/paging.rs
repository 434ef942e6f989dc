//! Pages of a list: cursors, and how a scan becomes a page.

use airunner_core::{Error, Label, Page, PageRequest, Result};
use data_encoding::BASE64URL_NOPAD;

use crate::rows::Visit;

/// Rows that a page looks at, at most: a filter that wants few of many rows gives short pages, not slow ones.
const SCAN_LIMIT: usize = 2 * PageRequest::MAX_SIZE as usize;

/// A list's page tokens. They carry the list's letter, so that one of another list is refused.
#[derive(Clone, Copy)]
pub(crate) struct Tokens(pub(crate) char);

impl Tokens {
    fn write(self, cursor: &str) -> String {
        BASE64URL_NOPAD.encode(format!("{}{cursor}", self.0).as_bytes())
    }

    /// The cursor within the page's token; none on the first page.
    pub(crate) fn read<C>(self, page: &PageRequest, parse: impl Fn(&str) -> Option<C>) -> Result<Option<C>> {
        let Some(token) = page.token() else { return Ok(None) };
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.strip_prefix(self.0)).and_then(parse) {
            Some(cursor) => Ok(Some(cursor)),
            None => Err(Error::new(
                Label::PageToken,
                "this page token is none of this list's: start at the first page",
            )
            .with_field("page_token")),
        }
    }

    /// Runs `scan` until the page is full, the rows end, or enough of them were looked at.
    pub(crate) fn collect<K, T>(
        self,
        page: &PageRequest,
        wanted: impl Fn(&T) -> bool,
        cursor: impl Fn(&K) -> String,
        scan: impl FnOnce(Visit<'_, (K, T)>) -> Result<()>,
    ) -> Result<Page<T>> {
        let size = page.size() as usize;
        let mut items = Vec::new();
        let mut seen = 0;
        let mut last = None;
        let mut more = false;
        scan(&mut |(key, row)| {
            more = seen == SCAN_LIMIT || (items.len() == size && wanted(&row));
            if more {
                return Ok(false);
            }
            seen += 1;
            if wanted(&row) {
                items.push(row);
            }
            last = Some(key);
            Ok(true)
        })?;
        let next = last.filter(|_| more).map(|key| self.write(&cursor(&key)));
        Ok(Page { items, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: Tokens = Tokens('t');

    fn page_of(rows: std::ops::Range<i64>, page: &PageRequest, wanted: impl Fn(&i64) -> bool) -> Page<i64> {
        let after = TOKENS.read(page, |text| text.parse::<i64>().ok()).unwrap();
        TOKENS
            .collect(page, wanted, i64::to_string, |visit| {
                for row in rows.filter(|row| after.is_none_or(|after| *row > after)) {
                    if !visit((row, row))? {
                        break;
                    }
                }
                Ok(())
            })
            .unwrap()
    }

    #[test]
    fn pages_follow_one_another_without_gap_or_overlap() {
        let mut page = PageRequest::first(3);
        let mut seen = Vec::new();
        loop {
            let got = page_of(0..7, &page, |_| true);
            seen.extend(got.items);
            let Some(next) = got.next else { break };
            page = page.next(next);
        }
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_last_page_has_no_next() {
        assert_eq!(page_of(0..3, &PageRequest::first(3), |_| true).next, None);
    }

    #[test]
    fn a_filter_that_wants_little_gives_short_pages_that_lead_on() {
        let first = page_of(0..5_000, &PageRequest::first(3), |row| *row == 4_999);
        assert_eq!(first.items, Vec::<i64>::new());
        let second = PageRequest::first(3).next(first.next.unwrap());
        let second = page_of(0..5_000, &second, |row| *row == 4_999);
        let third = PageRequest::first(3).next(second.next.unwrap());
        assert_eq!(page_of(0..5_000, &third, |row| *row == 4_999).items, [4_999]);
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let foreign = PageRequest::first(3).next(Tokens('x').write("5"));
        let error = TOKENS.read(&foreign, |text| text.parse::<i64>().ok()).unwrap_err();
        assert_eq!(error.label(), Label::PageToken);
    }
}
