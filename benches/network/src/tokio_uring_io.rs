//! hyper's I/O traits on tokio-uring's stream, which takes buffers by value: one read and one write in flight, each a
//! boxed future. A comparator, as plain as its API allows.

use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio_uring::net::TcpStream;

type Operation = Pin<Box<dyn Future<Output = (io::Result<usize>, Vec<u8>)>>>;

pub struct TokioUringIo {
    stream: Rc<TcpStream>,
    reading: Option<Operation>,
    received: Vec<u8>,
    taken: usize,
    writing: Option<Operation>,
    staged: Vec<u8>,
}

impl TokioUringIo {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream: Rc::new(stream),
            reading: None,
            received: Vec::with_capacity(8192),
            taken: 0,
            writing: None,
            staged: Vec::new(),
        }
    }
}

impl Read for TokioUringIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken == self.received.len() {
            if self.reading.is_none() {
                let stream = Rc::clone(&self.stream);
                let mut buffer = mem::take(&mut self.received);
                buffer.clear();
                self.taken = 0;
                self.reading = Some(Box::pin(async move { stream.read(buffer).await }));
            }
            let reading = self.reading.as_mut().expect("it was set just now");
            let (result, buffer) = ready!(reading.as_mut().poll(context));
            self.reading = None;
            self.received = buffer;
            result?;
        }
        let length = cursor.remaining().min(self.received.len() - self.taken);
        cursor.put_slice(&self.received[self.taken..self.taken + length]);
        self.taken += length;
        Poll::Ready(Ok(()))
    }
}

impl Write for TokioUringIo {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.staged.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(writing) = &mut self.writing {
                let (result, mut buffer) = ready!(writing.as_mut().poll(context));
                self.writing = None;
                result?;
                if self.staged.is_empty() {
                    buffer.clear();
                    self.staged = buffer;
                }
            }
            if self.staged.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let stream = Rc::clone(&self.stream);
            let buffer = mem::take(&mut self.staged);
            self.writing = Some(Box::pin(async move {
                let length = buffer.len();
                let (result, buffer) = stream.write_all(buffer).await;
                (result.map(|()| length), buffer)
            }));
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        Poll::Ready(self.stream.shutdown(std::net::Shutdown::Write))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let before = self.staged.len();
        for slice in slices {
            self.staged.extend_from_slice(slice);
        }
        Poll::Ready(Ok(self.staged.len() - before))
    }
}
