//! Middleware: what stands between the host and an application, or another middleware.

use crate::{Request, Response};

/// A middleware. [`export_middleware!`](crate::export_middleware) makes a component of it.
///
/// ```
/// use covet_guest::{Middleware, Request, Response, export_middleware};
///
/// struct NoSniff;
///
/// impl Middleware for NoSniff {
///     async fn handle(request: Request, next: impl AsyncFn(Request) -> Response) -> Response {
///         let response = next(request).await;
///         response.with_header("x-content-type-options", "nosniff")
///     }
/// }
///
/// export_middleware!(NoSniff);
/// # fn main() {}
/// ```
#[allow(async_fn_in_trait, reason = "an instance has one thread, so nothing has to be `Send`")]
pub trait Middleware {
    /// Answers a request, usually with the help of `next`, which is whatever stands behind.
    ///
    /// A body that is not touched costs the same whatever its length if it is a stream; text and bytes are copied once
    /// for each layer.
    async fn handle(request: Request, next: impl AsyncFn(Request) -> Response) -> Response;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{body::tests::at_once, request::tests::request};

    struct Guard;

    impl Middleware for Guard {
        async fn handle(request: Request, next: impl AsyncFn(Request) -> Response) -> Response {
            if request.header("authorization").is_none() {
                return Response::empty(401);
            }
            next(request).await.with_header("x-guard", "passed")
        }
    }

    #[test]
    fn a_middleware_can_be_tested_with_any_function_behind_it() {
        let behind = async |_: Request| Response::text("secret");
        assert_eq!(at_once(Guard::handle(request(), behind)).status, 401);
        let mut allowed = request();
        allowed.headers.push(("authorization".into(), "x".into()));
        let response = at_once(Guard::handle(allowed, behind));
        assert_eq!((response.status, response.header("x-guard")), (200, Some("passed")));
    }
}
