//! Services and destinations as they are read: with counters and live connections.

use super::{Destination, Service, Stats};

/// A service in the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ServiceEntry {
    /// Its configuration.
    pub service: Service,
    /// The traffic that it has carried.
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
    /// The traffic that it has carried.
    pub stats: Stats,
}

impl ServiceEntry {
    /// An entry of a service that has carried nothing.
    pub fn new(service: Service) -> Self {
        Self { service, stats: Stats::default() }
    }

    /// The traffic that it has carried.
    #[must_use]
    pub fn stats(self, stats: Stats) -> Self {
        Self { stats, ..self }
    }
}

impl DestinationEntry {
    /// An entry of a destination that has carried nothing and has no connections.
    ///
    /// ```
    /// use ipvs_netlink::{Destination, DestinationEntry, Stats};
    ///
    /// let backend = Destination::masquerade([10, 0, 1, 1], 8080);
    /// let busy = DestinationEntry::new(backend)
    ///     .active_connections(7)
    ///     .stats(Stats::default().connections(1000));
    /// assert_eq!(busy.stats.connections, 1000);
    /// ```
    pub fn new(destination: Destination) -> Self {
        Self {
            destination,
            active_connections: 0,
            inactive_connections: 0,
            persistent_connections: 0,
            stats: Stats::default(),
        }
    }

    /// How many connections are in an established state.
    #[must_use]
    pub fn active_connections(self, active_connections: u32) -> Self {
        Self { active_connections, ..self }
    }

    /// How many connections are in any other state.
    #[must_use]
    pub fn inactive_connections(self, inactive_connections: u32) -> Self {
        Self { inactive_connections, ..self }
    }

    /// How many clients are bound to it.
    #[must_use]
    pub fn persistent_connections(self, persistent_connections: u32) -> Self {
        Self { persistent_connections, ..self }
    }

    /// The traffic that it has carried.
    #[must_use]
    pub fn stats(self, stats: Stats) -> Self {
        Self { stats, ..self }
    }
}

/// The kernel's whole table, with counters and live connections.
///
/// The table is read in several steps, and the kernel takes no snapshot: if others change the table
/// meanwhile, an entry may be missing, or a destination may be in it twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Table {
    /// The services. The kernel promises no order.
    pub services: Vec<TableService>,
}

/// A service of a [`Table`] with its destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TableService {
    /// The service.
    pub entry: ServiceEntry,
    /// Its destinations, newest first.
    pub destinations: Vec<DestinationEntry>,
}

impl TableService {
    /// A service with its destinations.
    pub fn new(entry: ServiceEntry, destinations: Vec<DestinationEntry>) -> Self {
        Self { entry, destinations }
    }
}

impl Table {
    /// The services.
    pub fn iter(&self) -> std::slice::Iter<'_, TableService> {
        self.services.iter()
    }
}

impl FromIterator<TableService> for Table {
    fn from_iter<I: IntoIterator<Item = TableService>>(services: I) -> Self {
        Self { services: services.into_iter().collect() }
    }
}

impl Extend<TableService> for Table {
    fn extend<I: IntoIterator<Item = TableService>>(&mut self, services: I) {
        self.services.extend(services);
    }
}

impl IntoIterator for Table {
    type Item = TableService;
    type IntoIter = std::vec::IntoIter<TableService>;

    fn into_iter(self) -> Self::IntoIter {
        self.services.into_iter()
    }
}

impl<'a> IntoIterator for &'a Table {
    type Item = &'a TableService;
    type IntoIter = std::slice::Iter<'a, TableService>;

    fn into_iter(self) -> Self::IntoIter {
        self.services.iter()
    }
}
