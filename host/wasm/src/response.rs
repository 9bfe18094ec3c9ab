//! A guest's answer on its way out: the head at once, the body as the client takes it, the trailers after it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use wasmtime::{
    StoreContextMut,
    component::{Accessor, FutureConsumer, FutureReader, Source, StreamConsumer, StreamReader, StreamResult},
};

use crate::{bindings::covet::app::types, call::CallState, state::GuestState};

/// Header fields in the order of the message.
pub type Headers = Vec<(String, String)>;

/// A guest's answer, unchecked: status and header fields are whatever the guest said.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: Headers,
    /// Content.
    pub body: ResponseBody,
}

/// The content of a response.
#[derive(Debug)]
pub enum ResponseBody {
    /// All of it, perhaps nothing.
    Full(Bytes),
    /// Comes while the guest goes on.
    Stream(BodyStream),
}

/// A body that a guest is still writing. Dropping it tells the guest that nobody reads any more.
#[derive(Debug)]
pub struct BodyStream {
    frames: mpsc::Receiver<Frame>,
    ended: bool,
}

/// A piece of a streamed body.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of content.
    Data(Bytes),
    /// The last piece, where there is one.
    Trailers(Headers),
    /// The guest has said that it is done; without this the body was cut off.
    End,
}

/// The guest was stopped before its body was complete.
#[derive(Debug, thiserror::Error)]
#[error("the guest was stopped before its response was complete")]
pub struct BodyCut;

impl BodyStream {
    /// The next piece, none at the end. [`Frame::End`] itself is not handed out.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyCut>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.frames).poll_next(context));
        Poll::Ready(match frame {
            Some(Frame::End) => {
                self.ended = true;
                None
            }
            Some(frame) => Some(Ok(frame)),
            None => {
                self.ended = true;
                Some(Err(BodyCut))
            }
        })
    }
}

/// What is left to do in the guest's store after the head is on its way.
pub(crate) enum Rest {
    Nothing,
    Body { stream: Option<StreamReader<u8>>, trailers: types::Trailers, frames: mpsc::Sender<Frame> },
}

/// Splits a guest's answer into the head that can be sent now and the rest.
pub(crate) fn lift(response: types::Response) -> (Response, Rest) {
    let types::Response { status, headers, body, trailers } = response;
    let full = match body {
        types::Body::Empty => Some(Bytes::new()),
        types::Body::Text(text) => Some(Bytes::from(text)),
        types::Body::Bytes(bytes) => Some(Bytes::from(bytes)),
        types::Body::Stream(stream) => {
            let (frames, receiver) = channel();
            let body = ResponseBody::Stream(receiver);
            return (Response { status, headers, body }, Rest::Body { stream: Some(stream), trailers, frames });
        }
    };
    let full = full.unwrap_or_default();
    if matches!(trailers, types::Trailers::Absent) {
        return (Response { status, headers, body: ResponseBody::Full(full) }, Rest::Nothing);
    }
    let (mut frames, receiver) = channel();
    if !full.is_empty() {
        // The channel was made for at least one frame and is empty.
        let _ = frames.try_send(Frame::Data(full));
    }
    let body = ResponseBody::Stream(receiver);
    (Response { status, headers, body }, Rest::Body { stream: None, trailers, frames })
}

impl Rest {
    /// Moves the body and then the trailers to the client. A client that has gone is not an error.
    pub(crate) async fn deliver(self, accessor: &Accessor<GuestState>, state: &CallState) -> wasmtime::Result<()> {
        let Self::Body { stream, trailers, frames } = self else { return Ok(()) };
        if let Some(stream) = stream {
            let (done, end) = oneshot::channel();
            let consumer = Consumer { frames: frames.clone(), state: state.clone(), _done: done };
            accessor.with(|access| stream.pipe(access, consumer))?;
            // Resolves when the consumer is dropped, which is when the guest has dropped its end or was told to stop.
            let _ = end.await;
        }
        let trailers = match trailers {
            types::Trailers::Absent => None,
            types::Trailers::Ready(fields) => Some(fields),
            types::Trailers::Later(future) => resolve(accessor, future).await?,
        };
        send(frames, trailers.map(Frame::Trailers).into_iter().chain([Frame::End])).await;
        state.progress();
        Ok(())
    }
}

/// The value of a guest's future; none if the guest dropped it without writing.
async fn resolve(accessor: &Accessor<GuestState>, future: FutureReader<Headers>) -> wasmtime::Result<Option<Headers>> {
    let (value, received) = oneshot::channel();
    accessor.with(|access| future.pipe(access, Once(Some(value))))?;
    Ok(received.await.ok())
}

async fn send(mut frames: mpsc::Sender<Frame>, last: impl Iterator<Item = Frame>) {
    for frame in last {
        if std::future::poll_fn(|context| frames.poll_ready(context)).await.is_err() {
            return;
        }
        let _ = frames.start_send(frame);
    }
}

/// One chunk waits while another is written to the connection; more would only add memory per slow client.
fn channel() -> (mpsc::Sender<Frame>, BodyStream) {
    let (sender, frames) = mpsc::channel(1);
    (sender, BodyStream { frames, ended: false })
}

/// Takes what the guest writes, as fast as the client takes it.
struct Consumer {
    frames: mpsc::Sender<Frame>,
    state: CallState,
    /// Dropped with the consumer.
    _done: oneshot::Sender<()>,
}

impl StreamConsumer<GuestState> for Consumer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, GuestState>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        match self.frames.poll_ready(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
        }
        let mut source = source.as_direct(store);
        let available = source.remaining();
        let count = available.len().min(CHUNK_BYTES_MAX);
        if count > 0 {
            let chunk = Bytes::copy_from_slice(&available[..count]);
            source.mark_read(count);
            let _ = self.frames.start_send(Frame::Data(chunk));
            self.state.progress();
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// With one chunk in the channel and one in the connection, a slow client holds three of these.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Takes the one value of a future.
struct Once(Option<oneshot::Sender<Headers>>);

impl FutureConsumer<GuestState> for Once {
    type Item = Headers;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, GuestState>,
        mut source: Source<'_, Headers>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut value = None;
        source.read(store, &mut value)?;
        if let (Some(value), Some(sender)) = (value, self.0.take()) {
            let _ = sender.send(value);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(body: &mut BodyStream) -> Poll<Option<Result<Frame, BodyCut>>> {
        body.poll_frame(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_body_without_its_end_is_an_error_once() {
        let (mut sender, mut body) = channel();
        sender.try_send(Frame::Data(Bytes::from_static(b"half"))).unwrap();
        drop(sender);
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(Frame::Data(_))))));
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(BodyCut)))));
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
    }

    #[test]
    fn a_full_body_with_trailers_becomes_a_stream() {
        let trailers = types::Trailers::Ready(vec![("x".into(), "1".into())]);
        let body = types::Body::Text("hi".into());
        let (response, rest) = lift(types::Response { status: 200, headers: vec![], body, trailers });
        assert!(matches!(rest, Rest::Body { stream: None, .. }));
        let ResponseBody::Stream(mut body) = response.body else { panic!("not a stream") };
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(Frame::Data(_))))));
    }
}
