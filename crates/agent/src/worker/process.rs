//! A job's processes while they run: what is asked of them meanwhile, and why they were stopped.

use std::{sync::Arc, time::Duration};

use airunner_core::TerminalSize;
use airunner_exec::{Exit, Job, STOP_GRACE, Signal};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use super::{
    held::{Cancel, Control, Held},
    shared::Shared,
    used::Used,
};

/// Why a job's processes were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Someone asked.
    Cancelled,
    /// They ran longer than they may.
    TimedOut,
    /// The worker ends.
    Shutdown,
    /// The server does not take the job's events.
    Broken,
    /// The lease is gone.
    Lost,
}

/// A piece of standard input, and whether it is the last.
pub(super) type Piece = (Vec<u8>, bool);

/// Attends to the processes of one job, one after the other.
pub(super) struct Attendant {
    pub(super) shared: Arc<Shared>,
    pub(super) held: Arc<Held>,
    /// Why the job was stopped, once it was: then nothing more of it is started.
    pub(super) stopped: Option<Stopped>,
    /// What they used.
    pub(super) used: Used,
    controls: mpsc::UnboundedReceiver<Control>,
    pieces: mpsc::UnboundedSender<Piece>,
    /// What the terminal is to be, if that was said before there was one.
    size: Option<TerminalSize>,
}

impl Attendant {
    /// With the receiver of the standard input.
    pub(super) fn new(
        shared: Arc<Shared>,
        held: Arc<Held>,
        controls: mpsc::UnboundedReceiver<Control>,
    ) -> (Self, mpsc::UnboundedReceiver<Piece>) {
        let (pieces, receiver) = mpsc::unbounded_channel();
        (Self { shared, held, stopped: None, used: Used::default(), controls, pieces, size: None }, receiver)
    }

    /// Waits for `wanted`, before anything runs; none if the job was stopped first.
    pub(super) async fn before<T>(&mut self, wanted: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(wanted);
        while self.stopped.is_none() {
            tokio::select! {
                biased;
                () = self.held.lost.cancelled() => self.stopped = Some(Stopped::Lost),
                Some(control) = self.controls.recv() => {
                    if self.note(control).is_some() {
                        self.stopped = Some(Stopped::Cancelled);
                    }
                }
                () = self.shared.draining.cancelled() => self.stopped = Some(Stopped::Shutdown),
                wanted = &mut wanted => return Some(wanted),
            }
        }
        None
    }

    /// Attends to a process until nothing of its group is left. After `limit` it is stopped, as timed out.
    pub(super) async fn attend(&mut self, job: &Job, limit: Option<Duration>) -> Exit {
        let Self { shared, held, .. } = self;
        let (shared, held) = (Arc::clone(shared), Arc::clone(held));
        let over = async {
            match limit {
                Some(limit) => shared.clock.sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        let mut timed_out = false;
        loop {
            // What fetches a repository has no terminal: the size waits for the command.
            if self.size.is_some_and(|size| job.resize(size.rows, size.columns).is_ok()) {
                self.size = None;
            }
            let is_lost = self.stopped == Some(Stopped::Lost);
            tokio::select! {
                biased;
                completion = job.wait() => {
                    self.used.add(job, &completion);
                    return completion.exit;
                }
                () = held.lost.cancelled(), if !is_lost => self.kill(job, Stopped::Lost),
                () = held.broken.cancelled(), if self.stopped.is_none() => self.kill(job, Stopped::Broken),
                () = shared.kill.cancelled(), if self.stopped.is_none() => self.kill(job, Stopped::Shutdown),
                () = &mut over, if !timed_out => {
                    timed_out = true;
                    self.stopped.get_or_insert(Stopped::TimedOut);
                    ask(job, Signal::Term, STOP_GRACE);
                }
                Some(control) = self.controls.recv() => {
                    if let Some(cancel) = self.note(control) {
                        self.stopped.get_or_insert(Stopped::Cancelled);
                        ask(job, Signal::from_number(cancel.signal).unwrap_or_default(), cancel.grace);
                    }
                }
            }
        }
    }

    fn kill(&mut self, job: &Job, why: Stopped) {
        self.stopped = Some(why);
        ask(job, Signal::Kill, Duration::ZERO);
    }

    /// Passes input on, and keeps a size for when there is a terminal; a wish to stop is the caller's.
    fn note(&mut self, control: Control) -> Option<Cancel> {
        match control {
            Control::Cancel(cancel) => Some(cancel),
            Control::Input { bytes, end } => {
                // A job without standard input has nobody who reads it.
                let _nobody = self.pieces.send((bytes, end));
                None
            }
            Control::Resize(size) => {
                self.size = Some(size);
                None
            }
        }
    }
}

/// Asks for the end, which whoever waits for the job sees.
fn ask(job: &Job, signal: Signal, grace: Duration) {
    // The wish is sent with the first look at the future.
    let _waiting = job.stop(signal, grace).now_or_never();
}
