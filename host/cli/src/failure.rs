//! How a command fails: one message that says what, where and what to do, and an exit code.

use std::{error::Error, fmt::Display, process::ExitCode};

/// A failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Something in what was typed, or in a file or address that it names: exit code 2.
    pub(crate) fn usage(what: impl Display, cause: &dyn Error) -> Self {
        Self { message: format!("{what}: {}", chain(cause)), code: 2 }
    }

    /// Something that went wrong although the command was right: exit code 1.
    pub(crate) fn runtime(what: impl Display, cause: &dyn Error) -> Self {
        Self { message: format!("{what}: {}", chain(cause)), code: 1 }
    }

    /// Prints the message.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("covet-host: {}", self.message);
        ExitCode::from(self.code)
    }
}

/// An error and its causes, each told once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
