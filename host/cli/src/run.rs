//! `covet-host run`: serves one application until it is told to stop.

use std::{io, sync::Arc};

use covet_server::{ConnectionLimits, Options, ServeError, Server};
use covet_wasm::{Discard, Limits, PoolOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::{component, failure::Failure, flags::RunFlags, logging, tls};

pub(crate) fn run(flags: RunFlags) -> Result<(), Failure> {
    let _log = logging::start(&flags.component)?;
    raise_descriptor_limit();
    let tls = tls::read(&flags.tls)?.map(Arc::new);
    let options = Options { tls: tls.clone(), ..options(&flags) };
    let (engine, artifact) = component::compile(&flags.component)?;
    let app = Arc::new(component::load(&flags.component, &engine, &artifact, limits(&flags))?);
    // Before anything is announced, so that a signal that follows the ready line is not lost.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::runtime("cannot start the event loop", &e))?;
    let stop = {
        let _inside = runtime.enter();
        Stop::new().map_err(|e| Failure::runtime("cannot listen for signals", &e))?
    };
    let server = start(&flags, &app, options)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("listening on {scheme}://{}", server.address());
    if let Some(address) = server.redirect_address() {
        println!("redirecting http://{address}");
    }
    runtime.block_on(async {
        tokio::select! {
            signal = stop.asked_for() => tracing::info!(signal, "draining"),
            () = server.failed() => tracing::error!("a thread of the server has ended, draining the others"),
            () = tls::keep_fresh(tls.as_deref()) => unreachable!("it goes on until something else ends"),
        }
    });
    // A second signal ends the process at once; it is waited for beside the drain.
    std::thread::spawn(move || {
        runtime.block_on(signal_again());
        std::process::exit(130);
    });
    server.drain().map_err(|e| Failure::runtime("the server ended with an error", &e))?;
    log_pool(&app);
    tracing::info!("stopped");
    Ok(())
}

/// What became of the instances, for whoever wonders where processor time and memory went.
fn log_pool(app: &covet_wasm::App) {
    let pool = app.usage().pool();
    let per_reset = |total: u64| total.checked_div(pool.resets()).unwrap_or_default();
    let discarded = |cause: Discard| Some((cause, pool.discarded(cause))).filter(|(_, count)| *count > 0);
    let discarded: Vec<String> = Discard::ALL
        .into_iter()
        .filter_map(discarded)
        .map(|(cause, count)| format!("{}={count}", cause.name()))
        .collect();
    tracing::info!(
        app = app.name(),
        requests = app.usage().requests(),
        started = pool.started(),
        resets = pool.resets(),
        reset_us = per_reset(u64::try_from(pool.reset_time().as_micros()).unwrap_or(u64::MAX)),
        reset_pages = per_reset(pool.reset_pages()),
        discarded = discarded.join(" "),
        "instances"
    );
}

fn start(flags: &RunFlags, app: &Arc<covet_wasm::App>, options: Options) -> Result<Server, Failure> {
    let threads = options.threads;
    let server = Server::start(app.clone(), options).map_err(|error| match &error {
        ServeError::Routes(_) => Failure::usage(flags.component.file.display(), &error),
        ServeError::Bind(_) => Failure::usage("--listen", &error),
        ServeError::Redirect(_) => Failure::usage("--http-redirect", &error),
        ServeError::Network(_) => Failure::usage(format!("--io {}", flags.io), &error),
        ServeError::Threads(_) => Failure::runtime("cannot serve", &error),
    })?;
    tracing::info!(
        app = app.name(),
        routes = app.routes().len(),
        isolation = %flags.isolation,
        threads,
        io = ?server.backend(),
        "serving"
    );
    Ok(server)
}

fn options(flags: &RunFlags) -> Options {
    let threads = flags.threads.map_or_else(|| Options::default().threads, usize::from);
    let mut net = covet_net::Config::default();
    net.io = flags.io;
    Options {
        listen: flags.listen,
        threads,
        net,
        connection: ConnectionLimits {
            head_timeout: flags.head_timeout,
            idle_timeout: flags.idle_timeout,
            write_timeout: flags.write_timeout,
            head_bytes_max: usize::try_from(flags.max_head.as_u64()).unwrap_or(usize::MAX),
            fields_max: usize::from(flags.max_fields),
            handshake_timeout: flags.tls.handshake_timeout,
            streams_max: flags.max_streams,
        },
        tls: None,
        redirect: flags.tls.http_redirect,
        body_bytes_max: flags.max_body.as_u64(),
        pool: PoolOptions {
            stock: flags.stock as usize,
            concurrency_max: flags.max_concurrency as usize,
            queue_max: flags.queue as usize,
            queue_wait: flags.queue_timeout,
            requests_max: flags.max_requests,
            age_max: flags.max_age,
            audit_every: flags.audit,
            ..PoolOptions::default()
        },
        drain_timeout: flags.drain_timeout,
        access_log: flags.access_log,
    }
    .with_instances(flags.instances as usize, flags.isolation)
}

fn limits(flags: &RunFlags) -> Limits {
    Limits {
        memory_bytes_max: component::memory_bytes(&flags.component),
        deadline: flags.timeout,
        cpu_max: flags.cpu_timeout,
        log_bytes_max: usize::try_from(flags.max_log.as_u64()).unwrap_or(usize::MAX),
    }
}

/// Most systems start a process with 1,024 descriptors although it may have many more.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// SIGTERM or SIGINT.
struct Stop {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn asked_for(mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn signal_again() {
    match Stop::new() {
        Ok(stop) => {
            stop.asked_for().await;
        }
        Err(_) => std::future::pending().await,
    }
}
