//! The rules that are written: TCP over IPv4 with masqueraded destinations, which all peers can
//! write.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::Context;
use ipvs_netlink::{Destination, Operation, Ruleset, Scheduler, Service};

/// A table's size: a number of services, each with the same number of destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The number of services.
    pub services: usize,
    /// The number of destinations of all services together.
    pub destinations: usize,
}

impl Size {
    /// The number of rules: services and destinations.
    pub fn rules(self) -> usize {
        self.services + self.destinations
    }

    /// The size of a ruleset.
    pub fn of(rules: &Ruleset) -> Self {
        Self { services: rules.services().len(), destinations: rules.destination_count() }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.services, self.destinations / self.services.max(1))
    }
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (services, each) = text.split_once('x').context("expected a size such as 1000x10")?;
        let services: u16 = services.parse().context("up to 65535 services")?;
        let each: u8 = each.parse().context("up to 255 destinations each")?;
        let destinations = usize::from(services) * usize::from(each);
        Ok(Self { services: services.into(), destinations })
    }
}

/// A ruleset of this size. In another `variant`, the second half of each service's destinations
/// have other addresses.
///
/// # Errors
/// The size has more services, or more destinations for each, than a parsed size can have.
pub fn ruleset(size: Size, scheduler: Scheduler, variant: u8) -> anyhow::Result<Ruleset> {
    let mut rules = Ruleset::new();
    let each = size.destinations / size.services.max(1);
    for n in 0..u16::try_from(size.services)? {
        let [high, low] = n.to_be_bytes();
        let service = Service::tcp(Ipv4Addr::new(10, 0, high, low), 80).scheduler(scheduler);
        rules.insert_service(service)?;
        for host in 1..=u8::try_from(each)? {
            let third = if usize::from(host) > each / 2 { variant } else { 0 };
            let server = Destination::masquerade(Ipv4Addr::new(10, 1, third, host), 8080);
            rules.insert_destination(service.key, server)?;
        }
    }
    Ok(rules)
}

/// The operations that write rules in the plain order: each service, then its destinations.
pub fn operations(rules: &Ruleset) -> Vec<Operation> {
    let mut operations = Vec::with_capacity(Size::of(rules).rules());
    for rules in rules.services() {
        let service = *rules.service();
        operations.push(Operation::AddService(service));
        let added = |server: &Destination| Operation::AddDestination(service.key, *server);
        operations.extend(rules.destinations().map(added));
    }
    operations
}

/// The service whose destination is encoded.
pub fn service() -> Service {
    Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin)
}

/// The destination that is encoded.
pub fn destination() -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 1, 0, 1), 8080).weight(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_the_size_that_was_asked_for() -> anyhow::Result<()> {
        let size: Size = "7x3".parse()?;
        let rules = ruleset(size, Scheduler::RoundRobin, 0)?;
        assert_eq!(Size::of(&rules), size);
        assert_eq!(size.to_string(), "7x3");
        assert_eq!(operations(&rules).len(), size.rules());
        assert!("7".parse::<Size>().is_err());
        Ok(())
    }
}
