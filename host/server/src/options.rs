//! What an operator can set, as it is meant: units resolved, defaults filled in.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use covet_wasm::{Isolation, PoolOptions};

use crate::tls::Tls;

/// The settings of a server with one application.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads, each with its own event loop, listener socket and instances.
    pub threads: usize,
    /// The network layer.
    pub net: covet_net::Config,
    /// The certificates of the server; without them it speaks plain text.
    pub tls: Option<Arc<Tls>>,
    /// Where plain requests are sent to the same address with TLS.
    pub redirect: Option<SocketAddr>,
    /// Limits of a connection.
    pub connection: ConnectionLimits,
    /// The largest body of a request in bytes.
    pub body_bytes_max: u64,
    /// The instances of the application, on each thread.
    pub pool: PoolOptions,
    /// How long running requests may go on after a stop was asked for.
    pub drain_timeout: Duration,
    /// Whether each request is logged.
    pub access_log: bool,
}

/// Limits of one connection.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// Without any request.
    pub idle_timeout: Duration,
    /// With bytes to send of which the client takes none.
    pub write_timeout: Duration,
    /// Request line and header fields together, in bytes; 431 beyond it.
    pub head_bytes_max: usize,
    /// Header fields; 431 beyond it.
    pub fields_max: usize,
    /// For the handshake of TLS.
    pub handshake_timeout: Duration,
    /// Requests that one connection of HTTP/2 or 3 may have under way.
    pub streams_max: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            head_bytes_max: 32 << 10,
            fields_max: 100,
            handshake_timeout: Duration::from_secs(10),
            streams_max: 128,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8000).into(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            net: covet_net::Config::default(),
            tls: None,
            redirect: None,
            connection: ConnectionLimits::default(),
            body_bytes_max: 10 << 20,
            pool: PoolOptions::default(),
            drain_timeout: Duration::from_secs(30),
            access_log: true,
        }
    }
}

impl Options {
    /// Splits a number of instances for the whole process over the threads.
    #[must_use]
    pub fn with_instances(mut self, instances: usize, isolation: Isolation) -> Self {
        self.pool.isolation = isolation;
        self.pool.live_max = instances.div_ceil(self.threads.max(1)).max(1);
        self.pool.stock = self.pool.stock.min(self.pool.live_max);
        self
    }
}
