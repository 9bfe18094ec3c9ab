//! From paths and methods to handlers.

use covet_tests::{Host, Started, component};
use serde_json::json;

#[test]
fn paths_find_their_handlers_and_parameters_arrive_decoded() {
    let host = Host::run("python/probe", &[]);
    let mut connection = host.connect();
    let mut get = |path: &str| connection.get(path).json();
    assert_eq!(get("/params/7/b%20c"), json!({"a": 7, "b": "b c"}));
    assert_eq!(get("/params/7/%C3%A4%2F%2525"), json!({"a": 7, "b": "ä/%25"}));
    assert_eq!(get("/files/a/b%2Fc/d.txt"), json!({"path": "a/b/c/d.txt"}));
    assert_eq!(get("/files/"), json!({"path": ""}));
    assert_eq!(get("/image/cat.png"), json!({"name": "cat"}));
    assert_eq!(get("/typed/int/-5"), json!({"value": -5, "type": "int"}));
    assert_eq!(get("/typed/float/1.5"), json!({"value": 1.5}));
    assert_eq!(get("/typed/bool/true"), json!({"value": true}));
    assert_eq!(get("/typed/enum/red"), json!({"value": "red", "name": "red"}));
}

#[test]
fn a_parameter_of_the_wrong_type_is_a_422_that_names_it() {
    let host = Host::run("python/probe", &[]);
    let answer = host.get("/params/seven/b");
    assert_eq!(answer.status, 422);
    let detail = &answer.json()["detail"][0];
    assert_eq!(detail["loc"], json!(["path", "a"]));
    assert_eq!(detail["type"], "int_parsing");
    assert_eq!(detail["input"], "seven");
}

#[test]
fn a_path_without_a_route_is_a_404_that_no_guest_sees() {
    let host = Host::run("python/probe", &["--isolation", "reuse", "--threads", "1"]);
    for path in ["/", "/nope", "/params/1", "/params/1/2/3", "/files", "//params/1/b"] {
        let answer = host.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (404, "{\"detail\":\"Not Found\"}"), "{path}");
    }
    assert_eq!(host.get("/metrics").json()["requests"], 1);
}

#[test]
fn another_method_is_a_405_with_what_is_allowed() {
    let host = Host::run("python/probe", &[]);
    let answer = host.post("/params/1/b", "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    let answer = host.get("/upload");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}

#[test]
fn a_route_for_every_method_gets_every_method() {
    let host = Host::run("python/probe", &[]);
    let mut connection = host.connect();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let answer = connection.request(method, "/headers", &[], b"");
        assert_eq!(answer.json()["method"], method);
    }
    assert_eq!(connection.request("HEAD", "/headers", &[], b"").status, 200);
}

#[test]
fn a_path_that_cannot_be_decoded_is_a_400() {
    let host = Host::run("python/probe", &[]);
    for path in ["/params/1/%", "/params/1/%zz", "/params/1/%ff", "/params/1/%00"] {
        assert_eq!(host.get(path).status, 400, "{path}");
    }
}

#[test]
fn routes_that_conflict_end_the_start_with_both_named() {
    let Started::Ended(finished) = Host::try_run(&component("python/conflicting-routes"), &[]) else {
        panic!("it serves")
    };
    assert_eq!(finished.code, Some(2));
    for route in ["GET /a/{x}", "GET /a/{y}", "conflicts"] {
        assert!(finished.stderr.contains(route), "{finished:?}");
    }
}

#[test]
fn a_pattern_that_no_router_can_hold_ends_the_start_and_is_named() {
    let Started::Ended(finished) = Host::try_run(&component("python/invalid-pattern"), &[]) else {
        panic!("it serves")
    };
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("invalid pattern"), "{finished:?}");
}
