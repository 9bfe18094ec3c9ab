//! Tests of covet-net as its users see it: a server thread with a reactor, and plain blocking sockets as clients, over
//! loopback. Every test that makes sense on both backends runs on both. Tests that change limits of the process are in
//! `tests/limits.rs`.

mod support;

mod accepting;
mod closing;
mod http;
mod loops;
mod receiving;
mod sending;
