//! Counters, which the kernel counts at once and shows at its next tick.

use crate::model::Stats;

/// The counters of a service or a destination.
#[derive(Debug, Default)]
pub(super) struct Counters {
    shown: Stats,
    /// Connections since the last tick.
    pending: u64,
}

impl Counters {
    /// What the kernel says.
    pub(super) fn shown(&self) -> &Stats {
        &self.shown
    }

    pub(super) fn set(&mut self, stats: Stats) {
        *self = Self { shown: stats, pending: 0 };
    }

    pub(super) fn count_connection(&mut self) {
        self.pending += 1;
    }

    pub(super) fn tick(&mut self) {
        self.shown.connections += std::mem::take(&mut self.pending);
    }

    /// As `ZERO` does it: what is not shown yet counts from here.
    pub(super) fn zero(&mut self) {
        self.shown = Stats::default();
    }
}
