//! What happens to bytes and memory when streams, and the reactor, are dropped.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use covet_net::Config;
use hyper::rt::Write as _;

use crate::support::*;

#[test]
fn what_a_dropped_stream_had_written_still_arrives() {
    const LENGTH: usize = 200 * 1024;
    for config in both(Config::default()) {
        let server = Server::start(config, |mut stream| async move {
            write_all(&mut stream, &pattern(LENGTH)).await.unwrap();
        });
        let mut client = server.connect();
        // Long enough that the socket's buffer is full while the stream is gone.
        thread::sleep(Duration::from_millis(100));
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert!(bytes == pattern(LENGTH), "{} bytes arrived", bytes.len());
        server.wait_for("the connection is closed", |stats| stats.connections == 0);
    }
}

#[test]
fn a_client_that_reads_late_gets_all_that_a_dropped_stream_had_written() {
    // Until nothing more is taken, neither by the stream nor by the kernel: then the stream is dropped with as much
    // left to send as there can be.
    for config in both(Config::default()) {
        let (sender, written) = mpsc::channel();
        let sender = Arc::new(Mutex::new(sender));
        let server = Server::start(config, move |mut stream| {
            let sender = Arc::clone(&sender);
            async move {
                let bytes = pattern(64 * 1024 * 1024);
                let mut at = 0;
                loop {
                    let writing = poll_fn(|context| Pin::new(&mut stream).poll_write(context, &bytes[at..]));
                    match tokio::time::timeout(Duration::from_millis(300), writing).await {
                        Ok(length) => at += length.unwrap(),
                        Err(_) => break,
                    }
                }
                sender.lock().unwrap().send(at).unwrap();
            }
        });
        let mut client = server.connect();
        let length = written.recv_timeout(PATIENCE).unwrap();
        thread::sleep(Duration::from_millis(50));
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), length);
        assert!(bytes == pattern(64 * 1024 * 1024)[..length]);
        server.wait_for("the connection is closed", |stats| stats.connections == 0);
    }
}

#[test]
fn a_client_that_is_still_uploading_gets_the_answer_of_a_stream_that_was_dropped() {
    // The case of "413 Content Too Large": answered and dropped after the first bytes of a large body.
    for config in both(Config::default()) {
        let server = Server::start(config, |mut stream| async move {
            read_exact(&mut stream, &mut [0; 10]).await.unwrap();
            write_all(&mut stream, b"too large").await.unwrap();
            // The client is in the midst of it.
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        let mut client = server.connect();
        client.write_all(&pattern(4 * 1024 * 1024)).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"too large");
        drop(client);
        server.wait_for("the connection is closed", |stats| stats.connections == 0 && stats.buffers_in_use == 0);
    }
}

#[test]
fn a_client_that_never_reads_does_not_keep_a_dropped_connection_for_ever() {
    let mut config = uring();
    config.linger_max = Duration::from_millis(300);
    let server = Server::start(config, |mut stream| async move {
        // More than the socket takes, so that something is left.
        let piece = pattern(64 * 1024);
        let _ = tokio::time::timeout(Duration::from_millis(300), async {
            while write_all(&mut stream, &piece).await.is_ok() {}
        })
        .await;
    });
    let client = server.connect();
    server.wait_for("it lingers", |stats| stats.connections == 1);
    let stats = server.wait_for("it is given up", |stats| stats.connections == 0);
    assert_eq!(stats.lingers_expired, 1, "{stats:?}");
    drop(client);
}

#[test]
fn dropping_streams_at_any_moment_leaves_nothing_behind() {
    for config in both(Config::default()) {
        let server = Server::start(config, |mut stream| async move {
            // A different moment for each, in the midst of receiving and sending.
            let moment = u64::from(stream.peer_addr().port() % 7);
            let _ = tokio::time::timeout(Duration::from_millis(moment), async {
                let mut bytes = vec![0; 5_000];
                while let Ok(length @ 1..) = read(&mut stream, &mut bytes).await {
                    if write_all(&mut stream, &bytes[..length]).await.is_err() {
                        break;
                    }
                }
            })
            .await;
        });
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let address = server.address;
                thread::spawn(move || {
                    for _ in 0..40 {
                        let mut client = std::net::TcpStream::connect(address).unwrap();
                        client.set_read_timeout(Some(PATIENCE)).unwrap();
                        client.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
                        let _ = client.write_all(&pattern(60_000));
                        let _ = client.read(&mut [0; 1000]);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        let stats = server
            .wait_for("everything is closed and returned", |stats| stats.connections == 0 && stats.buffers_in_use == 0);
        // The accept, and at most the answer to a last cancel.
        assert!(stats.operations_in_flight <= 2, "{stats:?}");
    }
}

#[test]
fn a_reactor_ends_promptly_with_many_connections_in_all_states() {
    for config in both(Config::default()) {
        let server = Server::start(config, |mut stream| async move {
            let mut kind = [0];
            if read(&mut stream, &mut kind).await.is_err() {
                return;
            }
            match kind[0] {
                // Waits to receive; waits to send; holds input; was dropped with something to send.
                b'r' => drop(read(&mut stream, &mut kind).await),
                b'w' => while write_all(&mut stream, &[7; 100_000]).await.is_ok() {},
                b'h' => tokio::time::sleep(PATIENCE).await,
                _ => drop(write_all(&mut stream, &pattern(100_000)).await),
            }
        });
        let mut clients = Vec::new();
        for kind in *b"rwhd" {
            for _ in 0..60 {
                let mut client = server.connect();
                client.set_nonblocking(true).unwrap();
                client.write_all(&[kind; 10_000][..if kind == b'h' { 10_000 } else { 1 }]).unwrap();
                clients.push(client);
            }
        }
        server.wait_for("all are in their state", |stats| stats.connections >= 180);
        let limit = Config::default().shutdown_max + Duration::from_secs(10);
        let (stats, took) = server.stop();
        assert!(stats.connections >= 180, "{stats:?}");
        assert!(took < limit, "it took {took:?}");
        // Nobody is left hanging: every client sees an end or a reset.
        for mut client in clients {
            client.set_nonblocking(false).unwrap();
            let start = Instant::now();
            let _ = client.read_to_end(&mut Vec::new());
            assert!(start.elapsed() < PATIENCE);
        }
    }
}

#[test]
fn what_a_dropped_stream_had_written_arrives_even_when_the_reactor_ends() {
    const LENGTH: usize = 200 * 1024;
    let server = Server::start(uring(), |mut stream| async move {
        write_all(&mut stream, &pattern(LENGTH)).await.unwrap();
    });
    let mut client = server.connect();
    client.read_exact(&mut [0; 1]).unwrap();
    let reader = thread::spawn(move || {
        let mut bytes = vec![pattern(1)[0]];
        client.read_to_end(&mut bytes).unwrap();
        assert!(bytes == pattern(LENGTH), "{} bytes arrived", bytes.len());
    });
    server.stop();
    reader.join().unwrap();
}

#[test]
fn a_stream_that_outlives_its_reactor_reports_an_error() {
    let mut sockets = covet_net::bind("127.0.0.1:0".parse().unwrap(), 1, 16).unwrap();
    let address = sockets[0].local_addr().unwrap();
    let reactor = covet_net::Reactor::new(&uring()).unwrap();
    let client = std::net::TcpStream::connect(address).unwrap();
    let (mut stream, mut listener) = reactor.block_on(async {
        let mut listener = covet_net::Listener::new(sockets.remove(0)).unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        (stream, listener)
    });
    drop(reactor);
    let another = covet_net::Reactor::new(&uring()).unwrap();
    another.block_on(async {
        assert!(read(&mut stream, &mut [0]).await.is_err());
        assert!(write_all(&mut stream, b"x").await.is_err());
        assert!(shutdown(&mut stream).await.is_err());
        assert!(stream.local_addr().is_err());
        assert!(listener.accept().await.is_err());
    });
}
