//! A crate that depends on ours, and uses only names that need no feature.

use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::{Destination, Error, Operation, Options, Ruleset, Scheduler, Service};

/// A client that does not wait for long.
///
/// # Errors
/// This host has no IPVS.
pub fn connect() -> Result<Client, Error> {
    Options::new().timeout(Duration::from_secs(5)).connect()
}

/// Replaces the table.
///
/// # Errors
/// The kernel refuses a change.
pub fn replace(ipvs: &mut Client, rules: &Ruleset) -> Result<(), Error> {
    let mut operations = vec![Operation::Flush];
    for rules in rules.services() {
        let service = *rules.service();
        operations.push(Operation::AddService(service));
        operations.extend(rules.destinations().map(|d| Operation::AddDestination(service.key, *d)));
    }
    ipvs.batch(operations)?.into_result()
}

/// Adds a service with one server.
///
/// # Errors
/// The kernel refuses a change.
pub fn add(ipvs: &mut Client) -> Result<(), Error> {
    let web = Service::tcp([10, 0, 0, 1], 80).scheduler(Scheduler::RoundRobin);
    match ipvs.add_service(&web) {
        Err(error) if error.is_already_exists() => ipvs.update_service(&web)?,
        other => other?,
    }
    ipvs.add_destination(web.key, &Destination::masquerade([10, 0, 1, 1], 8080).weight(3))
}
