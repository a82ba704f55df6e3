//! The kernel of the universe: a table of a few services, and the kernel's answers to operations.

use std::net::{IpAddr, Ipv4Addr};

use super::super::{Listing, Outcome};
use super::world::{SCHEDULER, Setting};
use crate::model::{Destination, DestinationKey, Forwarding, Scheduler, Service, ServiceKey};
use crate::protocol::Operation;
use crate::ruleset::{Allowed, ConnectionCounts, Ruleset};

pub(super) const SERVICES: usize = 2;
pub(super) const DESTINATIONS: usize = 3;

/// A destination: the number of its service, and its own number.
pub(super) type Place = (usize, usize);

/// The configuration of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Backend {
    pub(super) weight: u8,
    /// Whether it has a threshold, as no wanted destination has.
    pub(super) is_other: bool,
}

/// The configuration of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Vip {
    pub(super) scheduler: Scheduler,
    pub(super) backends: [Option<Backend>; DESTINATIONS],
}

/// The configuration of all services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Table(pub(super) [Option<Vip>; SERVICES]);

/// The kernel's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Kernel {
    pub(super) table: Table,
    /// The connections of each destination; a destination that is removed and added again still has
    /// them.
    pub(super) connections: [[u8; DESTINATIONS]; SERVICES],
    pub(super) quirk: Quirk,
}

/// A value that the kernel does not take, or an act that others repeat all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Quirk {
    #[default]
    None,
    /// `EINVAL` for this destination.
    NoRoute(Place),
    /// `ENOENT` for the scheduler of this service, new or unbound.
    NoScheduler(usize),
    /// A weight of 2 reads back as 1.
    Keeps1,
    /// Others remove this destination after each write.
    Rival(Place),
}

impl Vip {
    /// Whether a new connection finds a destination.
    pub(super) fn serves(&self) -> bool {
        let mut backends = self.backends.iter().flatten();
        !self.is_unbound() && backends.any(|backend| backend.weight > 0)
    }

    /// Whether the service has no scheduler, as a new service of `mh` until its destinations are
    /// added.
    pub(super) fn is_unbound(&self) -> bool {
        self.scheduler == Scheduler::Unbound
    }

    /// Whether a destination of weight 0 keeps its share of the clients, who are refused.
    pub(super) fn refuses_for_the_quiet(&self) -> bool {
        match self.scheduler {
            Scheduler::SourceHash(options) | Scheduler::MaglevHash(options) => !options.fallback,
            Scheduler::DestinationHash => true,
            _ => false,
        }
    }

    /// Whether a drain would refuse clients: the fallback option cannot be set.
    pub(super) fn refuses_during_drains(&self, setting: &Setting) -> bool {
        let has_option = self.with_fallback().scheduler != self.scheduler;
        let sets_option = has_option && setting.allows([Allowed::UPDATE_SERVICES]);
        self.refuses_for_the_quiet() && !sets_option
    }

    /// The service with the fallback option of its scheduler.
    pub(super) fn with_fallback(self) -> Self {
        let scheduler = match self.scheduler {
            Scheduler::SourceHash(options) => Scheduler::SourceHash(options.fallback(true)),
            Scheduler::MaglevHash(options) => Scheduler::MaglevHash(options.fallback(true)),
            other => other,
        };
        Self { scheduler, ..self }
    }
}

impl Table {
    /// Whether a service exists without a scheduler.
    pub(super) fn is_unbound(&self, service: usize) -> bool {
        self.0[service].is_some_and(|vip| vip.is_unbound())
    }

    /// The table with another scheduler in the place of the usual one.
    pub(super) fn scheduled_by(mut self, scheduler: Scheduler) -> Self {
        for vip in self.0.iter_mut().flatten().filter(|vip| vip.scheduler == SCHEDULER) {
            vip.scheduler = scheduler;
        }
        self
    }

    pub(super) fn backend(&self, (service, destination): Place) -> Option<Backend> {
        self.0[service].as_ref()?.backends[destination]
    }

    /// Changes the table as the kernel does, in the order of its checks.
    pub(super) fn run(&mut self, operation: &Operation) -> Outcome {
        let service = match operation {
            Operation::AddService(service) | Operation::UpdateService(service) => {
                &mut self.0[service_number(&service.key)]
            }
            Operation::RemoveService(key)
            | Operation::AddDestination(key, _)
            | Operation::UpdateDestination(key, _)
            | Operation::RemoveDestination(key, _) => &mut self.0[service_number(key)],
            other => unreachable!("{other}"),
        };
        if let Operation::AddService(Service { scheduler, .. }) = *operation {
            if service.is_some() {
                return Outcome::Exists;
            }
            *service = Some(Vip { scheduler, backends: [None; DESTINATIONS] });
            return Outcome::Done;
        }
        let Some(vip) = service else { return Outcome::ServiceMissing };
        match operation {
            Operation::UpdateService(Service { scheduler, .. }) => vip.scheduler = *scheduler,
            Operation::RemoveService(_) => *service = None,
            Operation::AddDestination(_, destination) => {
                let backend = &mut vip.backends[destination_number(&destination.key)];
                if backend.is_some() {
                    return Outcome::Exists;
                }
                *backend = Some(Backend::from(destination));
            }
            Operation::UpdateDestination(_, destination) => {
                match &mut vip.backends[destination_number(&destination.key)] {
                    Some(backend) => *backend = Backend::from(destination),
                    None => return Outcome::DestinationMissing,
                }
            }
            Operation::RemoveDestination(_, key)
                if vip.backends[destination_number(key)].take().is_none() =>
            {
                return Outcome::DestinationMissing;
            }
            _ => {}
        }
        Outcome::Done
    }

    pub(super) fn rules(&self) -> Ruleset {
        let mut rules = Ruleset::new();
        for (number, vip) in self.0.iter().enumerate() {
            let Some(Vip { scheduler, backends }) = vip else { continue };
            let service = service(number, *scheduler);
            rules.insert_service(service).unwrap();
            for (number, backend) in backends.iter().enumerate() {
                let Some(backend) = backend else { continue };
                rules.insert_destination(service.key, backend.destination(number)).unwrap();
            }
        }
        rules
    }
}

impl Kernel {
    /// Carries out an operation as a kernel with this quirk does.
    pub(super) fn run(&mut self, operation: &Operation) -> Outcome {
        let before = self.table;
        let outcome = self.table.run(operation);
        let is_refused = match (self.quirk, operation) {
            (Quirk::NoRoute(place), Operation::AddDestination(key, to)) => {
                place == (service_number(key), destination_number(&to.key))
            }
            (Quirk::NoScheduler(number), Operation::AddService(service)) => {
                number == service_number(&service.key) && service.scheduler != Scheduler::Unbound
            }
            (Quirk::NoScheduler(number), Operation::UpdateService(service)) => {
                let is_other = |vip: Vip| vip.scheduler.name() != service.scheduler.name();
                number == service_number(&service.key) && before.0[number].is_some_and(is_other)
            }
            _ => false,
        };
        if is_refused && outcome == Outcome::Done {
            self.table = before;
            return Outcome::Refused;
        }
        if self.quirk == Quirk::Keeps1 {
            let backends = self.table.0.iter_mut().flatten().flat_map(|vip| &mut vip.backends);
            backends.flatten().for_each(|backend| backend.weight = backend.weight.min(1));
        }
        outcome
    }

    /// The listing of these services, with their connections if the reader counts them.
    pub(super) fn list(
        &self,
        is_asked: impl Fn(&ServiceKey) -> bool,
        is_counted: impl Fn(&ServiceKey) -> bool,
    ) -> Listing {
        let mut listing = Listing { rules: self.table.rules(), ..Listing::default() };
        for number in 0..SERVICES {
            let key = service_key(number);
            if !is_asked(&key) {
                listing.rules.remove_service(key);
            }
            for (destination, active) in self.connections[number].iter().enumerate() {
                if is_counted(&key) && self.table.backend((number, destination)).is_some() {
                    let connections = ConnectionCounts {
                        active: u32::from(*active),
                        ..ConnectionCounts::default()
                    };
                    let place = (key, destination_key(destination));
                    listing.connections.insert(place, connections);
                }
            }
        }
        listing
    }
}

impl From<&Destination> for Backend {
    fn from(destination: &Destination) -> Self {
        let weight = u8::try_from(destination.weight).unwrap();
        Self { weight, is_other: destination.upper_threshold > 0 }
    }
}

impl Backend {
    pub(super) fn destination(self, number: usize) -> Destination {
        let destination = Destination::new(destination_key(number), Forwarding::Masquerade);
        let upper = u32::from(self.is_other) * 9;
        destination.weight(self.weight.into()).thresholds(upper, 0)
    }
}

pub(super) fn service(number: usize, scheduler: Scheduler) -> Service {
    Service::new(service_key(number)).scheduler(scheduler)
}

pub(super) fn service_key(number: usize) -> ServiceKey {
    ServiceKey::tcp(Ipv4Addr::new(10, 0, 0, u8::try_from(number).unwrap()), 80)
}

pub(super) fn destination_key(number: usize) -> DestinationKey {
    (Ipv4Addr::new(10, 0, 1, u8::try_from(number).unwrap()), 8080).into()
}

pub(super) fn service_number(key: &ServiceKey) -> usize {
    match key {
        ServiceKey::Address { address: IpAddr::V4(address), .. } => address.octets()[3].into(),
        other => unreachable!("{other}"),
    }
}

pub(super) fn destination_number(key: &DestinationKey) -> usize {
    match key.address {
        IpAddr::V4(address) => address.octets()[3].into(),
        IpAddr::V6(other) => unreachable!("{other}"),
    }
}
