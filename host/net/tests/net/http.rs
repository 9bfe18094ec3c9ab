//! hyper's HTTP/1.1 on a stream, as the server uses it.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

use bytes::Bytes;
use covet_net::{Config, Stream};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::support::*;

const LARGE: usize = 20 * 1024 * 1024;

async fn serve(stream: Stream) {
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(stream, service_fn(answer));
    let _ = connection.await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match (head.method, head.uri.path()) {
        (Method::GET, "/large") => Bytes::from(pattern(LARGE)),
        (Method::GET, path) => Bytes::from(format!("you asked for {path}")),
        (Method::POST, "/check") => {
            let body = body.collect().await.unwrap().to_bytes();
            Bytes::from((body == pattern(body.len())).to_string())
        }
        (Method::POST, _) => body.collect().await.unwrap().to_bytes(),
        _ => Bytes::new(),
    };
    Ok(Response::builder().status(StatusCode::OK).body(Full::new(body)).unwrap())
}

/// Reads one answer that has a content-length.
fn read_answer(reader: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut length = None;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the connection ended within a head");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = Some(value.trim().parse().unwrap());
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length.expect("an answer with a length")];
    reader.read_exact(&mut body).unwrap();
    body
}

#[test]
fn many_requests_follow_each_other_on_one_connection() {
    for config in both(Config::default()) {
        let server = Server::start(config, serve);
        let mut reader = BufReader::new(server.connect());
        for number in 0..200 {
            write!(reader.get_mut(), "GET /{number} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            assert_eq!(read_answer(&mut reader), format!("you asked for /{number}").as_bytes());
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for config in both(Config::default()) {
        let server = Server::start(config, serve);
        let mut reader = BufReader::new(server.connect());
        for round in 0..20 {
            let requests: String =
                (0..64).map(|number| format!("GET /{round}/{number} HTTP/1.1\r\nhost: x\r\n\r\n")).collect();
            reader.get_mut().write_all(requests.as_bytes()).unwrap();
            for number in 0..64 {
                assert_eq!(read_answer(&mut reader), format!("you asked for /{round}/{number}").as_bytes());
            }
        }
    }
}

#[test]
fn twenty_megabytes_go_up_and_come_down_unchanged() {
    for config in both(Config::default()) {
        let server = Server::start(config, serve);
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let socket = server.connect();
                thread::spawn(move || {
                    let mut reader = BufReader::new(socket);
                    write!(reader.get_mut(), "POST /check HTTP/1.1\r\nhost: x\r\ncontent-length: {LARGE}\r\n\r\n")
                        .unwrap();
                    reader.get_mut().write_all(&pattern(LARGE)).unwrap();
                    assert_eq!(read_answer(&mut reader), b"true");
                    write!(reader.get_mut(), "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                    assert!(read_answer(&mut reader) == pattern(LARGE));
                    // And the connection is as good as new.
                    write!(reader.get_mut(), "GET /again HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                    assert_eq!(read_answer(&mut reader), b"you asked for /again");
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        server.wait_for("nothing is left", |stats| stats.connections == 0 && stats.buffers_in_use == 0);
    }
}

#[test]
fn a_request_in_single_bytes_is_answered() {
    for config in both(Config::default()) {
        let server = Server::start(config, serve);
        let mut reader = BufReader::new(server.connect());
        for byte in b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello" {
            reader.get_mut().write_all(&[*byte]).unwrap();
        }
        assert_eq!(read_answer(&mut reader), b"hello");
    }
}
