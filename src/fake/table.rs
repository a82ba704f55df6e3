//! The table: services, their destinations, timeouts and sync daemons.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use super::counters::Counters;
use super::schedule::Turn;
use super::trash::Trash;
use crate::model::{DestinationKey, Family, ServiceKey};
use crate::wire::uapi::{AF_INET, AF_INET6};

/// The smallest table of connections that is resized.
const FEWEST_BUCKETS: u32 = 256;

/// An address as the kernel keeps it: an IPv4 one in the first four bytes, the rest zero.
pub(super) type Address = [u8; 16];

/// What identifies a service. The order is that of listings: scrambled, since the kernel promises
/// none, but firewall marks last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Address { scramble: u32, family: u16, protocol: u16, address: Address, port: u16 },
    Mark { family: u16, mark: u32 },
}

impl Key {
    pub(super) fn address(family: u16, protocol: u16, address: Address, port: u16) -> Self {
        let address = canonical(family, address);
        let scramble = address
            .iter()
            .chain(&port.to_ne_bytes())
            .chain(&protocol.to_ne_bytes())
            .fold(0x811c_9dc5_u32, |hash, &byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
        Self::Address { scramble, family, protocol, address, port }
    }

    pub(super) fn family(&self) -> u16 {
        match *self {
            Self::Address { family, .. } | Self::Mark { family, .. } => family,
        }
    }
}

impl From<ServiceKey> for Key {
    fn from(key: ServiceKey) -> Self {
        match key {
            ServiceKey::Address { protocol, address, port } => {
                let (family, address) = address_of(address);
                Self::address(family, protocol.0, address, port)
            }
            ServiceKey::Mark { mark, family } => {
                let family = match family {
                    Family::V4 => AF_INET,
                    Family::V6 => AF_INET6,
                };
                Self::Mark { family, mark: mark.get() }
            }
        }
    }
}

/// Without what lies behind an IPv4 address.
pub(super) fn canonical(family: u16, mut address: Address) -> Address {
    if family == AF_INET {
        address[4..].fill(0);
    }
    address
}

pub(super) fn address_of(address: IpAddr) -> (u16, Address) {
    match address {
        IpAddr::V4(v4) => {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&v4.octets());
            (AF_INET, address)
        }
        IpAddr::V6(v6) => (AF_INET6, v6.octets()),
    }
}

pub(super) fn ip(family: u16, address: Address) -> IpAddr {
    match (family, address) {
        (AF_INET, [a, b, c, d, ..]) => Ipv4Addr::new(a, b, c, d).into(),
        _ => Ipv6Addr::from(address).into(),
    }
}

/// A service as the kernel keeps it.
#[derive(Debug)]
pub(super) struct Service {
    /// Never used twice: a service removed and added again is another.
    pub(super) id: u64,
    /// `None` where no scheduler is bound.
    pub(super) scheduler: Option<String>,
    pub(super) engine: Option<String>,
    pub(super) flags: u32,
    /// In ticks, which wrap.
    pub(super) timeout: u32,
    /// As it came: nobody here looks into it.
    pub(super) netmask: [u8; 4],
    pub(super) stats: Counters,
    /// Oldest first, so that adding one is cheap; listings go backwards.
    pub(super) destinations: Vec<Destination>,
    pub(super) turn: Turn,
}

impl Service {
    pub(super) fn position(&self, id: DestinationId) -> Option<usize> {
        self.destinations.iter().position(|destination| destination.id == id)
    }

    /// Does something to the service's counters and to those of its destinations.
    fn each_counters(&mut self, change: impl Fn(&mut Counters)) {
        change(&mut self.stats);
        self.destinations.iter_mut().for_each(|destination| change(&mut destination.stats));
    }
}

/// What identifies a destination under its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DestinationId {
    pub(super) family: u16,
    pub(super) port: u16,
    pub(super) address: Address,
}

impl From<DestinationKey> for DestinationId {
    fn from(key: DestinationKey) -> Self {
        let (family, address) = address_of(key.address);
        Self { family, address, port: key.port }
    }
}

impl From<DestinationId> for DestinationKey {
    fn from(id: DestinationId) -> Self {
        Self::new(ip(id.family, id.address), id.port)
    }
}

/// What can be written of a destination.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
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
pub(super) struct Destination {
    pub(super) id: DestinationId,
    /// The service that it was made under.
    pub(super) origin: Key,
    /// Of the service that it was bound to last.
    pub(super) service: u64,
    pub(super) settings: Settings,
    /// The weight before it was set to 0, which `mh` goes by.
    pub(super) last_weight: u32,
    pub(super) active: u32,
    pub(super) inactive: u32,
    pub(super) persistent: u32,
    /// Whether it has reached its upper threshold and not yet fallen below the lower one.
    pub(super) overloaded: bool,
    pub(super) stats: Counters,
}

impl Destination {
    pub(super) fn new(id: DestinationId, origin: Key) -> Self {
        Self {
            id,
            origin,
            service: 0,
            settings: Settings::default(),
            last_weight: 0,
            active: 0,
            inactive: 0,
            persistent: 0,
            overloaded: false,
            stats: Counters::default(),
        }
    }

    fn connections(&self) -> u64 {
        u64::from(self.active) + u64::from(self.inactive)
    }

    /// All that the table of connections has of it, templates for persistence too.
    pub(super) fn entries(&self) -> u64 {
        self.connections() + u64::from(self.persistent)
    }

    /// Gets new settings; where thresholds are not rechecked, a higher one or none is a relief, and a
    /// lower one shows at the next connection.
    pub(super) fn write(&mut self, settings: Settings, rechecks_thresholds: bool) {
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

    /// After a connection came.
    pub(super) fn gained(&mut self) {
        let upper = u64::from(self.settings.upper_threshold);
        if upper != 0 && self.connections() >= upper {
            self.overloaded = true;
        }
    }

    /// After a connection went.
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

/// All that the commands change.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) services: BTreeMap<Key, Service>,
    /// Whether listings begin with the last service.
    pub(super) reversed: bool,
    pub(super) trash: Trash,
    /// How many destinations are of another family than their service.
    pub(super) mixed: usize,
    last_id: u64,
    /// Of a table of connections that is resized; 0 while there has been no service.
    buckets: u32,
    /// Seconds: established TCP, TCP after a FIN, UDP.
    pub(super) timeouts: [u32; 3],
    pub(super) master: Option<Daemon>,
    pub(super) backup: Option<Daemon>,
}

/// A running sync daemon.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    pub(super) interface: String,
    pub(super) sync_id: u32,
    pub(super) max_length: u16,
    pub(super) group: IpAddr,
    pub(super) port: u16,
    pub(super) ttl: u8,
}

impl Default for Table {
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

impl Table {
    /// The services in the order of listings.
    pub(super) fn listed(&self) -> Box<dyn Iterator<Item = (&Key, &Service)> + '_> {
        let services = self.services.iter();
        if self.reversed { Box::new(services.rev()) } else { Box::new(services) }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A service is there, and so are buckets for its connections.
    pub(super) fn has_service(&mut self) {
        self.buckets = self.buckets.max(FEWEST_BUCKETS);
    }

    /// How many buckets a table of connections has that is resized, of `most` at most. Where it grows
    /// was seen exactly; where it shrinks, nearly.
    pub(super) fn connection_buckets(&mut self, most: u32) -> u32 {
        let live = self.services.values().flat_map(|service| &service.destinations);
        let connections: u64 = live.chain(self.trash.iter()).map(Destination::entries).sum();
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

    /// Removes a destination from its service; returns whether it was there.
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

    fn discard(&mut self, key: Key, destination: Destination, now: Instant) {
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
    ) -> Option<&mut Destination> {
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
            service.each_counters(Counters::zero);
        }
    }

    /// Shows what was counted since the last tick.
    pub(super) fn tick(&mut self) {
        self.services.values_mut().for_each(|service| service.each_counters(Counters::tick));
        self.trash.iter_mut().for_each(|destination| destination.stats.tick());
    }
}
