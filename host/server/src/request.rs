//! What arrives on a connection, made into the request that a guest gets. Nothing is buffered beyond
//! [`INLINE_BODY_BYTES_MAX`] per request.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use covet_wasm::{BodyFault, BodySource, RequestBody};
use http::{Uri, Version, header, request::Parts, uri::Authority};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::response::Refusal;

/// A body of up to this length is read by the host before the guest is called, so that a slow client does not occupy an
/// instance, and handed over as one value. 16 KiB is where a stream becomes cheaper behind middleware.
pub(crate) const INLINE_BODY_BYTES_MAX: u64 = 16 << 10;

/// `scheme://authority` of a request (RFC 9112 section 3.2): from an absolute target, else from `Host`.
///
/// # Errors
/// 400 for a missing, repeated or invalid `Host` field, as RFC 9112 asks.
pub(crate) fn origin(head: &Parts, local: SocketAddr) -> Result<String, Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::BadRequest("more than one Host field"));
    }
    if let Some(authority) = head.uri.authority() {
        return Ok(format!("http://{authority}"));
    }
    match host {
        Some(host) if host.is_empty() => Ok(format!("http://{local}")),
        Some(host) => {
            let text = host.to_str().map_err(|_| Refusal::BadRequest("invalid Host field"))?;
            let authority: Authority = text.parse().map_err(|_| Refusal::BadRequest("invalid Host field"))?;
            if authority.as_str().contains('@') {
                return Err(Refusal::BadRequest("user information in the Host field"));
            }
            Ok(format!("http://{authority}"))
        }
        None if head.version == Version::HTTP_11 => Err(Refusal::BadRequest("no Host field")),
        None => Ok(format!("http://{local}")),
    }
}

/// Path and query as they came; `*` for `OPTIONS *`.
pub(crate) fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// The fields as text.
///
/// # Errors
/// 400 for a value that is not UTF-8.
pub(crate) fn headers(head: &Parts) -> Result<Vec<(String, String)>, Refusal> {
    let mut fields = Vec::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Refusal::BadRequest("a field is not UTF-8"))?;
        fields.push((name.as_str().to_owned(), value.to_owned()));
    }
    Ok(fields)
}

/// Reads a short body, or prepares a long or open-ended one for being streamed.
///
/// # Errors
/// 413 if its stated length is beyond `bytes_max`, 408 if a short body does not come within `patience`.
pub(crate) async fn body(mut incoming: Incoming, bytes_max: u64, patience: Duration) -> Result<RequestBody, Refusal> {
    if incoming.is_end_stream() {
        return Ok(RequestBody::Empty);
    }
    match incoming.size_hint().exact() {
        Some(0) => Ok(RequestBody::Empty),
        Some(length) if length > bytes_max => Err(BodyFault::TooLarge.into()),
        Some(length) if length <= INLINE_BODY_BYTES_MAX => {
            let bytes = match tokio::time::timeout(patience, collect(&mut incoming, length)).await {
                Ok(bytes) => bytes?,
                Err(_) => return Err(Refusal::RequestTimeout),
            };
            Ok(match String::from_utf8(bytes) {
                Ok(text) => RequestBody::Text(text),
                Err(error) => RequestBody::Bytes(error.into_bytes()),
            })
        }
        _ => Ok(RequestBody::Stream(Box::new(Limited { incoming, left: bytes_max }))),
    }
}

/// All of a body whose length is known; hyper holds the client to it.
async fn collect(incoming: &mut Incoming, length: u64) -> Result<Vec<u8>, BodyFault> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    while let Some(chunk) = std::future::poll_fn(|context| poll_data(incoming, context)).await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// A body that may have so many bytes and no more.
struct Limited {
    incoming: Incoming,
    left: u64,
}

impl BodySource for Limited {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        let chunk = ready!(poll_data(&mut self.incoming, context));
        Poll::Ready(chunk.map(|chunk| {
            let chunk = chunk?;
            self.left = self.left.checked_sub(chunk.len() as u64).ok_or(BodyFault::TooLarge)?;
            Ok(chunk)
        }))
    }
}

/// The next bytes of a body; trailers of a request are dropped, as the guest's interface has no place for them.
fn poll_data(incoming: &mut Incoming, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
    loop {
        match ready!(Pin::new(&mut *incoming).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                Err(_) => continue,
            },
            Some(Err(_)) => return Poll::Ready(Some(Err(BodyFault::Broken))),
            None => return Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: http::request::Builder) -> Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn origin_of(request: http::request::Builder) -> Option<String> {
        origin(&head(request), ([127, 0, 0, 1], 80).into()).ok()
    }

    #[test]
    fn the_origin_is_that_of_an_absolute_target_or_of_the_host_field() {
        let get = || http::Request::get("/");
        assert_eq!(origin_of(get().header("host", "a.example:8000")).unwrap(), "http://a.example:8000");
        assert_eq!(origin_of(http::Request::get("http://b/").header("host", "a")).unwrap(), "http://b");
        assert_eq!(origin_of(get().version(Version::HTTP_10)).unwrap(), "http://127.0.0.1:80");
        assert_eq!(origin_of(get()), None, "HTTP/1.1 without Host");
        assert_eq!(origin_of(get().header("host", "a").header("host", "a")), None, "twice");
        for bad in ["a b", "a/b", "user@a", "a:b:c", "a#b"] {
            assert_eq!(origin_of(get().header("host", bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_field_that_is_not_utf8_is_refused() {
        let latin1 = http::HeaderValue::from_bytes(b"caf\xe9").unwrap();
        assert!(headers(&head(http::Request::get("/").header("x", latin1))).is_err());
        let utf8 = http::HeaderValue::from_bytes("café".as_bytes()).unwrap();
        assert_eq!(headers(&head(http::Request::get("/").header("X", utf8))).unwrap(), [("x".into(), "café".into())]);
    }
}
