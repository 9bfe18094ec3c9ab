//! A server on a thread of its own, and helpers to read and write streams and sockets.

use std::future::{Future, poll_fn};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use covet_net::{Backend, Config, Io, Listener, Reactor, Stats, Stream};
use hyper::rt::{Read, ReadBuf, Write};
use tokio::sync::mpsc as tasks;

/// Longer than anything here takes on a loaded machine; reaching it is a failure, not a slow pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Both backends, with the limits of `config`.
pub(crate) fn both(config: Config) -> [Config; 2] {
    [with_io(&config, Io::Uring), with_io(&config, Io::Epoll)]
}

pub(crate) fn uring() -> Config {
    with_io(&Config::default(), Io::Uring)
}

fn with_io(config: &Config, io: Io) -> Config {
    let mut config = config.clone();
    config.io = io;
    config
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) backend: Backend,
    commands: tasks::UnboundedSender<Command>,
    ended: mpsc::Receiver<Stats>,
}

enum Command {
    Stats(mpsc::Sender<Stats>),
    Stop,
}

impl Server {
    /// Serves each connection with `handler` in a task.
    pub(crate) fn start<H, F>(config: Config, handler: H) -> Self
    where
        H: Fn(Stream) -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let mut sockets = covet_net::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 1024).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let (commands, mut inbox) = tasks::unbounded_channel();
        let (ready, is_ready) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            let reactor = Reactor::new(&config).unwrap();
            reactor.block_on(async {
                let mut listener = Listener::new(sockets.remove(0)).unwrap();
                ready.send(reactor.backend()).unwrap();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let (stream, _) = accepted.unwrap();
                            tokio::task::spawn_local(handler(stream));
                        }
                        command = inbox.recv() => match command {
                            Some(Command::Stats(reply)) => reply.send(Stats::current().unwrap()).unwrap(),
                            Some(Command::Stop) | None => break,
                        },
                    }
                }
            });
            let stats = reactor.stats();
            drop(reactor);
            let _ = end.send(stats);
        });
        let backend = is_ready.recv_timeout(PATIENCE).expect("the server starts");
        Self { address, backend, commands, ended }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    pub(crate) fn stats(&self) -> Stats {
        let (reply, stats) = mpsc::channel();
        assert!(self.commands.send(Command::Stats(reply)).is_ok(), "the server has ended");
        stats.recv_timeout(PATIENCE).expect("the server's loop runs")
    }

    /// Waits until the counters are as they should be.
    pub(crate) fn wait_for(&self, what: &str, done: impl Fn(&Stats) -> bool) -> Stats {
        let start = Instant::now();
        loop {
            let stats = self.stats();
            if done(&stats) {
                return stats;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {stats:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the loop and drops the reactor; the counters from just before that, and how long the drop took.
    pub(crate) fn stop(self) -> (Stats, Duration) {
        let _ = self.commands.send(Command::Stop);
        let start = Instant::now();
        let stats = self.ended.recv_timeout(PATIENCE).expect("the server ends");
        (stats, start.elapsed())
    }
}

/// Reads once. 0 is the end.
pub(crate) async fn read(stream: &mut Stream, bytes: &mut [u8]) -> io::Result<usize> {
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *stream).poll_read(context, buffer.unfilled()) {
            std::task::Poll::Ready(result) => std::task::Poll::Ready(result.map(|()| buffer.filled().len())),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}

pub(crate) async fn read_exact(stream: &mut Stream, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match read(stream, bytes).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes = &mut bytes[length..],
        }
    }
    Ok(())
}

/// Writes all of it and flushes.
pub(crate) async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let length = poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes)).await?;
        bytes = &bytes[length..];
    }
    poll_fn(|context| Pin::new(&mut *stream).poll_flush(context)).await
}

pub(crate) async fn shutdown(stream: &mut Stream) -> io::Result<()> {
    poll_fn(|context| Pin::new(&mut *stream).poll_shutdown(context)).await
}

/// Sends back what comes, until the peer ends.
pub(crate) async fn echo(mut stream: Stream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = read(&mut stream, &mut bytes).await {
        if write_all(&mut stream, &bytes[..length]).await.is_err() {
            return;
        }
    }
    let _ = shutdown(&mut stream).await;
}

/// One round trip of `bytes`.
pub(crate) fn exchange(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    client.read_exact(&mut answer).unwrap();
    assert!(answer == bytes, "an echo differs");
}

/// Bytes whose value depends on their position beyond any power of two, so that a lost, doubled or swapped buffer
/// shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8 ^ (i / 65_521) as u8).collect()
}
