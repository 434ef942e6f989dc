//! Rows of lineages: which certificates of one are neither revoked nor over, so that slots are counted and revocations
//! found without asking an index, which may be behind.

use std::collections::BTreeMap;

use airunner_core::{Certificate, CertificateRef, LineageId, PrincipalId, Result, Timestamp};
use airunner_store::backend::{read_reference, write_reference};

use super::{
    DynamoRows,
    item::{Fields, Item, Row},
    key::{RowKey, ttl},
    listing::{Bounds, Listing},
    transaction::Rely,
};
use crate::tables::LINEAGES;

/// The row whose revision counts the beginnings of a principal's lineages: of two that saw the same, one goes through.
const SLOTS: &str = "#slots";

/// After [`SLOTS`] and before every id.
const FIRST: &str = "0";

/// After every id.
const LAST: &str = "~";

pub(super) struct Lineage {
    principal: String,
    id: LineageId,
    /// Its unrevoked certificates: when each takes no slot any more (a job's takes none: the epoch), and when it expires.
    members: BTreeMap<String, (Timestamp, Timestamp)>,
}

impl Lineage {
    fn read(item: &Item) -> Result<Self> {
        let row = Row(item);
        let members = row.labels("members")?;
        let times = |(reference, times): (String, String)| {
            let (ends_at, expires_at) = times.split_once('.')?;
            let time = |text: &str| text.parse().ok().map(Timestamp::from_millis);
            Some((reference, (time(ends_at)?, time(expires_at)?)))
        };
        Ok(Self {
            principal: row.text("principal_id")?.to_owned(),
            id: row.word("lineage_id")?,
            members: members.into_iter().filter_map(times).collect(),
        })
    }

    /// When the last of its unrevoked certificates takes no slot any more.
    pub(super) fn ends_at(&self) -> Timestamp {
        self.members.values().map(|(ends_at, _)| *ends_at).max().unwrap_or(Timestamp::from_millis(0))
    }

    /// Whether one of them counts at `now`.
    pub(super) fn is_in_force(&self, now: Timestamp) -> bool {
        let takes_none = Timestamp::default();
        self.members
            .values()
            .any(|(ends_at, expires_at)| *ends_at > now || (*ends_at == takes_none && *expires_at > now))
    }

    pub(super) fn members(&self) -> Vec<CertificateRef> {
        self.members.keys().filter_map(|reference| read_reference(reference).ok()).collect()
    }

    /// Adds a certificate or sets its times anew, and forgets those that had expired when it was issued.
    pub(super) fn add(&mut self, certificate: &Certificate) {
        let expires_at = certificate.expires_at;
        let ends_at = if certificate.takes_slot() {
            certificate.retire_at.map_or(expires_at, |at| at.min(expires_at))
        } else {
            Timestamp::default()
        };
        self.members.retain(|_, (_, expires_at)| *expires_at > certificate.issued_at);
        self.members.insert(write_reference(&certificate.reference()), (ends_at, expires_at));
    }

    pub(super) fn remove(&mut self, reference: &CertificateRef) {
        self.members.remove(&write_reference(reference));
    }
}

impl DynamoRows {
    /// The lineage that a certificate is of. One that `begins` is looked for only where the commit met something.
    pub(super) fn lineage(&self, certificate: &Certificate, begins: bool) -> Result<Lineage> {
        let principal = certificate.principal_id.folded();
        let id = certificate.lineage_id.to_string();
        let key = RowKey::text(&LINEAGES, &principal, &id);
        let item = if begins && self.tx.attempt == 0 { None } else { self.tx.get(key, Rely::Yes)? };
        match item {
            Some(item) => Lineage::read(&item),
            None => Ok(Lineage { principal, id: certificate.lineage_id, members: BTreeMap::new() }),
        }
    }

    pub(super) fn keep_lineage(&mut self, lineage: &Lineage) {
        let id = lineage.id.to_string();
        let key = RowKey::text(&LINEAGES, &lineage.principal, &id);
        let Some(last) = lineage.members.values().map(|(_, expires_at)| *expires_at).max() else {
            return self.tx.delete(key);
        };
        let times = |(ends_at, expires_at): &(Timestamp, Timestamp)| {
            format!("{}.{}", ends_at.as_millis(), expires_at.as_millis())
        };
        let members = lineage.members.iter().map(|(reference, at)| (reference.clone(), times(at))).collect();
        let fields = Fields::default().labels("members", &members).time("ends_at", lineage.ends_at());
        self.tx.put(key, fields.number("ttl", ttl(last)).done());
    }

    /// All lineages of a principal that have not been over for long.
    pub(super) fn lineages(&self, principal: &PrincipalId) -> Result<Vec<Lineage>> {
        let listing = Listing {
            table: &LINEAGES,
            index: None,
            partitions: vec![principal.folded()],
            bounds: Bounds::text(FIRST, LAST),
            descending: false,
            place: |item| Ok(Row(item).text("lineage_id")?.to_owned()),
            is_tie: |_, _| false,
        };
        self.tx.all(&listing)?.iter().map(Lineage::read).collect()
    }

    /// Reads what a count of the principal's lineages rests on.
    pub(super) fn slots(&self, principal: &PrincipalId) -> Result<Option<Item>> {
        self.tx.get(RowKey::text(&LINEAGES, &principal.folded(), SLOTS), Rely::Yes)
    }

    /// Lets nobody else begin a lineage on the same count, where there was one.
    pub(super) fn take_slot(&mut self, principal: &PrincipalId) {
        let folded = principal.folded();
        let key = RowKey::text(&LINEAGES, &folded, SLOTS);
        if self.tx.has_read(key) {
            self.tx.put(key, Item::new());
        }
    }
}
