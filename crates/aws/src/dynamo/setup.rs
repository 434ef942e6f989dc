//! Making the tables, and seeing that they are as they must be.

use std::time::Duration;

use airunner_core::{Error, Label, Result};
use aws_sdk_dynamodb::{
    Client,
    operation::{create_table::CreateTableError, describe_table::DescribeTableError},
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
        ProjectionType, ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification,
    },
};
use futures_util::future::try_join_all;

use super::error::{Fault, fault};
use crate::tables::{self, Attribute, Key, Kind, TABLES, TTL, Table, TableNames};

/// How often a new table is looked at before it is given up, a second apart.
const LOOKS: u32 = 120;

/// Sees that every table is there with its key and its indexes.
///
/// # Errors
/// `store-unavailable` where one is missing or can't be looked at, `file` where one has another key or lacks an index;
/// each names the table and what mends it.
pub async fn check_tables(client: &Client, names: &TableNames) -> Result<()> {
    let look = async |table: &'static Table| {
        let name = names.of(table);
        match describe(client, &name).await? {
            Some(found) => check(table, &name, &found),
            None => Err(missing(&name)),
        }
    };
    for table in TABLES {
        look(table).await?;
    }
    Ok(())
}

/// Makes the tables that are missing, waits until they can be used, and returns the names of those that it made. Those
/// that are there must be as they must be.
///
/// # Errors
/// As [`check_tables`]; `store-unavailable` where a table is not ready after two minutes.
pub async fn create_tables(client: &Client, names: &TableNames) -> Result<Vec<String>> {
    let make = async |table: &'static Table| {
        let name = names.of(table);
        if let Some(found) = describe(client, &name).await? {
            check(table, &name, &found)?;
            return Ok::<_, Error>(None);
        }
        create(client, table, &name).await?;
        Ok(Some(name))
    };
    let made = try_join_all(TABLES.iter().map(make)).await?;
    let made: Vec<String> = made.into_iter().flatten().collect();
    for table in TABLES.iter().filter(|table| made.contains(&names.of(table))) {
        settle(client, table, &names.of(table)).await?;
    }
    Ok(made)
}

async fn describe(client: &Client, name: &str) -> Result<Option<TableDescription>> {
    match client.describe_table().table_name(name).send().await {
        Ok(output) => Ok(output.table),
        Err(error)
            if error.as_service_error().is_some_and(DescribeTableError::is_resource_not_found_exception) =>
        {
            Ok(None)
        }
        Err(error) => Err(fault(error, name).error()),
    }
}

fn missing(name: &str) -> Error {
    Error::new(
        Label::StoreUnavailable,
        format!(
            "there is no table {name} in this account and region: apply Terraform, or run bootstrap with --create"
        ),
    )
}

fn check(table: &Table, name: &str, found: &TableDescription) -> Result<()> {
    let wrong = |what: String| {
        Err(Error::new(
            Label::File,
            format!(
                "the table {name} {what}: make it anew from infra/terraform, or with bootstrap --create under another [store] prefix"
            ),
        ))
    };
    if !has_key(table.key, found.key_schema(), found.attribute_definitions()) {
        return wrong(format!("has another key than {}", key_text(table.key)));
    }
    for index in table.indexes {
        let there = found.global_secondary_indexes().iter().find(|one| one.index_name() == Some(index.name));
        match there {
            None => return wrong(format!("lacks the index {}", index.name)),
            Some(one) if !has_key(index.key, one.key_schema(), found.attribute_definitions()) => {
                return wrong(format!(
                    "has an index {} with another key than {}",
                    index.name,
                    key_text(index.key)
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn key_text(key: Key) -> String {
    let part = |attribute: Attribute| format!("{} ({})", attribute.name, attribute.kind.as_str());
    let range = key.range.map(|range| format!(", {}", part(range))).unwrap_or_default();
    part(key.hash) + &range
}

fn has_key(key: Key, schema: &[KeySchemaElement], definitions: &[AttributeDefinition]) -> bool {
    let wanted = [(Some(key.hash), KeyType::Hash), (key.range, KeyType::Range)];
    let wanted: Vec<_> =
        wanted.into_iter().filter_map(|(attribute, part)| Some((attribute?, part))).collect();
    schema.len() == wanted.len()
        && wanted.iter().all(|(attribute, part)| {
            let in_schema =
                |one: &KeySchemaElement| one.attribute_name() == attribute.name && one.key_type() == part;
            let defined = |one: &AttributeDefinition| {
                one.attribute_name() == attribute.name && *one.attribute_type() == scalar(attribute.kind)
            };
            schema.iter().any(in_schema) && definitions.iter().any(defined)
        })
}

fn scalar(kind: Kind) -> ScalarAttributeType {
    match kind {
        Kind::Text => ScalarAttributeType::S,
        Kind::Number => ScalarAttributeType::N,
    }
}

async fn create(client: &Client, table: &Table, name: &str) -> Result<()> {
    let mut attributes: Vec<Attribute> = Vec::new();
    for key in [table.key].into_iter().chain(table.indexes.iter().map(|index| index.key)) {
        for attribute in [Some(key.hash), key.range].into_iter().flatten() {
            if !attributes.contains(&attribute) {
                attributes.push(attribute);
            }
        }
    }
    let definition = |attribute: &Attribute| {
        let definition = AttributeDefinition::builder().attribute_name(attribute.name);
        definition.attribute_type(scalar(attribute.kind)).build().map_err(Error::internal)
    };
    let definitions = attributes.iter().map(definition).collect::<Result<Vec<_>>>()?;
    let indexes = table.indexes.iter().map(index).collect::<Result<Vec<_>>>()?;
    let made = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(definitions))
        .set_key_schema(Some(schema(table.key)?))
        .set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes))
        .send()
        .await;
    match made {
        Ok(_) => Ok(()),
        // Another bootstrap is at it.
        Err(error)
            if error.as_service_error().is_some_and(CreateTableError::is_resource_in_use_exception) =>
        {
            Ok(())
        }
        Err(error) => Err(fault(error, name).error()),
    }
}

fn index(index: &tables::Index) -> Result<GlobalSecondaryIndex> {
    let projection = match index.projection {
        tables::Projection::All => Projection::builder().projection_type(ProjectionType::All),
        tables::Projection::KeysOnly => Projection::builder().projection_type(ProjectionType::KeysOnly),
        tables::Projection::Include(names) => names
            .iter()
            .fold(Projection::builder().projection_type(ProjectionType::Include), |projection, name| {
                projection.non_key_attributes(*name)
            }),
    };
    GlobalSecondaryIndex::builder()
        .index_name(index.name)
        .set_key_schema(Some(schema(index.key)?))
        .projection(projection.build())
        .build()
        .map_err(Error::internal)
}

fn schema(key: Key) -> Result<Vec<KeySchemaElement>> {
    let element = |attribute: Attribute, part: KeyType| {
        let element = KeySchemaElement::builder().attribute_name(attribute.name).key_type(part);
        element.build().map_err(Error::internal)
    };
    let mut schema = vec![element(key.hash, KeyType::Hash)?];
    if let Some(range) = key.range {
        schema.push(element(range, KeyType::Range)?);
    }
    Ok(schema)
}

/// Waits until a new table can be used, and sets its time to live.
async fn settle(client: &Client, table: &Table, name: &str) -> Result<()> {
    let mut looks = 0;
    while describe(client, name).await?.and_then(|found| found.table_status) != Some(TableStatus::Active) {
        looks += 1;
        if looks == LOOKS {
            return Err(Error::new(
                Label::StoreUnavailable,
                format!("the table {name} is still being made: run the same command again in a minute"),
            ));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if !table.expires {
        return Ok(());
    }
    let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(TTL).build();
    let ttl = ttl.map_err(Error::internal)?;
    match client.update_time_to_live().table_name(name).time_to_live_specification(ttl).send().await {
        Ok(_) => Ok(()),
        Err(error) => match fault(error, name) {
            // It was set by whoever else made the table.
            Fault::Refused(_) => Ok(()),
            other => Err(other.error()),
        },
    }
}
