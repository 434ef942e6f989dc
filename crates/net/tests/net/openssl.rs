//! `openssl s_client` as the client.

use std::{path::Path, process::Stdio};

use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    bed::{Bed, soon},
    ca::Leaf,
};

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Files for s_client and what it said.
pub(crate) struct SClient {
    pub(crate) folder: TempDir,
}

impl SClient {
    pub(crate) fn new(bed: &Bed, leaf: Option<&Leaf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("root.pem", &bed.ca.root_pem());
        if let Some(leaf) = leaf {
            write("chain.pem", &leaf.chain_pem);
            write("key.pem", &leaf.key_pem);
        }
        Self { folder }
    }

    /// All that s_client says while it asks for `/hello` over HTTP/1.1, until the server hangs up.
    pub(crate) async fn says(&self, address: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.current_dir(self.folder.path());
        command.args(["s_client", "-connect", address, "-CAfile", "root.pem", "-verify_return_error"]);
        command.args(["-servername", "localhost", "-ign_eof", "-nocommands"]);
        if self.has("chain.pem") {
            command.args(["-cert", "chain.pem", "-cert_chain", "chain.pem", "-key", "key.pem"]);
        }
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A handshake that fails early closes this pipe.
        let _closed = stdin.write_all(REQUEST).await;
        let output = soon(child.wait_with_output()).await.unwrap();
        drop(stdin);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

/// What s_client says to `bed`, showing `leaf`.
pub(crate) async fn s_client(bed: &Bed, leaf: Option<&Leaf>, arguments: &[&str]) -> String {
    SClient::new(bed, leaf).says(&bed.address.to_string(), arguments).await
}
