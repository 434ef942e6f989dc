//! The way from everyone to the server, which can be cut, or left open while nothing passes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// As much as is passed on at a time.
const PIECE: usize = 16 * 1024;

pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// None while nobody may connect.
    connections: Mutex<Option<JoinSet<()>>>,
    passes: watch::Sender<bool>,
}

impl Line {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            target: target.into(),
            connections: Some(JoinSet::new()).into(),
            passes: watch::Sender::new(true),
        });
        let line = Self { address: listener.local_addr().unwrap(), shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, passes) = (*shared.target.lock().unwrap(), shared.passes.subscribe());
                if let Some(connections) = shared.connections.lock().unwrap().as_mut() {
                    connections.spawn(carry(near, target, passes));
                }
            }
        });
        line
    }

    /// The server is elsewhere now.
    pub(crate) fn leads_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Ends every connection, and takes none.
    pub(crate) fn cut(&self) {
        self.shared.connections.lock().unwrap().take();
    }

    /// Leaves every connection open, and passes nothing on.
    pub(crate) fn hang(&self) {
        self.shared.passes.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.shared.connections.lock().unwrap().get_or_insert_default();
        self.shared.passes.send_replace(true);
    }
}

async fn carry(near: TcpStream, target: SocketAddr, passes: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pass(from_near, to_far, passes.clone()) => {}
        () = pass(from_far, to_near, passes) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passes: watch::Receiver<bool>) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let is_open = passes.wait_for(|passes| *passes).await.is_ok();
        if !is_open || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
