//! HTTP/1.1 and HTTP/2 on one connection: limits, keep-alive, idle time, drain and close. Routes and calls are the
//! service's.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::FutureExt;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    rt::Executor,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use airunner_core::BoxError;

use crate::{ConnectionHandle, Limits, handshake::linger, watched::Watched};

/// The length of the HTTP/2 preface (RFC 9113 section 3.4): what has sent less, and no request, has said nothing.
const PREFACE: usize = 24;
/// The least that hyper takes as the size of its HTTP/1 buffer.
const LEAST_BUFFER: usize = 8 * 1024;
/// How many times the idle time is looked at before it is over.
const IDLE_LOOKS: u32 = 4;
/// How much a client may still send after it was told that it is over: a body that is larger than it may be.
const LINGER_BYTES: u64 = 16 * 1024 * 1024;

/// Serves `service` on a connection to its end: until the client leaves, the connection has been idle for too long,
/// or `handle` has drained or closed it.
pub async fn serve_http<I, S, B>(io: I, service: S, limits: &Limits, handle: &ConnectionHandle)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let activity = Arc::new(Activity::default());
    let heard = Arc::clone(&activity);
    let (io, leftover) = Watched::new(io, limits.stall_timeout, move |bytes| heard.hear(bytes));
    let begun = Arc::clone(&activity);
    let counted = service_fn(move |request| {
        let open = OpenRequest::begin(&begun);
        let answer = service.call(request);
        async move {
            let response = answer.await?;
            Ok::<_, S::Error>(response.map(|body| OpenBody { body, _open: open }))
        }
    });
    let builder = builder(limits, handle);
    let connection = builder.serve_connection(TokioIo::new(io), counted);
    let ended = run(connection, &activity, limits, handle).await;
    // What was said last should arrive. Who is drained or closed has been told already.
    if ended == Ended::ByItself
        && let Some(io) = leftover.take()
    {
        linger(io, LINGER_BYTES).await;
    }
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By what the client did, or by what was answered.
    ByItself,
    /// By its handle, or because it was idle.
    ByOrder,
}

/// Drives the connection to its end.
async fn run<C>(connection: C, activity: &Activity, limits: &Limits, handle: &ConnectionHandle) -> Ended
where
    C: GracefulConnection<Error = BoxError>,
{
    tokio::pin!(connection);
    let (closed, drained) = (handle.closed(), handle.drained());
    tokio::pin!(closed, drained);
    let mut has_stepped_back = false;
    let timer = sleep(limits.header_read_timeout);
    tokio::pin!(timer);
    let mut idle: Option<IdleWatch> = None;
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = &mut closed => {
                // One turn to say GOAWAY, so that the client does not take the connection for reusable.
                connection.as_mut().graceful_shutdown();
                let _unfinished = connection.as_mut().now_or_never();
                return Ended::ByOrder;
            }
            ended = stepping_back(connection.as_mut(), activity, &mut has_stepped_back) => {
                if let Err(error) = ended {
                    tracing::debug!(error, "connection ended");
                }
                return if draining { Ended::ByOrder } else { Ended::ByItself };
            }
            () = &mut drained, if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut timer, if !draining => {
                let over = match &mut idle {
                    None => activity.is_silent(),
                    Some(idle) => idle.is_over(activity),
                };
                if over {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                } else {
                    idle.get_or_insert_with(|| IdleWatch::from_now(activity));
                    timer.set(sleep(limits.idle_timeout / IDLE_LOOKS));
                }
            }
        }
    }
}

/// Polls the connection every second time while several requests are open, after whatever else is ready to run:
/// answers that become ready together leave in one write.
fn stepping_back<C: Future>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    has_stepped_back: &mut bool,
) -> impl Future<Output = C::Output> {
    poll_fn(move |cx| {
        *has_stepped_back = !*has_stepped_back && activity.open.load(Ordering::Relaxed) > 1;
        if *has_stepped_back {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        connection.as_mut().poll(cx)
    })
}

fn builder(limits: &Limits, handle: &ConnectionHandle) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(Tracked(handle.tasks().clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(LEAST_BUFFER.max(limits.max_header_list as usize));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_list)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buf_size(limits.max_send_buffer)
        .max_pending_accept_reset_streams(limits.max_pending_resets)
        .max_local_error_reset_streams(limits.max_error_resets);
    builder
}

/// Runs HTTP/2 requests as tasks that the listener's shutdown waits for.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// What has happened on a connection. Counted without a clock, since every request passes here.
#[derive(Default)]
struct Activity {
    received: AtomicUsize,
    open: AtomicUsize,
    ended: AtomicUsize,
}

impl Activity {
    /// Counts what the client has said, until that is a preface's length.
    fn hear(&self, bytes: usize) {
        if self.received.load(Ordering::Relaxed) < PREFACE {
            self.received.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn is_silent(&self) -> bool {
        let requests = self.open.load(Ordering::Relaxed) + self.ended.load(Ordering::Relaxed);
        requests == 0 && self.received.load(Ordering::Relaxed) < PREFACE
    }
}

/// Sees whether a connection has been idle, by looking now and then.
struct IdleWatch {
    ended: usize,
    looks: u32,
}

impl IdleWatch {
    fn from_now(activity: &Activity) -> Self {
        Self { ended: activity.ended.load(Ordering::Relaxed), looks: 0 }
    }

    fn is_over(&mut self, activity: &Activity) -> bool {
        let seen = Self::from_now(activity);
        if activity.open.load(Ordering::Relaxed) > 0 || seen.ended != self.ended {
            *self = seen;
            return false;
        }
        self.looks += 1;
        self.looks >= IDLE_LOOKS
    }
}

/// A request, from its head to the end of its response's body or to the loss of the connection.
struct OpenRequest(Arc<Activity>);

impl OpenRequest {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response's body that keeps its request open.
struct OpenBody<B> {
    body: B,
    _open: OpenRequest,
}

impl<B: Body + Unpin> Body for OpenBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_after_a_whole_span_without_a_request() {
        let activity = Arc::new(Activity::default());
        let mut watch = IdleWatch::from_now(&activity);
        let looks: Vec<bool> = (0..4).map(|_| watch.is_over(&activity)).collect();
        assert_eq!(looks, [false, false, false, true]);
    }

    #[test]
    fn an_open_request_or_one_that_came_and_went_begins_the_span_anew() {
        let activity = Arc::new(Activity::default());
        let mut watch = IdleWatch::from_now(&activity);
        let open = OpenRequest::begin(&activity);
        assert!((0..20).all(|_| !watch.is_over(&activity)), "closed under an open request");
        drop(open);
        assert!((0..4).all(|_| !watch.is_over(&activity)), "closed too soon after a long request");
        drop(OpenRequest::begin(&activity));
        assert!((0..4).all(|_| !watch.is_over(&activity)), "closed too soon after a short request");
        assert!(watch.is_over(&activity));
    }

    #[test]
    fn a_connection_is_silent_until_a_preface_or_a_request() {
        let activity = Arc::new(Activity::default());
        activity.received.store(PREFACE - 1, Ordering::Relaxed);
        assert!(activity.is_silent());
        drop(OpenRequest::begin(&activity));
        assert!(!activity.is_silent());
    }
}
