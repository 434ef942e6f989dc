//! What issuing a P-256 leaf costs beside the two things that can't be saved: verifying the request and signing. The
//! target is a ratio within one run: `issue/ours` at most 1.25 times `issue/aws-lc alone`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use airunner_core::PrincipalType;
use airunner_pki::{
    AcceptedKeys, LeafParams, SubjectPublicKey, create_csr, parse_certificate, prepare_leaf, verify_csr,
};
use airunner_testkit::{TestCa, sign};
use aws_lc_rs::signature as aws_lc;
use criterion::{Criterion, criterion_group, criterion_main};
use ring::signature as ring_signature;

fn issue(criterion: &mut Criterion) {
    let ca = TestCa::new();
    let (issuer_key, subject_key, accepted) = (ca.issuing_key(), ca.key(), AcceptedKeys::default());
    let csr = create_csr(&subject_key).unwrap();
    let template = ca.params(PrincipalType::Worker, "worker-17", &subject_key);
    let params = |key: &SubjectPublicKey| LeafParams { public_key: key.clone(), ..template.clone() };
    // As long as what a leaf's issuer signs.
    let message = [7; 400];
    let signature = subject_key.sign_now(&message).unwrap();

    let mut group = criterion.benchmark_group("issue");
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            let verified = verify_csr(black_box(&csr), &accepted).unwrap();
            sign(prepare_leaf(ca.issuing(), &params(verified.public_key()), ca.arc()).unwrap(), &*issuer_key)
        });
    });
    group.bench_function("aws-lc alone", |bencher| {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let pkcs8 = issuer_key.to_pkcs8();
        let pair = aws_lc::EcdsaKeyPair::from_pkcs8(&aws_lc::ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.expose())
            .unwrap();
        let public =
            aws_lc::UnparsedPublicKey::new(&aws_lc::ECDSA_P256_SHA256_ASN1, subject_key.public_key());
        bencher.iter(|| {
            public.verify(black_box(&message), &signature).unwrap();
            pair.sign(&random, black_box(&message)).unwrap()
        });
    });
    group.bench_function("ring alone", |bencher| {
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ring_signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = issuer_key.to_pkcs8();
        let pair = ring_signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.expose(), &random).unwrap();
        let point = &subject_key.public_key()[26..];
        let public = ring_signature::UnparsedPublicKey::new(&ring_signature::ECDSA_P256_SHA256_ASN1, point);
        bencher.iter(|| {
            public.verify(black_box(&message), &signature).unwrap();
            pair.sign(&random, black_box(&message)).unwrap()
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("steps");
    group.bench_function("verify_csr", |bencher| {
        bencher.iter(|| verify_csr(black_box(&csr), &accepted).unwrap());
    });
    let key = subject_key.subject_public_key();
    group.bench_function("prepare_leaf", |bencher| {
        bencher.iter(|| prepare_leaf(ca.issuing(), black_box(&params(key)), ca.arc()).unwrap());
    });
    let leaf = sign(prepare_leaf(ca.issuing(), &params(key), ca.arc()).unwrap(), &*issuer_key);
    group.bench_function("parse_certificate", |bencher| {
        bencher.iter(|| parse_certificate(black_box(leaf.der()), ca.arc()).unwrap());
    });
    group.finish();
}

criterion_group!(benches, issue);
criterion_main!(benches);
