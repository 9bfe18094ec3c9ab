//! Bodies: reading one whole, and making a stream to write one piece by piece.

use std::{error::Error, fmt};

use crate::{Body, StreamReader, StreamResult, StreamWriter, bindings::application::wit_stream};

/// A stream for a body that is written while it is sent: the end to write to, and the end that goes into a response.
///
/// The writing is done by a task of its own ([`spawn_local`](crate::spawn_local)), which goes on after the handler has
/// returned. The body ends when the writer is dropped. `write_all` waits until the client has taken what it was given;
/// what it returns is what nobody will read any more.
///
/// ```no_run
/// # use covet_guest::{Request, Response, spawn_local, stream};
/// async fn count(_: Request) -> Response {
///     let (mut writer, reader) = stream();
///     spawn_local(async move {
///         for number in 0..10 {
///             let left = writer.write_all(format!("{number}\n").into_bytes()).await;
///             if !left.is_empty() {
///                 break;
///             }
///         }
///     });
///     Response::stream(reader).with_header("content-type", "text/plain")
/// }
/// ```
pub fn stream() -> (StreamWriter<u8>, StreamReader<u8>) {
    wit_stream::new()
}

impl Body {
    /// The whole content, in whichever form it came.
    ///
    /// A client that breaks off in the middle never gets this far: the host ends the call.
    ///
    /// # Errors
    /// When there is more than `bytes_max`, which is noticed before it is all read.
    pub async fn read(self, bytes_max: usize) -> Result<Vec<u8>, BodyTooLarge> {
        let content = match self {
            Self::Empty => Vec::new(),
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
            Self::Stream(stream) => collect(stream, bytes_max).await?,
        };
        if content.len() > bytes_max { Err(BodyTooLarge { bytes_max }) } else { Ok(content) }
    }
}

/// Reads a stream to its end, or to the first byte that is too much.
async fn collect(mut stream: StreamReader<u8>, bytes_max: usize) -> Result<Vec<u8>, BodyTooLarge> {
    let mut content = Vec::new();
    loop {
        if content.len() > bytes_max {
            return Err(BodyTooLarge { bytes_max });
        }
        // A read fills what the vector has room for, and none would never end.
        content.reserve(READ_BYTES);
        let (result, more) = stream.read(content).await;
        content = more;
        if !matches!(result, StreamResult::Complete(_)) {
            return Ok(content);
        }
    }
}

/// As much as the host hands over at a time.
const READ_BYTES: usize = 64 << 10;

/// A body is longer than the guest wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTooLarge {
    /// What would have been allowed.
    pub bytes_max: usize,
}

impl fmt::Display for BodyTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body is longer than {} bytes", self.bytes_max)
    }
}

impl Error for BodyTooLarge {}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// The result of a future that has nothing to wait for.
    pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits for something"),
        }
    }

    #[test]
    fn a_body_of_the_greatest_length_is_read_and_one_byte_more_is_refused() {
        assert_eq!(at_once(Body::Empty.read(0)), Ok(vec![]));
        assert_eq!(at_once(Body::Text("abc".into()).read(3)), Ok(b"abc".to_vec()));
        assert_eq!(at_once(Body::Bytes(b"abcd".to_vec()).read(3)), Err(BodyTooLarge { bytes_max: 3 }));
    }
}
