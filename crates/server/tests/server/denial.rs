//! Two servers over one file: a denial by one, or by hand, is in force on the other at once.

use std::time::Duration;

use airunner_core::PrincipalType;
use airunner_proto::{
    ca::v1::{RevokeCertificatesRequest, RevokeCertificatesResponse},
    principal::v1::{SuspendPrincipalRequest, SuspendPrincipalResponse},
};
use tonic::Code;

use crate::bed::*;

/// How long a denial may take to reach another server.
const DENIED_WITHIN: Duration = Duration::from_millis(600);

/// Two servers, and a worker with its line open at the second.
struct Pair {
    bed: Bed,
    first: Process,
    second: Process,
    worker: Worker,
    identity: Identity,
}

impl Pair {
    async fn start() -> Self {
        let bed = Bed::new().await;
        let (first, second) = (bed.start(), bed.start());
        let identity = bed.principal(&first, "w1", PrincipalType::Worker).await;
        let worker = Worker::open(&bed, &second, &identity).await;
        assert_eq!(worker.client.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
        Self { bed, first, second, worker, identity }
    }

    /// Denies the worker, and asserts that the second server has heard of it in time.
    async fn denied(mut self, label: &str, deny: impl AsyncFnOnce(&Self)) {
        deny(&self).await;
        let denied = now();
        self.worker.is_denied(label).await;
        let took = now().since(denied);
        assert!(took <= DENIED_WITHIN, "it took {took:?}");
        for server in [&self.first, &self.second] {
            assert_eq!(self.bed.refused(server, &self.identity).await, label);
        }
        self.first.stop();
        self.second.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_serve_what_either_wrote() {
    let Pair { bed, first, second, .. } = Pair::start().await;
    for (writer, reader, id) in [(&first, &second, "u1"), (&second, &first, "u2")] {
        let identity = bed.principal(writer, id, PrincipalType::User).await;
        assert_eq!(bed.connect(reader, &identity).await.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_by_one_server_is_in_force_on_the_other() {
    Pair::start()
        .await
        .denied("principal-suspended", async |pair| {
            let admin = pair.bed.connect(&pair.first, &pair.bed.admin()).await;
            let request = SuspendPrincipalRequest { principal_id: "w1".to_owned(), ..Default::default() };
            let _: SuspendPrincipalResponse = admin.ask(SUSPEND, &request).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_by_one_server_is_in_force_on_the_other() {
    Pair::start()
        .await
        .denied("certificate-revoked", async |pair| {
            let admin = pair.bed.connect(&pair.first, &pair.bed.admin()).await;
            let serial_number = pair.identity.serial.clone();
            let request = RevokeCertificatesRequest { serial_number, ..Default::default() };
            let _: RevokeCertificatesResponse = admin.ask(REVOKE, &request).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_by_hand_is_in_force_on_both() {
    let sql = "UPDATE principals SET status='suspended' WHERE principal_id='w1'";
    Pair::start().await.denied("principal-suspended", async |pair| drop(pair.bed.by_hand(sql))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_by_hand_is_in_force_on_both() {
    Pair::start()
        .await
        .denied("certificate-revoked", async |pair| {
            let serial = &pair.identity.serial;
            pair.bed.by_hand(&format!("UPDATE certificates SET revoked=1 WHERE serial_number='{serial}'"));
        })
        .await;
}
