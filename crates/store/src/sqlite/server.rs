//! Statements on servers.

use airunner_core::{Error, Fencing, Result, ServerId, ServerRow, Timestamp};
use rusqlite::params;

use super::rows::{SqliteRows, get, integer, json, number, time, to_json, word, word_or_none};
use crate::rows::{Housekeeping, ServerRows};

impl ServerRows for SqliteRows<'_> {
    fn servers(&self) -> Result<Vec<ServerRow>> {
        let sql = "SELECT server_id, address, version, counter, applied, bundle_hash, queues, at FROM servers \
                   ORDER BY server_id";
        self.all(sql, [], |row| {
            Ok(ServerRow {
                id: word(row, 0)?,
                address: get(row, 1)?,
                version: get(row, 2)?,
                counter: number(row, 3)?,
                applied: number(row, 4)?,
                bundle_hash: get(row, 5)?,
                queues: json(row, 6)?,
                at: time(row, 7)?,
            })
        })
    }

    fn highest_time(&self) -> Result<Timestamp> {
        let found = self.first("SELECT highest_time FROM housekeeping", [], |row| time(row, 0))?;
        Ok(found.unwrap_or_default())
    }

    fn housekeeping(&self) -> Result<Housekeeping> {
        let found = self.first("SELECT holder, fencing, deadline FROM housekeeping", [], |row| {
            Ok(Housekeeping {
                holder: word_or_none(row, 0)?,
                number: Fencing(number(row, 1)?),
                deadline: time(row, 2)?,
            })
        })?;
        Ok(found.unwrap_or(Housekeeping::NEVER))
    }

    fn put_server(&mut self, row: &ServerRow) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO servers \
                   (server_id, address, version, counter, applied, bundle_hash, queues, at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let params = params![
            row.id.to_string(),
            row.address,
            row.version,
            integer(row.counter)?,
            integer(row.applied)?,
            row.bundle_hash,
            to_json(&row.queues)?,
            row.at.as_millis(),
        ];
        self.run(sql, params).map(drop)
    }

    fn delete_server(&mut self, id: &ServerId) -> Result<()> {
        self.run("DELETE FROM servers WHERE server_id = ?1", [id.to_string()]).map(drop)
    }

    fn delete_servers_before(&mut self, before: Timestamp) -> Result<u32> {
        let deleted = self.run("DELETE FROM servers WHERE at < ?1", [before.as_millis()])?;
        u32::try_from(deleted).map_err(Error::internal)
    }

    fn set_highest_time(&mut self, at: Timestamp) -> Result<()> {
        self.run("UPDATE housekeeping SET highest_time = ?1", [at.as_millis()]).map(drop)
    }

    fn set_housekeeping(&mut self, lease: &Housekeeping) -> Result<()> {
        let sql = "UPDATE housekeeping SET holder = ?1, fencing = ?2, deadline = ?3";
        let holder = lease.holder.map(|holder| holder.to_string());
        self.run(sql, params![holder, integer(lease.number.0)?, lease.deadline.as_millis()]).map(drop)
    }
}
