//! New services of `mh`, which get their scheduler after their destinations: kernels without `mh`,
//! controllers that stop between the two, and others at work meanwhile.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{SECOND, backend, report_of, rules, truth, web};

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

/// The changes by which a service with these destinations is added and gets its scheduler last.
fn late_changes(wanted: &Ruleset) -> Vec<Change> {
    let mut unbound = Ruleset::new();
    for rules in wanted.services() {
        let service = *rules.service();
        unbound.insert_service(service.scheduler(Scheduler::Unbound)).unwrap();
        for destination in rules.destinations() {
            unbound.insert_destination(service.key, *destination).unwrap();
        }
    }
    let between = |from: &Ruleset, to: &Ruleset| Plan::new(from, to, &Policy::new());
    let added = between(&Ruleset::new(), &unbound);
    [added.changes(), between(&unbound, wanted).changes()].concat()
}

/// Carries out a plan; tells the report, the changes that events tell as made, and those that they
/// tell as failed.
fn apply(client: &mut Client, plan: Plan) -> (Report, Vec<Change>, Vec<Change>) {
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    let report = client.apply_with(plan, |event| {
        match event {
            SyncEvent::Made(change) => made.push(*change),
            SyncEvent::Failed(change, _) => failed.push(*change),
            _ => {}
        }
        std::ops::ControlFlow::Continue(())
    });
    (report_of(report), made, failed)
}

#[test]
fn a_new_service_gets_its_scheduler_last_and_each_write_is_told() {
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
            let (report, events, failed) = apply(&mut client, plan.clone());
            agrees(&report);
            let late = late_changes(&wanted);
            assert_eq!(report.made, if is_late { &late } else { plan.changes() }, "{scheduler}");
            assert_eq!(
                (events, failed),
                (report.made.clone(), Vec::new()),
                "{scheduler}: {report}"
            );
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
    assert_eq!((report.changed, truth(&kernel)), (9, wanted));
}

/// Once: a service whose answers were lost was told as an update of a service without a scheduler,
/// and its addition was not told at all.
#[test]
fn additions_whose_answers_are_lost_are_told_whole() {
    for wanted_later in [table("mh", 3), table("rr", 3)] {
        for step in 1..=20 {
            let kernel = Kernel::new();
            let mut client = kernel.connect().unwrap();
            let mut syncer = Syncer::new(detailed());
            syncer.want(table("mh", 3));
            kernel.inject(step, Fault::LoseAnswers);
            for later in step + 1..60 {
                kernel.inject(later, Fault::Fail(12));
            }
            let mut made = client.pass(&mut syncer).made;
            kernel.clear_faults();
            syncer.want(wanted_later.clone());
            for _ in 0..2 {
                kernel.advance(SECOND);
                let report = client.pass(&mut syncer);
                agrees(&report);
                made.extend(report.made);
            }
            assert_eq!(truth(&kernel), wanted_later, "step {step}");
            let is_told = late_changes(&table("mh", 3)).iter().all(|it| made.contains(it));
            let is_plain = made == plain_changes(&wanted_later);
            assert!(is_told || is_plain, "step {step}: {made:#?}");
        }
    }
}

/// The changes by which a service is added with its scheduler.
fn plain_changes(wanted: &Ruleset) -> Vec<Change> {
    Plan::new(&Ruleset::new(), wanted, &Policy::new()).changes().to_vec()
}

/// Once: a service that others had just added was told as added with `mh`, and the refusal was not
/// told.
#[test]
fn a_service_that_others_have_just_added_is_told_as_it_was() {
    let kernel = Kernel::new();
    let mut client = kernel.connect().unwrap();
    let wanted = table("mh", 2);
    let plan = client.plan(&wanted, &detailed()).unwrap();
    Client::connect_with(kernel.observer()).unwrap().add_service(&web()).unwrap();
    let (report, made, failed) = apply(&mut client, plan);
    agrees(&report);
    let late = late_changes(&wanted);
    assert_eq!((&made[..], &failed[..]), (&late[1..], &late[..1]), "{report}");
    assert_eq!(report.made, made);
    assert_eq!(truth(&kernel), wanted);
}

/// Once: the failures named an update of a service that was never added, with the errors of that.
#[test]
fn a_service_that_cannot_be_added_fails_as_it_was_planned() {
    for errno in [12, 22, 1] {
        let kernel = Kernel::new();
        let mut client = kernel.connect().unwrap();
        let plan = client.plan(&table("mh", 2), &detailed()).unwrap();
        for step in 1..60 {
            kernel.inject(step, Fault::Refuse(errno));
        }
        let (report, made, _) = apply(&mut client, plan.clone());
        assert_eq!((made.len(), truth(&kernel)), (0, Ruleset::new()));
        let of_service = report.failed.iter().find(|it| it.change.destination().is_none()).unwrap();
        assert!(matches!(of_service.change, Change::AddService(_)), "{errno}: {report}");
        assert!(!of_service.error.is_service_not_found(), "{errno}: {report}");
    }
    // If nothing can be sent, all that was planned fails.
    let kernel = Kernel::new();
    let mut client = kernel.connect().unwrap();
    let plan = client.plan(&table("mh", 2), &detailed()).unwrap();
    for step in 1..60 {
        kernel.inject(step, Fault::Fail(12));
    }
    let (report, ..) = apply(&mut client, plan.clone());
    let failed: Vec<_> = report.failed.iter().map(|failed| failed.change).collect();
    assert_eq!(failed, plan.changes(), "{report}");
}

/// Once: the reason was that something before had failed, though the caller had called off the rest.
#[test]
fn a_service_that_is_called_off_half_way_says_so() {
    let wanted = table("mh", 250);
    for stop in [3, 101] {
        let kernel = Kernel::new();
        let mut client = kernel.connect().unwrap();
        let plan = client.plan(&wanted, &detailed()).unwrap();
        let mut count = 0;
        let report = report_of(client.apply_with(plan, |_| {
            count += 1;
            if count == stop {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        }));
        agrees(&report);
        let late = late_changes(&wanted);
        assert_eq!(report.made[..], late[..report.changed], "{report}");
        let failed: Vec<_> = report.failed.iter().map(|failed| failed.change).collect();
        assert_eq!(failed.len(), late.len() - report.changed, "{report}");
        assert!(failed.contains(late.last().unwrap()), "{report}");
        assert!(report.to_string().contains("called off"), "{report}");
        let is_called_off = |failed: &FailedChange| failed.error.to_string().contains("called off");
        assert!(report.failed.iter().all(is_called_off), "{report}");
    }
}

/// Its additions are told, and its removal.
#[test]
fn a_service_without_its_scheduler_is_taken_back_whole() {
    let (kernel, mut client) = without_mh();
    let report = client.sync(&table("mh", 4), &detailed()).unwrap_err().into_report();
    agrees(&report);
    assert_eq!((report.changed, truth(&kernel)), (6, Ruleset::new()), "{report}");
    let mut made = late_changes(&table("mh", 4));
    if let Some(Change::UpdateService { from, .. }) = made.pop() {
        made.push(Change::RemoveService(from));
    }
    assert_eq!(report.made, made);
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

/// Once: a service that is wanted without a scheduler was removed with its destinations, since it
/// had once been about to get one.
#[test]
fn a_service_wanted_without_a_scheduler_is_no_half_made_one() {
    for step in 1..=20 {
        let (kernel, mut client) = without_mh();
        let mut syncer = Syncer::new(detailed());
        syncer.want(table("mh", 2));
        for step in step..=20 {
            kernel.inject(step, Fault::Refuse(5));
        }
        let _ = client.pass(&mut syncer);
        kernel.clear_faults();
        syncer.want(table("none", 2));
        let report = client.pass(&mut syncer);
        assert!(report.is_success(), "step {step}: {report}");
        syncer.want(table("unknown", 2));
        let report = client.pass(&mut syncer);
        assert_eq!((report.changed, truth(&kernel)), (0, table("none", 2)), "step {step}");
    }
}

/// Once: an addition that was refused without the scheduler, and then made with it, was told as
/// refused if the reading after it failed.
#[test]
fn what_was_made_in_the_end_has_not_failed() {
    for at in 2..30 {
        let kernel = Kernel::new();
        let mut client = kernel.connect().unwrap();
        let plan = client.plan(&maglev_of_two(), &Policy::new().detailed(true)).unwrap();
        kernel.inject(1, Fault::Refuse(1));
        kernel.inject(at, Fault::LoseAnswers);
        let report = report_of(client.apply(plan));
        let is_addition = |change: &Change| matches!(change, Change::AddService(_));
        let is_refused = |failed: &FailedChange| {
            is_addition(&failed.change) && !failed.error.is_outcome_unknown()
        };
        let is_made = report.made.iter().any(is_addition);
        assert!(!is_made || !report.failed.iter().any(is_refused), "{at}: {report}");
    }
}

/// Once: a report had only the removal of the half-made service, which was called off.
#[test]
fn a_stop_tells_that_the_late_scheduler_was_refused() {
    for stop in 1..20 {
        let kernel = Kernel::new();
        kernel.configure(|host| host.schedulers.retain(|name| name != "mh"));
        let mut client = kernel.connect().unwrap();
        let plan = client.plan(&maglev_of_two(), &Policy::new()).unwrap();
        let mut events = 0;
        let report = report_of(client.apply_with(plan, |_| {
            events += 1;
            if events >= stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        let tells = |failed: &FailedChange| {
            matches!(failed.change, Change::AddService(_) | Change::UpdateService { .. })
        };
        assert!(report.failed.iter().any(tells), "{stop}: {report}");
    }
}

fn maglev_of_two() -> Ruleset {
    let mut rules = Ruleset::new();
    let service = web().scheduler(Scheduler::MAGLEV_HASH);
    rules.insert_service(service).unwrap();
    for last in [1, 2] {
        rules.insert_destination(service.key, backend(last)).unwrap();
    }
    rules
}
