//! Who may run guest code on a thread, and when: so much per turn of the event loop, shared fairly between tenants.
//!
//! A guest that computes gives its thread back after a slice. What decides how long everybody else waits is what runs
//! before the event loop looks at its sockets again. So guests together run for one slice's time in a turn; who comes
//! after that waits in line for the next turn. Whose turn it is goes by deficit round robin over tenants: each tenant in
//! line gets a quantum per round, and what its slices took beyond that is taken off the next one; and who was not in line
//! in this round comes first. Eight busy guests of one tenant delay a neighbour as much as one does, and those of eight
//! tenants do too.
//!
//! There is one [`Turns`] for each thread. It has no clock of its own: a task that yields to the event loop tells when a
//! turn has passed, and sleeps while no guest runs.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{spawn_local, yield_now},
};

use crate::engine::TICK;

/// Who pays for a guest's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant(pub(crate) u64);

/// The turns of one thread.
pub(crate) struct Turns {
    /// From 1 on; a new ticket has had nothing of any turn.
    turn: Cell<u64>,
    /// Guest time in this turn.
    used: Cell<Duration>,
    line: RefCell<Line>,
    /// Whether the end of this turn is being waited for.
    is_counting: Cell<bool>,
    begun: Notify,
}

/// One guest's standing: its place in the line, and what it has had of the current turn.
#[derive(Default)]
pub(crate) struct Ticket {
    place: Rc<Cell<Place>>,
    turn: Cell<u64>,
    used: Cell<Duration>,
}

impl Ticket {
    fn enter(&self, turn: u64) {
        if self.turn.replace(turn) != turn {
            self.used.set(Duration::ZERO);
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    Waiting,
    Called,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The line passes over it.
        self.place.set(Place::Outside);
    }
}

thread_local! {
    static HERE: RefCell<Weak<Turns>> = const { RefCell::new(Weak::new()) };
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            turn: Cell::new(1),
            used: Cell::default(),
            line: RefCell::default(),
            is_counting: Cell::default(),
            begun: Notify::new(),
        }
    }
}

impl Turns {
    /// Those of this thread, which needs a tokio `LocalRuntime`. They end when nobody has them any more.
    pub(crate) fn start() -> Rc<Self> {
        if let Some(turns) = Self::here() {
            return turns;
        }
        let turns = Rc::new(Self::default());
        HERE.set(Rc::downgrade(&turns));
        spawn_local(count(Rc::downgrade(&turns)));
        turns
    }

    /// Those of this thread, if they have been started. Outside of a server's threads guests run as they come.
    pub(crate) fn here() -> Option<Rc<Self>> {
        HERE.with_borrow(Weak::upgrade)
    }

    /// Whether a guest may run now. If not it is in line, and its task is woken when it may.
    pub(crate) fn may_run(&self, tenant: Tenant, ticket: &Ticket, context: &Context<'_>) -> bool {
        match ticket.place.get() {
            Place::Called => {}
            // The rest of a short call is not worth a turn.
            Place::Outside if ticket.turn.get() == self.turn.get() && ticket.used.get() < TICK => {}
            Place::Outside if self.used.get() < TICK && self.line.borrow().is_empty() => {}
            place => {
                if place == Place::Outside {
                    ticket.place.set(Place::Waiting);
                }
                self.line.borrow_mut().join(tenant, &ticket.place, context.waker());
                self.ensure_counting();
                return false;
            }
        }
        ticket.place.set(Place::Outside);
        ticket.enter(self.turn.get());
        true
    }

    /// Waits until a guest may run. It then may in this turn, without asking again.
    pub(crate) async fn wait(&self, tenant: Tenant, ticket: &Ticket) {
        poll_fn(|context| if self.may_run(tenant, ticket, context) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Charges a slice that has just ended.
    pub(crate) fn charge(&self, tenant: Tenant, ticket: &Ticket, time: Duration) {
        ticket.enter(self.turn.get());
        ticket.used.set(ticket.used.get() + time);
        self.used.set(self.used.get() + time);
        let mut line = self.line.borrow_mut();
        line.charge(tenant, time);
        if self.used.get() < TICK {
            line.call();
        }
        drop(line);
        self.ensure_counting();
    }

    fn ensure_counting(&self) {
        if !self.is_counting.replace(true) {
            self.begun.notify_one();
        }
    }

    /// The event loop has looked at its sockets. Returns whether the end of this turn matters too.
    fn next(&self) -> bool {
        self.turn.set(self.turn.get() + 1);
        self.used.set(Duration::ZERO);
        let called = self.line.borrow_mut().call();
        self.is_counting.set(called);
        called
    }
}

/// Counts turns while guests run.
async fn count(turns: Weak<Turns>) {
    loop {
        let Some(turns) = turns.upgrade() else { return };
        // A pool that goes away wakes nobody, so this looks now and then whether there still is one.
        if tokio::time::timeout(Duration::from_secs(1), turns.begun.notified()).await.is_err() {
            continue;
        }
        loop {
            // Goes behind everything that is ready, and behind the look at the sockets; and once more, behind the tasks
            // that these have made.
            yield_now().await;
            yield_now().await;
            if !turns.next() {
                break;
            }
        }
    }
}

/// Guests that wait, by tenant. Who comes new into the line is called before those who have had a quantum of this round,
/// so that a short call waits for one slice, however many tenants compute (the two lists are those of FQ-CoDel, RFC 8290).
#[derive(Default)]
struct Line {
    new: VecDeque<Share>,
    old: VecDeque<Share>,
    waiting: usize,
}

struct Share {
    tenant: Tenant,
    /// Nanoseconds that the tenant may still use in this round; below zero, what it has used of the next ones.
    credit: i64,
    waiting: VecDeque<(Rc<Cell<Place>>, Waker)>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    fn join(&mut self, tenant: Tenant, place: &Rc<Cell<Place>>, waker: &Waker) {
        let share = self.share(tenant);
        if let Some((_, known)) = share.waiting.iter_mut().find(|(waiting, _)| Rc::ptr_eq(waiting, place)) {
            known.clone_from(waker);
            return;
        }
        share.waiting.push_back((place.clone(), waker.clone()));
        self.waiting += 1;
    }

    fn charge(&mut self, tenant: Tenant, time: Duration) {
        // Where nobody waits, nobody counts.
        if self.waiting > 0 {
            let share = self.share(tenant);
            share.credit = (share.credit - nanoseconds(time)).max(DEBT_MAX);
        }
    }

    /// Calls the next one. Returns whether there was one.
    fn call(&mut self) -> bool {
        while self.waiting > 0 {
            let is_new = !self.new.is_empty();
            let list = if is_new { &mut self.new } else { &mut self.old };
            let Some(share) = list.front_mut() else { return false };
            if share.credit <= 0 {
                // Its round is over, and it waits for the next one behind everybody else.
                share.credit += nanoseconds(QUANTUM);
                let share = list.pop_front();
                self.old.extend(share);
                continue;
            }
            let Some((place, waker)) = share.waiting.pop_front() else {
                // Nothing is saved up for later. Who comes back before the round is over is not new again.
                let share = list.pop_front();
                self.old.extend(share.filter(|_| is_new));
                continue;
            };
            self.waiting -= 1;
            // Dropped meanwhile, if it is not waiting.
            if place.get() == Place::Waiting {
                place.set(Place::Called);
                waker.wake();
                return true;
            }
        }
        // Debts end with the round.
        self.new.clear();
        self.old.clear();
        false
    }

    fn share(&mut self, tenant: Tenant) -> &mut Share {
        let known = |list: &VecDeque<Share>| list.iter().position(|share| share.tenant == tenant);
        if let Some(index) = known(&self.old) {
            return &mut self.old[index];
        }
        let index = known(&self.new).unwrap_or_else(|| {
            self.new.push_back(Share { tenant, credit: nanoseconds(QUANTUM), waiting: VecDeque::new() });
            self.new.len() - 1
        });
        &mut self.new[index]
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// What a tenant in line may use in a round.
const QUANTUM: Duration = TICK;
/// A slice that took longer (a big copy, a machine that stood still) is not held against its tenant for ever.
const DEBT_MAX: i64 = -100_000_000;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const A: Tenant = Tenant(1);
    const B: Tenant = Tenant(2);

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn guests_share_one_slice_of_a_turn() {
        let turns = Turns::default();
        let [first, second, third] = [Ticket::default(), Ticket::default(), Ticket::default()];
        assert!(turns.may_run(A, &first, &context()));
        turns.charge(A, &first, TICK / 2);
        assert!(turns.may_run(A, &second, &context()));
        turns.charge(A, &second, TICK / 2);
        assert!(!turns.may_run(B, &third, &context()), "the turn is used up");
        assert!(turns.may_run(A, &second, &context()), "the end of a short call is not");
        turns.next();
        assert!(turns.may_run(B, &third, &context()));
    }

    #[test]
    fn a_tenant_with_many_guests_gets_no_more_than_one_with_few() {
        let turns = Turns::default();
        let busy: Vec<Ticket> = (0..8).map(|_| Ticket::default()).collect();
        let neighbour = Ticket::default();
        let mut slices = [0, 0];
        turns.charge(A, &busy[0], TICK);
        for _ in 0..200 {
            turns.next();
            for ticket in &busy {
                if turns.may_run(A, ticket, &context()) {
                    slices[0] += 1;
                    turns.charge(A, ticket, TICK);
                }
            }
            if turns.may_run(B, &neighbour, &context()) {
                slices[1] += 1;
                turns.charge(B, &neighbour, TICK);
            }
        }
        assert!((95..=105).contains(&slices[0]) && (95..=105).contains(&slices[1]), "{slices:?}");
    }

    #[test]
    fn a_tenant_that_comes_now_and_then_is_called_before_all_that_compute() {
        let turns = Turns::default();
        let busy: Vec<(Tenant, Ticket)> = (10..20).map(|number| (Tenant(number), Ticket::default())).collect();
        let mut slices = [0; 10];
        turns.charge(busy[0].0, &busy[0].1, TICK);
        for turn in 0..1000 {
            turns.next();
            for ((tenant, ticket), slices) in busy.iter().zip(&mut slices) {
                if turns.may_run(*tenant, ticket, &context()) {
                    *slices += 1;
                    turns.charge(*tenant, ticket, 3 * TICK / 2);
                }
            }
            // Not at the beginning, when all are new.
            if turn % 20 == 19 {
                let neighbour = Ticket::default();
                assert!(!turns.may_run(B, &neighbour, &context()), "the turn is used up");
                turns.next();
                assert!(turns.may_run(B, &neighbour, &context()), "turn {turn}");
                turns.charge(B, &neighbour, TICK / 10);
            }
        }
        assert!(slices.iter().all(|slices| (90..=110).contains(slices)), "{slices:?}");
    }

    #[test]
    fn a_tenant_that_always_comes_back_is_not_always_new() {
        let turns = Turns::default();
        let busy = Ticket::default();
        turns.charge(A, &busy, TICK);
        let mut slices = [0, 0];
        for _ in 0..200 {
            // One short call after the other.
            let short = Ticket::default();
            assert!(!turns.may_run(A, &busy, &context()) && !turns.may_run(B, &short, &context()));
            turns.next();
            for (slices, (tenant, ticket)) in slices.iter_mut().zip([(A, &busy), (B, &short)]) {
                if turns.may_run(tenant, ticket, &context()) {
                    *slices += 1;
                    turns.charge(tenant, ticket, TICK);
                }
            }
        }
        assert!((95..=105).contains(&slices[0]) && (95..=105).contains(&slices[1]), "{slices:?}");
    }

    #[test]
    fn a_guest_that_goes_away_in_line_holds_nobody_up() {
        let turns = Turns::default();
        let runs = Ticket::default();
        turns.charge(A, &runs, TICK);
        let (gone, stays) = (Ticket::default(), Ticket::default());
        assert!(!turns.may_run(A, &gone, &context()));
        assert!(!turns.may_run(A, &stays, &context()));
        drop(gone);
        turns.next();
        assert!(turns.may_run(A, &stays, &context()));
    }
}
