//! Rule sync on the fake kernel: plans, faults at every step, draining, the syncer.
#![allow(missing_docs, clippy::unwrap_used)]

mod applying;
mod draining;
mod dropped;
mod late;
mod order;
mod owed;
mod plans;
#[path = "../it/random.rs"]
#[allow(dead_code)] // The integration tests use all of this module.
mod random;
mod reloads;
mod reports;
#[path = "../support/mod.rs"]
#[allow(dead_code)] // Other tests use all of this module.
mod support;
mod syncer;
mod withheld;
#[path = "../support/writes.rs"]
mod writes;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::Kernel;
use ipvs_netlink::*;
use random::{Speaker, rulesets, samples};
use writes::writes;

const SECOND: Duration = Duration::from_secs(1);

fn web() -> Service {
    Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin)
}

fn backend(last: u8) -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080)
}

fn key(last: u8) -> DestinationKey {
    backend(last).key
}

fn rules(text: &str) -> Ruleset {
    text.parse().unwrap()
}

/// Rules of one service with these destinations.
fn web_with(destinations: &[Destination]) -> Ruleset {
    let mut rules = Ruleset::new();
    rules.insert_service(web()).unwrap();
    for destination in destinations {
        rules.insert_destination(web().key, *destination).unwrap();
    }
    rules
}

/// A kernel that holds these rules, and a client of it.
fn kernel_with(rules: &Ruleset) -> (Kernel, Client) {
    let kernel = Kernel::new();
    let mut client = kernel.connect().unwrap();
    let report = client.sync(rules, &Policy::new()).unwrap();
    assert!(report.is_success(), "{report}");
    (kernel, client)
}

/// The report, of a success or of an error.
fn report_of(outcome: Result<Report, Incomplete>) -> Report {
    outcome.unwrap_or_else(Incomplete::into_report)
}

/// The kernel's table, read over a link that no fault strikes.
fn truth(kernel: &Kernel) -> Ruleset {
    Client::connect_with(kernel.observer()).unwrap().ruleset().unwrap()
}

fn drained(seconds: u32) -> Policy {
    Policy::new().draining(Draining::within(seconds * SECOND))
}

/// Random pairs of rulesets.
fn pairs(count: usize) -> impl Iterator<Item = (Ruleset, Ruleset)> {
    let rulesets = rulesets(Speaker::Crate, Scheduler::KNOWN.to_vec());
    samples(random::pairs(rulesets), count)
}

/// Rules before and after, which differ by every kind of change.
fn before_and_after() -> (Ruleset, Ruleset) {
    let before = rules(
        "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -m\n\
         -a -t 10.0.0.1:80 -r 10.0.1.2:80 -m\n-A -u 10.0.0.1:53 -s rr\n\
         -a -u 10.0.0.1:53 -r 10.0.1.1:53 -m",
    );
    let after = rules(
        "-A -t 10.0.0.1:80 -s wrr\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 3\n\
         -a -t 10.0.0.1:80 -r 10.0.1.3:80 -m\n-A -f 7 -s wlc\n-a -f 7 -r 10.0.1.1:0 -m",
    );
    (before, after)
}

/// Asserts that a controller that starts again and wants the same ends with the wanted table.
fn ends_equal(kernel: &Kernel, wanted: &Ruleset, what: &str) {
    kernel.clear_faults();
    let mut client = kernel.connect().unwrap();
    let report = client.sync(wanted, &Policy::new()).unwrap();
    assert!(report.is_success(), "{what}: {report}");
    assert_eq!(&client.ruleset().unwrap(), wanted, "{what}");
}
