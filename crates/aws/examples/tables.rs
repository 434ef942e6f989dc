//! Writes the tables, as Terraform reads them, to standard output: `make terraform-generate`.

use std::io::{self, Write as _};

use airunner_aws::tables::{Attribute, Index, Projection, TABLES, TTL, Table};
use serde_json::{Value, json};

fn main() -> io::Result<()> {
    writeln!(io::stdout(), "{:#}", tables())
}

/// Every table under its name without prefix and environment.
pub(crate) fn tables() -> Value {
    TABLES.iter().map(|table| (table.name.to_owned(), one(table))).collect::<serde_json::Map<_, _>>().into()
}

fn one(table: &Table) -> Value {
    let indexes: serde_json::Map<_, _> =
        table.indexes.iter().map(|index| (index.name.to_owned(), index_of(index))).collect();
    json!({
        "hash": attribute(table.key.hash),
        "range": table.key.range.map(attribute),
        "indexes": indexes,
        "ttl": table.expires.then_some(TTL),
    })
}

fn index_of(index: &Index) -> Value {
    let (projection, attributes): (_, &[&str]) = match index.projection {
        Projection::All => ("ALL", &[]),
        Projection::KeysOnly => ("KEYS_ONLY", &[]),
        Projection::Include(attributes) => ("INCLUDE", attributes),
    };
    json!({
        "hash": attribute(index.key.hash),
        "range": index.key.range.map(attribute),
        "projection": projection,
        "attributes": attributes,
    })
}

fn attribute(attribute: Attribute) -> Value {
    json!({ "name": attribute.name, "type": attribute.kind.as_str() })
}
