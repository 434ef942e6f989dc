//! A full disk under a server that runs.

use airunner_core::PrincipalType;
use airunner_proto::principal::v1::{CreatePrincipalResponse, ListPrincipalsRequest, ListPrincipalsResponse};
use tonic::Code;

use crate::bed::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_and_is_over_when_there_is_room() {
    let bed = Bed::new().await;
    let server = bed.start();
    let admin = bed.connect(&server, &bed.admin()).await;
    let mut worker =
        Worker::open(&bed, &server, &bed.principal(&server, "w1", PrincipalType::Worker).await).await;
    assert_eq!(server.ready().await, (200, "ready".to_owned()));
    server.limit_files(Some(0));

    let refused = admin.call(CREATE_PRINCIPAL, &new_principal("u1", PrincipalType::User)).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unavailable, "store-full"));
    assert!(refused.message.contains("disk is full") && refused.retry_after.is_some(), "{refused:?}");
    let said = server.until_ready_says(503, "store-full").await;
    assert!(said.contains("writes are refused, reads go on"), "{said}");

    // Reads go on, for those who are there and for those who come.
    let newcomer = bed.connect(&server, &bed.admin()).await;
    for client in [&admin, &newcomer, &worker.client] {
        assert_eq!(client.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    }
    let list: ListPrincipalsResponse = newcomer.ask(LIST_PRINCIPALS, &ListPrincipalsRequest::default()).await;
    let ids: Vec<_> = list.principals.iter().map(|principal| principal.principal_id.as_str()).collect();
    assert_eq!(ids, ["admin", "w1"], "what was refused is not there");

    server.limit_files(None);
    assert_eq!(server.until_ready_says(200, "ready").await, "ready\n");
    let _: CreatePrincipalResponse =
        admin.ask(CREATE_PRINCIPAL, &new_principal("u1", PrincipalType::User)).await;
    assert_eq!(worker.client.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    server.stop();
    assert_eq!(worker.end().await.code, Code::Ok, "the line lived until the server stopped");
}
