//! A server's way to AWS, which can be cut as a whole, or for what concerns one table.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// As much as one read brings: a request that names a table is shorter.
const REQUEST: usize = 64 * 1024;

/// What passes.
enum Passing {
    /// What does not name this table, where one is named.
    Open {
        connections: JoinSet<()>,
        but: Option<&'static str>,
    },
    Nothing,
}

impl Passing {
    fn all() -> Self {
        Self::Open { connections: JoinSet::new(), but: None }
    }
}

pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    passing: Arc<Mutex<Passing>>,
    accepting: AbortHandle,
}

impl Line {
    pub(crate) async fn to(endpoint: &str) -> Self {
        let target = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passing = Arc::new(Mutex::new(Passing::all()));
        let accepting = tokio::spawn(accept(listener, target, passing.clone()));
        Self { address, passing, accepting: accepting.abort_handle() }
    }

    /// Ends every connection, and takes none.
    pub(crate) fn cut(&self) {
        *self.passing.lock().unwrap() = Passing::Nothing;
    }

    /// Ends every connection that asks for something of this table.
    pub(crate) fn silence(&self, table: &'static str) {
        if let Passing::Open { but, .. } = &mut *self.passing.lock().unwrap() {
            *but = Some(table);
        }
    }

    /// Lets everything pass again.
    pub(crate) fn mend(&self) {
        *self.passing.lock().unwrap() = Passing::all();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, passing: Arc<Mutex<Passing>>) {
    while let Ok((near, _)) = listener.accept().await {
        let pass = pass(near, target.clone(), passing.clone());
        if let Passing::Open { connections, .. } = &mut *passing.lock().unwrap() {
            connections.spawn(pass);
        }
    }
}

/// Passes on what goes through one connection, until either end or a table that is silent ends it.
async fn pass(near: TcpStream, target: String, passing: Arc<Mutex<Passing>>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let up = async {
        let mut bytes = vec![0; REQUEST];
        while let Ok(read @ 1..) = from_near.read(&mut bytes).await {
            let names = |table: &str| {
                let table = format!("\"{table}\"");
                bytes[..read].windows(table.len()).any(|window| window == table.as_bytes())
            };
            let is_open = match &*passing.lock().unwrap() {
                Passing::Open { but, .. } => !but.is_some_and(names),
                Passing::Nothing => false,
            };
            if !is_open || to_far.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ended = copy(&mut from_far, &mut to_near) => {}
    }
}
