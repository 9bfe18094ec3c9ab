//! Start and end.

use std::{
    thread,
    time::{Duration, Instant},
};

use covet_tests::{Connection, Host, Started, command, component};

#[test]
fn sigterm_lets_running_requests_finish_and_runs_shutdown_handlers() {
    for isolation in ["fresh", "reuse"] {
        let host = Host::run("python/probe", &["--isolation", isolation]);
        let address = host.address();
        let mut idle = host.connect();
        assert_eq!(idle.get("/params/1/b").status, 200);
        let running = thread::spawn(move || Connection::open(address).get("/sleep/700"));
        let stream = thread::spawn(move || Connection::open(address).get("/slow?count=5&ms=150"));
        thread::sleep(Duration::from_millis(200));
        host.terminate();
        assert!(idle.is_closed(), "an idle connection is closed at once");
        let (answer, stream) = (running.join().unwrap(), stream.join().unwrap());
        assert_eq!((answer.status, answer.complete), (200, true), "{isolation}");
        assert_eq!((stream.complete, stream.text().lines().count()), (true, 5), "{isolation}");
        let finished = host.wait();
        assert_eq!(finished.code, Some(0), "{isolation}: {finished:?}");
        assert!(finished.stderr.contains("probe shut down"), "{isolation}: {finished:?}");
    }
}

#[test]
fn a_draining_host_accepts_no_more_connections() {
    let host = Host::run("python/probe", &[]);
    let address = host.address();
    let running = thread::spawn(move || Connection::open(address).get("/sleep/1000").status);
    thread::sleep(Duration::from_millis(200));
    host.terminate();
    thread::sleep(Duration::from_millis(200));
    let refused = std::net::TcpStream::connect(address).is_err();
    assert!(refused, "a new connection is refused while the drain goes on");
    assert_eq!(running.join().unwrap(), 200);
}

#[test]
fn requests_that_outlast_the_drain_timeout_are_cut_off() {
    let host = Host::run("python/probe", &["--drain-timeout", "300ms"]);
    let address = host.address();
    let running = thread::spawn(move || {
        let mut connection = Connection::open(address);
        connection.send("GET /sleep/20000 HTTP/1.1\r\nhost: a\r\n\r\n");
        connection.is_closed()
    });
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    let finished = host.stop();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(finished.stderr.contains("drain timeout"), "{finished:?}");
    assert!(running.join().unwrap());
}

#[test]
fn sigint_ends_it_too_and_the_ready_line_is_the_first() {
    let host = Host::run("python/probe", &[]);
    let process = i32::try_from(host.process()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(host.wait().code, Some(0));
}

#[test]
fn start_up_errors_end_the_start_with_the_reason() {
    let Started::Ended(finished) = Host::try_run(&component("python/bad-startup"), &[]) else { panic!("it serves") };
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("no database today"), "{finished:?}");
}

#[test]
fn a_second_start_takes_the_compiled_application_from_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let run = || {
        let mut command = command();
        command.arg("run").arg(component("python/hello-python")).args(["--listen", "127.0.0.1:0", "--cache-dir"]);
        command.arg(directory.path().join("cache"));
        let Started::Listening(host) = Host::spawn(command) else { panic!("it does not serve") };
        assert_eq!(host.get("/users/42").status, 200);
        host.stop().stderr
    };
    assert!(run().contains("compiled"));
    let began = Instant::now();
    assert!(!run().contains("compiled"));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn every_thread_serves() {
    let host = Host::run("python/probe", &["--threads", "3", "--instances", "3", "--isolation", "reuse"]);
    // The kernel spreads connections over the sockets by a hash of their addresses.
    let firsts = (0..60).filter(|_| host.get("/counter").json()["counter"] == 1).count();
    assert_eq!(firsts, 3, "each thread has one instance of its own");
}
