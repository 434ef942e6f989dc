//! The SQLite backend: one file, one thread that writes in groups, a few that read, one that hears of changes.

mod certificate;
mod change;
mod error;
mod feed;
mod file;
mod job;
mod principal;
mod queue;
mod reader;
mod registry;
mod rows;
mod server;
mod writer;

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{Builder, JoinHandle},
};

use airunner_core::{ChangeNumber, Error, Label, Result, Stores};
use rusqlite::Connection;
use tokio::sync::oneshot;

use self::{
    error::{busy, store_error, unavailable},
    feed::Feed,
    queue::{Queue, Refusal},
    writer::{Intent, Waiting},
};
use crate::{
    engine::{self, Engine},
    output::SegmentOutput,
    rows::Rows,
};

/// Threads that read.
const READERS: usize = 3;

/// Where a SQLite store is, and what it may take.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file; it is created (mode 0600) if there is none. Its directory must exist.
    pub path: PathBuf,
    /// The directory of job output; it is created (mode 0700) if there is none.
    pub output_dir: PathBuf,
    /// Bytes of output that are kept of one job; older output goes.
    pub output_limit: u64,
    /// Bytes that the file may grow to; none is as far as the disk goes. Past it writes are refused (`store-full`).
    pub max_bytes: Option<u64>,
}

impl SqliteOptions {
    /// Bytes of output that are kept of one job unless something else is said: 1 GiB.
    pub const OUTPUT_LIMIT: u64 = 1024 * 1024 * 1024;

    /// The store in the file `path`, with output in `output_dir`, and the limits that hold by default.
    pub fn new(path: impl Into<PathBuf>, output_dir: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            output_dir: output_dir.into(),
            output_limit: Self::OUTPUT_LIMIT,
            max_bytes: None,
        }
    }
}

/// A store in a SQLite file. Several processes may have the same file open.
pub struct SqliteStore {
    stores: Stores,
    engine: Arc<SqliteEngine>,
    had_log: bool,
}

impl SqliteStore {
    /// Opens the file, creates or migrates it, and starts the store's threads. Blocks while it does: some
    /// milliseconds, longer where a log must be recovered.
    ///
    /// Fails with `file` where the file is another program's, damaged, of a newer version, writable for others, or
    /// can't be opened; the message says what to do.
    pub fn open(options: SqliteOptions) -> Result<Self> {
        file::prepare(&options.path)?;
        let log = with_suffix(&options.path, "-wal");
        let had_log = log.metadata().is_ok_and(|metadata| metadata.len() > 0);
        let engine = Arc::new(SqliteEngine::start(&options)?);
        let output = SegmentOutput::open(options.output_dir, options.output_limit)?;
        let stores = engine::stores(engine.clone(), Arc::new(output), Arc::default());
        Ok(Self { stores, engine, had_log })
    }

    /// Its ports. They answer `store-unavailable` after [`SqliteStore::close`].
    pub fn stores(&self) -> Stores {
        self.stores.clone()
    }

    /// Whether a write-ahead log lay beside the file: another process has it open, or the last one did not end
    /// cleanly. Then [`SqliteStore::quick_check`] is due, in the background.
    pub fn had_log(&self) -> bool {
        self.had_log
    }

    /// Looks for damage on a thread and a connection of its own; takes seconds on a large file. Fails (`internal`)
    /// where there is some.
    pub async fn quick_check(&self) -> Result<()> {
        let found = on_own_thread(&self.engine.path, "store-check", |connection| {
            let sql = "PRAGMA quick_check(1)";
            connection.query_row(sql, [], |row| row.get::<_, String>(0)).map_err(store_error)
        });
        match found.await?.as_str() {
            "ok" => Ok(()),
            damage => Err(Error::new(
                Label::Internal,
                "the store is damaged: restore a backup, or let `airunner-server db check` look at it",
            )
            .with_cause(damage)),
        }
    }

    /// Copies the store as it is now into a new file (mode 0600), while it is in use. Output is not copied. Fails
    /// (`file`) where there is a file already.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        let target = to.to_owned();
        on_own_thread(&self.engine.path, "store-backup", move |connection| {
            let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target);
            let refused = |error: std::io::Error| {
                file::file_error(format!("the backup {} can't be written: {error}", target.display()))
            };
            create().map_err(refused)?;
            let copied = connection.execute("VACUUM INTO ?1", [target.to_string_lossy()]);
            copied.map_err(store_error)?;
            File::open(&target).and_then(|file| file.sync_all()).map_err(refused)
        })
        .await
    }

    /// Commits what waits, answers everyone, and closes the file. Blocks until that is done.
    pub fn close(self) {
        self.engine.close();
    }
}

struct SqliteEngine {
    path: PathBuf,
    writes: Arc<Queue<Box<dyn Intent>>>,
    reads: Arc<Queue<reader::Read>>,
    feed: Arc<Feed>,
    reading: Mutex<Vec<JoinHandle<()>>>,
    writing: Mutex<Vec<JoinHandle<()>>>,
}

impl SqliteEngine {
    fn start(options: &SqliteOptions) -> Result<Self> {
        let engine = Self {
            path: options.path.clone(),
            writes: Arc::new(Queue::new(writer::QUEUE_LIMIT)),
            reads: Arc::new(Queue::new(reader::QUEUE_LIMIT)),
            feed: Arc::new(Feed::default()),
            reading: Mutex::default(),
            writing: Mutex::default(),
        };
        let connection = file::open_writer(&options.path, options.max_bytes)?;
        let (writes, feed) = (engine.writes.clone(), engine.feed.clone());
        let writer = spawn("store-writer", move || writer::serve(&connection, &writes, &feed))?;
        keep(&engine.writing, writer);
        for n in 1..=READERS {
            let connection = file::open_reader(&options.path)?;
            let reads = engine.reads.clone();
            let reader = spawn(&format!("store-reader-{n}"), move || reader::serve(&connection, &reads))?;
            keep(&engine.reading, reader);
        }
        let connection = file::open_reader(&options.path)?;
        let feed = engine.feed.clone();
        keep(&engine.reading, spawn("store-feed", move || feed.serve(&connection))?);
        Ok(engine)
    }

    /// Stops reading before writing: the last connection to go takes the log into the file, if it is the writer's.
    fn close(&self) {
        self.stop_reading();
        join(&self.reading);
        self.writes.close();
        join(&self.writing);
    }

    fn stop_reading(&self) {
        self.reads.close();
        self.feed.close();
    }
}

impl Drop for SqliteEngine {
    fn drop(&mut self) {
        self.stop_reading();
        self.writes.close();
    }
}

fn join(threads: &Mutex<Vec<JoinHandle<()>>>) {
    let threads = std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner));
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the store panicked");
        }
    }
}

impl Engine for SqliteEngine {
    const BATCH: usize = usize::MAX;
    // By triggers.
    const TELLS_OF_EDITS: bool = true;

    async fn write<T: Send + 'static>(
        &self,
        _intent: airunner_core::Intent,
        act: impl FnMut(&mut dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.writes.push(Waiting::boxed(act, reply)).map_err(|refusal| refused(&refusal))?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn read<T: Send + 'static>(
        &self,
        _intent: airunner_core::Intent,
        act: impl FnOnce(&dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.reads.push(reader::read(act, reply)).map_err(|refusal| refused(&refusal))?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn changed(&self, known: ChangeNumber) -> Result<()> {
        self.feed.changed(known).await
    }
}

fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Full => busy(),
        Refusal::Closed => closed(),
    }
}

fn closed() -> Error {
    unavailable("the store is closed, or a thread of it died: see the server's log")
}

fn keep(threads: &Mutex<Vec<JoinHandle<()>>>, thread: JoinHandle<()>) {
    threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(run).map_err(Error::internal)
}

/// Runs what takes long on a thread and a connection of its own.
async fn on_own_thread<T: Send + 'static>(
    path: &Path,
    name: &str,
    act: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
) -> Result<T> {
    let path = path.to_owned();
    let (reply, answer) = oneshot::channel();
    spawn(name, move || {
        let result = file::open_reader(&path).and_then(|connection| act(&connection));
        // Who no longer waits needs no answer.
        let _ = reply.send(result);
    })?;
    answer.await.unwrap_or_else(|_| Err(closed()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
