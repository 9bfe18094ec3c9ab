//! An application that answers, echoes and counts.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use covet_guest::{
    App, Body, Request, Response, StreamReader, StreamResult, StreamWriter, Trailers, export_app, routes, spawn_local,
    stream,
};

struct Hello;

impl App for Hello {
    routes! {
        GET "/hello/{name}" => hello,
        POST "/echo" => echo,
        POST "/forward" => forward,
        GET "/count" => count,
        GET "/count/reuse" => count as Reuse,
    }
}

async fn hello(request: Request) -> Response {
    let name = request.param(0).unwrap_or_default();
    Response::text(format!("Hello, {name}!\n"))
}

/// Answers with the body in the form that it came in; a stream goes through this guest's memory.
async fn echo(request: Request) -> Response {
    let body = match request.body {
        Body::Stream(from) => {
            let (to, body) = stream();
            spawn_local(relay(from, to));
            Body::Stream(body)
        }
        body => body,
    };
    Response { status: 200, headers: request.headers, body, trailers: Trailers::Absent }
}

/// Answers with the body as it is; of a stream only the handle passes through this guest.
async fn forward(request: Request) -> Response {
    Response { status: 200, headers: request.headers, body: request.body, trailers: Trailers::Absent }
}

/// 1, 2, 3 in one instance.
async fn count(_: Request) -> Response {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    Response::text((COUNT.fetch_add(1, Relaxed) + 1).to_string())
}

async fn relay(mut from: StreamReader<u8>, mut to: StreamWriter<u8>) {
    loop {
        let (result, bytes) = from.read(Vec::with_capacity(64 << 10)).await;
        // What is given back is what nobody reads any more.
        let is_over = !matches!(result, StreamResult::Complete(_)) || !to.write_all(bytes).await.is_empty();
        if is_over {
            break;
        }
    }
}

export_app!(Hello);
