//! The steps of bootstrap that touch the store: keyring, CA, first admin, certificates. Each finds what is there or
//! makes it, so that running them again, or after an interruption, ends in the same place. Files and uploads are the
//! caller's business.

use std::{fmt, net::IpAddr, time::Duration};

use airunner_core::{
    AuditEntry, Clock, DnsName, Error, IssuanceKind, Issuer, IssuerId, IssuerKind, IssuerState, KeyAlgorithm,
    KeyPurpose, KeyWrap, Label, Principal, PrincipalId, PrincipalStatus, PrincipalType, Profile, Result,
    Sealed, Secret, SecureRandom, Serial, Signer, Stores, Timestamp,
};
use airunner_pki::{
    CaParams, IssuerCertificate, LeafParams, PrivateKey, SubjectPublicKey, certificate_to_pem,
    parse_certificate, prepare_issuing, prepare_leaf, prepare_root, prepare_single,
};

use crate::{
    App,
    authz::system_entry,
    certificate::{BACKDATE, IssuedCertificate, Leaf, issue_leaf},
    context::{Settings, principal},
    issuer::{held_key, key_place, no_issuer},
    principal::new_principal,
    seal::Sealer,
};

/// Life of a root.
const ROOT_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// Life of an issuing CA.
const ISSUING_LIFE: Duration = Duration::from_hours(365 * 24);
/// A server or admin certificate is replaced in its last days.
pub const RENEW_WITHIN: Duration = Duration::from_hours(7 * 24);
/// A root is warned about in its last year.
pub const ROOT_WARNING: Duration = Duration::from_hours(365 * 24);
/// Who acts, in the audit log.
const ACTOR: &str = "bootstrap";

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was there.
    Found,
    /// It was made.
    Made,
    /// Another was there and gave way.
    Replaced,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Found => "found",
            Self::Made => "made",
            Self::Replaced => "replaced",
        })
    }
}

/// Where things are made.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The stores.
    pub stores: &'a Stores,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Randomness.
    pub random: &'a dyn SecureRandom,
}

/// What the CA is to be like.
pub struct CaPlan<'a> {
    /// For the subjects: the environment's name.
    pub environment: &'a str,
    /// The root's key: a file's, or a KMS's.
    pub root: &'a dyn Signer,
    /// The root's private key (or [`crate::issuer::held_key`]), to be sealed in the store, where one CA is to sign
    /// leaves directly.
    pub single: Option<&'a Secret>,
    /// The issuing CA's key.
    pub issuing: IssuingKey<'a>,
    /// Take the place of a CA that is there: every certificate that it signed stops counting.
    pub replace: bool,
}

/// Whose key an issuing CA gets.
#[derive(Clone, Copy)]
pub enum IssuingKey<'a> {
    /// One that is made here, and sealed in the store.
    Sealed(KeyAlgorithm),
    /// One that never leaves its holder.
    Held {
        /// The signer over it.
        signer: &'a dyn Signer,
        /// Its name there.
        name: &'a str,
    },
}

/// Opens the keyring, or makes it.
///
/// # Errors
/// `wrong-master-key` where the store was made under another.
pub async fn ensure_keyring(
    site: Site<'_>,
    wrap: &dyn KeyWrap,
    kind: &str,
    salt: Vec<u8>,
) -> Result<(Step, Sealer)> {
    if let Some(mut keyring) = site.stores.keyring.get_keyring().await? {
        // Under the right master key, or not at all.
        let sealer = Sealer::open(&keyring, wrap).await?;
        let missing = Sealer::missing_keys(&keyring, wrap, site.clock, site.random).await?;
        if missing.is_empty() {
            return Ok((Step::Found, sealer));
        }
        for key in missing {
            keyring = site.stores.keyring.add_data_key(key).await?;
        }
        return Ok((Step::Found, Sealer::open(&keyring, wrap).await?));
    }
    let (keyring, sealer) = Sealer::create(wrap, kind, salt, site.clock, site.random).await?;
    match site.stores.keyring.create_keyring(keyring).await {
        Ok(()) => Ok((Step::Made, sealer)),
        // Another bootstrap was faster: its keyring counts.
        Err(error) if error.label() == Label::AlreadyExists => {
            let keyring = site.stores.keyring.get_keyring().await?.ok_or(error)?;
            Ok((Step::Found, Sealer::open(&keyring, wrap).await?))
        }
        Err(error) => Err(error),
    }
}

/// Finds the CA, or makes it: of two that bootstrap at once, one makes it and the other finds it.
///
/// # Errors
/// `file` where the CA that is there has another root key than the plan's.
pub async fn ensure_ca(site: Site<'_>, sealer: &Sealer, plan: &CaPlan<'_>) -> Result<Step> {
    let there = site.stores.issuers.list_issuers().await?;
    let replacing: Vec<_> = there.iter().map(|issuer| issuer.id).collect();
    if !there.is_empty() && !plan.replace {
        check_root(&there, plan.root)?;
        return Ok(Step::Found);
    }
    let issuers = make_ca(site, sealer, plan).await?;
    let audit = system_entry(site.clock.now(), ACTOR, "ca.found", issuers[0].id);
    match site.stores.issuers.found_ca(issuers, &replacing, audit).await {
        Ok(()) if replacing.is_empty() => Ok(Step::Made),
        Ok(()) => Ok(Step::Replaced),
        Err(error) if error.label() == Label::AlreadyExists => {
            check_root(&site.stores.issuers.list_issuers().await?, plan.root)?;
            Ok(Step::Found)
        }
        Err(error) => Err(error),
    }
}

/// Makes a successor of the issuing CA, signed by the root; it is active at once and the old one retires. Its key is
/// `held`, else one of the predecessor's type that is sealed in the store.
///
/// # Errors
/// `no-issuer`; `failed-precondition` kinds where one CA signs leaves directly or the key is not the root's.
pub async fn renew_issuer(
    site: Site<'_>,
    sealer: &Sealer,
    root: &dyn Signer,
    held: Option<IssuingKey<'_>>,
) -> Result<IssuerId> {
    let audit = system_entry(site.clock.now(), ACTOR, "ca.renew-issuer", "");
    succeed(site, sealer, root, held, audit).await
}

/// As [`renew_issuer`], by whoever `audit` names.
pub(crate) async fn succeed(
    site: Site<'_>,
    sealer: &Sealer,
    root: &dyn Signer,
    held: Option<IssuingKey<'_>>,
    mut audit: AuditEntry,
) -> Result<IssuerId> {
    let issuers = site.stores.issuers.list_issuers().await?;
    check_root(&issuers, root)?;
    let active = |issuer: &&Issuer| issuer.kind == IssuerKind::Issuing && issuer.state == IssuerState::Active;
    let predecessor = issuers.iter().find(active).ok_or_else(|| {
        Error::new(
            Label::NoIssuer,
            "this environment has no issuing CA of its own: its single CA signs leaves directly",
        )
    })?;
    let parent = issuers.iter().find(|issuer| Some(issuer.id) == predecessor.parent).ok_or_else(no_issuer)?;
    let key = held.unwrap_or(IssuingKey::Sealed(predecessor.algorithm));
    let name = IssuerCertificate::parse(&predecessor.der)?.subject_dn().to_owned();
    // The last word tells one issuing CA from the next.
    let stem = name.trim_start_matches("CN=").rsplit_once(' ').map_or(name.as_str(), |(stem, _)| stem);
    let successor = make_issuing(site, sealer, stem, parent, root, key).await?;
    let id = successor.id;
    audit.target = id.to_string();
    audit.detail.insert("predecessor".to_owned(), predecessor.id.to_string());
    site.stores.issuers.succeed_issuer(successor, &predecessor.id, audit).await?;
    Ok(id)
}

/// A server certificate with its chain, PEM: leaf, then the issuing CA.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    /// Leaf and issuing CA, PEM.
    pub chain_pem: String,
    /// The same, DER.
    pub chain: Vec<Vec<u8>>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl App {
    /// Finds the first admin, or makes it.
    ///
    /// # Errors
    /// `principal-not-active` where it was suspended or deleted: bootstrap never undoes a denial.
    pub async fn ensure_admin(&self, id: &PrincipalId) -> Result<(Step, Principal)> {
        self.ensure_principal(new_principal(id.clone(), PrincipalType::Admin, self.context.now(), ACTOR))
            .await
    }

    /// Finds the principal of the worker inside the server, or makes it. Its certificates are made in memory, one a
    /// start, and live for a day; their number is not limited.
    ///
    /// # Errors
    /// `principal-not-active` where it was suspended or deleted.
    pub async fn ensure_embedded_worker(&self, id: &PrincipalId) -> Result<(Step, Principal)> {
        let worker = new_principal(id.clone(), PrincipalType::Worker, self.context.now(), "server");
        let description = "the worker inside the server".to_owned();
        let validity = Some(Duration::from_hours(24));
        self.ensure_principal(Principal { max_certificates: 0, validity, description, ..worker }).await
    }

    async fn ensure_principal(&self, wanted: Principal) -> Result<(Step, Principal)> {
        let context = &self.context;
        let id = wanted.id.clone();
        if let Some(found) = self.found_principal(&wanted).await? {
            return Ok((Step::Found, found));
        }
        let audit = system_entry(context.now(), &wanted.created_by, "principal.create", &id);
        match context.stores.principals.create_principal(wanted.clone(), audit).await {
            // Another bootstrap was faster.
            Err(error) if error.label() == Label::AlreadyExists => {
                Ok((Step::Found, self.found_principal(&wanted).await?.ok_or(error)?))
            }
            made => Ok((Step::Made, made?)),
        }
    }

    async fn found_principal(&self, wanted: &Principal) -> Result<Option<Principal>> {
        let id = &wanted.id;
        let found = self.context.stores.principals.get_principal(id).await?;
        if let Some(found) = &found
            && (found.status != PrincipalStatus::Active || found.principal_type != wanted.principal_type)
        {
            let (kind, status) = (found.principal_type, found.status);
            let message = format!("the principal {id} is {kind} and {status}: it is left so");
            return Err(Error::new(Label::PrincipalNotActive, message));
        }
        Ok(found)
    }

    /// Issues a certificate for a principal's key that was made here; where its slots are full, `free_slots` revokes
    /// what it has (as superseded) first.
    ///
    /// # Errors
    /// `principal-not-active`, `too-many-certificates`.
    pub async fn issue_for(
        &self,
        id: &PrincipalId,
        key: &PrivateKey,
        free_slots: bool,
    ) -> Result<IssuedCertificate> {
        let context = &self.context;
        let public = SubjectPublicKey::from_spki(key.public_key())?;
        let subject = principal(context, id).await?;
        let issue = || async {
            let now = context.now();
            let leaf = Leaf {
                principal: &subject,
                key: &public,
                validity: None,
                description: "made by bootstrap",
                kind: IssuanceKind::Issue,
                lineage: None,
                job: None,
                request: None,
            };
            issue_leaf(context, leaf, now, system_entry(now, ACTOR, "certificate.issue", id)).await
        };
        match issue().await {
            Err(error) if error.label() == Label::TooManyCertificates && free_slots => {
                let audit = system_entry(context.now(), ACTOR, "certificate.revoke", id);
                let target = airunner_core::RevocationTarget::Principal(id.clone());
                let reason = airunner_core::RevocationReason::Superseded;
                context.stores.certificates.revoke(&target, reason, audit).await?;
                issue().await
            }
            issued => issued,
        }
    }

    /// Whether the store knows this certificate and it counts for longer than `within`.
    ///
    /// # Errors
    /// `store-unavailable` and the like.
    pub async fn is_good_for(&self, der: &[u8], within: Duration) -> Result<bool> {
        let context = &self.context;
        let fingerprint = airunner_core::Fingerprint::from_bytes(airunner_pki::sha256(der));
        let found = context.stores.certificates.get_by_fingerprint(&fingerprint).await?;
        let now = context.now();
        let anchored = |issuer: &IssuerId| context.issuers.current().get(issuer).is_some();
        Ok(found.is_some_and(|found| {
            found.is_active(now) && anchored(&found.issuer_id) && found.expires_at > now.plus(within)
        }))
    }

    /// Whether a server certificate is signed by a CA that is trusted now, names everything wanted, and lasts longer
    /// than `within`.
    pub fn is_server_good_for(
        &self,
        der: &[u8],
        names: &[DnsName],
        addresses: &[IpAddr],
        within: Duration,
    ) -> bool {
        let Ok(parsed) = parse_certificate(der, &self.context.settings.oid_arc) else { return false };
        let signed_here =
            parsed.authority_key_id.as_deref().and_then(|key| self.context.issuers.id_of_key(key));
        signed_here.is_some()
            && parsed.not_after > self.context.now().plus(within)
            && names.iter().all(|name| parsed.dns_names.contains(name))
            && addresses.iter().all(|address| parsed.ip_addresses.contains(address))
    }

    /// Issues a certificate for the API server: it names no principal, and is in no registry.
    ///
    /// # Errors
    /// What preparing, signing or the audit log says.
    pub async fn issue_server(
        &self,
        key: &PrivateKey,
        names: &[DnsName],
        addresses: &[IpAddr],
    ) -> Result<ServerCertificate> {
        let context = &self.context;
        let now = context.now();
        let issuers = context.issuers.current();
        let signing = issuers.signing()?;
        let common_name = names.first().map_or_else(|| "localhost".to_owned(), ToString::to_string);
        let serial = Serial::new(now, &*context.random);
        let params = LeafParams {
            serial,
            public_key: SubjectPublicKey::from_spki(key.public_key())?,
            common_name: common_name.clone(),
            profile: Profile::Server,
            uri: None,
            dns_names: names.to_vec(),
            ip_addresses: addresses.to_vec(),
            email: None,
            principal: None,
            not_before: now.floor_second().minus(BACKDATE),
            not_after: now
                .floor_second()
                .plus(Settings::MAX_VALIDITY)
                .min(signing.issuer.certificate.not_after()),
        };
        let prepared = prepare_leaf(&signing.issuer.certificate, &params, &context.settings.oid_arc)?;
        let signed = prepared.sign(&*signing.signer).await?;
        let mut audit = system_entry(now, "server", "certificate.issue-server", common_name);
        audit.detail.insert("serial".to_owned(), serial.to_string());
        context.stores.audit.record(audit).await?;
        let mut chain = vec![signed.into_der()];
        if !signing.issuer.record.kind.is_root() {
            chain.push(signing.issuer.record.der.clone());
        }
        let chain_pem = chain.iter().map(|der| certificate_to_pem(der)).collect();
        Ok(ServerCertificate { chain_pem, chain, not_after: params.not_after })
    }
}

fn check_root(issuers: &[Issuer], root: &dyn Signer) -> Result<()> {
    let anchor = issuers.iter().find(|issuer| issuer.kind.is_root()).ok_or_else(no_issuer)?;
    let certificate = airunner_pki::parse_certificate(&anchor.der, &airunner_pki::OidArc::default())?;
    if certificate.public_key.spki() == root.public_key() {
        return Ok(());
    }
    Err(Error::new(
        Label::File,
        "the root key is not that of the CA in the store: give the right key, or make a new CA with --force-new-ca",
    ))
}

async fn make_ca(site: Site<'_>, sealer: &Sealer, plan: &CaPlan<'_>) -> Result<Vec<Issuer>> {
    let now = site.clock.now();
    let params = CaParams {
        serial: Serial::new(now, site.random),
        subject: format!("airunner {} root CA", plan.environment),
        public_key: SubjectPublicKey::from_spki(plan.root.public_key())?,
        not_before: now.floor_second().minus(BACKDATE),
        not_after: now.floor_second().plus(ROOT_LIFE),
    };
    let prepared = if plan.single.is_some() { prepare_single(&params)? } else { prepare_root(&params)? };
    let signed = prepared.sign(plan.root).await?;
    let id = IssuerId::new(now, site.random);
    let sealed_key = plan.single.map(|key| seal_key(site, sealer, id, key)).transpose()?;
    let root = Issuer {
        id,
        kind: if plan.single.is_some() { IssuerKind::Single } else { IssuerKind::Root },
        state: IssuerState::Active,
        algorithm: plan.root.algorithm(),
        der: signed.into_der(),
        sealed_key,
        parent: None,
        created_at: now,
        expires_at: params.not_after,
    };
    if plan.single.is_some() {
        return Ok(vec![root]);
    }
    let stem = format!("airunner {} issuing CA", plan.environment);
    let issuing = make_issuing(site, sealer, &stem, &root, plan.root, plan.issuing).await?;
    Ok(vec![root, issuing])
}

async fn make_issuing(
    site: Site<'_>,
    sealer: &Sealer,
    stem: &str,
    root: &Issuer,
    root_key: &dyn Signer,
    key: IssuingKey<'_>,
) -> Result<Issuer> {
    let now = site.clock.now();
    let (algorithm, public, secret) = match key {
        IssuingKey::Sealed(algorithm) => {
            let key = PrivateKey::generate(algorithm)?;
            (algorithm, SubjectPublicKey::from_spki(key.public_key())?, key.to_pkcs8())
        }
        IssuingKey::Held { signer, name } => {
            (signer.algorithm(), SubjectPublicKey::from_spki(signer.public_key())?, held_key(name))
        }
    };
    let id = IssuerId::new(now, site.random);
    let certificate = IssuerCertificate::parse(&root.der)?;
    let params = CaParams {
        serial: Serial::new(now, site.random),
        subject: format!("{stem} {}", &id.to_string()[..8]),
        public_key: public,
        not_before: now.floor_second().minus(BACKDATE),
        not_after: now.floor_second().plus(ISSUING_LIFE).min(certificate.not_after()),
    };
    let signed = prepare_issuing(&certificate, &params)?.sign(root_key).await?;
    Ok(Issuer {
        id,
        kind: IssuerKind::Issuing,
        state: IssuerState::Active,
        algorithm,
        der: signed.into_der(),
        sealed_key: Some(seal_key(site, sealer, id, &secret)?),
        parent: Some(root.id),
        created_at: now,
        expires_at: params.not_after,
    })
}

fn seal_key(site: Site<'_>, sealer: &Sealer, id: IssuerId, key: &Secret) -> Result<Sealed> {
    sealer.seal(KeyPurpose::IssuingKey, key_place(&id.to_string()), key, site.random)
}
