//! The event loop itself: tiny queues, busy tasks, and going on after `block_on`.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use covet_net::{Backend, Config, Io, Reactor, SetupError, Stats};

use crate::support::*;

#[test]
fn a_ring_with_four_entries_serves_many_connections() {
    let mut config = uring();
    config.submission_entries = 4;
    config.completion_entries = 8;
    config.buffer_count = 64;
    let server = Server::start(config, echo);
    let mut clients: Vec<_> = (0..300).map(|_| server.connect()).collect();
    let bytes = pattern(3_000);
    for _ in 0..10 {
        for client in &mut clients {
            client.write_all(&bytes).unwrap();
        }
        for client in &mut clients {
            let mut answer = vec![0; bytes.len()];
            client.read_exact(&mut answer).unwrap();
            assert!(answer == bytes);
        }
    }
    let stats = server.stats();
    assert_eq!(stats.connections, 300);
    assert!(stats.submissions_deferred > 0 && stats.completion_overflows > 0, "the limits were not hit: {stats:?}");
    drop(clients);
    server.wait_for("nothing is left", |stats| stats.connections == 0 && stats.buffers_in_use == 0);
}

#[test]
fn a_ring_with_four_entries_ends_cleanly() {
    let mut config = uring();
    config.submission_entries = 4;
    config.completion_entries = 4;
    let server = Server::start(config, echo);
    let clients: Vec<_> = (0..300).map(|_| server.connect()).collect();
    server.wait_for("all are connected", |stats| stats.connections == 300);
    let (_, took) = server.stop();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    for mut client in clients {
        assert!(!matches!(client.read(&mut [0]), Ok(1..)));
    }
}

#[test]
fn a_task_that_is_always_ready_does_not_keep_the_others_from_their_io() {
    for config in both(Config::default()) {
        let server = Server::start(config, |stream| async move {
            thread_local!(static HOG: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
            if !HOG.replace(true) {
                // Wakes itself, so that the loop never comes to rest and the park hook is never called.
                tokio::task::spawn_local(poll_fn(|context| {
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_micros(100) {}
                    context.waker().wake_by_ref();
                    Poll::<()>::Pending
                }));
            }
            echo(stream).await;
        });
        let mut client = server.connect();
        for _ in 0..50 {
            exchange(&mut client, b"hello");
        }
    }
}

#[test]
fn an_idle_loop_sleeps() {
    let server = Server::start(uring(), echo);
    let mut client = server.connect();
    exchange(&mut client, b"hello");
    let before = server.stats();
    thread::sleep(Duration::from_millis(300));
    let after = server.stats();
    // Asking for the counters wakes the loop, and that is all.
    assert!(after.enters - before.enters < 10, "{before:?} {after:?}");
}

#[test]
fn tasks_and_timers_and_streams_go_on_in_the_next_block_on() {
    for config in both(Config::default()) {
        let mut sockets = covet_net::bind("127.0.0.1:0".parse().unwrap(), 1, 16).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let reactor = Reactor::new(&config).unwrap();
        let mut task = None;
        reactor.block_on(async {
            let mut listener = covet_net::Listener::new(sockets.remove(0)).unwrap();
            task = Some(tokio::task::spawn_local(async move {
                let (stream, _) = listener.accept().await.unwrap();
                echo(stream).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }));
        });
        let client = thread::spawn(move || {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            exchange(&mut client, b"hello");
        });
        reactor.block_on(async { tokio::time::timeout(PATIENCE, task.unwrap()).await.unwrap().unwrap() });
        client.join().unwrap();
    }
}

#[test]
fn what_was_asked_for_is_what_one_gets() {
    for config in both(Config::default()) {
        let reactor = Reactor::new(&config).unwrap();
        let expected = if config.io == Io::Uring { Backend::Uring } else { Backend::Epoll };
        assert_eq!(reactor.backend(), expected);
        assert!(reactor.fallback_reason().is_none());
        assert!(reactor.block_on(async { Stats::current() }).is_some());
        assert!(Stats::current().is_none());
    }
}

#[test]
fn auto_falls_back_where_the_ring_cannot_be_made_and_says_why() {
    // More entries than any kernel gives.
    let mut config = Config::default();
    config.submission_entries = 1 << 24;
    config.completion_entries = 1 << 25;
    let reactor = Reactor::new(&config).unwrap();
    assert_eq!(reactor.backend(), Backend::Epoll);
    let reason = reactor.fallback_reason().unwrap().to_string();
    assert!(!reason.is_empty());
    config.io = Io::Uring;
    assert!(matches!(Reactor::new(&config), Err(SetupError::Ring(_))));
}

#[test]
fn a_setting_that_makes_no_sense_is_refused_with_its_name() {
    let mut config = Config::default();
    config.buffer_count = 1000;
    let Err(error) = Reactor::new(&config) else { panic!("it was taken") };
    assert!(error.to_string().contains("buffer_count"), "{error}");
}
