//! The scenarios that need a server. Each sets its scene through the API, then lets the callers go.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
};

use airunner_client::{Client, ClientOptions, IdentitySource, LoadedIdentity, Result};
use airunner_core::{Error, KeyAlgorithm, Label};
use airunner_net::TlsProfile;
use airunner_pki::{PrivateKey, create_csr};
use airunner_proto::{
    ca::v1::{IssueCertificateRequest, RenewCertificateRequest, RevokeCertificatesRequest},
    job::v1::{
        CompleteJobsRequest, Completion, DequeueJobsRequest, EnqueueJobsRequest, Exit, JobSpec,
        completion::Outcome as JobOutcome, dequeue_jobs_response::Message, exit::How,
    },
    principal::v1::{CreatePrincipalRequest, PrincipalType},
};
use data_encoding::HEXLOWER;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Mutex,
    task::JoinSet,
};

use super::{BenchArgs, Measured, load::drive};

/// Certificates that are made to be revoked.
const REVOCABLE: usize = 40_000;

/// What an HTTP/2 client says first: the preface and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Where a scenario is played.
pub(super) struct Stage {
    pub(super) client: Client,
    pub(super) options: ClientOptions,
    pub(super) args: BenchArgs,
}

impl Stage {
    /// Certificates for CSRs, one principal a caller.
    pub(super) async fn issue(&self) -> Result<Measured> {
        let mut callers = Vec::new();
        for id in self.principals(PrincipalType::Worker).await? {
            callers.push((self.client.clone(), request(&id, &key(self.options.profile)?)?));
        }
        Ok(drive(callers, &self.args, |caller| async move {
            let (client, request) = &*caller.lock().await;
            let answer = client.certificates().issue_certificate(request.clone()).await;
            answer.map(|_| Some(1)).map_err(|status| status.to_string())
        })
        .await)
    }

    /// Each caller renews with what it got before, over a new connection.
    pub(super) async fn renew(&self) -> Result<Measured> {
        let mut callers = Vec::new();
        for id in self.principals(PrincipalType::Worker).await? {
            callers.push((self.options.clone(), self.identity(&id).await?));
        }
        Ok(drive(callers, &self.args, |caller| async move {
            let (options, identity) = &mut *caller.lock().await;
            let next = renew_once(options, identity.clone()).await.map_err(|error| error.to_string())?;
            *identity = next;
            Ok(Some(1))
        })
        .await)
    }

    /// Certificates that were issued for it are revoked one by one.
    pub(super) async fn revoke(&self) -> Result<Measured> {
        let serials = Arc::new(Mutex::new(self.revocable().await?));
        let callers = vec![(self.client.clone(), serials); self.args.callers.get()];
        Ok(drive(callers, &self.args, |caller| async move {
            let (client, serials) = &*caller.lock().await;
            let Some(serial_number) = serials.lock().await.pop_front() else { return Ok(None) };
            let request = RevokeCertificatesRequest { serial_number, ..RevokeCertificatesRequest::default() };
            let answer = client.certificates().revoke_certificates(request).await;
            answer.map(|_| Some(1)).map_err(|status| status.to_string())
        })
        .await)
    }

    /// New connections, each with a full handshake and the first bytes of the server.
    pub(super) async fn handshake(&self) -> Result<Measured> {
        let id = self.principals(PrincipalType::Worker).await?.remove(0);
        let options = ClientOptions {
            identity: Some(IdentitySource::Loaded(Box::new(self.identity(&id).await?))),
            ..self.options.clone()
        };
        // The first use of a certificate is noted in the store: not what is measured here.
        let client = Client::connect(options.clone()).await?;
        client.principals().who_am_i(airunner_proto::principal::v1::WhoAmIRequest {}).await?;
        let config = tls_config(&options)?;
        let address = options.server.address().to_owned();
        let host = options.server.host().to_owned();
        let callers = vec![(config, host, address); self.args.callers.get()];
        Ok(drive(callers, &self.args, |caller| async move {
            let (config, host, address) = &*caller.lock().await;
            shake_hands(config.clone(), host, address).await.map_err(|error| error.to_string())
        })
        .await)
    }

    /// Jobs through the queue: enqueued by the callers in batches, taken and completed by one worker.
    pub(super) async fn jobs(&self) -> Result<Measured> {
        let id = self.principals(PrincipalType::Worker).await?.remove(0);
        let options = ClientOptions {
            identity: Some(IdentitySource::Loaded(Box::new(self.identity(&id).await?))),
            ..self.options.clone()
        };
        let queue = format!("bench-{id}");
        let worker = tokio::spawn(work(Client::connect(options).await?, queue.clone()));
        let batch = self.args.batch.get();
        let callers = vec![(self.client.clone(), queue, batch); self.args.callers.get()];
        let measured = drive(callers, &self.args, |caller| async move {
            let (client, queue, batch) = &*caller.lock().await;
            enqueue_and_wait(client, queue, *batch).await.map_err(|error| error.to_string())
        })
        .await;
        worker.abort();
        Ok(measured)
    }

    /// A principal for each caller, whose certificates are not limited in number.
    async fn principals(&self, kind: PrincipalType) -> Result<Vec<String>> {
        let mut run = [0; 4];
        self.options.random.fill(&mut run);
        let ids: Vec<_> =
            (0..self.args.callers.get()).map(|n| format!("bench-{}-{n}", HEXLOWER.encode(&run))).collect();
        for id in &ids {
            let request = CreatePrincipalRequest {
                principal_id: id.clone(),
                r#type: kind as i32,
                max_certificates: Some(0),
                ..CreatePrincipalRequest::default()
            };
            self.client.principals().create_principal(request).await?;
        }
        Ok(ids)
    }

    async fn identity(&self, id: &str) -> Result<LoadedIdentity> {
        let key = key(self.options.profile)?;
        let issued = self.client.certificates().issue_certificate(request(id, &key)?).await?.into_inner();
        loaded(&issued.certificate.unwrap_or_default().pem, &issued.chain_pem, &key)
    }

    async fn revocable(&self) -> Result<VecDeque<String>> {
        let id = self.principals(PrincipalType::Worker).await?.remove(0);
        let request = request(&id, &key(self.options.profile)?)?;
        let all = Arc::new(std::sync::Mutex::new(VecDeque::new()));
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let (client, request, all) = (self.client.clone(), request.clone(), all.clone());
            tasks.spawn(async move {
                for _ in 0..REVOCABLE / 64 {
                    let issued = client.certificates().issue_certificate(request.clone()).await?.into_inner();
                    let serial = issued.certificate.unwrap_or_default().serial_number;
                    all.lock().unwrap_or_else(PoisonError::into_inner).push_back(serial);
                }
                Ok::<_, airunner_client::Error>(())
            });
        }
        // A slow store has fewer to revoke, and a slow one revokes fewer.
        let made = tokio::time::timeout(self.args.duration() * 4, async {
            while let Some(joined) = tasks.join_next().await {
                joined.map_err(Error::internal)??;
            }
            Ok::<_, airunner_client::Error>(())
        });
        made.await.unwrap_or(Ok(()))?;
        drop(tasks);
        let all = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(all)
    }
}

fn key(profile: TlsProfile) -> Result<PrivateKey> {
    let algorithm = match profile {
        TlsProfile::Default => KeyAlgorithm::EcdsaP256,
        TlsProfile::P384 => KeyAlgorithm::EcdsaP384,
    };
    Ok(PrivateKey::generate(algorithm)?)
}

fn request(id: &str, key: &PrivateKey) -> Result<IssueCertificateRequest> {
    let csr = create_csr(key)?;
    Ok(IssueCertificateRequest { principal_id: id.to_owned(), csr, ..IssueCertificateRequest::default() })
}

fn loaded(leaf_pem: &str, chain_pem: &str, key: &PrivateKey) -> Result<LoadedIdentity> {
    let chain = format!("{leaf_pem}{chain_pem}");
    Ok(LoadedIdentity::from_pem(chain.as_bytes(), key.to_pem(None)?.expose(), None, &[])?)
}

async fn renew_once(options: &ClientOptions, identity: LoadedIdentity) -> Result<LoadedIdentity> {
    let options = ClientOptions {
        identity: Some(IdentitySource::Loaded(Box::new(identity))),
        connections: 1,
        ..options.clone()
    };
    let client = Client::connect(options).await?;
    let key = key(client.profile())?;
    let request = RenewCertificateRequest { csr: create_csr(&key)? };
    let renewed = client.certificates().renew_certificate(request).await?.into_inner();
    loaded(&renewed.certificate.unwrap_or_default().pem, &renewed.chain_pem, &key)
}

fn tls_config(options: &ClientOptions) -> Result<Arc<rustls::ClientConfig>> {
    let identity = options.identity.clone().map(IdentitySource::load).transpose()?;
    let identity = identity.map(|identity| identity.tls(options.profile)).transpose()?;
    let roots = airunner_pki::certificates_from_pem(&options.roots_pem)?;
    let tls = airunner_net::ClientTls { profile: options.profile, roots, identity };
    Ok(airunner_net::client_config(tls, options.clock.clone())?)
}

async fn shake_hands(config: Arc<rustls::ClientConfig>, host: &str, address: &str) -> Result<Option<u64>> {
    let mut stream = airunner_net::connect(config, host, address).await?;
    // A server that has accepted our certificate answers the preface with its settings (RFC 9113 section 3.4).
    let unreachable = |error: std::io::Error| {
        Error::new(Label::Unreachable, format!("the server refused the handshake: {error}"))
    };
    stream.write_all(PREFACE).await.map_err(unreachable)?;
    let mut first = [0; 1];
    let read = stream.read(&mut first).await.map_err(unreachable)?;
    if read == 0 {
        return Err(Error::new(Label::Unreachable, "the server closed the connection").into());
    }
    Ok(Some(1))
}

async fn work(client: Client, queue: String) -> Result<()> {
    let request = DequeueJobsRequest { queues: vec![queue], max_jobs: 64, ..DequeueJobsRequest::default() };
    let mut line = client.jobs().dequeue_jobs(request).await?.into_inner();
    let (sender, mut claims) = tokio::sync::mpsc::channel::<String>(256);
    let completing = tokio::spawn(async move {
        let mut tokens = Vec::new();
        while claims.recv_many(&mut tokens, 64).await > 0 {
            let done = |task_token| Completion {
                task_token,
                outcome: Some(JobOutcome::Exited(Exit { how: Some(How::Code(0)) })),
                usage: None,
            };
            let completions = tokens.drain(..).map(done).collect();
            client.jobs().complete_jobs(CompleteJobsRequest { completions }).await?;
        }
        Ok::<_, airunner_client::Error>(())
    });
    while let Some(answer) = line.message().await? {
        if let Some(Message::Claim(claim)) = answer.message
            && sender.send(claim.task_token).await.is_err()
        {
            break;
        }
    }
    drop(sender);
    completing.await.map_err(Error::internal)?
}

async fn enqueue_and_wait(client: &Client, queue: &str, batch: usize) -> Result<Option<u64>> {
    let spec = JobSpec { queue: queue.to_owned(), command: "true".to_owned(), ..JobSpec::default() };
    let request = EnqueueJobsRequest { jobs: vec![spec; batch], request_id: String::new() };
    let ids = client.jobs().enqueue_jobs(request).await?.into_inner().job_ids;
    // The last of the batch is taken last: when it has ended, so have the others.
    let Some(last) = ids.last() else { return Ok(Some(0)) };
    let request = airunner_proto::job::v1::StreamEventsRequest {
        job_id: last.clone(),
        without_output: true,
        ..airunner_proto::job::v1::StreamEventsRequest::default()
    };
    let mut events = client.events().stream_events(request).await?.into_inner();
    while events.message().await?.is_some() {}
    Ok(Some(batch as u64))
}
