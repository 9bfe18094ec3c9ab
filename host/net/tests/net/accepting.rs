//! Connections from clients, before their first byte.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use covet_net::{Config, Listener, Reactor};

use crate::support::*;

#[test]
fn connections_that_nobody_takes_stay_in_the_backlog() {
    let mut config = uring();
    config.accept_queue_max = 4;
    let mut sockets = covet_net::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 1024).unwrap();
    let address = sockets[0].local_addr().unwrap();
    let reactor = Reactor::new(&config).unwrap();
    reactor.block_on(async {
        let mut listener = Listener::new(sockets.remove(0)).unwrap();
        // Armed before the first client comes, then idle.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = descriptors();
        // All of them are still accepted, in spite of the small queue.
        let mut streams = Vec::new();
        for _ in &clients {
            let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
            streams.push(accepted.expect("a connection is left").unwrap().0);
        }
        let after = descriptors();
        // Other tests run in this process too, so this is no exact count.
        println!("{before} descriptors before, {after} after");
        drop((streams, clients));
    });
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_dropped_listener_accepts_nothing_more_and_its_connections_go_on() {
    for config in both(Config::default()) {
        let mut sockets = covet_net::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 1024).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let reactor = Reactor::new(&config).unwrap();
        reactor.block_on(async {
            let mut listener = Listener::new(sockets.remove(0)).unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            // This one is accepted by the kernel, and taken by nobody.
            let mut queued = TcpStream::connect(address).unwrap();
            queued.set_read_timeout(Some(PATIENCE)).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(listener);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let refused = TcpStream::connect(address).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let end = queued.read(&mut [0]);
            assert!(matches!(end, Ok(0)) || end.is_err(), "a connection that nobody took is left open");
            write_all(&mut stream, b"hello").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut bytes = [0; 5];
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
        });
    }
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    for config in both(Config::default()) {
        let mut sockets = covet_net::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 1024).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let reactor = Reactor::new(&config).unwrap();
        reactor.block_on(async {
            let mut listener = Listener::new(sockets.remove(0)).unwrap();
            let clients = thread::spawn(move || {
                (0..50)
                    .map(|_| {
                        thread::sleep(Duration::from_millis(1));
                        TcpStream::connect(address).unwrap()
                    })
                    .collect::<Vec<_>>()
            });
            let mut streams = Vec::new();
            let start = std::time::Instant::now();
            while streams.len() < 50 {
                assert!(start.elapsed() < PATIENCE, "{} connections were accepted", streams.len());
                // Most of these are dropped before they are done.
                let attempt = tokio::time::timeout(Duration::from_micros(200), listener.accept());
                if let Ok(accepted) = attempt.await {
                    streams.push(accepted.unwrap());
                }
            }
            clients.join().unwrap();
        });
    }
}

#[test]
fn two_listeners_share_a_reactor() {
    for config in both(Config::default()) {
        let mut sockets: Vec<_> =
            (0..2).map(|_| covet_net::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 16).unwrap().remove(0)).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let reactor = Reactor::new(&config).unwrap();
        reactor.block_on(async {
            let mut second = Listener::new(sockets.remove(1)).unwrap();
            let mut first = Listener::new(sockets.remove(0)).unwrap();
            assert_eq!(first.local_addr().unwrap(), addresses[0]);
            let to_second = TcpStream::connect(addresses[1]).unwrap();
            let to_first = TcpStream::connect(addresses[0]).unwrap();
            assert_eq!(first.accept().await.unwrap().1, to_first.local_addr().unwrap());
            assert_eq!(second.accept().await.unwrap().1, to_second.local_addr().unwrap());
        });
    }
}
