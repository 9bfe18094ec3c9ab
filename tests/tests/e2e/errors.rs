//! Whatever goes wrong in a guest, the client gets an answer, the next request works, and the cause is in the log only.

use covet_tests::Host;

/// A single instance for all requests, so that a counter tells whether it was replaced.
const ONE: &[&str] = &["--isolation", "reuse", "--threads", "1", "--instances", "1"];

#[test]
fn an_exception_is_a_500_without_its_traceback_which_is_in_the_log() {
    let host = Host::run("python/probe", &[]);
    for path in ["/exception", "/exception/async"] {
        let answer = host.get(path);
        assert_eq!(answer.status, 500, "{path}");
        assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    host.wait_for_log("ValueError: secret of the handler");
    host.wait_for_log("Traceback");
}

#[test]
fn no_kind_of_exception_costs_the_instance() {
    let host = Host::run("python/probe", ONE);
    let mut expected = 0;
    for name in [
        "SystemExit",
        "KeyboardInterrupt",
        "GeneratorExit",
        "CancelledError",
        "MemoryError",
        "RecursionError",
        "StopIteration",
        "BaseException",
    ] {
        assert_eq!(host.get(&format!("/exception/{name}")).status, 500, "{name}");
        expected += 1;
        assert_eq!(host.get("/counter").json()["counter"], expected, "{name}: another instance answers");
    }
    for path in ["/exit", "/recurse", "/deep-response", "/not-json", "/nan"] {
        let status = host.get(path).status;
        assert!(status == 500 || path == "/nan", "{path}: {status}");
        expected += 1;
        assert_eq!(host.get("/counter").json()["counter"], expected, "{path}: another instance answers");
    }
}

#[test]
fn an_http_exception_has_its_status_detail_and_fields() {
    let host = Host::run("python/probe", &[]);
    let answer = host.get("/http-exception/404");
    assert_eq!((answer.status, answer.header("x-error")), (404, Some("yes")));
    assert_eq!(answer.json()["detail"]["status"], 404);
    let handled = host.get("/handled");
    assert_eq!((handled.status, handled.json()["handled"].as_str()), (418, Some("short and stout")));
}

#[test]
fn a_trap_is_a_502_and_the_next_request_works() {
    for isolation in ["fresh", "reuse"] {
        let host = Host::run("python/probe", &["--isolation", isolation, "--threads", "1"]);
        for path in ["/trap", "/abort"] {
            let answer = host.get(path);
            assert_eq!((answer.status, answer.text().as_str()), (502, "{\"detail\":\"Bad Gateway\"}"), "{path}");
            assert_eq!(host.get("/counter").json()["counter"], 1, "a new instance answers");
        }
        host.wait_for_log("GET /trap (trap)");
        host.wait_for_log("the guest failed");
    }
}

#[test]
fn a_response_that_is_not_http_is_a_502() {
    let host = Host::run("python/probe", &[]);
    for path in ["/status/99", "/status/100", "/status/101", "/status/600", "/bad-header/name", "/bad-header/value"] {
        let answer = host.get(path);
        // The framework may refuse it before the host has to.
        assert!([500, 502].contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.header("set-cookie").is_none());
    }
}

#[test]
fn the_framing_of_a_response_is_the_hosts() {
    let host = Host::run("python/probe", &[]);
    let mut connection = host.connect();
    let answer = connection.get("/headers/framing");
    assert_eq!((answer.status, answer.text().as_str(), answer.header("content-length")), (200, "body", Some("4")));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(connection.get("/params/1/b").status, 200, "the connection is not closed for the guest");
}

#[test]
fn every_valid_status_arrives() {
    let host = Host::run("python/probe", &[]);
    for status in [200, 201, 202, 204, 206, 304, 400, 404, 418, 451, 500, 503, 599] {
        assert_eq!(host.get(&format!("/status/{status}")).status, status);
    }
}

#[test]
fn a_deep_json_body_is_refused_and_kills_nothing() {
    let host = Host::run("python/probe", ONE);
    for depth in [500, 2_000, 10_000, 100_000, 1_000_000] {
        let body = "[".repeat(depth) + &"]".repeat(depth);
        let status = host.post("/echo-json", &body).status;
        assert!(status == 200 && depth < 100_000 || status == 400, "{depth}: {status}");
    }
    assert_eq!(host.post("/echo-json", "[".repeat(100_000) + &"]".repeat(100_000)).status, 400);
    assert_eq!(host.get("/counter").json()["counter"], 1);
}

#[test]
fn a_late_import_fails_as_an_exception_and_not_as_a_trap() {
    let host = Host::run("python/probe", &[]);
    assert_eq!(host.get("/late-import").status, 200);
}
