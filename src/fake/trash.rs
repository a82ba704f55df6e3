//! The trash: destinations that were removed, kept for a while with their connections.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::kernel::{later, whole_periods};
use super::table::{Destination, DestinationId, Key, canonical};

/// How long a removed destination is kept after its last connection, and how often it is looked
/// at.
const PERIOD: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_secs(60);

/// All removed destinations.
#[derive(Debug, Default)]
pub(super) struct Trash {
    /// Those that one service may find, the newest last.
    places: HashMap<Place, Vec<Trashed>>,
    tick: Option<Instant>,
}

/// Where a removed destination is looked for: what it has in common with all that find it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    /// 0 for a service with an address.
    mark: u32,
    protocol: u16,
    port: u16,
    /// As much of the service's address as families have in common.
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
    destination: Destination,
    idle_since: Option<Instant>,
}

/// Whether a service finds what was made under another: the family of marks is ignored, and
/// addresses are compared as those of the asking service's family.
fn finds(asking: &Key, origin: &Key) -> bool {
    match (*asking, *origin) {
        (Key::Address { family, address, .. }, Key::Address { address: origin, .. }) => {
            address == canonical(family, origin)
        }
        // Their place is the same.
        _ => true,
    }
}

impl Trash {
    pub(super) fn put(&mut self, destination: Destination, now: Instant) {
        self.tick.get_or_insert_with(|| later(now, TICK));
        let place = Place::new(&destination.origin, destination.id);
        self.places.entry(place).or_default().push(Trashed { destination, idle_since: None });
    }

    /// Takes a destination out that a service is to have again. What weight it had is forgotten.
    pub(super) fn take(&mut self, service: &Key, id: DestinationId) -> Option<Destination> {
        let place = Place::new(service, id);
        let found = self.places.get_mut(&place)?;
        let index = found.iter().rposition(|it| finds(service, &it.destination.origin))?;
        let destination = Destination { last_weight: 0, ..found.remove(index).destination };
        if found.is_empty() {
            self.places.remove(&place);
        }
        Some(destination)
    }

    /// A destination that a service would find.
    pub(super) fn get_mut(&mut self, service: &Key, id: DestinationId) -> Option<&mut Destination> {
        let found = self.places.get_mut(&Place::new(service, id))?.iter_mut();
        found
            .map(|trashed| &mut trashed.destination)
            .rfind(|destination| finds(service, &destination.origin))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.places.values().flatten().map(|trashed| &trashed.destination)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Destination> {
        self.places.values_mut().flatten().map(|trashed| &mut trashed.destination)
    }

    /// Forgets what has been idle for long enough. Nothing else changes meanwhile, so that the first
    /// and the last look at the trash tell what those between them do.
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
