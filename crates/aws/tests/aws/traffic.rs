//! What an act asks of DynamoDB: requests are money and time, and so their number is held.

use airunner_core::{CertificateFilter, Intent, Issued, PageRequest, PrincipalType, Stores};
use airunner_testkit::records;

use crate::world::{NOW, Place, random};

/// Requests that `intent` made while `act` ran.
async fn requests<T>(stores: &Stores, intent: Intent, act: impl Future<Output = T>) -> u64 {
    let before = stores.measures.traffic(intent).totals().0;
    act.await;
    stores.measures.traffic(intent).totals().0 - before
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuance_is_three_reads_and_one_transaction_and_an_identity_two_reads() {
    let place = Place::new().await;
    let stores = place.open().stores();
    let audit = records::audit("principal.create", "w1", NOW);
    let principal = records::principal_of("w1", PrincipalType::Worker);
    let principal = stores.principals.create_principal(principal, audit).await.unwrap();
    let leaf = records::certificate(&principal, NOW, random());
    let issuing = async {
        let issued = stores.certificates.record_issued(records::issuance(leaf.clone())).await;
        assert_eq!(issued.unwrap(), Issued::New);
    };
    // The principal, the count of its lineages and those lineages; then everything at once.
    assert_eq!(requests(&stores, Intent::RecordIssued, issuing).await, 4);
    let reading = async { stores.certificates.identity(&leaf.reference()).await.unwrap().unwrap() };
    assert_eq!(requests(&stores, Intent::Identity, reading).await, 2);
    let again = async { stores.certificates.identities(&[leaf.reference(); 100]).await.unwrap() };
    assert_eq!(requests(&stores, Intent::Identities, again).await, 2);
    let idle = async { stores.changes.changes_after(0, 10).await.unwrap() };
    assert_eq!(requests(&stores, Intent::ChangesAfter, idle).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_certificates_asks_each_shard_once_and_reads_the_rows_together() {
    let place = Place::new().await;
    let stores = place.open().stores();
    let audit = records::audit("principal.create", "w1", NOW);
    let mut principal = records::principal_of("w1", PrincipalType::Worker);
    principal.max_certificates = 0;
    let principal = stores.principals.create_principal(principal, audit).await.unwrap();
    for _ in 0..30 {
        let leaf = records::certificate(&principal, NOW, random());
        stores.certificates.record_issued(records::issuance(leaf)).await.unwrap();
    }
    let filter = CertificateFilter { now: NOW, ..CertificateFilter::default() };
    let listing = async {
        let page = stores.certificates.list_certificates(&filter, &PageRequest::first(20)).await.unwrap();
        assert_eq!(page.items.len(), 20);
    };
    assert_eq!(requests(&stores, Intent::ListCertificates, listing).await, 16 + 1);
    let filter = CertificateFilter { principal_id: Some(principal.id.clone()), ..filter };
    let listing = async { stores.certificates.list_certificates(&filter, &PageRequest::first(20)).await };
    assert_eq!(requests(&stores, Intent::ListCertificates, listing).await, 1);
}
