//! Servers in memory.

use airunner_core::{Result, ServerId, ServerRow, Timestamp};

use super::State;
use crate::rows::{Housekeeping, ServerRows};

impl ServerRows for State {
    fn servers(&self) -> Result<Vec<ServerRow>> {
        Ok(self.servers.values().cloned().collect())
    }

    fn highest_time(&self) -> Result<Timestamp> {
        Ok(self.highest_time)
    }

    fn housekeeping(&self) -> Result<Housekeeping> {
        Ok(self.housekeeping.unwrap_or(Housekeeping::NEVER))
    }

    fn put_server(&mut self, row: &ServerRow) -> Result<()> {
        self.servers.insert(row.id, row.clone());
        Ok(())
    }

    fn delete_server(&mut self, id: &ServerId) -> Result<()> {
        self.servers.remove(id);
        Ok(())
    }

    fn delete_servers_before(&mut self, before: Timestamp) -> Result<u32> {
        let there = self.servers.len();
        self.servers.retain(|_, row| row.at >= before);
        Ok(u32::try_from(there - self.servers.len()).unwrap_or(u32::MAX))
    }

    fn set_highest_time(&mut self, at: Timestamp) -> Result<()> {
        self.highest_time = at;
        Ok(())
    }

    fn set_housekeeping(&mut self, lease: &Housekeeping) -> Result<()> {
        self.housekeeping = Some(*lease);
        Ok(())
    }
}
