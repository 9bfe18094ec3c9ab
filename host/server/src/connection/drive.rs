//! Runs the connection of a protocol to its end: its own, the drain of the host, or that its client is too slow.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
};

use covet_wasm::Chain;

use super::{
    FLUSH_TIMEOUT,
    patience::{Patience, Slow, Timer},
};
use crate::drain::Drain;

/// A connection of hyper's, of either version.
pub(super) trait Connection: Future<Output = hyper::Result<()>> {
    /// Takes no further request and ends after those that run.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

pub(super) async fn drive(connection: impl Connection, patience: &Patience, peer: SocketAddr, mut drain: Drain) {
    let mut connection = pin!(connection);
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
        timer.poll_slow(patience, context).map(Err)
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
