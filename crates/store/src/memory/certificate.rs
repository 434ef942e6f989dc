//! Certificates in memory.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Bound,
};

use airunner_core::{
    Certificate, CertificateFilter, CertificateRef, ChangeKind, Fingerprint, Identity, PrincipalId, Result,
    Revocation, Serial, Timestamp,
};

use super::{CertificateRow, Certificates, State};
use crate::{
    certificate::serial_taken,
    rows::{CertificateRows, Place, Visit},
};

impl Certificates {
    fn get(&self, reference: &CertificateRef) -> Option<&CertificateRow> {
        self.by_reference.get(reference).and_then(|number| self.rows.get(number))
    }

    fn change(&mut self, reference: &CertificateRef, change: impl FnOnce(&mut CertificateRow)) {
        if let Some(row) = self.by_reference.get(reference).and_then(|number| self.rows.get_mut(number)) {
            change(row);
        }
    }

    /// The principal's, oldest first.
    pub(super) fn of<'s>(
        &'s self,
        principal: &PrincipalId,
    ) -> impl Iterator<Item = &'s Certificate> + use<'s> {
        let numbers = self.by_principal.get(&principal.folded()).into_iter().flatten();
        numbers.filter_map(|number| self.rows.get(number)).map(|row| &row.certificate)
    }

    fn all(&self) -> impl Iterator<Item = &Certificate> {
        self.rows.values().map(|row| &row.certificate)
    }
}

impl CertificateRows for State {
    fn certificate(&self, reference: &CertificateRef) -> Result<Option<Certificate>> {
        Ok(self.certificates.get(reference).map(|row| row.certificate.clone()))
    }

    fn with_successor(
        &self,
        reference: &CertificateRef,
    ) -> Result<Option<(Certificate, Option<CertificateRef>)>> {
        Ok(self.certificates.get(reference).map(|row| (row.certificate.clone(), row.successor)))
    }

    fn identity(&self, reference: &CertificateRef) -> Result<Option<Identity>> {
        let Some(row) = self.certificates.get(reference) else { return Ok(None) };
        let certificate = row.certificate.clone();
        let principal = self.principals.get(&certificate.principal_id.folded()).cloned();
        Ok(principal.map(|principal| Identity { certificate, principal }))
    }

    fn certificates_of_serial(&self, serial: &Serial) -> Result<Vec<Certificate>> {
        let found =
            self.certificates.by_reference.iter().filter(|(reference, _)| reference.serial == *serial);
        Ok(found
            .filter_map(|(_, number)| Some(self.certificates.rows.get(number)?.certificate.clone()))
            .collect())
    }

    fn certificate_of_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Certificate>> {
        let number = self.certificates.by_fingerprint.get(fingerprint);
        Ok(number.and_then(|number| Some(self.certificates.rows.get(number)?.certificate.clone())))
    }

    fn scan_certificates(
        &self,
        filter: &CertificateFilter,
        after: Option<Place>,
        visit: Visit<'_, (Place, Certificate)>,
    ) -> Result<()> {
        let place = |number: &i64, row: &CertificateRow| Place {
            at: row.certificate.expires_at,
            number: (*number).into(),
        };
        if filter.expires_before.is_some() {
            let places = self.certificates.rows.iter().map(|(number, row)| place(number, row));
            let places: BTreeSet<_> =
                places.filter(|place| after.is_none_or(|after| *place > after)).collect();
            for place in places {
                let Some(row) = self.certificates.rows.get(&place.row_number()) else { continue };
                if !visit((place, row.certificate.clone()))? {
                    break;
                }
            }
            return Ok(());
        }
        let until = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.row_number()));
        for (number, row) in self.certificates.rows.range((Bound::Unbounded, until)).rev() {
            if !visit((place(number, row), row.certificate.clone()))? {
                break;
            }
        }
        Ok(())
    }

    fn active_lineages(&self, principal: &PrincipalId, now: Timestamp, limit: u32) -> Result<u32> {
        let takes = |certificate: &&Certificate| certificate.takes_slot() && certificate.is_active(now);
        let active = self.certificates.of(principal).filter(takes);
        let lineages: HashSet<_> = active.map(|certificate| certificate.lineage_id).collect();
        Ok(u32::try_from(lineages.len()).unwrap_or(u32::MAX).min(limit))
    }

    fn revocable(
        &self,
        principal: &PrincipalId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<CertificateRef>> {
        let open =
            |certificate: &&Certificate| certificate.revocation.is_none() && certificate.expires_at > now;
        Ok(self.certificates.of(principal).filter(open).map(Certificate::reference).take(limit).collect())
    }

    fn nearest_expiries(&self, now: Timestamp, limit: u32) -> Result<Vec<Certificate>> {
        let open =
            |certificate: &&Certificate| certificate.revocation.is_none() && certificate.expires_at > now;
        let mut found: Vec<_> = self.certificates.all().filter(open).cloned().collect();
        found.sort_by_key(|certificate| certificate.expires_at);
        found.truncate(limit as usize);
        Ok(found)
    }

    fn insert_certificate(&mut self, certificate: &Certificate) -> Result<()> {
        if self.certificates.by_reference.contains_key(&certificate.reference()) {
            return Err(serial_taken(&certificate.serial, &certificate.issuer_id));
        }
        let number = self.next_number();
        let all = &mut self.certificates;
        all.by_reference.insert(certificate.reference(), number);
        all.by_fingerprint.insert(certificate.fingerprint, number);
        all.by_principal.entry(certificate.principal_id.folded()).or_default().insert(number);
        all.rows.insert(number, CertificateRow { certificate: certificate.clone(), successor: None });
        Ok(())
    }

    fn begin_lineage(&mut self, _certificate: &Certificate) -> Result<()> {
        Ok(())
    }

    fn succeed(
        &mut self,
        predecessor: &CertificateRef,
        retire_at: Timestamp,
        successor: &CertificateRef,
    ) -> Result<()> {
        self.certificates.change(predecessor, |row| {
            row.certificate.retire_at = Some(retire_at);
            row.successor = Some(*successor);
        });
        Ok(())
    }

    fn revoke_certificate(&mut self, reference: &CertificateRef, revocation: Revocation) -> Result<()> {
        self.certificates.change(reference, |row| row.certificate.revocation = Some(revocation));
        self.tell(revocation.at, ChangeKind::Certificate { reference: *reference, revoked: true });
        Ok(())
    }

    fn set_first_seen(&mut self, reference: &CertificateRef, at: Timestamp) -> Result<()> {
        self.certificates.change(reference, |row| row.certificate.first_seen_at = Some(at));
        Ok(())
    }
}
