//! Parameters of SSM and secrets.

use airunner_aws::{
    parameters::{
        MAX_PARAMETER, PLACEHOLDER, ParameterKind, find_parameters, put_parameter, read_parameters,
    },
    secrets::{FoundSecret, SecretStage, create_secret, find_secret, missing_secret, put_secret},
};
use airunner_core::{Label, Secret};

use crate::bed::{aws, name};

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

#[tokio::test]
async fn what_is_written_is_read_back_with_a_version_that_counts() {
    let (aws, plain, secure) = (aws(), name("/airunner/test/plain"), name("/airunner/test/secure"));
    put_parameter(&aws, &plain, ParameterKind::Plain, &secret("one"), true).await.unwrap();
    put_parameter(&aws, &secure, ParameterKind::Secure, &secret("two"), true).await.unwrap();
    let again = put_parameter(&aws, &plain, ParameterKind::Plain, &secret("x"), true).await;
    assert_eq!(again.unwrap_err().label(), Label::AlreadyExists);

    let read = read_parameters(&aws, &[&secure, &plain]).await.unwrap();
    assert!(read[0].value.matches(b"two") && read[1].value.matches(b"one"));
    put_parameter(&aws, &secure, ParameterKind::Secure, &secret("three"), false).await.unwrap();
    let newer = read_parameters(&aws, &[&secure]).await.unwrap();
    assert!(newer[0].value.matches(b"three") && newer[0].version > read[0].version);
}

#[tokio::test]
async fn a_missing_parameter_names_itself_and_both_ways_to_make_it() {
    let aws = aws();
    let there = name("/airunner/prod/there");
    put_parameter(&aws, &there, ParameterKind::Plain, &secret("x"), true).await.unwrap();
    let found = find_parameters(&aws, &["/airunner/prod/missing", &there]).await.unwrap();
    assert!(found[0].is_none() && found[1].is_some());
    let error = read_parameters(&aws, &[&there, "/airunner/prod/missing"]).await.unwrap_err();
    assert_eq!(error.label(), Label::AwsMissing);
    for says in
        ["/airunner/prod/missing", "Terraform", "bootstrap --environment=prod --create", "[aws] region"]
    {
        assert!(error.message().contains(says), "{error} does not say {says}");
    }
}

#[tokio::test]
async fn a_placeholder_is_refused_by_name() {
    let (aws, name) = (aws(), name("/airunner/prod/server-key"));
    put_parameter(&aws, &name, ParameterKind::Secure, &secret(PLACEHOLDER), true).await.unwrap();
    let error = read_parameters(&aws, &[&name]).await.unwrap_err();
    assert_eq!(error.label(), Label::Placeholder);
    assert!(error.message().contains(&name), "{error}");
    assert!(error.message().contains("bootstrap --environment=prod"), "{error}");
}

#[tokio::test]
async fn what_a_standard_parameter_does_not_hold_is_refused_before_it_is_sent() {
    let (aws, name) = (aws(), name("/airunner/prod/server-cert"));
    let longest = "ü".repeat(MAX_PARAMETER);
    put_parameter(&aws, &name, ParameterKind::Plain, &secret(&longest), true).await.unwrap();
    let error =
        put_parameter(&aws, &name, ParameterKind::Plain, &secret(&format!("{longest}x")), false).await;
    let error = error.unwrap_err();
    assert_eq!(error.label(), Label::TooLarge);
    assert!(error.message().contains(&name) && error.message().contains("4097"), "{error}");
}

#[tokio::test]
async fn a_secret_keeps_the_value_before_its_newest() {
    let (aws, name) = (aws(), name("/airunner/test/ca-key"));
    assert!(matches!(find_secret(&aws, &name, SecretStage::Current).await.unwrap(), FoundSecret::Nothing));
    assert!(missing_secret(&aws, &name).message().contains(&name));
    create_secret(&aws, &name, &secret(PLACEHOLDER)).await.unwrap();
    assert!(matches!(find_secret(&aws, &name, SecretStage::Current).await.unwrap(), FoundSecret::Empty));
    let again = create_secret(&aws, &name, &secret("x")).await;
    assert_eq!(again.unwrap_err().label(), Label::AlreadyExists);
    for value in ["one", "two"] {
        put_secret(&aws, &name, &secret(value)).await.unwrap();
    }
    for (stage, value) in [(SecretStage::Current, "two"), (SecretStage::Previous, "one")] {
        let FoundSecret::Value(found) = find_secret(&aws, &name, stage).await.unwrap() else {
            panic!("no {stage:?} value")
        };
        assert!(found.matches(value.as_bytes()), "{stage:?}");
    }
}
