//! The end-to-end tests of covet-host: one binary, one module for each subject.
#![forbid(unsafe_code)]

mod cli;
mod clients;
mod errors;
mod http1;
mod http2;
mod instances;
mod isolation;
mod leaks;
mod lifecycle;
mod limits;
mod metrics;
mod requests;
mod routing;
mod rust_guests;
mod shared;
mod streaming;
mod tenants;
mod tls;
