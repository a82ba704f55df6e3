//! The syncer: what a pass costs, when it looks, and what it does after a pass that failed.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{SECOND, backend, before_and_after, kernel_with, key, truth, web, web_with};

/// 10,000 services with 10 destinations each.
fn large() -> Ruleset {
    let mut rules = Ruleset::new();
    for n in 0..10_000_u16 {
        let [high, low] = n.to_be_bytes();
        let service = Service::tcp(IpAddr::from([10, 0, high, low]), 80);
        rules.insert_service(service).unwrap();
        for last in 0..10 {
            rules.insert_destination(service.key, backend(last)).unwrap();
        }
    }
    rules
}

#[test]
fn an_unchanged_pass_makes_no_call_and_a_changed_weight_is_one_send() {
    let kernel = Kernel::new();
    let mut client = Client::connect_to(&kernel).unwrap();
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(large());
    let report = client.pass(&mut syncer);
    assert!(report.is_success() && report.changed == 110_000, "{report}");

    let before = kernel.steps();
    let report = client.pass(&mut syncer);
    assert_eq!((report.changed, kernel.steps() - before), (0, 0));

    let key = ServiceKey::tcp(Ipv4Addr::new(10, 0, 20, 20), 80);
    syncer.want_destination(key, backend(4).weight(9)).unwrap();
    let report = client.pass(&mut syncer);
    assert_eq!((report.changed, kernel.steps() - before), (1, 2), "one send, one receive");
    assert_eq!(client.destination(key, backend(4).key).unwrap().destination.weight, 9);

    // The same rules wanted anew are no change.
    let same = syncer.wanted().clone();
    let before = kernel.steps();
    syncer.want(same);
    let _ = client.pass(&mut syncer);
    assert_eq!(kernel.steps(), before);
}

#[test]
fn drift_shows_at_the_maximum_age_and_on_request() {
    let (kernel, mut client) = kernel_with(&Ruleset::new());
    let mut syncer = Syncer::new(Policy::new()).max_age(60 * SECOND);
    syncer.want(web_with(&[backend(1)]));
    let _ = client.pass(&mut syncer);
    let mut other = Client::connect_to(&kernel).unwrap();
    other.remove_destination(web().key, key(1)).unwrap();

    kernel.advance(59 * SECOND);
    assert_eq!(client.pass(&mut syncer).changed, 0);
    kernel.advance(SECOND);
    assert_eq!(client.pass(&mut syncer).changed, 1);
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1)]));

    other.flush().unwrap();
    syncer.resync();
    assert_eq!(client.pass(&mut syncer).changed, 2);
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1)]));
}

#[test]
fn a_pass_that_loses_answers_or_meets_others_ends_equal() {
    let (before, after) = before_and_after();
    for step in 1..20 {
        let faults: [fn() -> Fault; 4] = [
            || Fault::LoseAnswers,
            || Fault::Delay(300 * SECOND),
            || Fault::Close,
            || {
                Fault::meanwhile(|kernel| {
                    Client::connect_with(kernel.observer()).unwrap().flush().unwrap();
                })
            },
        ];
        for fault in faults {
            let (kernel, mut client) = kernel_with(&before);
            let mut syncer = Syncer::new(Policy::new());
            syncer.want(before.clone());
            let _ = client.pass(&mut syncer);
            syncer.want(after.clone());
            kernel.inject(step, fault());
            let report = client.pass(&mut syncer);
            kernel.clear_faults();
            let what = format!("{:?} at step {step}: {report}", fault());
            if !report.is_success() {
                kernel.advance(300 * SECOND);
                let report = client.pass(&mut syncer);
                assert!(report.is_success(), "{what}, then {report}");
            }
            // What others did after the last answer is drift.
            syncer.resync();
            let _ = client.pass(&mut syncer);
            assert_eq!(client.ruleset().unwrap(), after, "{what}");
        }
    }
}

/// Once: a first pass before anything was wanted removed every service there was.
#[test]
fn nothing_is_removed_before_all_that_is_wanted_is_known() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    let mut syncer = Syncer::new(Policy::new());
    let report = client.pass(&mut syncer);
    assert_eq!((report.changed, report.left.len()), (0, 1), "{report}");
    syncer.want_service(web()).unwrap();
    syncer.want_destination(web().key, backend(3)).unwrap();
    let report = client.pass(&mut syncer);
    assert_eq!((report.changed, report.left.len()), (1, 2), "{report}");
    assert_eq!(truth(&kernel), web_with(&[backend(1), backend(2), backend(3)]));
    syncer.want(web_with(&[backend(3)]));
    assert_eq!(client.pass(&mut syncer).changed, 2);
    assert_eq!(truth(&kernel), web_with(&[backend(3)]));
    syncer.want(Ruleset::new());
    assert_eq!(client.pass(&mut syncer).changed, 1);
}

/// Without a word on the age, drift was never seen.
#[test]
fn drift_is_seen_by_default_and_looking_is_cheap() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let mut syncer = Syncer::new(Policy::new());
    let mut never = Syncer::new(Policy::new()).max_age(MaxAge::never());
    for syncer in [&mut syncer, &mut never] {
        syncer.want(web_with(&[backend(1)]));
        let _ = client.pass(syncer);
    }
    client.flush().unwrap();
    kernel.advance(3600 * SECOND);
    assert_eq!(client.pass(&mut never).changed, 0);
    assert_eq!(client.pass(&mut syncer).changed, 2);

    // Reading took 20 s: a hundredth of the time is 2,000 s.
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(web_with(&[backend(1)]));
    kernel.inject(2, Fault::meanwhile(|kernel| kernel.advance(20 * SECOND)));
    let _ = client.pass(&mut syncer);
    let before = kernel.steps();
    kernel.advance(1900 * SECOND);
    let _ = client.pass(&mut syncer);
    assert_eq!(kernel.steps(), before);
    kernel.advance(100 * SECOND);
    let _ = client.pass(&mut syncer);
    assert!(kernel.steps() > before);
}

/// An empty list from an API, or a truncated file.
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
    // The next one is guarded again.
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
    // Half is not more than half.
    let (_kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    assert!(client.sync(&web_with(&[backend(1)]), &policy).unwrap().excess.is_none());
}

/// A syncer that has made a service with a destination, before the module was loaded anew.
fn before_a_reload() -> (Kernel, Client, Syncer) {
    let (kernel, mut client) = kernel_with(&Ruleset::new());
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(web_with(&[backend(1)]));
    let _ = client.pass(&mut syncer);
    kernel.reload(0x40);
    (kernel, client, syncer)
}

/// Once: where the module was found loaded anew by another call than the pass, nothing was done.
#[test]
fn a_reload_that_others_have_noticed_is_noticed() {
    let (kernel, mut client, mut syncer) = before_a_reload();
    client.info().unwrap();
    let report = client.pass(&mut syncer).into_result().unwrap();
    assert_eq!(report.changed, 2, "{report}");
    assert_eq!(truth(&kernel), *syncer.wanted());
}

/// Once: a client that was connected after a reload had seen none, and the syncer took the empty table
/// for the one that it knew.
#[test]
fn a_reload_before_another_client_was_connected_is_noticed() {
    let (kernel, _, mut syncer) = before_a_reload();
    let mut client = Client::connect_to(&kernel).unwrap();
    syncer.want_destination(web().key, backend(2)).unwrap();
    let report = client.pass(&mut syncer).into_result().unwrap();
    assert_eq!(report.changed, 3, "{report}");
    assert_eq!(truth(&kernel), *syncer.wanted());
}

/// Once: a confirmation of nothing stayed, and took a later emptying for confirmed.
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

/// Once: a client that found the module loaded anew knew that the table was empty, and the syncer
/// did not.
#[test]
fn a_reloaded_module_and_a_flush_are_noticed() {
    let lose: [fn(&Kernel); 2] = [
        |kernel| kernel.reload(0x40),
        |kernel| Client::connect_with(kernel.observer()).unwrap().flush().unwrap(),
    ];
    for lose in lose {
        let (kernel, mut client) = kernel_with(&Ruleset::new());
        let mut syncer = Syncer::new(Policy::new());
        let mut wanted = web_with(&[backend(1), backend(2)]);
        for last in 2..=5 {
            wanted.insert_service(Service::tcp(Ipv4Addr::new(10, 0, 0, last), 80)).unwrap();
        }
        syncer.want(wanted);
        let _ = client.pass(&mut syncer);
        lose(&kernel);
        syncer.want_destination(web().key, backend(1).weight(3)).unwrap();
        let report = client.pass(&mut syncer);
        assert!(report.is_success(), "{report}");
        assert_eq!(truth(&kernel), *syncer.wanted(), "{report}");
    }
}

/// Once: what was refused while an interface came up stayed away until the maximum age.
#[test]
fn what_failed_is_tried_again_after_growing_waits() {
    let kernel = Kernel::new();
    kernel.configure(|host| host.schedulers.retain(|name| name != "rr"));
    let mut client = Client::connect_to(&kernel).unwrap();
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(web_with(&[backend(1)]));
    let mut waits = Vec::new();
    for _ in 0..12 {
        let report = client.pass(&mut syncer);
        assert_eq!(report.failed.len(), 2, "{report}");
        let next = report.next.unwrap();
        waits.push(next);
        // Before, it is said and not tried.
        let before = kernel.steps();
        assert_eq!(client.pass(&mut syncer).failed.len(), 2);
        assert_eq!(kernel.steps(), before);
        kernel.advance(next);
    }
    assert_eq!(waits[..3], [SECOND, 2 * SECOND, 4 * SECOND]);
    assert_eq!(*waits.last().unwrap(), 300 * SECOND);
    kernel.configure(|host| host.schedulers.push("rr".to_owned()));
    let report = client.pass(&mut syncer);
    assert!(report.is_success() && report.next.is_none(), "{report}");
    assert_eq!(truth(&kernel), web_with(&[backend(1)]));
}

/// Once: counting looked through a listing for each destination that drains.
#[test]
fn draining_thousands_reads_each_listing_once() {
    let mut actual = web_with(&[]);
    for port in 1..=20_000 {
        let destination = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), port);
        actual.insert_destination(web().key, destination).unwrap();
    }
    let (kernel, mut client) = kernel_with(&actual);
    let policy = Policy::new().draining(Draining::within(SECOND));
    let report = client.sync(&web_with(&[]), &policy).unwrap();
    assert_eq!(report.drained, 20_000, "{report}");
    assert_eq!(truth(&kernel), web_with(&[]));
}

/// Once: a pass that withheld something stopped all drains, and named no time but now.
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
    // What was confirmed drains, too.
    kernel.advance(11 * SECOND);
    let _ = client.pass(&mut syncer);
    assert!(truth(&kernel).is_empty());
}

/// Once: the first planning of a pass alone was guarded, and what was found on the way was not.
#[test]
fn what_is_found_on_the_way_is_withheld_too() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let mut syncer = Syncer::new(Policy::new().at_most(0.1));
    syncer.want(web_with(&[backend(1)]));
    let _ = client.pass(&mut syncer);
    let mut other = Client::connect_to(&kernel).unwrap();
    other.remove_service(web().key).unwrap();
    for last in 1..=100 {
        other.add_service(&Service::tcp(Ipv4Addr::new(10, 0, 9, last), 80)).unwrap();
    }
    syncer.want_destination(web().key, backend(2)).unwrap();
    let report = client.pass(&mut syncer);
    assert!(report.excess.is_some(), "{report}");
    assert!(truth(&kernel).services().len() >= 100, "{report}");
    // A confirmation outlives a pass that could not read.
    syncer.confirm();
    syncer.resync();
    kernel.inject(1, Fault::Fail(5));
    assert!(client.pass(&mut syncer).error.is_some());
    kernel.clear_faults();
    assert!(client.pass(&mut syncer).is_success());
    assert_eq!(truth(&kernel), *syncer.wanted());
}

/// A destination that is held back is not taken away.
#[test]
fn what_is_held_back_is_no_excess() {
    let policy = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS).at_most(0.5);
    let plan = Plan::new(&web_with(&[backend(1)]), &web_with(&[backend(2)]), &policy);
    assert!(plan.excess().is_none() && plan.is_empty(), "{plan}");
}

/// Once: each service that had failed cost time by the number of all that had.
#[test]
fn thousands_of_services_that_failed_are_tried_again_at_once() {
    let refused = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    let mut wanted = Ruleset::new();
    for n in 0..8_000_u16 {
        let [high, low] = n.to_be_bytes();
        let service = Service::tcp(IpAddr::from([10, 0, high, low]), 80);
        wanted.insert_service(service).unwrap();
        wanted.insert_destination(service.key, refused).unwrap();
    }
    let mut client = Client::connect_to(&Kernel::new()).unwrap();
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(wanted);
    assert_eq!(client.pass(&mut syncer).failed.len(), 8_000);
    let same = syncer.wanted().clone();
    syncer.want(same);
    syncer.resync();
    let report = client.pass(&mut syncer);
    assert_eq!(report.failed.len(), 8_000);
}

/// Wanting the same again tries nothing again.
#[test]
fn the_same_wanted_again_is_no_change() {
    let kernel = Kernel::new();
    let mut client = Client::connect_to(&kernel).unwrap();
    let mut syncer = Syncer::new(Policy::new());
    let refused = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    syncer.want(web_with(&[refused]));
    let _ = client.pass(&mut syncer);
    let before = kernel.steps();
    syncer.want_service(web()).unwrap();
    syncer.want_destination(web().key, refused).unwrap();
    syncer.drop_destination(web().key, key(9));
    assert_eq!(client.pass(&mut syncer).failed.len(), 1);
    assert_eq!(kernel.steps(), before);
}
