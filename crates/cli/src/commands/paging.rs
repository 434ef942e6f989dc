//! Lists, page by page: every list has a limit, and says so when there is more.

use clap::Args;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{Result, context::Context};

/// Rows of a page at most, as the server has it.
const PAGE: u32 = 1_000;

/// How much of a list is wanted.
#[derive(Clone, Debug, Args)]
pub(crate) struct PageArgs {
    /// Rows at most
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

impl PageArgs {
    /// As much of a list as one asks for who says nothing.
    pub(super) fn everything() -> Self {
        Self { limit: PAGE, page_token: None }
    }

    /// Fetches pages until there are enough rows, or no more.
    pub(super) async fn collect<T, Fut>(&self, mut fetch: impl FnMut(u32, String) -> Fut) -> Result<Listed<T>>
    where
        Fut: Future<Output = Result<(Vec<T>, String)>>,
    {
        let mut items = Vec::new();
        let mut token = self.page_token.clone().unwrap_or_default();
        loop {
            let wanted = self.limit - u32::try_from(items.len()).unwrap_or(self.limit).min(self.limit);
            let (page, next) = fetch(wanted.min(PAGE), token).await?;
            items.extend(page);
            token = next;
            if token.is_empty() || items.len() >= self.limit as usize {
                return Ok(Listed { items, next: token });
            }
        }
    }
}

/// Rows, and where there are more.
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    next: String,
}

impl<T> Listed<T> {
    /// Says beside the table that there is more.
    pub(super) fn note(&self, context: &Context) {
        if !self.next.is_empty() {
            context.console().note(&format!("there is more: go on with --page-token {}", self.next));
        }
    }

    /// The list as a document: `{NAME: [...], "next_page_token": …}`.
    pub(super) fn document(self, name: &'static str) -> impl Serialize
    where
        T: Serialize + 'static,
    {
        Document { name, listed: self }
    }
}

struct Document<T> {
    name: &'static str,
    listed: Listed<T>,
}

impl<T: Serialize> Serialize for Document<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let has_more = !self.listed.next.is_empty();
        let mut map = serializer.serialize_map(Some(1 + usize::from(has_more)))?;
        map.serialize_entry(self.name, &self.listed.items)?;
        if has_more {
            map.serialize_entry("next_page_token", &self.listed.next)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_fetched_until_there_are_enough() {
        let pages = |size: u32, token: String| async move {
            let start: u32 = if token.is_empty() { 0 } else { token.parse().unwrap() };
            let end = (start + size.min(2)).min(5);
            Ok(((start..end).collect::<Vec<_>>(), if end == 5 { String::new() } else { end.to_string() }))
        };
        let args = |limit| PageArgs { limit, page_token: None };
        let all = args(100).collect(pages).await.unwrap();
        assert_eq!((all.items, all.next), (vec![0, 1, 2, 3, 4], String::new()));
        let some = args(3).collect(pages).await.unwrap();
        assert_eq!((some.items, some.next.as_str()), (vec![0, 1, 2], "3"));
        let rest = PageArgs { limit: 100, page_token: Some("3".into()) }.collect(pages).await.unwrap();
        assert_eq!(rest.items, vec![3, 4]);
    }
}
