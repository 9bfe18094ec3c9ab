//! A request on its way into a guest: its head as flat values, and its body in one of four forms.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{Destination, StreamProducer, StreamReader, StreamResult},
};

use crate::{
    bindings::covet::app::types,
    call::{AtFault, CallState},
    state::GuestState,
};

/// A request whose route has been found. The fields are those of the `request` record in `wit/types.wit`.
#[derive(Debug)]
pub struct Request {
    /// Index into the routes of the application.
    pub route: u32,
    /// Method as received.
    pub method: String,
    /// `scheme://authority`.
    pub origin: String,
    /// Path and query, percent-encoded as received.
    pub target: String,
    /// Decoded values of the route's placeholders.
    pub params: Vec<String>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// `address:port` of the client.
    pub peer: String,
    /// Its content.
    pub body: RequestBody,
}

/// The content of a request.
pub enum RequestBody {
    /// There is none.
    Empty,
    /// All of it, known to be UTF-8.
    Text(String),
    /// All of it.
    Bytes(Vec<u8>),
    /// Read as the guest asks for it.
    Stream(Box<dyn BodySource>),
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Where a streamed body comes from. The guest's reads are the only thing that polls it, which is the backpressure.
pub trait BodySource: Send + 'static {
    /// The next bytes, or none at the end.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>>;
}

/// Why the rest of a request's body will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It is longer than the limit.
    #[error("the request's body is too large")]
    TooLarge,
    /// The client broke the framing or the connection.
    #[error("the request's body ended early or was malformed")]
    Broken,
}

/// Turns a request into the record that the guest gets.
pub(crate) fn lower(
    store: impl AsContextMut<Data = GuestState>,
    request: Request,
    state: &CallState,
) -> wasmtime::Result<types::Request> {
    let body = match request.body {
        RequestBody::Empty => types::Body::Empty,
        RequestBody::Text(text) => types::Body::Text(text),
        RequestBody::Bytes(bytes) => types::Body::Bytes(bytes),
        RequestBody::Stream(source) => {
            let producer = Producer { source, chunk: Bytes::new(), state: state.clone() };
            types::Body::Stream(StreamReader::new(store, producer)?)
        }
    };
    Ok(types::Request {
        route: request.route,
        method: request.method,
        origin: request.origin,
        target: request.target,
        params: request.params,
        headers: request.headers,
        peer: request.peer,
        body,
    })
}

/// Writes the chunks of a source straight into the guest's buffer.
struct Producer {
    source: Box<dyn BodySource>,
    /// What of the last chunk the guest had no room for.
    chunk: Bytes,
    state: CallState,
}

impl StreamProducer<GuestState> for Producer {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'a, GuestState>,
        destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // A source may yield empty chunks; the guest would take an empty read for the end.
        while self.chunk.is_empty() {
            match self.source.poll_chunk(context) {
                Poll::Ready(Some(Ok(chunk))) => self.chunk = chunk,
                Poll::Ready(Some(Err(fault))) => {
                    // The guest must not take a cut body for a whole one.
                    return match self.state.fail(fault) {
                        AtFault::Trap => Poll::Ready(Err(fault.into())),
                        AtFault::Abandon => Poll::Pending,
                    };
                }
                Poll::Ready(None) => return Poll::Ready(Ok(StreamResult::Dropped)),
                Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let mut room = destination.as_direct(store, DIRECT_BYTES);
        let buffer = room.remaining();
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk[..count]);
        room.mark_written(count);
        self.chunk.advance(count);
        self.state.progress();
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// Used only if the host itself were the reader, which it is not.
const DIRECT_BYTES: usize = 64 << 10;
