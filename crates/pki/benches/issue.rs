//! What issuing a P-256 leaf costs beside the two things that can't be saved: verifying the request and signing.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use airunner_core::{KeyAlgorithm, PrincipalType, Profile, Serial, Timestamp};
use airunner_pki::{
    AcceptedKeys, CaParams, IssuerCertificate, LeafParams, OidArc, Prepared, PrivateKey, SignedCertificate,
    SubjectPublicKey, create_csr, parse_certificate, prepare_leaf, prepare_single, verify_csr,
};
use criterion::{Criterion, criterion_group, criterion_main};

fn issue(criterion: &mut Criterion) {
    let issuer_key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let issuer = issuer(&issuer_key);
    let subject_key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let csr = create_csr(&subject_key).unwrap();
    let (accepted, arc) = (AcceptedKeys::default(), OidArc::default());
    let message = vec![7; 400];
    let signature = subject_key.sign_now(&message).unwrap();

    let mut group = criterion.benchmark_group("issue");
    group.bench_function("bare verify and sign", |bencher| {
        bencher.iter(|| {
            subject_key.subject_public_key().verify(black_box(&message), &signature).unwrap();
            black_box(issuer_key.sign_now(&message).unwrap())
        });
    });
    group.bench_function("verify, prepare, lint, sign", |bencher| {
        bencher.iter(|| {
            let verified = verify_csr(black_box(&csr), &accepted).unwrap();
            let prepared = prepare_leaf(&issuer, &leaf(verified.public_key()), &arc).unwrap();
            signed(prepared, &issuer_key)
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("parts");
    let key = subject_key.subject_public_key();
    let certificate = signed(prepare_leaf(&issuer, &leaf(key), &arc).unwrap(), &issuer_key);
    group.bench_function("bare verify", |b| b.iter(|| key.verify(black_box(&message), &signature).unwrap()));
    group.bench_function("bare sign", |b| b.iter(|| issuer_key.sign_now(black_box(&message)).unwrap()));
    group.bench_function("verify_csr", |b| b.iter(|| verify_csr(black_box(&csr), &accepted).unwrap()));
    group.bench_function("prepare_leaf", |b| {
        b.iter(|| prepare_leaf(&issuer, black_box(&leaf(key)), &arc).unwrap());
    });
    group.bench_function("parse_certificate", |b| {
        b.iter(|| parse_certificate(black_box(certificate.der()), &arc).unwrap());
    });
    group.finish();
}

fn issuer(key: &PrivateKey) -> IssuerCertificate {
    let params = CaParams {
        serial: Serial::from_bytes(&[1; 16]).unwrap(),
        subject: "bench CA".to_owned(),
        public_key: key.subject_public_key().clone(),
        not_before: Timestamp::from_millis(1_800_000_000_000),
        not_after: Timestamp::from_millis(1_900_000_000_000),
    };
    IssuerCertificate::parse(signed(prepare_single(&params).unwrap(), key).der()).unwrap()
}

fn leaf(key: &SubjectPublicKey) -> LeafParams {
    LeafParams {
        serial: Serial::from_bytes(&[2; 16]).unwrap(),
        public_key: key.clone(),
        common_name: "worker-17".to_owned(),
        profile: Profile::Client,
        uri: Some("spiffe://example.com/worker/worker-17".to_owned()),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        email: None,
        principal: Some((PrincipalType::Worker, "worker-17".parse().unwrap())),
        not_before: Timestamp::from_millis(1_800_000_000_000),
        not_after: Timestamp::from_millis(1_807_000_000_000),
    }
}

/// A key in memory never makes its caller wait.
fn signed(prepared: Prepared, key: &PrivateKey) -> SignedCertificate {
    match pin!(prepared.sign(key)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(signed) => signed.unwrap(),
        Poll::Pending => unreachable!("a key in memory signs at once"),
    }
}

criterion_group!(benches, issue);
criterion_main!(benches);
