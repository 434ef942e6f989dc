//! The text of a key file, to a key and back: PEM around PKCS#8, encrypted (PBES2) where there is a passphrase. Files
//! themselves are read and written elsewhere.

use airunner_core::{Error, Result, Secret};
use pkcs8::{
    EncryptedPrivateKeyInfo, SecretDocument,
    pkcs5::{
        EncryptionScheme,
        pbes2::{Kdf, Parameters},
    },
};

use crate::{PrivateKey, key::refuse, pem};

/// PBKDF2 rounds of the files we write (OWASP Password Storage Cheat Sheet: 600,000 for HMAC-SHA-256).
const ITERATIONS: u32 = 600_000;
/// PBKDF2 rounds of the files we read, at most: a few seconds.
const MAX_ITERATIONS: u32 = 8_000_000;
/// Bytes that scrypt may want, at most: as OpenSSL makes them (N = 16384, r = 8), it is 16 MiB.
const MAX_SCRYPT_MEMORY: u64 = 64 << 20;

/// Opens the text of a key file.
pub(crate) fn open(text: &[u8], passphrase: Option<&Secret>) -> Result<PrivateKey> {
    let blocks = pem::blocks(text).map_err(|message| refuse(&message))?;
    if let Some(error) = blocks.iter().find_map(|block| old_form(block.label)) {
        return Err(error);
    }
    let [block] = blocks.as_slice() else {
        return Err(refuse("the file has several PEM blocks, and a key file has one"));
    };
    let der = block.decode().map_err(|message| refuse(&message))?;
    match (block.label, passphrase) {
        ("PRIVATE KEY", _) => PrivateKey::from_pkcs8(&der),
        ("ENCRYPTED PRIVATE KEY", Some(passphrase)) => decrypt(&der, passphrase),
        ("ENCRYPTED PRIVATE KEY", None) => Err(refuse("it is encrypted, and no passphrase was given")),
        (other, _) => {
            Err(refuse(&format!("the file holds a PEM block {other:?} where a PRIVATE KEY is wanted")))
        }
    }
}

/// Writes the text of a key file.
pub(crate) fn write(pkcs8: &Secret, passphrase: Option<&Secret>) -> Result<Secret> {
    let text = match passphrase {
        None => pem::encode("PRIVATE KEY", pkcs8.expose()),
        Some(passphrase) if passphrase.expose().is_empty() => {
            return Err(refuse("an empty passphrase protects nothing: give one, or none"));
        }
        Some(passphrase) => pem::encode("ENCRYPTED PRIVATE KEY", &encrypt(pkcs8, passphrase)?),
    };
    Ok(Secret::new(text.into_bytes()))
}

fn encrypt(pkcs8: &Secret, passphrase: &Secret) -> Result<Vec<u8>> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    for bytes in [&mut salt, &mut iv] {
        aws_lc_rs::rand::fill(bytes).map_err(Error::internal)?;
    }
    let failed = |error: pkcs8::pkcs5::Error| Error::internal(error.to_string());
    let parameters = Parameters::pbkdf2_sha256_aes256cbc(ITERATIONS, &salt, &iv).map_err(failed)?;
    let ciphertext = parameters.encrypt(passphrase.expose(), pkcs8.expose()).map_err(failed)?;
    let info =
        EncryptedPrivateKeyInfo { encryption_algorithm: parameters.into(), encrypted_data: &ciphertext };
    let document = SecretDocument::try_from(info).map_err(Error::internal)?;
    Ok(document.as_bytes().to_vec())
}

fn decrypt(der: &[u8], passphrase: &Secret) -> Result<PrivateKey> {
    let info = EncryptedPrivateKeyInfo::try_from(der).map_err(|_| {
        refuse(
            "it is encrypted in a way that is not supported (or damaged): encrypt it anew with \
             `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW`",
        )
    })?;
    check_cost(&info.encryption_algorithm)?;
    let wrong = || refuse("the passphrase is wrong, or the file is damaged");
    let plain = info.decrypt(passphrase.expose()).map_err(|_| wrong())?;
    PrivateKey::from_pkcs8(plain.as_bytes())
}

/// A file may not make us compute for an hour, or take all memory.
fn check_cost(scheme: &EncryptionScheme<'_>) -> Result<()> {
    let affordable = match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(kdf)) => kdf.iteration_count <= MAX_ITERATIONS,
        Some(Kdf::Scrypt(kdf)) => {
            let memory = u128::from(kdf.cost_parameter) * u128::from(kdf.block_size) * 128;
            memory <= u128::from(MAX_SCRYPT_MEMORY) && kdf.parallelization <= 16
        }
        _ => true,
    };
    if affordable { Ok(()) } else { Err(refuse("its encryption asks for an absurd amount of work")) }
}

/// The error for a key in a form that PKCS#8 has replaced.
fn old_form(label: &str) -> Option<Error> {
    match label {
        "EC PRIVATE KEY" => Some(refuse(
            "it is in the old form \"EC PRIVATE KEY\" (SEC 1): convert it with \
             `openssl pkcs8 -topk8 -in OLD -out NEW` (add -nocrypt for a file without a passphrase)",
        )),
        "RSA PRIVATE KEY" | "DSA PRIVATE KEY" => Some(refuse(&format!(
            "it is in the old form {label:?}, and keys here are P-256, P-384, P-521 or Ed25519; make one with \
             `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE`"
        ))),
        "OPENSSH PRIVATE KEY" => Some(refuse(
            "it is an OpenSSH key: make one for certificates with \
             `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE`",
        )),
        _ => None,
    }
}
