//! A desired state: services with their destinations, and its text form.

mod change;
mod draining;
mod parse;
pub(crate) mod past;
mod plan;
pub(crate) mod planner;
mod policy;
mod print;
mod scope;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(feature = "serde")]
use crate::forms;
use crate::model::{Destination, DestinationKey, Invalid, Service, ServiceKey, Table};

pub use change::{Change, Difference, Left, Reason};
pub use draining::{Connections, Draining};
pub use parse::ParseError;
pub use plan::{Excess, Plan};
pub(crate) use plan::{Lost, Parts, add_losses};
pub use policy::{Allowed, Policy, Share};
pub use scope::Scope;

/// Services with their destinations, as they are or as they should be.
///
/// Two are equal when a kernel that holds the one behaves as one that holds the other; the order
/// in which they were filled does not matter. Services and destinations come in the order of their
/// keys.
///
/// Its text form is that of `ipvsadm-save` and `ipvsadm -R`: one command a line, `-A` for a service
/// and `-a` for a destination, each after its service. Blank lines, and what follows a `#` at the
/// start of a word, are skipped; addresses and ports are numbers. What `ipvsadm` cannot say is
/// written in options it does not know: `--local`, `--bypass`, `--forwarding NUMBER`,
/// `--protocol-service NUMBER/ADDRESS:PORT`, `--flags BITS`, `--tun-flags BITS`.
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
/// # Ok::<(), ipvs_netlink::ruleset::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "forms::Entries", try_from = "forms::Entries"))]
pub struct Ruleset {
    /// Plans and copies share what is the same in them.
    services: BTreeMap<ServiceKey, Arc<ServiceRules>>,
}

/// A service of a [`Ruleset`] with its destinations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceRules {
    service: Service,
    destinations: BTreeMap<DestinationKey, Destination>,
}

impl ServiceRules {
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

    /// Puts a service in, without destinations, or gives one that is there this configuration.
    /// Returns the configuration it had.
    ///
    /// # Errors
    /// Those of [`Service::check`]; nothing is changed then.
    pub fn insert_service(&mut self, service: Service) -> Result<Option<Service>, Invalid> {
        service.check()?;
        let service = service.normalized();
        Ok(match self.services.get_mut(&service.key) {
            Some(rules) => Some(std::mem::replace(&mut Arc::make_mut(rules).service, service)),
            None => {
                self.services.insert(service.key, Arc::new(ServiceRules::new(service)));
                None
            }
        })
    }

    /// Puts a destination under a service, or gives one that is there this configuration. Returns
    /// the configuration it had.
    ///
    /// # Errors
    /// Where the ruleset has no such service, and those of [`Destination::check`]; nothing is
    /// changed then.
    pub fn insert_destination(
        &mut self,
        service: ServiceKey,
        destination: Destination,
    ) -> Result<Option<Destination>, Invalid> {
        destination.check(&service)?;
        let rules = self
            .services
            .get_mut(&service)
            .ok_or_else(|| Invalid::new(format!("there is no service {service}")))?;
        Ok(Arc::make_mut(rules).destinations.insert(destination.key, destination))
    }

    /// Takes a service out, with its destinations.
    pub fn remove_service(&mut self, key: ServiceKey) -> Option<ServiceRules> {
        self.services.remove(&key).map(Arc::unwrap_or_clone)
    }

    /// Takes a destination out.
    pub fn remove_destination(
        &mut self,
        service: ServiceKey,
        key: impl Into<DestinationKey>,
    ) -> Option<Destination> {
        Arc::make_mut(self.services.get_mut(&service)?).destinations.remove(&key.into())
    }

    /// The services, by their keys.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &ServiceRules> {
        self.services.values().map(Arc::as_ref)
    }

    /// One of the services.
    pub fn service(&self, key: ServiceKey) -> Option<&ServiceRules> {
        self.services.get(&key).map(Arc::as_ref)
    }

    /// Whether there are no services.
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

    /// Makes a change that the kernel has made.
    pub(crate) fn record(&mut self, change: &Change) {
        match *change {
            Change::AddService(service) | Change::UpdateService { to: service, .. } => {
                let new = || Arc::new(ServiceRules::new(service));
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

    /// Puts a service as it was read in the place of what was known of it.
    pub(crate) fn replace(&mut self, key: ServiceKey, read: Option<Arc<ServiceRules>>) {
        match read {
            Some(rules) => self.services.insert(key, rules),
            None => self.services.remove(&key),
        };
    }

    /// Takes a service out, shared as it is.
    pub(crate) fn take(&mut self, key: ServiceKey) -> Option<Arc<ServiceRules>> {
        self.services.remove(&key)
    }

    /// A service, shared.
    pub(crate) fn share(&self, key: ServiceKey) -> Option<Arc<ServiceRules>> {
        self.services.get(&key).map(Arc::clone)
    }
}

impl ServiceRules {
    fn new(service: Service) -> Self {
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

/// The configuration of a table, without its counters. Unlike what is inserted it is not checked:
/// the kernel holds it.
impl From<&Table> for Ruleset {
    fn from(table: &Table) -> Self {
        let rules = table.services.iter().map(|entry| {
            let destinations = entry.destinations.iter().map(|d| d.destination);
            let rules = ServiceRules::from_kernel(entry.service.service, destinations);
            (rules.service.key, Arc::new(rules))
        });
        Self { services: rules.collect() }
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
