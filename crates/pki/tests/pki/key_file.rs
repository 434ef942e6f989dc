//! Key files: what openssl writes opens here, what we write opens there, and what can't be used is named.

use airunner_core::{Error, KeyAlgorithm, Label, Secret};
use airunner_pki::PrivateKey;

use crate::openssl::OpenSsl;

const ALL: [KeyAlgorithm; 4] =
    [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::EcdsaP521, KeyAlgorithm::Ed25519];

fn passphrase() -> Secret {
    Secret::new(b"correct-horse".to_vec())
}

#[test]
fn ours_open_with_openssl() {
    let files = OpenSsl::new();
    for algorithm in ALL {
        let key = PrivateKey::generate(algorithm).unwrap();
        files.write("key.pem", key.to_pem(None).unwrap().expose());
        files.run("pkey -in key.pem -pubout -outform DER -out plain.der");
        files.write("locked.pem", key.to_pem(Some(&passphrase())).unwrap().expose());
        files.run("pkey -in locked.pem -passin pass:correct-horse -pubout -outform DER -out locked.der");
        files.refused("pkey -in locked.pem -passin pass:wrong -noout");
        assert_eq!(files.read("plain.der"), key.public_key());
        assert_eq!(files.read("locked.der"), key.public_key());
    }
    let shown = files.run("asn1parse -in locked.pem");
    for said in ["PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc", "0927C0"] {
        assert!(shown.contains(said), "{said} is not in {shown}");
    }
}

#[test]
fn openssls_open_here() {
    let files = OpenSsl::new();
    for algorithm in ["EC -pkeyopt ec_paramgen_curve:P-256", "EC -pkeyopt ec_paramgen_curve:P-521", "ED25519"]
    {
        files.run(&format!("genpkey -algorithm {algorithm} -out key.pem"));
        files.run("pkey -in key.pem -pubout -outform DER -out public.der");
        let plain = PrivateKey::from_pem(&files.read("key.pem"), None).unwrap();
        assert_eq!(plain.public_key(), files.read("public.der"));
        for cipher in ["-v2 aes-256-cbc", "-v2 aes-128-cbc -v2prf hmacWithSHA512", "-scrypt"] {
            files.run(&format!(
                "pkcs8 -topk8 -in key.pem {cipher} -passout pass:correct-horse -out locked.pem"
            ));
            let opened = PrivateKey::from_pem(&files.read("locked.pem"), Some(&passphrase())).unwrap();
            assert_eq!(opened.public_key(), plain.public_key(), "{cipher}");
        }
    }
}

#[test]
fn keys_survive_their_files() {
    for algorithm in ALL {
        let key = PrivateKey::generate(algorithm).unwrap();
        for read in [
            PrivateKey::from_pem(key.to_pem(None).unwrap().expose(), Some(&passphrase())).unwrap(),
            PrivateKey::from_pkcs8(key.to_pkcs8().expose()).unwrap(),
        ] {
            assert_eq!((read.algorithm(), read.public_key()), (algorithm, key.public_key()));
            key.subject_public_key().verify(b"m", &read.sign_now(b"m").unwrap()).unwrap();
        }
    }
}

#[test]
fn keys_and_passphrases_are_not_printed() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let printed = format!("{key:?}");
    assert!(printed.starts_with("PrivateKey(SubjectPublicKey(P-256 ") && printed.len() < 100, "{printed}");
    let wrong = PrivateKey::from_pem(key.to_pem(Some(&passphrase())).unwrap().expose(), None).unwrap_err();
    assert!(!format!("{wrong:?}").contains("horse"));
}

#[track_caller]
fn refusal(pem: &[u8], passphrase: Option<&Secret>) -> Error {
    let error = PrivateKey::from_pem(pem, passphrase).unwrap_err();
    assert_eq!(error.label(), Label::File, "{error}");
    error
}

#[test]
fn passphrases_that_are_missing_wrong_or_empty_are_told_apart() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let locked = key.to_pem(Some(&passphrase())).unwrap();
    assert!(refusal(locked.expose(), None).message().contains("no passphrase was given"));
    let wrong = Secret::new(b"wrong".to_vec());
    assert!(refusal(locked.expose(), Some(&wrong)).message().contains("the passphrase is wrong"));
    let empty = key.to_pem(Some(&Secret::new(Vec::new()))).unwrap_err();
    assert!(empty.message().contains("an empty passphrase"), "{empty}");
}

#[test]
fn keys_of_other_forms_and_types_are_named() {
    let files = OpenSsl::new();
    let named = |command: &str, said: &str| {
        files.run(command);
        let error = refusal(&files.read("key.pem"), Some(&passphrase()));
        assert!(error.message().contains(said), "{command}: {error}");
    };
    named("ecparam -name prime256v1 -genkey -out key.pem", "openssl pkcs8 -topk8 -in OLD -out NEW");
    named("ecparam -name prime256v1 -genkey -noout -out key.pem", "\"EC PRIVATE KEY\" (SEC 1)");
    named("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key.pem", "an RSA key");
    named("genrsa -traditional -out key.pem 1024", "\"RSA PRIVATE KEY\"");
    named("genpkey -algorithm ED448 -out key.pem", "an Ed448 key");
    named("genpkey -algorithm X25519 -out key.pem", "an X25519 key");
    named("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out key.pem", "of curve secp256k1");
    named("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-224 -out key.pem", "of curve P-224");
    named(
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit -out key.pem",
        "without a named curve",
    );
    named(
        "genpkey -algorithm ED25519 -des3 -pass pass:x -out key.pem",
        "openssl pkcs8 -topk8 -v2 aes-256-cbc",
    );
    named("genpkey -algorithm ED25519 -out other.pem", "openssl pkcs8 -topk8 -v2 aes-256-cbc");
    named("pkey -in other.pem -pubout -out key.pem", "\"PUBLIC KEY\"");
}

#[test]
fn garbage_is_refused() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let pem = String::from_utf8(key.to_pem(None).unwrap().expose().to_vec()).unwrap();
    for (text, said) in [
        (String::new(), "no PEM block"),
        ("hunter2".to_owned(), "no PEM block"),
        (pem.replacen('M', "*", 1), "not base64"),
        (format!("{pem}{pem}"), "several PEM blocks"),
        (format!("{pem}garbage"), "after the last PEM block"),
        ("-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n".to_owned(), "damaged"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned(),
            "damaged",
        ),
    ] {
        let error = refusal(text.as_bytes(), Some(&passphrase()));
        assert!(error.message().contains(said), "{text:?}: {error}");
    }
    assert!(PrivateKey::from_pkcs8(&[key.to_pkcs8().expose(), &[0]].concat()).is_err());
}

#[test]
fn a_file_can_not_order_endless_work() {
    let files = OpenSsl::new();
    files.run("genpkey -algorithm ED25519 -out key.pem");
    // An iteration count of three bytes, and scrypt's r between its N and its p: both made as large as they fit.
    for (options, from, to) in [
        ("-iter 70000", &[2, 3, 1, 0x11, 0x70][..], &[2, 3, 0x7f, 0xff, 0xff][..]),
        ("-scrypt", &[2, 1, 8, 2, 1, 1], &[2, 1, 0x7f, 2, 1, 1]),
    ] {
        files
            .run(&format!("pkcs8 -topk8 -in key.pem {options} -passout pass:x -outform DER -out locked.der"));
        let mut der = files.read("locked.der");
        let at = der.windows(from.len()).position(|window| window == from).unwrap();
        der[at..at + to.len()].copy_from_slice(to);
        files.write("changed.der", der);
        files.run("enc -base64 -in changed.der -out changed.txt");
        let base64 = String::from_utf8(files.read("changed.txt")).unwrap();
        let label = "ENCRYPTED PRIVATE KEY";
        let pem = format!("-----BEGIN {label}-----\n{base64}-----END {label}-----\n");
        let error = refusal(pem.as_bytes(), Some(&passphrase()));
        assert!(error.message().contains("absurd amount of work"), "{options}: {error}");
    }
}
