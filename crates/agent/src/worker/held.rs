//! A job that this worker holds: its lease, its outbox, and the way to whoever attends to it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airunner_core::{Monotonic, TerminalSize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;

/// A held job.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) job_id: String,
    pub(super) attempt: u32,
    /// Names the lease.
    pub(super) token: String,
    pub(super) outbox: Outbox,
    /// The lease is gone: the job is killed, and nothing more is said of it.
    pub(super) lost: CancellationToken,
    /// The server does not take the job's events: it is killed, and failed.
    pub(super) broken: CancellationToken,
    controls: mpsc::UnboundedSender<Control>,
    lease: Mutex<Lease>,
    told: Mutex<Told>,
}

/// What is asked of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Stop it.
    Cancel(Cancel),
    /// Write this to its standard input, and end that if so.
    Input { bytes: Vec<u8>, end: bool },
    /// Give its terminal this size.
    Resize(TerminalSize),
}

/// How a job is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cancel {
    pub(super) signal: i32,
    pub(super) grace: Duration,
}

#[derive(Debug)]
struct Lease {
    length: Duration,
    since: Monotonic,
}

/// What the lines have told of this job. A new line tells everything again that still holds.
#[derive(Debug, Default)]
struct Told {
    line: u64,
    /// Pieces of input that the present line told, and that were passed on at all.
    inputs: u64,
    passed_on: u64,
    cancel: Option<(u64, Cancel)>,
}

impl Held {
    /// The lease of `length` that came at `now`, with the receiver of what is asked of it.
    pub(super) fn new(
        (job_id, attempt, token): (String, u32, String),
        (length, now): (Duration, Monotonic),
        outbox: Outbox,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Control>) {
        let (controls, receiver) = mpsc::unbounded_channel();
        let held = Self {
            job_id,
            attempt,
            token,
            outbox,
            lost: CancellationToken::new(),
            broken: CancellationToken::new(),
            controls,
            lease: Mutex::new(Lease { length, since: now }),
            told: Mutex::default(),
        };
        (Arc::new(held), receiver)
    }

    /// The lease is gone.
    pub(super) fn lose(&self) {
        self.lost.cancel();
        self.outbox.abandon();
    }

    /// The server does not take the events.
    pub(super) fn break_off(&self, why: &str) {
        self.outbox.fail(why);
        self.broken.cancel();
    }

    /// A line tells to stop the job.
    pub(super) fn cancel(&self, line: u64, cancel: Cancel) {
        let mut told = lock(&self.told);
        let is_repeated = told.cancel.is_some_and(|(earlier, last)| earlier != line && last == cancel);
        told.cancel = Some((line, cancel));
        if !is_repeated {
            // Whoever attended to the job may be done with it.
            let _done = self.controls.send(Control::Cancel(cancel));
        }
    }

    /// A line tells a piece of input, or a size, which is one too. Each line begins with the first.
    pub(super) fn input(&self, line: u64, piece: Control) {
        let mut told = lock(&self.told);
        if told.line != line {
            (told.line, told.inputs) = (line, 0);
        }
        told.inputs += 1;
        if told.inputs > told.passed_on {
            told.passed_on = told.inputs;
            let _done = self.controls.send(piece);
        }
    }

    /// The lease was extended, by a request that was sent at `since`.
    pub(super) fn extended(&self, since: Monotonic) {
        lock(&self.lease).since = since;
    }

    /// Whether a third of the lease is over.
    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        let lease = lock(&self.lease);
        now.since(lease.since) >= lease.length / 3
    }

    /// Whether the lease is over as far as is known here.
    pub(super) fn is_over(&self, now: Monotonic) -> bool {
        let lease = lock(&self.lease);
        now.since(lease.since) >= lease.length
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> (Arc<Held>, mpsc::UnboundedReceiver<Control>) {
        let outbox = Outbox::new(1, 1_000, None, Duration::ZERO, Arc::default());
        let lease = (Duration::from_secs(30), Monotonic::default());
        Held::new(("job".to_owned(), 1, "token".to_owned()), lease, outbox)
    }

    fn input(bytes: &str) -> Control {
        Control::Input { bytes: bytes.into(), end: false }
    }

    #[test]
    fn a_new_line_repeats_input_and_nothing_is_written_twice() {
        let (held, mut controls) = held();
        for (line, piece) in [(1, "a"), (1, "b"), (2, "a"), (2, "b"), (2, "c"), (3, "a")] {
            held.input(line, input(piece));
        }
        let told: Vec<_> = std::iter::from_fn(|| controls.try_recv().ok()).collect();
        assert_eq!(told, [input("a"), input("b"), input("c")]);
    }

    #[test]
    fn a_new_line_repeats_a_cancellation_and_a_second_wish_counts() {
        let (held, mut controls) = held();
        let term = Cancel { signal: 15, grace: Duration::from_secs(10) };
        let kill = Cancel { signal: 9, grace: Duration::ZERO };
        for (line, cancel) in [(1, term), (2, term), (2, term), (3, kill), (4, kill)] {
            held.cancel(line, cancel);
        }
        let told: Vec<_> = std::iter::from_fn(|| controls.try_recv().ok()).collect();
        assert_eq!(told, [term, term, kill].map(Control::Cancel));
    }

    #[test]
    fn a_lease_is_due_at_a_third_and_over_at_its_end() {
        let at = |seconds| Monotonic::new(Duration::from_secs(seconds));
        let (held, _controls) = held();
        assert!(!held.is_due(at(9)) && held.is_due(at(10)));
        assert!(!held.is_over(at(29)) && held.is_over(at(30)));
        held.extended(at(25));
        assert!(!held.is_due(at(34)) && !held.is_over(at(54)) && held.is_over(at(55)));
    }
}
