//! Bodies that come piece by piece, both ways, and nothing that grows with them.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use covet_tests::{Host, private_bytes};

#[test]
fn the_first_byte_of_a_stream_arrives_before_the_last_is_made() {
    let host = Host::run("python/probe", &[]);
    let mut connection = host.connect();
    let began = Instant::now();
    connection.send("GET /slow?count=5&ms=200 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(connection.head().header("transfer-encoding"), Some("chunked"));
    assert_eq!(connection.chunk().unwrap(), b"0\n");
    let first = began.elapsed();
    for number in 1..5 {
        assert_eq!(connection.chunk().unwrap(), format!("{number}\n").as_bytes());
    }
    assert_eq!(connection.chunk().unwrap(), b"", "the end");
    let last = began.elapsed();
    assert!(first + Duration::from_millis(500) < last, "first after {first:?}, last after {last:?}");
    assert_eq!(connection.get("/params/1/b").status, 200, "the connection goes on");
}

#[test]
fn a_stream_may_last_longer_than_the_timeout_as_long_as_it_moves() {
    let host = Host::run("python/probe", &["--timeout", "600ms"]);
    let answer = host.get("/slow?count=8&ms=200");
    assert_eq!((answer.complete, answer.text().lines().count()), (true, 8));
    let stalled = host.get("/slow?count=2&ms=60000");
    assert_eq!((stalled.status, stalled.complete), (200, false));
    host.wait_for_log("a response was cut off");
}

#[test]
fn a_stream_that_fails_in_the_middle_is_not_taken_for_whole_or_ends_where_it_failed() {
    let host = Host::run("python/probe", &[]);
    let answer = host.get("/stream/failing");
    assert_eq!((answer.status, answer.text().as_str()), (200, "before\n"));
    host.wait_for_log("in the middle of a body");
    assert_eq!(host.get("/stream/empty").text(), "");
    assert_eq!(host.get("/stream/sync?count=4").text(), "0\n1\n2\n3\n");
}

#[test]
fn a_body_is_echoed_while_it_is_still_being_sent() {
    let host = Host::run("python/probe", &[]);
    let mut connection = host.connect();
    connection.send("POST /echo-stream HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.send("5\r\nfirst\r\n");
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.chunk().unwrap(), b"first");
    connection.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(connection.chunk().unwrap(), b"second");
    assert_eq!(connection.chunk().unwrap(), b"");
}

#[test]
fn a_body_can_be_handed_back_unread() {
    let host = Host::run("python/probe", &[]);
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 253) as u8).collect();
    assert!(host.post("/forward", &body).body == body);
}

#[test]
fn a_body_that_is_not_read_does_not_break_the_connection() {
    let host = Host::run("python/probe", &[]);
    for path in ["/upload/ignored", "/upload/first"] {
        let mut connection = host.connect();
        assert_eq!(connection.request("POST", path, &[], &vec![b'x'; 200_000]).status, 200, "{path}");
    }
    assert_eq!(host.get("/params/1/b").status, 200);
}

#[test]
fn an_upload_waits_for_its_reader_instead_of_filling_memory() {
    let host = Host::run("python/probe", &["--max-body", "200MiB", "--timeout", "3s", "--threads", "1"]);
    let before = private_bytes(host.process());
    let connection = host.connect();
    let mut socket = connection.socket().try_clone().unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // The handler reads one piece and then waits for a minute.
    socket.write_all(b"POST /upload/stall HTTP/1.1\r\nhost: a\r\ncontent-length: 200000000\r\n\r\n").unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 200 && socket.write_all(&piece).is_ok() {
        sent += 1;
    }
    assert!(sent < 50, "{sent} MiB were taken although nobody reads");
    let grown = private_bytes(host.process()).saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes");
}

#[test]
fn a_client_that_goes_away_ends_the_stream_it_was_reading() {
    let host = Host::run("python/probe", &["--threads", "1", "--timeout", "20s"]);
    let mut connection = host.connect();
    connection.send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    assert!(!connection.chunk().unwrap().is_empty());
    drop(connection);
    host.wait_for_log("endless closed");
    host.wait_until("nothing else in flight", |host| host.get("/metrics").json()["in_flight"] == 1);
}

#[test]
fn a_slow_reader_holds_no_more_than_a_few_chunks() {
    let host = Host::run("python/probe", &["--threads", "1"]);
    host.get("/params/1/b");
    let before = private_bytes(host.process());
    let mut slow: Vec<_> = (0..4).map(|_| host.connect()).collect();
    for connection in &mut slow {
        connection.send("GET /endless?size=100000 HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(connection.head().status, 200);
    }
    thread::sleep(Duration::from_millis(500));
    let grown = private_bytes(host.process()).saturating_sub(before);
    // Four instances of some 8 MiB each are part of it.
    assert!(grown < 96 << 20, "grew by {grown} bytes");
}

#[test]
fn many_streams_run_beside_one_another() {
    let host = Host::run("python/probe", &["--threads", "1"]);
    let address = host.address();
    let began = Instant::now();
    let streams: Vec<_> = (0..16)
        .map(|_| thread::spawn(move || covet_tests::Connection::open(address).get("/slow?count=5&ms=100").text()))
        .collect();
    for stream in streams {
        assert_eq!(stream.join().unwrap(), "0\n1\n2\n3\n4\n");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn memory_comes_back_after_heavy_uploads() {
    let host = Host::run("python/probe", &["--max-body", "64MiB", "--threads", "1", "--stock", "2"]);
    let address = host.address();
    assert_eq!(host.get("/params/1/b").status, 200);
    let before = private_bytes(host.process());
    let uploads: Vec<_> = (0..6)
        .map(|_| {
            thread::spawn(move || {
                let body = vec![b'x'; 20 << 20];
                let mut connection = covet_tests::Connection::open(address);
                let uploaded = connection.request("POST", "/upload", &[], &body).json()["size"].as_u64();
                let fetched = connection.get("/big/bytes/20000000").body.len();
                (uploaded, fetched)
            })
        })
        .collect();
    let mut peak = 0;
    while !uploads.iter().all(thread::JoinHandle::is_finished) {
        peak = peak.max(private_bytes(host.process()));
        thread::sleep(Duration::from_millis(5));
    }
    for upload in uploads {
        assert_eq!(upload.join().unwrap(), (Some(20 << 20), 20_000_000));
    }
    // Six times 20 MiB went in as a stream; six guests held as much twice when they sent it.
    assert!(peak.saturating_sub(before) < 400 << 20, "grew from {before} to {peak} bytes");
    host.wait_until("its memory to come back", |host| private_bytes(host.process()) < before + (16 << 20));
}
