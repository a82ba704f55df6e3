//! New services of `mh` get their scheduler after their destinations, since the kernel makes the
//! large table of `mh` anew with each destination.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)] // Other tests use all of this module.
mod support;

use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::{Allowed, Destination, Incomplete, Policy, Ruleset, Syncer};
use support::noting::{Noting, Sends};

const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const NEW_DESTINATION: u8 = 5;

/// Those of the sent commands that change the table.
fn changes(sends: &Sends) -> Vec<u8> {
    let commands = sends.lock().unwrap().concat();
    commands.into_iter().filter(|command| matches!(command, 1..=3 | 5..=7)).collect()
}

/// The commands by which a sync of these rules changes a kernel's table, and its report.
fn commands(kernel: &Kernel, rules: &Ruleset) -> (Vec<u8>, ipvs_netlink::Report) {
    let (link, sends) = Noting::new(kernel.link());
    let report = Client::connect_with(link).unwrap().sync(rules, &Policy::new());
    let report = report.unwrap_or_else(Incomplete::into_report);
    (changes(&sends), report)
}

fn rules(scheduler: &str, destinations: u8) -> Ruleset {
    let destination = |last| format!("-a -t 10.0.0.1:80 -r 10.0.1.{last}:80 -m\n");
    let destinations = (1..=destinations).map(destination).collect::<Vec<_>>().concat();
    let other = "-A -t 10.0.0.2:80 -s rr\n-a -t 10.0.0.2:80 -r 10.0.1.1:80 -m\n";
    format!("-A -t 10.0.0.1:80 -s {scheduler}\n{destinations}{other}").parse().unwrap()
}

fn truth(kernel: &Kernel) -> Ruleset {
    Client::connect_with(kernel.observer()).unwrap().ruleset().unwrap()
}

#[test]
fn the_scheduler_comes_after_the_destinations() {
    for scheduler in ["mh", "mh -b mh-port,mh-fallback"] {
        let kernel = Kernel::new();
        let wanted = rules(scheduler, 3);
        let (commands, report) = commands(&kernel, &wanted);
        let new = [[NEW_SERVICE, NEW_DESTINATION, NEW_DESTINATION], [NEW_DESTINATION; 3]].concat();
        assert_eq!(commands[..4], new[..4], "{scheduler}");
        assert_eq!(commands[4..], [SET_SERVICE, NEW_SERVICE, NEW_DESTINATION], "{scheduler}");
        assert_eq!(report.changed, 7, "{report}");
        assert_eq!(truth(&kernel), wanted, "{scheduler}");
    }
}

/// With one destination the kernel makes the table once in any case; other schedulers have a small
/// table or none.
#[test]
fn others_are_added_as_they_are() {
    for (scheduler, destinations) in [("mh", 1), ("mh", 0), ("sh", 3), ("dh", 3), ("wrr", 3)] {
        let kernel = Kernel::new();
        let wanted = rules(scheduler, destinations);
        let (commands, _) = commands(&kernel, &wanted);
        assert!(!commands.contains(&SET_SERVICE), "{scheduler}: {commands:?}");
        assert_eq!(truth(&kernel), wanted, "{scheduler}");
    }
}

/// A service left behind without a scheduler would refuse every connection.
#[test]
fn a_scheduler_that_is_not_there_leaves_nothing_behind() {
    let kernel = Kernel::new();
    kernel.configure(|host| host.schedulers.retain(|name| name != "mh"));
    let (commands, report) = commands(&kernel, &rules("mh", 3));
    assert!(commands.contains(&DEL_SERVICE));
    assert!(report.failed[0].error.is_module_not_found(), "{report}");
    assert_eq!(report.failed.len(), 4, "the service and its destinations: {report}");
    assert_eq!(report.changed, 7, "the service came and went with its destinations: {report}");
    assert_eq!(truth(&kernel).services().count(), 1);
}

/// Once: a change that failed at first and was made at the second try was also reported as failed.
#[test]
fn what_is_made_in_the_end_has_not_failed() {
    let mut wanted = rules("mh", 0);
    let web = *wanted.services().next().unwrap().service();
    for port in 1..=300 {
        let address = std::net::Ipv4Addr::new(10, 0, 1, 1);
        wanted.insert_destination(web.key, Destination::masquerade(address, port)).unwrap();
    }
    for step in 1..24 {
        let kernel = Kernel::new();
        let mut client = kernel.connect().unwrap();
        kernel.inject(step, Fault::Refuse(12));
        let report = client.sync(&wanted, &Policy::new());
        let report = report.unwrap_or_else(Incomplete::into_report);
        let there = truth(&kernel);
        for failed in &report.failed {
            let ipvs_netlink::Change::AddDestination(service, destination) = failed.change else {
                continue;
            };
            let there = there.service(service).and_then(|rules| rules.destination(destination.key));
            assert_eq!(there, None, "step {step}: {report}");
        }
    }
}

/// Setting the scheduler later is an update. Under a policy without updates, services are added
/// with their scheduler.
#[test]
fn a_policy_without_updates_sends_none() {
    let kernel = Kernel::new();
    let (link, sends) = Noting::new(kernel.link());
    let policy = Policy::new().allowed(Allowed::all() - Allowed::UPDATE_SERVICES);
    let report = Client::connect_with(link).unwrap().sync(&rules("mh", 3), &policy).unwrap();
    assert!(report.is_success(), "{report}");
    assert!(!changes(&sends).contains(&SET_SERVICE));
    assert_eq!(truth(&kernel), rules("mh", 3));
}

/// The sync undoes changes that others make in between, and reads the table again after it was
/// lost.
#[test]
fn faults_and_others_at_any_step_end_equal() {
    const OTHERS: usize = 5;
    let faults: [fn() -> Fault; 7] = [
        || Fault::LoseAnswers,
        || Fault::NoBuffers,
        || Fault::Close,
        || Fault::Fail(12),
        || Fault::Delay(Duration::from_secs(300)),
        || {
            Fault::meanwhile(|kernel| {
                Client::connect_with(kernel.observer()).unwrap().flush().unwrap();
            })
        },
        || {
            Fault::meanwhile(|kernel| {
                let mut other = Client::connect_with(kernel.observer()).unwrap();
                let services = rules("lc", 2);
                let service = *services.services().next().unwrap().service();
                drop(other.add_service(&service).or_else(|_| other.remove_service(service.key)));
            })
        },
    ];
    let wanted = rules("mh", 5);
    for (number, fault) in faults.iter().enumerate() {
        for step in 1..20 {
            let what = format!("fault {number} at step {step}");
            let kernel = Kernel::new();
            let mut client = kernel.connect().unwrap();
            let mut syncer = Syncer::new(Policy::new());
            syncer.want(wanted.clone());
            kernel.inject(step, fault());
            let report = client.pass(&mut syncer);
            kernel.clear_faults();
            kernel.advance(Duration::from_secs(300));
            // The last change of others is drift, which shows when the table is read again.
            let may_be_drift = number >= OTHERS;
            let is_said = !report.is_success() || may_be_drift;
            assert!(is_said || truth(&kernel) == wanted, "{what}: {report}");
            if may_be_drift {
                syncer.resync();
            }
            let report = client.pass(&mut syncer);
            assert!(report.is_success(), "{what}: {report}");
            assert_eq!(truth(&kernel), wanted, "{what}");
            assert_eq!(syncer.known(), Some(&wanted), "{what}");
        }
    }
}
