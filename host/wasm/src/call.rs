//! One request in one instance: from handing it over to the moment when nothing of it is left in the instance.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use wasmtime::component::Accessor;

use crate::{
    bindings::exports::covet::app::handler,
    chain::Chain,
    instance::{Instance, metered},
    limits::{CpuExhausted, Limits},
    request::{self, BodyFault, Request},
    response::{self, Response},
    state::GuestState,
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
    /// In `shared` isolation: another request ended the instance.
    #[error("the instance was lost to another request in it")]
    Lost,
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
    at_fault: AtFault,
    fault: Mutex<Fault>,
}

/// What becomes of a call whose request's body will not come to its end. The guest must not take it for a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtFault {
    /// The instance traps: it has no other call.
    Trap,
    /// The guest's read never returns, and the call is given up.
    Abandon,
}

#[derive(Default)]
struct Fault {
    what: Option<BodyFault>,
    waker: Option<Waker>,
}

impl CallState {
    pub(crate) fn new(patience: Duration, at_fault: AtFault) -> Self {
        let shared = Shared {
            base: Instant::now(),
            patience,
            deadline_ns: AtomicU64::new(nanoseconds(patience)),
            at_fault,
            fault: Mutex::default(),
        };
        Self(Arc::new(shared))
    }

    /// Something has moved, so the clock starts anew.
    pub(crate) fn progress(&self) {
        self.0.deadline_ns.store(nanoseconds(self.0.base.elapsed() + self.0.patience), Relaxed);
    }

    /// Remembers why the call is about to end. Returns how.
    pub(crate) fn fail(&self, what: BodyFault) -> AtFault {
        let mut fault = self.0.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.what = Some(what);
        if let Some(waker) = fault.waker.take() {
            waker.wake();
        }
        self.0.at_fault
    }

    fn fault(&self) -> Option<BodyFault> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner).what
    }

    /// The fault; if there is none, whoever polls is woken when there is.
    fn poll_fault(&self, context: &Context<'_>) -> Option<BodyFault> {
        let mut fault = self.0.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.what.is_none() {
            fault.waker = Some(context.waker().clone());
        }
        fault.what
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
    /// The guest is done. What it left behind is another question.
    Normally,
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
    let state = CallState::new(limits.deadline, AtFault::Trap);
    let meter = instance.meter();
    instance.begin_request(limits);
    let mut answered = false;
    let exchange = exchange(instance, request, &state, reply, &mut answered);
    let outcome = within(&state, metered(&meter, ticket, exchange)).await;
    instance.end_request();
    let error = match outcome {
        Ok(Ok(())) => return Ended::Normally,
        Ok(Err(error)) => classify(error, &state, instance.memory_refused()),
        Err(GivenUp::Deadline) => CallError::Deadline(limits.deadline),
        Err(GivenUp::Fault(fault)) => CallError::Body(fault),
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
    store
        .run_concurrent(async |accessor| {
            let on_head = |head| {
                reply.put(Ok(head));
                *answered = true;
            };
            converse(accessor, handler, request, state, on_head).await?;
            // Tasks that the guest started and did not wait for; the deadline bounds them too.
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            Ok(())
        })
        .await?
}

/// Hands a request to the guest and its response to `on_head` and whoever reads the body.
pub(crate) async fn converse(
    accessor: &Accessor<GuestState>,
    handler: &handler::Guest,
    request: Request,
    state: &CallState,
    on_head: impl FnOnce(Response),
) -> wasmtime::Result<()> {
    let request = accessor.with(|access| request::lower(access, request, state))?;
    let response = handler.call_handle(accessor, request).await?;
    let (head, rest) = response::lift(response);
    on_head(head);
    state.progress();
    rest.deliver(accessor, state).await
}

/// Whose fault it is that a call has ended with an error.
pub(crate) fn classify(error: wasmtime::Error, state: &CallState, memory_refused: bool) -> CallError {
    if let Some(fault) = state.fault() {
        return CallError::Body(fault);
    }
    if let Some(exhausted) = error.downcast_ref::<CpuExhausted>() {
        return CallError::Cpu(exhausted.limit);
    }
    CallError::Trap { source: error, memory_refused }
}

/// Why a call was not waited for any longer.
pub(crate) enum GivenUp {
    Deadline,
    Fault(BodyFault),
}

/// Gives up when the call's clock has run out.
///
/// For a call that has its instance to itself the clock stands outside the store: inside, a busy guest would keep it from
/// being polled. The timer is only made when the call waits for the first time, which most calls never do.
pub(crate) async fn within<F: Future>(state: &CallState, call: F) -> Result<F::Output, GivenUp> {
    let mut call = pin!(call);
    let mut timer: Option<Pin<Box<tokio::time::Sleep>>> = None;
    poll_fn(|context| {
        if let Poll::Ready(output) = call.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        if state.0.at_fault == AtFault::Abandon
            && let Some(fault) = state.poll_fault(context)
        {
            return Poll::Ready(Err(GivenUp::Fault(fault)));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(state.deadline().into())));
        // Progress moves the deadline without touching the timer, so a timer that fires may have to be set again.
        while timer.as_mut().poll(context).is_ready() {
            let deadline = state.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(Err(GivenUp::Deadline));
            }
            timer.as_mut().reset(deadline.into());
        }
        Poll::Pending
    })
    .await
}
