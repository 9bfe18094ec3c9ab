//! The way of a request, from its head to its response.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use covet_wasm::{App, Pool, Recorder, Request};
use http::{Response, request::Parts};
use hyper::body::Incoming;

use crate::{
    access_log,
    connection::{Arrival, Busy},
    options::{ConnectionLimits, Options},
    request,
    response::{self, Body, Refusal},
    router::{Found, Router},
};

/// What one thread needs to answer requests.
pub(crate) struct Dispatcher {
    router: Arc<Router>,
    pool: Rc<Pool>,
    options: Arc<Options>,
    recorder: Rc<Recorder>,
}

impl Dispatcher {
    pub(crate) fn new(router: Arc<Router>, pool: Rc<Pool>, options: Arc<Options>) -> Rc<Self> {
        let recorder = pool.app().usage().statistics().recorder();
        Rc::new(Self { router, pool, options, recorder })
    }

    pub(crate) fn connection_limits(&self) -> &ConnectionLimits {
        &self.options.connection
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.options.listen
    }

    fn app(&self) -> &App {
        self.pool.app()
    }

    /// Answers a request. Whatever goes wrong is a response too.
    pub(crate) async fn dispatch(
        &self,
        request: http::Request<Incoming>,
        arrival: &Arrival,
        busy: Busy,
    ) -> Result<Response<Body>, Infallible> {
        let began = Instant::now();
        let mut exchange = self.recorder.begin(began);
        // If the client goes before there is an answer, this future is dropped and with it the guest.
        let (head, incoming) = request.into_parts();
        let mut route = None;
        let answer = self.answer(&head, incoming, arrival, &mut route).await;
        let response = answer.unwrap_or_else(|refusal| {
            access_log::explain(self.app(), &head, route, &refusal);
            refusal.response()
        });
        exchange.answered(response.status().as_u16(), Instant::now());
        let line = self.options.access_log.then(|| access_log::Line::new(&head, arrival.peer, &response, began));
        let pace = busy.pace();
        Ok(response.map(|body| {
            body.at_pace(pace).on_finish(move |sent| {
                drop(busy);
                drop(exchange);
                if let Some(line) = line {
                    line.write(sent);
                }
            })
        }))
    }

    async fn answer(
        &self,
        head: &Parts,
        incoming: Incoming,
        arrival: &Arrival,
        found: &mut Option<u32>,
    ) -> Result<Response<Body>, Refusal> {
        let origin = request::origin(head, arrival)?;
        let (route, params) = match self.router.find(head.method.as_str(), head.uri.path())? {
            Found::Route { route, params } => (route, params),
            Found::MethodNotAllowed { allow } => return Err(Refusal::MethodNotAllowed { allow }),
            Found::Nothing => return Err(Refusal::NotFound),
        };
        *found = Some(route);
        let headers = request::headers(head, arrival)?;
        let patience = self.app().limits().deadline;
        let body = request::body(incoming, self.options.body_bytes_max, patience).await?;
        let request = Request {
            route,
            method: head.method.as_str().to_owned(),
            origin,
            target: request::target(&head.uri).to_owned(),
            params,
            headers,
            peer: arrival.peer.to_string(),
            body,
        };
        let response = self.pool.call(request).await?;
        response::from_guest(response).map_err(Refusal::BadResponse)
    }
}
