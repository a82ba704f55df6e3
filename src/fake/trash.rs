//! The trash: removed destinations, which the kernel keeps for a while with their connections.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::clock::{later, whole_periods};
use super::destination::KernelDestination;
use super::key::{DestinationId, Key, canonical};

/// How long the kernel keeps a removed destination after its last connection, and the interval at
/// which it looks at the trash.
const PERIOD: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_secs(60);

/// All removed destinations.
#[derive(Debug, Default)]
pub(super) struct Trash {
    /// The destinations by the place under which services look for them, the newest last.
    places: HashMap<Place, Vec<Trashed>>,
    tick: Option<Instant>,
}

/// The key under which a removed destination is kept. All services that may find the destination
/// have the same key.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    /// The firewall mark; 0 for a service with an address.
    mark: u32,
    protocol: u16,
    port: u16,
    /// The first four bytes of the service's address, of either family.
    address: [u8; 4],
    id: DestinationId,
}

impl Place {
    fn new(service: &Key, id: DestinationId) -> Self {
        match *service {
            Key::Mark { mark, .. } => Self { mark, protocol: 0, port: 0, address: [0; 4], id },
            Key::Address { protocol, port, address: [a, b, c, d, ..], .. } => {
                Self { mark: 0, protocol, port, address: [a, b, c, d], id }
            }
        }
    }
}

/// A removed destination.
#[derive(Debug)]
struct Trashed {
    destination: KernelDestination,
    idle_since: Option<Instant>,
}

/// Whether a service finds a destination that was made under another service. The families of marks
/// are ignored, and addresses are compared as addresses of the asking service's family.
fn finds(asking: &Key, origin: &Key) -> bool {
    match (*asking, *origin) {
        (Key::Address { family, address, .. }, Key::Address { address: origin, .. }) => {
            address == canonical(family, origin)
        }
        // Services of a mark have the same place only if the mark is the same.
        _ => true,
    }
}

impl Trash {
    pub(super) fn put(&mut self, destination: KernelDestination, now: Instant) {
        self.tick.get_or_insert_with(|| later(now, TICK));
        let place = Place::new(&destination.origin, destination.id);
        self.places.entry(place).or_default().push(Trashed { destination, idle_since: None });
    }

    /// Takes out a destination for a service that adds it again. The kernel forgets its last
    /// weight.
    pub(super) fn take(&mut self, service: &Key, id: DestinationId) -> Option<KernelDestination> {
        let place = Place::new(service, id);
        let found = self.places.get_mut(&place)?;
        let index = found.iter().rposition(|it| finds(service, &it.destination.origin))?;
        let destination = KernelDestination { last_weight: 0, ..found.remove(index).destination };
        if found.is_empty() {
            self.places.remove(&place);
        }
        Some(destination)
    }

    /// The destination that a service would find.
    pub(super) fn get_mut(
        &mut self,
        service: &Key,
        id: DestinationId,
    ) -> Option<&mut KernelDestination> {
        let found = self.places.get_mut(&Place::new(service, id))?.iter_mut();
        found
            .map(|trashed| &mut trashed.destination)
            .rfind(|destination| finds(service, &destination.origin))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KernelDestination> {
        self.places.values().flatten().map(|trashed| &trashed.destination)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut KernelDestination> {
        self.places.values_mut().flatten().map(|trashed| &mut trashed.destination)
    }

    /// Forgets destinations that have been idle for long enough. The kernel looks at the trash at
    /// each tick. Since nothing else changes meanwhile, the first and the last look have the effect
    /// of all.
    pub(super) fn pass_time(&mut self, now: Instant) {
        let Some(first) = self.tick.filter(|tick| *tick <= now) else { return };
        let last = first + whole_periods(now - first, TICK);
        self.places.retain(|_, found| {
            found.retain_mut(|trashed| {
                if trashed.destination.entries() > 0 {
                    trashed.idle_since = None;
                    return true;
                }
                last - *trashed.idle_since.get_or_insert(first) < PERIOD
            });
            !found.is_empty()
        });
        self.tick = (!self.places.is_empty()).then(|| later(last, TICK));
    }
}
