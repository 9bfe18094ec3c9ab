//! What a guest sees of a request, and what a client of its parameters.

use covet_tests::Host;
use serde_json::json;

#[test]
fn a_guest_sees_the_request_as_it_was_sent() {
    let host = Host::run("python/probe", &[]);
    let mut connection = host.connect();
    let fields = [("X-Upper", "Value"), ("x-twice", "1"), ("x-twice", "2"), ("x-utf8", "ä")];
    let seen = connection.request("GET", "/headers?a=1&a=2&b=%20x", &fields, b"").json();
    assert_eq!(seen["method"], "GET");
    assert_eq!(seen["target"], "/headers?a=1&a=2&b=%20x");
    assert_eq!(seen["path"], "/headers");
    assert_eq!(seen["url"], "http://localhost/headers?a=1&a=2&b=%20x");
    assert_eq!(seen["peer"][0], "127.0.0.1");
    assert_eq!(seen["peer"][1], connection.socket().local_addr().unwrap().port());
    assert_eq!(seen["query"], json!([["a", "1"], ["a", "2"], ["b", " x"]]));
    let headers = seen["headers"].as_array().unwrap();
    for field in [["x-upper", "Value"], ["x-twice", "1"], ["x-twice", "2"], ["x-utf8", "ä"], ["host", "localhost"]] {
        assert!(headers.contains(&json!(field)), "{field:?} in {headers:?}");
    }
}

#[test]
fn an_absolute_target_wins_over_the_host_field() {
    let host = Host::run("python/probe", &[]);
    let mut connection = host.connect();
    connection.send("GET http://other.example:81/headers?x HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let seen = connection.answer().json();
    assert_eq!(seen["url"], "http://other.example:81/headers?x");
}

#[test]
fn query_parameters_are_converted_and_have_defaults() {
    let host = Host::run("python/probe", &[]);
    let answer = host.get("/query?q=x&limit=20&flag=true&tags=a&tags=b&color=green&since=2026-01-02").json();
    assert_eq!(answer["q"], "x");
    assert_eq!(answer["limit"], 20);
    assert_eq!(answer["ratio"], 0.5);
    assert_eq!(answer["flag"], true);
    assert_eq!(answer["tags"], json!(["a", "b"]));
    assert_eq!(answer["color"], "green");
    assert_eq!(answer["since"], "2026-01-02");
    assert_eq!(answer["code"], json!(null));
}

#[test]
fn every_bad_query_parameter_is_named_in_one_422() {
    let host = Host::run("python/probe", &[]);
    let answer = host.get("/query?limit=0&ratio=x&color=blue&code=A");
    assert_eq!(answer.status, 422);
    let body = answer.json();
    let named: Vec<_> = body["detail"].as_array().unwrap().iter().map(|error| error["loc"].clone()).collect();
    for name in ["q", "limit", "ratio", "color", "code"] {
        assert!(named.contains(&json!(["query", name])), "{name} in {named:?}");
    }
    let limit = body["detail"].as_array().unwrap().iter().find(|error| error["loc"][1] == "limit").unwrap();
    assert_eq!(limit["type"], "greater_than_equal");
    assert_eq!(limit["ctx"], json!({"ge": 1}));
    assert_eq!(limit["msg"], "Input should be greater than or equal to 1");
}

#[test]
fn a_body_arrives_in_whatever_size_and_form() {
    let host = Host::run("python/probe", &[]);
    let mut connection = host.connect();
    for size in [0, 1, 100, 16 << 10, (16 << 10) + 1, 100_000, 3 << 20] {
        let text = vec![b'a'; size];
        let answer = connection.request("POST", "/echo", &[("content-type", "text/plain")], &text);
        assert_eq!((answer.status, answer.body == text), (200, true), "{size} bytes of text");
        let binary: Vec<u8> = (0..size).map(|n| (n % 251) as u8 ^ 0xff).collect();
        let answer = connection.request("POST", "/echo", &[], &binary);
        assert_eq!((answer.status, answer.body == binary), (200, true), "{size} binary bytes");
    }
}

#[test]
fn json_is_read_and_bad_json_is_the_clients_fault() {
    let host = Host::run("python/probe", &[]);
    assert_eq!(host.post("/echo-json", r#"{"a": [1, "ä"]}"#).json(), json!({"a": [1, "ä"]}));
    for bad in ["", "{", "nope", "[1,]"] {
        let status = host.post("/echo-json", bad).status;
        assert!((400..500).contains(&status), "{bad:?}: {status}");
    }
    assert_eq!(host.post("/echo-json", b"\xff\xfe").status / 100, 4);
}

#[test]
fn a_body_can_be_read_again_unless_it_was_read_as_a_stream() {
    let host = Host::run("python/probe", &[]);
    for size in [1, 100_000] {
        assert_eq!(host.post("/twice", "x".repeat(size)).json()["same"], true, "{size}");
        let answer = host.post("/twice/stream", "x".repeat(size)).json();
        assert!(answer["error"].as_str().is_some_and(|message| message.contains("as a stream")), "{size}: {answer}");
    }
}
