//! A plain listener beside one with TLS: whatever is asked of it is somewhere else.

use std::{rc::Rc, sync::Arc};

use covet_net::Listener;
use http::{HeaderValue, Response, StatusCode, header, request::Parts, uri::Authority};
use tokio::task::spawn_local;

use crate::{
    connection::{self, Arrival},
    drain::Drain,
    options::Options,
    request,
    response::{Body, Refusal},
};

/// Answers every request with the address of the same resource behind TLS, until the host drains.
pub(crate) async fn serve(mut listener: Listener, options: Arc<Options>, mut drain: Drain) {
    let draining = drain.clone();
    let port = options.listen.port();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!(%error, "no more redirects");
                    return;
                }
            },
            () = drain.begun() => return,
        };
        let local = stream.local_addr().unwrap_or(options.listen);
        let arrival = Rc::new(Arrival { peer, local, is_secure: false, client_subject: None });
        let (options, draining) = (options.clone(), draining.clone());
        spawn_local(async move {
            let to = arrival.clone();
            let answer = move |request: http::Request<_>, _| {
                let (head, _) = request.into_parts();
                std::future::ready(Ok(answer(&head, &to, port).unwrap_or_else(|refusal| refusal.response())))
            };
            connection::serve_plain(stream, &options.connection, arrival.peer, draining, answer).await;
        });
    }
}

fn answer(head: &Parts, arrival: &Arrival, port: u16) -> Result<Response<Body>, Refusal> {
    let origin = request::origin(head, arrival)?;
    let authority: Option<Authority> = origin.strip_prefix("http://").and_then(|authority| authority.parse().ok());
    let host = authority.as_ref().map_or("", Authority::host);
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let target = request::target(&head.uri);
    let location = format!("https://{host}{port}{}", if target == "*" { "/" } else { target });
    let location = HeaderValue::from_str(&location).map_err(|_| Refusal::BadRequest("a target that is no URL"))?;
    let mut response = Response::new(Body::empty());
    // Permanent, and the method stays what it is.
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    // Its body, if there is one, is not read.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(request: http::request::Builder, port: u16) -> Option<String> {
        let local = ([127, 0, 0, 1], 80).into();
        let arrival = Arrival { peer: local, local, is_secure: false, client_subject: None };
        let response = answer(&request.body(()).unwrap().into_parts().0, &arrival, port).ok()?;
        assert_eq!(response.status(), 308);
        Some(response.headers()[header::LOCATION].to_str().unwrap().to_owned())
    }

    #[test]
    fn the_same_resource_is_behind_tls() {
        let get = |target: &str| http::Request::get(target).header("host", "a.test:8080");
        assert_eq!(location(get("/a?b=%20"), 8443).unwrap(), "https://a.test:8443/a?b=%20");
        assert_eq!(location(get("/"), 443).unwrap(), "https://a.test/");
        assert_eq!(location(http::Request::get("/").header("host", "[::1]:80"), 443).unwrap(), "https://[::1]/");
        assert_eq!(location(http::Request::get("/"), 443), None, "no Host");
        assert_eq!(location(http::Request::get("/").header("host", "a@b"), 443), None);
    }
}
