//! What goes into a running job: bytes for its standard input or its terminal, and the size of that.

use serde::{Deserialize, Serialize};

use crate::{Error, JobId, Result, WriterId};

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

impl TerminalSize {
    /// The largest side.
    pub const MAX: u16 = 9_999;

    /// Checks what a caller says.
    ///
    /// # Errors
    /// `invalid-argument` naming the side that is 0 or larger than [`Self::MAX`].
    pub fn new(rows: u32, columns: u32) -> Result<Self> {
        let side = |name, value: u32| {
            let side = u16::try_from(value).ok().filter(|side| (1..=Self::MAX).contains(side));
            let why = || Error::invalid(name, format!("a terminal has 1 to {} {name}", Self::MAX));
            side.ok_or_else(why)
        };
        Ok(Self { rows: side("rows", rows)?, columns: side("columns", columns)? })
    }

    /// As one number, rows above columns.
    pub fn to_u32(self) -> u32 {
        u32::from(self.rows) << 16 | u32::from(self.columns)
    }

    /// What [`Self::to_u32`] made.
    pub fn from_u32(number: u32) -> Self {
        let [high, low, rest @ ..] = number.to_be_bytes();
        Self { rows: u16::from_be_bytes([high, low]), columns: u16::from_be_bytes(rest) }
    }
}

/// Who writes to a job, and which of its pieces this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputWriter {
    /// One attachment of someone to the job.
    pub id: WriterId,
    /// It counts its pieces from 1, so that one that is sent twice is written once.
    pub piece: u64,
}

/// A wish to write to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputWrite {
    /// The job.
    pub job_id: JobId,
    /// Who writes, where that is said.
    pub writer: Option<InputWriter>,
    /// Whether it may be written though another has written last.
    pub take: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether no more follows.
    pub end: bool,
    /// The terminal's size from now on.
    pub size: Option<TerminalSize>,
}

/// A piece of what goes into a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInput {
    /// Its place, from 1.
    pub n: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether no more follows.
    pub end: bool,
    /// The terminal's size from here on.
    pub size: Option<TerminalSize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_survives_being_one_number_and_nonsense_is_refused() {
        let size = TerminalSize::new(24, 9_999).unwrap();
        assert_eq!(TerminalSize::from_u32(size.to_u32()), size);
        for (rows, columns, field) in [(0, 80, "rows"), (24, 0, "columns"), (70_000, 80, "rows")] {
            assert_eq!(TerminalSize::new(rows, columns).unwrap_err().field(), Some(field));
        }
    }
}
