//! HTTP/2 on one connection: hyper and h2 keep the streams apart, this gives them their answers and bounds what one
//! client may have at a time.

use std::{future::Future, net::SocketAddr, pin::Pin, time::Duration};

use http::Request;
use http_body::Body;
use hyper::{
    body::Incoming,
    rt::{Executor, bounds::Http2ServerConnExec},
    server::conn::http2,
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioTimer;
use tokio::task::spawn_local;

use super::{
    Answer, Busy, Transport,
    drive::{Connection, drive},
    patience::{Patience, Patient},
};
use crate::{drain::Drain, options::ConnectionLimits};

pub(super) async fn serve<F: Answer>(
    stream: impl Transport,
    limits: &ConnectionLimits,
    peer: SocketAddr,
    drain: Drain,
    answer: impl Fn(Request<Incoming>, Busy) -> F + 'static,
) {
    let patience = Patience::of_http2(limits);
    let stream = Patient { stream, patience: patience.clone() };
    let service = service_fn(|request| answer(request, patience.request_began()));
    let connection = protocol(limits).serve_connection(stream, service);
    drive(connection, &patience, peer, drain).await;
}

fn protocol(limits: &ConnectionLimits) -> http2::Builder<OnThisThread> {
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        // Counted with 32 bytes for each field on top (RFC 9113 section 6.5.2).
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        // Rapid reset (CVE-2023-44487): streams that were reset before they were answered, and our own resets.
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        // A client that has vanished in the middle of a request is noticed.
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

impl<I, S, B, E> Connection for http2::Connection<I, S, E>
where
    I: Transport,
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: Http2ServerConnExec<S::Future, B> + Unpin,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

/// Streams of a connection are tasks of the thread that accepted it.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, stream: F) {
        spawn_local(stream);
    }
}

/// What a client may send of one body before the guest has read any of it.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// The same for all bodies of a connection. More than one stream's, so that one that nobody reads does not stop the rest.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// The smallest that RFC 9113 allows, and the default: large frames make other streams wait.
const FRAME_BYTES_MAX: u32 = 16 << 10;
/// What is read from a guest ahead of what a client takes, per stream.
const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
const RESETS_MAX: usize = 20;
const LOCAL_RESETS_MAX: usize = 256;
const KEEP_ALIVE_INTERVAL: Option<Duration> = Some(Duration::from_secs(30));
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
