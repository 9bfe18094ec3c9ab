//! One line per request, and one more where the host had to answer in a guest's place.

use std::{net::SocketAddr, time::Instant};

use covet_wasm::{App, CallError, Chain};
use http::{Method, Response, StatusCode, Version, request::Parts};

use crate::{
    request,
    response::{Body, Refusal, Sent},
    router,
};

/// What is known when the head of a response is there.
pub(crate) struct Line {
    method: Method,
    uri: String,
    version: Version,
    peer: SocketAddr,
    status: StatusCode,
    began: Instant,
}

impl Line {
    pub(crate) fn new(head: &Parts, peer: SocketAddr, response: &Response<Body>, began: Instant) -> Self {
        Self {
            method: head.method.clone(),
            uri: request::target(&head.uri).to_owned(),
            version: head.version,
            peer,
            status: response.status(),
            began,
        }
    }

    /// Writes the line when the body is over.
    pub(crate) fn write(self, sent: Sent) {
        let Self { method, uri, version, peer, status, began } = self;
        tracing::info!(
            target: "access",
            %peer,
            %method,
            %uri,
            ?version,
            status = status.as_u16(),
            bytes = sent.bytes,
            ms = milliseconds(began),
            // The body of an answer to HEAD is never sent.
            complete = sent.complete || method == Method::HEAD,
        );
    }
}

/// To the microsecond.
fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// Says in the log why the host answered itself, at a level by whose fault it was.
pub(crate) fn explain(app: &App, head: &Parts, route: Option<u32>, refusal: &Refusal) {
    let route = route.and_then(|index| app.routes().get(index as usize)).map(router::display).unwrap_or_default();
    let (method, uri) = (&head.method, request::target(&head.uri));
    let error = Chain(refusal);
    match refusal {
        Refusal::Call(CallError::Trap { .. }) | Refusal::BadResponse(_) => {
            tracing::error!(app = app.name(), route, %method, uri, %error, "the guest failed");
        }
        Refusal::Call(_) => tracing::warn!(app = app.name(), route, %method, uri, %error, "the guest was stopped"),
        _ => tracing::debug!(app = app.name(), route, %method, uri, %error, "request refused"),
    }
}
