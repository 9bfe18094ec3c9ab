//! The server of covet-host: connections, HTTP, routing and responses. It knows no wasmtime and no system calls.
//!
//! The way of a request, one module for each step:
//!
//! 1. `serve`: a thread accepts a connection from its listener,
//! 2. `connection` finds out which HTTP it speaks, through [`tls`] or in plain text, and watches that its client is not
//!    too slow,
//! 3. `dispatch` is the way itself, on one screen,
//! 4. `request` checks the head and reads or streams the body,
//! 5. [`Router`] finds the route,
//! 6. [`covet_wasm::Pool::call`] runs the guest,
//! 7. [`response`] checks what it answered, or makes the host's own answer.
#![forbid(unsafe_code)]

mod access_log;
mod connection;
mod dispatch;
mod drain;
mod options;
mod redirect;
mod request;
pub mod response;
mod router;
mod serve;
pub mod tls;

pub use options::{ConnectionLimits, Options};
pub use router::{BadPath, Found, RouteError, Router, display as display_route};
pub use serve::{ServeError, Server};
