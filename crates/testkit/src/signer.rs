//! What every `Signer` must do, whatever holds its key. `signer_conformance!` turns it into tests; the signatures are
//! checked by aws-lc and by the `openssl` command.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{path::Path, process::Command, sync::Arc};

use airunner_core::{KeyAlgorithm, Signer};
use airunner_pki::SubjectPublicKey;
use data_encoding::BASE64;

/// Emits a module of tests for one signer. The expression makes it (an `Arc<S>`), and may await; the crate that calls
/// needs tokio's `macros` and `rt`.
///
/// ```ignore
/// signer_conformance!(p256, Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()));
/// ```
#[macro_export]
macro_rules! signer_conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;

            #[tokio::test]
            async fn its_public_key_is_a_canonical_spki_of_its_algorithm() {
                $crate::signer::has_a_canonical_public_key(&*$make);
            }

            #[tokio::test]
            async fn its_signatures_verify_under_its_public_key() {
                $crate::signer::signatures_verify(&*$make).await;
            }

            #[tokio::test]
            async fn its_signatures_hold_for_one_message_only() {
                $crate::signer::signatures_hold_for_one_message(&*$make).await;
            }

            #[tokio::test]
            async fn its_signatures_have_the_form_that_x509_wants() {
                $crate::signer::signatures_have_their_form(&*$make).await;
            }

            #[tokio::test]
            async fn it_signs_for_many_at_once() {
                $crate::signer::signs_concurrently($make).await;
            }
        }
    };
}

/// The public key is one that we know, of the algorithm that the signer claims, and openssl reads it.
pub fn has_a_canonical_public_key(signer: &dyn Signer) {
    let key = SubjectPublicKey::from_spki(signer.public_key()).unwrap();
    assert_eq!(key.algorithm(), signer.algorithm());
    let files = tempfile::tempdir().unwrap();
    let path = write_public_key(files.path(), signer);
    openssl(&["pkey", "-pubin", "-in", &path, "-pubcheck", "-noout"]);
}

/// Messages of no byte, of one, of a certificate's size, and of more than a KMS takes (4096 bytes).
pub async fn signatures_verify(signer: &dyn Signer) {
    let key = SubjectPublicKey::from_spki(signer.public_key()).unwrap();
    for len in [0, 1, 500, 4096, 100_000] {
        let message = vec![0x5a; len];
        let signature = signer.sign(&message).await.unwrap();
        key.verify(&message, &signature).unwrap();
        // OpenSSL 3.0 reads no empty file for Ed25519.
        if len > 0 {
            verify_with_openssl(signer, &message, &signature);
        }
    }
}

/// A signature does not verify for another message, nor the same with a bit turned over.
pub async fn signatures_hold_for_one_message(signer: &dyn Signer) {
    let key = SubjectPublicKey::from_spki(signer.public_key()).unwrap();
    let mut signature = signer.sign(b"one").await.unwrap();
    assert!(key.verify(b"two", &signature).is_err());
    *signature.last_mut().unwrap() ^= 1;
    assert!(key.verify(b"one", &signature).is_err());
}

/// A DER ECDSA-Sig-Value of two positive INTEGERs (RFC 3279 section 2.2.3), or 64 bytes; often enough to meet the
/// short and the long ones.
pub async fn signatures_have_their_form(signer: &dyn Signer) {
    for round in 0..64_u8 {
        let signature = signer.sign(&[round]).await.unwrap();
        match signer.algorithm() {
            KeyAlgorithm::Ed25519 => assert_eq!(signature.len(), 64),
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::EcdsaP521 => {
                let rest = integer(integer(sequence(&signature)));
                assert!(rest.is_empty(), "{} bytes follow the two integers", rest.len());
            }
        }
    }
}

/// 64 tasks at once, each with its own message.
pub async fn signs_concurrently<S: Signer + ?Sized>(signer: Arc<S>) {
    let key = SubjectPublicKey::from_spki(signer.public_key()).unwrap();
    let sign = |task: u8| {
        let signer = Arc::clone(&signer);
        tokio::spawn(async move { (task, signer.sign(&[task]).await.unwrap()) })
    };
    let tasks: Vec<_> = (0..64).map(sign).collect();
    for task in tasks {
        let (message, signature) = task.await.unwrap();
        key.verify(&[message], &signature).unwrap();
    }
}

fn verify_with_openssl(signer: &dyn Signer, message: &[u8], signature: &[u8]) {
    let files = tempfile::tempdir().unwrap();
    let key = write_public_key(files.path(), signer);
    let (message, signature) =
        (write(files.path(), "message", message), write(files.path(), "sig", signature));
    let digest = match signer.algorithm() {
        KeyAlgorithm::EcdsaP256 => "-sha256",
        KeyAlgorithm::EcdsaP384 => "-sha384",
        KeyAlgorithm::EcdsaP521 => "-sha512",
        KeyAlgorithm::Ed25519 => {
            let pure = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", &key, "-sigfile", &signature];
            return openssl(&[&pure[..], &["-in", &message]].concat());
        }
    };
    openssl(&["dgst", digest, "-verify", &key, "-signature", &signature, &message]);
}

fn write_public_key(files: &Path, signer: &dyn Signer) -> String {
    let base64 = BASE64.encode(signer.public_key());
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    write(files, "key.pem", pem.as_bytes())
}

fn write(files: &Path, name: &str, content: &[u8]) -> String {
    let path = files.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn sequence(der: &[u8]) -> &[u8] {
    match der {
        [0x30, len, content @ ..] if *len < 0x80 && usize::from(*len) == content.len() => content,
        [0x30, 0x81, len, content @ ..] if *len >= 0x80 && usize::from(*len) == content.len() => content,
        _ => panic!("not a DER SEQUENCE to the end: {der:02x?}"),
    }
}

/// Passes over a positive INTEGER of the shortest form.
fn integer(der: &[u8]) -> &[u8] {
    let [2, len, rest @ ..] = der else { panic!("not a DER INTEGER: {der:02x?}") };
    let (value, rest) = rest.split_at(usize::from(*len));
    let shortest = !matches!(value, [0, second, ..] if *second < 0x80);
    assert!(
        value[0] < 0x80 && value != [0] && shortest,
        "not a positive INTEGER of the shortest form: {value:02x?}"
    );
    rest
}
