//! New services of `mh`, which get their scheduler after their destinations: kernels without `mh`,
//! controllers that stop between the two, and others at work meanwhile.

use std::sync::{Arc, Mutex};

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{SECOND, backend, rules, truth, web};

fn table(scheduler: &str, destinations: u8) -> Ruleset {
    let each = |last| format!("-a -t 10.0.0.1:80 -r 10.0.1.{last}:8080 -m\n");
    let destinations: String = (1..=destinations).map(each).collect();
    rules(&format!("-A -t 10.0.0.1:80 -s {scheduler}\n{destinations}"))
}

/// A kernel that lacks `mh`.
fn without_mh() -> (Kernel, Client) {
    let kernel = Kernel::new();
    kernel.configure(|host| host.schedulers.retain(|name| name != "mh"));
    let client = kernel.connect().unwrap();
    (kernel, client)
}

fn detailed() -> Policy {
    Policy::new().detailed(true)
}

/// The tables at each of the next steps.
fn watch(kernel: &Kernel) -> Arc<Mutex<Vec<Ruleset>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    for step in 1..50 {
        let seen = Arc::clone(&seen);
        kernel
            .inject(step, Fault::meanwhile(move |kernel| seen.lock().unwrap().push(truth(kernel))));
    }
    seen
}

fn has_no_scheduler(rules: &Ruleset) -> bool {
    rules.services().any(|rules| rules.service().scheduler == Scheduler::Unbound)
}

/// As many changes are listed as counted.
fn agrees(report: &Report) {
    assert_eq!(report.changed, report.made.len(), "{report} {:?}", report.made);
}

#[test]
fn a_new_service_gets_its_scheduler_last_and_counts_once() {
    for (scheduler, allowed, is_late) in [
        ("mh", Allowed::all(), true),
        ("mh -b mh-fallback,mh-port", Allowed::all(), true),
        ("sh", Allowed::all(), false),
        ("mh", Allowed::all() - Allowed::UPDATE_SERVICES, false),
        ("mh", Allowed::all() - Allowed::REMOVE_SERVICES, false),
    ] {
        for (destinations, is_late) in [(1, false), (2, is_late), (5, is_late)] {
            let wanted = table(scheduler, destinations);
            let kernel = Kernel::new();
            let mut client = kernel.connect().unwrap();
            let plan = client.plan(&wanted, &detailed().allowed(allowed)).unwrap();
            let mut events = Vec::new();
            let report = client
                .apply_with(plan.clone(), |event| {
                    if let SyncEvent::Made(change) = event {
                        events.push(*change);
                    }
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap();
            agrees(&report);
            assert_eq!(report.made, plan.changes(), "{scheduler}: {report}");
            // The event of the service comes when the service takes connections.
            let place = if is_late { usize::from(destinations) } else { 0 };
            assert_eq!(events[place], plan.changes()[0], "{scheduler}: {events:?}");
            assert_eq!(events.len(), plan.changes().len());
            assert_eq!(truth(&kernel), wanted);
        }
    }
}

#[test]
fn two_new_services_get_their_own_schedulers() {
    let second = table("mh -b mh-port", 3).to_string().replace("10.0.0.1", "10.0.0.2");
    let wanted = rules(&format!("{}{second}", table("mh", 2)));
    let kernel = Kernel::new();
    let report = kernel.connect().unwrap().sync(&wanted, &detailed()).unwrap();
    agrees(&report);
    assert_eq!((report.changed, truth(&kernel)), (7, wanted));
}

/// Once: the destinations of a service that was removed since its scheduler was missing were
/// reported as made.
#[test]
fn a_service_without_its_scheduler_is_taken_back_whole() {
    let (kernel, mut client) = without_mh();
    let report = client.sync(&table("mh", 4), &detailed()).unwrap_err().into_report();
    agrees(&report);
    assert_eq!((report.changed, truth(&kernel)), (0, Ruleset::new()), "{report}");
    let service = Change::AddService(*table("mh", 4).services().next().unwrap().service());
    let failed = report.failed.iter().find(|failed| failed.change == service).unwrap();
    assert!(failed.error.is_module_not_found(), "{report}");
    assert_eq!(report.failed.len(), 5, "{report}");
}

/// Once: each full reading had a service without its scheduler added, filled and removed again.
#[test]
fn a_missing_scheduler_is_not_tried_late_again() {
    let (kernel, mut client) = without_mh();
    let mut syncer = Syncer::new(detailed());
    syncer.want(table("mh", 4));
    agrees(&client.pass(&mut syncer));
    for round in 0..4 {
        kernel.advance(400 * SECOND);
        if round % 2 == 0 {
            syncer.resync();
        }
        let seen = watch(&kernel);
        let report = client.pass(&mut syncer);
        kernel.clear_faults();
        assert_eq!((report.changed, report.failed.len()), (0, 5), "{report}");
        let seen = seen.lock().unwrap();
        assert!(!seen.is_empty() && !seen.iter().any(has_no_scheduler), "round {round}");
    }
    // Once the scheduler is there, the service is added.
    kernel.configure(|host| host.schedulers.push("mh".to_owned()));
    kernel.advance(400 * SECOND);
    let report = client.pass(&mut syncer);
    agrees(&report);
    assert_eq!((report.changed, truth(&kernel)), (5, table("mh", 4)), "{report}");
    // Once it was there, and whenever it is wanted anew, its scheduler is tried late again.
    client.remove_service(web().key).unwrap();
    kernel.configure(|host| host.schedulers.retain(|name| name != "mh"));
    for destinations in [4, 3] {
        syncer.want(table("mh", destinations));
        syncer.resync();
        let seen = watch(&kernel);
        agrees(&client.pass(&mut syncer));
        kernel.clear_faults();
        assert!(seen.lock().unwrap().iter().any(has_no_scheduler), "{destinations}");
        assert_eq!(truth(&kernel), Ruleset::new());
    }
}

/// Once: a report told additions to a service that had no scheduler, and the next report told
/// nothing of their removal.
#[test]
fn what_a_report_told_is_not_taken_back_in_silence() {
    for step in 1..=20 {
        for fault in [Fault::Refuse(5), Fault::Close, Fault::LoseAnswers, Fault::Fail(5)] {
            let (kernel, mut client) = without_mh();
            let mut syncer = Syncer::new(detailed());
            syncer.want(table("mh", 3));
            let mut told: Vec<Change> = Vec::new();
            kernel.inject(step, fault);
            for round in 0..3 {
                let report = client.pass(&mut syncer);
                kernel.clear_faults();
                agrees(&report);
                let there = truth(&kernel);
                for change in &report.made {
                    match change {
                        Change::RemoveService(_) => told.clear(),
                        change => told.push(*change),
                    }
                }
                let is_there = |change: &Change| match change {
                    Change::AddService(to) => {
                        there.service(to.key).is_some_and(|rules| rules.service() == to)
                    }
                    Change::AddDestination(service, to) => there
                        .service(*service)
                        .is_some_and(|rules| rules.destination(to.key) == Some(to)),
                    other => panic!("{other}"),
                };
                assert!(told.iter().all(is_there), "step {step}, round {round}: {told:?}\n{there}");
                syncer.resync();
            }
        }
    }
}

/// Once: a service that was wanted with another scheduler, after it had got none, was counted and
/// not listed.
#[test]
fn a_service_may_be_wanted_with_another_scheduler_meanwhile() {
    for step in 1..=20 {
        let (kernel, mut client) = without_mh();
        let mut syncer = Syncer::new(detailed());
        syncer.want(table("mh", 3));
        kernel.inject(step, Fault::Refuse(5));
        agrees(&client.pass(&mut syncer));
        kernel.clear_faults();
        syncer.want(table("rr", 3));
        let report = client.pass(&mut syncer);
        agrees(&report);
        assert!(report.is_success(), "step {step}: {report}");
        assert_eq!(truth(&kernel), table("rr", 3), "step {step}: {report}");
    }
}

/// Others remove the service, or give it a scheduler, before it gets its own.
#[test]
fn others_may_change_the_service_before_it_has_its_scheduler() {
    type Act = fn(&mut Client);
    let acts: [Act; 4] = [
        |other| drop(other.remove_service(web().key)),
        |other| drop(other.update_service(&web())),
        |other| drop(other.remove_destination(web().key, backend(1).key)),
        |other| drop(other.update_destination(web().key, &backend(1).weight(7))),
    ];
    for has_mh in [true, false] {
        for act in acts {
            for step in 1..=20 {
                let (kernel, mut client) = without_mh();
                if has_mh {
                    kernel.configure(|host| host.schedulers.push("mh".to_owned()));
                }
                let mut syncer = Syncer::new(detailed());
                syncer.want(table("mh", 3));
                kernel.inject(
                    step,
                    Fault::meanwhile(move |kernel| {
                        act(&mut Client::connect_with(kernel.observer()).unwrap());
                    }),
                );
                let report = client.pass(&mut syncer);
                kernel.clear_faults();
                agrees(&report);
                syncer.resync();
                let report = client.pass(&mut syncer);
                agrees(&report);
                let (wanted, there) = (table("mh", 3), truth(&kernel));
                assert!(!has_no_scheduler(&there), "step {step}: {there}");
                assert_eq!(there == wanted, has_mh, "step {step}: {report}\n{there}");
                assert_eq!(report.is_success(), has_mh, "step {step}: {report}");
            }
        }
    }
}
