//! The harness of the end-to-end tests: [`Host`] runs the real binary on a free port, [`Connection`] speaks raw HTTP/1.1
//! to it. `make guests` builds what is served.

pub mod compose;
pub mod frames;
mod host;
mod http;
mod paths;

pub use host::{Finished, Host, Started, command, run};
pub use http::{Answer, Connection};
pub use paths::{component, private_bytes, repository};
