//! The servers that are compared: the same hyper service on four kinds of I/O, one thread each.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;

use bytes::Bytes;
use covet_net::{Config, Io, Listener, Reactor};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::tokio_uring_io::TokioUringIo;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What everybody uses: tokio's TcpStream through hyper-util's `TokioIo`. The rival.
    TokioEpoll,
    CovetEpoll,
    CovetUring,
    TokioUring,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::TokioEpoll, Self::CovetUring, Self::CovetEpoll, Self::TokioUring];

    pub fn name(self) -> &'static str {
        match self {
            Self::TokioEpoll => "tokio-epoll",
            Self::CovetEpoll => "covet-epoll",
            Self::CovetUring => "covet-uring",
            Self::TokioUring => "tokio-uring",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| format!("unknown server {name:?}"))
    }
}

/// Serves until it is killed. The first line on stdout is the address.
pub fn serve(kind: Kind) {
    match kind {
        Kind::TokioEpoll => on_tokio(bind()),
        Kind::CovetEpoll => on_covet(bind(), Io::Epoll),
        Kind::CovetUring => on_covet(bind(), Io::Uring),
        Kind::TokioUring => on_tokio_uring(bind()),
    }
}

fn bind() -> TcpListener {
    let socket = covet_net::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 1024).unwrap().remove(0);
    println!("{}", socket.local_addr().unwrap());
    socket
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"Hello, World!"))))
}

async fn connection(io: impl hyper::rt::Read + hyper::rt::Write + Unpin) {
    let mut builder = http1::Builder::new();
    builder.pipeline_flush(true);
    let _ = builder.serve_connection(io, service_fn(hello)).await;
}

fn on_covet(socket: TcpListener, io: Io) {
    let mut config = Config::default();
    config.io = io;
    Reactor::new(&config).unwrap().block_on(async {
        let mut listener = Listener::new(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(connection(stream));
        }
    })
}

fn on_tokio(socket: TcpListener) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        socket.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::task::spawn_local(connection(hyper_util::rt::TokioIo::new(stream)));
        }
    })
}

fn on_tokio_uring(socket: TcpListener) {
    tokio_uring::start(async {
        let listener = tokio_uring::net::TcpListener::from_std(socket);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio_uring::spawn(connection(TokioUringIo::new(stream)));
        }
    })
}
