//! Lists: rows of an index in order, over all its shards, page by page as they are wanted.

use std::collections::VecDeque;

use airunner_core::{Error, Result, Timestamp};
use airunner_store::backend::Place;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use futures_util::future::join_all;

use super::{
    error::{Fault, fault},
    item::{Item, Row},
    link::Link,
    transaction::{Transaction, noted},
};
use crate::tables::{Index, Key, Table};

/// Rows that one request brings where there is one partition, and where there are many.
const PAGE: i32 = 100;
const PAGE_OF_MANY: i32 = 25;

/// Rows of an index that are read by their primary key together.
const RESOLVED: usize = 50;

/// Bounds of the ordering attribute, both included.
#[derive(Clone, Default)]
pub(super) struct Bounds {
    pub(super) from: Option<AttributeValue>,
    pub(super) to: Option<AttributeValue>,
}

impl Bounds {
    pub(super) fn from(from: impl ToString) -> Self {
        Self { from: Some(AttributeValue::N(from.to_string())), to: None }
    }

    pub(super) fn to(to: impl ToString) -> Self {
        Self { from: None, to: Some(AttributeValue::N(to.to_string())) }
    }

    pub(super) fn between(from: impl ToString, to: impl ToString) -> Self {
        Self { to: Self::to(to).to, ..Self::from(from) }
    }

    pub(super) fn text(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: Some(AttributeValue::S(from.into())), to: Some(AttributeValue::S(to.into())) }
    }
}

/// What is listed: partitions of a table, or of one of its indexes, merged into one order.
#[derive(Clone)]
pub(super) struct Listing<P> {
    pub(super) table: &'static Table,
    /// None lists the table itself, consistently.
    pub(super) index: Option<&'static str>,
    pub(super) partitions: Vec<String>,
    pub(super) bounds: Bounds,
    pub(super) descending: bool,
    /// Where a row stands.
    pub(super) place: fn(&Item) -> Result<P>,
    /// Whether the index can't tell which of two rows comes first.
    pub(super) is_tie: fn(&P, &P) -> bool,
}

/// The place in a list that is in order of `number`.
pub(super) fn numbered(item: &Item) -> Result<Place> {
    Ok(Place { at: Timestamp::from_millis(0), number: Row(item).number("number")? })
}

/// The place in a list that is in order of a time, and of the number within it.
pub(super) fn timed(item: &Item, at: &str) -> Result<Place> {
    let row = Row(item);
    Ok(Place { at: row.time(at)?, number: row.number("number")? })
}

pub(super) fn at_one_time(a: &Place, b: &Place) -> bool {
    a.at == b.at
}

impl<P> Listing<P> {
    fn key(&self) -> Result<Key> {
        let Some(name) = self.index else { return Ok(self.table.key) };
        let index = self.table.indexes.iter().find(|index| index.name == name);
        index
            .map(|index: &Index| index.key)
            .ok_or_else(|| Error::internal(format!("there is no index {name}")))
    }

    fn is_complete(&self) -> bool {
        let projection = |index: &&Index| Some(index.name) == self.index;
        self.table
            .indexes
            .iter()
            .find(projection)
            .is_none_or(|index| index.projection == crate::tables::Projection::All)
    }
}

impl Transaction {
    /// Visits the rows of a listing in order, whole. Those that have gone meanwhile are left out.
    pub(super) fn visit<P: Ord + Clone>(
        &self,
        listing: &Listing<P>,
        visit: &mut dyn FnMut(P, Item) -> Result<bool>,
    ) -> Result<()> {
        let mut lanes = self.lanes(listing)?;
        if listing.is_complete() {
            while let Some((place, item)) = self.next(listing, &mut lanes)? {
                if !visit(place, item)? {
                    break;
                }
            }
            return Ok(());
        }
        loop {
            let mut some = Vec::with_capacity(RESOLVED);
            while some.len() < RESOLVED
                && let Some(found) = self.next(listing, &mut lanes)?
            {
                some.push(found);
            }
            if some.is_empty() {
                return Ok(());
            }
            let (places, found): (Vec<_>, Vec<_>) = some.into_iter().unzip();
            for (place, item) in places.into_iter().zip(self.resolve(listing.table, &found)?) {
                if let Some(item) = item
                    && !visit(place, item)?
                {
                    return Ok(());
                }
            }
        }
    }

    /// The first rows of a listing, whole, up to `limit` that `wanted` takes.
    pub(super) fn first<P: Ord + Clone>(
        &self,
        listing: &Listing<P>,
        limit: usize,
        wanted: impl Fn(&Item) -> Result<bool>,
    ) -> Result<Vec<Item>> {
        let mut found = Vec::new();
        if limit > 0 {
            self.visit(listing, &mut |_, item| {
                if wanted(&item)? {
                    found.push(item);
                }
                Ok(found.len() < limit)
            })?;
        }
        Ok(found)
    }

    /// The first row of a listing as the index has it.
    pub(super) fn peek<P: Ord + Clone>(&self, listing: &Listing<P>) -> Result<Option<Item>> {
        let mut lanes = self.lanes(listing)?;
        Ok(self.next(listing, &mut lanes)?.map(|(_, item)| item))
    }

    /// Every row of a listing as the index has it.
    pub(super) fn all<P: Ord + Clone>(&self, listing: &Listing<P>) -> Result<Vec<Item>> {
        let mut lanes = self.lanes(listing)?;
        let mut found = Vec::new();
        while let Some((_, item)) = self.next(listing, &mut lanes)? {
            found.push(item);
        }
        Ok(found)
    }

    /// How many rows the partitions hold, each counted up to `most`.
    pub(super) fn count<P>(&self, listing: &Listing<P>, most: i32) -> Result<u64> {
        let asked = listing.partitions.iter().map(|partition| {
            let request = Request { partition, start: None, limit: most, count: true };
            page(&self.link, listing, request)
        });
        let answers = self.link.wait(join_all(asked));
        let mut counted = 0;
        for answer in answers {
            counted += u64::from(answer.map_err(Fault::error)?.count);
        }
        Ok(counted)
    }

    /// Asks every partition for its first page at once.
    fn lanes<P: Ord + Clone>(&self, listing: &Listing<P>) -> Result<Vec<Lane<P>>> {
        let limit = limit(listing);
        let asked = listing.partitions.iter().map(|partition| {
            let request = Request { partition, start: None, limit, count: false };
            page(&self.link, listing, request)
        });
        let answers = self.link.wait(join_all(asked));
        let mut lanes = Vec::with_capacity(answers.len());
        for (partition, answer) in listing.partitions.iter().zip(answers) {
            let mut lane =
                Lane { partition: partition.clone(), ready: VecDeque::new(), held: Vec::new(), next: None };
            lane.take(listing, answer.map_err(Fault::error)?)?;
            lanes.push(lane);
        }
        Ok(lanes)
    }

    /// The next row over all lanes.
    fn next<P: Ord + Clone>(
        &self,
        listing: &Listing<P>,
        lanes: &mut Vec<Lane<P>>,
    ) -> Result<Option<(P, Item)>> {
        for lane in lanes.iter_mut() {
            while lane.ready.is_empty() && lane.next.is_some() {
                let start = lane.next.take();
                let request =
                    Request { partition: &lane.partition, start, limit: limit(listing), count: false };
                let answer = self.link.wait(page(&self.link, listing, request));
                lane.take(listing, answer.map_err(Fault::error)?)?;
            }
        }
        lanes.retain(|lane| !lane.ready.is_empty());
        let head = |lane: &Lane<P>| lane.ready.front().map(|(place, _)| place.clone());
        let at = (0..lanes.len()).reduce(|best, other| {
            let other_is_first = if listing.descending {
                head(&lanes[other]) > head(&lanes[best])
            } else {
                head(&lanes[other]) < head(&lanes[best])
            };
            if other_is_first { other } else { best }
        });
        Ok(at.and_then(|at| lanes[at].ready.pop_front()))
    }
}

fn limit<P>(listing: &Listing<P>) -> i32 {
    if listing.partitions.len() == 1 { PAGE } else { PAGE_OF_MANY }
}

/// One partition's rows, as far as they are here.
struct Lane<P> {
    partition: String,
    /// In order.
    ready: VecDeque<(P, Item)>,
    /// The last rows of what is here, between which the next page may bring more.
    held: Vec<(P, Item)>,
    /// Where the next page begins.
    next: Option<Item>,
}

impl<P: Ord + Clone> Lane<P> {
    fn take(&mut self, listing: &Listing<P>, page: Page) -> Result<()> {
        self.next = page.next;
        for item in page.items {
            self.held.push(((listing.place)(&item)?, item));
        }
        self.held.sort_by(|(a, _), (b, _)| if listing.descending { b.cmp(a) } else { a.cmp(b) });
        let settled = match (&self.next, self.held.last()) {
            (Some(_), Some((last, _))) => {
                self.held.partition_point(|(place, _)| !(listing.is_tie)(place, last))
            }
            _ => self.held.len(),
        };
        self.ready.extend(self.held.drain(..settled));
        Ok(())
    }
}

struct Request<'r> {
    partition: &'r str,
    start: Option<Item>,
    limit: i32,
    count: bool,
}

struct Page {
    items: Vec<Item>,
    count: u32,
    next: Option<Item>,
}

async fn page<P>(link: &Link, listing: &Listing<P>, request: Request<'_>) -> Result<Page, Fault> {
    let Listing { table, index, bounds, descending, .. } = listing;
    let key = listing.key().map_err(Fault::Refused)?;
    let name = link.name(table);
    let mut query = link
        .client
        .query()
        .table_name(&name)
        .set_index_name(index.map(str::to_owned))
        .consistent_read(index.is_none())
        .scan_index_forward(!descending)
        .limit(request.limit)
        .set_exclusive_start_key(request.start)
        .expression_attribute_names("#h", key.hash.name)
        .expression_attribute_values(":h", AttributeValue::S(request.partition.to_owned()));
    if request.count {
        query = query.select(Select::Count);
    }
    let mut condition = "#h = :h".to_owned();
    if let Some(range) = key.range
        && (bounds.from.is_some() || bounds.to.is_some())
    {
        query = query.expression_attribute_names("#r", range.name);
        condition += match (&bounds.from, &bounds.to) {
            (Some(_), Some(_)) => " AND #r BETWEEN :from AND :to",
            (Some(_), None) => " AND #r >= :from",
            _ => " AND #r <= :to",
        };
        for (place, value) in [(":from", &bounds.from), (":to", &bounds.to)] {
            if let Some(value) = value {
                query = query.expression_attribute_values(place, value.clone());
            }
        }
    }
    link.circuits.check(table).map_err(Fault::Dead)?;
    let answer = query.key_condition_expression(condition).send().await.map_err(|error| fault(error, &name));
    let answer = noted(link, table, answer)?;
    Ok(Page {
        count: u32::try_from(answer.count).unwrap_or(0),
        items: answer.items.unwrap_or_default(),
        next: answer.last_evaluated_key,
    })
}
