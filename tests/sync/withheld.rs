//! Losses larger than the policy allows at once are withheld and reported until they are confirmed.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::support::rules::{rules_of, service};
use super::{SECOND, backend, drained, kernel_with, key, rules, truth, web, web_with};

/// The cause may be an empty list from an API, or a truncated file.
#[test]
fn what_would_take_too_much_is_withheld_until_it_is_confirmed() {
    let mut actual = web_with(&[backend(1), backend(2), backend(3), backend(4)]);
    for last in 2..=4 {
        actual.insert_service(Service::tcp(Ipv4Addr::new(10, 0, 0, last), 80)).unwrap();
    }
    let policy = Policy::new().at_most(0.5);
    let (kernel, mut client) = kernel_with(&actual);
    let mut syncer = Syncer::new(policy.clone());
    syncer.want(web_with(&[backend(1), backend(2), backend(3), backend(9)]));
    for _ in 0..2 {
        let report = client.pass(&mut syncer);
        let excess = report.excess.unwrap();
        assert_eq!((excess.services, excess.of_services), (3, 4), "{report}");
        assert_eq!((report.changed, truth(&kernel)), (0, actual.clone()), "{report}");
        assert!(report.to_string().contains("3 of 4 services"), "{report}");
    }
    syncer.confirm();
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_none() && report.is_success(), "{report}");
    assert_eq!(truth(&kernel), *syncer.wanted());
    // The next losses are guarded again.
    syncer.want(Ruleset::new());
    assert!(client.pass(&mut syncer).excess.is_some());

    let (kernel, mut client) = kernel_with(&actual);
    let plan = client.plan(&Ruleset::new(), &policy).unwrap();
    assert!(plan.excess().is_some() && plan.to_string().contains("withheld"), "{plan}");
    let withheld = client.apply(plan.clone()).unwrap_err();
    assert!(
        withheld.report().changed == 0 && withheld.to_string().contains("until it is confirmed")
    );
    assert_eq!(truth(&kernel), actual);
    assert_eq!(client.apply(plan.confirm()).unwrap().changed, 4);
    // Half of the destinations is not more than half.
    let (_kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    assert!(client.sync(&web_with(&[backend(1)]), &policy).unwrap().excess.is_none());
}

/// Once: a confirmation without withheld losses stayed, and confirmed a later emptying.
#[test]
fn a_confirmation_is_of_the_next_pass_alone() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    for drains in [false, true] {
        let draining = Draining::within(10 * SECOND);
        let draining = if drains { draining } else { Draining::at_once() };
        let mut syncer = Syncer::new(Policy::new().at_most(0.5).draining(draining));
        syncer.want(web_with(&[backend(1), backend(2)]));
        let _ = client.pass(&mut syncer);
        if drains {
            kernel.set_connections(web().key, key(2), 1, 0, 0);
            syncer.drop_destination(web().key, key(2));
            assert_eq!(client.pass(&mut syncer).draining, 1);
        }
        syncer.confirm();
        assert!(client.pass(&mut syncer).is_success());
        syncer.want(Ruleset::new());
        let report = client.pass(&mut syncer);
        assert!(report.excess.is_some(), "{report}");
        assert!(truth(&kernel).service(web().key).is_some(), "{report}");
    }
}

/// Once: a pass that withheld losses stopped all drains, and asked for the next pass at once.
#[test]
fn drains_go_on_while_something_is_withheld() {
    let mut actual = web_with(&[backend(1), backend(2)]);
    for last in 2..=3 {
        actual.insert_service(Service::tcp(Ipv4Addr::new(10, 0, 0, last), 80)).unwrap();
    }
    let (kernel, mut client) = kernel_with(&actual);
    kernel.set_connections(web().key, key(1), 5, 0, 0);
    let policy = Policy::new().at_most(0.5).draining(Draining::within(10 * SECOND));
    let mut syncer = Syncer::new(policy);
    let mut wanted = actual.clone();
    wanted.remove_destination(web().key, key(1));
    syncer.want(wanted);
    assert_eq!(client.pass(&mut syncer).draining, 1);
    syncer.want(Ruleset::new());
    for _ in 0..20 {
        let report = client.pass(&mut syncer);
        assert!(report.excess.is_some() && !report.is_success(), "{report}");
        assert!(report.next.is_none_or(|next| next > Duration::ZERO), "{report}");
        kernel.advance(SECOND);
    }
    assert_eq!(truth(&kernel).destination_count(), 1, "the drain has ended");
    syncer.confirm();
    assert!(client.pass(&mut syncer).is_success());
    // The confirmed losses drain, too.
    kernel.advance(11 * SECOND);
    let _ = client.pass(&mut syncer);
    assert!(truth(&kernel).is_empty());
}

/// Once: only the first planning of a pass was guarded, and not losses that were planned later in
/// it.
#[test]
fn what_is_found_on_the_way_is_withheld_too() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let mut syncer = Syncer::new(Policy::new().at_most(0.1));
    syncer.want(web_with(&[backend(1)]));
    let _ = client.pass(&mut syncer);
    let mut other = kernel.connect().unwrap();
    other.remove_service(web().key).unwrap();
    for last in 1..=100 {
        other.add_service(&Service::tcp(Ipv4Addr::new(10, 0, 9, last), 80)).unwrap();
    }
    syncer.want_destination(web().key, backend(2)).unwrap();
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_some(), "{report}");
    assert!(truth(&kernel).services().len() >= 100, "{report}");
    // A confirmation outlives a pass that could not read the table.
    syncer.confirm();
    syncer.resync();
    kernel.inject(1, Fault::Fail(5));
    assert!(client.pass(&mut syncer).error.is_some());
    kernel.clear_faults();
    assert!(client.pass(&mut syncer).is_success());
    assert_eq!(truth(&kernel), *syncer.wanted());
}

/// A destination that is held back does not count as taken away.
#[test]
fn what_is_held_back_is_no_excess() {
    let policy = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS).at_most(0.5);
    let plan = Plan::new(&web_with(&[backend(1)]), &web_with(&[backend(2)]), &policy);
    assert!(plan.excess().is_none() && plan.is_empty(), "{plan}");
}

/// Ten services with two destinations each, of which port 80's have connections.
fn ten_with_connections() -> (Kernel, Client, Ruleset) {
    let rules = rules_of((80..90).map(|port| (port, 2)));
    let (kernel, client) = kernel_with(&rules);
    for destination in rules.service(service(80).key).unwrap().destinations() {
        kernel.set_connections(service(80).key, destination.key, 5, 0, 0);
    }
    (kernel, client, rules)
}

/// Once: the removal of a service that had drained was counted anew, and withheld until it was
/// confirmed for the second time.
#[test]
fn what_was_confirmed_is_removed_when_it_has_drained() {
    let (kernel, mut client, mut wanted) = ten_with_connections();
    let mut syncer = Syncer::new(drained(60).at_most(0.05));
    wanted.remove_service(service(80).key);
    syncer.want(wanted.clone());
    assert!(client.pass(&mut syncer).excess.is_some());
    syncer.confirm();
    let report = client.pass(&mut syncer);
    assert!(report.is_success() && report.draining == 2, "{report}");
    kernel.advance(61 * SECOND);
    let report = client.pass(&mut syncer);
    assert!(report.is_success(), "{report}");
    assert_eq!(truth(&kernel), wanted);
}

/// Once: a service that had drained and another that was to go were withheld together, though each
/// was within the share.
#[test]
fn a_service_that_drains_is_counted_once() {
    let (kernel, mut client, mut wanted) = ten_with_connections();
    let mut syncer = Syncer::new(drained(60).at_most(0.12));
    wanted.remove_service(service(80).key);
    syncer.want(wanted.clone());
    assert_eq!(client.pass(&mut syncer).draining, 2);
    kernel.advance(61 * SECOND);
    wanted.remove_service(service(81).key);
    syncer.want(wanted.clone());
    let report = client.pass(&mut syncer);
    assert!(report.is_success(), "{report}");
    // The second service has no connections.
    assert_eq!(truth(&kernel), wanted, "{report}");
}

/// Once: if something drained, only its own count was reported, and a user who confirmed one
/// service lost all.
#[test]
fn what_is_withheld_is_told_whole() {
    let (kernel, mut client, mut wanted) = ten_with_connections();
    let mut syncer = Syncer::new(drained(60).at_most(0.05));
    let first = wanted.service(service(80).key).unwrap().destinations().next().unwrap().key;
    wanted.remove_destination(service(80).key, first);
    syncer.want(wanted);
    assert_eq!(client.pass(&mut syncer).draining, 1);
    syncer.want(Ruleset::new());
    for _ in 0..3 {
        kernel.advance(2 * SECOND);
        let report = client.pass(&mut syncer);
        let excess = report.excess.unwrap();
        assert_eq!((excess.services, excess.of_services), (10, 10), "{report}");
        assert_eq!((excess.destinations, excess.of_destinations), (19, 19), "{report}");
    }
}

/// The rules with services of port 80, 81 and 82, each with the destination 1.
fn three_services() -> Ruleset {
    let mut rules = Ruleset::new();
    for port in 80..=82 {
        let service =
            Service::tcp(Ipv4Addr::new(10, 0, 0, 1), port).scheduler(Scheduler::RoundRobin);
        rules.insert_service(service).unwrap();
        rules.insert_destination(service.key, backend(1)).unwrap();
    }
    rules
}

/// Once: a drain went on while something was withheld though its destination was wanted again, and
/// the only destination of a wanted service was removed.
#[test]
fn a_destination_wanted_again_is_raised_while_something_is_withheld() {
    let all = three_services();
    let (kernel, mut client) = kernel_with(&all);
    kernel.set_connections(web().key, key(1), 5, 0, 0);
    let mut syncer = Syncer::new(drained(10).at_most(0.5));
    let mut wanted = all.clone();
    wanted.remove_service(web().key);
    syncer.want(wanted);
    assert_eq!(client.pass(&mut syncer).draining, 1);
    syncer.want(web_with(&[backend(1)]));
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_some() && report.wanted_again == 1, "{report}");
    assert_eq!(truth(&kernel), all, "{report}");
    kernel.advance(11 * SECOND);
    let _ = client.pass(&mut syncer);
    assert_eq!(truth(&kernel), all);
}

/// Once: a destination that was to be lowered, and was not, was lowered while its losses were
/// withheld, and all of a service's destinations that served.
#[test]
fn nothing_is_lowered_while_something_is_withheld() {
    let three = web_with(&[backend(1), backend(2), backend(3)]);
    let (kernel, mut client) = kernel_with(&three);
    kernel.set_connections(web().key, key(3), 5, 0, 0);
    let mut syncer = Syncer::new(drained(10).at_most(0.5));
    syncer.want(three.clone());
    let _ = client.pass(&mut syncer);
    syncer.drop_destination(web().key, key(3));
    kernel.inject(1, Fault::Refuse(1));
    assert_eq!(client.pass(&mut syncer).failed.len(), 1);
    syncer.want(web_with(&[backend(3)]));
    for _ in 0..3 {
        let report = client.pass(&mut syncer);
        assert!(report.excess.is_some() && report.changed == 0, "{report}");
        assert_eq!(truth(&kernel), three, "{report}");
        kernel.advance(11 * SECOND);
    }
}

/// Once: what had a deadline counted as draining though it served, after the kernel had refused to
/// lower it or where a syncer resumed the drains of a table that was made anew; and what drained
/// already was a part of the whole.
#[test]
fn the_share_is_of_what_serves() {
    let ten: Vec<_> = (1..=10).map(backend).collect();
    let (kernel, mut client) = kernel_with(&web_with(&ten));
    for last in 1..=10 {
        kernel.set_connections(web().key, key(last), 5, 0, 0);
    }
    let mut syncer = Syncer::new(drained(3600).at_most(0.5));
    syncer.want(web_with(&ten));
    let _ = client.pass(&mut syncer);
    syncer.want(web_with(&ten[..5]));
    kernel.inject(1, Fault::Refuse(1));
    assert_eq!(client.pass(&mut syncer).failed.len(), 5);
    syncer.want(web_with(&[]));
    let report = client.pass(&mut syncer);
    assert_eq!(report.excess.unwrap().destinations, 10, "{report}");
    assert_eq!(truth(&kernel), web_with(&ten), "{report}");

    syncer.confirm();
    assert_eq!(client.pass(&mut syncer).draining, 10);
    let drains = syncer.drains();
    let (kernel, mut client) = kernel_with(&web_with(&ten));
    let mut syncer = Syncer::new(drained(3600).at_most(0.1)).resume(&drains);
    syncer.want(web_with(&[]));
    let report = client.pass(&mut syncer);
    assert_eq!(report.excess.unwrap().destinations, 10, "{report}");
    assert_eq!(truth(&kernel), web_with(&ten), "{report}");

    for last in 1..=10 {
        kernel.set_connections(web().key, key(last), 5, 0, 0);
    }
    let mut syncer = Syncer::new(drained(3600).at_most(0.5));
    syncer.want(web_with(&ten[..5]));
    assert_eq!(client.pass(&mut syncer).draining, 5);
    syncer.want(web_with(&[]));
    let excess = client.pass(&mut syncer).excess.unwrap();
    assert_eq!((excess.destinations, excess.of_destinations), (5, 5));
}

/// Once: additions and weights that had not been sent kept a confirmation of nothing for a later
/// emptying; and losses that were confirmed and failed were withheld when they were tried again.
#[test]
fn a_confirmation_is_of_what_was_withheld() {
    let all = web_with(&[backend(1), backend(2)]);
    let (kernel, mut client) = kernel_with(&all);
    let mut syncer = Syncer::new(Policy::new().at_most(0.1));
    syncer.want(all.clone());
    let _ = client.pass(&mut syncer);
    syncer.confirm();
    syncer.want_destination(web().key, backend(3)).unwrap();
    kernel.inject(1, Fault::Refuse(12));
    kernel.inject(3, Fault::Refuse(12));
    let _ = client.pass(&mut syncer);
    kernel.clear_faults();
    syncer.want(Ruleset::new());
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_some() && truth(&kernel).services().len() == 1, "{report}");

    syncer.want(web_with(&[backend(2)]));
    assert!(client.pass(&mut syncer).excess.is_some());
    syncer.confirm();
    kernel.inject(1, Fault::Refuse(12));
    kernel.inject(2, Fault::Refuse(12));
    kernel.inject(3, Fault::Refuse(12));
    let report = client.pass(&mut syncer);
    assert!(!report.is_success(), "{report}");
    kernel.clear_faults();
    kernel.advance(report.next.unwrap());
    let report = client.pass(&mut syncer);
    assert!(report.is_success() && report.excess.is_none(), "{report}");
    assert_eq!(truth(&kernel), web_with(&[backend(2)]));
}

/// Once: differences that the policy leaves were in no report while something was withheld.
#[test]
fn what_is_left_is_told_while_something_is_withheld() {
    let all = three_services();
    let (_kernel, mut client) = kernel_with(&all);
    let others = all.services().last().unwrap().key();
    let keys = all.services().map(ServiceRules::key);
    let scope = Scope::none().services(keys.filter(|key| *key != others));
    let mut syncer = Syncer::new(Policy::new().scope(scope).at_most(0.5));
    syncer.want(Ruleset::new());
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_some() && report.left.len() == 1, "{report}");
}

/// Once: a drain under `dh`, which ends as soon as another destination is there, was cut off though
/// the other one was withheld.
#[test]
fn a_drain_goes_on_while_its_replacement_is_withheld() {
    let cases = [
        ("dh", "dh", Allowed::all()),
        ("mh", "mh", Allowed::all() - Allowed::UPDATE_SERVICES),
        ("sh -b sh-fallback", "dh", Allowed::all()),
        ("rr", "rr", Allowed::all()),
    ];
    for (scheduler, later, allowed) in cases {
        let others = ["10.0.0.2", "10.0.0.3"].map(|address| {
            format!("-A -t {address}:80 -s rr\n-a -t {address}:80 -r 10.0.1.1:8080 -m\n")
        });
        let service = |scheduler, last| {
            format!(
                "-A -t 10.0.0.1:80 -s {scheduler}\n-a -t 10.0.0.1:80 -r 10.0.1.{last}:8080 -m\n"
            )
        };
        let start = rules(&format!("{}{}", service(scheduler, 1), others.concat()));
        let (kernel, mut client) = kernel_with(&start);
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        let policy = drained(600).allowed(allowed).detailed(true).at_most(0.4);
        let mut syncer = Syncer::new(policy);
        syncer.want(start);
        assert!(client.pass(&mut syncer).is_success());
        syncer.drop_destination(web().key, key(1));
        assert_eq!(client.pass(&mut syncer).draining, 1);
        kernel.advance(2 * SECOND);
        // Too many services go at once with the replacement.
        syncer.want(rules(&service(later, 2)));
        for _ in 0..3 {
            let report = client.pass(&mut syncer);
            assert!(report.excess.is_some(), "{later}: {report}");
            assert_eq!((report.draining, report.cut_off), (1, 0), "{later}: {report}");
            assert_eq!(truth(&kernel).service(web().key).unwrap().destinations().len(), 1);
            kernel.advance(SECOND);
        }
        syncer.confirm();
        let report = client.pass(&mut syncer);
        assert!(report.excess.is_none(), "{later}: {report}");
        assert!(truth(&kernel).service(web().key).unwrap().destination(key(2)).is_some());
    }
}

/// Once: a table that was emptied in the pass was still said to lose all, and nothing was added.
#[test]
fn nothing_is_withheld_that_the_table_no_longer_has() {
    let first = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m\n\
                 -a -t 10.0.0.1:80 -r 10.0.1.2:8080 -m\n-A -t 10.0.0.1:81 -s rr";
    for step in 1..8 {
        let (kernel, mut client) = kernel_with(&rules(first));
        kernel.set_connections(web().key, key(1), 1, 0, 0);
        let mut syncer = Syncer::new(drained(60).at_most(0.5));
        syncer.want(rules(first));
        syncer.drop_destination(web().key, key(1));
        assert_eq!(client.pass(&mut syncer).draining, 1);
        kernel.advance(2 * SECOND);
        let next = rules("-A -t 10.0.0.1:82 -s rr\n-a -t 10.0.0.1:82 -r 10.0.1.5:8080 -m");
        syncer.want(next.clone());
        kernel.inject(step, Fault::meanwhile(|kernel| kernel.reload(0x30)));
        let report = client.pass(&mut syncer);
        kernel.clear_faults();
        let was_seen = syncer.known().is_some_and(|known| known.service(web().key).is_none());
        if was_seen {
            assert!(report.excess.is_none() && report.is_success(), "step {step}: {report}");
            assert_eq!(truth(&kernel), next, "step {step}: {report}");
        }
        assert!(was_seen || report.excess.is_some(), "step {step}: {report}");
        assert!(step > 1 || was_seen, "step {step}: {report}");
    }
}

/// A confirmation is of the whole pass, also of what its count of connections finds.
#[test]
fn what_a_count_finds_is_confirmed_too() {
    let all = web_with(&[backend(1), backend(2), backend(3), backend(4)]);
    let (kernel, mut client) = kernel_with(&all);
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(drained(60).at_most(0.3));
    syncer.want(web_with(&[backend(2), backend(3), backend(4)]));
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.excess), (1, None), "{report}");
    for last in [8, 9] {
        client.add_destination(web().key, &backend(last)).unwrap();
        kernel.set_connections(web().key, key(last), 1, 0, 0);
    }
    syncer.confirm();
    kernel.advance(report.next.unwrap());
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.excess), (3, None), "{report}");
    // The next losses need another.
    syncer.want(web_with(&[backend(2)]));
    assert!(client.pass(&mut syncer).excess.is_some());
}

/// Once: drains that began in the same pass were losses, and no part of the whole.
#[test]
fn the_share_counts_what_began_to_drain_in_the_pass() {
    for step in 1..=8 {
        let all: Vec<_> = (1..=10).map(backend).collect();
        let (kernel, mut client) = kernel_with(&web_with(&all));
        for last in 1..=10 {
            kernel.set_connections(web().key, key(last), 1, 0, 0);
        }
        let mut syncer = Syncer::new(drained(60).at_most(0.6));
        syncer.want(web_with(&all));
        assert!(client.pass(&mut syncer).is_success());
        syncer.want(web_with(&all[5..]));
        kernel.inject(
            step,
            Fault::meanwhile(|kernel| {
                let mut other = Client::connect_with(kernel.observer()).unwrap();
                other.add_destination(web().key, &backend(20)).unwrap();
                other.remove_destination(web().key, key(10)).unwrap();
            }),
        );
        let report = client.pass(&mut syncer);
        assert_eq!(report.excess, None, "step {step}: {report}");
    }
}

/// Once: a destination that could not be added again was removed at the very accident that the share
/// is to guard against.
#[test]
fn what_cannot_be_added_again_stays_with_a_withheld_service() {
    let mut all = web_with(&[backend(1), backend(2)]);
    for (last, port) in [(3, 81), (5, 82)] {
        let service =
            Service::tcp(Ipv4Addr::new(10, 0, 0, 1), port).scheduler(Scheduler::RoundRobin);
        all.insert_service(service).unwrap();
        all.insert_destination(service.key, backend(last)).unwrap();
        all.insert_destination(service.key, backend(last + 1)).unwrap();
    }
    let (kernel, mut client) = kernel_with(&all);
    let policy = drained(60).at_most(0.5).allowed(Allowed::all() - Allowed::ADD_DESTINATIONS);
    let mut syncer = Syncer::new(policy);
    syncer.want(all.clone());
    let _ = client.pass(&mut syncer);
    kernel.set_connections(web().key, key(2), 1, 0, 0);
    syncer.drop_service(web().key);
    assert_eq!(client.pass(&mut syncer).draining, 2);
    let mut other = Client::connect_with(kernel.observer()).unwrap();
    other.add_destination(web().key, &backend(7)).unwrap();
    syncer.want(Ruleset::new());
    kernel.advance(2 * SECOND);
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_some(), "{report}");
    syncer.want(all.clone());
    for _ in 0..2 {
        let _ = client.pass(&mut syncer);
        kernel.advance(2 * SECOND);
    }
    assert_eq!(truth(&kernel), all);
}

/// Once: where one of a service's drains was refused, the others were no loss, however many.
#[test]
fn drains_beside_a_refused_one_are_losses_too() {
    for is_refused in [false, true] {
        let mut all = web_with(&[backend(1).weight(0), backend(2)]);
        let other = Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80).scheduler(Scheduler::RoundRobin);
        all.insert_service(other).unwrap();
        for last in 11..=14 {
            all.insert_destination(other.key, backend(last)).unwrap();
        }
        let (kernel, mut client) = kernel_with(&all);
        let draining = Draining::within(60 * SECOND).interval(SECOND / 2);
        let mut syncer = Syncer::new(Policy::new().draining(draining).at_most(0.5));
        syncer.want(all);
        let _ = client.pass(&mut syncer);
        kernel.set_connections(web().key, key(1), 1, 0, 0);
        kernel.set_connections(web().key, key(2), 1, 0, 0);
        syncer.drop_service(web().key);
        if is_refused {
            kernel.inject(1, Fault::Refuse(1));
        }
        assert!(client.pass(&mut syncer).excess.is_none());
        kernel.clear_faults();
        let mut others = Client::connect_with(kernel.observer()).unwrap();
        for last in 3..=8 {
            others.add_destination(web().key, &backend(last)).unwrap();
        }
        kernel.advance(SECOND);
        let report = client.pass(&mut syncer);
        assert!(report.excess.is_some(), "{is_refused}: {report}");
        let there = truth(&kernel);
        let served = there.service(web().key).unwrap().destinations().filter(|it| it.weight > 0);
        assert!(served.count() >= 6, "{is_refused}: {report}\n{there}");
    }
}

/// Once: the deadline of the drain that others had undone long before held for the next one.
#[test]
fn what_others_raise_while_it_is_withheld_drains_anew() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    let mut syncer = Syncer::new(drained(60).at_most(0.5));
    syncer.want(truth(&kernel));
    let _ = client.pass(&mut syncer);
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    syncer.drop_destination(web().key, key(1));
    assert_eq!(client.pass(&mut syncer).draining, 1);
    let mut other = Client::connect_with(kernel.observer()).unwrap();
    other.update_destination(web().key, &backend(1)).unwrap();
    syncer.want(Ruleset::new());
    for (seconds, raised) in [(30, 1), (100, 0)] {
        kernel.advance(seconds * SECOND);
        syncer.resync();
        let report = client.pass(&mut syncer);
        assert!(report.excess.is_some(), "{report}");
        assert_eq!((report.raised, report.draining), (raised, 0), "{report}");
    }
    syncer.confirm();
    let report = client.pass(&mut syncer);
    assert_eq!((report.cut_off, report.draining), (0, 2), "{report}");
}

/// Once: the wishes between that pass and the next were withheld again.
#[test]
fn a_confirmation_outlives_a_pass_that_could_not_read() {
    let mut all = three_services();
    let fourth = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 83).scheduler(Scheduler::RoundRobin);
    all.insert_service(fourth).unwrap();
    all.insert_destination(fourth.key, backend(1)).unwrap();
    let (kernel, mut client) = kernel_with(&all);
    kernel.configure(|host| host.broadcast = vec![Ipv4Addr::new(10, 0, 1, 9)]);
    let mut syncer = Syncer::new(Policy::new().at_most(0.3));
    all.insert_destination(fourth.key, backend(9)).unwrap();
    syncer.want(all.clone());
    assert_eq!(client.pass(&mut syncer).failed.len(), 1);
    let services: Vec<_> = all.services().map(ServiceRules::key).collect();
    for service in &services[..2] {
        syncer.drop_service(*service);
    }
    assert!(client.pass(&mut syncer).excess.is_some());
    syncer.confirm();
    // The refused destination is to be tried again, for which its service is read.
    kernel.advance(2 * SECOND);
    kernel.inject(1, Fault::Refuse(12));
    let report = client.pass(&mut syncer);
    assert_eq!(report.changed, 0, "{report}");
    kernel.clear_faults();
    for service in &services[2..] {
        syncer.drop_service(*service);
    }
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_none(), "{report}");
    assert_eq!(truth(&kernel), Ruleset::new());
}

/// Under `dh` a destination at weight 0 refuses clients whom another one could take.
#[test]
fn a_withheld_service_loses_what_refuses_clients_beside_another_destination() {
    for is_there in [false, true] {
        let dh = web().scheduler(Scheduler::DestinationHash);
        let mut all = three_services();
        all.insert_service(dh).unwrap();
        all.insert_destination(dh.key, backend(2).weight(0)).unwrap();
        let (kernel, mut client) = kernel_with(&all);
        let mut syncer = Syncer::new(drained(60).at_most(0.5));
        syncer.want(all);
        let _ = client.pass(&mut syncer);
        kernel.set_connections(dh.key, key(1), 1, 0, 0);
        syncer.drop_destination(dh.key, key(1));
        assert_eq!(client.pass(&mut syncer).draining, 1);
        let mut wanted = Ruleset::new();
        wanted.insert_service(dh).unwrap();
        wanted.insert_destination(dh.key, backend(2)).unwrap();
        syncer.want(wanted);
        if is_there {
            let mut other = Client::connect_with(kernel.observer()).unwrap();
            other.update_destination(dh.key, &backend(2)).unwrap();
        }
        kernel.advance(2 * SECOND);
        syncer.resync();
        let report = client.pass(&mut syncer);
        assert!(report.excess.is_some(), "{report}");
        let there = truth(&kernel);
        let goes = there.service(dh.key).unwrap().destination(key(1)).is_none();
        assert_eq!(goes, is_there, "{report}\n{there}");
    }
}

/// No loss of a withheld plan is made, so that none is held back for another.
#[test]
fn a_withheld_plan_holds_nothing_back() {
    let (_kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    let policy = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS).at_most(0.0);
    let plan = client.plan(&web_with(&[backend(3)]), &policy).unwrap();
    let reasons = |left: &[Left]| left.iter().map(|left| left.why).collect::<Vec<_>>();
    assert_eq!(reasons(plan.left()), [Reason::NotAllowed, Reason::HeldBack]);
    let report = client.apply(plan).unwrap_err().into_report();
    assert!(report.excess.is_some(), "{report}");
    assert_eq!(reasons(&report.left), [Reason::NotAllowed], "{report}");
}

/// Once: a service that had not got its late scheduler was removed, though the pass was withheld whole.
#[test]
fn a_half_made_service_stays_while_something_is_withheld() {
    let kernel = Kernel::new();
    kernel.configure(|host| host.schedulers.retain(|name| name != "mh"));
    let mut client = kernel.connect().unwrap();
    let mut syncer = Syncer::new(Policy::new().at_most(0.5));
    syncer.want(web_with(&[1, 2, 3, 4, 5].map(backend)));
    assert!(client.pass(&mut syncer).is_success());
    let mh = Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80).scheduler(Scheduler::MAGLEV_HASH);
    syncer.want_service(mh).unwrap();
    for last in [1, 2] {
        syncer.want_destination(mh.key, backend(last)).unwrap();
    }
    kernel.inject(1, Fault::FailListing(12));
    let _ = client.pass(&mut syncer);
    let before = truth(&kernel);
    assert_eq!(before.services().len(), 2, "{before}");
    for last in 1..=4 {
        syncer.drop_destination(web().key, key(last));
    }
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_some(), "{report}");
    assert!(report.failed.iter().any(|it| it.change.service() == mh.key), "{report}");
    assert_eq!(truth(&kernel), before);
    syncer.confirm();
    let report = client.pass(&mut syncer);
    assert!(truth(&kernel).service(mh.key).is_none(), "{report}");
}
