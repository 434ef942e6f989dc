//! Identities: a certificate chain with its key and the roots that came with it, read from where they are kept. How the
//! files are exchanged is `files.rs`; how they reach the disk is `disk.rs`.

mod disk;
mod files;

use std::{fmt, fs, path::PathBuf};

use airunner_core::{Error, Label, Result, Secret, Serial, Timestamp};
use airunner_net::{TlsIdentity, TlsProfile};
use airunner_pki::{
    IssuerCertificate, OidArc, ParsedCertificate, PrivateKey, certificates_from_pem, parse_certificate,
};

pub(crate) use files::{FolderLock, Issued, PendingKey};
pub use files::{IdentityFiles, IdentityVersion};

/// A certificate chain with its key, ready to be shown. `Debug` prints the serial number only.
#[derive(Clone)]
pub struct LoadedIdentity {
    chain: Vec<Vec<u8>>,
    key: Secret,
    roots: Vec<Vec<u8>>,
    leaf: ParsedCertificate,
}

impl LoadedIdentity {
    /// An identity of a PEM chain (leaf first) and the leaf's key, with the roots (PEM) that it came with; empty is
    /// none.
    ///
    /// # Errors
    /// `file`, saying what is wrong: chain, key, passphrase, or that they are not a pair.
    pub fn from_pem(
        chain_pem: &[u8],
        key_pem: &[u8],
        passphrase: Option<&Secret>,
        roots_pem: &[u8],
    ) -> Result<Self> {
        let chain = certificates_from_pem(chain_pem).map_err(in_file("the certificate"))?;
        let roots = match roots_pem.trim_ascii() {
            [] => Vec::new(),
            pem => certificates_from_pem(pem).map_err(in_file("the trust bundle"))?,
        };
        Self::new(chain, key_pem, passphrase, roots)
    }

    /// An identity of the two-file form: leaf, issuing CA and roots in one PEM text.
    ///
    /// # Errors
    /// As [`LoadedIdentity::from_pem`].
    pub fn from_bundle(bundle_pem: &[u8], key_pem: &[u8], passphrase: Option<&Secret>) -> Result<Self> {
        let certificates = certificates_from_pem(bundle_pem).map_err(in_file("the certificate bundle"))?;
        let is_root = |der: &Vec<u8>| IssuerCertificate::parse(der).is_ok_and(|ca| ca.is_self_signed());
        let (roots, chain) = certificates.into_iter().partition(is_root);
        Self::new(chain, key_pem, passphrase, roots)
    }

    fn new(
        chain: Vec<Vec<u8>>,
        key_pem: &[u8],
        passphrase: Option<&Secret>,
        roots: Vec<Vec<u8>>,
    ) -> Result<Self> {
        let first = chain.first().ok_or_else(|| {
            Error::new(Label::File, "there is no certificate but roots: the leaf must stand first")
        })?;
        let leaf = parse_certificate(first, &OidArc::default()).map_err(in_file("the certificate"))?;
        let key = PrivateKey::from_pem(key_pem, passphrase)?;
        if key.subject_public_key() != &leaf.public_key {
            return Err(Error::new(
                Label::File,
                "the private key is not that of the certificate: the two must be a pair",
            ));
        }
        Ok(Self { chain, key: key.to_pkcs8(), roots, leaf })
    }

    /// The certificate's serial number.
    pub fn serial(&self) -> Serial {
        self.leaf.serial
    }

    /// What the certificate says.
    pub fn certificate(&self) -> &ParsedCertificate {
        &self.leaf
    }

    /// From when the certificate counts.
    pub fn not_before(&self) -> Timestamp {
        self.leaf.not_before
    }

    /// Until when the certificate counts.
    pub fn not_after(&self) -> Timestamp {
        self.leaf.not_after
    }

    /// The chain (DER), leaf first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The roots (DER) that it came with; may be none.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// The form that TLS takes.
    ///
    /// # Errors
    /// `file` where the profile does not allow the key.
    pub fn tls(&self, profile: TlsProfile) -> Result<TlsIdentity> {
        TlsIdentity::from_der(self.chain.clone(), &self.key, profile)
    }
}

impl fmt::Debug for LoadedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadedIdentity({})", self.serial())
    }
}

/// Where an identity is kept.
#[derive(Clone, Debug)]
pub enum IdentitySource {
    /// A folder, whose files are exchanged by renewals.
    Folder(IdentityFiles),
    /// Certificate chain (leaf first) and key in files of their own.
    Files {
        /// The chain, PEM.
        certificate: PathBuf,
        /// The key, PEM.
        key: PathBuf,
        /// The key's, where it is encrypted.
        passphrase: Option<Secret>,
    },
    /// Leaf, issuing CA and roots in one file, and the key.
    Bundle {
        /// The certificates, PEM.
        bundle: PathBuf,
        /// The key, PEM.
        key: PathBuf,
        /// The key's, where it is encrypted.
        passphrase: Option<Secret>,
    },
    /// In memory.
    Loaded(Box<LoadedIdentity>),
}

impl IdentitySource {
    /// Reads the identity. Blocks.
    ///
    /// # Errors
    /// `file`, naming the file: missing, unreadable, malformed, or a key that others may read.
    pub fn load(self) -> Result<LoadedIdentity> {
        let read = |path: &PathBuf| fs::read(path).map_err(disk::failed("read", path));
        match self {
            Self::Folder(files) => files.load(),
            Self::Files { certificate, key, passphrase } => {
                let key_pem = disk::read_private(&key)?;
                LoadedIdentity::from_pem(&read(&certificate)?, key_pem.expose(), passphrase.as_ref(), &[])
                    .map_err(|error| disk::at(error, &key))
            }
            Self::Bundle { bundle, key, passphrase } => {
                let key_pem = disk::read_private(&key)?;
                LoadedIdentity::from_bundle(&read(&bundle)?, key_pem.expose(), passphrase.as_ref())
                    .map_err(|error| disk::at(error, &key))
            }
            Self::Loaded(identity) => Ok(*identity),
        }
    }
}

fn in_file(what: &'static str) -> impl FnOnce(Error) -> Error {
    move |error| Error::new(Label::File, format!("{what} can't be used: {error}")).with_cause(error)
}
