//! Counters, which count at once and show it at the next tick.

use crate::model::Stats;

/// The counters of a service or a destination. They are small until something is counted: in a
/// table of a million destinations, most have counted nothing.
#[derive(Debug, Default)]
pub(super) struct TickedCounters(Option<Box<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    shown: Stats,
    /// Connections since the last tick.
    pending: u64,
}

impl TickedCounters {
    /// The counters as the kernel shows them.
    pub(super) fn shown(&self) -> Stats {
        self.0.as_ref().map_or_else(Stats::default, |counted| counted.shown)
    }

    pub(super) fn set(&mut self, stats: Stats) {
        self.0 = Some(Box::new(Counted { shown: stats, pending: 0 }));
    }

    pub(super) fn count_connection(&mut self) {
        self.0.get_or_insert_default().pending += 1;
    }

    pub(super) fn tick(&mut self) {
        if let Some(counted) = &mut self.0 {
            // The kernel's counters wrap.
            let pending = std::mem::take(&mut counted.pending);
            counted.shown.connections = counted.shown.connections.wrapping_add(pending);
        }
    }

    /// Sets the counters to zero as the command `ZERO` does: connections that the counters do not
    /// show yet are still added at the next tick.
    pub(super) fn zero(&mut self) {
        if let Some(counted) = &mut self.0 {
            counted.shown = Stats::default();
        }
    }
}
