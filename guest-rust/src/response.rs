//! Making responses. Their fields are documented in `wit/types.wit` and can be set directly as well.

use crate::{Body, Response, StreamReader, Trailers, request::lookup};

impl Response {
    /// 200 with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::ok("text/plain; charset=utf-8", Body::Text(text.into()))
    }

    /// 200 with HTML.
    pub fn html(html: impl Into<String>) -> Self {
        Self::ok("text/html; charset=utf-8", Body::Text(html.into()))
    }

    /// 200 with JSON that has been serialized already.
    pub fn json(json: impl Into<String>) -> Self {
        Self::ok("application/json", Body::Text(json.into()))
    }

    /// 200 with a small binary. Beyond 16 KiB a [stream](Self::stream) is cheaper, and text is cheaper at any length.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::ok("application/octet-stream", Body::Bytes(bytes.into()))
    }

    /// 200 with whatever is written to the other end of a stream ([`stream`](crate::stream)), or with a request's body
    /// as it comes.
    pub fn stream(stream: StreamReader<u8>) -> Self {
        Self::ok("application/octet-stream", Body::Stream(stream))
    }

    /// A status without content.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Empty, trailers: Trailers::Absent }
    }

    /// Sets the status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Sets a header field; `name` is in lower case. Fields of that name are replaced: push to `headers` where several
    /// are wanted, as with `set-cookie`.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The first value of a header field, whatever the case of `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        lookup(&self.headers, name)
    }

    fn ok(content_type: &str, body: Body) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status: 200, headers, body, trailers: Trailers::Absent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_set_twice_is_there_once() {
        let response = Response::text("<p>").with_header("content-type", "text/x").with_header("x-a", "1");
        assert_eq!(response.headers, [("content-type".into(), "text/x".into()), ("x-a".into(), "1".into())]);
    }

    #[test]
    fn each_form_says_what_it_is() {
        let kinds = [Response::text(""), Response::html(""), Response::json("{}"), Response::bytes([0])];
        let kinds = kinds.map(|response| response.header("content-type").map(str::to_owned).unwrap_or_default());
        let text = ["text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"];
        assert_eq!((&kinds[..3], kinds[3].as_str()), (&text.map(str::to_owned)[..], "application/octet-stream"));
        let empty = Response::empty(404).with_status(410);
        assert!(matches!(empty, Response { status: 410, body: Body::Empty, trailers: Trailers::Absent, .. }));
    }
}
