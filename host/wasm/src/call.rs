//! One request in one instance: from handing it over to the moment when nothing of it is left in the instance.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use crate::{
    chain::Chain,
    instance::{Instance, metered},
    limits::{CpuExhausted, Limits},
    request::{self, BodyFault, Request},
    response::{self, Response},
    turns::Ticket,
};

/// Why a request got no answer from its guest. `response.rs` of the server turns it into a status.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// All instances are busy and the queue is full, or the wait in it was too long.
    #[error("no instance became free")]
    Overloaded,
    /// No head of a response in time.
    #[error("no response within {0:?}")]
    Deadline(Duration),
    /// Too much processor time.
    #[error("used up its processor time of {0:?}")]
    Cpu(Duration),
    /// The request's body could not be read to its end.
    #[error(transparent)]
    Body(BodyFault),
    /// The guest trapped.
    #[error("trapped{}", if *.memory_refused { " after an allocation beyond its memory limit was refused" } else { "" })]
    Trap {
        /// What happened and where, for the log.
        #[source]
        source: wasmtime::Error,
        /// Whether the memory limit was hit before.
        memory_refused: bool,
    },
    /// No new instance could be made for the request.
    #[error("no instance could be started")]
    Instantiate(#[source] wasmtime::Error),
}

/// What the two ends of a call's streams and its clock share.
#[derive(Clone)]
pub(crate) struct CallState(Arc<Shared>);

struct Shared {
    base: Instant,
    patience: Duration,
    deadline_ns: AtomicU64,
    fault: Mutex<Option<BodyFault>>,
}

impl CallState {
    pub(crate) fn new(patience: Duration) -> Self {
        let shared = Shared {
            base: Instant::now(),
            patience,
            deadline_ns: AtomicU64::new(nanoseconds(patience)),
            fault: Mutex::new(None),
        };
        Self(Arc::new(shared))
    }

    /// Something has moved, so the clock starts anew.
    pub(crate) fn progress(&self) {
        self.0.deadline_ns.store(nanoseconds(self.0.base.elapsed() + self.0.patience), Relaxed);
    }

    /// Remembers why the call is about to be ended by a trap.
    pub(crate) fn fail(&self, fault: BodyFault) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    fn fault(&self) -> Option<BodyFault> {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadline(&self) -> Instant {
        self.0.base + Duration::from_nanos(self.0.deadline_ns.load(Relaxed))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a call leaves its answer for the one who polls it. Both live on one thread.
#[derive(Default)]
pub(crate) struct Reply(RefCell<Option<Result<Response, CallError>>>);

impl Reply {
    pub(crate) fn take(&self) -> Option<Result<Response, CallError>> {
        self.0.borrow_mut().take()
    }

    fn put(&self, answer: Result<Response, CallError>) {
        *self.0.borrow_mut() = Some(answer);
    }
}

/// How a call left its instance.
pub(crate) enum Ended {
    /// Whatever the request had is gone from the instance.
    Clean,
    /// The instance must not be used again.
    Broken,
}

/// Runs one request to its very end: body, trailers, and tasks that the guest left running.
pub(crate) async fn run(
    instance: &mut Instance,
    request: Request,
    limits: &Limits,
    reply: &Reply,
    ticket: Ticket,
) -> Ended {
    let state = CallState::new(limits.deadline);
    let meter = instance.meter();
    instance.begin_request(limits);
    let mut answered = false;
    let exchange = exchange(instance, request, &state, reply, &mut answered);
    let outcome = within(&state, metered(&meter, ticket, exchange)).await;
    instance.end_request();
    let error = match outcome {
        Some(Ok(())) => return if instance.is_clean() { Ended::Clean } else { Ended::Broken },
        Some(Err(error)) => classify(error, &state, instance.memory_refused()),
        None => CallError::Deadline(limits.deadline),
    };
    if answered {
        tracing::warn!(
            app = instance.name(),
            cpu = ?meter.spent(),
            error = %Chain(&error),
            "a response was cut off"
        );
    } else {
        reply.put(Err(error));
    }
    Ended::Broken
}

async fn exchange(
    instance: &mut Instance,
    request: Request,
    state: &CallState,
    reply: &Reply,
    answered: &mut bool,
) -> wasmtime::Result<()> {
    let (store, handler) = instance.parts();
    let request = request::lower(store, request, state)?;
    store
        .run_concurrent(async |accessor| {
            let response = handler.call_handle(accessor, request).await?;
            let (head, rest) = response::lift(response);
            reply.put(Ok(head));
            *answered = true;
            state.progress();
            rest.deliver(accessor, state).await?;
            // Tasks that the guest started and did not wait for; the deadline bounds them too.
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            Ok(())
        })
        .await?
}

fn classify(error: wasmtime::Error, state: &CallState, memory_refused: bool) -> CallError {
    if let Some(fault) = state.fault() {
        return CallError::Body(fault);
    }
    if let Some(exhausted) = error.downcast_ref::<CpuExhausted>() {
        return CallError::Cpu(exhausted.limit);
    }
    CallError::Trap { source: error, memory_refused }
}

/// Gives up when the call's clock has run out; none then.
///
/// The clock stands outside the store: inside, a busy guest would keep it from being polled. The timer is only made when
/// the call waits for the first time, which most calls never do.
async fn within<F: Future>(state: &CallState, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    let mut timer: Option<Pin<Box<tokio::time::Sleep>>> = None;
    poll_fn(|context| {
        if let Poll::Ready(output) = call.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(state.deadline().into())));
        // Progress moves the deadline without touching the timer, so a timer that fires may have to be set again.
        while timer.as_mut().poll(context).is_ready() {
            let deadline = state.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(None);
            }
            timer.as_mut().reset(deadline.into());
        }
        Poll::Pending
    })
    .await
}
