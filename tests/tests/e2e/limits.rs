//! Each limit, hit.

use std::{
    thread,
    time::{Duration, Instant},
};

use covet_tests::{Connection, Host, Started, component};

#[test]
fn a_body_beyond_its_limit_is_a_413_whether_its_length_is_told_or_not() {
    let host = Host::run("python/probe", &["--max-body", "1MiB"]);
    assert_eq!(host.post("/upload", vec![b'x'; 1 << 20]).json()["size"], 1 << 20, "the limit itself is allowed");
    let mut connection = host.connect();
    let answer = connection.request("POST", "/upload", &[("content-length", "1048577")], b"");
    assert_eq!(answer.status, 413);
    assert!(connection.is_closed());
    let mut connection = host.connect();
    connection.send("POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..17 {
        connection.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000)));
    }
    assert_eq!(connection.answer().status, 413);
    assert!(connection.is_closed());
}

#[test]
fn a_handler_that_waits_too_long_is_a_504() {
    let host = Host::run("python/probe", &["--timeout", "300ms"]);
    let began = Instant::now();
    assert_eq!(host.get("/sleep/60000").status, 504);
    assert!((250..5000).contains(&began.elapsed().as_millis()));
    assert_eq!(host.get("/sleep/1").status, 200);
    host.wait_for_log("no response within 300ms");
}

#[test]
fn a_handler_that_blocks_its_thread_of_execution_is_stopped_too() {
    let host = Host::run("python/probe", &["--timeout", "300ms", "--threads", "1"]);
    assert_eq!(host.get("/block/60000").status, 504);
}

#[test]
fn a_handler_that_computes_too_long_is_a_504_that_names_route_and_time() {
    for isolation in ["fresh", "reuse"] {
        let host = Host::run("python/probe", &["--cpu-timeout", "300ms", "--isolation", isolation]);
        let began = Instant::now();
        assert_eq!(host.get("/spin").status, 504);
        assert!((250..8000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        host.wait_for_log("GET /spin (spin)");
        host.wait_for_log("processor time of 300ms");
        assert_eq!(host.get("/params/1/b").status, 200);
    }
}

#[test]
fn a_busy_handler_does_not_stop_the_others_of_its_thread() {
    let host = Host::run("python/probe", &["--cpu-timeout", "1s", "--threads", "1", "--isolation", "reuse"]);
    let address = host.address();
    let busy: Vec<_> = (0..3).map(|_| thread::spawn(move || Connection::open(address).get("/spin").status)).collect();
    thread::sleep(Duration::from_millis(100));
    let mut connection = host.connect();
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(connection.get("/params/1/b").status, 200);
        count += 1;
    }
    assert!(count >= 10, "only {count} requests in a second beside three busy ones");
    for busy in busy {
        assert_eq!(busy.join().unwrap(), 504);
    }
}

#[test]
fn memory_beyond_the_limit_is_an_error_inside_the_guest() {
    let host = Host::run("python/probe", &["--memory", "64MiB", "--threads", "1"]);
    assert_eq!(host.get("/grow/20").json()["mb"], 20);
    let status = host.get("/grow/200").status;
    assert!(status == 500 || status == 502, "{status}");
    assert_eq!(host.get("/grow/20").status, 200);
}

#[test]
fn an_instance_that_has_grown_to_its_limit_is_replaced() {
    let host = Host::run("python/probe", &["--memory", "64MiB", "--threads", "1", "--isolation", "reuse"]);
    let mut kept = Vec::new();
    for _ in 0..8 {
        let answer = host.get("/leak/20");
        kept.push(if answer.status == 200 { answer.json()["kept"].as_i64().unwrap() } else { 0 });
    }
    assert!(kept.iter().all(|&mb| mb <= 40), "{kept:?}");
    assert!(kept.iter().filter(|&&mb| mb == 20).count() >= 2, "it starts again from nothing: {kept:?}");
}

#[test]
fn a_response_that_is_handed_over_at_once_has_a_limit() {
    let host = Host::run("python/probe", &["--memory", "1GiB", "--threads", "1"]);
    assert_eq!(host.get("/big/text/30000000").body.len(), 30_000_000);
    assert_eq!(host.get("/big/text/90000000").status, 502);
    assert_eq!(host.get("/counter").json()["counter"], 1);
}

#[test]
fn an_application_that_starts_with_more_memory_than_it_may_have_is_refused() {
    let Started::Ended(finished) = Host::try_run(&component("python/probe"), &["--memory", "4MiB"]) else {
        panic!("it serves");
    };
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("--memory"), "{finished:?}");
}

#[test]
fn a_request_without_an_instance_waits_its_turn_and_then_is_a_503() {
    let flags = ["--instances", "2", "--threads", "1", "--queue", "2", "--queue-timeout", "10s"];
    let host = Host::run("python/probe", &flags);
    let address = host.address();
    let sleepers: Vec<_> = (0..4)
        .map(|_| {
            let sleeper = thread::spawn(move || Connection::open(address).get("/sleep/1500").status);
            thread::sleep(Duration::from_millis(50));
            sleeper
        })
        .collect();
    let answer = host.get("/params/1/b");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    let statuses: Vec<_> = sleepers.into_iter().map(|sleeper| sleeper.join().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 200, 200], "the two that waited were served");
    assert_eq!(host.get("/params/1/b").status, 200);
}

#[test]
fn waiting_for_an_instance_has_a_limit_too() {
    let host = Host::run("python/probe", &["--instances", "1", "--threads", "1", "--queue-timeout", "200ms"]);
    let address = host.address();
    let sleeper = thread::spawn(move || Connection::open(address).get("/sleep/2000").status);
    thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    assert_eq!(host.get("/params/1/b").status, 503);
    assert!((150..1800).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(sleeper.join().unwrap(), 200);
}

#[test]
fn a_short_body_that_does_not_come_is_a_408_and_takes_no_instance() {
    let host = Host::run("python/probe", &["--instances", "1", "--threads", "1", "--timeout", "1s"]);
    let mut slow = host.connect();
    slow.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(host.get("/params/1/b").status, 200, "the only instance is free");
    assert_eq!(slow.answer().status, 408);
    assert!(slow.is_closed());
}

#[test]
fn the_log_of_a_request_is_bounded() {
    let host = Host::run("python/probe", &["--max-log", "2KiB"]);
    assert_eq!(host.get("/log-many/1000").status, 200);
    host.wait_for_log("log budget of the request is used up");
    host.wait_for_log("/log-many/1000");
    let lines = host.log().lines().filter(|line| line.contains("xxxxxxxx")).count();
    assert!((5..25).contains(&lines), "{lines} lines of 110 bytes");
    host.get("/log/info?text=again");
    host.wait_for_log("again");
}
