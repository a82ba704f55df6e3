//! Tables of services with many destinations, written to and read from a fake kernel.

use std::net::Ipv4Addr;

use ipvs_netlink::fake::Kernel;
use ipvs_netlink::{
    Change, Destination, Operation, Plan, Policy, Ruleset, Scheduler, Service, blocking,
};

pub(crate) fn service(port: u16) -> Service {
    Service::tcp(Ipv4Addr::new(10, 0, 0, 1), port).scheduler(Scheduler::RoundRobin)
}

/// A service for each of these ports, with this number of destinations.
pub(crate) fn rules_of(services: impl IntoIterator<Item = (u16, u8)>) -> Ruleset {
    let mut rules = Ruleset::new();
    for (port, destinations) in services {
        let service = service(port);
        rules.insert_service(service).unwrap();
        for last in 1..=destinations {
            let destination = Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), port);
            rules.insert_destination(service.key, destination).unwrap();
        }
    }
    rules
}

pub(crate) fn operations(rules: &Ruleset) -> Vec<Operation> {
    let plan = Plan::new(&Ruleset::new(), rules, &Policy::new());
    plan.changes().iter().filter_map(Change::operation).collect()
}

/// A kernel that holds these rules.
pub(crate) fn kernel_with(rules: &Ruleset) -> Kernel {
    let kernel = Kernel::new();
    let mut client = kernel.connect().unwrap();
    let report = client.sync(rules, &Policy::new()).unwrap();
    assert!(report.is_success(), "{report}");
    kernel
}

/// The kernel's table, read over a link that no fault strikes.
pub(crate) fn truth(kernel: &Kernel) -> Ruleset {
    blocking::Client::connect_with(kernel.observer()).unwrap().ruleset().unwrap()
}
