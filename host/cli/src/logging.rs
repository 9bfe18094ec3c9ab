//! The log on standard error, written by a thread of its own so that a slow terminal does not stop requests.

use std::io::{self, Write};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    failure::Failure,
    flags::{ComponentFlags, LogFormat},
};

/// Starts the log; dropping the guard writes what is left.
pub(crate) fn start(flags: &ComponentFlags) -> Result<WorkerGuard, Failure> {
    let filter = EnvFilter::try_new(&flags.log).map_err(|e| Failure::usage(format!("--log {}", flags.log), &e))?;
    let (writer, guard) = NonBlockingBuilder::default().thread_name("covet-log").finish(io::stderr());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    match flags.log_format {
        LogFormat::Text => subscriber.with_writer(Indented(writer)).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_writer(writer).init(),
    }
    Ok(guard)
}

/// Moves the second and later lines of an event to the right, so that no message of a guest can look like another event.
#[derive(Clone)]
struct Indented<W>(W);

impl<'a> MakeWriter<'a> for Indented<NonBlocking> {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl<W: Write> Write for Indented<W> {
    /// `tracing-subscriber` hands over one whole event at a time.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        if !line.contains(&b'\n') {
            return self.0.write(event);
        }
        let mut text = Vec::with_capacity(event.len() + 64);
        for (number, line) in line.split(|&byte| byte == b'\n').enumerate() {
            if number > 0 {
                text.extend_from_slice(b"    | ");
            }
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        self.0.write_all(&text)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_several_lines_stays_one_event_for_the_eye() {
        let mut out = Indented(Vec::new());
        out.write_all(b"one\n").unwrap();
        out.write_all(b"INFO two\nERROR forged\n").unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "one\nINFO two\n    | ERROR forged\n");
    }
}
