//! The terminal here at the terminal of a job: keys go there as they are pressed, and its size with them. What the job
//! prints is written by `attach`.

use std::io;

use airunner_client::{Client, FollowFrom};
use airunner_core::{Error, Label};
use airunner_proto::job::v1::Terminal;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{
    attach::{self, Outcome},
    input::{self, Writer},
};
use crate::{
    context::Context,
    failure::{Failure, Result},
    report::Output,
    runtime::Signals,
};

/// Where the size here is not known.
const SIZE: Terminal = Terminal { rows: 24, columns: 80 };
/// Pieces that wait to be sent: while the server is away, one types so far ahead and no further.
const AHEAD: usize = 1_024;

/// The size of the terminal here; of an ordinary one where there is none.
pub(super) fn size() -> Terminal {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    let known = size.ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    known.map_or(SIZE, |size| Terminal { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

/// The terminal passes every key on, and changes nothing that is printed, until this is dropped: then it is as it was.
pub(super) struct Raw {
    before: Termios,
    raw: Termios,
}

impl Raw {
    fn enter() -> Result<Self> {
        let failed = |error| Error::new(Label::File, format!("the terminal can't be read: {error}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Self { before, raw })
    }

    /// Does what writes lines of its own to the terminal.
    pub(super) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        // A terminal that has gone shows nothing either way.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
        let done = work();
        let _gone = tcsetattr(io::stdin(), OptionalActions::Drain, &self.raw);
        done
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Sits at the job's terminal until the job ends, `~.` is typed or a signal comes.
pub(super) async fn sit_at(
    context: &Context,
    client: &Client,
    job_id: &str,
    from: FollowFrom,
    take: bool,
    signals: &mut Signals,
) -> Result<Outcome> {
    let mut resized = signal(SignalKind::window_change()).map_err(Error::internal)?;
    let raw = Raw::enter()?;
    let (detach, detached) = oneshot::channel::<()>();
    let stop = async {
        tokio::select! {
            failure = signals.next() => failure,
            _ = detached => Failure::Detached,
        }
    };
    let (pieces, queue) = mpsc::channel(AHEAD);
    // Whoever comes to a job that runs already brings the size of his own terminal.
    let _room = pieces.try_send(Piece::Size(size()));
    let writer = Writer::new(context, client, job_id, take);
    let sending = async {
        if let Err(error) = send(writer, queue).await {
            let way = format!("; to take it over: airunner-cli job attach {job_id} --input --take");
            let way = if error.is(Label::InputTaken) { &way } else { "" };
            raw.aside(|| context.output.note(&format!("airunner: what is typed is not sent: {error}{way}")));
        }
    };
    let reading = async {
        read(context.output, &raw, &pieces).await;
        drop(detach);
    };
    let resizing = async {
        while resized.recv().await.is_some() {
            let _full = pieces.try_send(Piece::Size(size()));
        }
    };
    let watching = attach::watch(client, context.output, job_id, from, Some(&raw), stop);
    // The outcome is the watcher's, whatever becomes of the keys.
    let typing = async {
        tokio::join!(sending, reading, resizing);
        std::future::pending().await
    };
    tokio::select! {
        outcome = watching => outcome,
        never = typing => never,
    }
}

/// What is sent to the job.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Size(Terminal),
}

/// Sends the pieces in their order; bytes that wait go together. Ends with the job.
async fn send(
    mut writer: Writer<'_>,
    mut queue: mpsc::Receiver<Piece>,
) -> Result<(), airunner_client::Error> {
    let mut next = queue.recv().await;
    while let Some(piece) = next.take() {
        let sent = match piece {
            Piece::Size(size) => writer.resize(size).await,
            Piece::Bytes(mut bytes) => {
                while let Ok(piece) = queue.try_recv() {
                    match piece {
                        Piece::Bytes(more) if bytes.len() + more.len() <= input::PIECE => bytes.extend(more),
                        other => {
                            next = Some(other);
                            break;
                        }
                    }
                }
                writer.write(bytes, false).await
            }
        };
        match sent {
            Err(error) if error.is(Label::JobEnded) => return Ok(()),
            sent => sent?,
        }
        if next.is_none() {
            next = queue.recv().await;
        }
    }
    Ok(())
}

/// Takes what is typed, until `~.` or the end of the terminal.
async fn read(output: Output, raw: &Raw, pieces: &mpsc::Sender<Piece>) {
    let mut keys = input::read_stdin();
    let mut escape = Escape::default();
    while let Some(Ok(typed)) = keys.recv().await {
        if typed.is_empty() {
            return;
        }
        let (bytes, wish) = escape.take(&typed);
        if !bytes.is_empty() {
            // Nobody who types gets so far ahead unless the server is away: then keys are dropped, and `~.` still works.
            let _full = pieces.try_send(Piece::Bytes(bytes));
        }
        match wish {
            Some(Wish::Detach) => return,
            Some(Wish::Help) => raw.aside(|| output.note(HELP)),
            None => {}
        }
    }
}

const HELP: &str = "~.  leave the job alone, and this   ~~  type a ~   ~?  this   (each where a line begins)";

/// What is asked of us, and not of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Detach,
    Help,
}

/// Finds what is typed for us: a tilde where a line begins, and a letter.
#[derive(Debug)]
struct Escape {
    begins_line: bool,
    after_tilde: bool,
}

impl Default for Escape {
    fn default() -> Self {
        Self { begins_line: true, after_tilde: false }
    }
}

impl Escape {
    /// What of it is the job's, up to a wish.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, Option<Wish>) {
        let mut bytes = Vec::with_capacity(typed.len());
        let mut wish = None;
        for byte in typed {
            if self.after_tilde {
                self.after_tilde = false;
                match byte {
                    b'.' => return (bytes, Some(Wish::Detach)),
                    b'?' => {
                        wish = Some(Wish::Help);
                        continue;
                    }
                    b'~' => {}
                    _ => bytes.push(b'~'),
                }
            } else if self.begins_line && *byte == b'~' {
                self.after_tilde = true;
                continue;
            }
            bytes.push(*byte);
            self.begins_line = matches!(byte, b'\r' | b'\n');
        }
        (bytes, wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(pieces: &[&str]) -> (String, Option<Wish>) {
        let mut escape = Escape::default();
        let mut all = Vec::new();
        for piece in pieces {
            let (bytes, wish) = escape.take(piece.as_bytes());
            all.extend(bytes);
            if wish.is_some() {
                return (String::from_utf8(all).unwrap(), wish);
            }
        }
        (String::from_utf8(all).unwrap(), None)
    }

    #[test]
    fn a_tilde_where_a_line_begins_is_ours() {
        let left = |before: &str| (before.to_owned(), Some(Wish::Detach));
        assert_eq!(typed(&["~."]), left(""));
        assert_eq!(typed(&["ls\r", "~", "."]), left("ls\r"));
        assert_eq!(typed(&["~?"]), (String::new(), Some(Wish::Help)));
        assert_eq!(typed(&["~~."]), ("~.".to_owned(), None));
        assert_eq!(typed(&["~", "x"]), ("~x".to_owned(), None));
        assert_eq!(typed(&["cd ~."]), ("cd ~.".to_owned(), None), "in a line it is a letter");
    }
}
