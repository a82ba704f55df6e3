//! New services get the destinations with which they were wanted, though the policy allows adding
//! destinations only with their service.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{SECOND, backend, key, truth, web};

fn policy(but: Allowed) -> Policy {
    Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS - but)
}

fn two_of(service: Service) -> Ruleset {
    let mut rules = Ruleset::new();
    rules.insert_service(service).unwrap();
    for last in [1, 2] {
        rules.insert_destination(service.key, backend(last)).unwrap();
    }
    rules
}

/// A kernel without a route to these destinations.
fn kernel_without_route(to: &[u8]) -> (Kernel, Client) {
    let kernel = Kernel::new();
    let broadcast: Vec<_> = to.iter().map(|last| Ipv4Addr::new(10, 0, 1, *last)).collect();
    kernel.configure(|host| host.broadcast.clone_from(&broadcast));
    let client = kernel.connect().unwrap();
    (kernel, client)
}

/// Once: the service stayed empty for ever, as a success: it was taken for another's as soon as it
/// was wanted with another scheduler than it had.
#[test]
fn a_service_that_is_wanted_otherwise_before_it_is_whole_becomes_whole() {
    for but in [Allowed::empty(), Allowed::UPDATE_SERVICES] {
        let (kernel, mut client) = kernel_without_route(&[1, 2]);
        let mut syncer = Syncer::new(policy(but));
        syncer.want(two_of(web()));
        assert_eq!(client.pass(&mut syncer).failed.len(), 2);
        syncer.want_service(web().scheduler(Scheduler::WeightedRoundRobin)).unwrap();
        kernel.advance(2 * SECOND);
        assert_eq!(client.pass(&mut syncer).failed.len(), 2);
        kernel.configure(|host| host.broadcast.clear());
        kernel.advance(400 * SECOND);
        let report = client.pass(&mut syncer);
        assert_eq!(report.left.len(), usize::from(!but.is_empty()), "{report}");
        assert_eq!(truth(&kernel).destination_count(), 2, "{report}");
    }
}

/// Once: the fallback option, which a drain needs, made the service another's.
#[test]
fn a_service_that_falls_back_while_it_drains_becomes_whole() {
    let (kernel, mut client) = kernel_without_route(&[2]);
    let mut syncer = Syncer::new(policy(Allowed::empty()).draining(Draining::within(60 * SECOND)));
    let web = web().scheduler(Scheduler::SOURCE_HASH);
    let mut wanted = two_of(web);
    wanted.insert_destination(web.key, backend(3)).unwrap();
    syncer.want(wanted);
    assert_eq!(client.pass(&mut syncer).failed.len(), 1);
    kernel.set_connections(web.key, key(3), 1, 0, 0);
    syncer.drop_destination(web.key, key(3));
    for _ in 0..2 {
        assert_eq!(client.pass(&mut syncer).failed.len(), 1);
        kernel.advance(2 * SECOND);
    }
    kernel.configure(|host| host.broadcast.clear());
    for _ in 0..2 {
        kernel.advance(400 * SECOND);
        let _ = client.pass(&mut syncer);
    }
    assert_eq!(truth(&kernel), *syncer.wanted());
}

/// Once: a timeout that the kernel keeps as another one made the service another's, and a single
/// refusal in the first pass left it empty.
#[test]
fn a_service_of_which_the_kernel_makes_another_becomes_whole() {
    for at in 1..16 {
        let kernel = Kernel::new();
        let mut client = kernel.connect().unwrap();
        let mut syncer = Syncer::new(policy(Allowed::empty()));
        syncer.want(two_of(web().persistence(Duration::from_secs(20_000_000))));
        kernel.inject(at, Fault::Refuse(12));
        let _ = client.pass(&mut syncer);
        kernel.clear_faults();
        kernel.advance(400 * SECOND);
        let report = client.pass(&mut syncer);
        assert_eq!(truth(&kernel).destination_count(), 2, "{at}: {report}");
    }
}

/// Others may have put a service of theirs in its place.
#[test]
fn a_service_that_others_change_gets_nothing_more() {
    let (kernel, mut client) = kernel_without_route(&[1, 2]);
    let mut syncer = Syncer::new(policy(Allowed::empty()));
    syncer.want(two_of(web()));
    for _ in 0..2 {
        assert_eq!(client.pass(&mut syncer).failed.len(), 2);
        kernel.advance(400 * SECOND);
    }
    let mut other = Client::connect_with(kernel.observer()).unwrap();
    other.update_service(&web().scheduler(Scheduler::LeastConnection)).unwrap();
    kernel.configure(|host| host.broadcast.clear());
    let report = client.pass(&mut syncer);
    assert_eq!(report.left.len(), 2, "{report}");
    assert_eq!(truth(&kernel).destination_count(), 0, "{report}");
}

/// Once: an addition whose answer was lost was never ours if the kernel keeps another timeout, and the
/// service stayed empty.
#[test]
fn an_addition_of_unknown_outcome_becomes_whole_whatever_timeout_the_kernel_keeps() {
    for (timeout, at) in [60, 20_000_000].into_iter().flat_map(|it| (1..16).map(move |at| (it, at)))
    {
        let kernel = Kernel::new();
        let mut client = kernel.connect().unwrap();
        let mut syncer = Syncer::new(policy(Allowed::empty()));
        syncer.want(two_of(web().persistence(Duration::from_secs(timeout))));
        kernel.inject(at, Fault::LoseAnswers);
        let _ = client.pass(&mut syncer);
        kernel.clear_faults();
        for _ in 0..2 {
            kernel.advance(400 * SECOND);
            let _ = client.pass(&mut syncer);
        }
        assert_eq!(truth(&kernel).destination_count(), 2, "{timeout}, {at}");
    }
}
