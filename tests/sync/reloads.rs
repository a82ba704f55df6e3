//! The module is loaded anew, with an empty table: any client may find out, at any step.

use std::net::Ipv4Addr;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::support::rules::rules_of;
use super::{backend, kernel_with, truth, web, web_with};

/// A syncer that has made a service with a destination, before the module was loaded anew.
fn before_a_reload() -> (Kernel, Client, Syncer) {
    let (kernel, mut client) = kernel_with(&Ruleset::new());
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(web_with(&[backend(1)]));
    let _ = client.pass(&mut syncer);
    kernel.reload(0x40);
    (kernel, client, syncer)
}

/// Once: if another call than the pass found the module loaded anew, the pass did nothing.
#[test]
fn a_reload_that_others_have_noticed_is_noticed() {
    let (kernel, mut client, mut syncer) = before_a_reload();
    client.info().unwrap();
    let report = client.pass(&mut syncer).into_result().unwrap();
    assert_eq!(report.changed, 2, "{report}");
    assert_eq!(truth(&kernel), *syncer.wanted());
}

/// Once: a client that was connected after a reload had seen no reload, and the syncer took the
/// empty table for the one that it knew.
#[test]
fn a_reload_before_another_client_was_connected_is_noticed() {
    let (kernel, _, mut syncer) = before_a_reload();
    let mut client = kernel.connect().unwrap();
    syncer.want_destination(web().key, backend(2)).unwrap();
    let report = client.pass(&mut syncer).into_result().unwrap();
    assert_eq!(report.changed, 3, "{report}");
    assert_eq!(truth(&kernel), *syncer.wanted());
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

/// Three services, and the same with a destination more.
fn before_and_after() -> (Ruleset, Ruleset) {
    (rules_of([(80, 3), (443, 2), (8080, 1)]), rules_of([(80, 3), (443, 3), (8080, 1)]))
}

fn reload_at(kernel: &Kernel, step: u64) {
    kernel.inject(step, Fault::meanwhile(|kernel| kernel.reload(0x40)));
}

/// Once: a sync during which the module was loaded anew made its planned changes in the empty
/// table, and was a success without the services that were to stay.
#[test]
fn a_reload_during_a_sync_is_no_success_without_the_rest() {
    let (before, wanted) = before_and_after();
    let (kernel, mut client) = kernel_with(&before);
    let start = kernel.steps();
    let report = client.sync(&wanted, &Policy::new()).unwrap();
    assert_eq!(report.changed, 1);
    // The last two steps receive listings that the kernel has made before.
    let steps = kernel.steps() - start - 2;
    for step in 1..=steps {
        let (kernel, mut client) = kernel_with(&before);
        reload_at(&kernel, step);
        let report = client.sync(&wanted, &Policy::new()).unwrap();
        assert!(report.is_success(), "step {step}: {report}");
        assert_eq!(truth(&kernel), wanted, "step {step}: {report}");
    }
}

/// Once: an apply during which the module was loaded anew was a success as well. A plan knows only
/// the part of the table that it changes, and therefore ends with an error.
#[test]
fn a_plan_whose_table_was_lost_is_an_error() {
    let (before, wanted) = before_and_after();
    for step in 1..=3 {
        let (kernel, mut client) = kernel_with(&before);
        let plan = client.plan(&wanted, &Policy::new()).unwrap();
        client.info().unwrap();
        reload_at(&kernel, step);
        let error = client.apply(plan).unwrap_err();
        assert!(error.to_string().contains("plan again"), "step {step}: {error}");
        let report = client.sync(&wanted, &Policy::new()).unwrap();
        assert!(report.is_success() && truth(&kernel) == wanted, "step {step}: {report}");
    }
}

/// Once: services that were listed before a reload got the destinations that were listed after it,
/// that is none; and `sync --confirm` kept these as the old rules.
#[test]
fn what_is_read_is_of_one_load_of_the_module() {
    let (before, _) = before_and_after();
    for step in 1..20 {
        let (kernel, mut client) = kernel_with(&before);
        reload_at(&kernel, step);
        if let Ok(table) = client.table() {
            let is_whole = table.services.iter().all(|it| !it.destinations.is_empty());
            assert!(is_whole, "step {step}: {table:?}");
        }
        let (kernel, mut client) = kernel_with(&before);
        reload_at(&kernel, step);
        if let Ok(read) = client.ruleset() {
            assert!(read == before || read.is_empty(), "step {step}: {read}");
        }
    }
}

/// Once: an apply was a success without the services that were as wanted before, where another call
/// had noticed the reload between the plan and the apply, or another client applied the plan.
#[test]
fn a_plan_is_of_one_load_of_the_module() {
    for notices in [true, false] {
        let mut before = web_with(&[backend(1)]);
        before.insert_service(Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80)).unwrap();
        let (kernel, mut client) = kernel_with(&before);
        let mut wanted = before;
        wanted.insert_destination(web().key, backend(2)).unwrap();
        let plan = client.plan(&wanted, &Policy::new()).unwrap();
        kernel.reload(0x40);
        if notices {
            client.info().unwrap();
        } else {
            client = kernel.connect().unwrap();
        }
        let lost = client.apply(plan).unwrap_err();
        assert!(lost.to_string().contains("loaded anew"), "{lost}");
        assert!(client.sync(&wanted, &Policy::new()).unwrap().is_success());
        assert_eq!(truth(&kernel), wanted);
    }
}
