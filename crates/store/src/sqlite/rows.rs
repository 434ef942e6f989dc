//! Rows of a SQLite transaction: how statements are run and columns are read. The statements are beside this file, by
//! noun; all are prepared once a connection.

use std::str::FromStr;

use airunner_core::{Error, Result, Timestamp};
use rusqlite::{Connection, Params, Row, types::FromSql};
use serde::{Serialize, de::DeserializeOwned};

use super::error::store_error;
use crate::rows::Rows;

pub(super) struct SqliteRows<'c> {
    pub(super) connection: &'c Connection,
    changed_authority: bool,
}

impl Rows for SqliteRows<'_> {}

impl<'c> SqliteRows<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, changed_authority: false }
    }

    /// Whether anything was written that a trigger may have told the change feed.
    pub(super) fn changed_authority(&self) -> bool {
        self.changed_authority
    }

    /// Runs a statement that may write changes, and gives these their time.
    pub(super) fn run_telling(&mut self, sql: &str, params: impl Params, at: Timestamp) -> Result<()> {
        let before = super::feed::last_change(self.connection)?;
        self.changed_authority = true;
        self.run(sql, params)?;
        let stamp = "UPDATE changes SET at = ?1 WHERE number > ?2";
        self.run(stamp, (at.as_millis(), integer(before)?)).map(drop)
    }

    /// Runs a statement that writes changes with their time.
    pub(super) fn run_telling_itself(&mut self, sql: &str, params: impl Params) -> Result<()> {
        self.changed_authority = true;
        self.run(sql, params).map(drop)
    }

    /// Runs a statement; how many rows it wrote.
    pub(super) fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        let mut statement = self.connection.prepare_cached(sql).map_err(store_error)?;
        statement.execute(params).map_err(store_error)
    }

    /// The first row, read by `read`.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(store_error)?;
        let mut rows = statement.query(params).map_err(store_error)?;
        rows.next().map_err(store_error)?.map(read).transpose()
    }

    /// Every row, read by `read`.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        self.scan(sql, params, read, &mut |row| {
            found.push(row);
            Ok(true)
        })?;
        Ok(found)
    }

    /// Rows one by one, until `visit` says no.
    pub(super) fn scan<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T>,
        visit: crate::rows::Visit<'_, T>,
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql).map_err(store_error)?;
        let mut rows = statement.query(params).map_err(store_error)?;
        while let Some(row) = rows.next().map_err(store_error)? {
            if !visit(read(row)?)? {
                break;
            }
        }
        Ok(())
    }
}

/// A column as it is.
pub(super) fn get<T: FromSql>(row: &Row<'_>, column: usize) -> Result<T> {
    row.get(column).map_err(store_error)
}

/// A column that holds one of our words.
pub(super) fn word<T: FromStr<Err = Error>>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row.get_ref(column).map_err(store_error)?.as_str().map_err(Error::internal)?;
    text.parse().map_err(|error| unreadable(text, &error))
}

/// A column that holds one of our words or nothing.
pub(super) fn word_or_none<T: FromStr<Err = Error>>(row: &Row<'_>, column: usize) -> Result<Option<T>> {
    let text = row.get_ref(column).map_err(store_error)?.as_str_or_null().map_err(Error::internal)?;
    text.map(|text| text.parse().map_err(|error| unreadable(text, &error))).transpose()
}

/// A column that holds JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row.get_ref(column).map_err(store_error)?.as_str().map_err(Error::internal)?;
    serde_json::from_str(text).map_err(Error::internal)
}

/// A column that holds JSON or nothing.
pub(super) fn json_or_none<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Option<T>> {
    let text = row.get_ref(column).map_err(store_error)?.as_str_or_null().map_err(Error::internal)?;
    text.map(|text| serde_json::from_str(text).map_err(Error::internal)).transpose()
}

/// A column that holds a time.
pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    get(row, column).map(Timestamp::from_millis)
}

/// A column that holds a time or nothing.
pub(super) fn time_or_none(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

/// A column that holds a number that is not negative.
pub(super) fn number<T: TryFrom<i64>>(row: &Row<'_>, column: usize) -> Result<T> {
    let found: i64 = get(row, column)?;
    T::try_from(found).map_err(|_| Error::internal(format!("{found} is out of range")))
}

/// A number as SQLite keeps it.
pub(super) fn integer(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(Error::internal)
}

/// A number of rows as SQLite counts it.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A time as SQLite keeps it.
pub(super) fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millis)
}

/// A value as JSON.
pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}

fn unreadable(text: &str, error: &Error) -> Error {
    Error::internal(format!("the store holds {text:?}: {error}"))
}
