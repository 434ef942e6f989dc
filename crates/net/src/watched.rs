//! A connection's bytes under watch: how many the client has sent, and whether it takes any of those that we send; and
//! what is left of the connection when it is over. What the bytes mean is not looked at.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream that tells `hear` how many bytes it has read, and breaks when it could write nothing for `stall`.
pub(crate) struct Watched<I, F> {
    /// There until the drop.
    io: Option<I>,
    hear: F,
    stall: Duration,
    written: Waiting,
    flushed: Waiting,
    leftover: Leftover<I>,
}

/// The stream, once whoever served it is done with it.
pub(crate) struct Leftover<I>(Arc<Mutex<Option<I>>>);

impl<I> Leftover<I> {
    pub(crate) fn take(&self) -> Option<I> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The timer of one kind of step, while it waits. Steps are timed apart: a socket has nothing to flush, and would always
/// seem to get on.
type Waiting = Option<Pin<Box<Sleep>>>;

impl<I, F> Watched<I, F> {
    pub(crate) fn new(io: I, stall: Duration, hear: F) -> (Self, Leftover<I>) {
        let leftover = Arc::new(Mutex::new(None));
        let watched = Self {
            io: Some(io),
            hear,
            stall,
            written: None,
            flushed: None,
            leftover: Leftover(leftover.clone()),
        };
        (watched, Leftover(leftover))
    }
}

impl<I, F> Drop for Watched<I, F> {
    fn drop(&mut self) {
        *self.leftover.0.lock().unwrap_or_else(PoisonError::into_inner) = self.io.take();
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
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
        let Some(io) = &mut self.io else { return gone() };
        let before = buffer.filled().len();
        let outcome = Pin::new(io).poll_read(cx, buffer);
        (self.hear)(buffer.filled().len() - before);
        outcome
    }
}

impl<I: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Watched<I, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(io) = &mut this.io else { return gone() };
        let outcome = Pin::new(io).poll_write(cx, bytes);
        unless_stalled(cx, outcome, &mut this.written, this.stall)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(io) = &mut this.io else { return gone() };
        let outcome = Pin::new(io).poll_flush(cx);
        unless_stalled(cx, outcome, &mut this.flushed, this.stall)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(io) = &mut this.io else { return gone() };
        let outcome = Pin::new(io).poll_shutdown(cx);
        unless_stalled(cx, outcome, &mut this.flushed, this.stall)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(io) = &mut this.io else { return gone() };
        let outcome = Pin::new(io).poll_write_vectored(cx, slices);
        unless_stalled(cx, outcome, &mut this.written, this.stall)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}
