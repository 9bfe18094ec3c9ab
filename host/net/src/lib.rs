//! The network under covet-host: listening sockets, event loops and byte streams.
//! It knows nothing of HTTP, TLS or WebAssembly, and it starts no threads.
//!
//! The tour, in the order in which a host meets the parts:
//!
//! 1. [`Config`] says what the operator wants: [`Io`] and the limits.
//! 2. [`bind()`] opens one listening socket per thread on the same address.
//! 3. [`Reactor`] is the event loop of one thread: a tokio runtime and, where the kernel can do it, an io_uring.
//! 4. [`Listener`] accepts on that loop and yields a [`Stream`] per connection.
//! 5. [`Stream`] is read and written through `hyper::rt::Read` and `hyper::rt::Write`.
//! 6. [`Stats`] counts what one event loop did.
//!
//! There are two [`Backend`]s behind the same types. `epoll` is tokio's own; `uring` is the driver in `ring/`, whose
//! module documentation explains how completions become wake-ups. Everything here belongs to the thread that made it:
//! no type but [`Config`] and the errors is meant to cross threads.
//!
//! ```no_run
//! use covet_net::{Config, Listener, Reactor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut sockets = covet_net::bind("127.0.0.1:8080".parse()?, 1, 1024)?;
//! let reactor = Reactor::new(&Config::default())?;
//! reactor.block_on(async {
//!     let mut listener = Listener::new(sockets.remove(0))?;
//!     loop {
//!         let (stream, peer) = listener.accept().await?;
//!         tokio::task::spawn_local(async move {
//!             // hyper::server::conn::http1::Builder::new().serve_connection(stream, ...)
//!             drop((stream, peer));
//!         });
//!     }
//! })
//! # }
//! ```

mod bind;
mod config;
mod epoll;
mod listener;
mod reactor;
mod ring;
mod stats;
mod stream;

pub use bind::{BindError, bind};
pub use config::{Backend, Config, Io, ParseIoError};
pub use listener::Listener;
pub use reactor::{Reactor, SetupError};
pub use ring::Unavailable;
pub use stats::Stats;
pub use stream::Stream;
