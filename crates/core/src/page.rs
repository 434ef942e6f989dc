//! Paging: every list is cut into pages.

use crate::{Error, Result};

/// Which page of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    size: u32,
    token: Option<String>,
}

impl PageRequest {
    /// Rows on a page when the caller does not say.
    pub const DEFAULT_SIZE: u32 = 50;
    /// Rows on a page at most.
    pub const MAX_SIZE: u32 = 1_000;

    /// Reads what a request asked for: `size` 0 is the default; `token` is empty for the first page.
    pub fn parse(size: u32, token: &str) -> Result<Self> {
        if size > Self::MAX_SIZE {
            return Err(Error::invalid(
                "page_size",
                format!("ask for at most {} rows a page", Self::MAX_SIZE),
            ));
        }
        if token.len() > 512 {
            return Err(Error::new(
                crate::Label::PageToken,
                "this page token is none of ours: start at the first page",
            )
            .with_field("page_token"));
        }
        let size = if size == 0 { Self::DEFAULT_SIZE } else { size };
        Ok(Self { size, token: (!token.is_empty()).then(|| token.to_owned()) })
    }

    /// The first page, of `size` rows (cut to the maximum).
    pub fn first(size: u32) -> Self {
        Self { size: size.clamp(1, Self::MAX_SIZE), token: None }
    }

    /// The page that `token` leads to, of the same size.
    #[must_use]
    pub fn next(&self, token: String) -> Self {
        Self { size: self.size, token: Some(token) }
    }

    /// Rows wanted.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The cursor that the store made, none for the first page.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// A page of a list. It may hold fewer rows than were asked for, even none, and still lead to a next one: where a filter
/// wants few of many rows, a page ends after a bounded search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Leads to the next page; none at the end.
    pub next: Option<String>,
}
