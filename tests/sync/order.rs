//! Nothing is taken away before its replacement is added.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{SECOND, backend, drained, kernel_with, key, report_of, rules, truth, web, web_with};

fn many(range: std::ops::RangeInclusive<u8>) -> Ruleset {
    web_with(&range.map(backend).collect::<Vec<_>>())
}

/// Once: the removals in the next window went ahead though the additions had failed, and the
/// service had no destination left.
#[test]
fn additions_that_fail_once_are_made_before_anything_is_removed() {
    let faults: [fn() -> Fault; 5] = [
        || Fault::Fail(12),
        || Fault::Refuse(12),
        || Fault::LoseAnswers,
        || Fault::Close,
        || Fault::NoBuffers,
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for fault in faults {
        for step in 1..12 {
            let (kernel, _) = kernel_with(&many(1..=100));
            let wanted = many(101..=200);
            let client = runtime.block_on(kernel.connect_async()).unwrap();
            let plan = runtime.block_on(client.plan(&wanted, &Policy::new())).unwrap();
            kernel.inject(step, fault());
            let report = report_of(runtime.block_on(client.apply(plan)));
            let what = format!("{:?} at step {step}: {report}", fault());
            let now = truth(&kernel);
            assert!(now.destination_count() > 0, "{what}");
            // If the table cannot be read back, even a right table is no success.
            assert!(now == wanted || !report.is_success(), "{what}");
            assert!(report.is_success() || report.error.is_some(), "{what}");
        }
    }
}

/// A destination that the kernel has no route to, or that the policy does not allow, never comes: a
/// serving destination stays.
#[test]
fn a_service_keeps_a_destination_where_none_can_take_its_place() {
    let unreachable = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    let actual = web_with(&[backend(1), backend(2).weight(5), backend(3).weight(5)]);
    let not_added = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS);
    for (wanted, policy) in [
        (web_with(&[unreachable]), Policy::new()),
        (web_with(&[unreachable]), drained(10)),
        (web_with(&[backend(9)]), not_added.clone()),
        (web_with(&[backend(9)]), not_added.draining(Draining::within(SECOND))),
    ] {
        let (_kernel, mut client) = kernel_with(&actual);
        let report = report_of(client.sync(&wanted, &policy));
        let held: Vec<_> = report.left.iter().filter(|l| l.why == Reason::HeldBack).collect();
        assert_eq!(held.len(), 1, "{report}");
        assert_eq!(held[0].what, Difference::UnwantedDestination(backend(2).weight(5)));
        assert_eq!(client.ruleset().unwrap(), web_with(&[backend(2).weight(5)]), "{report}");
    }
}

#[test]
fn the_last_weight_is_not_lowered_to_none() {
    let unreachable = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    let (_kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    let wanted = web_with(&[backend(1).weight(0), backend(2).weight(0), unreachable]);
    let report = client.sync(&wanted, &Policy::new()).unwrap_err().into_report();
    assert_eq!((report.failed.len(), report.left.len()), (1, 1), "{report}");
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1), backend(2).weight(0)]));

    // If no destination is wanted to serve, none has to stay.
    let wanted = web_with(&[backend(1).weight(0), backend(2).weight(0)]);
    let report = client.sync(&wanted, &Policy::new()).unwrap();
    assert!(report.is_success() && report.left.is_empty(), "{report}");
    assert_eq!(client.ruleset().unwrap(), wanted);
}

/// Failures elsewhere do not prevent the removal, which comes last.
#[test]
fn a_service_is_removed_after_its_successor_has_been_tried() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let wanted = rules("-A -f 7 -s nosuch\n-a -f 7 -r 10.0.1.1:0 -m");
    let plan = client.plan(&wanted, &Policy::new()).unwrap();
    let mut seen = Vec::new();
    let report = client
        .apply_with(plan, |event| {
            match event {
                SyncEvent::Made(change) => seen.push((change.service(), true)),
                SyncEvent::Failed(change, _) => seen.push((change.service(), false)),
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap_err()
        .into_report();
    let mark = wanted.services().next().unwrap().key();
    assert_eq!(seen.first(), Some(&(mark, false)));
    assert_eq!(seen.last(), Some(&(web().key, true)), "{report}");
    assert_eq!(report.failed.len(), 2, "{report}");
    assert!(report.failed.iter().all(|failed| failed.error.is_module_not_found()), "{report}");
    assert!(truth(&kernel).is_empty());
}

/// A caller that breaks off once the replacement has failed keeps the old destination.
#[test]
fn a_caller_can_stop_the_rest() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let wanted = rules("-A -f 7 -s nosuch\n-a -f 7 -r 10.0.1.1:0 -m");
    let plan = client.plan(&wanted, &Policy::new()).unwrap();
    let report = client
        .apply_with(plan, |event| match event {
            SyncEvent::Failed(..) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .unwrap_err()
        .into_report();
    assert!(!report.is_success(), "{report}");
    let failed = |change: &Change| report.failed.iter().any(|failed| failed.change == *change);
    assert!(failed(&Change::RemoveService(web())), "what was not done is said: {report}");
    assert_eq!(truth(&kernel), web_with(&[backend(1)]));
}

/// Between the additions and the removals, others remove the destination that was to stay.
#[test]
fn what_others_take_away_is_seen_at_the_next_read() {
    for step in 1..12 {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
        kernel.inject(
            step,
            Fault::meanwhile(|kernel: &Kernel| {
                let mut other = Client::connect_with(kernel.observer()).unwrap();
                drop(other.remove_destination(web().key, key(2)));
            }),
        );
        let wanted = web_with(&[backend(2), backend(3)]);
        let report = client.sync(&wanted, &Policy::new()).unwrap();
        assert!(report.is_success(), "step {step}: {report}");
        kernel.clear_faults();
        let _ = client.sync(&wanted, &Policy::new()).unwrap();
        assert_eq!(truth(&kernel), wanted);
    }
}

/// Whenever the caller stops, each planned change is made or reported.
#[test]
fn what_is_stopped_is_made_or_said() {
    let (before, after) = super::before_and_after();
    for event in 1.. {
        let (kernel, mut client) = kernel_with(&before);
        let plan = client.plan(&after, &Policy::new()).unwrap();
        let planned = plan.changes().len();
        let (mut seen, mut stopped) = (0, false);
        let report = report_of(client.apply_with(plan, |_| {
            seen += 1;
            stopped = seen >= event;
            if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        assert_eq!(report.changed + report.failed.len(), planned, "event {event}: {report}");
        let report = client.sync(&after, &Policy::new()).unwrap();
        assert!(report.is_success(), "{report}");
        assert_eq!(truth(&kernel), after);
        if !stopped {
            break;
        }
    }
}

/// Once: if the caller stopped before losses by others were made up for, no list of the report had
/// them.
#[test]
fn a_stop_before_what_others_did_is_mended_says_it() {
    for event in 1..20 {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
        let plan = client.plan(&web_with(&[backend(1), backend(2)]), &Policy::new()).unwrap();
        let (mut seen, mut is_read) = (0, false);
        let meddler = kernel.clone();
        let report = report_of(client.apply_with(plan, |told| {
            is_read = matches!(told, SyncEvent::Progress(p) if p.stage == Stage::Verifying);
            if matches!(told, SyncEvent::Made(_)) {
                let mut other = Client::connect_with(meddler.observer()).unwrap();
                drop(other.remove_destination(web().key, key(2)));
            }
            seen += 1;
            if seen >= event { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        // Acknowledged changes count as made until the table is read again.
        let is_there = truth(&kernel) == web_with(&[backend(1), backend(2)]);
        assert!(!is_read || report.is_success() == is_there, "event {event}: {report}");
    }
}

/// Once: if the caller stopped, no list of the report had the changes that were refused, or that
/// were to be read again.
#[test]
fn a_stop_never_makes_a_success_of_a_wrong_table() {
    let refused = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    let actual = web_with(&[backend(1), backend(4)]);
    let wanted = web_with(&[backend(2), backend(4), refused]);
    for policy in [Policy::new(), drained(10)] {
        for event in 1..40 {
            let (kernel, mut client) = kernel_with(&actual);
            kernel.set_connections(web().key, key(1), 1, 0, 0);
            let plan = client.plan(&wanted, &policy).unwrap();
            let mut seen = 0;
            let report = client
                .apply_with(plan, |_| {
                    seen += 1;
                    if seen >= event { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
                .unwrap_err()
                .into_report();
            let what = format!("event {event}: {report}");
            assert!(!report.is_success(), "{what}");
            let of_refused = report
                .failed
                .iter()
                .filter(|failed| failed.change == Change::AddDestination(web().key, refused));
            assert_eq!(of_refused.count(), 1, "{what}");
            let is_failed =
                report.failed.iter().any(|failed| failed.change.destination() == Some(key(1)));
            let is_there = truth(&kernel).service(web().key).unwrap().destination(key(1)).is_some();
            let is_said = usize::from(is_failed) + report.draining;
            assert_eq!(is_said, usize::from(is_there), "{what}");
        }
    }
}

/// A service that goes is told whole, though another service was planned again before the stop.
#[test]
fn what_was_to_come_after_the_stop_is_told_though_others_are_planned_again() {
    let second = Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80);
    let mut before = web_with(&[backend(1)]);
    before.insert_service(second).unwrap();
    before.insert_destination(second.key, backend(1)).unwrap();
    let mut wanted = Ruleset::new();
    wanted.insert_service(second).unwrap();
    wanted.insert_destination(second.key, backend(1)).unwrap();
    wanted.insert_destination(second.key, backend(2)).unwrap();
    let (kernel, mut client) = kernel_with(&before);
    kernel.set_connections(web().key, backend(1).key, 1, 0, 0);
    let plan = client.plan(&wanted, &drained(5)).unwrap();
    kernel.inject(1, Fault::Refuse(12));
    let mut made = 0;
    let outcome = client.apply_with(plan, |event| {
        made += usize::from(matches!(event, SyncEvent::Made(_)));
        if made == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = report_of(outcome);
    let failed: Vec<_> = report.failed.iter().map(|failed| failed.change).collect();
    let removal = Change::RemoveService(web());
    assert!(failed.contains(&removal), "{report}");
    assert!(failed.contains(&Change::DrainDestination(web().key, backend(1))), "{report}");
}
