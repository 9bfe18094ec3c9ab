//! Which version of HTTP a plain connection speaks: it begins with the preface of HTTP/2 (RFC 9113 section 3.4), or not.

use std::{
    fmt, io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::time::timeout;

use super::Transport;
use crate::options::ConnectionLimits;

/// What a connection turned out to be. What was read to find out is read again from it.
pub(super) enum Detected<S> {
    Http1(Rewound<S>),
    Http2(Rewound<S>),
}

/// Why nothing was found out.
#[derive(Debug)]
pub(super) enum Undetected {
    /// It was closed without a byte, as those who look whether a port is open do, or failed.
    Ended(Option<io::Error>),
    /// Nothing came, or less than a preface and no end of it.
    Silent,
}

impl fmt::Display for Undetected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(None) => f.write_str("closed by its client"),
            Self::Ended(Some(error)) => error.fmt(f),
            Self::Silent => f.write_str("its client sent nothing in time"),
        }
    }
}

/// Reads until the connection differs from the preface or has sent all of it: one byte is enough for most.
pub(super) async fn detect<S: Transport>(mut stream: S, limits: &ConnectionLimits) -> Result<Detected<S>, Undetected> {
    let mut start = Start { bytes: [0; PREFACE.len()], length: 0 };
    let mut patience = limits.idle_timeout;
    loop {
        let read = std::future::poll_fn(|context| start.poll_fill(&mut stream, context));
        let ended = match timeout(patience, read).await {
            Err(_) => return Err(Undetected::Silent),
            Ok(Err(error)) => return Err(Undetected::Ended(Some(error))),
            Ok(Ok(count)) => count == 0,
        };
        patience = limits.head_timeout;
        let known = &start.bytes[..start.length];
        if known.is_empty() {
            return Err(Undetected::Ended(None));
        }
        if known == PREFACE {
            return Ok(Detected::Http2(Rewound { start, given: 0, stream }));
        }
        if ended || !PREFACE.starts_with(known) {
            return Ok(Detected::Http1(Rewound { start, given: 0, stream }));
        }
    }
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection.
struct Start {
    bytes: [u8; PREFACE.len()],
    length: usize,
}

impl Start {
    /// Reads what is there, without going beyond the length of a preface. Resolves to how much it was; 0 is the end.
    fn poll_fill<S: Transport>(&mut self, stream: &mut S, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); PREFACE.len()];
        let mut buffer = ReadBuf::uninit(&mut room[self.length..]);
        ready!(Pin::new(stream).poll_read(context, buffer.unfilled()))?;
        let new = buffer.filled();
        self.bytes[self.length..][..new.len()].copy_from_slice(new);
        self.length += new.len();
        Poll::Ready(Ok(new.len()))
    }
}

/// A stream whose first bytes were read already, and come again.
pub(super) struct Rewound<S> {
    start: Start,
    given: usize,
    stream: S,
}

impl<S: Transport> Read for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let left = &self.start.bytes[self.given..self.start.length];
        if left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, cursor);
        }
        let count = left.len().min(cursor.remaining());
        cursor.put_slice(&left[..count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> Write for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use super::*;

    /// Yields its pieces, one per read, and then its end or nothing more.
    struct Pieces {
        pieces: VecDeque<Vec<u8>>,
        ends: bool,
    }

    impl Read for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut cursor: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.pieces.pop_front() else {
                return if self.ends { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            let rest = piece.split_off(piece.len().min(cursor.remaining()));
            cursor.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    impl Write for Pieces {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn found(pieces: &[&[u8]], ends: bool) -> Result<(&'static str, Vec<u8>), Undetected> {
        let limits = ConnectionLimits {
            idle_timeout: Duration::from_millis(20),
            head_timeout: Duration::from_millis(20),
            ..ConnectionLimits::default()
        };
        let stream = Pieces { pieces: pieces.iter().map(|piece| piece.to_vec()).collect(), ends };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (name, mut stream) = match detect(stream, &limits).await? {
                Detected::Http1(stream) => ("1", stream),
                Detected::Http2(stream) => ("2", stream),
            };
            let mut all = Vec::new();
            loop {
                let mut room = [MaybeUninit::uninit(); 7];
                let mut buffer = ReadBuf::uninit(&mut room);
                let read = std::future::poll_fn(|context| Pin::new(&mut stream).poll_read(context, buffer.unfilled()));
                if timeout(Duration::from_millis(5), read).await.is_err() {
                    break;
                }
                if buffer.filled().is_empty() {
                    break;
                }
                all.extend_from_slice(buffer.filled());
            }
            Ok((name, all))
        })
    }

    #[test]
    fn a_preface_is_http2_however_it_comes_and_nothing_of_it_is_lost() {
        let whole = [PREFACE, &b"\0\0\0\x04\0\0\0\0\0more"[..]].concat();
        for cut in [1, 3, 16, 23, 24, 25] {
            let (first, rest) = whole.split_at(cut);
            assert_eq!(found(&[first, rest], false).unwrap(), ("2", whole.clone()), "cut at {cut}");
        }
        let single: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(found(&single, true).unwrap(), ("2", whole.clone()));
    }

    #[test]
    fn whatever_differs_from_a_preface_is_http1() {
        for start in
            [&b"G"[..], b"GET / HTTP/1.1\r\n", b"PRI / HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSMx", b"\x16\x03"]
        {
            assert_eq!(found(&[start], false).unwrap(), ("1", start.to_vec()));
        }
        assert_eq!(found(&[b"PRI"], true).unwrap(), ("1", b"PRI".to_vec()), "cut off, and so a bad request");
    }

    #[test]
    fn nobody_is_waited_for_longer_than_the_limits_say() {
        assert!(matches!(found(&[], false), Err(Undetected::Silent)));
        assert!(matches!(found(&[b"PRI * "], false), Err(Undetected::Silent)));
        assert!(matches!(found(&[], true), Err(Undetected::Ended(None))));
    }
}
