//! A middleware that adds a header field each way and passes bodies through.
#![forbid(unsafe_code)]

use covet_guest::{Middleware, Request, Response, export_middleware};

struct Header;

impl Middleware for Header {
    async fn handle(mut request: Request, next: impl AsyncFn(Request) -> Response) -> Response {
        request.headers.push(("x-middleware".into(), "header".into()));
        let mut response = next(request).await;
        response.headers.push(("x-middleware-out".into(), "header".into()));
        response
    }
}

export_middleware!(Header);
