//! Connections: opening them through a service's scheduler, closing and counting them.

use std::fmt;

use super::destination::KernelDestination;
use super::kernel::Kernel;
use super::key::{DestinationId, Key};
use super::schedule::Refused;
use crate::model::{DestinationKey, Protocol, ServiceKey, Stats};

/// A connection for which a service's scheduler has chosen a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OpenConnection {
    /// The service.
    pub service: ServiceKey,
    /// The destination that was chosen.
    pub destination: DestinationKey,
}

/// Why a connection was not scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotScheduled {
    /// There is no such service.
    NoService,
    /// No destination takes connections: the service has none, or all of them have weight 0 or have
    /// reached their upper threshold. Under `sh` and `mh` without fallback, and under `dh`, it is
    /// enough that the destination of this client's share takes none.
    NoDestination,
    /// The service's scheduler is not modelled, or the service has none.
    NotModelled,
}

impl fmt::Display for NotScheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoService => "there is no such service",
            Self::NoDestination => "no destination takes the connection",
            Self::NotModelled => "the scheduler is not modelled",
        })
    }
}

impl std::error::Error for NotScheduled {}

impl Kernel {
    /// Opens a connection: runs it through the service's scheduler, as a client's first packet
    /// does, and counts it. The connection lasts until it is [closed](Self::close). The counters of
    /// traffic show it at the next [tick](super::Host::counter_tick).
    ///
    /// The connection counts as active in a service of TCP, SCTP or a mark, and as inactive in any
    /// other. Real kernels always count UDP as inactive, under a mark as well, and SCTP until its
    /// handshake is over; a test of these cases sets the numbers by
    /// [`set_connections`](Self::set_connections).
    ///
    /// The schedulers `rr`, `wrr`, `lc`, `wlc`, `sed`, `nq` and `fo` are modelled exactly, with
    /// weights, thresholds and the order of destinations. Not modelled are `lblc`, `lblcr`, `twos`
    /// and `ovf`, and persistence: each connection is a new client's.
    ///
    /// The schedulers `sh`, `mh` and `dh` hash addresses, which a connection lacks here: each
    /// connection is a new client's, and clients take the places of the scheduler's table in turn.
    /// Modelled are the size of each destination's share of the table; that a destination keeps its
    /// share at weight 0 and over its upper threshold, so that the clients in this share are
    /// refused; and that `sh` and `mh` with the fallback flag send these clients to the next
    /// destination instead. Under `dh` all clients of an address have one destination, and clients
    /// of a mark come to many addresses. Which client or address has which destination is not
    /// modelled.
    ///
    /// # Errors
    /// No destination was chosen.
    pub fn open(&self, service: impl Into<ServiceKey>) -> Result<OpenConnection, NotScheduled> {
        let service = service.into();
        let mut state = self.lock();
        let counts_at_once = state.host.counter_tick.is_zero();
        let key = Key::from(service);
        let entry = state.table.services.get_mut(&key).ok_or(NotScheduled::NoService)?;
        let index = entry.choose(key).map_err(|refused| match refused {
            Refused::NoDestination => NotScheduled::NoDestination,
            Refused::NotModelled => NotScheduled::NotModelled,
        })?;
        let destination = &mut entry.destinations[index];
        let count = count(destination, service);
        *count = count.saturating_add(1);
        destination.gained();
        for stats in [&mut destination.stats, &mut entry.stats] {
            stats.count_connection();
            if counts_at_once {
                stats.tick();
            }
        }
        Ok(OpenConnection { service, destination: destination.id.into() })
    }

    /// Ends a connection, even if its destination was removed meanwhile. If a test has
    /// [left](Self::set_connections) the destination no active connection, an inactive one ends.
    pub fn close(&self, connection: OpenConnection) {
        let OpenConnection { service, destination } = connection;
        self.edit(service, destination, |destination| {
            let count = match destination {
                KernelDestination { active: 0, inactive, .. } => inactive,
                _ => count(destination, service),
            };
            *count = count.saturating_sub(1);
            destination.lost();
        });
    }

    /// Sets the numbers of a destination's connections: active, inactive and persistent ones. This
    /// works for a removed destination, too, for as long as the kernel remembers it. Returns
    /// whether the destination was found.
    pub fn set_connections(
        &self,
        service: impl Into<ServiceKey>,
        destination: impl Into<DestinationKey>,
        active: u32,
        inactive: u32,
        persistent: u32,
    ) -> bool {
        self.edit(service.into(), destination.into(), |destination| {
            (destination.active, destination.inactive) = (active, inactive);
            destination.persistent = persistent;
            destination.lost();
            destination.gained();
        })
    }

    /// Sets the counters of a service, which show it at once. Returns whether the service was
    /// found.
    pub fn set_service_stats(&self, service: impl Into<ServiceKey>, stats: Stats) -> bool {
        let key = Key::from(service.into());
        let mut kernel = self.lock();
        let entry = kernel.table.services.get_mut(&key);
        entry.map(|entry| entry.stats.set(stats)).is_some()
    }

    /// Sets the counters of a destination, which show it at once. Returns whether the destination
    /// was found.
    pub fn set_destination_stats(
        &self,
        service: impl Into<ServiceKey>,
        destination: impl Into<DestinationKey>,
        stats: Stats,
    ) -> bool {
        self.edit(service.into(), destination.into(), |destination| destination.stats.set(stats))
    }

    fn edit(
        &self,
        service: ServiceKey,
        destination: DestinationKey,
        change: impl FnOnce(&mut KernelDestination),
    ) -> bool {
        let mut state = self.lock();
        let id = DestinationId::from(destination);
        state.table.destination_mut(Key::from(service), id).map(change).is_some()
    }
}

/// The count to which a connection of this service belongs.
fn count(destination: &mut KernelDestination, service: ServiceKey) -> &mut u32 {
    match service {
        ServiceKey::Address { protocol: Protocol::TCP | Protocol::SCTP, .. }
        | ServiceKey::Mark { .. } => &mut destination.active,
        ServiceKey::Address { .. } => &mut destination.inactive,
    }
}
