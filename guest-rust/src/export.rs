//! From [`App`] and [`Middleware`] to the exports of a component. Used by macros only.
//!
//! # Why an export yields after it has returned
//! When a component calls another one and the callee is over at its first poll, wasmtime 48 keeps an entry for the
//! finished task until the instance is dropped: 0.4 KiB of host memory for each call, and after 800,000 of them no call
//! works any more. A callee that lives on for one more turn of the event loop is cleaned up. So every export here that
//! may be called by another component leaves a task that yields once. The answer is not kept waiting by it; it costs
//! about 0.8 us of processor time. `tests/e2e/leaks.rs` holds this.

use std::{cell::Cell, marker::PhantomData};

use wit_bindgen::{spawn_local, yield_async};

use crate::{
    App, Middleware, Request, Response, Route,
    bindings::{
        application::exports::covet::app::{app, handler as app_handler},
        middleware::{covet::app::handler as next, exports::covet::app::handler as middleware_handler},
    },
};

/// Exports an [`App`] from this crate as a component of the world `application`. Once for each crate.
#[macro_export]
macro_rules! export_app {
    ($app:ty) => {
        const _: () = {
            type Exported = $crate::export::ExportedApp<$app>;
            $crate::bindings::application::export!(
                Exported with_types_in $crate::bindings::application
            );
        };
    };
}

/// Exports a [`Middleware`] from this crate as a component of the world `middleware`. Once for each crate.
#[macro_export]
macro_rules! export_middleware {
    ($middleware:ty) => {
        const _: () = {
            type Exported = $crate::export::ExportedMiddleware<$middleware>;
            // See the head of `bindings.rs`.
            $crate::__export_covet_app_handler_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::middleware::exports::covet::app::handler
            );
        };
    };
}

/// Lives on for one turn of the event loop after the export has returned.
fn outlive_return() {
    spawn_local(yield_async());
}

/// The route of a request with which the host warms the application up, see `wit/types.wit`.
const NO_ROUTE: u32 = u32::MAX;

pub struct ExportedApp<A>(PhantomData<A>);

impl<A: App> app_handler::Guest for ExportedApp<A> {
    async fn handle(request: Request) -> Response {
        outlive_return();
        if request.route == NO_ROUTE {
            return Response::empty(204);
        }
        A::handle(request).await
    }
}

impl<A: App> app::Guest for ExportedApp<A> {
    fn routes() -> Vec<Route> {
        A::routes()
    }

    fn openapi() -> Option<String> {
        A::openapi()
    }

    async fn startup() -> Result<(), String> {
        A::startup().await
    }

    async fn shutdown() -> Result<(), String> {
        A::shutdown().await
    }
}

pub struct ExportedMiddleware<M>(PhantomData<M>);

impl<M: Middleware> middleware_handler::Guest for ExportedMiddleware<M> {
    async fn handle(request: Request) -> Response {
        let passed_on = Cell::new(false);
        let response = M::handle(request, async |request| {
            passed_on.set(true);
            next::handle(request).await
        })
        .await;
        // A call of the next layer suspends this one, which is enough; so only an answer of its own needs the yield.
        if !passed_on.get() {
            outlive_return();
        }
        response
    }
}

/// A line of [`routes!`](crate::routes).
pub fn route(method: &str, pattern: &str, name: &str) -> Route {
    Route::new(if method == "ANY" { "" } else { method }, pattern, name)
}
