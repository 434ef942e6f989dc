//! Enrolment tokens, issuers, the keyring and requests in memory.

use std::ops::Bound;

use airunner_core::{
    Certificate, ChangeKind, DataKey, EnrollmentId, EnrollmentToken, Issuer, IssuerId, IssuerState, Keyring,
    PrincipalId, RequestKey, Result, Timestamp,
};

use super::State;
use crate::rows::{EnrollmentRows, IssuerRows, KeptRequest, KeyringRows, Place, RequestRows, Visit};

impl EnrollmentRows for State {
    fn token(&self, id: &EnrollmentId) -> Result<Option<EnrollmentToken>> {
        Ok(self.token_numbers.get(id).and_then(|number| self.tokens.get(number)).cloned())
    }

    fn scan_tokens(
        &self,
        _created_by: Option<&PrincipalId>,
        after: Option<Place>,
        visit: Visit<'_, (Place, EnrollmentToken)>,
    ) -> Result<()> {
        let until = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.row_number()));
        for (number, token) in self.tokens.range((Bound::Unbounded, until)).rev() {
            if !visit((Place::numbered(*number), token.clone()))? {
                break;
            }
        }
        Ok(())
    }

    fn insert_token(&mut self, token: &EnrollmentToken) -> Result<()> {
        let number = self.next_number();
        self.token_numbers.insert(token.id, number);
        self.tokens.insert(number, token.clone());
        Ok(())
    }

    fn use_token(&mut self, id: &EnrollmentId, at: Timestamp, certificate: &Certificate) -> Result<()> {
        if let Some(token) = self.token_numbers.get(id).and_then(|number| self.tokens.get_mut(number)) {
            token.used_at = Some(at);
            token.used_key = Some(certificate.public_key);
            token.certificate = Some(certificate.reference());
        }
        Ok(())
    }

    fn delete_token(&mut self, id: &EnrollmentId) -> Result<bool> {
        let number = self.token_numbers.remove(id);
        Ok(number.and_then(|number| self.tokens.remove(&number)).is_some())
    }
}

impl IssuerRows for State {
    fn issuers(&self) -> Result<Vec<Issuer>> {
        Ok(self.issuers.clone())
    }

    fn insert_issuer(&mut self, issuer: &Issuer, at: Timestamp) -> Result<()> {
        self.issuers.push(issuer.clone());
        self.tell(at, ChangeKind::Issuers);
        Ok(())
    }

    fn set_issuer_state(&mut self, id: &IssuerId, state: IssuerState, at: Timestamp) -> Result<()> {
        for issuer in self.issuers.iter_mut().filter(|issuer| issuer.id == *id) {
            issuer.state = state;
        }
        self.tell(at, ChangeKind::Issuers);
        Ok(())
    }
}

impl KeyringRows for State {
    fn keyring(&self) -> Result<Option<Keyring>> {
        Ok(self.keyring.clone())
    }

    fn insert_keyring(&mut self, keyring: &Keyring) -> Result<()> {
        self.keyring = Some(keyring.clone());
        Ok(())
    }

    fn insert_data_key(&mut self, _keyring: &Keyring, key: &DataKey) -> Result<()> {
        self.keyring.iter_mut().for_each(|keyring| keyring.keys.push(key.clone()));
        Ok(())
    }
}

impl RequestRows for State {
    fn request(&self, key: &RequestKey) -> Result<Option<KeptRequest>> {
        Ok(self.requests.get(&row_key(key)).cloned())
    }

    fn put_request(&mut self, key: &RequestKey, kept: &KeptRequest, expired: Timestamp) -> Result<()> {
        // Going through all is work in proportion to what was kept, so it is done once for as many.
        if self.requests.len().is_power_of_two() {
            self.requests.retain(|_, kept| kept.at > expired);
        }
        self.requests.insert(row_key(key), kept.clone());
        Ok(())
    }
}

fn row_key(key: &RequestKey) -> (String, &'static str, String) {
    (key.caller.folded(), key.method, key.id.as_str().to_owned())
}
