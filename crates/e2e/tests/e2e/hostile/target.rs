//! A server in a process of its own, so that what an attack costs it can be read off, and its end be seen.

use std::{io::Write as _, net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use airunner_e2e::{RawClient, TestServer};
use airunner_net::{ClientStream, ClientTls, TlsIdentity, TlsProfile, client_config, system::SystemClock};
use airunner_pki::{PrivateKey, certificate_to_pem, certificates_from_pem};
use airunner_proto::ca::v1::{IssueCertificateRequest, IssueCertificateResponse};
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use super::wire::{Http1, Http2};
use crate::calls::*;

/// How much more memory than at its start a server may ever have taken, KiB: what its connections may hold is less, and
/// what an attacker could have filled is more.
const GROWTH: u64 = 96 * 1024;
/// How long an answer to anything may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The folder in which the process finds and leaves what it has to.
const FOLDER: &str = "AIRUNNER_HOSTILE_FOLDER";

pub(super) struct Target {
    child: Child,
    folder: TempDir,
    pub(super) api: SocketAddr,
    pub(super) public: SocketAddr,
    pub(super) plain: SocketAddr,
    started_at: u64,
}

/// The process: not a test, but what tests start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the server that the tests of this module start"]
async fn serves_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let server = TestServer::start().await;
    let write = |name: &str, bytes: &[u8]| std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    write("root.pem", server.roots_pem().as_bytes());
    let chain: String = server.admin.chain.iter().map(|der| certificate_to_pem(der)).collect();
    write("chain.pem", chain.as_bytes());
    write("key.pem", server.admin.key.to_pem(None).unwrap().expose());
    let addresses = server.addresses;
    let line = format!("\nready {} {} {}\n", addresses.api, addresses.public.unwrap(), addresses.plain);
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    // Until whoever started this process closes its end, or is gone.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await
        .unwrap()
        .unwrap();
    server.stop().await;
}

impl Target {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hostile::target::serves_in_a_process_of_its_own", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addresses: Vec<SocketAddr> = loop {
            let line = lines.next_line().await.unwrap().expect("a server that starts");
            if let Some(rest) = line.strip_prefix("ready ") {
                break rest.split(' ').map(|address| address.parse().unwrap()).collect();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let [api, public, plain] = addresses[..] else { panic!("{addresses:?}") };
        let mut target = Self { child, folder, api, public, plain, started_at: 0 };
        target.admin().await.probe(WHO_AM_I).await.unwrap();
        target.started_at = target.memory("VmRSS:");
        target
    }

    /// The next caller is served as ever, on a connection of its own, and the process has not grown.
    pub(super) async fn is_unharmed(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the server has ended");
        let served =
            tokio::time::timeout(PATIENCE, async { self.admin().await.probe(WHO_AM_I).await.unwrap() });
        assert_eq!(served.await.expect("the next caller is served").code, tonic::Code::Ok);
        let grown = self.memory("VmHWM:").saturating_sub(self.started_at);
        assert!(grown < GROWTH, "the server has grown by {grown} KiB");
    }

    /// The first admin's client.
    pub(super) async fn admin(&self) -> RawClient {
        RawClient::connect(Arc::new(self.tls()), &self.api.to_string()).await.unwrap()
    }

    /// A client without a certificate, at the public listener.
    pub(super) async fn stranger(&self) -> RawClient {
        RawClient::connect(Arc::new(self.strangers_tls()), &self.public.to_string()).await.unwrap()
    }

    /// The client of another principal, which gets a certificate as anyone does.
    pub(super) async fn client_of(&self, id: &str) -> RawClient {
        let (key, csr) = key_and_csr();
        let request = IssueCertificateRequest { principal_id: id.to_owned(), csr, ..Default::default() };
        let issued: IssueCertificateResponse = self.admin().await.ask(ISSUE, &request).await;
        let pem = format!("{}{}", issued.certificate.unwrap().pem, issued.chain_pem);
        let chain = certificates_from_pem(pem.as_bytes()).unwrap();
        let identity = TlsIdentity::from_der(chain, &key.to_pkcs8(), TlsProfile::Default).unwrap();
        RawClient::connect(Arc::new(self.config(Some(identity))), &self.api.to_string()).await.unwrap()
    }

    /// A TLS client that shows the first admin's certificate.
    pub(super) fn tls(&self) -> ClientConfig {
        let key = PrivateKey::from_pem(&self.file("key.pem"), None).unwrap();
        let chain = certificates_from_pem(&self.file("chain.pem")).unwrap();
        let identity = TlsIdentity::from_der(chain, &key.to_pkcs8(), TlsProfile::Default).unwrap();
        self.config(Some(identity))
    }

    /// A TLS client that shows none.
    pub(super) fn strangers_tls(&self) -> ClientConfig {
        self.config(None)
    }

    /// The first admin's chain, DER.
    pub(super) fn chain(&self) -> Vec<Vec<u8>> {
        certificates_from_pem(&self.file("chain.pem")).unwrap()
    }

    /// Where the files of the first admin are: `root.pem`, `chain.pem`, `key.pem`.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An HTTP/2 connection of the first admin, on which nothing has been said.
    pub(super) async fn http2(&self) -> Http2<ClientStream> {
        Http2(self.stream(self.tls(), b"h2", self.api).await)
    }

    /// An HTTP/1.1 connection of the first admin.
    pub(super) async fn http1(&self) -> Http1<ClientStream> {
        Http1(self.stream(self.tls(), b"http/1.1", self.api).await)
    }

    /// An HTTP/1.1 connection of a stranger to the public listener.
    pub(super) async fn strangers_http1(&self) -> Http1<ClientStream> {
        Http1(self.stream(self.strangers_tls(), b"http/1.1", self.public).await)
    }

    /// A connection to the plain listener.
    pub(super) async fn plain_http1(&self) -> Http1<TcpStream> {
        Http1(TcpStream::connect(self.plain).await.unwrap())
    }

    async fn stream(&self, mut tls: ClientConfig, protocol: &[u8], address: SocketAddr) -> ClientStream {
        tls.alpn_protocols = vec![protocol.to_vec()];
        airunner_net::connect(Arc::new(tls), "localhost", &address.to_string()).await.unwrap()
    }

    fn config(&self, identity: Option<TlsIdentity>) -> ClientConfig {
        let roots = certificates_from_pem(&self.file("root.pem")).unwrap();
        let tls = ClientTls { profile: TlsProfile::Default, roots, identity };
        (*client_config(tls, Arc::new(SystemClock)).unwrap()).clone()
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    /// A line of the process's status, in KiB.
    fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let value = status.lines().find_map(|it| it.strip_prefix(line)).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
