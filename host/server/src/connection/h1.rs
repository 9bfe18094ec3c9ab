//! HTTP/1.1 on one connection: hyper parses and frames, this gives it the answers to its requests.

use std::{net::SocketAddr, pin::Pin};

use http::Request;
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{HttpService, service_fn},
};

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
    let patience = Patience::of_http1(limits);
    let stream = Patient { stream, patience: patience.clone() };
    let service = service_fn(|request| answer(request, patience.request_began()));
    let connection = protocol(limits).serve_connection(stream, service);
    drive(connection, &patience, peer, drain).await;
}

fn protocol(limits: &ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(limits.head_bytes_max)
        .max_headers(limits.fields_max)
        .max_buf_size(limits.head_bytes_max.max(READ_BUFFER_BYTES_MAX))
        // `Patience` keeps time.
        .header_read_timeout(None)
        // A client that closes its half in the middle of a request has gone; its guest is stopped.
        .half_close(false)
        // With it on, hyper 1.12 loses its own 400 where bytes of the bad request are left to read.
        .pipeline_flush(false);
    builder
}

impl<I, S, B> Connection for http1::Connection<I, S>
where
    I: Transport,
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

/// hyper reads up to so much ahead of what is asked for, per connection.
const READ_BUFFER_BYTES_MAX: usize = 64 << 10;
