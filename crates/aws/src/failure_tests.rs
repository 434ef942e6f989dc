//! What the failures of AWS come to: each its own label and a sentence that names the resource and what mends it.

use std::sync::Arc;

use airunner_core::{
    Error, JobId, KeyWrap, Label, OutputChunk, OutputStore, OutputStream, Result, Secret, Sequence, Signer,
    Timestamp,
};
use airunner_store::MemoryStore;
use airunner_testkit::{random::SeededRandom, records};

use crate::{
    DynamoStore, KmsKeyWrap, KmsSigner, S3Output,
    kms::{KmsUse, require_key},
    parameters::read_parameters,
    replayed::{Answer, Replayed, json, refusal, s3_refusal},
    tables::TableNames,
};

const ALIAS: &str = "alias/airunner-prod-ca";

/// What opening a key of KMS that answers so fails with.
async fn told(answers: impl IntoIterator<Item = Answer>) -> (Error, usize) {
    let replayed = Replayed::new(answers);
    let error = KmsSigner::open(&replayed.aws, ALIAS).await.err().unwrap();
    (error, replayed.asked())
}

fn says(error: &Error, label: Label, all: &[&str]) {
    assert_eq!(error.label(), label, "{error:?}");
    for what in all {
        assert!(error.message().contains(what), "{error} does not say {what:?}");
    }
}

#[tokio::test]
async fn each_refusal_has_a_label_and_a_sentence_of_its_own() {
    for (code, label, all) in [
        ("AccessDeniedException", Label::AwsDenied, &["kms:DescribeKey", ALIAS, "allow"][..]),
        ("NotFoundException", Label::AwsMissing, &[ALIAS, "eu-central-1", "--create-key", "Terraform"]),
        ("UnrecognizedClientException", Label::AwsCredentials, &["kms:DescribeKey"]),
        ("ExpiredTokenException", Label::AwsCredentials, &["expired", "aws sso login"]),
        ("InvalidSignatureException", Label::AwsCredentials, &["secret access key"]),
        ("KMSInvalidStateException", Label::AwsKey, &[ALIAS]),
        ("DisabledException", Label::AwsKey, &[ALIAS]),
        ("SomethingNewException", Label::AwsRefused, &["SomethingNewException", ALIAS]),
    ] {
        let (error, asked) = told([refusal(code)]).await;
        says(&error, label, all);
        assert_eq!(asked, 1, "{code} is not tried again");
    }
}

#[tokio::test]
async fn throttling_and_faults_of_the_service_are_tried_again_a_bounded_number_of_times() {
    let (error, asked) = told([refusal("ThrottlingException")]).await;
    says(&error, Label::AwsThrottled, &["kms:DescribeKey", ALIAS]);
    assert!(error.retry_after().is_some());
    assert_eq!(asked, 4);
    let (error, asked) = told([Answer::Says(500, String::new(), None)]).await;
    says(&error, Label::Unreachable, &["kms:DescribeKey", "eu-central-1"]);
    assert_eq!(asked, 4);

    // What passes is not noticed.
    let key = r#"{"KeyMetadata":{"KeyId":"k","Arn":"arn:aws:kms:x:1:key/k","KeyState":"Enabled",
        "KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT"}}"#;
    let replayed = Replayed::new([refusal("ThrottlingException"), Answer::Unreachable, json(key)]);
    let arn = require_key(&replayed.aws, ALIAS, KmsUse::Wrap).await.unwrap();
    assert_eq!((arn.as_str(), replayed.asked()), ("arn:aws:kms:x:1:key/k", 3));
}

#[tokio::test]
async fn silence_and_a_place_that_is_not_there_are_told_apart() {
    let (error, _) = told([Answer::Silence]).await;
    says(&error, Label::Unreachable, &["did not answer", "kms:DescribeKey"]);
    let (error, asked) = told([Answer::Unreachable]).await;
    says(&error, Label::Unreachable, &["can't be reached", "eu-central-1", "[aws] region", "[aws] endpoint"]);
    assert_eq!(asked, 4);
}

#[tokio::test]
async fn without_credentials_it_is_said_where_they_come_from() {
    let replayed = Replayed::without_credentials();
    let error = KmsSigner::open(&replayed.aws, ALIAS).await.err().unwrap();
    says(&error, Label::AwsCredentials, &["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "role"]);
    assert_eq!(replayed.asked(), 0);
}

#[tokio::test]
async fn a_wrong_clock_is_told_by_the_date_of_the_answer() {
    let old = "Thu, 01 Jan 2015 00:00:00 GMT";
    let Answer::Says(status, body, _) = refusal("InvalidSignatureException") else { unreachable!() };
    let (error, _) = told([Answer::Says(status, body, Some(old))]).await;
    says(&error, Label::ClockSkew, &["ahead of", "minutes", "chronyc"]);

    // Also where AWS still accepts the signature.
    let replayed = Replayed::new([Answer::Says(200, r#"{"Parameters":[]}"#.to_owned(), Some(old))]);
    replayed.aws.check_clock().unwrap();
    let _missing = read_parameters(&replayed.aws, &["/airunner/prod/ca-cert"]).await;
    says(&replayed.aws.check_clock().unwrap_err(), Label::ClockSkew, &["ahead of"]);
}

#[tokio::test]
async fn a_key_that_signs_wrongly_is_found_when_it_is_opened() {
    let key = airunner_pki::PrivateKey::generate(airunner_core::KeyAlgorithm::EcdsaP256).unwrap();
    let other = airunner_pki::PrivateKey::generate(airunner_core::KeyAlgorithm::EcdsaP256).unwrap();
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let described = r#"{"KeyMetadata":{"KeyId":"k","Arn":"arn:aws:kms:x:1:key/k","KeyState":"Enabled",
        "KeyUsage":"SIGN_VERIFY","KeySpec":"ECC_NIST_P256"}}"#;
    let public = format!(r#"{{"PublicKey":"{}"}}"#, base64(key.public_key()));
    let signature = other.sign(b"anything").await.unwrap();
    let signed = format!(r#"{{"Signature":"{}"}}"#, base64(&signature));
    let (error, _) = told([json(described), json(&public), json(&signed)]).await;
    says(&error, Label::AwsKey, &[ALIAS, "does not verify"]);
}

#[tokio::test]
async fn what_another_key_wrapped_is_a_wrong_master_key() {
    let key = r#"{"KeyMetadata":{"KeyId":"k","Arn":"arn:aws:kms:x:1:key/k","KeyState":"Enabled",
        "KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT"}}"#;
    for code in ["IncorrectKeyException", "InvalidCiphertextException"] {
        let replayed = Replayed::new([json(key), refusal(code)]);
        let wrap = KmsKeyWrap::open(&replayed.aws, "alias/airunner-prod-sealing").await.unwrap();
        let error = wrap.unwrap(b"wrapped by another", b"here").await.unwrap_err();
        says(&error, Label::WrongMasterKey, &["alias/airunner-prod-sealing", "kms_key"]);
    }
    let replayed = Replayed::new([json(key), refusal("AccessDeniedException")]);
    let wrap = KmsKeyWrap::open(&replayed.aws, "alias/airunner-prod-sealing").await.unwrap();
    let error = wrap.wrap(&Secret::new(vec![1]), b"here").await.unwrap_err();
    says(&error, Label::AwsDenied, &["kms:Encrypt", "alias/airunner-prod-sealing"]);
}

#[tokio::test]
async fn throttled_parameters_are_told_and_tried_again() {
    let names = ["/airunner/prod/server-cert", "/airunner/prod/server-key"];
    let replayed = Replayed::new([refusal("ThrottlingException")]);
    let error = read_parameters(&replayed.aws, &names).await.unwrap_err();
    says(&error, Label::AwsThrottled, &["ssm:GetParameters", names[0], names[1]]);
    assert_eq!(replayed.asked(), 4);
    // An answer with one of the two is no answer about the other.
    let half = json(r#"{"Parameters":[{"Name":"/airunner/prod/server-cert","Value":"x","Version":3}]}"#);
    let error = read_parameters(&Replayed::new([half]).aws, &names).await.unwrap_err();
    says(&error, Label::AwsMissing, &[names[1]]);
}

#[tokio::test]
async fn a_bucket_elsewhere_or_closed_says_so_when_it_is_opened() {
    for (answer, label, all) in [
        (Answer::Says(301, String::new(), None), Label::AwsMissing, &["[aws] region", "eu-central-1"][..]),
        (Answer::Says(403, String::new(), None), Label::AwsDenied, &["s3:ListBucket", "a-bucket"]),
        (Answer::Says(404, String::new(), None), Label::AwsMissing, &["a-bucket", "Terraform", "--create"]),
        (Answer::Says(503, String::new(), None), Label::AwsThrottled, &["s3:ListBucket"]),
    ] {
        let replayed = Replayed::new([answer]);
        let error = S3Output::open(&replayed.aws, "a-bucket", 1 << 20).await.err().unwrap();
        says(&error, label, all);
    }
}

fn chunk() -> OutputChunk {
    OutputChunk {
        sequence: Sequence::new(1, 1),
        at: Timestamp::from_millis(1),
        stream: OutputStream::Stdout,
        bytes: b"a"[..].into(),
    }
}

#[tokio::test]
async fn output_is_kept_through_throttling_and_a_lost_answer() {
    let job = JobId::new(Timestamp::from_millis(1), &SeededRandom::new(1));
    let found = || Answer::Says(200, String::new(), None);
    let nothing_listed = || Answer::Says(200, "<ListBucketResult/>".to_owned(), None);
    // The bucket is there, the job has nothing yet; then the put is slowed down, and its second attempt finds that the
    // first arrived after all.
    let lost = [s3_refusal(503, "SlowDown"), s3_refusal(412, "PreconditionFailed")];
    let replayed = Replayed::new([found(), nothing_listed()].into_iter().chain(lost));
    let output = S3Output::open(&replayed.aws, "a-bucket", 1 << 20).await.unwrap();
    output.append_output(&job, &[chunk()]).await.unwrap();
    assert_eq!(replayed.asked(), 4);

    // Another is about to put the same object: it is asked again.
    let conflict = [s3_refusal(409, "ConditionalRequestConflict"), found()];
    let replayed = Replayed::new([found(), nothing_listed()].into_iter().chain(conflict));
    let output = S3Output::open(&replayed.aws, "a-bucket", 1 << 20).await.unwrap();
    output.append_output(&job, &[chunk()]).await.unwrap();
}

#[tokio::test]
async fn output_that_is_not_kept_is_not_acknowledged_and_is_found_anew() {
    let job = JobId::new(Timestamp::from_millis(1), &SeededRandom::new(1));
    let found = || Answer::Says(200, String::new(), None);
    let nothing_listed = || Answer::Says(200, "<ListBucketResult/>".to_owned(), None);
    let refused = s3_refusal(403, "AccessDenied");
    let replayed = Replayed::new([found(), nothing_listed(), refused, nothing_listed(), found()]);
    let output = S3Output::open(&replayed.aws, "a-bucket", 1 << 20).await.unwrap();
    let error = output.append_output(&job, &[chunk()]).await.unwrap_err();
    says(&error, Label::AwsDenied, &["s3:PutObject", "a-bucket"]);
    output.append_output(&job, &[chunk()]).await.unwrap();
    assert_eq!(replayed.asked(), 5);
}

/// What reading a row of a DynamoDB that answers so comes to, how often it was asked, and which tables are given up.
async fn read_of(answers: impl IntoIterator<Item = Answer>) -> (Result<bool>, usize, Vec<&'static str>) {
    let replayed = Replayed::new(answers);
    let names = TableNames::new("airunner", "prod");
    let random = Arc::new(SeededRandom::new(1));
    let output = MemoryStore::new(1).stores().output;
    let client = replayed.aws.dynamodb().clone();
    let stores =
        DynamoStore::open(client, names, random, output, std::time::Duration::from_hours(24)).stores();
    let found = stores.principals.get_principal(&records::id("w1")).await;
    (found.map(|found| found.is_some()), replayed.asked(), stores.measures.unanswering())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_asked_for_again_with_the_patience_of_every_client_and_not_for_ever() {
    let none = || json("{}");
    let throttled = || refusal("ProvisionedThroughputExceededException");
    for short in [vec![throttled()], vec![Answer::Says(500, String::new(), None), Answer::Unreachable]] {
        let tries = short.len() + 1;
        let (found, asked, given_up) = read_of(short.into_iter().chain([none()])).await;
        assert_eq!((found.unwrap(), asked), (false, tries), "what passes is not noticed");
        assert!(given_up.is_empty(), "{given_up:?}");
    }
    for answer in [throttled(), Answer::Says(500, String::new(), None), Answer::Unreachable, Answer::Silence]
    {
        let (found, asked, _) = read_of([answer.clone()]).await;
        says(&found.unwrap_err(), Label::StoreUnavailable, &["airunner_prod_principals"]);
        assert!((1..=4).contains(&asked), "{answer:?}: {asked}");
    }
}
