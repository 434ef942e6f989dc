//! Leaves signed behind the server's back, by one who holds the issuing key: what a thief of that key could make.

use std::{sync::Arc, time::Duration};

use airunner_core::{
    Certificate, Clock as _, Issuance, IssuanceKind, LineageId, PrincipalId, PrincipalType, Profile, Serial,
};
use airunner_net::system::SystemRandom;
use airunner_pki::{LeafParams, OidArc, PrivateKey, prepare_leaf, sha256};

use crate::{Credentials, TestServer};

impl TestServer {
    /// A leaf that names this principal, with this serial number or a new one. Nothing is recorded.
    ///
    /// # Panics
    /// Unless the server was founded with `single_ca`.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn forge(
        &self,
        id: &str,
        principal_type: PrincipalType,
        serial: Option<Serial>,
    ) -> (Credentials, Serial) {
        let id: PrincipalId = id.parse().expect("an id");
        let now = self.clock.now().floor_second();
        let key = PrivateKey::generate(airunner_core::KeyAlgorithm::EcdsaP256).expect("a key");
        let serial = serial.unwrap_or_else(|| Serial::new(now, &SystemRandom::new()));
        let params = LeafParams {
            serial,
            public_key: key.subject_public_key().clone(),
            common_name: id.to_string(),
            profile: Profile::from(principal_type),
            uri: Some(format!("spiffe://test.airunner/{principal_type}/{}", id.uri_segment())),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            email: None,
            principal: Some((principal_type, id.clone())),
            not_before: now,
            not_after: now.plus(Duration::from_hours(24)),
        };
        let issuers = self.app.issuers().current();
        let issuer = &issuers.signing().expect("an issuer").issuer.certificate;
        let prepared = prepare_leaf(issuer, &params, &OidArc::default()).expect("a leaf that lints");
        let root_key = self.root_key.as_deref().expect("a server that founded its environment");
        let signed = prepared.sign(root_key).await.expect("the single CA's key");
        (Credentials { id, chain: vec![signed.into_der()], key: Arc::new(key) }, serial)
    }

    /// Writes the record of a leaf into the store as `change` has it, past every check of the use cases.
    ///
    /// # Panics
    /// Where the store refuses it.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn record(&self, leaf: &Credentials, serial: Serial, change: impl FnOnce(&mut Certificate)) {
        let now = self.clock.now();
        let mut certificate = Certificate {
            serial,
            issuer_id: self.app.issuers().current().signing().expect("an issuer").issuer.record.id,
            principal_id: leaf.id.clone(),
            principal_type: PrincipalType::User,
            fingerprint: airunner_core::Fingerprint::from_bytes(sha256(&leaf.chain[0])),
            public_key: leaf.key.subject_public_key().fingerprint(),
            subject_dn: format!("CN={}", leaf.id),
            profile: Profile::Client,
            labels: std::collections::BTreeMap::new(),
            issued_at: now,
            expires_at: now.plus(Duration::from_hours(24)),
            retire_at: None,
            first_seen_at: None,
            lineage_id: LineageId::new(now, &SystemRandom::new()),
            predecessor: None,
            revocation: None,
            job: None,
            description: String::new(),
            der: leaf.chain[0].clone(),
        };
        change(&mut certificate);
        let subject = self.stores.principals.get_principal(&certificate.principal_id).await;
        let principal_version = subject.expect("a store").expect("a principal").version;
        let kind = IssuanceKind::Register;
        let audit = self.audit("certificate.register");
        let issuance = Issuance { certificate, kind, principal_version, request: None, audit };
        self.stores.certificates.record_issued(issuance).await.expect("a record");
    }
}
