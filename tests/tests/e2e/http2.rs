//! HTTP/2 in plain text: the same applications, many requests side by side, and clients that mean harm.
#![expect(clippy::disallowed_methods, reason = "these are clients, on a runtime of their own")]

use std::{
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use covet_tests::{
    Host,
    frames::{
        self, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, Frames, GOAWAY, HEADERS, PING,
        RST_STREAM, SETTINGS, WINDOW_UPDATE,
    },
    private_bytes,
};
use h2::client::SendRequest;
use serde_json::{Value, json};
use tokio::{net::TcpStream, runtime::Runtime};

struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn connect(host: &Host) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(host.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(method: &str, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(format!("http://localhost{path}"))
}

async fn ask(client: &SendRequest<Bytes>, head: http::request::Builder, body: &[u8]) -> Result<Reply, h2::Error> {
    let mut client = client.clone().ready().await?;
    let (response, mut sending) = client.send_request(head.body(()).unwrap(), body.is_empty())?;
    if !body.is_empty() {
        let mut rest = Bytes::copy_from_slice(body);
        while !rest.is_empty() {
            sending.reserve_capacity(rest.len());
            let Some(room) = std::future::poll_fn(|context| sending.poll_capacity(context)).await else { break };
            let piece = rest.split_to(room?.min(rest.len()));
            sending.send_data(piece, rest.is_empty())?;
        }
    }
    let response = response.await?;
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk?;
        incoming.flow_control().release_capacity(chunk.len())?;
        body.extend(chunk);
    }
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_same_application_answers_over_http2() {
    let host = Host::run("python/probe", &[]);
    runtime().block_on(async {
        let client = connect(&host).await;
        let reply = ask(&client, request("GET", "/params/42/x"), b"").await.unwrap();
        assert_eq!((reply.status, reply.json()), (200, json!({"a": 42, "b": "x"})));
        assert_eq!(reply.headers["content-length"], "16");
        let body = vec![b'x'; 3_000_000];
        let reply = ask(&client, request("POST", "/echo").header("content-type", "text/plain"), &body).await.unwrap();
        assert!(reply.status == 200 && reply.body == body, "{}", reply.body.len());
        let reply = ask(&client, request("GET", "/nowhere"), b"").await.unwrap();
        assert_eq!((reply.status, reply.json()), (404, json!({"detail": "Not Found"})));
        let reply = ask(&client, request("GET", "/slow?count=3&ms=5"), b"").await.unwrap();
        assert_eq!(reply.body, b"0\n1\n2\n");
        // Fields of the connection are the host's, and would be an error here.
        let reply = ask(&client, request("GET", "/headers/framing"), b"").await.unwrap();
        assert_eq!(reply.status, 200);
        assert!(!reply.headers.contains_key("connection") && !reply.headers.contains_key("transfer-encoding"));
        let split = request("GET", "/headers").header("cookie", "a=1").header("cookie", "b=2");
        let seen = ask(&client, split.header("covet-client-subject", "CN=root"), b"").await.unwrap().json();
        let seen = seen.to_string();
        assert!(seen.contains("a=1; b=2") && seen.contains("\"covet-http-version\""), "{seen}");
        assert!(seen.contains("\"host\"") && !seen.contains("root"), "{seen}");
    });
    let finished = host.stop();
    assert!(finished.stderr.contains("version=HTTP/2.0"), "{}", finished.stderr);
}

#[test]
fn requests_of_one_connection_run_side_by_side() {
    let host = Host::run("python/probe", &["--threads", "1", "--isolation", "shared"]);
    runtime().block_on(async {
        let client = connect(&host).await;
        ask(&client, request("GET", "/sleep/1"), b"").await.unwrap();
        let began = Instant::now();
        let asked: Vec<_> = (0..40)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { ask(&client, request("GET", "/sleep/300"), b"").await.unwrap().status })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), 200);
        }
        assert!(began.elapsed() < Duration::from_secs(6), "40 times 300 ms took {:?}", began.elapsed());
    });
}

#[test]
fn a_stream_that_its_client_resets_ends_its_guest_and_no_other() {
    let host = Host::run("python/probe", &["--threads", "1", "--instances", "2", "--isolation", "fresh"]);
    runtime().block_on(async {
        let client = connect(&host).await;
        for _ in 0..5 {
            let mut ready = client.clone().ready().await.unwrap();
            let (response, mut sending) =
                ready.send_request(request("GET", "/endless").body(()).unwrap(), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            assert!(!body.data().await.unwrap().unwrap().is_empty());
            sending.send_reset(h2::Reason::CANCEL);
        }
        // With two instances, and five that would never end, this would wait for ever.
        for _ in 0..5 {
            assert_eq!(ask(&client, request("GET", "/params/1/x"), b"").await.unwrap().status, 200);
        }
    });
}

#[test]
fn a_drain_lets_streams_finish_and_takes_no_new_ones() {
    let host = Host::run("python/probe", &["--threads", "1"]);
    let mut frames = Frames::open(host.address(), &[]);
    frames.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, frames::get("/sleep/500")));
    assert!(frames.is_alive());
    host.terminate();
    let goaway = frames.wait_for(GOAWAY).expect("it says that it ends");
    assert_eq!(goaway.number(4), Some(0), "without an error: {goaway:?}");
    let data = frames.wait_for(DATA).expect("the answer comes all the same");
    assert_eq!(data.stream, 1);
    assert_eq!(host.wait().code, Some(0));
}

#[test]
fn an_idle_connection_is_told_that_it_ends_and_pings_do_not_keep_it() {
    let host = Host::run("python/probe", &["--threads", "1", "--idle-timeout", "1s", "--head-timeout", "1s"]);
    let mut frames = Frames::open(host.address(), &[]);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        assert!(frames.is_alive());
        thread::sleep(Duration::from_millis(100));
    }
    assert!(frames.wait_for(GOAWAY).is_some());
    assert!(began.elapsed() < Duration::from_secs(8));
    let mut silent = std::net::TcpStream::connect(host.address()).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    std::io::Write::write_all(&mut silent, b"PRI * HTTP/2.0\r\n").unwrap();
    assert_eq!(std::io::Read::read(&mut silent, &mut [0; 9]).unwrap_or(1), 0, "half a preface is not waited for");
}

/// Others are served while this client does what it does.
fn others_are_served(host: &Host) {
    let began = Instant::now();
    assert_eq!(host.get("/params/1/x").status, 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn whoever_resets_what_it_asks_for_is_cut_off() {
    let host = Host::run("python/probe", &["--threads", "1", "--instances", "4"]);
    let mut frames = Frames::open(host.address(), &[]);
    let head = frames::get("/sleep/1000");
    for number in 0..5_000_u32 {
        let stream = number * 2 + 1;
        let asked = Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, head.clone()).bytes();
        let reset = Frame::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes()).bytes();
        if !frames.send_bytes(&[asked, reset].concat()) {
            break;
        }
    }
    others_are_served(&host);
    let goaway = frames.wait_for(GOAWAY).expect("the client is told");
    assert_eq!(goaway.number(4), Some(ENHANCE_YOUR_CALM));
    assert!(!frames.is_alive());
}

#[test]
fn a_head_without_end_is_refused_before_it_takes_memory() {
    let host = Host::run("python/probe", &["--threads", "1"]);
    let before = private_bytes(host.process());
    let mut frames = Frames::open(host.address(), &[]);
    frames.send(&Frame::new(HEADERS, END_STREAM, 1, frames::get("/")));
    let piece = frames::block(&[("x-filler", &"x".repeat(15_000))]);
    let mut sent = 0;
    while sent < 4_000 && frames.send(&Frame::new(CONTINUATION, 0, 1, piece.clone())) {
        sent += 1;
    }
    others_are_served(&host);
    assert!(!frames.is_alive(), "60 MB of one head were taken");
    assert!(private_bytes(host.process()) < before + (32 << 20), "{before}");

    // Many small ones, which are cheap to send and dear to keep.
    let mut frames = Frames::open(host.address(), &[]);
    frames.send(&Frame::new(HEADERS, END_STREAM, 1, frames::get("/")));
    let mut sent = 0;
    while sent < 50_000 && frames.send(&Frame::new(CONTINUATION, 0, 1, [])) {
        sent += 1;
    }
    assert!(!frames.is_alive(), "empty frames without end were taken");
    others_are_served(&host);
}

#[test]
fn a_small_head_that_unpacks_to_a_large_one_is_refused() {
    let host = Host::run("python/probe", &["--threads", "1"]);
    let before = private_bytes(host.process());
    let mut frames = Frames::open(host.address(), &[]);
    // One field of 4,000 bytes is put into the table, and then named 15,000 times: 60 MB.
    let mut head = frames::get("/params/1/x");
    head.extend(frames::field(0x40, "x-bomb", &"x".repeat(4000)));
    head.extend(std::iter::repeat_n(0x80 | 62, 15_000 - 4_200));
    frames.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, head));
    let answer = loop {
        match frames.receive() {
            Some(frame) if frame.kind == HEADERS || frame.kind == RST_STREAM || frame.kind == GOAWAY => {
                break Some(frame);
            }
            Some(_) => {}
            None => break None,
        }
    };
    if let Some(frame) = answer.filter(|frame| frame.kind == HEADERS) {
        // 431, as a literal value of the field with the static index of :status.
        assert!(frame.payload.windows(3).any(|text| text == b"431") || frame.payload.len() < 40, "{frame:?}");
        assert_ne!(frame.payload.first(), Some(&0x88), "not a 200");
    }
    assert!(private_bytes(host.process()) < before + (32 << 20));
    others_are_served(&host);
}

#[test]
fn floods_of_pings_and_settings_take_no_memory_and_nobody_elses_time() {
    let host = Host::run("python/probe", &["--threads", "1"]);
    let before = private_bytes(host.process());
    for frame in [Frame::new(PING, 0, 0, *b"floodnow"), Frame::new(SETTINGS, 0, 0, [0, 3, 0, 0, 0, 100])] {
        let mut frames = Frames::open(host.address(), &[]);
        let many = frame.bytes().repeat(1000);
        // Nothing that comes back is read, so that acknowledgements pile up somewhere.
        for _ in 0..300 {
            if !frames.send_bytes(&many) {
                break;
            }
        }
        others_are_served(&host);
        assert!(private_bytes(host.process()) < before + (32 << 20), "kind {}", frame.kind);
    }
}

#[test]
fn a_window_of_one_byte_gets_its_answer_and_a_closed_one_is_given_up() {
    let host = Host::run("python/probe", &["--threads", "1", "--write-timeout", "1s"]);
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut frames = Frames::open(host.address(), &[(4, 1)]);
    frames.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, frames::get("/params/42/x")));
    let mut body = Vec::new();
    while let Some(data) = frames.wait_for(DATA) {
        body.extend(&data.payload);
        if data.flags & END_STREAM != 0 {
            break;
        }
        frames.send(&Frame::new(WINDOW_UPDATE, 0, 1, 1_u32.to_be_bytes()));
    }
    assert_eq!(String::from_utf8(body).unwrap(), r#"{"a":42,"b":"x"}"#);

    let mut frames = Frames::open(host.address(), &[(4, 0)]);
    frames.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, frames::get("/endless?size=100000")));
    let began = Instant::now();
    while let Some(frame) = frames.receive() {
        assert!(frame.kind != DATA || frame.payload.is_empty(), "there was no room for it");
    }
    assert!(began.elapsed() < Duration::from_secs(6), "a body that nobody takes was kept for {:?}", began.elapsed());
    others_are_served(&host);
}

#[test]
fn a_body_that_comes_too_slowly_or_is_too_large_is_refused() {
    let host = Host::run("python/probe", &["--threads", "1", "--max-body", "100KiB", "--timeout", "1s"]);
    runtime().block_on(async {
        let client = connect(&host).await;
        let reply = ask(&client, request("POST", "/echo"), &vec![b'x'; 200_000]).await;
        assert!(reply.map_or(true, |reply| reply.status == 413));
        let told = request("POST", "/echo").header("content-length", "5");
        let mut ready = client.clone().ready().await.unwrap();
        let (response, _sending) = ready.send_request(told.body(()).unwrap(), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 408);
        assert_eq!(ask(&client, request("GET", "/params/1/x"), b"").await.unwrap().status, 200, "the rest goes on");
    });
}

#[test]
fn no_more_streams_at_a_time_than_are_allowed() {
    let host = Host::run("python/probe", &["--threads", "1", "--max-streams", "3", "--isolation", "shared"]);
    let mut frames = Frames::open(host.address(), &[]);
    assert!(frames.is_alive());
    for stream in [1, 3, 5, 7, 9] {
        frames.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, frames::get("/sleep/300")));
    }
    let (mut refused, mut answered) = (0, 0);
    while refused + answered < 5 {
        let frame = frames.receive().expect("each is answered or refused");
        match frame.kind {
            RST_STREAM => {
                assert_eq!(frame.number(0), Some(7), "REFUSED_STREAM, which may be tried again");
                refused += 1;
            }
            HEADERS => answered += 1,
            _ => {}
        }
    }
    assert_eq!((refused, answered), (2, 3));
}
