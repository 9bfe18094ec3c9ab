//! What an application can learn of how it answers.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use covet_tests::{Connection, Host};
use serde_json::Value;

/// The figures without those of time, which are [`latencies`] and the rate.
fn counts(figures: &Value) -> [u64; 5] {
    ["total_requests", "client_errors", "server_errors", "active_requests", "abandoned_requests"]
        .map(|name| figures[name].as_u64().unwrap_or_else(|| panic!("{name} in {figures}")))
}

/// Mean and percentiles in milliseconds.
fn latencies(figures: &Value) -> [f64; 4] {
    ["mean_latency_ms", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms"]
        .map(|name| figures[name].as_f64().unwrap_or_else(|| panic!("{name} in {figures}")))
}

fn figures(host: &Host) -> Value {
    host.get("/app-metrics").json()
}

#[test]
fn every_answer_is_counted_by_whose_fault_it_was_on_whatever_thread_it_was_given() {
    let flags = ["--threads", "2", "--timeout", "500ms", "--max-body", "1MiB"];
    let host = Host::run("python/probe", &flags);
    let first = figures(&host);
    assert_eq!(counts(&first), [0, 0, 0, 1, 0], "only the question, which has no answer yet");
    assert_eq!((latencies(&first), first["requests_per_second"].as_f64()), ([0.0; 4], Some(0.0)));

    // A connection for each, so that both threads have some.
    for _ in 0..20 {
        assert_eq!(host.get("/params/1/b").status, 200);
    }
    let too_large = [("content-length", "1048577")];
    assert_eq!(host.connect().request("POST", "/upload", &too_large, b"").status, 413);
    let refused = [
        ("GET", "/nope", 404),
        ("POST", "/params/1/b", 405),
        ("GET", "/params/1/%", 400),
        ("GET", "/params/seven/b", 422),
        ("GET", "/exception", 500),
        ("GET", "/trap", 502),
        ("GET", "/sleep/60000", 504),
    ];
    for (method, path, status) in refused {
        assert_eq!(host.connect().request(method, path, &[], b"").status, status, "{path}");
    }
    // That is no request of the application.
    let mut connection = host.connect();
    connection.send("this is not HTTP\r\n\r\n");
    assert_eq!(connection.answer().status, 400);

    host.wait_until("nothing under way", |host| figures(host)["active_requests"] == 1);
    let last = figures(&host);
    let [total, client_errors, server_errors, _, abandoned] = counts(&last);
    // The questions are answered with 200.
    assert!(total >= 30, "{last}");
    assert_eq!((client_errors, server_errors, abandoned), (5, 3, 0));
    assert_eq!(counts(&figures(&host))[0], total + 1, "another question");
    assert!(last["requests_per_second"].as_f64().is_some_and(|rate| 0.0 < rate && rate <= total as f64), "{last}");
}

#[test]
fn a_request_that_finds_no_room_is_an_error_of_the_servers() {
    let host = Host::run("python/probe", &["--instances", "1", "--threads", "1", "--queue-timeout", "100ms"]);
    let address = host.address();
    let sleeper = thread::spawn(move || Connection::open(address).get("/sleep/1000").status);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(host.get("/params/1/b").status, 503);
    assert_eq!(sleeper.join().unwrap(), 200);
    assert_eq!(counts(&figures(&host))[..3], [2, 0, 1]);
}

#[test]
fn latencies_are_of_all_instances_and_end_with_the_head_of_a_response() {
    for isolation in ["fresh", "reuse", "shared"] {
        let host = Host::run("python/probe", &["--isolation", isolation]);
        // Milliseconds until the client has the head, which a latency is not beyond.
        let get = |path: &str| {
            let began = Instant::now();
            let mut connection = host.connect();
            connection.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
            assert_eq!(connection.head().status, 200);
            let seen = began.elapsed();
            connection.rest();
            seen.as_secs_f64() * 1e3 + 0.001
        };
        // The body of the last one takes 400 ms.
        let seen = (0..18).map(|_| get("/params/1/b")).chain([get("/slow?count=5&ms=100")]).fold(0.0, f64::max);
        let quick = figures(&host);
        let [mean, p50, p95, p99] = latencies(&quick);
        assert!(0.0 < p50 && p50 <= p95 && p95 <= p99 && p99 / ERROR <= seen, "{isolation}: {seen} ms, {quick}");
        assert!(0.0 < mean && mean <= seen, "{isolation}: {seen} ms, {quick}");

        let slept = get("/sleep/500");
        let slow = figures(&host);
        let [mean, p50, _, p99] = latencies(&slow);
        assert!(p99 * ERROR >= 500.0 && p99 / ERROR <= slept, "{isolation}: {slept} ms, {slow}");
        // 21 requests by now: those above, and a question.
        assert!(mean >= 500.0 / 21.0 && mean < p99 && p50 <= p99, "{isolation}: {slow}");
    }
}

/// Percentiles are told to within 1/32.
const ERROR: f64 = 32.0 / 31.0;

#[test]
fn a_request_is_active_until_its_body_is_over_and_abandoned_if_its_client_does_not_wait() {
    let host = Host::run("python/probe", &[]);
    let mut reading = host.connect();
    reading.send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(reading.head().status, 200);
    assert_eq!(counts(&figures(&host)), [1, 0, 0, 2, 0]);
    drop(reading);
    host.wait_until("the body is given up", |host| figures(host)["active_requests"] == 1);
    let [total, .., abandoned] = counts(&figures(&host));
    assert_eq!(abandoned, 0, "it had its answer");

    let waiting = host.connect();
    waiting.socket().write_all(b"GET /sleep/60000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    host.wait_until("it sleeps", |host| figures(host)["active_requests"] == 2);
    drop(waiting);
    host.wait_until("it is given up", |host| figures(host)["abandoned_requests"] == 1);
    let last = figures(&host);
    assert_eq!(counts(&last)[1..4], [0, 0, 1]);
    assert!(counts(&last)[0] > total, "only the questions were answered");
    assert!(latencies(&last)[3] < 10_000.0, "its latency is unknown: {last}");
}
