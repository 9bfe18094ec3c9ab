//! HTTP/1.1 on the wire, byte by byte.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use covet_tests::Host;

fn host() -> Host {
    Host::run("python/probe", &[])
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let host = host();
    let mut connection = host.connect();
    for number in 0..5 {
        let answer = connection.get(&format!("/params/{number}/b"));
        assert_eq!((answer.status, answer.json()["a"].as_i64()), (200, Some(number)));
    }
    let last = connection.request("GET", "/params/9/b", &[("connection", "close")], b"");
    assert_eq!(last.status, 200);
    assert!(connection.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let host = host();
    let mut connection = host.connect();
    let requests: String = (0..20).map(|n| format!("GET /params/{n}/x HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
    connection.send(requests);
    for number in 0..20 {
        assert_eq!(connection.answer().json()["a"], number);
    }
}

#[test]
fn a_request_may_arrive_in_any_pieces() {
    let host = host();
    let request = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";
    let mut connection = host.connect();
    for byte in request {
        connection.send([*byte]);
    }
    assert_eq!(connection.answer().text(), "hello");
    for split in [1, 10, 40, request.len() - 6, request.len() - 1] {
        let mut connection = host.connect();
        connection.send(&request[..split]);
        thread::sleep(Duration::from_millis(5));
        connection.send(&request[split..]);
        assert_eq!(connection.answer().text(), "hello", "split at {split}");
    }
}

#[test]
fn chunked_bodies_are_read_whatever_their_chunks() {
    let host = host();
    let mut connection = host.connect();
    connection.send("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in ["1\r\na\r\n", "A;name=value\r\n0123456789\r\n", "0\r\nx-trailer: 1\r\n\r\n"] {
        connection.send(piece);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(connection.answer().text(), "a0123456789");
    assert_eq!(connection.get("/params/1/b").status, 200, "the connection goes on");
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let host = host();
    let mut connection = host.connect();
    let get = connection.get("/big/text/1234");
    let head = connection.request("HEAD", "/big/text/1234", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("1234")));
    assert_eq!(get.header("content-type"), head.header("content-type"));
    let streamed = connection.request("HEAD", "/slow?count=2&ms=1", &[], b"");
    assert_eq!(streamed.status, 200);
    assert_eq!(connection.get("/params/1/b").status, 200, "nothing of a body is left on the connection");
}

#[test]
fn a_client_that_expects_100_continue_gets_it_when_the_body_is_wanted() {
    let host = host();
    let mut connection = host.connect();
    connection.send("POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(connection.head().status, 100);
    connection.send("hi");
    assert_eq!(connection.answer().text(), "hi");
}

#[test]
fn a_client_that_expects_100_continue_is_refused_before_it_sends_too_much() {
    let host = host();
    let mut connection = host.connect();
    connection.send("POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 99999999\r\n\r\n");
    assert_eq!(connection.answer().status, 413);
    assert!(connection.is_closed());
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let host = host();
    let mut connection = host.connect();
    connection.send("GET /params/1/b HTTP/1.0\r\n\r\n");
    let text = connection.rest();
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("{\"a\":1,\"b\":\"b\"}"), "{text}");
}

#[test]
fn malformed_requests_are_answered_with_400_and_closed() {
    let host = host();
    for request in [
        "NOT HTTP\r\n\r\n",
        "GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        "GET /params/1/b HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
        "GET /params/1/b HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        "GET /params/1/b HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET /params/1/b HTTP/1.1\r\n\r\n",
        "GET /params/1/b HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET /params/1/b HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET /params/1/b HTTP/1.1\r\nhost: a\r\nx: caf\u{0}\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let mut connection = host.connect();
        connection.send(request);
        let answer = connection.answer();
        assert_eq!(answer.status, 400, "{request:?}");
        assert!(connection.is_closed(), "{request:?}");
    }
}

#[test]
fn broken_chunks_end_the_request_with_400() {
    let host = host();
    for body in ["x\r\n", "5\r\nhelloXX", "ffffffffffffffffff\r\n", "-1\r\n"] {
        let mut connection = host.connect();
        connection.send("POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        connection.send(body);
        assert_eq!(connection.answer().status, 400, "{body:?}");
        assert!(connection.is_closed(), "{body:?}");
    }
}

#[test]
fn a_request_cannot_be_smuggled_behind_another() {
    let host = host();
    let mut connection = host.connect();
    // RFC 9112 section 6.3: Transfer-Encoding overrides Content-Length, and a server should close after it.
    connection.send(
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /params/1/b HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    let first = connection.answer();
    let rest = connection.rest();
    let refused = first.status == 400 && rest.is_empty();
    let as_chunked = first.status == 200 && first.body.is_empty();
    assert!(refused || as_chunked, "{first:?} {rest}");
}

#[test]
fn a_head_that_is_too_large_is_answered_with_431() {
    let host = host();
    let mut connection = host.connect();
    connection.send(format!("GET /params/1/b HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "v".repeat(40 << 10)));
    assert_eq!(connection.answer().status, 431);
    let mut connection = host.connect();
    let fields: String = (0..200).map(|n| format!("x-{n}: v\r\n")).collect();
    connection.send(format!("GET /params/1/b HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    assert_eq!(connection.answer().status, 431);
    let mut connection = host.connect();
    let value = "v".repeat(20 << 10);
    assert_eq!(connection.request("GET", "/params/1/b", &[("x", &value)], b"").status, 200, "20 KiB are fine");
}

#[test]
fn a_head_that_does_not_come_to_an_end_is_given_up() {
    let host = Host::run("python/probe", &["--head-timeout", "300ms"]);
    let mut connection = host.connect();
    let began = Instant::now();
    connection.send("GET /params/1/b HTTP/1.1\r\nhos");
    thread::sleep(Duration::from_millis(200));
    connection.send("t: a\r\n");
    assert!(connection.is_closed());
    assert!((250..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let host = Host::run("python/probe", &["--idle-timeout", "400ms"]);
    let mut used = host.connect();
    assert_eq!(used.get("/params/1/b").status, 200);
    let mut unused = host.connect();
    let began = Instant::now();
    assert!(used.is_closed());
    assert!(unused.is_closed());
    assert!((250..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_takes_nothing_of_a_response_is_given_up() {
    let host = Host::run("python/probe", &["--write-timeout", "500ms", "--timeout", "500ms"]);
    let mut connection = host.connect();
    connection.send("GET /endless?size=65536 HTTP/1.1\r\nhost: a\r\n\r\n");
    host.wait_for_log("complete=false");
    // What the kernel had buffered comes first, then the end.
    assert!(!connection.answer().complete);
}

#[test]
fn both_network_layers_serve_the_same() {
    for layer in ["uring", "epoll", "auto"] {
        let host = Host::run("python/probe", &["--io", layer]);
        let body = vec![b'x'; 3 << 20];
        let answer = host.post("/upload", &body);
        assert_eq!(answer.json()["size"], 3 << 20, "{layer}");
        let mut connection = host.connect();
        assert_eq!(connection.get("/big/text/2000000").body.len(), 2_000_000, "{layer}");
        assert_eq!(connection.get("/params/1/b").status, 200, "{layer}");
        let serving = if layer == "epoll" { "io=Epoll" } else { "io=Uring" };
        host.wait_for_log(serving);
    }
}

#[test]
fn a_client_that_hangs_up_in_the_middle_of_a_request_costs_nothing_but_its_instance() {
    let host = Host::run("python/probe", &["--isolation", "reuse", "--threads", "1"]);
    for _ in 0..10 {
        let mut connection = host.connect();
        connection.send("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nhalf");
        drop(connection);
        let mut connection = host.connect();
        connection.send("GET /sleep/60000 HTTP/1.1\r\nhost: a\r\n\r\n");
        thread::sleep(Duration::from_millis(5));
        drop(connection);
    }
    host.wait_until("only the question itself in flight", |host| host.get("/metrics").json()["in_flight"] == 1);
    let connection = host.connect();
    connection.socket().write_all(b"GET /par").expect("open");
    drop(connection);
    assert_eq!(host.get("/params/1/b").status, 200);
}
