//! What arrives on a connection, made into the request that a guest gets. Nothing is buffered beyond
//! [`INLINE_BODY_BYTES_MAX`] per request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use covet_wasm::{BodyFault, BodySource, RequestBody};
use http::{Uri, Version, header, request::Parts, uri::Authority};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::{connection::Arrival, response::Refusal};

/// A body of up to this length is read by the host before the guest is called, so that a slow client does not occupy an
/// instance, and handed over as one value. 16 KiB is where a stream becomes cheaper behind middleware.
pub(crate) const INLINE_BODY_BYTES_MAX: u64 = 16 << 10;

/// `scheme://authority` of a request (RFC 9112 section 3.2): from an absolute target, else from `Host`.
///
/// # Errors
/// 400 for a missing, repeated or invalid `Host` field, as RFC 9112 asks.
pub(crate) fn origin(head: &Parts, arrival: &Arrival) -> Result<String, Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    let (scheme, local) = (arrival.scheme(), arrival.local);
    if hosts.next().is_some() {
        return Err(Refusal::BadRequest("more than one Host field"));
    }
    if let Some(authority) = head.uri.authority() {
        if authority.as_str().contains('@') {
            return Err(Refusal::BadRequest("user information in the target"));
        }
        // In HTTP/1.1 the field is to be ignored then, in HTTP/2 and 3 the two have to agree (RFC 9113 section 8.3.1).
        if head.version > Version::HTTP_11 && host.is_some_and(|host| host != authority.as_str()) {
            return Err(Refusal::BadRequest("another host in the Host field than in :authority"));
        }
        return Ok(format!("{scheme}://{authority}"));
    }
    match host {
        Some(host) if host.is_empty() => Ok(format!("{scheme}://{local}")),
        Some(host) => {
            let text = host.to_str().map_err(|_| Refusal::BadRequest("invalid Host field"))?;
            let authority: Authority = text.parse().map_err(|_| Refusal::BadRequest("invalid Host field"))?;
            if authority.as_str().contains('@') {
                return Err(Refusal::BadRequest("user information in the Host field"));
            }
            Ok(format!("{scheme}://{authority}"))
        }
        None if head.version == Version::HTTP_11 => Err(Refusal::BadRequest("no Host field")),
        None => Ok(format!("{scheme}://{local}")),
    }
}

/// Path and query as they came; `*` for `OPTIONS *`.
pub(crate) fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// The fields as text. Those whose names begin with `covet-` are the host's: what a client sends of them is dropped, and
/// what the guest's interface has no other place for is put there.
///
/// # Errors
/// 400 for a value that is not UTF-8.
pub(crate) fn headers(head: &Parts, arrival: &Arrival) -> Result<Vec<(String, String)>, Refusal> {
    let mut fields = Vec::with_capacity(head.headers.len() + 2);
    let authority = head.uri.authority();
    if let Some(authority) = authority {
        fields.push(("host".to_owned(), authority.as_str().to_owned()));
    }
    if let Some(version) = version(head.version) {
        fields.push((HTTP_VERSION.to_owned(), version.to_owned()));
    }
    if let Some(subject) = &arrival.client_subject {
        fields.push((CLIENT_SUBJECT.to_owned(), subject.clone()));
    }
    for (name, value) in &head.headers {
        if name.as_str().starts_with(OURS) || (name == header::HOST && authority.is_some()) {
            continue;
        }
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Refusal::BadRequest("a field is not UTF-8"))?;
        // HTTP/2 and 3 may cut the field into its cookies (RFC 9113 section 8.2.3).
        if name == header::COOKIE
            && head.version > Version::HTTP_11
            && let Some((_, cookies)) = fields.iter_mut().find(|(name, _)| name == "cookie")
        {
            cookies.push_str("; ");
            cookies.push_str(value);
            continue;
        }
        fields.push((name.as_str().to_owned(), value.to_owned()));
    }
    Ok(fields)
}

/// The version as ASGI writes it; none for HTTP/1.1, which is understood.
fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

const OURS: &str = "covet-";
const HTTP_VERSION: &str = "covet-http-version";
const CLIENT_SUBJECT: &str = "covet-client-subject";

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

    fn plain() -> Arrival {
        let local = ([127, 0, 0, 1], 80).into();
        Arrival { peer: local, local, is_secure: false, client_subject: None }
    }

    fn origin_of(request: http::request::Builder) -> Option<String> {
        origin(&head(request), &plain()).ok()
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
        assert!(headers(&head(http::Request::get("/").header("x", latin1)), &plain()).is_err());
        let utf8 = http::HeaderValue::from_bytes("café".as_bytes()).unwrap();
        let fields = headers(&head(http::Request::get("/").header("X", utf8)), &plain());
        assert_eq!(fields.unwrap(), [("x".into(), "café".into())]);
    }

    #[test]
    fn what_the_host_says_about_a_request_cannot_be_said_by_a_client() {
        let request = http::Request::get("/").version(Version::HTTP_2).header("Covet-Client-Subject", "CN=root");
        let arrival = Arrival { client_subject: Some("CN=me".into()), is_secure: true, ..plain() };
        let fields = headers(&head(request), &arrival).unwrap();
        let expected = [("covet-http-version", "2"), ("covet-client-subject", "CN=me")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_target_with_an_authority_says_the_host_and_cookies_come_in_one_field() {
        let request =
            http::Request::get("https://a/").header("host", "b").header("cookie", "x=1").header("cookie", "y=2");
        let fields = headers(&head(request.version(Version::HTTP_2)), &plain()).unwrap();
        let expected = [("host", "a"), ("covet-http-version", "2"), ("cookie", "x=1; y=2")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(origin_of(http::Request::get("https://a/").header("host", "b").version(Version::HTTP_2)), None);
        assert_eq!(origin_of(http::Request::get("https://me@a/")), None);
    }
}
