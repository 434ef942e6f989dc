//! Requests for certificates, over the wire: what they prove is a key, and what they ask for is not looked at. Forms and
//! keys that are refused are told apart in `crates/pki/tests/pki/hostile.rs`.

use std::process::Command;

use airunner_pki::certificate_to_pem;
use airunner_proto::ca::v1::{IssueCertificateRequest, IssueCertificateResponse};
use airunner_proto::principal::v1::PrincipalType;

use super::target::Target;
use crate::calls::*;

fn openssl(folder: &std::path::Path, arguments: &str) -> String {
    let mut command = Command::new("openssl");
    let output = command.current_dir(folder).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_proves_no_key_gets_no_certificate() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let made = admin.call(CREATE_PRINCIPAL, &new_principal("u1", PrincipalType::User)).await.unwrap();
    assert_eq!(made.code, tonic::Code::Ok);
    let (_, good) = key_and_csr();
    let (_, other) = key_and_csr();
    let mut changed = good.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let spliced = [&good[..good.len() - 72], &other[other.len() - 72..]].concat();
    let folder = target.folder();
    openssl(folder, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
    openssl(folder, "req -new -key rsa.pem -subj /CN=u1 -out rsa.csr");
    openssl(folder, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem");
    openssl(folder, "req -new -sha1 -key ec.pem -subj /CN=u1 -out sha1.csr");
    let file = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let nested = [0x30, 0x80].repeat(4_000);
    for (name, csr, label) in [
        ("nothing", Vec::new(), "csr-malformed"),
        ("a changed signature", changed, "csr-signature"),
        ("another's signature", spliced, ""),
        ("an RSA key", file("rsa.csr"), "key-not-accepted"),
        ("SHA-1", file("sha1.csr"), "csr-signature"),
        ("bytes after it", [good.clone(), vec![0]].concat(), "csr-malformed"),
        ("a certificate", certificate_to_pem(&target.chain()[0]).into_bytes(), "csr-malformed"),
        ("sequences in sequences", nested, "csr-malformed"),
        ("a length of 4 GiB", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30], "csr-malformed"),
        ("a megabyte", vec![0x30; 1 << 20], "too-large"),
    ] {
        let request = IssueCertificateRequest { principal_id: "u1".to_owned(), csr, ..Default::default() };
        let answer = admin.call(ISSUE, &request).await.unwrap();
        assert!(answer.code != tonic::Code::Ok && answer.code != tonic::Code::Internal, "{name}: {answer:?}");
        assert!(label.is_empty() || answer.label == label, "{name}: {answer:?}");
        assert_eq!(answer.field.as_deref(), Some("csr"), "{name}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_asks_for_beside_its_key_is_not_in_the_certificate() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let made = admin.call(CREATE_PRINCIPAL, &new_principal("u1", PrincipalType::User)).await.unwrap();
    assert_eq!(made.code, tonic::Code::Ok);
    let config = "[req]\nprompt=no\ndistinguished_name=dn\nreq_extensions=ext\n\
         [dn]\nCN=admin\nO=Evil\n\
         [ext]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
         extendedKeyUsage=serverAuth,anyExtendedKeyUsage\n\
         subjectAltName=DNS:localhost,DNS:*.evil.example,URI:spiffe://test.airunner/admin/admin,IP:127.0.0.1\n\
         1.3.6.1.4.1.99999.1.1=ASN1:UTF8String:admin\n1.3.6.1.4.1.99999.1.2=ASN1:UTF8String:admin\n\
         nameConstraints=critical,permitted;DNS:evil.example\n1.2.3.4.5=critical,DER:0500\n";
    let folder = target.folder();
    std::fs::write(folder.join("evil.cnf"), config).unwrap();
    openssl(folder, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out evil.pem");
    openssl(folder, "req -new -config evil.cnf -key evil.pem -out evil.csr");
    let csr = std::fs::read(folder.join("evil.csr")).unwrap();
    let request = IssueCertificateRequest { principal_id: "u1".to_owned(), csr, ..Default::default() };
    let issued: IssueCertificateResponse = admin.ask(ISSUE, &request).await;
    std::fs::write(folder.join("leaf.pem"), issued.certificate.unwrap().pem).unwrap();
    let text = openssl(folder, "x509 -in leaf.pem -noout -text");
    assert!(text.contains("CN = u1") && text.contains("spiffe://test.airunner/user/u1"), "{text}");
    for foreign in [
        "admin",
        "vil",
        "CA:TRUE",
        "Certificate Sign",
        "Server Authentication",
        "localhost",
        "Name Constraints",
        "1.2.3.4.5",
    ] {
        assert!(!text.contains(foreign), "{foreign} is in {text}");
    }
    target.is_unharmed().await;
}
