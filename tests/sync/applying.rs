//! Carrying out a plan: faults at every step, and others who change the table meanwhile.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{
    SECOND, backend, before_and_after, ends_equal, kernel_with, key, report_of, rules, truth, web,
    web_with,
};

#[test]
fn a_fault_at_any_step_is_reported_or_mended_and_the_next_sync_ends_equal() {
    let faults: &[fn() -> Fault] = &[
        || Fault::Fail(4),
        || Fault::Fail(12),
        || Fault::Refuse(12),
        || Fault::LoseAnswers,
        || Fault::NoBuffers,
        || Fault::Delay(300 * SECOND),
        || Fault::Truncate(18),
        || Fault::Stale,
        || Fault::UnknownType,
        || Fault::FailListing(12),
        || Fault::Interrupted,
        || Fault::Close,
    ];
    let (before, after) = before_and_after();
    for fault in faults {
        for step in 1..40 {
            let (kernel, mut client) = kernel_with(&before);
            let what = format!("{:?} at step {step}", fault());
            kernel.inject(step, fault());
            let same = client.sync(&after, &Policy::new());
            kernel.clear_faults();
            let now = Client::connect_with(kernel.observer()).unwrap().ruleset().unwrap();
            if let Ok(report) = same {
                assert_eq!(now, after, "{what}: {report}");
            }
            // Once no answer is late any more, the same client works again, and so does a new one.
            kernel.advance(300 * SECOND);
            let report = client.sync(&after, &Policy::new()).unwrap();
            assert!(report.is_success(), "{what}: {report}");
            assert_eq!(client.ruleset().unwrap(), after, "{what}");
            ends_equal(&kernel, &before, &what);
        }
    }
}

/// Others add, change, remove and flush at every step; the wanted rules are there at the end.
#[test]
fn what_others_change_meanwhile_is_mended() {
    type Act = fn(&mut Client);
    let others: &[Act] = &[
        |other| other.flush().unwrap(),
        |other| drop(other.remove_service(web().key)),
        |other| drop(other.add_service(&Service::mark(7, Family::V4).unwrap())),
        |other| drop(other.remove_destination(web().key, (Ipv4Addr::new(10, 0, 1, 1), 80))),
        |other| drop(other.remove_destination(web().key, (Ipv4Addr::new(10, 0, 1, 2), 80))),
        |other| {
            let added = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 3), 80).weight(9);
            drop(other.add_destination(web().key, &added));
        },
        |other| drop(other.update_service(&web().scheduler(Scheduler::LeastConnection))),
    ];
    let (before, after) = before_and_after();
    for act in others {
        // A later change is seen by no reading of this sync: it is drift, for a later pass.
        let (kernel, mut client) = kernel_with(&before);
        let start = kernel.steps();
        let _ = client.sync(&after, &Policy::new()).unwrap();
        let steps = kernel.steps() - start;
        for step in 1..=steps {
            let (kernel, mut client) = kernel_with(&before);
            let act = *act;
            kernel.inject(
                step,
                Fault::meanwhile(move |kernel| {
                    act(&mut Client::connect_with(kernel.observer()).unwrap());
                }),
            );
            let report = client.sync(&after, &Policy::new()).unwrap();
            assert!(report.is_success(), "step {step}: {report}");
            ends_equal(&kernel, &after, "afterwards");
        }
    }
}

#[test]
fn a_missing_scheduler_fails_its_service_alone() {
    let (_kernel, mut client) = kernel_with(&web_with(&[]));
    let mut wanted = web_with(&[backend(1)]);
    let odd = Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80).scheduler("nosuch".parse().unwrap());
    wanted.insert_service(odd).unwrap();
    wanted.insert_destination(odd.key, backend(1)).unwrap();
    let report = client.sync(&wanted, &Policy::new()).unwrap_err().into_report();
    assert!(report.failed[0].error.is_module_not_found(), "{report}");
    assert_eq!(report.failed.len(), 2, "the service and its destination: {report}");
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1)]));
}

/// Once: a refused change was reported again each time that changes of others had been undone.
#[test]
fn what_is_refused_is_reported_once_though_others_meddle() {
    let (kernel, mut client) = kernel_with(&web_with(&[]));
    let refused = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    let plan = client.plan(&web_with(&[backend(1), refused]), &Policy::new()).unwrap();
    kernel.connect().unwrap().add_destination(web().key, &backend(1).weight(9)).unwrap();
    let report = client.apply(plan).unwrap_err().into_report();
    let failed: Vec<_> = report.failed.iter().map(|failed| failed.change).collect();
    assert_eq!(failed, [Change::AddDestination(web().key, refused)], "{report}");
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1)]));
}

#[test]
fn progress_is_told_to_its_end() {
    let (_kernel, mut client) = kernel_with(&Ruleset::new());
    let wanted = web_with(&(0..200).map(backend).collect::<Vec<_>>());
    let plan = client.plan(&wanted, &Policy::new()).unwrap();
    let mut seen = Vec::new();
    let _ = client
        .apply_with(plan, |event| {
            if let SyncEvent::Progress(progress) = event {
                seen.push(progress);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let writing: Vec<_> = seen.iter().filter(|p| p.stage == Stage::Writing).collect();
    assert_eq!(writing.len(), 201);
    assert!(writing.iter().enumerate().all(|(n, p)| p.done == n + 1 && p.total == 201));
    assert_eq!(seen.last().unwrap().stage, Stage::Verifying);
}

/// Once: a change whose answer was lost, and which was found to be made, had an event that it had
/// not been made, and no other.
#[test]
fn a_change_that_is_found_to_be_made_is_told() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let plan = client.plan(&web_with(&[backend(1), backend(2)]), &Policy::new()).unwrap();
    let expected = plan.changes().to_vec();
    kernel.inject(1, Fault::LoseAnswers);
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    let report = client.apply_with(plan, |event| {
        match event {
            SyncEvent::Made(change) => made.push(*change),
            SyncEvent::Failed(change, error) => {
                assert!(error.is_outcome_unknown(), "{error}");
                failed.push(*change);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert_eq!(report.unwrap().changed, 1);
    assert_eq!((failed, made), (expected.clone(), expected));
}

/// Once: destinations were added to a service that others had just added, though the policy does
/// not allow adding destinations to services that are there.
#[test]
fn a_service_of_others_gets_no_destinations_without_permission() {
    let wanted = web_with(&[backend(1), backend(2)]);
    for scheduler in [Scheduler::RoundRobin, Scheduler::MAGLEV_HASH] {
        let policy =
            Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS).detailed(true);
        // The service is not there yet: it comes with its destinations.
        let kernel = Kernel::new();
        let report = kernel.connect().unwrap().sync(&wanted, &policy).unwrap();
        assert_eq!((report.changed, truth(&kernel)), (3, wanted.clone()), "{report}");
        // Others add it between the reading and the writing.
        let kernel = Kernel::new();
        let mut client = kernel.connect().unwrap();
        let mut syncer = Syncer::new(policy.clone());
        syncer.want(Ruleset::new());
        assert!(client.pass(&mut syncer).is_success());
        let mut other = Client::connect_with(kernel.observer()).unwrap();
        other.add_service(&web().scheduler(scheduler)).unwrap();
        syncer.want(wanted.clone());
        let report = client.pass(&mut syncer);
        assert_eq!(truth(&kernel), web_with(&[]), "{report}");
        assert_eq!(report.left.len(), 2, "{report}");
        // Others add it before any step.
        for step in 1..=10 {
            let kernel = Kernel::new();
            let mut client = kernel.connect().unwrap();
            kernel.inject(
                step,
                Fault::meanwhile(move |kernel| {
                    let mut other = Client::connect_with(kernel.observer()).unwrap();
                    let _ = other.add_service(&web().scheduler(scheduler));
                }),
            );
            let report = report_of(client.sync(&wanted, &policy));
            let added = report.made.iter().any(|change| matches!(change, Change::AddService(_)));
            let table = truth(&kernel);
            assert_eq!(table.destination_count(), if added { 2 } else { 0 }, "{step}: {report}");
        }
    }
}

/// Once: such a service stayed empty, which was a success though the kernel had refused its
/// destinations for a moment.
#[test]
fn a_new_service_gets_its_destinations_though_they_fail_once() {
    let policy = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS);
    let wanted = web_with(&[backend(1), backend(2)]);
    let faults: [fn() -> Fault; 4] =
        [|| Fault::Refuse(12), || Fault::LoseAnswers, || Fault::Fail(105), || Fault::Refuse(5)];
    for step in 1..=12 {
        for fault in faults {
            let what = format!("{:?} at step {step}", fault());
            let (kernel, mut client) = kernel_with(&Ruleset::new());
            let plan = client.plan(&wanted, &policy).unwrap();
            kernel.inject(step, fault());
            let report = report_of(client.apply(plan));
            kernel.clear_faults();
            let is_done = truth(&kernel) == wanted;
            assert!(is_done || !report.is_success(), "{what}: {report}\n{}", truth(&kernel));

            let (kernel, mut client) = kernel_with(&Ruleset::new());
            let mut syncer = Syncer::new(policy.clone());
            syncer.want(wanted.clone());
            kernel.inject(step, fault());
            let _ = client.pass(&mut syncer);
            kernel.clear_faults();
            kernel.advance(2 * SECOND);
            let report = client.pass(&mut syncer);
            assert_eq!((report.is_success(), truth(&kernel)), (true, wanted.clone()), "{what}");
            // Now the service is like any other.
            syncer.want(web_with(&[backend(1), backend(2), backend(3)]));
            let report = client.pass(&mut syncer);
            assert_eq!((report.left.len(), truth(&kernel)), (1, wanted.clone()), "{what}");
            client.remove_destination(web().key, key(1)).unwrap();
            syncer.resync();
            let report = client.pass(&mut syncer);
            assert_eq!((report.changed, report.left.len()), (0, 2), "{what}: {report}");
        }
    }
}

/// A destination that the kernel refuses for good is a failure, in each pass.
#[test]
fn a_refused_destination_of_a_new_service_is_a_failure() {
    let (kernel, mut client) = kernel_with(&Ruleset::new());
    kernel.configure(|host| host.broadcast = vec![Ipv4Addr::new(10, 0, 1, 9)]);
    let policy = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS);
    let mut syncer = Syncer::new(policy);
    syncer.want(web_with(&[backend(1), backend(9)]));
    for _ in 0..3 {
        let report = client.pass(&mut syncer);
        assert_eq!((report.failed.len(), report.left.len()), (1, 0), "{report}");
        kernel.advance(10 * SECOND);
    }
    // Others have removed the service, and added one of their own.
    client.remove_service(web().key).unwrap();
    syncer.want(Ruleset::new());
    assert!(client.pass(&mut syncer).is_success());
    client.add_service(&web()).unwrap();
    syncer.want(web_with(&[backend(9)]));
    syncer.resync();
    let report = client.pass(&mut syncer);
    assert_eq!((report.failed.len(), report.left.len()), (0, 1), "{report}");
}

/// Once: changes of a later planning that began with a new service had earlier ones sent again.
#[test]
fn no_change_is_sent_twice_though_services_are_planned_again() {
    let table = |weight: u32| {
        rules(&format!(
            "-A -t 10.0.0.2:80 -s rr\n-a -t 10.0.0.2:80 -r 10.0.1.1:8080 -m -w {weight}\n"
        ))
    };
    let policy = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS);
    let (kernel, mut client) = kernel_with(&table(1));
    let mut wanted = table(2);
    wanted.insert_service(web()).unwrap();
    wanted.insert_destination(web().key, backend(1)).unwrap();
    let plan = client.plan(&wanted, &policy).unwrap();
    let other = Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80).key;
    // Before the send of the gains, others remove a service that is to be changed.
    kernel.inject(
        3,
        Fault::meanwhile(move |kernel| {
            let mut client = Client::connect_with(kernel.observer()).unwrap();
            client.remove_service(other).unwrap();
        }),
    );
    let (mut made, mut failed) = (0, 0);
    let report = client.apply_with(plan, |event| {
        made += usize::from(matches!(event, SyncEvent::Made(_)));
        failed += usize::from(matches!(event, SyncEvent::Failed(..)));
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert_eq!(truth(&kernel), wanted, "{report}");
    // The change of the service that is gone, and both additions of it and of the new one.
    assert_eq!((failed, made, report.changed), (1, 4, 4), "{report}");
}

/// Once: of changes that were found to be made, those after the one that called the rest off had no
/// event.
#[test]
fn all_that_is_found_to_be_made_is_told_though_the_rest_is_called_off() {
    for calls_off in 0..16 {
        let (kernel, mut client) = kernel_with(&web_with(&[]));
        let wanted = web_with(&[backend(1), backend(2), backend(3)]);
        let plan = client.plan(&wanted, &Policy::new()).unwrap();
        kernel.inject(1, Fault::LoseAnswers);
        let (mut made, mut events, mut told_after) = (0, 0, 0);
        let report = client.apply_with(plan, |event| {
            made += usize::from(matches!(event, SyncEvent::Made(_)));
            told_after += usize::from(
                events > calls_off && !matches!(event, SyncEvent::Made(_) | SyncEvent::Failed(..)),
            );
            events += 1;
            if events > calls_off { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let report = report_of(report);
        assert_eq!((made, told_after), (report.changed, 0), "{calls_off}: {report}");
    }
}

/// Once: the right to fill a new service outlived the service, and filled one of others.
#[test]
fn a_service_that_others_put_in_place_of_a_new_one_is_theirs() {
    let policy = Policy::new().allowed(Allowed::ADD_SERVICES);
    let theirs = web().scheduler(Scheduler::WeightedLeastConnection);
    let replaces = move |kernel: &Kernel| {
        let mut other = Client::connect_with(kernel.observer()).unwrap();
        if other.remove_service(web().key).is_ok() {
            other.add_service(&theirs).unwrap();
        }
    };
    let is_theirs = |kernel: &Kernel| {
        let there = truth(kernel);
        let rules = there.service(web().key).unwrap();
        assert_eq!((*rules.service(), rules.destinations().len()), (theirs, 0), "{there}");
    };
    let (kernel, mut client) = kernel_with(&Ruleset::new());
    let plan = client.plan(&web_with(&[backend(1)]), &policy).unwrap();
    kernel.inject(
        3,
        Fault::meanwhile(|kernel| {
            let mut other = Client::connect_with(kernel.observer()).unwrap();
            other.remove_service(web().key).unwrap();
        }),
    );
    kernel.inject(
        4,
        Fault::meanwhile(move |kernel| {
            Client::connect_with(kernel.observer()).unwrap().add_service(&theirs).unwrap();
        }),
    );
    let _ = client.apply(plan);
    is_theirs(&kernel);

    // Between two passes.
    let (kernel, mut client) = kernel_with(&Ruleset::new());
    kernel.configure(|host| host.broadcast = vec![Ipv4Addr::new(10, 0, 1, 9)]);
    let mut syncer = Syncer::new(policy.clone());
    syncer.want(web_with(&[backend(9)]));
    assert_eq!(client.pass(&mut syncer).failed.len(), 1);
    replaces(&kernel);
    kernel.configure(|host| host.broadcast.clear());
    kernel.advance(600 * SECOND);
    let report = client.pass(&mut syncer);
    assert_eq!((report.failed.len(), report.left.len()), (0, 2), "{report}");
    is_theirs(&kernel);

    // No longer wanted, and wanted again.
    let (kernel, mut client) = kernel_with(&Ruleset::new());
    kernel.configure(|host| host.broadcast = vec![Ipv4Addr::new(10, 0, 1, 9)]);
    let mut syncer = Syncer::new(policy);
    syncer.want(web_with(&[backend(1), backend(9)]));
    assert_eq!(client.pass(&mut syncer).failed.len(), 1);
    kernel.configure(|host| host.broadcast.clear());
    syncer.drop_destination(web().key, key(9));
    assert!(client.pass(&mut syncer).is_success());
    syncer.want_destination(web().key, backend(9)).unwrap();
    let report = client.pass(&mut syncer);
    assert_eq!((report.changed, report.left.len()), (0, 1), "{report}");
}
