//! Applications: what they implement, and the table of their routes.

use crate::{Request, Response, RouteKind};

pub use crate::bindings::application::exports::covet::app::app::{Isolation, Route};

/// An application. [`export_app!`](crate::export_app) makes a component of it.
#[allow(async_fn_in_trait, reason = "an instance has one thread, so nothing has to be `Send`")]
pub trait App {
    /// The routes, asked for once when the component is loaded. A request names its route by its index in this list.
    /// [`routes!`](crate::routes) writes this function and [`handle`](Self::handle).
    fn routes() -> Vec<Route>;

    /// Answers a request. A panic in it is a trap: the client gets a 502, and the instance is thrown away.
    async fn handle(request: Request) -> Response;

    /// The OpenAPI document as JSON.
    fn openapi() -> Option<String> {
        None
    }

    /// Runs once when the host loads the application; every instance begins with the state after it.
    ///
    /// # Errors
    /// A message, with which the host stops.
    async fn startup() -> Result<(), String> {
        Ok(())
    }

    /// Runs when the host drains.
    ///
    /// # Errors
    /// A message, which the host logs.
    async fn shutdown() -> Result<(), String> {
        Ok(())
    }
}

impl Route {
    /// A route for one method, or for every method if `method` is empty. The syntax of patterns is that of
    /// `wit/app.wit`: `{name}` stands for a segment, `{*name}` at the end for the rest of the path.
    pub fn new(method: &str, pattern: &str, name: &str) -> Self {
        Self {
            method: method.to_owned(),
            pattern: pattern.to_owned(),
            name: name.to_owned(),
            kind: RouteKind::Http,
            isolation: None,
        }
    }

    /// Asks for a certain isolation, whatever the host's default is.
    #[must_use]
    pub fn with_isolation(self, isolation: Isolation) -> Self {
        Self { isolation: Some(isolation), ..self }
    }
}

/// Writes [`App::routes`] and [`App::handle`] from a table, so that the order of the one is always that of the other.
///
/// Each line is a method (`ANY` for every one), a pattern, and an `async fn(Request) -> Response`; then, if the route needs
/// a certain [`Isolation`], `as` and its name.
///
/// ```
/// # use covet_guest::{App, Request, Response, routes};
/// # async fn show(_: Request) -> Response { Response::empty(204) }
/// # async fn change(_: Request) -> Response { Response::empty(204) }
/// # async fn trace(_: Request) -> Response { Response::empty(204) }
/// struct Users;
///
/// impl App for Users {
///     routes! {
///         GET "/users/{id}" => show,
///         PUT "/users/{id}" => change as Reuse,
///         ANY "/debug/{*rest}" => trace,
///     }
/// }
///
/// assert_eq!(Users::routes()[2].pattern, "/debug/{*rest}");
/// ```
#[macro_export]
macro_rules! routes {
    ($($method:ident $pattern:literal => $handler:path $(as $isolation:ident)?),+ $(,)?) => {
        fn routes() -> ::std::vec::Vec<$crate::Route> {
            ::std::vec![$(
                $crate::export::route(stringify!($method), $pattern, stringify!($handler))
                    $(.with_isolation($crate::Isolation::$isolation))?
            ),+]
        }

        async fn handle(request: $crate::Request) -> $crate::Response {
            // The compiler makes a jump table of this.
            let mut index = 0;
            $(
                if request.route == index {
                    return $handler(request).await;
                }
                index += 1;
            )+
            ::std::unreachable!("route {} of {index}", request.route)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, body::tests::at_once, request::tests::request};

    struct Table;

    impl App for Table {
        routes! {
            GET "/a" => inner::first as Shared,
            ANY "/{*rest}" => second,
        }
    }

    mod inner {
        use crate::{Request, Response};

        pub(super) async fn first(_: Request) -> Response {
            Response::text("first")
        }
    }

    async fn second(request: Request) -> Response {
        Response::text(format!("second {}", request.target))
    }

    #[test]
    fn a_table_declares_its_routes_in_order() {
        let routes = Table::routes();
        let told: Vec<_> = routes.iter().map(|r| (r.method.as_str(), r.pattern.as_str(), r.name.as_str())).collect();
        assert_eq!(told, [("GET", "/a", "inner::first"), ("", "/{*rest}", "second")]);
        let asked: Vec<_> = routes.iter().map(|route| route.isolation).collect();
        assert_eq!(asked, [Some(Isolation::Shared), None]);
    }

    #[test]
    fn a_request_gets_the_handler_of_its_index() {
        for (route, expected) in [(0, "first"), (1, "second /x?y=1")] {
            let response = at_once(Table::handle(Request { route, ..request() }));
            let Body::Text(text) = response.body else { panic!("not text") };
            assert_eq!(text, expected);
        }
    }

    #[test]
    #[should_panic(expected = "route 2 of 2")]
    fn an_index_that_no_host_sends_is_a_panic() {
        at_once(Table::handle(Request { route: 2, ..request() }));
    }
}
