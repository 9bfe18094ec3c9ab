//! An instance that serves many requests at once. It decides nothing about how many there are; `pool` does.
//!
//! The requests are tasks of the component model in one instance: while one waits, the others go on, and they see each
//! other's state. What ends the instance ends all of them: a trap, or a request that computes beyond its processor time
//! without ever waiting. What one client does must not: a body that breaks off, a client that goes away or a response that
//! comes too late leaves its task behind in the guest, which cannot be cancelled, and the others go on.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::task::spawn_local;
use wasmtime::component::Accessor;

use crate::{
    app::App,
    bindings::exports::covet::app::handler,
    call::{AtFault, CallError, CallState, GivenUp, classify, converse, within},
    chain::Chain,
    instance::{Instance, metered},
    limits::{CpuExhausted, Limits, Meter},
    pool::PoolOptions,
    request::Request,
    response::Response,
    state::GuestState,
    turns::Ticket,
};

/// The pool's end of a shared instance.
#[derive(Debug)]
pub(crate) struct SharedInstance {
    jobs: RefCell<Option<mpsc::UnboundedSender<Job>>>,
    status: Rc<Status>,
    meter: Arc<Meter>,
    /// Requests that it may serve in all, and until when.
    ends_at: (u64, Instant),
}

/// What both ends know.
#[derive(Debug, Default)]
struct Status {
    running: Cell<usize>,
    served: Cell<u64>,
    /// Calls that were given up and whose tasks may still be in the guest.
    abandoned: Cell<usize>,
    has_ended: Cell<bool>,
}

#[derive(Debug)]
struct Job {
    request: Request,
    answer: Answer,
}

/// Where the answer goes. Asked for once.
#[derive(Clone, Debug)]
struct Answer(Rc<RefCell<Option<Sender>>>);

type Sender = oneshot::Sender<Result<Response, CallError>>;

impl Answer {
    /// Returns whether there was none before.
    fn give(&self, answer: Result<Response, CallError>) -> bool {
        // A client that has gone is not an error.
        self.0.take().map(|sender| sender.send(answer)).is_some()
    }
}

impl SharedInstance {
    /// Lets an instance serve. `ended` is called when it no longer does.
    pub(crate) fn start(
        app: Arc<App>,
        instance: Instance,
        options: &PoolOptions,
        ended: impl FnOnce() + 'static,
    ) -> Rc<Self> {
        let (jobs, queue) = mpsc::unbounded();
        let status = Rc::<Status>::default();
        let shared = Rc::new(Self {
            jobs: RefCell::new(Some(jobs)),
            status: status.clone(),
            meter: instance.meter(),
            ends_at: instance.ends_at(options),
        });
        spawn_local(async move {
            serve(&app, instance, queue, &status).await;
            status.has_ended.set(true);
            ended();
        });
        shared
    }

    /// Hands a request over and waits for the head of its response.
    pub(crate) async fn call(&self, request: Request) -> Result<Response, CallError> {
        let (sender, receiver) = oneshot::channel();
        let answer = Answer(Rc::new(RefCell::new(Some(sender))));
        let sent = match &*self.jobs.borrow() {
            Some(jobs) => jobs.unbounded_send(Job { request, answer }).is_ok(),
            None => false,
        };
        if !sent {
            return Err(CallError::Lost);
        }
        self.status.served.set(self.status.served.get() + 1);
        receiver.await.unwrap_or(Err(CallError::Lost))
    }

    /// Requests that are being served, those included whose response is still being sent.
    pub(crate) fn running(&self) -> usize {
        self.status.running.get()
    }

    /// Whether a request in it has been computing for so long that others should go elsewhere.
    pub(crate) fn is_busy(&self) -> bool {
        self.meter.is_midway() && self.meter.spent() >= BUSY_AFTER
    }

    /// Whether it should get no more requests.
    pub(crate) fn is_worn(&self) -> bool {
        self.has_ended()
            || self.status.served.get() >= self.ends_at.0
            || Instant::now() >= self.ends_at.1
            || self.status.abandoned.get() >= ABANDONED_MAX
            || self.jobs.borrow().is_none()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.has_ended.get()
    }

    /// Ends it when its requests are done.
    pub(crate) fn retire(&self) {
        self.jobs.take();
    }
}

/// Requests of one instance see each other's state, so a new instance is not made for every tick that one computes.
const BUSY_AFTER: Duration = Duration::from_millis(20);

/// Tasks without a client that an instance may carry.
const ABANDONED_MAX: usize = 64;

/// Serves until there are no more jobs and all are done, or the instance is lost. Then runs its shutdown handlers.
async fn serve(app: &App, mut instance: Instance, mut jobs: mpsc::UnboundedReceiver<Job>, status: &Rc<Status>) {
    let meter = instance.meter();
    let unanswered = RefCell::new(Vec::<Answer>::new());
    let limits = app.limits().clone();
    meter.begin(limits.cpu_max);
    let ended = {
        let (store, handler) = instance.parts();
        let intake = Intake { is_open: Cell::new(true), taken: Cell::new(0) };
        let run = store.run_concurrent(async |accessor| {
            let jobs = poll_jobs(&mut jobs, &intake);
            converse_with_all(accessor, handler, jobs, &limits, status, &unanswered).await
        });
        in_batches(app, &meter, &intake, metered(&meter, Ticket::default(), run)).await
    };
    instance.end_request();
    let error = match ended {
        Ok(Ok(())) => {
            if let Err(error) = instance.shutdown().await {
                tracing::error!(app = app.name(), error = %Chain(&error), "shutdown failed");
            }
            return;
        }
        Ok(Err(error)) | Err(error) => error,
    };
    status.has_ended.set(true);
    let spent = error.downcast_ref::<CpuExhausted>().map(|exhausted| exhausted.limit);
    tracing::warn!(app = app.name(), cpu = ?meter.spent(), error = %Chain(&*error), "a shared instance was lost");
    for answer in unanswered.take() {
        answer.give(Err(spent.map_or(CallError::Lost, CallError::Cpu)));
    }
    while let Ok(job) = jobs.try_recv() {
        job.answer.give(Err(CallError::Lost));
    }
}

/// The jobs while they are to be taken.
fn poll_jobs(
    jobs: &mut mpsc::UnboundedReceiver<Job>,
    intake: &Intake,
) -> impl FnMut(&mut Context<'_>) -> Poll<Option<Job>> {
    |context| {
        if !intake.is_open.get() {
            return Poll::Pending;
        }
        intake.taken.set(intake.taken.get() + 1);
        Pin::new(&mut *jobs).poll_next(context)
    }
}

/// The life of an instance from inside its store: takes jobs as they come and lets all of them go on.
async fn converse_with_all(
    accessor: &Accessor<GuestState>,
    handler: &handler::Guest,
    mut poll_job: impl FnMut(&mut Context<'_>) -> Poll<Option<Job>>,
    limits: &Limits,
    status: &Status,
    unanswered: &RefCell<Vec<Answer>>,
) -> wasmtime::Result<()> {
    let mut calls = FuturesUnordered::new();
    let mut are_all_here = false;
    poll_fn(|context| {
        loop {
            match (!are_all_here).then(|| poll_job(context)) {
                Some(Poll::Ready(Some(job))) => {
                    accessor.with(|mut access| access.data_mut().begin_shared_request(limits));
                    status.running.set(status.running.get() + 1);
                    unanswered.borrow_mut().push(job.answer.clone());
                    calls.push(serve_one(accessor, handler, job, limits, status));
                    continue;
                }
                Some(Poll::Ready(None)) => are_all_here = true,
                _ => {}
            }
            match Pin::new(&mut calls).poll_next(context) {
                Poll::Ready(Some(result)) => {
                    status.running.set(status.running.get() - 1);
                    unanswered.borrow_mut().retain(|answer| answer.0.borrow().is_some());
                    if let Err(error) = result {
                        return Poll::Ready(Err(error));
                    }
                    if calls.is_empty() && accessor.poll_no_interesting_tasks(context).is_ready() {
                        status.abandoned.set(0);
                    }
                }
                Poll::Ready(None) if are_all_here => return Poll::Ready(Ok(())),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// One request. An error ends the instance.
async fn serve_one(
    accessor: &Accessor<GuestState>,
    handler: &handler::Guest,
    job: Job,
    limits: &Limits,
    status: &Status,
) -> wasmtime::Result<()> {
    let state = CallState::new(limits.deadline, AtFault::Abandon);
    let on_head = |head| {
        job.answer.give(Ok(head));
    };
    let error = match within(&state, converse(accessor, handler, job.request, &state, on_head)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) if error.is::<CpuExhausted>() => return Err(error),
        Ok(Err(error)) => {
            let refused = accessor.with(|mut access| access.data_mut().memory.refused);
            let told = format!("{:#}", &error);
            job.answer.give(Err(classify(error, &state, refused)));
            return Err(wasmtime::format_err!("{told}"));
        }
        Err(GivenUp::Deadline) => CallError::Deadline(limits.deadline),
        Err(GivenUp::Fault(fault)) => CallError::Body(fault),
    };
    status.abandoned.set(status.abandoned.get() + 1);
    job.answer.give(Err(error));
    Ok(())
}

/// Runs an instance's future, and says when it may take more requests.
///
/// wasmtime 48 lets a task that has yielded go on only when there is nothing else to do, one such task in a poll, and every
/// call ends with a yield. Under a load without end calls that are over would pile up until there are no handles left. So
/// more requests are taken when all tasks wait, which shows in a future that is pending and has not woken itself; or after
/// so many polls that what came in last is over, for the sake of a guest in which some task never waits.
///
/// The account of processor time starts anew whenever the guest gives way: several requests share it, so what is bounded
/// is the time that the guest computes without a pause.
async fn in_batches<F: Future>(app: &App, meter: &Meter, intake: &Intake, run: F) -> F::Output {
    let mut run = pin!(run);
    let relay = Arc::new(Relay { has_woken: AtomicBool::new(false), task: Mutex::new(Waker::noop().clone()) });
    let waker = Waker::from(relay.clone());
    let mut polls = 0;
    poll_fn(|context| {
        relay.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(context.waker());
        loop {
            relay.has_woken.store(false, Relaxed);
            let output = run.as_mut().poll(&mut Context::from_waker(&waker));
            if output.is_ready() {
                return output;
            }
            if !meter.is_midway() {
                app.usage.charge(meter.spent());
                meter.begin(app.limits().cpu_max);
            }
            polls += 1;
            let all_wait = !relay.has_woken.load(Relaxed);
            if !all_wait && polls <= 2 * intake.taken.get() + PATIENCE {
                intake.is_open.set(false);
                return output;
            }
            let was_open = intake.is_open.replace(true);
            if !was_open {
                polls = 0;
                intake.taken.set(0);
            }
            if was_open || !all_wait {
                return output;
            }
            // What came in the meantime has woken nobody.
        }
    })
    .await
}

/// Polls beyond those that the requests taken last need to be over.
const PATIENCE: usize = 4;

/// Whether requests are taken, and how many have been since it was opened.
struct Intake {
    is_open: Cell<bool>,
    taken: Cell<usize>,
}

/// A waker that remembers that it was used.
struct Relay {
    has_woken: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.has_woken.store(true, Relaxed);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}
