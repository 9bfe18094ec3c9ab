//! The server: its threads, and their end.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use covet_net::{Backend, BindError, Listener, Reactor, SetupError};
use covet_wasm::{App, Pool};
use tokio::{sync::Notify, task::spawn_local};

use crate::{
    connection,
    dispatch::Dispatcher,
    drain::{Drain, DrainSwitch, drain},
    options::Options,
    redirect,
    router::{RouteError, Router},
};

/// A server that accepts connections. Dropping it without [`Server::drain`] leaves its threads running.
pub struct Server {
    address: SocketAddr,
    redirect_address: Option<SocketAddr>,
    backend: Backend,
    switch: DrainSwitch,
    ended: Arc<Notify>,
    threads: Vec<thread::JoinHandle<io::Result<()>>>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The routes of the application cannot be told apart.
    #[error(transparent)]
    Routes(#[from] RouteError),
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address for redirects cannot be had.
    #[error(transparent)]
    Redirect(BindError),
    /// The network layer does not work here.
    #[error("cannot set up the network layer")]
    Network(#[from] SetupError),
    /// The system refused a thread or a socket.
    #[error("cannot start the server's threads")]
    Threads(#[from] io::Error),
}

impl Server {
    /// Binds the address and starts the threads; returns when all of them accept connections.
    ///
    /// # Errors
    /// See [`ServeError`]. After an error nothing is left running.
    pub fn start(app: Arc<App>, options: Options) -> Result<Self, ServeError> {
        let router = Arc::new(Router::new(app.routes())?);
        let sockets = covet_net::bind(options.listen, options.threads.max(1), BACKLOG)?;
        let address = sockets[0].local_addr()?;
        let mut redirect = match options.redirect {
            Some(redirect) => covet_net::bind(redirect, 1, BACKLOG).map_err(ServeError::Redirect)?.pop(),
            None => None,
        };
        let redirect_address = redirect.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
        let options = Arc::new(Options { listen: address, ..options });
        let (switch, drain) = drain();
        let (report, reports) = mpsc::channel();
        let ended = Arc::new(Notify::new());
        let mut threads = Vec::new();
        for (index, socket) in sockets.into_iter().enumerate() {
            let core = Core {
                is_first: index == 0,
                app: app.clone(),
                router: router.clone(),
                options: options.clone(),
                drain: drain.clone(),
                // One thread is enough for what every client does once.
                redirect: redirect.take(),
            };
            let (report, end) = (report.clone(), End(ended.clone()));
            let run = move || {
                let _end = end;
                core.run(socket, &report)
            };
            threads.push(thread::Builder::new().name(format!("covet-{index}")).spawn(run)?);
        }
        drop(report);
        let mut server = Self { address, redirect_address, backend: Backend::Epoll, switch, ended, threads };
        for _ in 0..server.threads.len() {
            match reports.recv() {
                Ok(Ok(backend)) => server.backend = backend,
                Ok(Err(error)) => {
                    server.switch.begin();
                    return Err(error);
                }
                Err(_) => return Err(io::Error::other("a thread ended before it was ready").into()),
            }
        }
        Ok(server)
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it sends clients to TLS, if it does.
    pub fn redirect_address(&self) -> Option<SocketAddr> {
        self.redirect_address
    }

    /// The network layer that is in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Resolves when a thread has ended although nobody asked for it: its listener failed or it panicked.
    /// What happened is what [`Server::drain`] returns.
    pub async fn failed(&self) {
        self.ended.notified().await;
    }

    /// Stops accepting, lets requests that run finish, runs the application's shutdown handlers and ends the threads.
    /// Blocks for the drain timeout and the shutdown handlers at most.
    ///
    /// # Errors
    /// What a thread ended with, if it was an error.
    pub fn drain(self) -> io::Result<()> {
        self.switch.begin();
        for thread in self.threads {
            thread.join().map_err(|_| io::Error::other("a thread of the server panicked"))??;
        }
        Ok(())
    }
}

/// Tells, when it is dropped, that its thread ends.
struct End(Arc<Notify>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Connections that the kernel keeps ready for each thread; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// One thread of the server.
struct Core {
    is_first: bool,
    app: Arc<App>,
    router: Arc<Router>,
    options: Arc<Options>,
    drain: Drain,
    redirect: Option<std::net::TcpListener>,
}

type Report = mpsc::Sender<Result<Backend, ServeError>>;

impl Core {
    fn run(self, socket: std::net::TcpListener, report: &Report) -> io::Result<()> {
        let reactor = match Reactor::new(&self.options.net) {
            Ok(reactor) => reactor,
            Err(error) => {
                let _ = report.send(Err(error.into()));
                return Ok(());
            }
        };
        if self.is_first
            && let Some(reason) = reactor.fallback_reason()
        {
            tracing::warn!(%reason, "io_uring cannot be used, falling back to epoll");
        }
        let backend = reactor.backend();
        reactor.block_on(self.serve(socket, backend, report))
    }

    async fn serve(mut self, socket: std::net::TcpListener, backend: Backend, report: &Report) -> io::Result<()> {
        let mut listener = Listener::new(socket)?;
        if let Some(socket) = self.redirect.take() {
            let redirects = redirect::serve(Listener::new(socket)?, self.options.clone(), self.drain.clone());
            spawn_local(redirects);
        }
        let pool = Pool::start(self.app.clone(), self.options.pool.clone());
        let dispatcher = Dispatcher::new(self.router.clone(), pool.clone(), self.options.clone());
        let connections = Connections::default();
        let _ = report.send(Ok(backend));
        let drain = self.drain.clone();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => accepted?,
                () = self.drain.begun() => break,
            };
            let guard = connections.enter();
            let tls = self.options.tls.as_ref().map(|tls| tls.acceptor());
            let serving = connection::serve(stream, peer, dispatcher.clone(), tls, drain.clone());
            spawn_local(async move {
                serving.await;
                drop(guard);
            });
        }
        drop(listener);
        let running = connections.count();
        if tokio::time::timeout(self.options.drain_timeout, connections.none_left()).await.is_err() {
            tracing::warn!(running, left = connections.count(), "drain timeout: connections are cut off");
        }
        pool.shutdown(self.is_first).await;
        Ok(())
    }
}

/// How many connections a thread has.
#[derive(Clone, Default)]
struct Connections(Rc<()>);

impl Connections {
    fn enter(&self) -> Rc<()> {
        self.0.clone()
    }

    fn count(&self) -> usize {
        Rc::strong_count(&self.0) - 1
    }

    async fn none_left(&self) {
        // The drain lasts seconds and happens once; a look every few milliseconds is enough.
        while self.count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
