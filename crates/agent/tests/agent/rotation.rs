//! Rotation: in time, by itself, and after others.

use std::{sync::Arc, time::Duration};

use airunner_agent::{RotationOptions, rotate};
use airunner_client::{Client, ClientOptions, EnrollOptions, IdentityFiles, IdentitySource, enroll, renew};
use airunner_core::Secret;
use airunner_net::system::SystemRandom;
use airunner_proto::{
    ca::v1::CreateEnrollmentTokenRequest,
    principal::v1::{CreatePrincipalRequest, PrincipalType, WhoAmIRequest},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, soon, until};

/// An enrolled service whose identity is rotated.
struct Rotated {
    bed: Bed,
    folder: TempDir,
    files: IdentityFiles,
    client: Client,
    shutdown: CancellationToken,
}

impl Rotated {
    async fn new(after: Option<String>) -> Self {
        let bed = Bed::new().await;
        let request = CreatePrincipalRequest {
            principal_id: "svc".to_owned(),
            r#type: PrincipalType::Service.into(),
            ..Default::default()
        };
        soon(bed.admin.principals().create_principal(request)).await.unwrap();
        let request = CreateEnrollmentTokenRequest { principal_id: "svc".to_owned(), ..Default::default() };
        let token =
            soon(bed.admin.enrollments().create_enrollment_token(request)).await.unwrap().into_inner().token;
        let folder = tempfile::tempdir().unwrap();
        soon(enroll(EnrollOptions::new(Secret::new(token.into_bytes()), folder.path()))).await.unwrap();
        let files = IdentityFiles::open(folder.path(), None).unwrap();
        let client = Self::client(&bed, &files);
        let shutdown = CancellationToken::new();
        let options = RotationOptions { files: files.clone(), after };
        let random = Arc::new(SystemRandom::new());
        tokio::spawn(rotate(client.clone(), options, bed.server.clock.clone(), random, shutdown.clone()));
        Self { bed, folder, files, client, shutdown }
    }

    fn client(bed: &Bed, files: &IdentityFiles) -> Client {
        let server = bed.server.addresses.api.to_string().parse().unwrap();
        let options = ClientOptions {
            clock: bed.server.clock.clone(),
            ..ClientOptions::new(server, "", Some(IdentitySource::Folder(files.clone())))
        };
        Client::new(options).unwrap()
    }

    /// The serial number that the server sees. After a leap of time it must first find its feet again.
    async fn serial(&self) -> String {
        let mut answer = None;
        until(async || {
            answer = self.client.principals().who_am_i(WhoAmIRequest {}).await.ok();
            answer.is_some()
        })
        .await;
        answer.unwrap().into_inner().serial_number
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_when_its_time_has_come_and_the_hook_runs() {
    let hooked = tempfile::tempdir().unwrap();
    let hook = format!("echo ran >> {}/log", hooked.path().display());
    let rotated = Rotated::new(Some(hook)).await;
    let first = rotated.serial().await;
    let day = Duration::from_hours(24);
    // Of 90 days 60 are two thirds.
    rotated.bed.server.clock.advance(59 * day);
    assert_eq!(rotated.serial().await, first);
    rotated.bed.server.clock.advance(11 * day);
    until(async || rotated.serial().await != first).await;
    assert_eq!(rotated.files.load().unwrap().serial().to_string(), rotated.serial().await);
    let log = hooked.path().join("log");
    until(async || std::fs::read_to_string(&log).is_ok_and(|text| text == "ran\n")).await;
    assert!(rotated.folder.path().join("current/bundle.pem").exists());
    rotated.shutdown.cancel();
    rotated.bed.server.stop().await;
}

#[tokio::test]
async fn what_another_process_renewed_is_taken_over() {
    let rotated = Rotated::new(None).await;
    let first = rotated.serial().await;
    let other = Rotated::client(&rotated.bed, &rotated.files);
    let renewed = soon(renew(&rotated.files, &other)).await.unwrap();
    until(async || rotated.serial().await != first).await;
    assert_eq!(rotated.serial().await, renewed.identity.serial().to_string());
    rotated.shutdown.cancel();
    rotated.bed.server.stop().await;
}
