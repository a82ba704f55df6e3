//! A service as the kernel keeps it.

use super::counters::TickedCounters;
use super::destination::KernelDestination;
use super::key::{DestinationId, Key};
use super::schedule::{Refused, SchedulerTurn};
use crate::uapi::ipvs::service;

/// A service as the kernel keeps it.
#[derive(Debug)]
pub(super) struct KernelService {
    /// A number that is never used twice: a service that is removed and added again is another.
    pub(super) id: u64,
    /// `None` if the service has no scheduler.
    pub(super) scheduler: Option<String>,
    pub(super) engine: Option<String>,
    pub(super) flags: u32,
    /// The persistence timeout in ticks, which wrap.
    pub(super) timeout: u32,
    /// The bytes of the request, which the fake kernel does not interpret.
    pub(super) netmask: [u8; 4],
    pub(super) stats: TickedCounters,
    /// The destinations, oldest first, so that adding one is cheap; listings go backwards.
    pub(super) destinations: Vec<KernelDestination>,
    pub(super) turn: SchedulerTurn,
}

impl KernelService {
    /// The index of the destination that its scheduler gives the next connection.
    pub(super) fn choose(&mut self, key: Key) -> Result<usize, Refused> {
        let falls_back = self.flags & service::SCHEDULER_1 != 0;
        self.turn.choose(self.scheduler.as_deref(), falls_back, key, &self.destinations)
    }

    pub(super) fn position(&self, id: DestinationId) -> Option<usize> {
        self.destinations.iter().position(|destination| destination.id == id)
    }

    /// Changes the counters of the service and of each of its destinations.
    pub(super) fn each_counters(&mut self, change: impl Fn(&mut TickedCounters)) {
        change(&mut self.stats);
        self.destinations.iter_mut().for_each(|destination| change(&mut destination.stats));
    }
}
