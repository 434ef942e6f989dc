//! Rows of certificates. Their lineages are in `lineage.rs`.

use std::collections::BTreeSet;

use airunner_core::{
    Certificate, CertificateFilter, CertificateRef, ChangeKind, Fingerprint, Identity, IssuerId, PrincipalId,
    Result, Revocation, RevocationReason, Serial, Timestamp,
};
use airunner_store::backend::{
    CertificateRows, ChangeRows as _, Place, Visit, read_reference, serial_taken, write_reference,
};

use super::{
    DynamoRows,
    item::{Fields, Item, Row},
    key::{CERTIFICATE_SHARDS, RowKey, shard, ttl},
    lineage::Lineage,
    listing::{Bounds, Listing, at_one_time, numbered, timed},
    transaction::Rely,
};
use crate::tables::{CERTIFICATES, PRINCIPALS};

/// Names the other issuers that have used a row's serial number.
const ALSO: &str = "also_of";

pub(super) fn read(item: &Item) -> Result<Certificate> {
    let row = Row(item);
    let issued_at = row.time("issued_at")?;
    Ok(Certificate {
        serial: serial(row.text("serial_number")?)?,
        issuer_id: row.word("issuer_id")?,
        principal_id: row.word("subject_id")?,
        principal_type: row.word("principal_type")?,
        fingerprint: row.word("fingerprint")?,
        public_key: row.word("public_key")?,
        subject_dn: row.text_or_empty("subject_dn")?,
        profile: row.word("profile")?,
        labels: row.labels("labels")?,
        issued_at,
        expires_at: row.time("expires_at")?,
        retire_at: row.time_or_none("retire_at")?,
        first_seen_at: row.time_or_none("first_seen_at")?,
        lineage_id: row.word("lineage_id")?,
        predecessor: reference_or_none(&row, "predecessor")?,
        revocation: revocation(&row, issued_at)?,
        job: row.json_or_none("job")?,
        description: row.text_or_empty("description")?,
        der: row.bytes("der")?,
    })
}

/// A hand may have left out when and why, or misspelt why; that it is revoked is what counts.
fn revocation(row: &Row<'_>, issued_at: Timestamp) -> Result<Option<Revocation>> {
    if !row.flag("revoked") {
        return Ok(None);
    }
    let reason = row.text_or_empty("revocation_reason")?.parse().unwrap_or(RevocationReason::Unspecified);
    Ok(Some(Revocation { at: row.time_or_none("revoked_at")?.unwrap_or(issued_at), reason }))
}

fn reference_or_none(row: &Row<'_>, name: &str) -> Result<Option<CertificateRef>> {
    row.text_or_none(name)?.map(read_reference).transpose()
}

/// The serial number in a key: that, or `ISSUER~SERIAL`.
fn serial(key: &str) -> Result<Serial> {
    key.rsplit('~').next().unwrap_or(key).parse()
}

fn write(kept: &Kept) -> Result<Item> {
    let Kept { certificate, successor, number, also, .. } = kept;
    let shard = shard(certificate.serial.as_bytes(), CERTIFICATE_SHARDS);
    let revocation = certificate.revocation;
    let fields = Fields::default()
        .word("issuer_id", certificate.issuer_id)
        .text("principal_id", certificate.principal_id.folded())
        .word("subject_id", &certificate.principal_id)
        .word("principal_type", certificate.principal_type)
        .word("fingerprint", certificate.fingerprint)
        .word("public_key", certificate.public_key)
        .text("subject_dn", &certificate.subject_dn)
        .text("profile", certificate.profile.as_str())
        .labels("labels", &certificate.labels)
        .time("issued_at", certificate.issued_at)
        .time("expires_at", certificate.expires_at)
        .time_or_none("retire_at", certificate.retire_at)
        .time_or_none("first_seen_at", certificate.first_seen_at)
        .word("lineage_id", certificate.lineage_id)
        .word_or_none("predecessor", certificate.predecessor.as_ref().map(write_reference))
        .word_or_none("successor", successor.as_ref().map(write_reference))
        .flag("revoked", revocation.is_some())
        .time_or_none("revoked_at", revocation.map(|revocation| revocation.at))
        .word_or_none("revocation_reason", revocation.map(|revocation| revocation.reason))
        .json_or_none("job", certificate.job.as_ref())?
        .text("description", &certificate.description)
        .bytes("der", certificate.der.clone())
        .number("number", number)
        .words(ALSO, also)
        .word("issued_shard", shard)
        .word("expiry_shard", shard)
        .word_or_none("revoked_shard", revocation.map(|_| shard))
        .number("ttl", ttl(certificate.expires_at));
    Ok(fields.done())
}

/// A certificate's row, with what stands beside the certificate in it.
pub(super) struct Kept {
    pub(super) key: String,
    pub(super) certificate: Certificate,
    successor: Option<CertificateRef>,
    number: i64,
    /// Other issuers that have used the serial number.
    also: Vec<IssuerId>,
}

impl Kept {
    fn read(item: &Item) -> Result<Self> {
        let row = Row(item);
        Ok(Self {
            key: row.text("serial_number")?.to_owned(),
            certificate: read(item)?,
            successor: reference_or_none(&row, "successor")?,
            number: row.number("number")?,
            also: row.words(ALSO)?,
        })
    }
}

impl DynamoRows {
    /// The row of a certificate, under its serial number or, where another issuer has used that, under both.
    pub(super) fn kept(&self, reference: &CertificateRef, rely: Rely) -> Result<Option<Kept>> {
        let of_issuer = |item: &Item| {
            Ok::<_, airunner_core::Error>(Row(item).text("issuer_id")? == reference.issuer_id.to_string())
        };
        let plain = reference.serial.to_string();
        match self.tx.get(RowKey::of(&CERTIFICATES, &plain), rely)? {
            Some(item) if of_issuer(&item)? => Kept::read(&item).map(Some),
            Some(_) => {
                let both = write_reference(reference);
                self.tx.get(RowKey::of(&CERTIFICATES, &both), rely)?.map(|item| Kept::read(&item)).transpose()
            }
            None => Ok(None),
        }
    }

    pub(super) fn keep(&mut self, kept: &Kept) -> Result<()> {
        let item = write(kept)?;
        self.tx.put(RowKey::of(&CERTIFICATES, &kept.key), item);
        Ok(())
    }

    fn change(&mut self, reference: &CertificateRef, change: impl FnOnce(&mut Kept)) -> Result<()> {
        if let Some(mut kept) = self.kept(reference, Rely::Yes)? {
            change(&mut kept);
            self.keep(&kept)?;
        }
        Ok(())
    }
}

/// All partitions of an index over all certificates.
fn shards() -> Vec<String> {
    (0..CERTIFICATE_SHARDS).map(|shard| shard.to_string()).collect()
}

fn expiring(from: Timestamp, to: Option<Timestamp>) -> Listing<Place> {
    let bounds = match to {
        Some(to) => Bounds::between(from.as_millis(), to.as_millis()),
        None => Bounds::from(from.as_millis()),
    };
    Listing {
        table: &CERTIFICATES,
        index: Some("by_expiry"),
        partitions: shards(),
        bounds,
        descending: false,
        place: |item| timed(item, "expires_at"),
        is_tie: at_one_time,
    }
}

fn newest(filter: &CertificateFilter, after: Option<Place>) -> Listing<Place> {
    let (index, partitions, bounds): (_, _, Bounds) = match &filter.principal_id {
        Some(id) => {
            let bounds = after.map(|after| Bounds::to(after.at.as_millis()));
            ("by_principal", vec![id.folded()], bounds.unwrap_or_default())
        }
        None => ("by_issue", shards(), after.map(|after| Bounds::to(after.number)).unwrap_or_default()),
    };
    let of_one = filter.principal_id.is_some();
    Listing {
        table: &CERTIFICATES,
        index: Some(index),
        partitions,
        bounds,
        descending: true,
        place: if of_one { |item| timed(item, "issued_at") } else { numbered },
        is_tie: at_one_time,
    }
}

impl CertificateRows for DynamoRows {
    fn certificate(&self, reference: &CertificateRef) -> Result<Option<Certificate>> {
        Ok(self.kept(reference, Rely::Yes)?.map(|kept| kept.certificate))
    }

    fn with_successor(
        &self,
        reference: &CertificateRef,
    ) -> Result<Option<(Certificate, Option<CertificateRef>)>> {
        Ok(self.kept(reference, Rely::Yes)?.map(|kept| (kept.certificate, kept.successor)))
    }

    fn identity(&self, reference: &CertificateRef) -> Result<Option<Identity>> {
        let Some(kept) = self.kept(reference, Rely::No)? else { return Ok(None) };
        let certificate = kept.certificate;
        let principal = self.principal_row(&certificate.principal_id.folded(), Rely::No)?;
        Ok(principal.map(|principal| Identity { certificate, principal }))
    }

    fn identities(&self, references: &[CertificateRef]) -> Result<Vec<Option<Identity>>> {
        // Two batches read what one after the other is then asked for.
        let serials: Vec<_> = references.iter().map(|reference| reference.serial.to_string()).collect();
        let keys: Vec<_> =
            serials.iter().map(|serial| RowKey::of(&CERTIFICATES, serial).attributes()).collect();
        let found = self.tx.resolve(&CERTIFICATES, &keys)?;
        let owners = found.iter().flatten().map(|item| Ok(Row(item).text("principal_id")?.to_owned()));
        let owners: BTreeSet<String> = owners.collect::<Result<_>>()?;
        let keys: Vec<_> = owners.iter().map(|owner| RowKey::of(&PRINCIPALS, owner).attributes()).collect();
        self.tx.resolve(&PRINCIPALS, &keys)?;
        references.iter().map(|reference| self.identity(reference)).collect()
    }

    fn certificates_of_serial(&self, serial: &Serial) -> Result<Vec<Certificate>> {
        let plain = serial.to_string();
        let mut found = Vec::new();
        let Some(first) = self.tx.get(RowKey::of(&CERTIFICATES, &plain), Rely::No)? else { return Ok(found) };
        found.push(read(&first)?);
        // Whoever used the number later stands under an issuer's name too, and the first row names those issuers.
        for issuer_id in Row(&first).words(ALSO)? {
            let both = write_reference(&CertificateRef { issuer_id, serial: *serial });
            let item = self.tx.get(RowKey::of(&CERTIFICATES, &both), Rely::No)?;
            found.extend(item.map(|item| read(&item)).transpose()?);
        }
        Ok(found)
    }

    fn certificate_of_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Certificate>> {
        let listing = Listing {
            table: &CERTIFICATES,
            index: Some("by_fingerprint"),
            partitions: vec![fingerprint.to_string()],
            bounds: Bounds::default(),
            descending: false,
            place: |item| Ok(Row(item).text("serial_number")?.to_owned()),
            is_tie: |_, _| false,
        };
        self.tx.peek(&listing)?.map(|item| read(&item)).transpose()
    }

    fn scan_certificates(
        &self,
        filter: &CertificateFilter,
        after: Option<Place>,
        visit: Visit<'_, (Place, Certificate)>,
    ) -> Result<()> {
        let listing = match filter.expires_before {
            Some(before) => {
                expiring(after.map_or(filter.now, |after| after.at.max(filter.now)), Some(before))
            }
            None => newest(filter, after),
        };
        let is_past = |place: &Place| {
            after.is_none_or(|after| if listing.descending { *place < after } else { *place > after })
        };
        self.tx.visit(&listing, &mut |place, item| {
            if is_past(&place) { visit((place, read(&item)?)) } else { Ok(true) }
        })
    }

    fn active_lineages(&self, principal: &PrincipalId, now: Timestamp, limit: u32) -> Result<u32> {
        let _relied_on = self.slots(principal)?;
        let active = self.lineages(principal)?.iter().filter(|lineage| lineage.ends_at() > now).count();
        Ok(u32::try_from(active).unwrap_or(u32::MAX).min(limit))
    }

    fn revocable(
        &self,
        principal: &PrincipalId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<CertificateRef>> {
        // An index may be behind by what was issued a moment ago; the lineages are not.
        let mut found = Vec::new();
        for reference in self.lineages(principal)?.iter().flat_map(Lineage::members) {
            if found.len() >= limit {
                break;
            }
            let certificate = self.kept(&reference, Rely::Yes)?.map(|kept| kept.certificate);
            let is_open = |one: &Certificate| one.revocation.is_none() && one.expires_at > now;
            found.extend(certificate.filter(is_open).map(|_| reference));
        }
        Ok(found)
    }

    fn nearest_expiries(&self, now: Timestamp, limit: u32) -> Result<Vec<Certificate>> {
        let is_open = |item: &Item| {
            let row = Row(item);
            Ok(!row.flag("revoked") && row.time("expires_at")? > now)
        };
        let found = self.tx.first(&expiring(now, None), limit as usize, is_open)?;
        found.iter().map(read).collect()
    }

    fn insert_certificate(&mut self, certificate: &Certificate) -> Result<()> {
        let mut key = certificate.serial.to_string();
        let plain = RowKey::of(&CERTIFICATES, &key);
        // A serial number of ours is never used twice: whether this one was is looked at only when the commit met it.
        if (self.tx.attempt > 0 || self.tx.has_read(plain))
            && let Some(item) = self.tx.get(plain, Rely::No)?
        {
            let reference = certificate.reference();
            if self.kept(&reference, Rely::No)?.is_some() {
                return Err(serial_taken(&certificate.serial, &certificate.issuer_id));
            }
            let mut first = Kept::read(&item)?;
            first.also.push(certificate.issuer_id);
            self.keep(&first)?;
            key = write_reference(&reference);
        }
        let number = self.tx.number(certificate.issued_at);
        let certificate = certificate.clone();
        self.keep(&Kept { key, certificate, successor: None, number, also: Vec::new() })
    }

    fn begin_lineage(&mut self, certificate: &Certificate) -> Result<()> {
        self.take_slot(&certificate.principal_id);
        let mut lineage = self.lineage(certificate, true)?;
        lineage.add(certificate);
        self.keep_lineage(&lineage);
        Ok(())
    }

    fn succeed(
        &mut self,
        predecessor: &CertificateRef,
        retire_at: Timestamp,
        successor: &CertificateRef,
    ) -> Result<()> {
        self.change(predecessor, |kept| {
            kept.certificate.retire_at = Some(retire_at);
            kept.successor = Some(*successor);
        })?;
        for reference in [predecessor, successor] {
            if let Some(kept) = self.kept(reference, Rely::Yes)? {
                let mut lineage = self.lineage(&kept.certificate, false)?;
                lineage.add(&kept.certificate);
                self.keep_lineage(&lineage);
            }
        }
        Ok(())
    }

    fn revoke_certificate(&mut self, reference: &CertificateRef, revocation: Revocation) -> Result<()> {
        self.change(reference, |kept| kept.certificate.revocation = Some(revocation))?;
        if let Some(kept) = self.kept(reference, Rely::Yes)? {
            let mut lineage = self.lineage(&kept.certificate, false)?;
            lineage.remove(reference);
            self.keep_lineage(&lineage);
        }
        let kind = ChangeKind::Certificate { reference: *reference, revoked: true };
        self.append_change(revocation.at, &kind)
    }

    fn set_first_seen(&mut self, reference: &CertificateRef, at: Timestamp) -> Result<()> {
        self.change(reference, |kept| kept.certificate.first_seen_at = Some(at))
    }
}

impl DynamoRows {
    /// Unexpired certificates that are revoked, as the index has them.
    pub(super) fn revoked(&self, now: Timestamp) -> Result<Vec<CertificateRef>> {
        let listing = Listing {
            table: &CERTIFICATES,
            index: Some("by_revocation"),
            partitions: shards(),
            bounds: Bounds::from(now.as_millis() + 1),
            descending: false,
            place: |item| Row(item).time("expires_at"),
            is_tie: |a, b| a == b,
        };
        let reference = |item: &Item| {
            let row = Row(item);
            Ok(CertificateRef {
                issuer_id: row.word("issuer_id")?,
                serial: serial(row.text("serial_number")?)?,
            })
        };
        self.tx.all(&listing)?.iter().map(reference).collect()
    }
}
