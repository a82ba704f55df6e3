//! The table: services, their destinations, and the trash of removed destinations.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::schedule::Turn;
use crate::model::{DestinationKey, Family, ServiceKey, Stats};
use crate::wire::uapi::{AF_INET, AF_INET6};

/// How long a removed destination is kept after its last connection, and how often it is looked
/// at.
const TRASH_PERIOD: Duration = Duration::from_secs(120);
const TRASH_TICK: Duration = Duration::from_secs(60);

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
    pub(super) stats: Stats,
    /// Oldest first, so that adding one is cheap; listings go backwards.
    pub(super) destinations: Vec<Destination>,
    pub(super) turn: Turn,
}

impl Service {
    pub(super) fn position(&self, id: DestinationId) -> Option<usize> {
        self.destinations.iter().position(|destination| destination.id == id)
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
    pub(super) stats: Stats,
}

impl Destination {
    pub(super) fn new(id: DestinationId) -> Self {
        Self {
            id,
            service: 0,
            settings: Settings::default(),
            last_weight: 0,
            active: 0,
            inactive: 0,
            persistent: 0,
            overloaded: false,
            stats: Stats::default(),
        }
    }

    fn connections(&self) -> u64 {
        u64::from(self.active) + u64::from(self.inactive)
    }

    fn is_idle(&self) -> bool {
        self.connections() + u64::from(self.persistent) == 0
    }

    pub(super) fn write(&mut self, settings: Settings) {
        self.settings = settings;
        if settings.weight > 0 {
            self.last_weight = settings.weight;
        }
        self.lost();
        self.gained();
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

/// A removed destination, kept for a while with its connections.
#[derive(Debug)]
pub(super) struct Trashed {
    destination: Destination,
    idle_since: Option<Instant>,
}

/// All that the commands change.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) services: BTreeMap<Key, Service>,
    /// By the service's key, not its identity: a service added again finds its destinations.
    pub(super) trash: HashMap<(Key, DestinationId), Trashed>,
    trash_tick: Option<Instant>,
    /// How many destinations are of another family than their service.
    pub(super) mixed: usize,
    last_id: u64,
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
            trash: HashMap::new(),
            trash_tick: None,
            mixed: 0,
            last_id: 0,
            timeouts: [900, 120, 300],
            master: None,
            backup: None,
        }
    }
}

impl Table {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Takes a destination out of the trash, where it waits for its service. What weight it had is
    /// forgotten.
    pub(super) fn revive(&mut self, service: Key, id: DestinationId) -> Option<Destination> {
        let Trashed { destination, .. } = self.trash.remove(&(service, id))?;
        Some(Destination { last_weight: 0, ..destination })
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
        self.trash_tick.get_or_insert(now + TRASH_TICK);
        let id = destination.id;
        self.trash.insert((key, id), Trashed { destination, idle_since: None });
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
            None => self.trash.get_mut(&(key, id)).map(|trashed| &mut trashed.destination),
        }
    }

    /// Empties the trash of what has been idle for long enough.
    pub(super) fn pass_time(&mut self, now: Instant) {
        while let Some(tick) = self.trash_tick.filter(|tick| *tick <= now) {
            self.trash.retain(|_, trashed| {
                if !trashed.destination.is_idle() {
                    trashed.idle_since = None;
                    return true;
                }
                tick < *trashed.idle_since.get_or_insert(tick) + TRASH_PERIOD
            });
            self.trash_tick = (!self.trash.is_empty()).then_some(tick + TRASH_TICK);
        }
    }

    pub(super) fn zero(&mut self, key: Option<Key>) {
        let services = self.services.iter_mut().filter(|(k, _)| key.is_none_or(|key| key == **k));
        for (_, service) in services {
            service.stats = Stats::default();
            for destination in &mut service.destinations {
                destination.stats = Stats::default();
            }
        }
    }
}
