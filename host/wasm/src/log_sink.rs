//! Where a guest's log lines and standard streams go: the host's log, within a budget per request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use crate::bindings::covet::app::host::Level;

/// The log of one instance.
#[derive(Debug)]
pub(crate) struct LogSink {
    app: Arc<str>,
    budget: AtomicUsize,
}

impl LogSink {
    /// `budget` is what start-up may write before the first request begins.
    pub(crate) fn new(app: Arc<str>, budget: usize) -> Arc<Self> {
        Arc::new(Self { app, budget: AtomicUsize::new(budget) })
    }

    /// Starts the budget of a new request, in bytes.
    pub(crate) fn begin(&self, budget: usize) {
        self.budget.store(budget, Relaxed);
    }

    /// Writes one event; `target` and `message` come from the guest and may be anything.
    pub(crate) fn write(&self, level: Level, target: &str, message: &str) {
        let size = message.len() + target.len();
        let left = self.budget.load(Relaxed);
        if left == 0 {
            return;
        }
        if size > left {
            self.budget.store(0, Relaxed);
            tracing::warn!(target: "guest", app = &*self.app, "log budget of the request is used up, the rest is dropped");
            return;
        }
        // Never down to 0 here, so that an empty budget always means that the warning has been written.
        self.budget.store((left - size).max(1), Relaxed);
        let (app, logger, message) = (&*self.app, printable(target), printable(message));
        match level {
            Level::Trace => tracing::trace!(target: "guest", app, logger = &*logger, "{message}"),
            Level::Debug => tracing::debug!(target: "guest", app, logger = &*logger, "{message}"),
            Level::Info => tracing::info!(target: "guest", app, logger = &*logger, "{message}"),
            Level::Warn => tracing::warn!(target: "guest", app, logger = &*logger, "{message}"),
            Level::Error => tracing::error!(target: "guest", app, logger = &*logger, "{message}"),
        }
    }
}

/// Replaces control characters other than tab and line feed, which could drive a terminal that shows the log.
fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(harmless) {
        return text.into();
    }
    text.chars().map(|c| if harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect::<String>().into()
}

/// A standard stream of a guest: whole lines go to the log, at the level `info` for stdout and `warn` for stderr.
#[derive(Clone)]
pub(crate) struct LineStream {
    sink: Arc<LogSink>,
    name: &'static str,
    level: Level,
    line: Arc<Mutex<Vec<u8>>>,
}

/// A longer line is cut into several events.
const LINE_BYTES_MAX: usize = 8 << 10;
/// What a guest may write in one go; wasi-libc splits larger writes.
const WRITE_BYTES_MAX: usize = 64 << 10;

impl LineStream {
    pub(crate) fn stdout(sink: Arc<LogSink>) -> Self {
        Self { sink, name: "stdout", level: Level::Info, line: Arc::default() }
    }

    pub(crate) fn stderr(sink: Arc<LogSink>) -> Self {
        Self { sink, name: "stderr", level: Level::Warn, line: Arc::default() }
    }

    /// Writes what stands in the buffer without a line feed at its end.
    pub(crate) fn finish(&self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.is_empty() {
            self.emit(&line);
            line.clear();
        }
    }

    fn append(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            for chunk in piece.chunks(LINE_BYTES_MAX) {
                line.extend_from_slice(chunk);
                if line.ends_with(b"\n") || line.len() >= LINE_BYTES_MAX {
                    self.emit(&line);
                    line.clear();
                }
            }
        }
    }

    fn emit(&self, line: &[u8]) {
        self.sink.write(self.level, self.name, String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']));
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::Trap(wasmtime::format_err!("a write of {} bytes without permit", bytes.len())));
        }
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LineStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_guest_do_not_reach_a_terminal() {
        assert_eq!(printable("a\x1b[31mb\r\n\tc"), "a\u{fffd}[31mb\u{fffd}\n\tc");
        assert!(matches!(printable("plain\n"), std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn a_budget_that_is_used_up_stays_used_up_until_the_next_request() {
        let sink = LogSink::new("app".into(), 0);
        sink.begin(10);
        sink.write(Level::Info, "", "123456789");
        assert_eq!(sink.budget.load(Relaxed), 1);
        sink.write(Level::Info, "", "12");
        assert_eq!(sink.budget.load(Relaxed), 0);
        sink.begin(10);
        assert_eq!(sink.budget.load(Relaxed), 10);
    }

    #[test]
    fn a_line_is_kept_until_it_ends_and_never_grows_without_bound() {
        let stream = LineStream::stdout(LogSink::new("app".into(), usize::MAX));
        stream.append(b"half a ");
        assert_eq!(stream.line.lock().unwrap().len(), 7);
        stream.append(b"line\nrest");
        assert_eq!(&*stream.line.lock().unwrap(), b"rest");
        stream.append(&[b'x'; 3 * LINE_BYTES_MAX]);
        assert!(stream.line.lock().unwrap().len() < LINE_BYTES_MAX);
        stream.finish();
        assert!(stream.line.lock().unwrap().is_empty());
    }
}
