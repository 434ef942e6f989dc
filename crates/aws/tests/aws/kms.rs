//! Keys in KMS: the signer does what every signer must, and says of a key that it can't use what is wrong with it.

use std::{fs, process::Command, sync::Arc};

use airunner_aws::{
    KmsSigner,
    kms::{KmsUse, create_key, create_nameless_key, move_alias, require_key},
};
use airunner_core::{KeyAlgorithm, Label, Serial, Signer, Timestamp};
use airunner_pki::{
    CaParams, IssuerCertificate, SubjectPublicKey, certificate_to_pem, prepare_issuing, prepare_root,
};
use airunner_testkit::{random::SeededRandom, signer_conformance};

use crate::bed::{aws, kms, name};

async fn signer(algorithm: KeyAlgorithm) -> Arc<KmsSigner> {
    let (aws, alias) = (aws(), name("alias/signs"));
    create_key(&aws, &alias, KmsUse::Sign(algorithm), "for a test").await.unwrap();
    Arc::new(KmsSigner::open(&aws, &alias).await.unwrap())
}

signer_conformance!(p256, signer(KeyAlgorithm::EcdsaP256).await);
signer_conformance!(p384, signer(KeyAlgorithm::EcdsaP384).await);

#[tokio::test]
async fn a_root_and_an_issuing_ca_that_kms_signed_verify_under_openssl() {
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
        let (root, issuing) = (signer(algorithm).await, signer(algorithm).await);
        let random = SeededRandom::new(7);
        let now = Timestamp::from_millis(1_790_000_000_000);
        let params = |subject: &str, key: &dyn Signer| CaParams {
            serial: Serial::new(now, &random),
            subject: subject.to_owned(),
            public_key: SubjectPublicKey::from_spki(key.public_key()).unwrap(),
            not_before: now,
            not_after: now.plus(std::time::Duration::from_hours(365 * 24)),
        };
        let root_der =
            prepare_root(&params("a root", &*root)).unwrap().sign(&*root).await.unwrap().into_der();
        let above = IssuerCertificate::parse(&root_der).unwrap();
        let issuing_der = prepare_issuing(&above, &params("an issuing CA", &*issuing))
            .unwrap()
            .sign(&*root)
            .await
            .unwrap()
            .into_der();
        let folder = tempfile::tempdir().unwrap();
        let (trusted, checked) = (folder.path().join("root.pem"), folder.path().join("issuing.pem"));
        fs::write(&trusted, certificate_to_pem(&root_der)).unwrap();
        fs::write(&checked, certificate_to_pem(&issuing_der)).unwrap();
        let verified = Command::new("openssl")
            .args(["verify", "-x509_strict", "-check_ss_sig", "-attime", "1790000001", "-CAfile"])
            .args([&trusted, &trusted, &checked])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
}

#[tokio::test]
async fn a_key_that_is_not_there_names_both_ways_to_make_it() {
    let error = KmsSigner::open(&aws(), "alias/airunner-prod-ca").await.err().unwrap();
    assert_eq!(error.label(), Label::AwsMissing);
    for says in ["alias/airunner-prod-ca", "eu-central-1", "Terraform", "--create-key"] {
        assert!(error.message().contains(says), "{error} does not say {says}");
    }
}

#[tokio::test]
async fn a_disabled_key_and_one_that_is_to_be_deleted_say_what_undoes_it() {
    let (aws, kms) = (aws(), kms());
    let disabled = name("alias/disabled");
    let arn = create_key(&aws, &disabled, KmsUse::Sign(KeyAlgorithm::EcdsaP256), "").await.unwrap();
    let signer = KmsSigner::open(&aws, &disabled).await.unwrap();
    kms.disable_key().key_id(&arn).send().await.unwrap();
    let error = KmsSigner::open(&aws, &disabled).await.err().unwrap();
    assert_eq!(error.label(), Label::AwsKey);
    assert!(error.message().contains(&disabled) && error.message().contains("enable-key"), "{error}");
    // One that is open already says so too.
    assert_eq!(signer.sign(b"x").await.unwrap_err().label(), Label::AwsKey);

    let doomed = name("alias/doomed");
    let arn = create_key(&aws, &doomed, KmsUse::Sign(KeyAlgorithm::EcdsaP256), "").await.unwrap();
    kms.schedule_key_deletion().key_id(&arn).pending_window_in_days(7).send().await.unwrap();
    let error = KmsSigner::open(&aws, &doomed).await.err().unwrap();
    assert_eq!(error.label(), Label::AwsKey);
    assert!(error.message().contains("cancel-key-deletion"), "{error}");
}

#[tokio::test]
async fn a_key_of_another_usage_or_kind_is_refused_by_name() {
    let aws = aws();
    let wraps = name("alias/wraps");
    create_key(&aws, &wraps, KmsUse::Wrap, "").await.unwrap();
    let error = KmsSigner::open(&aws, &wraps).await.err().unwrap();
    assert_eq!(error.label(), Label::AwsKey);
    assert!(error.message().contains("SIGN_VERIFY"), "{error}");

    let rsa = kms()
        .create_key()
        .key_spec(aws_sdk_kms::types::KeySpec::Rsa2048)
        .key_usage(aws_sdk_kms::types::KeyUsageType::SignVerify);
    let arn = rsa.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let error = KmsSigner::open(&aws, &arn).await.err().unwrap();
    assert!(error.message().contains("RSA_2048") && error.message().contains("ECC_NIST_P256"), "{error}");

    let p256 = name("alias/p256");
    create_key(&aws, &p256, KmsUse::Sign(KeyAlgorithm::EcdsaP256), "").await.unwrap();
    let error = require_key(&aws, &p256, KmsUse::Sign(KeyAlgorithm::EcdsaP384)).await.unwrap_err();
    assert!(error.message().contains("P-384"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_make_one_key_both_use_the_same() {
    let (aws, alias) = (aws(), name("alias/raced"));
    let purpose = KmsUse::Sign(KeyAlgorithm::EcdsaP256);
    let make = || {
        let (aws, alias) = (aws.clone(), alias.clone());
        tokio::spawn(async move { create_key(&aws, &alias, purpose, "").await.unwrap() })
    };
    let (one, other) = (make(), make());
    assert_eq!(one.await.unwrap(), other.await.unwrap());
}

#[tokio::test]
async fn an_open_signer_stays_with_its_key_when_the_alias_moves() {
    let (aws, alias) = (aws(), name("alias/moves"));
    let purpose = KmsUse::Sign(KeyAlgorithm::EcdsaP256);
    let arn = create_key(&aws, &alias, purpose, "").await.unwrap();
    let old = KmsSigner::open(&aws, &alias).await.unwrap();
    let next = create_nameless_key(&aws, &alias, purpose, "").await.unwrap();
    move_alias(&aws, &alias, &next).await.unwrap();
    let new = KmsSigner::open(&aws, &alias).await.unwrap();
    assert_eq!((old.arn(), new.arn()), (arn.as_str(), next.as_str()));
    let signature = old.sign(b"message").await.unwrap();
    SubjectPublicKey::from_spki(old.public_key()).unwrap().verify(b"message", &signature).unwrap();
}
