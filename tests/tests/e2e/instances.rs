//! What a request can see of earlier ones, in each isolation mode.

use std::{collections::HashSet, thread, time::Duration};

use covet_tests::{Connection, Host, command, component};
use serde_json::json;

#[test]
fn in_fresh_every_request_starts_from_the_state_after_start_up() {
    let host = Host::run("python/probe", &["--isolation", "fresh"]);
    let mut connection = host.connect();
    for _ in 0..30 {
        assert_eq!(connection.get("/counter").json()["counter"], 1);
        assert_eq!(connection.get("/context/me").json()["before"], "none");
    }
    assert_eq!(connection.get("/leak/10").json()["kept"], 10);
    assert_eq!(connection.get("/leak/10").json()["kept"], 10);
}

#[test]
fn an_application_that_no_snapshot_can_hold_gets_a_new_instance_for_each_request() {
    let host = Host::run("python/held-handle", &["--threads", "1"]);
    let mut connection = host.connect();
    for _ in 0..10 {
        assert_eq!(connection.get("/counter").json(), json!({"counter": 1, "kept": 1}));
    }
    drop(connection);
    let finished = host.stop();
    assert!(finished.stderr.contains("resets=0"), "{finished:?}");
    assert!(finished.stderr.contains("used=10"), "{finished:?}");
    let mut inspect = command();
    let output = inspect.arg("inspect").arg(component("python/held-handle")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("each request gets a new instance, because:\n  its start-up leaves handles"), "{told}");
}

#[test]
fn each_route_has_the_isolation_that_it_asks_for() {
    for (default, of_default) in [("fresh", [1, 1, 1]), ("reuse", [4, 5, 6]), ("shared", [4, 5, 6])] {
        let host = Host::run("python/isolations", &["--threads", "1", "--isolation", default]);
        let mut connection = host.connect();
        let mut served = |path: &str| [0; 3].map(|_| connection.get(path).json().as_i64().unwrap());
        assert_eq!(served("/fresh"), [1, 1, 1]);
        assert_eq!(served("/reuse"), [1, 2, 3]);
        assert_eq!(served("/shared"), [1, 2, 3]);
        assert_eq!(
            served("/default"),
            of_default,
            "{default}: its routes and the others of this isolation go together"
        );
        assert_eq!(served("/fresh"), [1, 1, 1]);
        drop(connection);
        let address = host.address();
        let waits = thread::spawn(move || Connection::open(address).get("/meet").text());
        let met = host.get("/meet").text();
        let mut both = [met, waits.join().unwrap()];
        both.sort();
        assert_eq!(both, ["first", "second"], "requests of a shared instance run at the same time");
        let finished = host.stop();
        let shutdowns = finished.stderr.matches("at the end").count();
        assert_eq!(shutdowns, 3, "in each kept instance, and once for fresh: {finished:?}");
    }
}

#[test]
fn what_an_application_starts_with_is_not_counted_but_what_has_an_end_still_ends() {
    let host = Host::run("python/isolations", &["--threads", "1"]);
    for _ in 0..3 {
        let expected = json!({"ended": ["closed", "seen no more"], "immortal": [true, true, true, true]});
        assert_eq!(host.get("/end").json(), expected);
    }
}

#[test]
fn a_request_that_only_looks_at_things_writes_to_few_pages() {
    let host = Host::run("python/isolations", &["--threads", "1"]);
    let mut connection = host.connect();
    for _ in 0..50 {
        assert_eq!(connection.get("/fresh").json(), 1);
    }
    drop(connection);
    let finished = host.stop();
    let (_, told) = finished.stderr.split_once("reset_pages=").expect("it tells the mean of all resets");
    let pages: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert!((10..100).contains(&pages), "with reference counts and gaps it would be about 150: {finished:?}");
}

#[test]
fn inspect_tells_the_isolation_of_each_route() {
    let mut inspect = command();
    let output = inspect.arg("inspect").arg(component("python/isolations")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    for line in ["  GET /default (default)\n", "  GET /reuse (reuse) [reuse]\n", "  GET /meet (meet) [shared]\n"] {
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn fresh_is_the_default() {
    let host = Host::run("python/probe", &[]);
    assert_eq!(host.get("/counter").json()["counter"], 1);
    assert_eq!(host.get("/counter").json()["counter"], 1);
}

#[test]
fn in_reuse_an_instance_keeps_its_state_but_not_its_context() {
    let host = Host::run("python/probe", &["--isolation", "reuse", "--threads", "1", "--instances", "1"]);
    let mut connection = host.connect();
    for number in 1..50 {
        assert_eq!(connection.get("/counter").json()["counter"], number);
        assert_eq!(connection.get("/context/me").json()["before"], "none");
    }
}

#[test]
fn in_reuse_an_instance_serves_one_request_at_a_time() {
    let host = Host::run("python/probe", &["--isolation", "reuse", "--threads", "1"]);
    let address = host.address();
    let both: Vec<_> = (0..4)
        .map(|_| thread::spawn(move || Connection::open(address).get("/shared/lock/200").json()["inside"].as_i64()))
        .collect();
    for request in both {
        assert_eq!(request.join().unwrap(), Some(1));
    }
}

#[test]
fn in_reuse_an_instance_is_replaced_after_its_number_of_requests() {
    let flags = ["--isolation", "reuse", "--threads", "1", "--instances", "1", "--max-requests", "8"];
    let host = Host::run("python/probe", &flags);
    let counts: Vec<_> = (0..60).map(|_| host.get("/counter").json()["counter"].as_i64().unwrap()).collect();
    let largest = counts.iter().copied().max().unwrap();
    assert!((6..=10).contains(&largest), "8 give or take a quarter: {counts:?}");
    assert!(counts.iter().filter(|&&count| count == 1).count() >= 4, "{counts:?}");
}

#[test]
fn an_instance_is_replaced_when_it_is_old() {
    for isolation in ["reuse", "shared", "fresh"] {
        let host = Host::run("python/probe", &["--isolation", isolation, "--threads", "1", "--max-age", "1s"]);
        assert_eq!(host.get("/counter").json()["counter"], 1);
        thread::sleep(Duration::from_millis(1500));
        // The instance that is too old may serve one more.
        host.get("/counter");
        assert_eq!(host.get("/counter").json()["counter"], if isolation == "shared" { 2 } else { 1 }, "{isolation}");
        let finished = host.stop();
        assert!(finished.stderr.contains("used="), "{isolation}: {finished:?}");
    }
}

#[test]
fn start_up_has_run_once_in_whatever_instance_answers() {
    for isolation in ["fresh", "reuse"] {
        let host = Host::run("python/probe", &["--isolation", isolation]);
        for _ in 0..5 {
            let state = host.get("/startup").json();
            assert_eq!((state["started"].as_i64(), state["state"].as_bool()), (Some(1), Some(true)), "{isolation}");
        }
    }
}

#[test]
fn random_values_never_repeat_in_any_instance() {
    let host = Host::run("python/probe", &[]);
    let mut seen = HashSet::new();
    for _ in 0..30 {
        let values = host.get("/random").json();
        for (kind, value) in values.as_object().unwrap() {
            assert!(seen.insert(format!("{kind} {value}")), "{kind} {value} came twice");
        }
    }
}

#[test]
fn a_guest_sees_nothing_of_the_machine_but_what_it_was_given() {
    let host = Host::run("python/probe", &["--env", "GREETING=hello", "--env", "EMPTY="]);
    let environ = host.get("/environ").json();
    let environ = environ.as_object().unwrap();
    assert_eq!(environ["GREETING"], "hello");
    assert_eq!(environ["EMPTY"], "");
    for name in ["PATH", "HOME", "USER"] {
        assert!(
            environ.get(name).is_none_or(|value| !std::env::vars().any(|(n, v)| n == name && *value == v)),
            "{name}"
        );
    }
    assert_eq!(host.get("/config/GREETING").json()["value"], "hello");
    assert_eq!(host.get("/config/PATH").json()["value"], serde_json::Value::Null);
}

#[test]
fn a_task_that_nobody_awaits_runs_to_its_end_after_the_response() {
    for isolation in ["fresh", "reuse"] {
        let host = Host::run("python/probe", &["--isolation", isolation]);
        assert_eq!(host.get("/async/orphan?ms=300").text(), "started");
        assert!(!host.log().contains("orphan done"));
        host.wait_for_log("orphan done");
    }
}

#[test]
fn a_task_that_never_ends_is_stopped_with_its_instance() {
    let host = Host::run("python/probe", &["--timeout", "500ms", "--threads", "1"]);
    assert_eq!(host.get("/async/orphan?ms=60000").text(), "started");
    host.wait_for_log("a response was cut off");
    host.wait_until("nothing else in flight", |host| host.get("/metrics").json()["in_flight"] == 1);
}

#[test]
fn asyncio_does_what_a_python_developer_expects() {
    let host = Host::run("python/probe", &["--isolation", "reuse", "--threads", "1", "--instances", "1"]);
    let get = |path: &str| {
        let answer = host.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    };
    let json = |path: &str| serde_json::from_str::<serde_json::Value>(&get(path)).unwrap();
    assert_eq!(json("/async/sleep")["waited"], true);
    assert_eq!(json("/async/gather")["overlapped"], true);
    assert_eq!(json("/async/task")["values"], serde_json::json!([1, 2, 3]));
    assert_eq!(json("/async/timeout")["timed_out"], true);
    assert_eq!(json("/async/wait-for")["values"], serde_json::json!(["done", "timeout"]));
    assert_eq!(get("/async/timeout-unused"), "done");
    assert_eq!(json("/async/cancel")["cancelled"], true);
    assert_eq!(json("/async/queue")["got"], serde_json::json!([0, 1, 2, 3, 4]));
    assert_eq!(json("/async/locks")["order"], serde_json::json!([0, 1, 2, 3, 4]));
    assert_eq!(json("/async/thread")["values"], serde_json::json!([6, 4, "ValueError"]));
    assert_eq!(json("/async/call-later")["order"], serde_json::json!(["soon", "at", "later"]));
    assert_eq!(json("/async/generator")["closed"], serde_json::json!([true]));
    assert_eq!(json("/async/busy")["turns"], true);
    let group = json("/async/group-error");
    assert_eq!((group["cancelled"].as_bool(), group["errors"][0].as_str()), (Some(true), Some("in a group")));
    assert_eq!(json("/counter")["counter"], 1, "one instance has answered all of them");
    thread::sleep(Duration::from_millis(10));
}
