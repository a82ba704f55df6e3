//! Services and destinations as they are read: with counters and live connections.

use super::{Destination, Service, Stats};

/// A service in the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ServiceEntry {
    /// Its configuration.
    pub service: Service,
    /// What it has carried.
    pub stats: Stats,
}

/// A destination in the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct DestinationEntry {
    /// Its configuration.
    pub destination: Destination,
    /// Connections in an established state.
    pub active_connections: u32,
    /// Connections in any other state.
    pub inactive_connections: u32,
    /// Persistence templates: clients bound to it.
    pub persistent_connections: u32,
    /// What it has carried.
    pub stats: Stats,
}

impl ServiceEntry {
    pub(crate) fn new(service: Service, stats: Stats) -> Self {
        Self { service, stats }
    }
}

impl DestinationEntry {
    pub(crate) fn new(destination: Destination, stats: Stats) -> Self {
        Self {
            destination,
            active_connections: 0,
            inactive_connections: 0,
            persistent_connections: 0,
            stats,
        }
    }
}

/// The kernel's whole table, with counters and live connections.
///
/// It is read in several steps and the kernel takes no snapshot: while others change the table, an
/// entry may be missing, or a destination show twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Table {
    /// The services, in no order that the kernel promises.
    pub services: Vec<TableService>,
}

/// A service of a [`Table`] with its destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TableService {
    /// The service.
    pub service: ServiceEntry,
    /// Its destinations, newest first.
    pub destinations: Vec<DestinationEntry>,
}

impl TableService {
    pub(crate) fn new(service: ServiceEntry, destinations: Vec<DestinationEntry>) -> Self {
        Self { service, destinations }
    }
}
