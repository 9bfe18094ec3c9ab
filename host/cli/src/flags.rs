//! The command line as it is typed. What the values mean is decided in `settings.rs`.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser},
};
use covet_wasm::{Isolation, ResetMethod};

/// Serves web applications whose handlers run as sandboxed WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "covet-host", version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve one application over HTTP/1.1 and HTTP/2, with TLS or without.
    Run(Box<RunFlags>),
    /// Compile an application into the cache, so that its first start is as fast as the next.
    Compile(CompileFlags),
    /// Show what an application needs, offers and serves.
    Inspect(InspectFlags),
    /// Make a certificate for this machine, signed by a certificate authority of your own, for development.
    DevCert(DevCertFlags),
}

/// What every command needs to load a component.
#[derive(Args, Debug)]
pub(crate) struct ComponentFlags {
    /// The application: a component made by `covet build`, or by any other tool for the world `covet:app/application`.
    #[arg(value_name = "APP.WASM")]
    pub(crate) file: PathBuf,

    /// Linear memory that one instance may have; allocations beyond it fail inside the guest.
    #[arg(long, env = "COVET_MEMORY", value_name = "SIZE", default_value = "256MiB")]
    pub(crate) memory: ByteSize,

    /// Where compiled applications are kept [default: $XDG_CACHE_HOME/covet-host or ~/.cache/covet-host].
    #[arg(long, env = "COVET_CACHE_DIR", value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// How instances are put back to the snapshot after a request: the fastest way that works here, or a certain one.
    #[arg(long, env = "COVET_RESET", value_name = "METHOD", default_value = "auto")]
    pub(crate) reset: Reset,

    /// A variable for the application, in os.environ and `host.config`; may be given several times.
    #[arg(long = "env", env = "COVET_ENV", value_name = "NAME=VALUE", value_parser = variable, value_delimiter = ',')]
    pub(crate) variables: Vec<(String, String)>,

    /// Log lines as text or as one JSON object each; they go to standard error.
    #[arg(long, env = "COVET_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// What is logged, as in `info`, `debug` or `info,guest=warn,access=off`.
    #[arg(long, env = "COVET_LOG", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Args, Debug)]
pub(crate) struct RunFlags {
    #[command(flatten)]
    pub(crate) component: ComponentFlags,

    /// Address and port; port 0 takes a free one and says which.
    #[arg(long, env = "COVET_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000", value_parser = address)]
    pub(crate) listen: SocketAddr,

    #[command(flatten)]
    pub(crate) tls: TlsFlags,

    /// Threads, each with an event loop and instances of its own [default: one for each processor].
    #[arg(long, env = "COVET_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// What of other requests a request can see, in the routes that do not say themselves. `fresh`: nothing, it starts
    /// from the state after start-up. `reuse`: what its instance's earlier requests left, one request at a time.
    /// `shared`: what all requests of its instance do, while they run too.
    #[arg(long, env = "COVET_ISOLATION", value_name = "MODE", default_value = "fresh", value_parser = isolation())]
    pub(crate) isolation: Isolation,

    /// Time until the first byte of a response, and for each pause of its body.
    #[arg(long, env = "COVET_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,

    /// Processor time of one request.
    #[arg(long, env = "COVET_CPU_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) cpu_timeout: Duration,

    /// Largest body of a request; 413 beyond it.
    #[arg(long, env = "COVET_MAX_BODY", value_name = "SIZE", default_value = "10MiB")]
    pub(crate) max_body: ByteSize,

    /// Largest head of a request; 431 beyond it.
    #[arg(long, env = "COVET_MAX_HEAD", value_name = "SIZE", default_value = "32KiB")]
    pub(crate) max_head: ByteSize,

    /// Largest number of header fields of a request; 431 beyond it.
    #[arg(long, env = "COVET_MAX_FIELDS", value_name = "N", default_value = "100", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) max_fields: u16,

    /// Requests that one connection of HTTP/2 may have under way.
    #[arg(long, env = "COVET_MAX_STREAMS", value_name = "N", default_value = "128", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_streams: u32,

    /// Time for the head of a request, from its first byte.
    #[arg(long, env = "COVET_HEAD_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) head_timeout: Duration,

    /// How long a connection may be without a request.
    #[arg(long, env = "COVET_IDLE_TIMEOUT", value_name = "TIME", default_value = "75s", value_parser = duration)]
    pub(crate) idle_timeout: Duration,

    /// How long a client may take nothing of what is being sent to it.
    #[arg(long, env = "COVET_WRITE_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) write_timeout: Duration,

    /// Instances that serve requests at the same time, over all threads.
    #[arg(long, env = "COVET_INSTANCES", value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(crate) instances: u32,

    /// Requests that one instance serves at the same time in `shared` isolation.
    #[arg(long, env = "COVET_MAX_CONCURRENCY", value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub(crate) max_concurrency: u32,

    /// Instances that each thread keeps when there is nothing to do.
    #[arg(long, env = "COVET_STOCK", value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(0..=1024))]
    pub(crate) stock: u32,

    /// Requests that wait for an instance on each thread; 503 beyond it.
    #[arg(long, env = "COVET_QUEUE", value_name = "N", default_value = "256")]
    pub(crate) queue: u32,

    /// How long a request waits for an instance; 503 after it.
    #[arg(long, env = "COVET_QUEUE_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) queue_timeout: Duration,

    /// Requests after which an instance is replaced, give or take a quarter.
    #[arg(long, env = "COVET_MAX_REQUESTS", value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_requests: u64,

    /// Age at which an instance is replaced, give or take a quarter.
    #[arg(long, env = "COVET_MAX_AGE", value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub(crate) max_age: Duration,

    /// Compare every Nth instance that was put back with the snapshot, byte by byte (about 3 ms); 0 for none.
    #[arg(long, env = "COVET_AUDIT", value_name = "N", default_value = "0")]
    pub(crate) audit: u64,

    /// Log output of one request; the rest is dropped.
    #[arg(long, env = "COVET_MAX_LOG", value_name = "SIZE", default_value = "64KiB")]
    pub(crate) max_log: ByteSize,

    /// The network layer: io_uring where the kernel allows it, or always, or never.
    #[arg(long, env = "COVET_IO", value_name = "LAYER", default_value = "auto")]
    pub(crate) io: covet_net::Io,

    /// Whether each request is logged.
    #[arg(long, env = "COVET_ACCESS_LOG", value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) access_log: bool,

    /// How long running requests may go on after SIGTERM or SIGINT.
    #[arg(long, env = "COVET_DRAIN_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
}

/// Certificates, and what is asked of clients.
#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsFlags {
    /// A certificate and those that sign it, in PEM. Several times for several: the one whose names fit is chosen, else
    /// the first. Files that change are read again.
    #[arg(long, env = "COVET_TLS_CERT", value_name = "FILE", value_delimiter = ',', requires = "tls_key")]
    pub(crate) tls_cert: Vec<PathBuf>,

    /// The private key of the certificate, in PEM; as many as certificates, in their order.
    #[arg(long, env = "COVET_TLS_KEY", value_name = "FILE", value_delimiter = ',', requires = "tls_cert")]
    pub(crate) tls_key: Vec<PathBuf>,

    /// The oldest version of TLS that is accepted.
    #[arg(long, env = "COVET_TLS_MIN_VERSION", value_name = "VERSION", default_value = "1.2")]
    pub(crate) tls_min_version: TlsVersion,

    /// Ask clients for a certificate that one of these has signed, in PEM (mutual TLS). The application finds its subject
    /// in `request.client_subject`.
    #[arg(long, env = "COVET_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// Whether a client may do without a certificate.
    #[arg(
        long,
        env = "COVET_TLS_CLIENT_AUTH",
        value_name = "MODE",
        default_value = "required",
        requires = "tls_client_ca"
    )]
    pub(crate) tls_client_auth: ClientAuth,

    /// Time for the handshake of TLS.
    #[arg(long, env = "COVET_HANDSHAKE_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) handshake_timeout: Duration,

    /// Listen here in plain text too, and send whoever asks there to https://.
    #[arg(long, env = "COVET_HTTP_REDIRECT", value_name = "ADDRESS:PORT", value_parser = address, requires = "tls_cert")]
    pub(crate) http_redirect: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsVersion {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientAuth {
    /// The handshake fails without one.
    Required,
    /// What a client sends is checked, and one that sends none is served too.
    Optional,
}

#[derive(Args, Debug)]
pub(crate) struct DevCertFlags {
    /// Names and addresses that the certificate is for.
    #[arg(value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub(crate) names: Vec<String>,

    /// Where the certificate and its key go: NAME.pem and NAME.key, of the first name.
    #[arg(long, env = "COVET_DIR", value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,

    /// Where the certificate authority is kept, and found again [default: $XDG_DATA_HOME/covet-host or
    /// ~/.local/share/covet-host].
    #[arg(long, env = "COVET_CA_DIR", value_name = "DIR")]
    pub(crate) ca_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct CompileFlags {
    #[command(flatten)]
    pub(crate) component: ComponentFlags,
}

#[derive(Args, Debug)]
pub(crate) struct InspectFlags {
    #[command(flatten)]
    pub(crate) component: ComponentFlags,

    /// Print one JSON object.
    #[arg(long, env = "COVET_JSON")]
    pub(crate) json: bool,
}

fn isolation() -> impl TypedValueParser<Value = Isolation> {
    PossibleValuesParser::new(Isolation::ALL.map(Isolation::name)).try_map(|name| name.parse::<Isolation>())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Reset {
    /// The first of the others that works.
    Auto,
    /// The kernel notes written pages (userfaultfd, Linux 6.7), which are overwritten.
    WriteProtect,
    /// Written pages are found in the page table (Linux 6.7) and overwritten.
    Scan,
    /// All pages are given back to the system.
    Decommit,
}

impl Reset {
    /// None for the best one.
    pub(crate) fn method(self) -> Option<ResetMethod> {
        match self {
            Self::Auto => None,
            Self::WriteProtect => Some(ResetMethod::WriteProtect),
            Self::Scan => Some(ResetMethod::Scan),
            Self::Decommit => Some(ResetMethod::Decommit),
        }
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method().map_or("auto", ResetMethod::name))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|e| format!("{e}; examples: 500ms, 30s, 5m"))?;
    if duration.is_zero() {
        return Err("must be longer than nothing".into());
    }
    Ok(duration)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let found =
        text.to_socket_addrs().map_err(|_| "not an address and port; examples: 127.0.0.1:8000, [::]:80".to_owned());
    found?.next().ok_or_else(|| "the name has no address".into())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("must be NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable_of_its_name() {
        for command in CommandLine::command().get_subcommands() {
            for flag in command
                .get_arguments()
                .filter(|flag| flag.get_long().is_some_and(|long| long != "help" && long != "version"))
            {
                let expected = format!("COVET_{}", flag.get_long().unwrap().to_uppercase().replace('-', "_"));
                assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(expected.as_str()));
            }
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for arguments in [
            ["--timeout", "0s"],
            ["--timeout", "soon"],
            ["--memory", "lots"],
            ["--listen", "8000"],
            ["--threads", "0"],
            ["--isolation", "none"],
            ["--io", "kqueue"],
            ["--env", "NAME"],
            ["--instances", "0"],
            ["--log-format", "xml"],
            ["--tls-cert", "a.pem"],
            ["--tls-client-ca", "a.pem"],
            ["--http-redirect", "127.0.0.1:80"],
            ["--tls-min-version", "1.1"],
        ] {
            let parsed = CommandLine::try_parse_from(["covet-host", "run", "app.wasm"].into_iter().chain(arguments));
            assert!(parsed.is_err(), "{arguments:?}");
        }
    }
}
