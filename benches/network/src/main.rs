//! What does hyper's HTTP/1.1 hello cost in CPU per request on our ring, on tokio's epoll, and on tokio-uring?
//! It does not measure latency, nor the most requests per second that a machine can do: one core serves.
//!
//! ```text
//! cargo run --release -- run [--rounds 7] [--seconds 2] [--load wrk|own] [--record]
//! ```
//! `run` starts each server as a child on core 0, loads it from core 1 with wrk, or with a generator of its own where
//! there is no wrk, and reads the CPU time of the server's threads before and after. Rounds are interleaved
//! (A B C A B C ...), so that what else the machine does falls on all of them. Read the ratios, not the numbers.

mod load;
mod measure;
mod server;
mod tokio_uring_io;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["server", kind] => kind.parse().map(server::serve),
        ["load", address, depth, seconds] => load::generate(address, depth, seconds),
        ["run", ref options @ ..] => measure::Plan::parse(options).and_then(|plan| plan.run()),
        _ => Err("usage: run [--rounds N] [--seconds N] [--load wrk|own] [--record]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
