//! The fake kernel: the handle that tests hold, and the state behind it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::{later, whole_periods};
use super::faults::{Fault, PendingFaults};
use super::host::Host;
use super::sysctls::Sysctls;
use super::table::KernelTable;
use crate::release::Series;

/// A fake IPVS kernel in the process.
///
/// Clones are handles of the same kernel, and its [links](Self::link) lead to it as well: changes
/// made through one show through all.
#[derive(Clone)]
pub struct Kernel {
    state: Arc<Mutex<State>>,
}

/// The state behind the handles.
pub(super) struct State {
    pub(super) host: Host,
    pub(super) table: KernelTable,
    pub(super) sysctls: Sysctls,
    pub(super) now: Instant,
    /// The time at which counters moved last.
    ticked: Instant,
    pub(super) faults: PendingFaults,
    appointments: Vec<Appointment>,
    last_port: u32,
}

/// An act that is ordered for a time.
struct Appointment {
    at: Instant,
    act: Box<dyn FnOnce(&Kernel) + Send>,
}

impl Kernel {
    /// A kernel on a host that lacks nothing: see [`Host::default`].
    pub fn new() -> Self {
        Self::on(Host::default())
    }

    /// A kernel of this series on a host that lacks nothing.
    pub fn of_series(series: Series) -> Self {
        Self::on(Host::of_series(series))
    }

    /// A kernel on this host.
    pub fn on(host: Host) -> Self {
        let now = Instant::now();
        let state = State {
            host,
            table: KernelTable::default(),
            sysctls: Sysctls::default(),
            now,
            ticked: now,
            faults: PendingFaults::default(),
            appointments: Vec::new(),
            last_port: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Changes the host that the kernel runs on: its modules, interfaces and permissions.
    pub fn configure(&self, change: impl FnOnce(&mut Host)) {
        change(&mut self.lock().host);
    }

    /// Unloads the module and loads it again: the table, timeouts, sync daemons and sysctls are as
    /// at the start, and the family gets this number.
    pub fn reload(&self, family: u16) {
        let mut state = self.lock();
        state.table = KernelTable::default();
        state.sysctls.reset();
        state.host.family = Some(family);
    }

    /// Gives the table of services another order, as Linux 7.1 and later do when they resize the
    /// table. A listing under way goes on in the new order: some services come twice, and as many
    /// not at all.
    pub fn reorder_services(&self) {
        let table = &mut self.lock().table;
        table.reversed = !table.reversed;
    }

    /// The time of the kernel's clock. It moves only by [`advance`](Self::advance), and while a
    /// client waits for an answer that does not come or for connections to end.
    pub fn now(&self) -> Instant {
        self.lock().now
    }

    /// Lets time pass. The acts that [`after`](Self::after) has ordered for this time happen.
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

    /// Orders an act for the moment when this much time has passed by the kernel's clock: a
    /// connection ends, somebody else changes the table.
    pub fn after(&self, time: Duration, act: impl FnOnce(&Self) + Send + 'static) {
        let mut state = self.lock();
        let at = later(state.now, time);
        state.appointments.push(Appointment { at, act: Box::new(act) });
    }

    /// Orders a fault for a step. Step 1 is the next send or receive on any of the kernel's links.
    /// See [`Fault`].
    pub fn inject(&self, step: u64, fault: Fault) {
        self.lock().faults.add(step, fault);
    }

    /// Forgets the faults that have not struck yet.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// The number of sends and receives so far. The difference before and after a conversation
    /// tells how many steps it takes, so that a test can order a fault for each.
    pub fn steps(&self) -> u64 {
        self.lock().faults.steps
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is taken all the same, since every holder leaves the state whole.
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
