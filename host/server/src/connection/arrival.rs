//! What a connection says about each of its requests.

use std::net::SocketAddr;

/// From where, to where and how the requests of a connection come.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// The client, or the proxy that is next to the host.
    pub(crate) peer: SocketAddr,
    /// The address on which it was accepted.
    pub(crate) local: SocketAddr,
    /// Whether there is TLS.
    pub(crate) is_secure: bool,
    /// The subject of the certificate that the client has proved to own (RFC 4514).
    pub(crate) client_subject: Option<String>,
}

impl Arrival {
    /// The scheme of a URL that leads here.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}
