//! The limits of a listener and its connections. What they limit is enforced in `listener`, `seats`, `handshake` and
//! `http`.

use std::time::Duration;

/// The limits of one listener. Times are monotonic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a client may take from connecting to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take to send the head of an HTTP/1 request, counted from the connection's beginning or
    /// from the end of the request before it; and how long to begin speaking at all.
    pub header_read_timeout: Duration,
    /// After how long without an open request a connection is asked to go away; up to a quarter more, since it is
    /// looked at four times in that span. A listener that strangers reach should have less.
    pub idle_timeout: Duration,
    /// How often an HTTP/2 client is pinged.
    pub ping_interval: Duration,
    /// How long an HTTP/2 client may take to answer the ping.
    pub ping_timeout: Duration,
    /// How long a client may take nothing of what is written to it. What flow control of HTTP/2 holds back is not
    /// written, so a stream that nobody reads is no stall.
    pub stall_timeout: Duration,
    /// Open connections of the listener; a further one is closed at once.
    pub max_connections: usize,
    /// Open connections of one address (see [`subscriber_of`](crate::subscriber_of)); a further one is closed at once.
    /// None is no limit but that on all.
    pub max_connections_per_address: Option<usize>,
    /// Connections of one address that have not finished their TLS handshake, as far as it has come; a further one is
    /// closed at once. Less than `max_handshakes`, so that one address can't keep the others waiting.
    pub max_handshakes_per_address: usize,
    /// Handshakes between ClientHello and end at a time; a further one waits its turn. A client that has connected
    /// and says nothing takes none of these places. While more than half are taken, each may take a fifth of
    /// `handshake_timeout` only.
    pub max_handshakes: usize,
    /// Open requests of an HTTP/2 connection.
    pub max_streams: u32,
    /// Bytes of an HTTP/2 request's headers as RFC 9113 section 6.5.2 counts them, and of all that HTTP/1 buffers to
    /// read them.
    pub max_header_list: u32,
    /// Bytes that one HTTP/2 request may send before we have read them.
    pub stream_window: u32,
    /// Bytes that all requests of an HTTP/2 connection may send before we have read them.
    pub connection_window: u32,
    /// Bytes of a response that wait for an HTTP/2 client to take them.
    pub max_send_buffer: usize,
    /// Requests that an HTTP/2 client has reset before we have looked at them; beyond it the connection ends
    /// (CVE-2023-44487).
    pub max_pending_resets: usize,
    /// Streams of a connection that we have reset over the client's errors; beyond it the connection ends.
    pub max_error_resets: usize,
    /// How long open requests may go on after the shutdown has begun.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(10),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_mins(5),
            max_connections: 20_000,
            max_connections_per_address: None,
            max_handshakes_per_address: 2_048,
            max_handshakes: 4_096,
            max_streams: 256,
            max_header_list: 16 * 1024,
            stream_window: 512 * 1024,
            connection_window: 1024 * 1024,
            max_send_buffer: 128 * 1024,
            max_pending_resets: 32,
            max_error_resets: 128,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The limits of a listener that strangers reach: less time, and a share of the places for each address.
    pub fn for_strangers() -> Self {
        Self {
            idle_timeout: Duration::from_mins(1),
            stall_timeout: Duration::from_secs(30),
            max_connections_per_address: Some(1_024),
            max_streams: 64,
            ..Self::default()
        }
    }
}
