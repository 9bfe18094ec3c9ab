//! A middleware that answers 403 itself to a request with a field `x-refuse`, and passes the others on.
#![forbid(unsafe_code)]

use covet_guest::{Middleware, Request, Response, export_middleware};

struct Refuse;

impl Middleware for Refuse {
    async fn handle(request: Request, next: impl AsyncFn(Request) -> Response) -> Response {
        if request.header("x-refuse").is_some() {
            return Response::empty(403);
        }
        next(request).await
    }
}

export_middleware!(Refuse);
