//! Bytes to clients: backpressure, flush, shutdown, and errors.

use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use covet_net::{Config, Stream};
use hyper::rt::Write;

use crate::support::*;

/// Writes without waiting for anything, until it is pending; how much that was.
async fn write_until_pending(stream: &mut Stream) -> usize {
    let piece = [7; 10_000];
    let mut written = 0;
    poll_fn(|context| {
        while let Poll::Ready(result) = Pin::new(&mut *stream).poll_write(context, &piece) {
            written += result.unwrap();
        }
        Poll::Ready(())
    })
    .await;
    written
}

#[test]
fn a_writer_gets_as_far_as_the_staging_limit_and_no_further() {
    let (sender, results) = mpsc::channel();
    let sender = Arc::new(Mutex::new(sender));
    let server = Server::start(uring(), move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            let written = write_until_pending(&mut stream).await;
            sender.lock().unwrap().send(written).unwrap();
            shutdown(&mut stream).await.unwrap();
        }
    });
    let mut client = server.connect();
    assert_eq!(results.recv_timeout(PATIENCE).unwrap(), Config::default().staging_bytes_max);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), Config::default().staging_bytes_max);
}

#[test]
fn a_writer_waits_for_a_client_that_does_not_read_and_then_goes_on() {
    const LENGTH: usize = 30 * 1024 * 1024;
    for config in both(Config::default()) {
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let server = Server::start(config, move |mut stream| {
            let counter = Arc::clone(&counter);
            async move {
                for piece in pattern(LENGTH).chunks(50_000) {
                    write_all(&mut stream, piece).await.unwrap();
                    counter.fetch_add(piece.len(), Ordering::Relaxed);
                }
                shutdown(&mut stream).await.unwrap();
            }
        });
        let mut client = server.connect();
        // The writer comes to rest: the same amount twice, a while apart.
        let mut before = 0;
        loop {
            thread::sleep(Duration::from_millis(200));
            let now = written.load(Ordering::Relaxed);
            if now > 0 && now == before {
                break;
            }
            before = now;
        }
        assert!(before < LENGTH, "everything was written though nobody reads");
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert!(bytes == pattern(LENGTH));
    }
}

#[test]
fn flushed_bytes_arrive_without_further_help() {
    for config in both(Config::default()) {
        let server = Server::start(config, |mut stream| async move {
            write_all(&mut stream, b"hello").await.unwrap();
            // Holds the stream and does nothing with it.
            tokio::time::sleep(PATIENCE).await;
            drop(stream);
        });
        let mut client = server.connect();
        let mut bytes = [0; 5];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }
}

#[test]
fn shutdown_sends_everything_and_ends_this_side_only() {
    for config in both(Config::default()) {
        let (sender, results) = mpsc::channel();
        let sender = Arc::new(Mutex::new(sender));
        let server = Server::start(config, move |mut stream| {
            let sender = Arc::clone(&sender);
            async move {
                let bytes = pattern(1_000_000);
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let length = poll_fn(|context| Pin::new(&mut stream).poll_write(context, rest)).await.unwrap();
                    rest = &rest[length..];
                }
                // No flush: shutdown does it.
                shutdown(&mut stream).await.unwrap();
                shutdown(&mut stream).await.unwrap();
                let written = poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"x")).await;
                let mut answer = [0; 5];
                read_exact(&mut stream, &mut answer).await.unwrap();
                sender.lock().unwrap().send((written.map_err(|error| error.kind()), answer)).unwrap();
            }
        });
        let mut client = server.connect();
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert!(bytes == pattern(1_000_000));
        std::io::Write::write_all(&mut client, b"still").unwrap();
        let broken = Err(std::io::ErrorKind::BrokenPipe);
        assert_eq!(results.recv_timeout(PATIENCE).unwrap(), (broken, *b"still"));
    }
}

#[test]
fn writing_to_a_client_that_went_away_fails_and_keeps_failing() {
    for config in both(Config::default()) {
        let (sender, results) = mpsc::channel();
        let sender = Arc::new(Mutex::new(sender));
        let server = Server::start(config, move |mut stream| {
            let sender = Arc::clone(&sender);
            async move {
                let piece = [7; 10_000];
                while write_all(&mut stream, &piece).await.is_ok() {
                    tokio::task::yield_now().await;
                }
                let again = write_all(&mut stream, &piece).await.is_err();
                sender.lock().unwrap().send(again).unwrap();
            }
        });
        let mut client = server.connect();
        client.read_exact(&mut [0; 100]).unwrap();
        drop(client);
        assert!(results.recv_timeout(PATIENCE).unwrap());
        server.wait_for("the connection is closed", |stats| stats.connections == 0);
    }
}

#[test]
fn slices_are_written_in_order_whatever_their_sizes() {
    for config in both(Config::default()) {
        let server = Server::start(config, |mut stream| async move {
            assert!(stream.is_write_vectored());
            let bytes = pattern(700_000);
            let mut at = 0;
            while at < bytes.len() {
                let rest = &bytes[at..];
                let (a, b) = rest.split_at(rest.len().min(3));
                let (b, c) = b.split_at(b.len().min(90_000));
                let slices = [a, &[], b, c].map(std::io::IoSlice::new);
                at += poll_fn(|context| Pin::new(&mut stream).poll_write_vectored(context, &slices)).await.unwrap();
            }
            shutdown(&mut stream).await.unwrap();
        });
        let mut client = server.connect();
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert!(bytes == pattern(700_000));
    }
}
