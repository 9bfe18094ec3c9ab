//! How many requests run at a time, and how many wait for how long until they may.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PoolOptions;
use crate::{
    call::CallError,
    turns::{Tenant, Ticket, Turns},
};

/// The places of the requests of one pool, and the queue before them.
pub(super) struct Places {
    permits: Arc<Semaphore>,
    count: usize,
    waiting: Cell<usize>,
    waiting_max: usize,
    wait_max: Duration,
}

impl Places {
    pub(super) fn new(count: usize, options: &PoolOptions) -> Self {
        let count = count.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(count)),
            count,
            waiting: Cell::new(0),
            waiting_max: options.queue_max,
            wait_max: options.queue_wait,
        }
    }

    /// Waits for a place. It is free again when the permit is dropped.
    pub(super) async fn take(&self) -> Result<OwnedSemaphorePermit, CallError> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => self.queue(self.permits.clone().acquire_owned()).await?.map_err(|_| CallError::Overloaded),
        }
    }

    /// Waits until a guest of a tenant may run on this thread.
    pub(super) async fn take_turn(&self, turns: &Turns, tenant: Tenant) -> Result<Ticket, CallError> {
        let ticket = Ticket::default();
        {
            let mut wait = pin!(turns.wait(tenant, &ticket));
            if poll_fn(|context| Poll::Ready(wait.as_mut().poll(context).is_pending())).await {
                self.queue(wait).await?;
            }
        }
        Ok(ticket)
    }

    /// Whether no request has a place.
    pub(super) fn are_all_free(&self) -> bool {
        self.permits.available_permits() == self.count
    }

    /// Whether a request waits.
    pub(super) fn has_queue(&self) -> bool {
        self.waiting.get() > 0
    }

    async fn queue<F: Future>(&self, wait: F) -> Result<F::Output, CallError> {
        if self.waiting.get() >= self.waiting_max {
            return Err(CallError::Overloaded);
        }
        let _waiting = Waiting::count(&self.waiting);
        tokio::time::timeout(self.wait_max, wait).await.map_err(|_| CallError::Overloaded)
    }
}

/// A place in the queue, given back however the wait ends.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
