//! The `covet-host` command. Each subcommand has a file; `flags` is what can be typed, `failure` how a command fails.
#![forbid(unsafe_code)]

mod compile;
mod component;
mod dev_cert;
mod failure;
mod flags;
mod inspect;
mod logging;
mod run;
mod tls;

use std::process::ExitCode;

use clap::Parser;
use flags::{Command, CommandLine};

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Run(flags) => run::run(*flags),
        Command::Compile(flags) => compile::compile(&flags),
        Command::Inspect(flags) => inspect::inspect(&flags),
        Command::DevCert(flags) => dev_cert::make(&flags),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
