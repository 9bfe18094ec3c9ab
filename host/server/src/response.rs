//! The answer to a client: a guest's, checked, or the host's own. The table in [`Refusal`] is the only place where an
//! error becomes a status.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use covet_wasm::{BodyCut, BodyFault, BodyStream, CallError, Frame, ResponseBody};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::SizeHint;

use crate::{connection::Pace, router::BadPath};

/// Why a request gets an answer of the host's own.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The head of the request breaks a rule of HTTP that its parser does not check.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The path cannot be decoded.
    #[error(transparent)]
    BadPath(#[from] BadPath),
    /// No route has this path.
    #[error("no such route")]
    NotFound,
    /// Its routes are for other methods.
    #[error("the path has no route for this method")]
    MethodNotAllowed {
        /// For the `Allow` field.
        allow: String,
    },
    /// The client did not send its body in time.
    #[error("the request's body did not come in time")]
    RequestTimeout,
    /// The body breaks its limit or its framing.
    #[error(transparent)]
    Body(#[from] BodyFault),
    /// The guest did not answer.
    #[error(transparent)]
    Call(CallError),
    /// The guest answered with something that is not HTTP.
    #[error("the guest's response is not valid HTTP: {0}")]
    BadResponse(BadResponse),
}

/// What a guest got wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// A final response has a status from 200 to 599.
    #[error("status {0}")]
    Status(u16),
    /// The name or value of a field.
    #[error("header field {0:?}")]
    Field(String),
    /// The length given for a streamed body.
    #[error("content-length {0:?}")]
    ContentLength(String),
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Body(fault) => Self::Body(fault),
            error => Self::Call(error),
        }
    }
}

impl Refusal {
    /// Whose fault it was decides the status: 4xx the client's, 502 the guest's, 503 and 504 a limit of the host's.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BadPath(_) | Self::Body(BodyFault::Broken) => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyFault::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadResponse(_) | Self::Call(CallError::Trap { .. } | CallError::Lost | CallError::Body(_)) => {
                StatusCode::BAD_GATEWAY
            }
            Self::Call(CallError::Overloaded | CallError::Instantiate(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Call(CallError::Deadline(_) | CallError::Cpu(_)) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whether the rest of the request's body may still be on its way, so that the connection cannot be used again.
    fn closes(&self) -> bool {
        matches!(self, Self::RequestTimeout | Self::Body(_) | Self::BadRequest(_))
    }

    /// The answer, in the shape that FastAPI's clients know: `{"detail": "Not Found"}`. Nothing of the cause is shown.
    pub fn response(&self) -> Response<Body> {
        let status = self.status();
        let detail = status.canonical_reason().unwrap_or("Error");
        let mut response = Response::new(Body::full(Bytes::from(format!("{{\"detail\":\"{detail}\"}}"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::MethodNotAllowed { allow } => {
                if let Ok(allow) = HeaderValue::from_str(allow) {
                    headers.insert(header::ALLOW, allow);
                }
            }
            Self::Call(CallError::Overloaded | CallError::Instantiate(_)) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
            }
            _ => {}
        }
        if self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What a client is told that was refused because all instances are busy.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Turns a guest's answer into one for the client.
///
/// # Errors
/// [`BadResponse`] if the guest's status or fields are not valid. A valid field cannot hold CR, LF or NUL, so a guest
/// cannot add a message of its own to the connection.
pub fn from_guest(response: covet_wasm::Response) -> Result<Response<Body>, BadResponse> {
    let covet_wasm::Response { status, headers, body } = response;
    let valid = StatusCode::from_u16(status).ok().filter(|_| (200..600).contains(&status));
    let status_code = valid.ok_or(BadResponse::Status(status))?;
    let length = match body {
        // Whatever the guest says, the length of a whole body is known; hyper writes it.
        ResponseBody::Full(_) => None,
        ResponseBody::Stream(_) => content_length(&headers)?,
    };
    let mut result = Response::new(match body {
        ResponseBody::Full(bytes) => Body::full(bytes),
        ResponseBody::Stream(stream) => Body::new(Content::Stream { stream, length }),
    });
    *result.status_mut() = status_code;
    fields(headers, result.headers_mut())?;
    Ok(result)
}

fn content_length(headers: &[(String, String)]) -> Result<Option<u64>, BadResponse> {
    let mut values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let Some((_, value)) = values.next() else { return Ok(None) };
    let bad = || BadResponse::ContentLength(value.clone());
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || values.next().is_some() {
        return Err(bad());
    }
    value.parse().map(Some).map_err(|_| bad())
}

/// Copies the fields except those that belong to the framing of the connection, which is the host's.
fn fields(headers: Vec<(String, String)>, result: &mut HeaderMap) -> Result<(), BadResponse> {
    const OF_THE_CONNECTION: [HeaderName; 5] = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::CONTENT_LENGTH,
        HeaderName::from_static("keep-alive"),
    ];
    result.reserve(headers.len());
    for (name, value) in headers {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let (Ok(parsed), Ok(value)) = (parsed, HeaderValue::from_maybe_shared(Bytes::from(value))) else {
            return Err(BadResponse::Field(name));
        };
        if !OF_THE_CONNECTION.contains(&parsed) {
            result.append(parsed, value);
        }
    }
    Ok(())
}

/// The body of any answer.
pub struct Body {
    content: Content,
    sent: Sent,
    /// Told when the body is over or given up.
    finished: Option<Box<dyn FnOnce(Sent)>>,
    pace: Option<Pace>,
}

enum Content {
    Full(Option<Bytes>),
    Stream { stream: BodyStream, length: Option<u64> },
}

/// How much of a body went out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Bytes handed to the connection.
    pub bytes: u64,
    /// Whether that was all of it.
    pub complete: bool,
}

impl Body {
    fn full(bytes: Bytes) -> Self {
        Self::new(Content::Full(Some(bytes)))
    }

    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    fn new(content: Content) -> Self {
        Self { content, sent: Sent::default(), finished: None, pace: None }
    }

    /// Calls `finished` once, when the body has been sent, has failed or has been given up.
    pub(crate) fn on_finish(mut self, finished: impl FnOnce(Sent) + 'static) -> Self {
        self.finished = Some(Box::new(finished));
        self
    }

    /// Tells `pace` when more of the body is asked for and when there is some.
    pub(crate) fn at_pace(mut self, pace: Option<Pace>) -> Self {
        self.pace = pace;
        self
    }

    fn poll_content(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyCut>>> {
        match &mut self.content {
            Content::Full(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
            }
            Content::Stream { stream, length } => stream.poll_frame(context).map(|frame| {
                frame.map(|frame| match frame? {
                    Frame::Data(bytes) => {
                        *length = length.map(|left| left.saturating_sub(bytes.len() as u64));
                        Ok(http_body::Frame::data(bytes))
                    }
                    Frame::Trailers(headers) => {
                        let mut trailers = HeaderMap::new();
                        // An invalid trailer comes too late for a 502; the response is cut instead.
                        fields(headers, &mut trailers).map_err(|_| BodyCut)?;
                        Ok(http_body::Frame::trailers(trailers))
                    }
                    Frame::End => Err(BodyCut),
                })
            }),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyCut>>> {
        if let Some(pace) = &self.pace {
            pace.asked();
        }
        let frame = self.poll_content(context);
        if let (Some(pace), Poll::Ready(Some(Ok(_)))) = (&self.pace, &frame) {
            pace.handed();
        }
        if let Poll::Ready(frame) = &frame {
            match frame {
                Some(Ok(frame)) => self.sent.bytes += frame.data_ref().map_or(0, |bytes| bytes.len() as u64),
                Some(Err(_)) => {}
                None => self.sent.complete = true,
            }
            self.sent.complete |= matches!(self.content, Content::Full(None));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Full(bytes) if bytes.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Stream { length: Some(length), .. } => SizeHint::with_exact(*length),
            Content::Stream { length: None, .. } => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(finished) = self.finished.take() {
            let empty = matches!(&self.content, Content::Full(Some(bytes)) if bytes.is_empty());
            finished(Sent { complete: self.sent.complete || empty, ..self.sent });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(status: u16, headers: &[(&str, &str)]) -> Result<Response<Body>, BadResponse> {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        from_guest(covet_wasm::Response { status, headers, body: ResponseBody::Full(Bytes::new()) })
    }

    #[test]
    fn a_status_that_is_not_final_is_refused() {
        for status in [0, 99, 100, 101, 199, 600, 999, 1000] {
            assert_eq!(guest(status, &[]).err(), Some(BadResponse::Status(status)));
        }
        assert_eq!(guest(599, &[]).unwrap().status().as_u16(), 599);
    }

    #[test]
    fn a_field_cannot_smuggle_another_message_in() {
        for (name, value) in [("x", "a\r\nb: c"), ("x", "a\nb"), ("x\r\ny", "a"), ("", "a"), ("a b", "c"), ("x", "a\0")]
        {
            assert_eq!(
                guest(200, &[(name, value)]).err(),
                Some(BadResponse::Field(name.into())),
                "{name:?}: {value:?}"
            );
        }
    }

    #[test]
    fn the_framing_of_the_connection_is_not_the_guests() {
        let framing =
            [("Connection", "upgrade"), ("Transfer-Encoding", "chunked"), ("Content-Length", "7"), ("X-A", "1")];
        let response = guest(200, &framing).unwrap();
        assert_eq!(response.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-a"]);
    }

    #[test]
    fn the_length_of_a_stream_is_one_plain_number() {
        let length = |values: &[&str]| {
            let headers: Vec<_> = values.iter().map(|&v| ("content-length".to_owned(), v.to_owned())).collect();
            content_length(&headers)
        };
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&["12"]), Ok(Some(12)));
        for bad in [&["12", "12"][..], &["+1"], &["-1"], &[""], &["1 "], &["99999999999999999999"]] {
            assert!(length(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_refusal_is_json_and_says_nothing_of_its_cause() {
        let trap = CallError::Trap { source: std::io::Error::other("secret").into(), memory_refused: false };
        for refusal in [Refusal::NotFound, Refusal::Call(trap), Refusal::BadRequest("x"), BadPath.into()] {
            let response = refusal.response();
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
            let Content::Full(Some(body)) = &response.body().content else { panic!("not full") };
            assert!(!body.windows(6).any(|w| w == b"secret") && body.starts_with(b"{\"detail\":\""));
        }
    }
}
