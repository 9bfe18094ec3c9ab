//! Applications and middleware for covet-host, written in Rust. It knows nothing of HTTP on the wire, of other hosts, or
//! of how requests find their route.
//!
//! An application is a type that implements [`App`], most of which [`routes!`] writes, and that [`export_app!`] turns
//! into the exports of a component:
//!
//! ```
//! use covet_guest::{App, Request, Response, export_app, routes};
//!
//! struct Hello;
//!
//! impl App for Hello {
//!     routes! {
//!         GET "/hello/{name}" => hello,
//!     }
//! }
//!
//! async fn hello(request: Request) -> Response {
//!     let name = request.param(0).unwrap_or_default();
//!     Response::text(format!("Hello, {name}!\n"))
//! }
//!
//! export_app!(Hello);
//! # fn main() {}
//! ```
//!
//! The crate is a `cdylib` and is built with `cargo build --release --target wasm32-wasip2`. Middleware is the same with
//! [`Middleware`] and [`export_middleware!`]; the host composes it in front of an application that need not know of it.
//!
//! An instance of a component has one thread. Whether a `static` is still there at the next request is decided by the
//! isolation that the operator has chosen; with the default, `fresh`, it is not.
//!
//! What is sent and received is plain data: [`Request`], [`Response`], [`Body`]. They are the records of
//! `wit/types.wit`, which says why they are shaped as they are. [`host`] is what a guest may ask of its host.
//!
//! Outside of WebAssembly everything here compiles, and whatever does not reach for the host or for streams runs, so
//! that handlers can be tested natively. What reaches for them panics there.
// wit-bindgen writes `unsafe` into `bindings`, as the component model's calling convention is one of raw pointers, so
// this cannot be `forbid`. A guest can: it sees macros of another crate, whose inside the lint does not look at.
#![deny(unsafe_code)]

mod app;
mod body;
mod middleware;
mod request;
mod response;

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod export;

pub use app::{App, Isolation, Route};
pub use bindings::application::covet::app::types::{Body, Headers, Request, Response, Trailers};
pub use bindings::application::exports::covet::app::app::RouteKind;
pub use body::{BodyTooLarge, stream};
pub use middleware::Middleware;
pub use wit_bindgen::{StreamReader, StreamResult, StreamWriter, spawn_local};

/// What the host gives to every guest: time, the log, figures, randomness and the operator's settings.
pub mod host {
    pub use crate::bindings::application::covet::app::host::{
        Level, Traffic, Usage, config, log, metrics, random_seed, sleep, statistics,
    };
}
