//! One client connection: which protocol it speaks, and how long it may keep the host waiting.
//!
//! [`serve`] decides for the connection's life: over TLS by what was negotiated (ALPN), in plain text by its first
//! bytes ([`detect`]). [`h1`] and [`h2`] then speak the protocol, and [`drive`] ends a connection that must end.

mod arrival;
mod detect;
mod drive;
mod h1;
mod h2;
mod patience;

use std::{convert::Infallible, future::Future, net::SocketAddr, rc::Rc, time::Duration};

use covet_net::Stream;
use covet_wasm::Chain;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
};

use self::detect::Detected;
pub(crate) use self::{arrival::Arrival, patience::Busy, patience::Pace};
use crate::{dispatch::Dispatcher, drain::Drain, options::ConnectionLimits, response::Body, tls};

/// Serves a connection until its client, its limits or the drain of the host end it.
pub(crate) async fn serve(
    stream: Stream,
    peer: SocketAddr,
    dispatcher: Rc<Dispatcher>,
    tls: Option<tls::Acceptor>,
    drain: Drain,
) {
    let limits = dispatcher.connection_limits().clone();
    let local = stream.local_addr().unwrap_or_else(|_| dispatcher.listen());
    let mut arrival = Arrival { peer, local, is_secure: tls.is_some(), client_subject: None };
    let answer_from = |arrival: Arrival| {
        let arrival = Rc::new(arrival);
        move |request: Request<Incoming>, busy: Busy| {
            let (dispatcher, arrival) = (dispatcher.clone(), arrival.clone());
            async move { dispatcher.dispatch(request, &arrival, busy).await }
        }
    };
    let Some(tls) = tls else {
        serve_plain(stream, &limits, peer, drain, answer_from(arrival)).await;
        return;
    };
    match tls.accept(stream, limits.handshake_timeout).await {
        Ok(secure) => {
            arrival.client_subject = secure.client_subject;
            let answer = answer_from(arrival);
            if secure.is_http2 {
                h2::serve(secure.stream, &limits, peer, drain, answer).await;
            } else {
                h1::serve(secure.stream, &limits, peer, drain, answer).await;
            }
        }
        Err(error) => tracing::debug!(%peer, error = %Chain(&error), "TLS handshake failed"),
    }
}

/// Serves a connection without TLS, of either version.
pub(crate) async fn serve_plain<F: Answer>(
    stream: Stream,
    limits: &ConnectionLimits,
    peer: SocketAddr,
    drain: Drain,
    answer: impl Fn(Request<Incoming>, Busy) -> F + 'static,
) {
    match detect::detect(stream, limits).await {
        Ok(Detected::Http1(stream)) => h1::serve(stream, limits, peer, drain, answer).await,
        Ok(Detected::Http2(stream)) => h2::serve(stream, limits, peer, drain, answer).await,
        Err(cause) => tracing::debug!(%peer, %cause, "connection ended before its first request"),
    }
}

/// Resolves to the answer to a request. Whatever goes wrong is an answer too.
pub(crate) trait Answer: Future<Output = Result<Response<Body>, Infallible>> + 'static {}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + 'static> Answer for F {}

/// The bytes of a connection, with TLS or without.
pub(crate) trait Transport: Read + Write + Unpin + 'static {}

impl<S: Read + Write + Unpin + 'static> Transport for S {}

/// How long a connection that is told to end may take to flush what it has.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
