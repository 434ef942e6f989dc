//! Renewal: the exchange on the disk and in the client, and what is left of one that was cut short.

use std::os::unix::fs::PermissionsExt;

use airunner_client::{Client, ClientOptions, EnrollOptions, IdentityFiles, IdentitySource, enroll, renew};
use airunner_core::{KeyAlgorithm, Label};
use airunner_e2e::TestServer;
use airunner_pki::{PrivateKey, create_csr};
use airunner_proto::ca::v1::RenewCertificateRequest;
use tempfile::TempDir;

use crate::bed::{names, seen_serial, soon, token, worker_without_certificate};

/// An enrolled worker.
struct Enrolled {
    folder: TempDir,
    files: IdentityFiles,
    client: Client,
}

impl Enrolled {
    async fn new(server: &TestServer) -> Self {
        worker_without_certificate(server, "w").await;
        let folder = TempDir::new().unwrap();
        soon(enroll(EnrollOptions::new(token(server, "w").await, folder.path()))).await.unwrap();
        let files = IdentityFiles::open(folder.path(), None).unwrap();
        let client = Self::client(server, &files);
        Self { folder, files, client }
    }

    /// A client of its own, as another process has it.
    fn client(server: &TestServer, files: &IdentityFiles) -> Client {
        let address = server.addresses.api.to_string().parse().unwrap();
        Client::new(ClientOptions::new(address, "", Some(IdentitySource::Folder(files.clone())))).unwrap()
    }
}

#[tokio::test]
async fn a_renewal_exchanges_the_identity_on_the_disk_and_in_the_client() {
    let server = TestServer::start().await;
    let Enrolled { folder, files, client } = Enrolled::new(&server).await;
    let (old, version) = (seen_serial(&client).await, files.version().unwrap());
    let renewed = soon(renew(&files, &client)).await.unwrap();
    assert_eq!(seen_serial(&client).await, renewed.identity.serial().to_string());
    assert_ne!(seen_serial(&client).await, old);
    assert_eq!(files.load().unwrap().serial(), renewed.identity.serial());
    assert_ne!(files.version().unwrap(), version);
    assert!(renewed.predecessor_retire_at.is_some());
    assert!(names(folder.path(), "pending-").is_empty());
    assert_eq!(names(&folder.path().join("identity"), "").len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_gets_the_same_certificate() {
    let server = TestServer::start().await;
    let Enrolled { folder, files, client } = Enrolled::new(&server).await;
    let old = client.identity().unwrap().serial();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let waiting = folder.path().join(format!("pending-renew-{old}.pem"));
    std::fs::write(&waiting, key.to_pem(None).unwrap().expose()).unwrap();
    std::fs::set_permissions(&waiting, PermissionsExt::from_mode(0o600)).unwrap();
    let request = RenewCertificateRequest { csr: create_csr(&key).unwrap() };
    let lost = client.certificates().renew_certificate(request).await.unwrap().into_inner();

    let renewed = soon(renew(&files, &client)).await.unwrap();
    assert_eq!(renewed.identity.serial().to_string(), lost.certificate.unwrap().serial_number);
    assert!(!waiting.exists());
    server.stop().await;
}

#[tokio::test]
async fn of_two_processes_that_renew_at_once_one_renews_and_the_other_follows() {
    let server = TestServer::start().await;
    let Enrolled { folder: _folder, files, client } = Enrolled::new(&server).await;
    let other = Enrolled::client(&server, &files);
    let (mine, theirs) = soon(async { tokio::join!(renew(&files, &client), renew(&files, &other)) }).await;
    let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
    assert_eq!(mine.identity.serial(), theirs.identity.serial());
    let renewals = [mine.predecessor_retire_at, theirs.predecessor_retire_at];
    assert_eq!(renewals.iter().flatten().count(), 1);
    assert_eq!(seen_serial(&client).await, seen_serial(&other).await);
    server.stop().await;
}

#[tokio::test]
async fn an_identity_that_was_copied_and_renewed_elsewhere_is_told_so() {
    let server = TestServer::start().await;
    let Enrolled { folder: _folder, files, client } = Enrolled::new(&server).await;
    let thief = client.identity().unwrap();
    let stolen = ClientOptions::new(
        server.addresses.api.to_string().parse().unwrap(),
        server.roots_pem(),
        Some(IdentitySource::Loaded(Box::new((*thief).clone()))),
    );
    let stolen = Client::new(stolen).unwrap();
    soon(renew(&files, &client)).await.unwrap();
    seen_serial(&client).await;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request = RenewCertificateRequest { csr: create_csr(&key).unwrap() };
    let refused = stolen.certificates().renew_certificate(request).await.unwrap_err();
    assert!(airunner_client::Error::from(refused).is(Label::LineageForked));
    server.stop().await;
}
