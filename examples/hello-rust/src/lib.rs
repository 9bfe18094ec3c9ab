//! The smallest application in Rust: a page, a greeting, and an answer to what was sent.

use covet_guest::{App, Request, Response, export_app, routes};

struct Hello;

impl App for Hello {
    routes! {
        GET "/" => index,
        GET "/hello/{name}" => hello,
        POST "/shout" => shout,
    }
}

async fn index(_: Request) -> Response {
    Response::html("<!doctype html><title>Hello</title><p>Try <a href=/hello/world>/hello/world</a>.")
}

async fn hello(request: Request) -> Response {
    let name = request.param(0).unwrap_or_default();
    Response::text(format!("Hello, {name}!\n"))
}

/// Answers with the request's text in upper case.
async fn shout(request: Request) -> Response {
    let Ok(bytes) = request.body.read(64 << 10).await else {
        return Response::text("that is more than I can shout\n").with_status(413);
    };
    match String::from_utf8(bytes) {
        Ok(text) => Response::text(text.to_uppercase()),
        Err(_) => Response::text("that is not UTF-8\n").with_status(400),
    }
}

export_app!(Hello);
