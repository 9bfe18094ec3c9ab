//! HTTP/1.1 on one connection: hyper parses and frames, this gives it requests' answers and ends it when it must end.

use std::{future::poll_fn, net::SocketAddr, pin::pin, rc::Rc, task::Poll};

use covet_net::Stream;
use covet_wasm::Chain;
use hyper::{server::conn::http1, service::service_fn};

use super::patience::{FLUSH_TIMEOUT, Patience, Patient, Slow, Timer};
use crate::{dispatch::Dispatcher, drain::Drain, options::ConnectionLimits};

/// Serves a connection until its client, its limits or the drain of the host end it.
pub(crate) async fn serve(stream: Stream, peer: SocketAddr, dispatcher: Rc<Dispatcher>, mut drain: Drain) {
    let limits = dispatcher.connection_limits().clone();
    let local = stream.local_addr().unwrap_or_else(|_| dispatcher.listen());
    let patience = Patience::new(limits.clone());
    let stream = Patient { stream, patience: patience.clone() };
    let service = service_fn(|request| {
        let busy = patience.request_began();
        let dispatcher = dispatcher.clone();
        async move { dispatcher.dispatch(request, peer, local, busy).await }
    });
    let mut connection = pin!(protocol(&limits).serve_connection(stream, service));
    let mut draining = pin!(drain.begun());
    let (mut timer, mut told) = (Timer::default(), false);
    let ended = poll_fn(|context| {
        // First, so that a connection that is idle when the drain begins is closed by the poll below.
        if !told && draining.as_mut().poll(context).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(context) {
            return Poll::Ready(Ok(result));
        }
        timer.poll_slow(&patience, context).map(Err)
    })
    .await;
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, error = %Chain(&error), "connection ended"),
        Err(Slow::Idle) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, connection).await;
        }
        Err(slow) => tracing::debug!(%peer, ?slow, "connection closed because its client is too slow"),
    }
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

/// hyper reads up to so much ahead of what is asked for, per connection.
const READ_BUFFER_BYTES_MAX: usize = 64 << 10;
