//! Many requests in one instance at the same time.

use std::{
    thread,
    time::{Duration, Instant},
};

use covet_tests::{Connection, Host};

/// One instance for all requests.
const ONE: [&str; 6] = ["--isolation", "shared", "--threads", "1", "--instances", "1"];

fn host(flags: &[&str]) -> Host {
    Host::run("python/probe", &[&ONE, flags].concat())
}

#[test]
fn requests_of_an_instance_overlap_and_share_its_state() {
    let host = host(&[]);
    let address = host.address();
    let began = Instant::now();
    let sleepers: Vec<_> =
        (0..20).map(|_| thread::spawn(move || Connection::open(address).get("/sleep/500").status)).collect();
    for sleeper in sleepers {
        assert_eq!(sleeper.join().unwrap(), 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "one after the other they take ten: {:?}", began.elapsed());
    for number in 1..=5 {
        assert_eq!(host.get("/counter").json()["counter"], number);
    }
}

#[test]
fn a_request_wakes_another_one_of_its_instance() {
    let host = host(&[]);
    let address = host.address();
    let waiter = thread::spawn(move || Connection::open(address).get("/shared/wait").text());
    let getter = thread::spawn(move || Connection::open(address).get("/shared/get").text());
    thread::sleep(Duration::from_millis(200));
    assert_eq!(host.get("/shared/put/item").text(), "put");
    assert_eq!(getter.join().unwrap(), "item");
    assert_eq!(host.get("/shared/set").text(), "set");
    assert_eq!(waiter.join().unwrap(), "event");
    let locked: Vec<_> = (0..5)
        .map(|_| thread::spawn(move || Connection::open(address).get("/shared/lock/30").json()["inside"].as_i64()))
        .collect();
    for request in locked {
        assert_eq!(request.join().unwrap(), Some(1), "a lock holds across requests");
    }
}

#[test]
fn a_request_that_comes_too_late_leaves_the_others_alone() {
    let host = host(&["--timeout", "500ms"]);
    assert_eq!(host.get("/counter").json()["counter"], 1);
    assert_eq!(host.get("/sleep/60000").status, 504);
    assert_eq!(host.get("/counter").json()["counter"], 2, "it is the same instance");
}

#[test]
fn clients_that_break_their_uploads_off_do_not_take_the_instance_with_them() {
    let host = host(&["--max-body", "1MiB"]);
    assert_eq!(host.get("/counter").json()["counter"], 1);
    for _ in 0..10 {
        let mut connection = host.connect();
        connection.send("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\nonly this");
        drop(connection);
        let mut connection = host.connect();
        connection.send("POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..17 {
            connection.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000)));
        }
        assert_eq!(connection.answer().status, 413);
    }
    assert_eq!(host.get("/counter").json()["counter"], 2, "it is the same instance");
}

#[test]
fn bodies_of_concurrent_requests_do_not_mix() {
    let host = host(&[]);
    let address = host.address();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                for round in 0..20 {
                    let body = format!("{client} {round} ").repeat(1 + 700 * (round % 10));
                    let answer = connection.request("POST", "/echo-stream", &[], body.as_bytes());
                    assert_eq!((answer.status, answer.text() == body), (200, true), "{client} {round}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_request_that_computes_without_end_costs_the_instance_and_all_in_it() {
    let host = host(&["--cpu-timeout", "500ms"]);
    let address = host.address();
    assert_eq!(host.get("/counter").json()["counter"], 1);
    let sleeper = thread::spawn(move || Connection::open(address).get("/sleep/8000").status);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(host.get("/spin").status, 504);
    assert_eq!(sleeper.join().unwrap(), 504);
    host.wait_for_log("a shared instance was lost");
    assert_eq!(host.get("/counter").json()["counter"], 1, "it is another instance");
}

#[test]
fn a_trap_costs_the_instance_and_all_in_it() {
    let host = host(&[]);
    let address = host.address();
    let sleeper = thread::spawn(move || Connection::open(address).get("/sleep/8000").status);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(host.get("/trap").status, 502);
    assert_eq!(sleeper.join().unwrap(), 502);
    assert_eq!(host.get("/counter").json()["counter"], 1);
}

#[test]
fn requests_beyond_the_concurrency_wait_and_beyond_the_queue_are_refused() {
    let host = host(&["--max-concurrency", "2", "--queue", "2", "--queue-timeout", "10s"]);
    let address = host.address();
    let requests: Vec<_> =
        (0..6).map(|_| thread::spawn(move || Connection::open(address).get("/sleep/700").status)).collect();
    let mut statuses: Vec<_> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 503, 503]);
}

#[test]
fn an_instance_is_replaced_after_its_number_of_requests_without_losing_one() {
    let host = host(&["--max-requests", "20"]);
    let address = host.address();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                (0..50).map(|_| connection.get("/counter").json()["counter"].as_i64().unwrap()).max().unwrap()
            })
        })
        .collect();
    for client in clients {
        assert!(client.join().unwrap() <= 25 + 4);
    }
}

#[test]
fn a_load_without_end_leaves_no_handles_behind() {
    // More calls than there are handles, never with a pause: `in_batches` in host/wasm/src/shared.rs.
    let host = host(&["--max-requests", "1000000", "--max-concurrency", "16"]);
    let address = host.address();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                for _ in 0..900 {
                    assert_eq!(connection.get("/params/1/b").status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert!(!host.log().contains("lost"), "{}", host.log());
}

#[test]
fn a_task_that_never_waits_lets_other_requests_in() {
    let host = host(&[]);
    let address = host.address();
    let busy = thread::spawn(move || Connection::open(address).get("/async/busy?ms=3000").status);
    thread::sleep(Duration::from_millis(300));
    let mut connection = host.connect();
    for _ in 0..20 {
        assert_eq!(connection.get("/params/1/b").status, 200);
    }
    assert!(!busy.is_finished(), "they were let in meanwhile");
    assert_eq!(busy.join().unwrap(), 200);
}

#[test]
fn what_runs_is_finished_and_shutdown_handlers_run_when_the_host_drains() {
    let host = host(&[]);
    let address = host.address();
    let sleeper = thread::spawn(move || Connection::open(address).get("/sleep/700").status);
    thread::sleep(Duration::from_millis(200));
    let finished = host.stop();
    assert_eq!(sleeper.join().unwrap(), 200);
    assert_eq!(finished.code, Some(0));
    assert_eq!(finished.stderr.matches("probe shut down").count(), 1, "{}", finished.stderr);
}
