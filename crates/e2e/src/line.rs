//! A way to a server or a service that a test can cut, leave hanging, or close to what speaks of one thing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// As much as one read brings: a request that is to be found by a word in it is shorter.
const PIECE: usize = 64 * 1024;

/// A line on loopback. It ends with this.
pub struct Line {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// None while nobody may connect.
    connections: Mutex<Option<JoinSet<()>>>,
    passing: watch::Sender<Passing>,
}

/// What passes.
#[derive(Clone, Copy)]
enum Passing {
    All,
    /// What does not hold this text.
    AllBut(&'static str),
    /// Nothing, for now.
    Hanging,
}

impl Line {
    /// A line to `target`.
    ///
    /// # Panics
    /// Where no port is to be had.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared {
            target: target.into(),
            connections: Some(JoinSet::new()).into(),
            passing: watch::Sender::new(Passing::All),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, shared, accepting }
    }

    /// Where it begins.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server is elsewhere now.
    pub fn leads_to(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// Ends every connection, and takes none.
    pub fn cut(&self) {
        lock(&self.shared.connections).take();
    }

    /// Leaves every connection open, and passes nothing on.
    pub fn hang(&self) {
        self.shared.passing.send_replace(Passing::Hanging);
    }

    /// Ends every connection that sends this text.
    pub fn close_to(&self, text: &'static str) {
        self.shared.passing.send_replace(Passing::AllBut(text));
    }

    /// Lets everything pass again.
    pub fn mend(&self) {
        lock(&self.shared.connections).get_or_insert_default();
        self.shared.passing.send_replace(Passing::All);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((near, _)) = listener.accept().await {
        let (target, passing) = (*lock(&shared.target), shared.passing.subscribe());
        if let Some(connections) = lock(&shared.connections).as_mut() {
            connections.spawn(carry(near, target, passing));
        }
    }
}

/// Carries one connection, until either end or what does not pass ends it.
async fn carry(near: TcpStream, target: SocketAddr, passing: watch::Receiver<Passing>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pass(from_near, to_far, passing.clone()) => {}
        () = pass(from_far, to_near, passing) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passing: watch::Receiver<Passing>) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let piece = &piece[..length];
        let passes = match passing.wait_for(|passing| !matches!(passing, Passing::Hanging)).await.as_deref() {
            Ok(Passing::AllBut(text)) => !piece.windows(text.len()).any(|window| window == text.as_bytes()),
            Ok(_) => true,
            Err(_) => false,
        };
        if !passes || to.write_all(piece).await.is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
