//! The master key in KMS.

use airunner_aws::{
    KmsKeyWrap,
    kms::{KmsUse, create_key, move_alias},
};
use airunner_core::{KeyAlgorithm, KeyWrap, Label, Secret};

use crate::bed::{aws, kms, name};

#[tokio::test]
async fn what_is_wrapped_opens_by_the_same_key_in_the_same_context_only() {
    let (aws, alias) = (aws(), name("alias/seal"));
    create_key(&aws, &alias, KmsUse::Wrap, "").await.unwrap();
    let key = KmsKeyWrap::open(&aws, &alias).await.unwrap();
    let secret = Secret::new(b"data key".to_vec());
    let wrapped = key.wrap(&secret, b"\0here").await.unwrap();
    assert!(key.unwrap(&wrapped, b"\0here").await.unwrap().matches(b"data key"));
    let error = key.unwrap(&wrapped, b"\0there").await.unwrap_err();
    assert_eq!(error.label(), Label::WrongMasterKey);

    // The alias is put on another key: what the old one wrapped does not open.
    let other = create_key(&aws, &name("alias/other"), KmsUse::Wrap, "").await.unwrap();
    move_alias(&aws, &alias, &other).await.unwrap();
    let key = KmsKeyWrap::open(&aws, &alias).await.unwrap();
    // KMS refuses (`failure_tests.rs` has its words); the emulator decrypts to something else.
    let opened = key.unwrap(&wrapped, b"\0here").await;
    assert!(opened.is_err() || opened.is_ok_and(|opened| !opened.matches(b"data key")));
}

#[tokio::test]
async fn a_key_that_can_t_wrap_is_refused_when_it_is_opened() {
    let (aws, signs) = (aws(), name("alias/signs-only"));
    create_key(&aws, &signs, KmsUse::Sign(KeyAlgorithm::EcdsaP256), "").await.unwrap();
    let error = KmsKeyWrap::open(&aws, &signs).await.err().unwrap();
    assert_eq!(error.label(), Label::AwsKey);
    assert!(error.message().contains("ENCRYPT_DECRYPT"), "{error}");

    let disabled = name("alias/disabled-seal");
    let arn = create_key(&aws, &disabled, KmsUse::Wrap, "").await.unwrap();
    kms().disable_key().key_id(arn).send().await.unwrap();
    let error = KmsKeyWrap::open(&aws, &disabled).await.err().unwrap();
    assert!(error.message().contains("enable-key"), "{error}");

    let error = KmsKeyWrap::open(&aws, "alias/airunner-prod-sealing").await.err().unwrap();
    assert_eq!(error.label(), Label::AwsMissing);
    assert!(error.message().contains("--create-key"), "{error}");
}
