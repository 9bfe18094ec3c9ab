//! Bytes from clients: content, ends, errors, and buffers that run out.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use covet_net::{Backend, Config, Stream};
use tokio::sync::Notify;

use crate::support::*;

#[test]
fn bytes_come_back_as_they_went_in_any_pieces() {
    for config in both(Config::default()) {
        let server = Server::start(config, echo);
        let mut client = server.connect();
        let bytes = pattern(300_000);
        for piece in [1, 2, 3, 100, 8191, 8192, 8193, 16_384, 100_000] {
            exchange(&mut client, &bytes[..piece]);
        }
        for byte in &bytes[..200] {
            exchange(&mut client, &[*byte]);
        }
    }
}

#[test]
fn many_connections_at_once_do_not_mix_their_bytes() {
    for config in both(Config::default()) {
        let server = Server::start(config, echo);
        let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
        for round in 0..5 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.write_all(format!("{round:04}-{number:04}").as_bytes()).unwrap();
            }
            for (number, client) in clients.iter_mut().enumerate() {
                let mut answer = [0; 9];
                client.read_exact(&mut answer).unwrap();
                assert_eq!(&answer[..], format!("{round:04}-{number:04}").as_bytes());
            }
        }
        assert_eq!(server.stats().connections, 200);
        drop(clients);
        server.wait_for("all connections are closed", |stats| stats.connections == 0 && stats.buffers_in_use == 0);
    }
}

#[test]
fn a_client_that_ends_its_side_still_gets_the_answer() {
    for config in both(Config::default()) {
        let server = Server::start(config, |mut stream| async move {
            let mut request = Vec::new();
            let mut bytes = [0; 1000];
            while let Ok(length @ 1..) = read(&mut stream, &mut bytes).await {
                request.extend_from_slice(&bytes[..length]);
            }
            // The end stays the end.
            assert_eq!(read(&mut stream, &mut bytes).await.unwrap(), 0);
            assert_eq!(read(&mut stream, &mut bytes).await.unwrap(), 0);
            request.reverse();
            write_all(&mut stream, &request).await.unwrap();
            shutdown(&mut stream).await.unwrap();
        });
        let mut client = server.connect();
        let mut bytes = pattern(50_000);
        client.write_all(&bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        bytes.reverse();
        assert!(answer == bytes);
    }
}

#[test]
fn a_reset_is_an_error_that_stays_after_what_came_before_it() {
    let (sender, results) = mpsc::channel();
    let sender = Arc::new(Mutex::new(sender));
    let server = Server::start(uring(), move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            // Time for the reset to arrive behind the bytes.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let mut bytes = [0; 100];
            let first = read(&mut stream, &mut bytes).await.map_err(|error| error.kind());
            let second = read(&mut stream, &mut bytes).await.map_err(|error| error.kind());
            let third = read(&mut stream, &mut bytes).await.map_err(|error| error.kind());
            sender.lock().unwrap().send([first, second, third]).unwrap();
        }
    });
    let mut client = server.connect();
    client.write_all(b"hello").unwrap();
    // So that it was received before the reset, which would throw it away in the kernel.
    server.wait_for("the bytes are received", |stats| stats.buffers_in_use == 1);
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let reset = Err(std::io::ErrorKind::ConnectionReset);
    assert_eq!(results.recv_timeout(PATIENCE).unwrap(), [Ok(5), reset, reset]);
}

#[test]
fn a_stream_knows_its_addresses_and_has_nodelay() {
    for config in both(Config::default()) {
        let (sender, results) = mpsc::channel();
        let sender = Arc::new(Mutex::new(sender));
        let server = Server::start(config, move |stream| {
            let facts = (stream.peer_addr(), stream.local_addr().unwrap(), stream.nodelay().unwrap());
            sender.lock().unwrap().send(facts).unwrap();
            echo(stream)
        });
        let client = server.connect();
        let facts = results.recv_timeout(PATIENCE).unwrap();
        assert_eq!(facts, (client.local_addr().unwrap(), server.address, true));
    }
}

#[test]
fn one_connection_whose_input_nobody_reads_holds_a_bounded_number_of_buffers() {
    let server = Server::start(uring(), |mut stream| async move {
        let mut kind = [0];
        read_exact(&mut stream, &mut kind).await.unwrap();
        if kind == *b"e" {
            return echo(stream).await;
        }
        tokio::time::sleep(PATIENCE).await;
    });
    let mut client = server.connect();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // Until TCP flow control stops it.
    while client.write(&[7; 64 * 1024]).is_ok() {}
    let held = server.stats().buffers_in_use;
    // The limit, and what the kernel takes in one system call before it sees the cancel: all that is on offer.
    assert!((32..=32 + 1024 / 4).contains(&held), "{held} buffers are held");
    // And it stays at that, and nobody else feels it.
    while client.write(&[7; 64 * 1024]).is_ok() {}
    assert_eq!(server.stats().buffers_in_use, held);
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"e").unwrap();
        exchange(client, b"hello");
    }
}

/// Uploads of 20 MB to a pool that is far too small for them, with the consumers given by `consume`, and a client
/// that is served all the while.
fn uploads(
    config: Config,
    count: usize,
    consume: impl AsyncFn(usize, &mut Stream) + Clone + Send + 'static,
) -> covet_net::Stats {
    const LENGTH: usize = 20 * 1024 * 1024;
    let server = Server::start(config, move |mut stream| {
        let consume = consume.clone();
        async move {
            let mut number = [0];
            read_exact(&mut stream, &mut number).await.unwrap();
            if number[0] == u8::MAX {
                return echo(stream).await;
            }
            consume(number[0].into(), &mut stream).await;
            let expected = pattern(LENGTH);
            let mut bytes = vec![0; 64 * 1024];
            let mut at = 0;
            while at < LENGTH {
                let length = read(&mut stream, &mut bytes).await.unwrap();
                assert!(length > 0 && bytes[..length] == expected[at..at + length], "an upload differs at {at}");
                at += length;
            }
            DONE.with_borrow_mut(|done| done.push(number[0].into()));
            UPLOADED.with(|uploaded| uploaded.notify_waiters());
            write_all(&mut stream, b"done").await.unwrap();
            shutdown(&mut stream).await.unwrap();
        }
    });
    let mut bystander = server.connect();
    bystander.write_all(&[u8::MAX]).unwrap();
    let uploads: Vec<_> = (0..count)
        .map(|number| {
            let mut client = server.connect();
            thread::spawn(move || {
                client.write_all(&[number as u8]).unwrap();
                client.write_all(&pattern(LENGTH)).unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).unwrap();
                assert_eq!(answer, b"done");
            })
        })
        .collect();
    let mut rounds = 0;
    while !uploads.iter().all(thread::JoinHandle::is_finished) {
        exchange(&mut bystander, b"still there?");
        rounds += 1;
        thread::sleep(Duration::from_millis(5));
    }
    for upload in uploads {
        upload.join().unwrap();
    }
    assert!(rounds > 0);
    let stats = server
        .wait_for("the bystander is all that is left", |stats| stats.connections == 1 && stats.buffers_in_use == 0);
    exchange(&mut bystander, b"and after?");
    stats
}

thread_local! {
    /// Which uploads are done, on the server's thread.
    static DONE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static UPLOADED: Rc<Notify> = Rc::new(Notify::new());
}

async fn wait_until_done(number: usize) {
    let uploaded = UPLOADED.with(Rc::clone);
    loop {
        let notified = uploaded.notified();
        if DONE.with_borrow(|done| done.contains(&number)) {
            return;
        }
        notified.await;
    }
}

/// 64 buffers; one connection may take half of them, or all of them before its receive is cancelled.
fn small_pool() -> Config {
    let mut config = Config::default();
    config.buffer_count = 64;
    config
}

#[test]
fn uploads_that_exhaust_the_buffers_all_arrive() {
    for config in both(small_pool()) {
        let stats = uploads(config, 6, async |_, _| {});
        println!("{stats:?}");
    }
}

#[test]
fn uploads_whose_consumers_are_late_all_arrive() {
    for config in both(small_pool()) {
        uploads(config, 6, async |number, _| {
            tokio::time::sleep(Duration::from_millis(100 * number as u64)).await;
        });
    }
}

#[test]
fn the_first_of_many_uploads_may_wait_for_the_last() {
    for config in both(small_pool()) {
        let uses_ring = config.io == covet_net::Io::Uring;
        let stats = uploads(config, 5, async |number, _| {
            if number < 4 {
                wait_until_done(number + 1).await;
            }
        });
        // Four of the five hold what they got and do not read: without receives outside the pool, the fifth, and the
        // bystander, would wait for ever.
        if uses_ring {
            assert!(stats.buffers_exhausted > 0 && stats.receives_unpooled > 0, "{stats:?}");
        }
    }
}

#[test]
fn the_last_of_many_uploads_may_wait_for_the_first() {
    for config in both(small_pool()) {
        let uses_ring = config.io == covet_net::Io::Uring;
        let stats = uploads(config, 5, async |number, _| {
            if number > 0 {
                wait_until_done(number - 1).await;
            }
        });
        if uses_ring {
            assert!(stats.buffers_exhausted > 0 && stats.receives_unpooled > 0, "{stats:?}");
        }
    }
}

#[test]
fn connections_that_hold_every_buffer_unread_keep_no_other_from_receiving() {
    let mut config = uring();
    config.buffer_count = 64;
    let server = Server::start(config, |mut stream| async move {
        let mut kind = [0];
        read_exact(&mut stream, &mut kind).await.unwrap();
        if kind == *b"e" {
            return echo(stream).await;
        }
        tokio::time::sleep(PATIENCE).await;
    });
    // Small pieces with pauses, so that each stays in a buffer of its own.
    let mut holders: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for _ in 0..12 {
        for holder in &mut holders {
            holder.write_all(b"h").unwrap();
        }
        thread::sleep(Duration::from_millis(5));
    }
    let stats = server.wait_for("more than half of the pool is held", |stats| stats.buffers_in_use > 32);
    println!("{stats:?}");
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"e").unwrap();
    }
    let bytes = pattern(50_000);
    for client in &mut clients {
        exchange(client, &bytes);
    }
    drop((holders, clients));
}

#[test]
fn input_left_unread_by_a_dropped_stream_goes_back_to_the_pool() {
    let server = Server::start(uring(), |mut stream| async move {
        let mut byte = [0];
        let _ = read(&mut stream, &mut byte).await;
    });
    for _ in 0..50 {
        let mut client = server.connect();
        let _ = client.write_all(&pattern(100_000));
        let _ = client.shutdown(Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
    }
    server.wait_for("all buffers are back", |stats| stats.buffers_in_use == 0 && stats.connections == 0);
    assert_eq!(server.backend, Backend::Uring);
}
