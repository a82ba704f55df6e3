//! A desired state: services with their destinations, and its text form.

mod change;
mod draining;
mod lexer;
mod options;
mod parse;
pub(crate) mod past;
mod plan;
pub(crate) mod planner;
mod policy;
mod print;
#[cfg(feature = "serde")]
mod readable;
mod scope;

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use crate::model::{Destination, DestinationKey, Invalid, Service, ServiceKey, Table};

pub use change::{Change, Difference, Left, Reason};
pub use draining::{ConnectionCounts, Draining};
pub use parse::ParseError;
pub use plan::{Excess, Plan};
pub(crate) use plan::{Lost, PlanParts, Subject, add_losses};
pub use policy::{Allowed, Policy, Share};
pub use scope::Scope;

use print::AsOptions;

/// Services with their destinations, as they are or as they should be.
///
/// Two rulesets are equal if kernels that hold them behave alike; the order in which they were
/// filled does not matter. Services and destinations come in the order of their keys.
///
/// Its text form is that of `ipvsadm-save` and `ipvsadm -R`: one command a line, `-A` for a service
/// and `-a` for a destination, each after its service. Blank lines are skipped, as is the rest of a
/// line from a `#` that begins a word. Addresses and ports are numbers, and an IPv6 address stands
/// in brackets. Options that `ipvsadm` does not know tell what `ipvsadm` cannot say: `--local`,
/// `--bypass`, `--forwarding NUMBER`, `--protocol-service NUMBER/ADDRESS:PORT`, `--flags BITS`,
/// `--tun-flags BITS`. A service that [`Service::check`] refuses although a kernel holds it ends
/// with `--as-is`, and is read with that option alone.
///
/// `ipvsadm -R` refuses thresholds above 2147483647 and persistence of more than 2678400 s,
/// and gives destinations of direct routing and of tunnels the port of their service.
///
/// ```
/// use ipvs_netlink::Ruleset;
///
/// let rules: Ruleset = "\
///     -A -t 10.0.0.1:80 -s wrr -p 300
///     -a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 3
/// "
/// .parse()?;
/// assert_eq!(rules.to_string().lines().count(), 2);
///
/// let error = "-A -t 10.0.0.1:80 -s".parse::<Ruleset>().unwrap_err();
/// assert_eq!(error.to_string(), "line 1, column 19: expected a scheduler after -s");
/// # Ok::<(), ipvs_netlink::ParseError>(())
/// ```
#[cfg_attr(feature = "serde", doc = include_str!("../../docs/rules.md"))]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ruleset {
    /// Shared between plans and copies until one of them changes.
    services: BTreeMap<ServiceKey, Arc<ServiceRules>>,
}

/// A service of a [`Ruleset`] with its destinations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceRules {
    service: Service,
    destinations: BTreeMap<DestinationKey, Destination>,
}

impl ServiceRules {
    /// A service with destinations; of two destinations with the same key the last one counts.
    ///
    /// # Errors
    /// Those of [`Service::check`] and [`Destination::check`].
    pub fn new(
        service: Service,
        destinations: impl IntoIterator<Item = Destination>,
    ) -> Result<Self, Invalid> {
        service.check()?;
        let mut rules = Self::without_destinations(service.normalized());
        for destination in destinations {
            destination.check(&service.key)?;
            rules.destinations.insert(destination.key, destination);
        }
        Ok(rules)
    }

    /// The service's key.
    pub fn key(&self) -> ServiceKey {
        self.service.key
    }

    /// The service.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its destinations, by their keys.
    pub fn destinations(&self) -> impl ExactSizeIterator<Item = &Destination> {
        self.destinations.values()
    }

    /// One of its destinations.
    pub fn destination(&self, key: impl Into<DestinationKey>) -> Option<&Destination> {
        self.destinations.get(&key.into())
    }
}

impl Ruleset {
    /// A ruleset without services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Inserts a service without destinations. If the ruleset has a service with the same key, that
    /// service keeps its destinations and gets this configuration; its former configuration is
    /// returned.
    ///
    /// # Errors
    /// Those of [`Service::check`]; nothing is changed then.
    pub fn insert_service(&mut self, service: Service) -> Result<Option<Service>, Invalid> {
        service.check()?;
        self.insert_as_is(service)
    }

    /// Inserts a service that a kernel may hold, even if [`Service::check`] refuses the service.
    fn insert_as_is(&mut self, service: Service) -> Result<Option<Service>, Invalid> {
        service.check_as_is()?;
        let service = service.normalized();
        Ok(match self.services.get_mut(&service.key) {
            Some(rules) => Some(std::mem::replace(&mut Arc::make_mut(rules).service, service)),
            None => {
                self.services
                    .insert(service.key, Arc::new(ServiceRules::without_destinations(service)));
                None
            }
        })
    }

    /// Inserts a destination under a service. If the service has a destination with the same key,
    /// that destination gets this configuration; its former configuration is returned.
    ///
    /// # Errors
    /// If the ruleset has no such service, and those of [`Destination::check`]; nothing is changed
    /// then.
    pub fn insert_destination(
        &mut self,
        service: impl Into<ServiceKey>,
        destination: Destination,
    ) -> Result<Option<Destination>, Invalid> {
        let service = service.into();
        destination.check(&service)?;
        let rules = self
            .services
            .get_mut(&service)
            .ok_or_else(|| Invalid::new(format!("there is no service {service}")))?;
        Ok(Arc::make_mut(rules).destinations.insert(destination.key, destination))
    }

    /// Removes a service with its destinations, and returns them.
    pub fn remove_service(&mut self, key: impl Into<ServiceKey>) -> Option<ServiceRules> {
        self.services.remove(&key.into()).map(Arc::unwrap_or_clone)
    }

    /// Removes a destination, and returns it.
    pub fn remove_destination(
        &mut self,
        service: impl Into<ServiceKey>,
        key: impl Into<DestinationKey>,
    ) -> Option<Destination> {
        Arc::make_mut(self.services.get_mut(&service.into())?).destinations.remove(&key.into())
    }

    /// The services, by their keys.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &ServiceRules> {
        self.services.values().map(Arc::as_ref)
    }

    /// The services, by their keys, as a loop over the ruleset yields them.
    pub fn iter(&self) -> ServicesIter<'_> {
        ServicesIter(self.services.values())
    }

    /// One of the services.
    pub fn service(&self, key: impl Into<ServiceKey>) -> Option<&ServiceRules> {
        self.services.get(&key.into()).map(Arc::as_ref)
    }

    /// Whether the ruleset has no services.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The number of destinations of all services.
    pub fn destination_count(&self) -> usize {
        self.services.values().map(|rules| rules.destinations.len()).sum()
    }
}

impl Ruleset {
    pub(crate) fn keys(&self) -> impl Iterator<Item = ServiceKey> {
        self.services.keys().copied()
    }

    /// Records a change that the kernel has made.
    pub(crate) fn record(&mut self, change: &Change) {
        match *change {
            Change::AddService(service) | Change::UpdateService { to: service, .. } => {
                let new = || Arc::new(ServiceRules::without_destinations(service));
                let rules = self.services.entry(service.key).or_insert_with(new);
                Arc::make_mut(rules).service = service;
            }
            Change::RemoveService(service) => {
                self.services.remove(&service.key);
            }
            Change::AddDestination(service, destination)
            | Change::UpdateDestination { service, to: destination, .. } => {
                self.set_destination(service, destination);
            }
            Change::DrainDestination(service, destination) => {
                self.set_destination(service, destination.weight(0));
            }
            Change::RemoveDestination(service, destination) => {
                self.remove_destination(service, destination.key);
            }
        }
    }

    fn set_destination(&mut self, service: ServiceKey, destination: Destination) {
        if let Some(rules) = self.services.get_mut(&service) {
            Arc::make_mut(rules).destinations.insert(destination.key, destination);
        }
    }

    /// Replaces a service by the one that was read; `None` removes it.
    pub(crate) fn replace(&mut self, key: ServiceKey, read: Option<Arc<ServiceRules>>) {
        match read {
            Some(rules) => self.services.insert(key, rules),
            None => self.services.remove(&key),
        };
    }

    /// Removes a service and returns it, still shared.
    pub(crate) fn take(&mut self, key: ServiceKey) -> Option<Arc<ServiceRules>> {
        self.services.remove(&key)
    }

    /// A service, shared.
    pub(crate) fn share(&self, key: ServiceKey) -> Option<Arc<ServiceRules>> {
        self.services.get(&key).map(Arc::clone)
    }
}

impl ServiceRules {
    fn without_destinations(service: Service) -> Self {
        Self { service, destinations: BTreeMap::new() }
    }

    pub(crate) fn from_kernel(
        service: Service,
        destinations: impl IntoIterator<Item = Destination>,
    ) -> Self {
        let destinations = destinations.into_iter().map(|d| (d.key, d)).collect();
        Self { service, destinations }
    }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rules in self.services() {
            writeln!(f, "-A {}", AsOptions(rules.service()))?;
            let service = AsOptions(&rules.key());
            for destination in rules.destinations() {
                writeln!(f, "-a {service} -r {}", AsOptions(destination))?;
            }
        }
        Ok(())
    }
}

/// The services of a [`Ruleset`] with their destinations, by their keys.
#[derive(Debug, Clone)]
pub struct ServicesIter<'a>(btree_map::Values<'a, ServiceKey, Arc<ServiceRules>>);

impl<'a> Iterator for ServicesIter<'a> {
    type Item = &'a ServiceRules;

    fn next(&mut self) -> Option<&'a ServiceRules> {
        self.0.next().map(Arc::as_ref)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for ServicesIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(Arc::as_ref)
    }
}

impl ExactSizeIterator for ServicesIter<'_> {}

impl FusedIterator for ServicesIter<'_> {}

impl<'a> IntoIterator for &'a Ruleset {
    type Item = &'a ServiceRules;
    type IntoIter = ServicesIter<'a>;

    fn into_iter(self) -> ServicesIter<'a> {
        self.iter()
    }
}

/// Of two services with the same key the last one counts.
///
/// ```
/// use ipvs_netlink::{Destination, Invalid, Ruleset, Service, ServiceRules};
///
/// let ports = [80, 443];
/// let rules: Result<Ruleset, Invalid> = ports
///     .into_iter()
///     .map(|port| {
///         let backends = [1, 2].map(|host| Destination::masquerade([10, 0, 1, host], port));
///         ServiceRules::new(Service::tcp([10, 0, 0, 1], port), backends)
///     })
///     .collect();
/// assert_eq!(rules?.destination_count(), 4);
/// # Ok::<(), Invalid>(())
/// ```
impl FromIterator<ServiceRules> for Ruleset {
    fn from_iter<I: IntoIterator<Item = ServiceRules>>(services: I) -> Self {
        let mut rules = Self::new();
        rules.extend(services);
        rules
    }
}

/// A service that the ruleset already has gets the configuration and the destinations of the new
/// one.
impl Extend<ServiceRules> for Ruleset {
    fn extend<I: IntoIterator<Item = ServiceRules>>(&mut self, services: I) {
        self.services.extend(services.into_iter().map(|rules| (rules.key(), Arc::new(rules))));
    }
}

/// The configuration of a table, without its counters. The services are not checked, since the
/// kernel holds them.
impl From<&Table> for Ruleset {
    fn from(table: &Table) -> Self {
        let rules = table.services.iter().map(|service| {
            let destinations = service.destinations.iter().map(|entry| entry.destination);
            let rules = ServiceRules::from_kernel(service.entry.service, destinations);
            (rules.service.key, Arc::new(rules))
        });
        Self { services: rules.collect() }
    }
}

#[cfg(test)]
impl Ruleset {
    /// A service with these destinations.
    pub(crate) fn of(service: Service, destinations: &[Destination]) -> Self {
        let mut rules = Self::new();
        rules.insert_service(service).unwrap();
        for destination in destinations {
            rules.insert_destination(service.key, *destination).unwrap();
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut rules = Ruleset::new();
        let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80);
        let backend = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 80);
        assert!(rules.insert_destination(web.key, backend).is_err());
        rules.insert_service(web).unwrap();
        assert!(rules.insert_destination(web.key, backend.weight(u32::MAX)).is_err());
        assert_eq!(rules.destination_count(), 0);
        rules.insert_destination(web.key, backend).unwrap();
        let before = rules.insert_destination(web.key, backend.weight(2)).unwrap();
        assert_eq!(before, Some(backend));
        assert_eq!(rules.destination_count(), 1);
    }
}
