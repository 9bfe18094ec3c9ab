//! Tests that need a process to themselves, because they change its limits or measure its memory. Each runs itself
//! again in a child process, so that they can run side by side like any other test.

#[path = "net/support.rs"]
#[allow(dead_code, reason = "the other test binary uses the rest")]
mod support;

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use covet_net::{Backend, Config, Io, Reactor, SetupError, Stream, Unavailable};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};

use support::*;

/// Runs `body` in a child process of its own.
fn in_a_process_of_its_own(test: &str, body: impl FnOnce()) {
    if std::env::var("COVET_NET_TEST").as_deref() == Ok(test) {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("COVET_NET_TEST", test)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
    print!("{stdout}");
}

#[test]
fn running_out_of_descriptors_pauses_accepting_without_spinning_and_ends_by_itself() {
    in_a_process_of_its_own("running_out_of_descriptors_pauses_accepting_without_spinning_and_ends_by_itself", || {
        set_descriptors_max(256);
        for config in both(Config::default()) {
            run_out_of_descriptors(config);
        }
    });
}

fn run_out_of_descriptors(config: Config) {
    let server = Server::start(config, echo);
    let mut early = server.connect();
    exchange(&mut early, b"hello");
    // Sockets made before and connected later: connecting takes no new descriptor of this process, accepting does.
    let late: Vec<_> =
        (0..10).map(|_| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()).collect();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    for socket in &late {
        socket.connect(&server.address.into()).unwrap();
    }
    let before = server.wait_for("accepting pauses", |stats| stats.accept_pauses > 0);
    let cpu_before = cpu_time();
    thread::sleep(Duration::from_millis(500));
    let spent = cpu_time() - cpu_before;
    let after = server.stats();
    assert!(spent < Duration::from_millis(100), "half a second of pause cost {spent:?}");
    assert!(after.accept_pauses - before.accept_pauses < 20, "{before:?} {after:?}");
    // Who is connected is served meanwhile.
    exchange(&mut early, b"still there?");
    drop(taken);
    for socket in late {
        let mut client = std::net::TcpStream::from(socket);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut client, b"at last");
    }
}

fn set_descriptors_max(max: u64) {
    let limit = libc::rlimit { rlim_cur: max, rlim_max: max };
    // SAFETY: the pointer is to a valid structure.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a valid structure.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn where_a_sandbox_forbids_io_uring_auto_takes_epoll_and_says_why() {
    in_a_process_of_its_own("where_a_sandbox_forbids_io_uring_auto_takes_epoll_and_says_why", || {
        forbid_io_uring(libc::EPERM);
        let reactor = Reactor::new(&Config::default()).unwrap();
        assert_eq!(reactor.backend(), Backend::Epoll);
        let reason = reactor.fallback_reason().unwrap();
        assert!(matches!(reason, Unavailable::NotPermitted(_)), "{reason:?}");
        assert!(reason.to_string().contains("seccomp"), "{reason}");
        let mut config = Config::default();
        config.io = Io::Uring;
        let Err(error) = Reactor::new(&config) else { panic!("a forbidden ring was made") };
        assert!(matches!(error, SetupError::Ring(Unavailable::NotPermitted(_))), "{error:?}");
        drop(reactor);
        // And it serves, filter and all: the thread of the server inherits it.
        let server = Server::start(Config::default(), echo);
        assert_eq!(server.backend, Backend::Epoll);
        exchange(&mut server.connect(), b"hello");
    });
}

/// A seccomp filter that answers `io_uring_setup` with an error, as container runtimes do.
fn forbid_io_uring(errno: i32) {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        // Load the number of the system call, compare, and return an error or allow.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter and its program are valid for the calls, and the kernel copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter), 0);
    }
}

#[test]
fn memory_comes_back_after_heavy_uploads() {
    in_a_process_of_its_own("memory_comes_back_after_heavy_uploads", || {
        for mut config in both(Config::default()) {
            config.trim_after = Duration::from_millis(200);
            heavy_uploads(config);
        }
    });
}

const UPLOADS: usize = 64;
const UPLOAD_BYTES: usize = 20 * 1024 * 1024;

fn heavy_uploads(config: Config) {
    let server = Server::start(config, serve);
    let mut clients: Vec<_> = (0..UPLOADS).map(|_| server.connect()).collect();
    let piece = vec![7; 64 * 1024];
    let start = Instant::now();
    let before = resident_bytes();
    let mut peak = before;
    for client in &mut clients {
        write!(client, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {UPLOAD_BYTES}\r\n\r\n").unwrap();
    }
    for _ in 0..UPLOAD_BYTES / piece.len() {
        for client in &mut clients {
            client.write_all(&piece).unwrap();
        }
        peak = peak.max(resident_bytes());
    }
    for client in &mut clients {
        let mut answer = [0; 1000];
        let length = client.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    }
    thread::sleep(Duration::from_millis(800));
    let open = resident_bytes();
    let stats = server.stats();
    drop(clients);
    server.wait_for("all connections are closed", |stats| stats.connections == 0);
    thread::sleep(Duration::from_millis(800));
    let closed = resident_bytes();
    println!(
        "{}: {:.1} s, MiB: before {}, peak {}, idle with {UPLOADS} connections {}, after closing them {}; {stats:?}",
        server.backend,
        start.elapsed().as_secs_f64(),
        before >> 20,
        peak >> 20,
        open >> 20,
        closed >> 20,
    );
    // 1.25 GiB went through. While the connections are open, each may keep hyper's read buffer (400 KiB), on either
    // backend; after that, nothing is to stay but what the allocator keeps for itself.
    assert!(open < before + (UPLOADS as u64 * 512 + 16 * 1024) * 1024, "idle connections hold {} MiB", open >> 20);
    assert!(closed < before + 24 * 1024 * 1024, "{} MiB stayed", closed >> 20);
}

async fn serve(stream: Stream) {
    let service = service_fn(async |request: Request<Incoming>| {
        let mut body = request.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        assert_eq!(length, UPLOAD_BYTES);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"done"))))
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[test]
fn a_port_that_needs_privileges_says_so() {
    in_a_process_of_its_own("a_port_that_needs_privileges_says_so", || {
        // SAFETY: no memory is involved; an unprivileged user of this process only.
        if unsafe { libc::setuid(65_534) } != 0 {
            println!("not root: nothing to give up");
        }
        let limit = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        if limit.trim() == "0" {
            return println!("this system protects no port");
        }
        let error = covet_net::bind(SocketAddr::from(([127, 0, 0, 1], 1)), 1, 16).unwrap_err();
        assert!(error.to_string().contains("CAP_NET_BIND_SERVICE"), "{error}");
    });
}
