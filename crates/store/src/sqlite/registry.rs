//! Statements on enrolment tokens, issuers, the keyring and requests.

use airunner_core::{
    Certificate, DataKey, EnrollmentId, EnrollmentToken, Error, Issuer, IssuerId, IssuerState, Keyring,
    MasterKeyRecord, PrincipalId, RequestKey, Result, Timestamp,
};
use rusqlite::{Row, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    certificate::reference_or_none,
    principal::{read_roles, write_roles},
    rows::{SqliteRows, get, json, json_or_none, millis, time, time_or_none, to_json, word, word_or_none},
};
use crate::{
    reference,
    rows::{EnrollmentRows, IssuerRows, KeptRequest, KeyringRows, Place, RequestRows, Visit},
};

macro_rules! token_columns {
    () => {
        "enrollment_id, secret_hash, principal_id, principal_type, roles, created_by, created_at, expires_at, \
         used_at, used_key, certificate, description"
    };
}

fn token(row: &Row<'_>) -> Result<EnrollmentToken> {
    Ok(EnrollmentToken {
        id: word(row, 0)?,
        secret_hash: get(row, 1)?,
        principal_id: word(row, 2)?,
        principal_type: word(row, 3)?,
        roles: read_roles(&get::<String>(row, 4)?)?,
        created_by: word(row, 5)?,
        created_at: time(row, 6)?,
        expires_at: time(row, 7)?,
        used_at: time_or_none(row, 8)?,
        used_key: word_or_none(row, 9)?,
        certificate: reference_or_none(row, 10)?,
        description: get(row, 11)?,
    })
}

impl EnrollmentRows for SqliteRows<'_> {
    fn token(&self, id: &EnrollmentId) -> Result<Option<EnrollmentToken>> {
        let sql = concat!("SELECT ", token_columns!(), " FROM enrollments WHERE enrollment_id = ?1");
        self.first(sql, [id.to_string()], token)
    }

    fn scan_tokens(
        &self,
        created_by: Option<&PrincipalId>,
        after: Option<Place>,
        visit: Visit<'_, (Place, EnrollmentToken)>,
    ) -> Result<()> {
        macro_rules! newest {
            ($index:literal, $condition:literal) => {
                concat!(
                    "SELECT ",
                    token_columns!(),
                    ", number FROM enrollments ",
                    $index,
                    " WHERE ",
                    $condition,
                    " AND number < ?1 ORDER BY number DESC"
                )
            };
        }
        let until = after.map_or(i64::MAX, Place::row_number);
        let placed = |row: &Row<'_>| Ok((Place::numbered(get(row, 12)?), token(row)?));
        match created_by {
            Some(id) => {
                let sql = newest!("INDEXED BY enrollments_creator", "created_by = ?2");
                self.scan(sql, params![until, id.as_str()], placed, visit)
            }
            None => self.scan(newest!("", "TRUE"), [until], placed, visit),
        }
    }

    fn insert_token(&mut self, token: &EnrollmentToken) -> Result<()> {
        let sql = concat!(
            "INSERT INTO enrollments (",
            token_columns!(),
            ") \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
        );
        let params = params![
            token.id.to_string(),
            token.secret_hash,
            token.principal_id.as_str(),
            token.principal_type.as_str(),
            write_roles(&token.roles),
            token.created_by.as_str(),
            token.created_at.as_millis(),
            token.expires_at.as_millis(),
            millis(token.used_at),
            token.used_key.map(|key| key.to_string()),
            token.certificate.as_ref().map(reference::write),
            token.description,
        ];
        self.run(sql, params).map(drop)
    }

    fn use_token(&mut self, id: &EnrollmentId, at: Timestamp, certificate: &Certificate) -> Result<()> {
        let sql =
            "UPDATE enrollments SET used_at = ?2, used_key = ?3, certificate = ?4 WHERE enrollment_id = ?1";
        let reference = reference::write(&certificate.reference());
        let key = certificate.public_key.to_string();
        self.run(sql, params![id.to_string(), at.as_millis(), key, reference]).map(drop)
    }

    fn delete_token(&mut self, id: &EnrollmentId) -> Result<bool> {
        Ok(self.run("DELETE FROM enrollments WHERE enrollment_id = ?1", [id.to_string()])? > 0)
    }
}

macro_rules! issuer_columns {
    () => {
        "issuer_id, kind, state, algorithm, der, sealed_key, parent, created_at, expires_at"
    };
}

impl IssuerRows for SqliteRows<'_> {
    fn issuers(&self) -> Result<Vec<Issuer>> {
        let sql = concat!("SELECT ", issuer_columns!(), " FROM issuers ORDER BY number");
        self.all(sql, [], |row| {
            Ok(Issuer {
                id: word(row, 0)?,
                kind: named(row, 1)?,
                state: named(row, 2)?,
                algorithm: named(row, 3)?,
                der: get(row, 4)?,
                sealed_key: json_or_none(row, 5)?,
                parent: word_or_none(row, 6)?,
                created_at: time(row, 7)?,
                expires_at: time(row, 8)?,
            })
        })
    }

    fn insert_issuer(&mut self, issuer: &Issuer, at: Timestamp) -> Result<()> {
        let sql = concat!(
            "INSERT INTO issuers (",
            issuer_columns!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        let params = params![
            issuer.id.to_string(),
            name_of(&issuer.kind)?,
            name_of(&issuer.state)?,
            name_of(&issuer.algorithm)?,
            issuer.der,
            issuer.sealed_key.as_ref().map(to_json).transpose()?,
            issuer.parent.map(|parent| parent.to_string()),
            issuer.created_at.as_millis(),
            issuer.expires_at.as_millis(),
        ];
        self.run_telling(sql, params, at)
    }

    fn set_issuer_state(&mut self, id: &IssuerId, state: IssuerState, at: Timestamp) -> Result<()> {
        let sql = "UPDATE issuers SET state = ?2 WHERE issuer_id = ?1";
        self.run_telling(sql, params![id.to_string(), name_of(&state)?], at)
    }
}

impl KeyringRows for SqliteRows<'_> {
    fn keyring(&self) -> Result<Option<Keyring>> {
        let sql = "SELECT master_kind, master_salt, master_check, task_token_key FROM keyring";
        let found = self.first(sql, [], |row| {
            let master = MasterKeyRecord { kind: get(row, 0)?, salt: get(row, 1)?, check: get(row, 2)? };
            Ok((master, json(row, 3)?))
        })?;
        let Some((master, task_token_key)) = found else { return Ok(None) };
        let sql = "SELECT data_key_id, purpose, wrapped, state, created_at FROM data_keys ORDER BY number";
        let keys = self.all(sql, [], |row| {
            Ok(DataKey {
                id: word(row, 0)?,
                purpose: named(row, 1)?,
                wrapped: get(row, 2)?,
                state: named(row, 3)?,
                created_at: time(row, 4)?,
            })
        })?;
        Ok(Some(Keyring { master, keys, task_token_key }))
    }

    fn insert_keyring(&mut self, keyring: &Keyring) -> Result<()> {
        let sql = "INSERT INTO keyring (number, master_kind, master_salt, master_check, task_token_key) \
                   VALUES (1, ?1, ?2, ?3, ?4)";
        let master = &keyring.master;
        let sealed = to_json(&keyring.task_token_key)?;
        self.run(sql, params![master.kind, master.salt, master.check, sealed])?;
        keyring.keys.iter().try_for_each(|key| self.insert_data_key(keyring, key))
    }

    fn insert_data_key(&mut self, _keyring: &Keyring, key: &DataKey) -> Result<()> {
        let sql = "INSERT INTO data_keys (data_key_id, purpose, wrapped, state, created_at) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let id = key.id.to_string();
        let (purpose, state) = (name_of(&key.purpose)?, name_of(&key.state)?);
        self.run(sql, params![id, purpose, key.wrapped, state, key.created_at.as_millis()]).map(drop)
    }
}

impl RequestRows for SqliteRows<'_> {
    fn request(&self, key: &RequestKey) -> Result<Option<KeptRequest>> {
        let sql =
            "SELECT content, result, at FROM requests WHERE caller = ?1 AND method = ?2 AND request_id = ?3";
        self.first(sql, params![key.caller.as_str(), key.method, key.id.as_str()], |row| {
            Ok(KeptRequest { content: get(row, 0)?, result: get(row, 1)?, at: time(row, 2)? })
        })
    }

    fn put_request(&mut self, key: &RequestKey, kept: &KeptRequest, expired: Timestamp) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO requests (caller, method, request_id, content, result, at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (caller, id) = (key.caller.as_str(), key.id.as_str());
        self.run(sql, params![caller, key.method, id, kept.content, kept.result, kept.at.as_millis()])?;
        // Numbers grow with time, so the oldest come first. Now and then some of them go.
        if self.connection.last_insert_rowid() % 16 == 0 {
            let sql =
                "DELETE FROM requests WHERE number < (SELECT min(number) + 64 FROM requests) AND at <= ?1";
            self.run(sql, [expired.as_millis()])?;
        }
        Ok(())
    }
}

/// A column that holds the name of a variant, as serde spells it.
pub(super) fn named<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let name: String = get(row, column)?;
    serde_json::from_value(serde_json::Value::String(name)).map_err(Error::internal)
}

/// The name of a variant, as serde spells it.
pub(super) fn name_of<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => Ok(name),
        Ok(other) => Err(Error::internal(format!("{other} is not a name"))),
        Err(error) => Err(Error::internal(error)),
    }
}
