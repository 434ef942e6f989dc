//! Rows of enrolment tokens, issuers, the keyring, and requests that may be made again.

use airunner_core::{
    Certificate, DataKey, EnrollmentId, EnrollmentToken, Issuer, IssuerId, IssuerKind, IssuerState,
    KeyAlgorithm, KeyPurpose, KeyState, Keyring, MasterKeyRecord, PrincipalId, RequestKey, Result, Timestamp,
};
use airunner_store::backend::{
    ChangeRows as _, EnrollmentRows, IssuerRows, KeptRequest, KeyringRows, Place, RequestRows, Visit,
    read_reference, write_reference,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    DynamoRows,
    item::{Fields, Item, Row},
    key::{CERTIFICATE_SHARDS, RowKey, shard, ttl},
    listing::{Bounds, Listing, at_one_time, numbered},
    transaction::Rely,
};
use crate::tables::{ENROLLMENTS, ISSUERS, KEYRING, REQUESTS, Table};

/// The partitions of the tables that have one.
const ISSUERS_SCOPE: &str = "issuers";
const KEYRING_SCOPE: &str = "keyring";

/// The row whose revision counts the writes of issuers: of two that saw the same set, one goes through.
const SET: &str = "#set";

/// The row of the master key's record.
const MASTER: &str = "#master";

/// After rows that are no ids, and before every id.
const FIRST: &str = "0";

/// After every id.
const LAST: &str = "~";

impl EnrollmentRows for DynamoRows {
    fn token(&self, id: &EnrollmentId) -> Result<Option<EnrollmentToken>> {
        let item = self.tx.get(RowKey::of(&ENROLLMENTS, &id.to_string()), Rely::Yes)?;
        item.map(|item| read_token(&item)).transpose()
    }

    fn scan_tokens(
        &self,
        created_by: Option<&PrincipalId>,
        after: Option<Place>,
        visit: Visit<'_, (Place, EnrollmentToken)>,
    ) -> Result<()> {
        let (index, partitions) = match created_by {
            Some(id) => ("by_creator", vec![id.folded()]),
            None => ("by_creation", (0..CERTIFICATE_SHARDS).map(|shard| shard.to_string()).collect()),
        };
        let listing = Listing {
            table: &ENROLLMENTS,
            index: Some(index),
            partitions,
            bounds: after.map(|after| Bounds::to(after.number)).unwrap_or_default(),
            descending: true,
            place: numbered,
            is_tie: at_one_time,
        };
        self.tx.visit(&listing, &mut |place, item| {
            if after.is_some_and(|after| place >= after) {
                Ok(true)
            } else {
                visit((place, read_token(&item)?))
            }
        })
    }

    fn insert_token(&mut self, token: &EnrollmentToken) -> Result<()> {
        let number = self.tx.number(token.created_at);
        let item = write_token(token, number);
        self.tx.put(RowKey::of(&ENROLLMENTS, &token.id.to_string()), item);
        Ok(())
    }

    fn use_token(&mut self, id: &EnrollmentId, at: Timestamp, certificate: &Certificate) -> Result<()> {
        let id = id.to_string();
        let key = RowKey::of(&ENROLLMENTS, &id);
        let Some(item) = self.tx.get(key, Rely::Yes)? else { return Ok(()) };
        let number = Row(&item).number("number")?;
        let token = EnrollmentToken {
            used_at: Some(at),
            used_key: Some(certificate.public_key),
            certificate: Some(certificate.reference()),
            ..read_token(&item)?
        };
        self.tx.put(key, write_token(&token, number));
        Ok(())
    }

    fn delete_token(&mut self, id: &EnrollmentId) -> Result<bool> {
        let id = id.to_string();
        let key = RowKey::of(&ENROLLMENTS, &id);
        let there = self.tx.get(key, Rely::Yes)?.is_some();
        if there {
            self.tx.delete(key);
        }
        Ok(there)
    }
}

fn read_token(item: &Item) -> Result<EnrollmentToken> {
    let row = Row(item);
    Ok(EnrollmentToken {
        id: row.word("enrollment_id")?,
        secret_hash: row.array("secret_hash")?,
        principal_id: row.word("principal_id")?,
        principal_type: row.word("principal_type")?,
        roles: row.words("roles")?.into_iter().collect(),
        created_by: row.word("creator_id")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        used_at: row.time_or_none("used_at")?,
        used_key: row.word_or_none("used_key")?,
        certificate: row.text_or_none("certificate")?.map(read_reference).transpose()?,
        description: row.text_or_empty("description")?,
    })
}

fn write_token(token: &EnrollmentToken, number: i64) -> Item {
    Fields::default()
        .bytes("secret_hash", token.secret_hash)
        .word("principal_id", &token.principal_id)
        .word("principal_type", token.principal_type)
        .words("roles", &token.roles)
        .text("created_by", token.created_by.folded())
        .word("creator_id", &token.created_by)
        .time("created_at", token.created_at)
        .time("expires_at", token.expires_at)
        .time_or_none("used_at", token.used_at)
        .word_or_none("used_key", token.used_key)
        .word_or_none("certificate", token.certificate.as_ref().map(write_reference))
        .text("description", &token.description)
        .number("number", number)
        .word("created_shard", shard(token.id.as_bytes(), CERTIFICATE_SHARDS))
        .number("ttl", ttl(token.expires_at))
        .done()
}

impl IssuerRows for DynamoRows {
    fn issuers(&self) -> Result<Vec<Issuer>> {
        // What is decided on the set rests on its count; the set itself is read beside it.
        let _relied_on = self.tx.get(RowKey::text(&ISSUERS, ISSUERS_SCOPE, SET), Rely::Yes)?;
        let mut found = self.tx.all(&ids_of(&ISSUERS, ISSUERS_SCOPE))?;
        found.sort_by_key(|item| Row(item).number::<i64>("number").unwrap_or(0));
        found.iter().map(read_issuer).collect()
    }

    fn insert_issuer(&mut self, issuer: &Issuer, at: Timestamp) -> Result<()> {
        let number = self.tx.number(at);
        self.keep_issuer(issuer, number, at)
    }

    fn set_issuer_state(&mut self, id: &IssuerId, state: IssuerState, at: Timestamp) -> Result<()> {
        let id = id.to_string();
        let Some(item) = self.tx.get(RowKey::text(&ISSUERS, ISSUERS_SCOPE, &id), Rely::Yes)? else {
            return Ok(());
        };
        let number = Row(&item).number("number")?;
        self.keep_issuer(&Issuer { state, ..read_issuer(&item)? }, number, at)
    }
}

impl DynamoRows {
    fn keep_issuer(&mut self, issuer: &Issuer, number: i64, at: Timestamp) -> Result<()> {
        let id = issuer.id.to_string();
        let item = Fields::default()
            .text("kind", word_of(&issuer.kind)?)
            .text("state", word_of(&issuer.state)?)
            .text("algorithm", word_of(&issuer.algorithm)?)
            .bytes("der", issuer.der.clone())
            .json_or_none("sealed_key", issuer.sealed_key.as_ref())?
            .word_or_none("parent", issuer.parent)
            .time("created_at", issuer.created_at)
            .time("expires_at", issuer.expires_at)
            .number("number", number)
            .done();
        self.tx.put(RowKey::text(&ISSUERS, ISSUERS_SCOPE, &id), item);
        let set = RowKey::text(&ISSUERS, ISSUERS_SCOPE, SET);
        self.tx.get(set, Rely::Yes)?;
        self.tx.put(set, Item::new());
        self.append_change(at, &airunner_core::ChangeKind::Issuers)
    }
}

fn read_issuer(item: &Item) -> Result<Issuer> {
    let row = Row(item);
    Ok(Issuer {
        id: row.word("issuer_id")?,
        kind: of_word::<IssuerKind>(row.text("kind")?)?,
        state: of_word::<IssuerState>(row.text("state")?)?,
        algorithm: of_word::<KeyAlgorithm>(row.text("algorithm")?)?,
        der: row.bytes("der")?,
        sealed_key: row.json_or_none("sealed_key")?,
        parent: row.word_or_none("parent")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

/// Every row of a table's one partition that has an id.
fn ids_of(table: &'static Table, scope: &str) -> Listing<String> {
    Listing {
        table,
        index: None,
        partitions: vec![scope.to_owned()],
        bounds: Bounds::text(FIRST, LAST),
        descending: false,
        place: |item| {
            let row = Row(item);
            Ok(row.text_or_none("issuer_id")?.or(row.text_or_none("key_id")?).unwrap_or_default().to_owned())
        },
        is_tie: |_, _| false,
    }
}

/// A word of ours, as its type spells it.
fn word_of<T: Serialize>(value: &T) -> Result<String> {
    let json = serde_json::to_value(value).map_err(airunner_core::Error::internal)?;
    Ok(json.as_str().unwrap_or_default().to_owned())
}

fn of_word<T: DeserializeOwned>(word: &str) -> Result<T> {
    serde_json::from_value(word.into()).map_err(airunner_core::Error::internal)
}

impl KeyringRows for DynamoRows {
    fn keyring(&self) -> Result<Option<Keyring>> {
        let Some(item) = self.tx.get(RowKey::text(&KEYRING, KEYRING_SCOPE, MASTER), Rely::Yes)? else {
            return Ok(None);
        };
        let row = Row(&item);
        let master = MasterKeyRecord {
            kind: row.text("kind")?.to_owned(),
            salt: row.bytes("salt")?,
            check: row.bytes("check")?,
        };
        let mut keys = self.tx.all(&ids_of(&KEYRING, KEYRING_SCOPE))?;
        keys.sort_by_key(|item| Row(item).number::<i64>("place").unwrap_or(0));
        let keys = keys.iter().map(read_data_key).collect::<Result<_>>()?;
        Ok(Some(Keyring { master, keys, task_token_key: row.json("task_token_key")? }))
    }

    fn insert_keyring(&mut self, keyring: &Keyring) -> Result<()> {
        self.keep_master(keyring)?;
        for (place, key) in keyring.keys.iter().enumerate() {
            self.keep_data_key(key, place)?;
        }
        Ok(())
    }

    fn insert_data_key(&mut self, keyring: &Keyring, key: &DataKey) -> Result<()> {
        // Written again, so that of two who saw the same keys one goes through.
        self.keep_master(keyring)?;
        self.keep_data_key(key, keyring.keys.len())
    }
}

impl DynamoRows {
    fn keep_master(&mut self, keyring: &Keyring) -> Result<()> {
        let master = Fields::default()
            .text("kind", &keyring.master.kind)
            .bytes("salt", keyring.master.salt.clone())
            .bytes("check", keyring.master.check.clone())
            .json("task_token_key", &keyring.task_token_key)?
            .done();
        self.tx.put(RowKey::text(&KEYRING, KEYRING_SCOPE, MASTER), master);
        Ok(())
    }

    fn keep_data_key(&mut self, key: &DataKey, place: usize) -> Result<()> {
        let item = Fields::default()
            .text("purpose", word_of(&key.purpose)?)
            .bytes("wrapped", key.wrapped.clone())
            .text("state", word_of(&key.state)?)
            .time("created_at", key.created_at)
            .number("place", place)
            .done();
        self.tx.put(RowKey::text(&KEYRING, KEYRING_SCOPE, &key.id.to_string()), item);
        Ok(())
    }
}

fn read_data_key(item: &Item) -> Result<DataKey> {
    let row = Row(item);
    Ok(DataKey {
        id: row.word("key_id")?,
        purpose: of_word::<KeyPurpose>(row.text("purpose")?)?,
        wrapped: row.bytes("wrapped")?,
        state: of_word::<KeyState>(row.text("state")?)?,
        created_at: row.time("created_at")?,
    })
}

impl RequestRows for DynamoRows {
    fn request(&self, key: &RequestKey) -> Result<Option<KeptRequest>> {
        let Some(item) = self.tx.get(RowKey::of(&REQUESTS, &request_key(key)), Rely::Yes)? else {
            return Ok(None);
        };
        let row = Row(&item);
        Ok(Some(KeptRequest {
            content: row.array("content")?,
            result: row.text("result")?.to_owned(),
            at: row.time("at")?,
        }))
    }

    /// What has expired goes by its time to live.
    fn put_request(&mut self, key: &RequestKey, kept: &KeptRequest, _expired: Timestamp) -> Result<()> {
        let item = Fields::default()
            .bytes("content", kept.content)
            .text("result", &kept.result)
            .time("at", kept.at)
            .number("ttl", kept.at.as_millis() / 1_000 + 24 * 60 * 60)
            .done();
        self.tx.put(RowKey::of(&REQUESTS, &request_key(key)), item);
        Ok(())
    }
}

fn request_key(key: &RequestKey) -> String {
    format!("{}#{}#{}", key.caller.folded(), key.method, key.id.as_str())
}
