//! The kernel: the handle that tests hold, and the state behind it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Fault;
use super::faults::Plan;
use super::host::Host;
use super::link::Link;
use super::release::Version;
use super::sysctls::Sysctls;
use super::table::Table;

/// An IPVS kernel in the process.
///
/// Clones are handles of the same kernel, and so are its [links](Self::link): changes made through
/// one show through all.
#[derive(Clone)]
pub struct Kernel {
    state: Arc<Mutex<State>>,
}

/// All there is behind the handles.
pub(super) struct State {
    pub(super) host: Host,
    pub(super) table: Table,
    pub(super) sysctls: Sysctls,
    pub(super) now: Instant,
    /// When counters moved last.
    ticked: Instant,
    pub(super) plan: Plan,
    appointments: Vec<Appointment>,
    last_port: u32,
}

/// Something to do when its time has come.
struct Appointment {
    at: Instant,
    act: Box<dyn FnOnce(&Kernel) + Send>,
}

impl Kernel {
    /// A kernel on a host with all that it takes: see [`Host::default`].
    pub fn new() -> Self {
        Self::on(Host::default())
    }

    /// A kernel of this version, otherwise like [`new`](Self::new).
    pub fn of_version(version: Version) -> Self {
        Self::on(Host::new(version))
    }

    /// A kernel on this host.
    pub fn on(host: Host) -> Self {
        let now = Instant::now();
        let state = State {
            host,
            table: Table::default(),
            sysctls: Sysctls::default(),
            now,
            ticked: now,
            plan: Plan::default(),
            appointments: Vec::new(),
            last_port: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A connection to the kernel, as a netlink socket is one; for a client to
    /// [`connect_with`](crate::blocking::Client::connect_with).
    pub fn link(&self) -> Link {
        Link::new(self.clone(), true)
    }

    /// A connection that faults pass by and whose steps are not counted: for a test to look at the
    /// table while its subject struggles.
    pub fn observer(&self) -> Link {
        Link::new(self.clone(), false)
    }

    /// Changes the host that the kernel runs on: what is at hand, what is allowed.
    pub fn configure(&self, change: impl FnOnce(&mut Host)) {
        change(&mut self.lock().host);
    }

    /// Unloads the module and loads it again: table, timeouts, sync daemons and
    /// sysctls are as at first, and the family has this number.
    pub fn reload(&self, family: u16) {
        let mut state = self.lock();
        state.table = Table::default();
        state.sysctls.reset();
        state.host.family = Some(family);
    }

    /// Gives the table of services another order, as Linux does from 7.1 on when it resizes the
    /// table. A listing under way goes on in the new order: some services come twice, and as many
    /// not at all.
    pub fn reorder_services(&self) {
        let table = &mut self.lock().table;
        table.reversed = !table.reversed;
    }

    /// The time by the kernel's clock, which moves only by [`advance`](Self::advance) and while a
    /// client waits for an answer that does not come.
    pub fn now(&self) -> Instant {
        self.lock().now
    }

    /// Lets time pass, and what was to happen [`after`](Self::after) a while happen.
    pub fn advance(&self, time: Duration) {
        let until = later(self.now(), time);
        self.advance_to(until);
    }

    pub(super) fn advance_to(&self, until: Instant) {
        loop {
            let mut state = self.lock();
            let due = state.appointments.iter().enumerate().filter(|(_, a)| a.at <= until);
            let Some(index) = due.min_by_key(|(_, a)| a.at).map(|(index, _)| index) else {
                state.pass_time(until);
                return;
            };
            let Appointment { at, act } = state.appointments.remove(index);
            state.pass_time(at);
            drop(state);
            act(self);
        }
    }

    /// Does something when this much time has passed by the kernel's clock: a connection ends,
    /// someone else changes the table.
    pub fn after(&self, time: Duration, act: impl FnOnce(&Self) + Send + 'static) {
        let mut state = self.lock();
        let at = later(state.now, time);
        state.appointments.push(Appointment { at, act: Box::new(act) });
    }

    /// Orders a fault for a step: 1 is the next send or receive on any of the kernel's links. See
    /// [`Fault`].
    pub fn inject(&self, step: u64, fault: Fault) {
        self.lock().plan.add(step, fault);
    }

    /// Forgets the faults that have not struck yet.
    pub fn clear_faults(&self) {
        self.lock().plan.clear();
    }

    /// How many sends and receives there have been. The difference tells how many steps a
    /// conversation takes, so that a test can order a fault for each.
    pub fn steps(&self) -> u64 {
        self.lock().plan.steps
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Between locks the state is whole, whatever became of who held it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn next_port(&mut self) -> u32 {
        self.last_port += 1;
        self.last_port
    }

    fn pass_time(&mut self, until: Instant) {
        self.now = self.now.max(until);
        self.table.trash.pass_time(self.now);
        let since = self.now - self.ticked;
        let tick = self.host.counter_tick;
        if since >= tick {
            self.table.tick();
            self.ticked += whole_periods(since, tick);
        }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Kernel")
            .field("host", &state.host)
            .field("services", &state.table.services.len())
            .finish_non_exhaustive()
    }
}

/// A time of the kernel's clock; one that the clock cannot tell is some decades away, or now where
/// the clock is at its end.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(1 << 30);
    now.checked_add(time).or_else(|| now.checked_add(DECADES)).unwrap_or(now)
}

/// The part of a time that is whole periods; all of it where the period is 0.
pub(super) fn whole_periods(time: Duration, period: Duration) -> Duration {
    let beyond = time.as_nanos().checked_rem(period.as_nanos()).unwrap_or(0);
    time.saturating_sub(Duration::from_nanos(u64::try_from(beyond).unwrap_or(0)))
}
