//! How a command fails: one message that says what, where and what to do, and an exit code.

use std::{error::Error, fmt::Display, process::ExitCode};

use covet_wasm::Chain;

/// A failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Something in what was typed, or in a file or address that it names: exit code 2.
    pub(crate) fn usage(what: impl Display, cause: &dyn Error) -> Self {
        Self { message: format!("{what}: {}", Chain(cause)), code: 2 }
    }

    /// Something that went wrong although the command was right: exit code 1.
    pub(crate) fn runtime(what: impl Display, cause: &dyn Error) -> Self {
        Self { message: format!("{what}: {}", Chain(cause)), code: 1 }
    }

    /// Prints the message.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("covet-host: {}", self.message);
        ExitCode::from(self.code)
    }
}
