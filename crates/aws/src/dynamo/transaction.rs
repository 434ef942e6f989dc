//! One intent's transaction: what it has read, what it decided on, and what it will write. Rows are read by primary key,
//! consistently; at the commit every row that a decision rests on must still be as it was read.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use airunner_core::{Error, Intent, Label, Result, Timestamp};
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, KeysAndAttributes, Put, TransactWriteItem,
};

use super::{
    error::{Fault, fault},
    item::{Item, REVISION, Row},
    key::{RowId, RowKey, primary},
    link::Link,
};
use crate::tables::Table;

/// What DynamoDB takes in one transaction.
const MAX_WRITES: usize = 100;

/// Rows that one batch reads at most.
const MAX_BATCH: usize = 100;

/// Whether what is read bears on the decision, and so must not change before the commit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rely {
    Yes,
    No,
}

pub(super) struct Transaction {
    pub(super) link: Arc<Link>,
    /// None where nothing is written.
    intent: Option<Intent>,
    /// How often this intent met another's writes before.
    pub(super) attempt: u32,
    read: RefCell<BTreeMap<RowId, Read>>,
    writes: BTreeMap<RowId, Write>,
}

struct Read {
    table: &'static Table,
    key: Item,
    item: Option<Item>,
    relied_on: bool,
}

struct Write {
    table: &'static Table,
    key: Item,
    /// None deletes.
    item: Option<Item>,
}

impl Transaction {
    pub(super) fn reading(link: Arc<Link>) -> Self {
        Self { link, intent: None, attempt: 0, read: RefCell::default(), writes: BTreeMap::new() }
    }

    pub(super) fn writing(link: Arc<Link>, intent: Intent, attempt: u32) -> Self {
        Self { intent: Some(intent), attempt, ..Self::reading(link) }
    }

    pub(super) fn is(&self, intent: Intent) -> bool {
        self.intent == Some(intent)
    }

    /// The row as this transaction sees it: as it wrote it, or as it stands.
    pub(super) fn get(&self, key: RowKey<'_>, rely: Rely) -> Result<Option<Item>> {
        let id = key.id();
        if let Some(write) = self.writes.get(&id) {
            return Ok(write.item.clone());
        }
        let relied_on = rely == Rely::Yes;
        if let Some(read) = self.read.borrow_mut().get_mut(&id) {
            read.relied_on |= relied_on;
            return Ok(read.item.clone());
        }
        let attributes = key.attributes();
        let item = self.fetch(key.table, attributes.clone())?;
        let read = Read { table: key.table, key: attributes, item: item.clone(), relied_on };
        self.read.borrow_mut().insert(id, read);
        Ok(item)
    }

    /// The row as it stood before this transaction, if that has read it.
    pub(super) fn before(&self, key: RowKey<'_>) -> Option<Item> {
        self.read.borrow().get(&key.id()).and_then(|read| read.item.clone())
    }

    /// Whether this transaction writes the row.
    pub(super) fn wrote(&self, key: RowKey<'_>) -> bool {
        self.writes.contains_key(&key.id())
    }

    pub(super) fn has_read(&self, key: RowKey<'_>) -> bool {
        self.read.borrow().contains_key(&key.id())
    }

    /// The rows that items of an index point to, in that order, as this transaction sees them; none where one is gone.
    pub(super) fn resolve(&self, table: &'static Table, found: &[Item]) -> Result<Vec<Option<Item>>> {
        let id = |item| RowId::of_item(table, item).ok_or_else(|| Error::internal("a row without its key"));
        let key = |item| Ok((id(item)?, primary(table, item)));
        let keys: Vec<(RowId, Item)> = found.iter().map(key).collect::<Result<_>>()?;
        // A batch takes no key twice.
        let unknown: BTreeMap<_, _> = {
            let read = self.read.borrow();
            keys.iter()
                .filter(|(id, _)| !self.writes.contains_key(id) && !read.contains_key(id))
                .cloned()
                .collect()
        };
        let unknown: Vec<_> = unknown.into_iter().collect();
        for some in unknown.chunks(MAX_BATCH) {
            let items = self.fetch_all(table, some.iter().map(|(_, key)| key.clone()).collect())?;
            let mut read = self.read.borrow_mut();
            for (id, key) in some {
                let item = items.get(id).cloned();
                read.insert(id.clone(), Read { table, key: key.clone(), item, relied_on: false });
            }
        }
        let read = self.read.borrow();
        let seen = |(id, _): &(RowId, Item)| match self.writes.get(id) {
            Some(write) => write.item.clone(),
            None => read.get(id).and_then(|read| read.item.clone()),
        };
        Ok(keys.iter().map(seen).collect())
    }

    /// Writes a row whole. One that was read must be as it was; one that was not must not be there.
    pub(super) fn put(&mut self, key: RowKey<'_>, item: Item) {
        let id = key.id();
        let revision = self.read.borrow().get(&id).and_then(|read| read.item.as_ref().map(revision));
        let mut item = item;
        item.extend(key.attributes());
        item.insert(REVISION.to_owned(), AttributeValue::N((revision.unwrap_or(0) + 1).to_string()));
        self.writes.insert(id, Write { table: key.table, key: key.attributes(), item: Some(item) });
    }

    pub(super) fn delete(&mut self, key: RowKey<'_>) {
        self.writes.insert(key.id(), Write { table: key.table, key: key.attributes(), item: None });
    }

    /// A number for a row that comes at `at`.
    pub(super) fn number(&self, at: Timestamp) -> i64 {
        self.link.number(at)
    }

    /// Whether anything is to be written to `table`.
    pub(super) fn writes_to(&self, table: &Table) -> bool {
        self.writes.values().any(|write| write.table.name == table.name)
    }

    /// Writes everything or nothing.
    pub(super) fn commit(self) -> Result<(), Fault> {
        if self.writes.is_empty() {
            return Ok(());
        }
        let read = self.read.into_inner();
        let checked: Vec<_> = read
            .iter()
            .filter(|(id, read)| read.relied_on && !self.writes.contains_key(*id))
            .map(|(_, read)| read)
            .collect();
        let count = self.writes.len() + checked.len();
        if count > MAX_WRITES {
            return Err(Fault::Refused(Error::new(
                Label::TooLarge,
                format!(
                    "this touches {count} records, and at most {MAX_WRITES} are written at once: ask for less at a time"
                ),
            )));
        }
        let mut acts = Vec::with_capacity(count);
        for (id, write) in self.writes {
            let condition = Condition::of(write.table, read.get(&id), write.item.is_some());
            acts.push(Act {
                table: write.table,
                key: write.key,
                item: write.item,
                condition,
                is_check: false,
            });
        }
        for read in checked {
            let condition = Condition::of(read.table, Some(read), true);
            acts.push(Act {
                table: read.table,
                key: read.key.clone(),
                item: None,
                condition,
                is_check: true,
            });
        }
        for act in &acts {
            self.link.circuits.check(act.table).map_err(Fault::Dead)?;
        }
        // The parts of a heartbeat, the server's row and the highest time, stand for themselves. In a transaction a
        // hundred servers would meet each other at the second of them every second.
        let may_be_apart = acts.len() == 1 || self.intent == Some(Intent::Heartbeat);
        if may_be_apart && self.intent.is_some_and(may_be_repeated) {
            return acts.into_iter().try_for_each(|act| one(&self.link, act));
        }
        together(&self.link, acts)
    }

    fn fetch(&self, table: &'static Table, key: Item) -> Result<Option<Item>> {
        self.link.circuits.check(table)?;
        let name = self.link.name(table);
        let get = self.link.client.get_item().table_name(&name).set_key(Some(key)).consistent_read(true);
        let answer = self.link.wait(get.send()).map_err(|error| fault(error, &name));
        noted(&self.link, table, answer).map(|output| output.item).map_err(Fault::error)
    }

    fn fetch_all(&self, table: &'static Table, keys: Vec<Item>) -> Result<HashMap<RowId, Item>> {
        let name = self.link.name(table);
        let mut found = HashMap::new();
        let mut left = keys;
        // What a batch leaves out for lack of capacity is asked for again, a bounded number of times.
        for _ in 0..10 {
            if left.is_empty() {
                break;
            }
            self.link.circuits.check(table)?;
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let wanted = wanted.map_err(Error::internal)?;
            let get = self.link.client.batch_get_item().request_items(&name, wanted);
            let answer = self.link.wait(get.send()).map_err(|error| fault(error, &name));
            let answer = noted(&self.link, table, answer).map_err(Fault::error)?;
            let items = answer.responses.unwrap_or_default().remove(&name).unwrap_or_default();
            found.extend(items.into_iter().filter_map(|item| Some((RowId::of_item(table, &item)?, item))));
            let rest = answer.unprocessed_keys.unwrap_or_default().remove(&name);
            left = rest.map(|rest| rest.keys).unwrap_or_default();
        }
        if left.is_empty() {
            return Ok(found);
        }
        Err(Error::new(Label::StoreUnavailable, format!("DynamoDB slows {name} down: try again in a moment")))
    }
}

/// Tells the table's circuit what became of a request.
pub(super) fn noted<T>(link: &Link, table: &'static Table, answer: Result<T, Fault>) -> Result<T, Fault> {
    link.circuits.note(table, !matches!(answer, Err(Fault::Dead(_))));
    answer
}

struct Act {
    table: &'static Table,
    key: Item,
    item: Option<Item>,
    condition: Condition,
    is_check: bool,
}

/// What must hold of a row for the commit to go through.
#[derive(Default)]
struct Condition {
    expression: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Condition {
    fn of(table: &Table, read: Option<&Read>, must_be_known: bool) -> Self {
        let mut condition = Self::default();
        match read.map(|read| read.item.as_ref()) {
            Some(Some(item)) => {
                for (n, name) in
                    [REVISION].into_iter().chain(edited_by_hand(table).iter().copied()).enumerate()
                {
                    condition.unchanged(n, name, item.get(name));
                }
            }
            // A row that nobody read is new; or it is deleted, whatever it holds.
            Some(None) => condition.absent(table),
            None if must_be_known => condition.absent(table),
            None => {}
        }
        condition
    }

    fn absent(&mut self, table: &Table) {
        self.names.insert("#k".to_owned(), table.key.hash.name.to_owned());
        self.and("attribute_not_exists(#k)");
    }

    fn unchanged(&mut self, n: usize, name: &str, value: Option<&AttributeValue>) {
        self.names.insert(format!("#n{n}"), name.to_owned());
        match value {
            Some(value) => {
                self.values.insert(format!(":v{n}"), value.clone());
                self.and(&format!("#n{n} = :v{n}"));
            }
            None => self.and(&format!("attribute_not_exists(#n{n})")),
        }
    }

    fn and(&mut self, term: &str) {
        let before = self.expression.take();
        self.expression =
            Some(before.map_or_else(|| term.to_owned(), |before| format!("{before} AND {term}")));
    }

    fn names(&self) -> Option<HashMap<String, String>> {
        (!self.names.is_empty()).then(|| self.names.clone())
    }

    fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }
}

/// What a hand may change without counting the row's revision up, and a decision may rest on.
fn edited_by_hand(table: &Table) -> &'static [&'static str] {
    match table.name {
        "principals" => &["status", "roles", "version", "max_certificates"],
        "certificates" => &["revoked"],
        _ => &[],
    }
}

fn revision(item: &Item) -> u64 {
    Row(item).number_or_none(REVISION).ok().flatten().unwrap_or(0)
}

/// Whether an intent comes to the same if its single write was done though its answer was lost. A transaction knows a
/// repetition of itself by its token; a write alone does not, and its condition would fail.
fn may_be_repeated(intent: Intent) -> bool {
    matches!(
        intent,
        Intent::Heartbeat
            | Intent::HoldHousekeeping
            | Intent::Leave
            | Intent::MarkSeen
            | Intent::ExtendLeases
            | Intent::Publish
            | Intent::PruneServers
            | Intent::PruneChanges
    )
}

/// A single write needs no transaction, at half the price.
fn one(link: &Link, act: Act) -> Result<(), Fault> {
    let Act { table, key, item, condition, .. } = act;
    let name = link.name(table);
    let answer = if let Some(item) = item {
        let put = link.client.put_item().table_name(&name).set_item(Some(item));
        let put = put
            .set_expression_attribute_names(condition.names())
            .set_expression_attribute_values(condition.values())
            .set_condition_expression(condition.expression);
        link.wait(put.send()).map(drop).map_err(|error| fault(error, &name))
    } else {
        let delete = link.client.delete_item().table_name(&name).set_key(Some(key));
        let delete = delete
            .set_expression_attribute_names(condition.names())
            .set_expression_attribute_values(condition.values())
            .set_condition_expression(condition.expression);
        link.wait(delete.send()).map(drop).map_err(|error| fault(error, &name))
    };
    noted(link, table, answer)
}

fn together(link: &Link, acts: Vec<Act>) -> Result<(), Fault> {
    let tables: Vec<_> = acts.iter().map(|act| act.table).collect();
    let items = acts.into_iter().map(|act| written(link, act)).collect::<Result<Vec<_>>>();
    let items = items.map_err(Fault::Refused)?;
    let sent = link.client.transact_write_items().set_transact_items(Some(items)).send();
    let answer = link.wait(sent).map(drop).map_err(|error| {
        let reasons = error.as_service_error().and_then(|error| match error {
            aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(
                cancelled,
            ) => Some(cancelled.cancellation_reasons().to_vec()),
            _ => None,
        });
        match reasons {
            Some(reasons) => cancelled(&reasons, &tables, link),
            None => fault(error, &format!("{} tables", link.names.stem())),
        }
    });
    let is_dead = matches!(answer, Err(Fault::Dead(_)));
    for table in tables {
        link.circuits.note(table, !is_dead);
    }
    answer
}

fn written(link: &Link, act: Act) -> Result<TransactWriteItem> {
    let Act { table, key, item, condition, is_check } = act;
    let name = link.name(table);
    let item = match item {
        Some(item) => TransactWriteItem::builder().put(
            Put::builder()
                .table_name(name)
                .set_item(Some(item))
                .set_expression_attribute_names(condition.names())
                .set_expression_attribute_values(condition.values())
                .set_condition_expression(condition.expression)
                .build()
                .map_err(Error::internal)?,
        ),
        None if is_check => TransactWriteItem::builder().condition_check(
            ConditionCheck::builder()
                .table_name(name)
                .set_key(Some(key))
                .set_expression_attribute_names(condition.names())
                .set_expression_attribute_values(condition.values())
                .set_condition_expression(condition.expression)
                .build()
                .map_err(Error::internal)?,
        ),
        None => TransactWriteItem::builder().delete(
            Delete::builder()
                .table_name(name)
                .set_key(Some(key))
                .set_expression_attribute_names(condition.names())
                .set_expression_attribute_values(condition.values())
                .set_condition_expression(condition.expression)
                .build()
                .map_err(Error::internal)?,
        ),
    };
    Ok(item.build())
}

/// Why a transaction was cancelled: each of its parts has a reason of its own.
fn cancelled(
    reasons: &[aws_sdk_dynamodb::types::CancellationReason],
    tables: &[&'static Table],
    link: &Link,
) -> Fault {
    let mut verdict = Fault::Met;
    for (reason, table) in reasons.iter().zip(tables) {
        match reason.code().unwrap_or("None") {
            "None" | "ConditionalCheckFailed" | "TransactionConflict" => {}
            "ThrottlingError" | "ProvisionedThroughputExceeded" => {
                verdict = Fault::Throttled(Error::new(
                    Label::StoreUnavailable,
                    format!("DynamoDB slows {} down: try again in a moment", link.name(table)),
                ));
            }
            "ItemCollectionSizeLimitExceeded" | "ValidationError" => {
                let why = reason.message().unwrap_or("a part of a transaction is not valid").to_owned();
                return Fault::Refused(Error::internal(format!("{}: {why}", link.name(table))));
            }
            other => return Fault::Refused(Error::internal(format!("{}: {other}", link.name(table)))),
        }
    }
    verdict
}
