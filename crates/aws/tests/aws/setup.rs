//! Tables that are missing or made otherwise are told at the start, by name, with what mends it.

use airunner_aws::{check_tables, create_tables};
use airunner_core::Label;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};

use crate::world::Place;

#[tokio::test]
async fn tables_are_made_once_and_found_after() {
    let place = Place::empty();
    let made = create_tables(&place.client, &place.names).await.unwrap();
    assert!(made.iter().any(|name| name.ends_with("_test_principals")), "{made:?}");
    assert_eq!(create_tables(&place.client, &place.names).await.unwrap(), Vec::<String>::new());
    check_tables(&place.client, &place.names).await.unwrap();
}

#[tokio::test]
async fn two_that_make_them_at_once_both_end_well() {
    let place = Place::empty();
    let make = || create_tables(&place.client, &place.names);
    let (one, other) = tokio::join!(make(), make());
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    check_tables(&place.client, &place.names).await.unwrap();
}

#[tokio::test]
async fn a_missing_table_is_named_with_both_ways_to_make_it() {
    let place = Place::new().await;
    place.client.delete_table().table_name(place.name("jobs")).send().await.unwrap();
    let error = check_tables(&place.client, &place.names).await.unwrap_err();
    assert_eq!(error.label(), Label::StoreUnavailable);
    for part in [place.name("jobs").as_str(), "Terraform", "--create"] {
        assert!(error.message().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_table_with_another_key_or_without_an_index_is_refused() {
    let place = Place::new().await;
    remake(&place, "principals", "id", ScalarAttributeType::S).await;
    let error = check_tables(&place.client, &place.names).await.unwrap_err();
    assert!(error.message().contains("another key than principal_id (S)"), "{error}");
    remake(&place, "principals", "principal_id", ScalarAttributeType::N).await;
    let error = check_tables(&place.client, &place.names).await.unwrap_err();
    assert!(error.message().contains("another key than principal_id (S)"), "{error}");
    remake(&place, "principals", "principal_id", ScalarAttributeType::S).await;
    let error = check_tables(&place.client, &place.names).await.unwrap_err();
    assert!(error.message().contains("lacks the index by_status"), "{error}");
    assert!(create_tables(&place.client, &place.names).await.is_err(), "a wrong table was taken");
}

async fn remake(place: &Place, table: &str, key: &str, kind: ScalarAttributeType) {
    place.client.delete_table().table_name(place.name(table)).send().await.unwrap();
    let hash = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build().unwrap();
    let definition = AttributeDefinition::builder().attribute_name(key).attribute_type(kind).build().unwrap();
    place
        .client
        .create_table()
        .table_name(place.name(table))
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(hash)
        .attribute_definitions(definition)
        .send()
        .await
        .unwrap();
}
