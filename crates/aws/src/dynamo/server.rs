//! Rows of servers, the highest time and the housekeeping lease.

use airunner_core::{Fencing, Result, ServerId, ServerRow, Timestamp};
use airunner_store::backend::{Housekeeping, ServerRows};

use super::{
    DynamoRows,
    item::{Fields, Item, Row},
    key::RowKey,
    listing::{Bounds, Listing},
    transaction::Rely,
};
use crate::tables::SERVERS;

const SCOPE: &str = "servers";
const TIME: &str = "#time";
const HOUSEKEEPING: &str = "#housekeeping";

/// After rows that are no ids, and before every id.
const FIRST: &str = "0";

/// After every id.
const LAST: &str = "~";

fn read(item: &Item) -> Result<ServerRow> {
    let row = Row(item);
    Ok(ServerRow {
        id: row.word("server_id")?,
        address: row.text_or_empty("address")?,
        version: row.text_or_empty("version")?,
        counter: row.number("counter")?,
        applied: row.number("applied")?,
        bundle_hash: row.text_or_empty("bundle_hash")?,
        queues: row.json_or_none("served")?.unwrap_or_default(),
        at: row.time("at")?,
    })
}

impl ServerRows for DynamoRows {
    fn servers(&self) -> Result<Vec<ServerRow>> {
        let listing = Listing {
            table: &SERVERS,
            index: None,
            partitions: vec![SCOPE.to_owned()],
            bounds: Bounds::text(FIRST, LAST),
            descending: false,
            place: |item| Ok(Row(item).text("server_id")?.to_owned()),
            is_tie: |_, _| false,
        };
        let mut rows: Vec<_> = self.tx.all(&listing)?.iter().map(read).collect::<Result<_>>()?;
        // A heartbeat sees itself: its row is written when this transaction commits.
        if let Some(own) = &self.own_heartbeat {
            rows.retain(|row| row.id != own.id);
            rows.push(own.clone());
            rows.sort_by_key(|row| row.id);
        }
        Ok(rows)
    }

    fn highest_time(&self) -> Result<Timestamp> {
        let item = self.tx.get(RowKey::text(&SERVERS, SCOPE, TIME), Rely::No)?;
        item.map_or(Ok(Timestamp::from_millis(0)), |item| Row(&item).time("highest"))
    }

    fn housekeeping(&self) -> Result<Housekeeping> {
        let Some(item) = self.tx.get(RowKey::text(&SERVERS, SCOPE, HOUSEKEEPING), Rely::Yes)? else {
            return Ok(Housekeeping::NEVER);
        };
        let row = Row(&item);
        Ok(Housekeeping {
            holder: row.word_or_none("holder")?,
            number: Fencing(row.number("fencing")?),
            deadline: row.time("deadline")?,
        })
    }

    fn put_server(&mut self, row: &ServerRow) -> Result<()> {
        let id = row.id.to_string();
        let key = RowKey::text(&SERVERS, SCOPE, &id);
        self.tx.get(key, Rely::No)?;
        let item = Fields::default()
            .text("address", &row.address)
            .text("version", &row.version)
            .number("counter", row.counter)
            .number("applied", row.applied)
            .text("bundle_hash", &row.bundle_hash)
            .json("served", &row.queues)?
            .time("at", row.at)
            .done();
        self.tx.put(key, item);
        self.own_heartbeat = Some(row.clone());
        Ok(())
    }

    fn delete_server(&mut self, id: &ServerId) -> Result<()> {
        self.tx.delete(RowKey::text(&SERVERS, SCOPE, &id.to_string()));
        Ok(())
    }

    fn delete_servers_before(&mut self, before: Timestamp) -> Result<u32> {
        let old: Vec<_> = self.servers()?.into_iter().filter(|row| row.at < before).take(90).collect();
        for row in &old {
            self.delete_server(&row.id)?;
        }
        u32::try_from(old.len()).map_err(airunner_core::Error::internal)
    }

    fn set_highest_time(&mut self, at: Timestamp) -> Result<()> {
        self.tx.put(RowKey::text(&SERVERS, SCOPE, TIME), Fields::default().time("highest", at).done());
        Ok(())
    }

    fn set_housekeeping(&mut self, lease: &Housekeeping) -> Result<()> {
        let item = Fields::default()
            .word_or_none("holder", lease.holder)
            .number("fencing", lease.number.0)
            .time("deadline", lease.deadline)
            .done();
        self.tx.put(RowKey::text(&SERVERS, SCOPE, HOUSEKEEPING), item);
        Ok(())
    }
}
