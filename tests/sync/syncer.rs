//! The syncer: the cost of a pass, when it reads the table, and the passes after a failure.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{SECOND, backend, before_and_after, drained, kernel_with, key, truth, web, web_with};

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
    let mut client = kernel.connect().unwrap();
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

    // Wanting the same rules again changes nothing.
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
    let mut other = kernel.connect().unwrap();
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
            // Changes by others after the last answer are drift.
            syncer.resync();
            let _ = client.pass(&mut syncer);
            assert_eq!(client.ruleset().unwrap(), after, "{what}");
        }
    }
}

/// Once: a first pass before the controller wanted anything removed every service.
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

/// Once: without a maximum age, drift was never seen.
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

/// Once: a destination that was refused while an interface came up stayed away until the maximum
/// age.
#[test]
fn what_failed_is_tried_again_after_growing_waits() {
    let kernel = Kernel::new();
    kernel.configure(|host| host.schedulers.retain(|name| name != "rr"));
    let mut client = kernel.connect().unwrap();
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(web_with(&[backend(1)]));
    let mut waits = Vec::new();
    for _ in 0..12 {
        let report = client.pass(&mut syncer);
        assert_eq!(report.failed.len(), 2, "{report}");
        let next = report.next.unwrap();
        waits.push(next);
        // Before that time the failure is reported, and the change is not tried.
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

/// Once: counting searched a whole listing for each draining destination.
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

/// Once: each failed service took time in proportion to the number of failed services.
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
    let mut client = Kernel::new().connect().unwrap();
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(wanted);
    assert_eq!(client.pass(&mut syncer).failed.len(), 8_000);
    let same = syncer.wanted().clone();
    syncer.want(same);
    syncer.resync();
    let report = client.pass(&mut syncer);
    assert_eq!(report.failed.len(), 8_000);
}

/// Wanting the same again does not try failed changes again.
#[test]
fn the_same_wanted_again_is_no_change() {
    let kernel = Kernel::new();
    let mut client = kernel.connect().unwrap();
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

/// Once: while a destination drained and the table could not be read, the report asked for the next
/// pass at once, and a controller asked the kernel without a pause.
#[test]
fn a_pass_that_drains_and_cannot_read_waits() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 5, 0, 0);
    let mut syncer = Syncer::new(drained(3600));
    syncer.want(web_with(&[backend(2)]));
    assert_eq!(client.pass(&mut syncer).draining, 1);
    let mut resumed = Syncer::new(drained(3600)).resume(&syncer.drains());
    resumed.want(web_with(&[backend(2)]));
    syncer.resync();
    for mut syncer in [syncer, resumed] {
        for wait in [1, 2, 4, 8] {
            kernel.inject(1, Fault::Refuse(1));
            let report = client.pass(&mut syncer);
            assert!(report.error.is_some(), "{report}");
            assert_eq!(report.next, Some(wait * SECOND), "{report}");
            kernel.advance(wait * SECOND);
        }
        let report = client.pass(&mut syncer);
        assert!(report.is_success() && report.draining == 1, "{report}");
    }
}

/// Once: an interval of 0, written into the field, kept a pass reading for ever.
#[test]
fn a_pass_without_an_interval_ends() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut draining = Draining::within(60 * SECOND);
    draining.interval = Duration::ZERO;
    let mut syncer = Syncer::new(Policy::new().draining(draining));
    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer);
    assert!(report.next > Some(Duration::ZERO), "{report}");
    assert_eq!(report.draining, 1, "{report}");
}

/// Once: a reading that failed once waited as long as what had been refused for long.
#[test]
fn a_failed_reading_is_tried_again_soon() {
    let refused = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    let mut wanted = web_with(&[backend(1)]);
    let other = Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80);
    wanted.insert_service(other).unwrap();
    wanted.insert_destination(other.key, refused).unwrap();
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let mut syncer = Syncer::new(Policy::new()).max_age(MaxAge::never());
    syncer.want(wanted);
    for _ in 0..12 {
        let report = client.pass(&mut syncer);
        kernel.advance(report.next.unwrap());
    }
    assert!(client.pass(&mut syncer).next.unwrap() > 60 * SECOND);
    Client::connect_with(kernel.observer()).unwrap().flush().unwrap();
    syncer.resync();
    kernel.inject(1, Fault::Refuse(12));
    let report = client.pass(&mut syncer);
    assert!(report.error.is_some() && report.next.unwrap() <= SECOND, "{report}");
    kernel.advance(report.next.unwrap());
    let _ = client.pass(&mut syncer);
    assert_eq!(truth(&kernel).services().len(), 2);
}

/// Once: the next failure of the same destination waited as long as the last one.
#[test]
fn another_change_of_the_same_destination_is_tried_again_soon() {
    let (kernel, mut client) = kernel_with(&web_with(&[]));
    kernel.configure(|host| host.broadcast = vec![Ipv4Addr::new(10, 0, 1, 9)]);
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(web_with(&[backend(9)]));
    let mut next = SECOND;
    for _ in 0..6 {
        let report = client.pass(&mut syncer);
        assert_eq!(report.next, Some(next), "{report}");
        kernel.advance(next);
        next *= 2;
    }
    syncer.want_destination(web().key, backend(9).weight(5)).unwrap();
    let report = client.pass(&mut syncer);
    assert_eq!((report.failed.len(), report.next), (1, Some(SECOND)), "{report}");
}

/// What others once set is not looked for after each later write.
#[test]
fn drift_that_was_mended_costs_later_changes_nothing() {
    let mut all = web_with(&[backend(1)]);
    all.insert_service(Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80)).unwrap();
    let (kernel, mut client) = kernel_with(&all);
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(all);
    assert!(client.pass(&mut syncer).is_success());
    client.update_destination(web().key, &backend(1).weight(7)).unwrap();
    syncer.resync();
    let report = client.pass(&mut syncer);
    assert_eq!((report.is_success(), report.changed), (true, 1), "{report}");
    let before = kernel.steps();
    syncer.want_destination(web().key, backend(1).weight(2)).unwrap();
    let report = client.pass(&mut syncer);
    assert_eq!((report.changed, kernel.steps() - before), (1, 2), "one send, one receive");
}

/// Once refused, a change waits until `Report::next`, though connections are counted earlier.
#[test]
fn a_refused_change_is_not_tried_at_each_count() {
    let steps = |with_refused: bool| {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
        kernel.configure(|host| host.broadcast = vec![Ipv4Addr::new(10, 0, 1, 9)]);
        kernel.set_connections(web().key, key(2), 1, 0, 0);
        let mut syncer = Syncer::new(drained(600));
        let wanted = [backend(1), backend(9)];
        syncer.want(web_with(if with_refused { &wanted } else { &wanted[..1] }));
        // It is tried after 1, 3, 7 and 15 s.
        for _ in 0..17 {
            let _ = client.pass(&mut syncer);
            kernel.advance(SECOND);
        }
        let before = kernel.steps();
        for _ in 0..3 {
            assert_eq!(client.pass(&mut syncer).failed.len(), usize::from(with_refused));
            kernel.advance(SECOND);
        }
        kernel.steps() - before
    };
    assert_eq!(steps(true), steps(false));
}
