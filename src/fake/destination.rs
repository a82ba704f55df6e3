//! A destination as the kernel keeps it.

use super::counters::TickedCounters;
use super::key::{DestinationId, Key};

/// The part of a destination that requests write.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DestinationSettings {
    pub(super) forwarding: u32,
    pub(super) weight: u32,
    pub(super) upper_threshold: u32,
    pub(super) lower_threshold: u32,
    pub(super) tunnel_type: u8,
    pub(super) tunnel_port: u16,
    pub(super) tunnel_flags: u16,
}

/// A destination as the kernel keeps it.
#[derive(Debug)]
pub(super) struct KernelDestination {
    pub(super) id: DestinationId,
    /// The service under which it was made.
    pub(super) origin: Key,
    /// The id of the service to which it was bound last.
    pub(super) service: u64,
    pub(super) settings: DestinationSettings,
    /// The last weight above 0, by which `mh` computes shares.
    pub(super) last_weight: u32,
    pub(super) active: u32,
    pub(super) inactive: u32,
    pub(super) persistent: u32,
    /// Whether it has reached its upper threshold and not yet fallen below the lower one.
    pub(super) overloaded: bool,
    pub(super) stats: TickedCounters,
}

impl KernelDestination {
    pub(super) fn new(id: DestinationId, origin: Key) -> Self {
        Self {
            id,
            origin,
            service: 0,
            settings: DestinationSettings::default(),
            last_weight: 0,
            active: 0,
            inactive: 0,
            persistent: 0,
            overloaded: false,
            stats: TickedCounters::default(),
        }
    }

    fn connections(&self) -> u64 {
        u64::from(self.active) + u64::from(self.inactive)
    }

    /// The number of its entries in the connection table, persistence templates included.
    pub(super) fn entries(&self) -> u64 {
        self.connections() + u64::from(self.persistent)
    }

    /// Takes new settings. A kernel that does not recheck thresholds ends the overload if the upper
    /// threshold is raised or removed, and notices a lowered one only at the next connection.
    pub(super) fn write(&mut self, settings: DestinationSettings, rechecks_thresholds: bool) {
        let before = std::mem::replace(&mut self.settings, settings).upper_threshold;
        if settings.weight > 0 {
            self.last_weight = settings.weight;
        }
        if rechecks_thresholds {
            self.lost();
            self.gained();
        } else if settings.upper_threshold == 0 || settings.upper_threshold > before {
            self.overloaded = false;
        }
    }

    /// Notices an overload after a connection has come.
    pub(super) fn gained(&mut self) {
        let upper = u64::from(self.settings.upper_threshold);
        if upper != 0 && self.connections() >= upper {
            self.overloaded = true;
        }
    }

    /// Notices the end of an overload after a connection has gone.
    pub(super) fn lost(&mut self) {
        let upper = u64::from(self.settings.upper_threshold);
        let lower = u64::from(self.settings.lower_threshold);
        let relieved = match (lower, upper) {
            (0, 0) => true,
            (0, upper) => self.connections() * 4 < upper * 3,
            (lower, _) => self.connections() < lower,
        };
        if relieved {
            self.overloaded = false;
        }
    }
}
