//! What a hostile sender may try: each is refused by its own label, and nothing makes the parser panic.

use airunner_core::{Error, KeyAlgorithm, Label, PrincipalType};
use airunner_pki::{
    AcceptedKeys, IssuerCertificate, PrivateKey, certificates_from_pem, create_csr, parse_certificate,
    prepare_leaf, verify_csr, verify_issued_by,
};
use airunner_testkit::{TestCa, sign};
use proptest::prelude::*;

use crate::openssl::OpenSsl;

fn accepted() -> AcceptedKeys {
    AcceptedKeys::new([
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::EcdsaP521,
        KeyAlgorithm::Ed25519,
    ])
}

#[track_caller]
fn refusal(csr: &[u8], label: Label) -> Error {
    let error = verify_csr(csr, &accepted()).unwrap_err();
    assert_eq!(error.label(), label, "{error:?}");
    assert_eq!(error.field(), Some("csr"));
    error
}

fn csr() -> Vec<u8> {
    create_csr(&PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", data_encoding::BASE64.encode(der))
}

#[test]
fn keys_of_other_types_are_refused_by_name() {
    let files = OpenSsl::new();
    for (key, said) in [
        ("RSA -pkeyopt rsa_keygen_bits:2048", "an RSA key of 2048 bits"),
        ("RSA-PSS -pkeyopt rsa_keygen_bits:1024", "an RSASSA-PSS key"),
        ("ED448", "an Ed448 key"),
        ("EC -pkeyopt ec_paramgen_curve:secp256k1", "of curve secp256k1,"),
        ("EC -pkeyopt ec_paramgen_curve:P-224", "of curve P-224,"),
        ("EC -pkeyopt ec_paramgen_curve:brainpoolP256r1", "of curve brainpoolP256r1,"),
        ("EC -pkeyopt ec_paramgen_curve:brainpoolP384r1", "of curve brainpoolP384r1,"),
        ("EC -pkeyopt ec_paramgen_curve:sect283r1", "of curve 1.3.132.0.17,"),
        ("EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", "explicit curve parameters"),
        ("EC -pkeyopt ec_paramgen_curve:P-384 -pkeyopt ec_param_enc:explicit", "explicit curve parameters"),
    ] {
        files.run(&format!("genpkey -algorithm {key} -out key.pem"));
        files.run("req -new -key key.pem -subj /CN=x -out csr.pem");
        let error = refusal(&files.read("csr.pem"), Label::KeyNotAccepted);
        assert!(error.message().contains(said), "{key}: {error}");
    }
    files.run("genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:1024 -out dsa.pem");
    files.run("genpkey -paramfile dsa.pem -out key.pem");
    files.run("req -new -key key.pem -subj /CN=x -out csr.pem");
    let error = refusal(&files.read("csr.pem"), Label::KeyNotAccepted);
    assert!(error.message().contains("a DSA key"), "{error}");
}

#[test]
fn compressed_points_are_refused_by_name() {
    let files = OpenSsl::new();
    files.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    files.run("ec -in key.pem -conv_form compressed -out compressed.pem");
    files.run("req -new -key compressed.pem -subj /CN=x -out csr.pem");
    let error = refusal(&files.read("csr.pem"), Label::KeyNotAccepted);
    assert!(error.message().contains("of curve P-256 with a compressed point"), "{error}");
}

#[test]
fn a_point_off_the_curve_is_a_bad_key() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let mut csr = create_csr(&key).unwrap();
    let spki = key.public_key();
    let at = csr.windows(spki.len()).position(|window| window == spki).unwrap();
    csr[at + spki.len() - 1] ^= 1;
    let error = refusal(&csr, Label::KeyNotAccepted);
    assert!(error.message().contains("not a point of the curve P-256"), "{error}");
    // The point at infinity in place of a point.
    csr[at + 27..at + spki.len()].fill(0);
    refusal(&csr, Label::KeyNotAccepted);
}

#[test]
fn only_a_good_signature_by_a_good_digest_proves_a_key() {
    let mut bad = csr();
    *bad.last_mut().unwrap() ^= 1;
    refusal(&bad, Label::CsrSignature);

    let files = OpenSsl::new();
    files.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    for digest in ["sha1", "sha224", "sha3-256"] {
        files.run(&format!("req -new -key key.pem -{digest} -subj /CN=x -out csr.pem"));
        let error = refusal(&files.read("csr.pem"), Label::CsrSignature);
        assert!(error.message().contains("SHA-256, SHA-384 or SHA-512"), "{digest}: {error}");
    }
    // A signature by another key over the same request.
    let (one, other) = (csr(), csr());
    let spliced = [&one[..one.len() - 60], &other[other.len() - 60..]].concat();
    assert!(verify_csr(&spliced, &accepted()).is_err());
}

#[test]
fn forms_that_are_no_request_are_told_apart() {
    let der = csr();
    let good = pem("CERTIFICATE REQUEST", &der);
    assert!(verify_csr(good.as_bytes(), &accepted()).is_ok());
    assert!(verify_csr(pem("NEW CERTIFICATE REQUEST", &der).as_bytes(), &accepted()).is_ok());
    assert!(verify_csr(format!("some text\n{good}\n\n").as_bytes(), &accepted()).is_ok());
    let trailing = [der.as_slice(), &[0]].concat();
    for (bytes, said) in [
        (Vec::new(), "PKCS#10"),
        (b"hello".to_vec(), "PKCS#10"),
        (vec![0; 100], "PKCS#10"),
        (vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], "PKCS#10"),
        (der[..der.len() - 1].to_vec(), "PKCS#10"),
        (trailing.clone(), "bytes follow it"),
        (pem("CERTIFICATE REQUEST", &trailing).into_bytes(), "bytes follow it"),
        (pem("CERTIFICATE", &der).into_bytes(), "\"CERTIFICATE\""),
        (pem("PRIVATE KEY", &der).into_bytes(), "\"PRIVATE KEY\""),
        (format!("{good}{good}").into_bytes(), "several PEM blocks"),
        (format!("{good}garbage").into_bytes(), "after the last PEM block"),
        (good.replacen("\nMI", "\n*I", 1).into_bytes(), "not base64"),
        (good.replace("-----END", "-----FIN").into_bytes(), "no END line"),
        (TestCa::new().root().der().to_vec(), "PKCS#10"),
    ] {
        let error = refusal(&bytes, Label::CsrMalformed);
        assert!(error.message().contains(said), "{said:?} is not in {error}");
    }
}

#[test]
fn a_huge_request_is_not_even_parsed() {
    let good = pem("CERTIFICATE REQUEST", &csr());
    let padded = format!("{}{good}", " ".repeat(16 * 1024 - good.len()));
    assert!(verify_csr(padded.as_bytes(), &accepted()).is_ok());
    refusal(format!(" {padded}").as_bytes(), Label::TooLarge);
    refusal(&vec![0x30; 10_000_000], Label::TooLarge);
}

#[test]
fn what_a_request_asks_for_is_not_copied() {
    let files = OpenSsl::new();
    files.write(
        "req.cnf",
        "[req]\nprompt=no\ndistinguished_name=dn\nreq_extensions=ext\nattributes=attr\n\
         [dn]\nCN=root\nO=Evil\nemailAddress=root@example.com\n\
         [attr]\nchallengePassword=secret\nunstructuredName=x\n\
         [ext]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
         extendedKeyUsage=serverAuth,anyExtendedKeyUsage\n\
         subjectAltName=DNS:evil.example,URI:spiffe://test.airunner.internal/admin/root,IP:10.0.0.1\n\
         1.3.6.1.4.1.99999.1.1=ASN1:UTF8String:admin\n1.3.6.1.4.1.99999.1.2=ASN1:UTF8String:root\n\
         1.2.3.4.5=critical,DER:0500\n",
    );
    files.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    files.run("req -new -config req.cnf -key key.pem -out csr.pem");
    let verified = verify_csr(&files.read("csr.pem"), &accepted()).unwrap();

    let ca = TestCa::new();
    let mut params = ca.params(PrincipalType::User, "mallory", &ca.key());
    params.public_key = verified.public_key().clone();
    let leaf = sign(prepare_leaf(ca.issuing(), &params, ca.arc()).unwrap(), &*ca.issuing_key());
    files.write("leaf.der", leaf.der());
    let text = files.run("x509 -inform DER -in leaf.der -noout -text");
    for foreign in
        ["evil", "Evil", "root", "10.0.0.1", "CA:TRUE", "Certificate Sign", "Server Authentication", "1.2.3"]
    {
        assert!(!text.replace("CN = airunner test", "").contains(foreign), "{foreign} is in {text}");
    }
    let parsed = parse_certificate(leaf.der(), ca.arc()).unwrap();
    assert_eq!(parsed.principal, Some((PrincipalType::User, "mallory".parse().unwrap())));
    assert_eq!(&parsed.public_key, verified.public_key());
}

#[test]
fn certificates_that_are_none_are_refused() {
    let ca = TestCa::new();
    let leaf = ca.client(PrincipalType::User, "u");
    for bytes in [&[][..], b"hello", &[leaf.der(), &[0]].concat(), &leaf.der()[1..], &vec![0x30; 100_000]] {
        let error = parse_certificate(bytes, ca.arc()).unwrap_err();
        assert_eq!((error.label(), error.field()), (Label::InvalidArgument, Some("certificate")));
        assert!(verify_issued_by(bytes, ca.issuing()).is_err());
    }
    let error = IssuerCertificate::parse(leaf.der()).unwrap_err();
    assert!(error.message().contains("CA:FALSE"), "{error}");
}

#[test]
fn a_serial_number_has_one_form() {
    let ca = TestCa::new();
    let mut leaf = ca.client(PrincipalType::User, "u").der().to_vec();
    let serial = [&[0x02, 16][..], parse_certificate(&leaf, ca.arc()).unwrap().serial.as_bytes()].concat();
    let at = leaf.windows(serial.len()).position(|window| window == serial).unwrap();
    leaf[at + 2..at + 4].copy_from_slice(&[0, 0x7f]);
    let error = parse_certificate(&leaf, ca.arc()).unwrap_err();
    assert!(error.message().contains("not in DER"), "{error}");
    leaf[at + 3] = 0x80;
    assert!(parse_certificate(&leaf, ca.arc()).is_ok());
    leaf[at + 2] = 0x80;
    let error = parse_certificate(&leaf, ca.arc()).unwrap_err();
    assert!(error.message().contains("negative"), "{error}");
}

#[test]
fn a_ca_that_may_not_sign_is_none() {
    let files = OpenSsl::new();
    files.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    files.write("req.cnf", "[req]\ndistinguished_name=dn\n[dn]\n");
    for (extension, said) in [
        ("keyUsage=digitalSignature", "no basicConstraints"),
        ("basicConstraints=CA:FALSE", "CA:FALSE"),
        ("basicConstraints=CA:TRUE -addext keyUsage=cRLSign", "keyCertSign"),
    ] {
        let line = "req -config req.cnf -x509 -key key.pem -subj /CN=x -outform DER -out cert.der -addext";
        files.run(&format!("{line} {extension}"));
        let error = IssuerCertificate::parse(&files.read("cert.der")).unwrap_err();
        assert!(error.message().contains(said), "{extension}: {error}");
    }
}

#[test]
fn the_extensions_that_name_a_principal_come_in_pairs_and_well_formed() {
    let files = OpenSsl::new();
    files.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    files.write("req.cnf", "[req]\ndistinguished_name=dn\n[dn]\n");
    let arc = TestCa::new().arc().clone();
    let of_type = "-addext 1.3.6.1.4.1.99999.1.1=ASN1:UTF8String:user";
    let of_id = "-addext 1.3.6.1.4.1.99999.1.2=ASN1:UTF8String:alice";
    let parse = |extensions: &str| {
        let line = "req -config req.cnf -x509 -key key.pem -subj /CN=x -outform DER -out cert.der";
        files.run(&format!("{line} {extensions}"));
        parse_certificate(&files.read("cert.der"), &arc).map(|parsed| parsed.principal)
    };
    assert_eq!(parse("").unwrap(), None);
    assert!(parse(&format!("{of_type} {of_id}")).unwrap().is_some());
    for bad in [
        of_type.to_owned(),
        of_id.to_owned(),
        format!("{of_type} {}", of_id.replace("alice", "a/b")),
        format!("{of_type} {}", of_id.replace("UTF8String", "IA5String")),
        format!("{of_type} {}", of_id.replace("UTF8String:alice", "NULL")),
        format!("{of_id} {}", of_type.replace("user", "root")),
        format!("{of_id} {}", of_type.replace("user", "human")),
    ] {
        assert!(parse(&bad).is_err(), "{bad} was taken");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn changed_bytes_never_panic_nor_prove_another_key(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        thread_local! {
            static MATERIAL: (TestCa, Vec<u8>, Vec<u8>) = {
                let ca = TestCa::new();
                let (csr, leaf) = (csr(), ca.client(PrincipalType::User, "u").der().to_vec());
                (ca, csr, leaf)
            };
        }
        MATERIAL.with(|(ca, csr, leaf)| {
            let changed = |original: &[u8]| {
                let mut bytes = original.to_vec();
                for (place, byte) in &changes {
                    let place = place.index(bytes.len());
                    bytes[place] = *byte;
                }
                if let Some(cut) = &cut {
                    bytes.truncate(cut.index(bytes.len()));
                }
                bytes
            };
            let other = changed(csr);
            prop_assert!(other == *csr || verify_csr(&other, &accepted()).is_err());
            // Of a text, bytes may change that say nothing.
            if let Ok(other) = verify_csr(&changed(pem("CERTIFICATE REQUEST", csr).as_bytes()), &accepted()) {
                prop_assert_eq!(other, verify_csr(csr, &accepted()).unwrap());
            }
            let other = changed(leaf);
            prop_assert!(other == *leaf || verify_issued_by(&other, ca.issuing()).is_err());
            let _ = parse_certificate(&other, ca.arc());
            let _ = IssuerCertificate::parse(&changed(ca.issuing().der()));
            let _ = certificates_from_pem(&changed(ca.root_pem().as_bytes()));
            Ok(())
        })?;
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let framed = [&[0x30, 0x82, 1, 0x20, 0x30, 0x81, 0xf0, 2, 1, 0][..], &bytes].concat();
        for bytes in [&bytes, &framed] {
            prop_assert!(verify_csr(bytes, &accepted()).is_err());
            prop_assert!(PrivateKey::from_pkcs8(bytes).is_err());
            prop_assert!(PrivateKey::from_pem(bytes, None).is_err());
            prop_assert!(certificates_from_pem(bytes).is_err());
        }
    }
}
