//! The table: services, their destinations, timeouts and sync daemons.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::counters::TickedCounters;
use super::destination::KernelDestination;
use super::host::Host;
use super::key::{DestinationId, Key};
use super::service::KernelService;
use super::trash::Trash;

/// The smallest size of a connection table that the kernel resizes.
const FEWEST_BUCKETS: u32 = 256;

/// The state that commands change.
#[derive(Debug)]
pub(super) struct KernelTable {
    pub(super) services: BTreeMap<Key, KernelService>,
    /// Whether listings begin with the last service.
    pub(super) reversed: bool,
    pub(super) trash: Trash,
    /// The number of destinations whose family is not their service's.
    pub(super) mixed: usize,
    last_id: u64,
    /// The size of a connection table that the kernel resizes; 0 before the first service.
    buckets: u32,
    /// The timeouts in seconds: of established TCP, of TCP after a FIN, and of UDP.
    pub(super) timeouts: [u32; 3],
    pub(super) master: Option<KernelDaemon>,
    pub(super) backup: Option<KernelDaemon>,
}

/// A running sync daemon.
#[derive(Debug, Clone)]
pub(super) struct KernelDaemon {
    pub(super) interface: String,
    pub(super) sync_id: u32,
    pub(super) max_length: u16,
    pub(super) group: IpAddr,
    pub(super) port: u16,
    pub(super) ttl: u8,
}

impl Default for KernelTable {
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            reversed: false,
            trash: Trash::default(),
            mixed: 0,
            last_id: 0,
            buckets: 0,
            timeouts: [900, 120, 300],
            master: None,
            backup: None,
        }
    }
}

impl KernelTable {
    /// The services in the order of listings.
    pub(super) fn listed(&self) -> Box<dyn Iterator<Item = (&Key, &KernelService)> + '_> {
        let services = self.services.iter();
        if self.reversed { Box::new(services.rev()) } else { Box::new(services) }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Makes the buckets of the connection table, as the first service does.
    pub(super) fn has_service(&mut self) {
        self.buckets = self.buckets.max(FEWEST_BUCKETS);
    }

    /// The number of buckets of the connection table.
    pub(super) fn connection_table_size(&mut self, host: &Host) -> u32 {
        if host.resizes_connection_table {
            self.connection_buckets(host.connection_table_size)
        } else {
            host.connection_table_size
        }
    }

    /// The number of buckets, at most `most`, of a connection table that the kernel resizes. The
    /// table grows exactly when real kernels were seen to grow it, and shrinks nearly when they do.
    pub(super) fn connection_buckets(&mut self, most: u32) -> u32 {
        let live = self.services.values().flat_map(|service| &service.destinations);
        let connections: u64 = live.chain(self.trash.iter()).map(KernelDestination::entries).sum();
        let wanted = |share: u64| {
            let buckets = connections.saturating_mul(share).min(u64::from(u32::MAX / 2));
            u32::try_from(buckets).unwrap_or(u32::MAX).next_power_of_two().max(FEWEST_BUCKETS)
        };
        if self.buckets == 0 {
            return 0;
        }
        if wanted(256) <= self.buckets {
            self.buckets = wanted(32).min(self.buckets);
        }
        self.buckets = self.buckets.max(wanted(16).min(most));
        self.buckets
    }

    /// Removes a destination from its service; returns whether the service had it.
    pub(super) fn remove_destination(&mut self, key: Key, id: DestinationId, now: Instant) -> bool {
        let Some(service) = self.services.get_mut(&key) else { return false };
        let Some(index) = service.position(id) else { return false };
        service.turn.before_removal(&service.destinations, index);
        let destination = service.destinations.remove(index);
        service.turn.changed(&service.destinations);
        self.discard(key, destination, now);
        true
    }

    pub(super) fn remove_service(&mut self, key: Key, now: Instant) -> bool {
        let Some(service) = self.services.remove(&key) else { return false };
        for destination in service.destinations {
            self.discard(key, destination, now);
        }
        true
    }

    fn discard(&mut self, key: Key, destination: KernelDestination, now: Instant) {
        if destination.id.family != key.family() {
            self.mixed -= 1;
        }
        self.trash.put(destination, now);
    }

    /// The destination under its service or, failing that, in the trash.
    pub(super) fn destination_mut(
        &mut self,
        key: Key,
        id: DestinationId,
    ) -> Option<&mut KernelDestination> {
        let service = self.services.get_mut(&key);
        let live = service.and_then(|s| s.destinations.iter_mut().find(|d| d.id == id));
        match live {
            Some(live) => Some(live),
            None => self.trash.get_mut(&key, id),
        }
    }

    pub(super) fn zero(&mut self, key: Option<Key>) {
        let services = self.services.iter_mut().filter(|(k, _)| key.is_none_or(|key| key == **k));
        for (_, service) in services {
            service.each_counters(TickedCounters::zero);
        }
    }

    /// Has all counters show what they have counted since the last tick.
    pub(super) fn tick(&mut self) {
        self.services.values_mut().for_each(|service| service.each_counters(TickedCounters::tick));
        self.trash.iter_mut().for_each(|destination| destination.stats.tick());
    }
}
