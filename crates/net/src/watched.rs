//! A connection's bytes under watch: how many the client has sent, and whether it takes any of those that we send. What
//! they mean is not looked at.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream that tells `hear` how many bytes it has read, and breaks when it could write nothing for `stall`.
pub(crate) struct Watched<I, F> {
    io: I,
    hear: F,
    stall: Duration,
    written: Waiting,
    flushed: Waiting,
}

/// The timer of one kind of step, while it waits. Steps are timed apart: a socket has nothing to flush, and would always
/// seem to get on.
type Waiting = Option<Pin<Box<Sleep>>>;

impl<I, F> Watched<I, F> {
    pub(crate) fn new(io: I, stall: Duration, hear: F) -> Self {
        Self { io, hear, stall, written: None, flushed: None }
    }
}

/// The outcome of a step, or the end of the patience with those that wait.
fn unless_stalled<T>(
    cx: &mut Context<'_>,
    outcome: Poll<io::Result<T>>,
    waiting: &mut Waiting,
    stall: Duration,
) -> Poll<io::Result<T>> {
    if outcome.is_ready() {
        *waiting = None;
        return outcome;
    }
    let timer = waiting.get_or_insert_with(|| Box::pin(sleep(stall)));
    timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
}

impl<I: AsyncRead + Unpin, F: Fn(usize) + Unpin> AsyncRead for Watched<I, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buffer);
        (self.hear)(buffer.filled().len() - before);
        outcome
    }
}

impl<I: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Watched<I, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.io).poll_write(cx, bytes);
        unless_stalled(cx, outcome, &mut this.written, this.stall)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.io).poll_flush(cx);
        unless_stalled(cx, outcome, &mut this.flushed, this.stall)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.io).poll_shutdown(cx);
        unless_stalled(cx, outcome, &mut this.flushed, this.stall)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        unless_stalled(cx, outcome, &mut this.written, this.stall)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
