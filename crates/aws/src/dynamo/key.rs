//! Keys: which row of which table is meant, and in which shard of an index it stands.

use airunner_core::Timestamp;
use aws_sdk_dynamodb::types::AttributeValue;

use super::item::Item;
use crate::tables::{Attribute, Kind, Table};

/// Shards of an index over all certificates: at 5,000 issuances a second each takes a third of what a partition can.
pub(super) const CERTIFICATE_SHARDS: u8 = 16;

/// Shards of an index over all jobs, through which a job passes twice.
pub(super) const JOB_SHARDS: u8 = 32;

/// Shards of the audit log.
pub(super) const AUDIT_SHARDS: u8 = 32;

/// The primary key of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowKey<'k> {
    pub(super) table: &'static Table,
    pub(super) hash: &'k str,
    pub(super) range: Option<Range<'k>>,
}

/// The part of a key that orders rows within a partition.
#[derive(Clone, Copy, Debug)]
pub(super) enum Range<'k> {
    Text(&'k str),
    Number(i64),
}

impl<'k> RowKey<'k> {
    pub(super) fn of(table: &'static Table, hash: &'k str) -> Self {
        Self { table, hash, range: None }
    }

    pub(super) fn text(table: &'static Table, hash: &'k str, range: &'k str) -> Self {
        Self { table, hash, range: Some(Range::Text(range)) }
    }

    pub(super) fn number(table: &'static Table, hash: &'k str, range: i64) -> Self {
        Self { table, hash, range: Some(Range::Number(range)) }
    }

    /// The attributes of the key.
    pub(super) fn attributes(&self) -> Item {
        let hash = (self.table.key.hash.name.to_owned(), AttributeValue::S(self.hash.to_owned()));
        let range = self.table.key.range.zip(self.range).map(|(attribute, range)| {
            let value = match range {
                Range::Text(text) => AttributeValue::S(text.to_owned()),
                Range::Number(number) => AttributeValue::N(number.to_string()),
            };
            (attribute.name.to_owned(), value)
        });
        [hash].into_iter().chain(range).collect()
    }

    pub(super) fn id(&self) -> RowId {
        let range = match self.range {
            None => String::new(),
            Some(Range::Text(text)) => text.to_owned(),
            Some(Range::Number(number)) => number.to_string(),
        };
        RowId { table: self.table.name, hash: self.hash.to_owned(), range }
    }
}

/// A row's key by value: what a transaction knows its rows by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowId {
    table: &'static str,
    hash: String,
    range: String,
}

impl RowId {
    /// The row that `item` is; none where it lacks its key.
    pub(super) fn of_item(table: &'static Table, item: &Item) -> Option<Self> {
        let text = |attribute: Attribute| match (attribute.kind, item.get(attribute.name)?) {
            (Kind::Text, AttributeValue::S(text)) | (Kind::Number, AttributeValue::N(text)) => {
                Some(text.clone())
            }
            _ => None,
        };
        let range = match table.key.range {
            Some(attribute) => text(attribute)?,
            None => String::new(),
        };
        Some(Self { table: table.name, hash: text(table.key.hash)?, range })
    }
}

/// The attributes of the primary key alone, out of an item of an index.
pub(super) fn primary(table: &'static Table, item: &Item) -> Item {
    let names = [Some(table.key.hash), table.key.range].into_iter().flatten();
    names
        .filter_map(|attribute| item.get_key_value(attribute.name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The shard of an id, by its last byte, which is random in a UUID.
pub(super) fn shard(id: &[u8], shards: u8) -> u8 {
    id.last().copied().unwrap_or(0) % shards
}

/// Time to live of a row that is of no use any more after `at`: 30 days later, in seconds.
pub(super) fn ttl(at: Timestamp) -> i64 {
    at.as_millis() / 1_000 + 30 * 24 * 60 * 60
}
