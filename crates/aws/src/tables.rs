//! The tables of the DynamoDB store: the one description of their names, keys, indexes and times to live. Terraform is
//! compared with it, the store checks at its start that the account has them so, and `--create` makes them from it.

use std::fmt;

/// Which environment's tables are meant: they are called `PREFIX_ENVIRONMENT_NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNames {
    stem: String,
}

impl TableNames {
    /// What tables are called by unless something else is said.
    pub const DEFAULT_PREFIX: &'static str = "airunner";

    /// The tables of `environment` under `prefix`.
    pub fn new(prefix: &str, environment: &str) -> Self {
        Self { stem: format!("{prefix}_{environment}") }
    }

    /// What the names of all of them begin with.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// The full name of a table.
    pub fn of(&self, table: &Table) -> String {
        format!("{}_{}", self.stem, table.name)
    }
}

/// What an attribute of a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A number.
    Number,
}

impl Kind {
    /// DynamoDB's letter for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "S",
            Self::Number => "N",
        }
    }
}

/// An attribute of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// The key of a table or an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Decides the partition.
    pub hash: Attribute,
    /// Decides the order within it.
    pub range: Option<Attribute>,
}

/// What an index carries beside its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// Every attribute.
    All,
    /// Nothing: rows are then read by their primary key.
    KeysOnly,
    /// These.
    Include(&'static [&'static str]),
}

/// A global secondary index. All are sparse: a row without its hash attribute is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: &'static str,
    /// Its key.
    pub key: Key,
    /// What it carries.
    pub projection: Projection,
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name, without prefix and environment.
    pub name: &'static str,
    /// Its primary key.
    pub key: Key,
    /// Its indexes.
    pub indexes: &'static [Index],
    /// Whether its rows may carry [`TTL`].
    pub expires: bool,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The attribute with a row's time to live: seconds of the Unix epoch. DynamoDB takes days to act on it, so that
/// nothing may rest on a row being gone.
pub const TTL: &str = "ttl";

const fn text(name: &'static str) -> Attribute {
    Attribute { name, kind: Kind::Text }
}

const fn number(name: &'static str) -> Attribute {
    Attribute { name, kind: Kind::Number }
}

const fn key(hash: Attribute) -> Key {
    Key { hash, range: None }
}

const fn ordered(hash: Attribute, range: Attribute) -> Key {
    Key { hash, range: Some(range) }
}

const fn index(name: &'static str, key: Key, projection: Projection) -> Index {
    Index { name, key, projection }
}

/// Principals, by folded id; and under `#admins` which of them are active admins.
pub const PRINCIPALS: Table = Table {
    name: "principals",
    key: key(text("principal_id")),
    indexes: &[
        index("by_status", ordered(text("status"), text("principal_id")), Projection::All),
        index("by_type", ordered(text("type"), text("principal_id")), Projection::All),
    ],
    expires: false,
};

/// Which principal owns a DNS name.
pub const DNS_NAMES: Table =
    Table { name: "dns_names", key: key(text("dns_name")), indexes: &[], expires: false };

/// Certificates, by serial number; by `ISSUER~SERIAL` where another issuer has used the number.
pub const CERTIFICATES: Table = Table {
    name: "certificates",
    key: key(text("serial_number")),
    indexes: &[
        index("by_principal", ordered(text("principal_id"), number("issued_at")), Projection::All),
        index("by_fingerprint", key(text("fingerprint")), Projection::All),
        index("by_issue", ordered(text("issued_shard"), number("number")), Projection::KeysOnly),
        index(
            "by_expiry",
            ordered(text("expiry_shard"), number("expires_at")),
            Projection::Include(&["number"]),
        ),
        index(
            "by_revocation",
            ordered(text("revoked_shard"), number("expires_at")),
            Projection::Include(&["issuer_id"]),
        ),
    ],
    expires: true,
};

/// Each principal's lineages with their unended certificates; and under `#slots` what serialises their beginnings.
pub const LINEAGES: Table = Table {
    name: "lineages",
    key: ordered(text("principal_id"), text("lineage_id")),
    indexes: &[],
    expires: true,
};

/// Enrolment tokens.
pub const ENROLLMENTS: Table = Table {
    name: "enrollments",
    key: key(text("enrollment_id")),
    indexes: &[
        index("by_creation", ordered(text("created_shard"), number("number")), Projection::All),
        index("by_creator", ordered(text("created_by"), number("number")), Projection::All),
    ],
    expires: true,
};

/// Issuers, all in one partition: they are few, and read together.
pub const ISSUERS: Table =
    Table { name: "issuers", key: ordered(text("scope"), text("issuer_id")), indexes: &[], expires: false };

/// The record of the master key and the wrapped data keys.
pub const KEYRING: Table =
    Table { name: "keyring", key: ordered(text("scope"), text("key_id")), indexes: &[], expires: false };

/// What came of requests that may be made again.
pub const REQUESTS: Table =
    Table { name: "requests", key: key(text("request_key")), indexes: &[], expires: true };

/// Jobs. In `by_due` are those that wait, by their places in their lane, and those that run, by when their lease ends; in
/// `by_turn` those that wait, by lane and owner.
pub const JOBS: Table = Table {
    name: "jobs",
    key: key(text("job_id")),
    indexes: &[
        index("by_due", ordered(text("due_shard"), number("due_at")), Projection::Include(&["number"])),
        index("by_turn", ordered(text("turn"), number("due_at")), Projection::KeysOnly),
        index("by_holder", ordered(text("holder"), number("number")), Projection::KeysOnly),
        index("by_owner", ordered(text("owner"), number("number")), Projection::KeysOnly),
        index("by_state", ordered(text("state_shard"), number("number")), Projection::KeysOnly),
        index("by_creation", ordered(text("created_shard"), number("number")), Projection::KeysOnly),
        index("by_likeness", ordered(text("alike_shard"), number("number")), Projection::KeysOnly),
    ],
    expires: true,
};

/// Of each queue the lanes that jobs wait in and how far its ranks have come.
pub const QUEUES: Table = Table { name: "queues", key: key(text("queue")), indexes: &[], expires: true };

/// Which live job of an owner, a command and its arguments wants to be the only one.
pub const JOB_UNIQUE: Table =
    Table { name: "job_unique", key: key(text("alike")), indexes: &[], expires: true };

/// Standard input of jobs, in pieces.
pub const JOB_INPUTS: Table =
    Table { name: "job_inputs", key: ordered(text("job_id"), text("piece")), indexes: &[], expires: true };

/// Control events of jobs.
pub const JOB_EVENTS: Table = Table {
    name: "job_events",
    key: ordered(text("job_id"), number("sequence")),
    indexes: &[],
    expires: true,
};

/// The change feed.
pub const CHANGES: Table =
    Table { name: "changes", key: ordered(text("shard"), number("number")), indexes: &[], expires: true };

/// Running servers; under `#time` the highest time and under `#housekeeping` the lease.
pub const SERVERS: Table =
    Table { name: "servers", key: ordered(text("scope"), text("server_id")), indexes: &[], expires: false };

/// The audit log, in shards by time.
pub const AUDIT_PENDING: Table = Table {
    name: "audit_pending",
    key: ordered(text("shard"), number("number")),
    indexes: &[],
    expires: false,
};

/// Every table there is.
pub const TABLES: &[Table] = &[
    PRINCIPALS,
    DNS_NAMES,
    CERTIFICATES,
    LINEAGES,
    ENROLLMENTS,
    ISSUERS,
    KEYRING,
    REQUESTS,
    JOBS,
    QUEUES,
    JOB_UNIQUE,
    JOB_INPUTS,
    JOB_EVENTS,
    CHANGES,
    SERVERS,
    AUDIT_PENDING,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_called_by_prefix_environment_and_name() {
        let names = TableNames::new(TableNames::DEFAULT_PREFIX, "prod");
        assert_eq!(names.of(&PRINCIPALS), "airunner_prod_principals");
    }

    #[test]
    fn no_two_tables_and_no_two_indexes_of_one_share_a_name() {
        let distinct = |names: Vec<&str>| {
            let mut unique = names.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), names.len(), "{names:?}");
        };
        distinct(TABLES.iter().map(|table| table.name).collect());
        for table in TABLES {
            distinct(table.indexes.iter().map(|index| index.name).collect());
        }
    }
}
