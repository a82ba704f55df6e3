//! The contents of reports, and the reports that are no success.

use std::net::Ipv4Addr;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{
    SECOND, backend, drained, kernel_with, key, pairs, report_of, rules, truth, web, web_with,
    writes,
};

/// Once: a timeout was written six times in each sync, since the kernel counts in 32 bits of
/// jiffies and returned another one; and each sync was a success.
#[test]
fn what_the_kernel_does_not_keep_is_no_success() {
    let wanted = rules("-A -t 10.0.0.1:80 -s rr -p 20000000");
    let kernel = Kernel::new();
    let mut client = kernel.connect().unwrap();
    let report = client.sync(&wanted, &Policy::new()).unwrap_err().into_report();
    assert_eq!(report.failed.len(), 1, "{report}");
    assert!(report.failed[0].error.is_not_kept(), "{report}");
    assert_eq!(report.changed, 2, "written, and once more: {report}");

    let mut syncer = Syncer::new(Policy::new());
    syncer.want(wanted);
    let mut writes = 0;
    for _ in 0..5 {
        let report = client.pass(&mut syncer);
        writes += report.changed;
        if report.is_success() {
            // The kernel has acknowledged the change; only the next reading tells.
            assert_eq!(truth(&kernel).services().len(), 1);
        }
        syncer.resync();
    }
    assert!(!client.pass(&mut syncer).is_success());
    assert!(writes <= 12, "written {writes} times");
}

#[test]
fn a_second_writer_is_no_success() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    // Somebody takes back each of our writes.
    for step in 1..200 {
        kernel.inject(
            step,
            Fault::meanwhile(|kernel| {
                let mut other = Client::connect_with(kernel.observer()).unwrap();
                drop(other.remove_destination(web().key, key(2)));
            }),
        );
    }
    let wanted = web_with(&[backend(1), backend(2)]);
    let report = client.sync(&wanted, &Policy::new()).unwrap_err().into_report();
    assert!(report.failed[0].error.is_overruled(), "{report}");
    // The change was made once, and again in each of five rounds.
    assert_eq!((report.rounds, report.changed), (5, 6), "{report}");
}

/// Once: a syncer reported a difference that it leaves only in the pass in which that service
/// changed.
#[test]
fn what_is_left_or_failed_is_said_in_every_pass() {
    let (_kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    let policy = Policy::new().allowed(Allowed::all() - Allowed::REMOVE_DESTINATIONS);
    let mut syncer = Syncer::new(policy);
    let mut wanted = web_with(&[backend(1)]);
    let odd = Service::tcp(std::net::Ipv4Addr::new(10, 0, 0, 9), 80);
    wanted.insert_service(odd.scheduler("nosuch".parse().unwrap())).unwrap();
    syncer.want(wanted);
    for _ in 0..3 {
        let report = client.pass(&mut syncer);
        assert_eq!((report.left.len(), report.failed.len()), (1, 1), "{report}");
        assert!(report.failed[0].error.is_module_not_found(), "{report}");
    }
    // A pass with a change elsewhere reports it, too.
    syncer.want_destination(web().key, backend(3)).unwrap();
    let report = client.pass(&mut syncer);
    assert_eq!((report.left.len(), report.failed.len(), report.changed), (1, 1, 1), "{report}");
}

/// Once: differences that were left while changes by others were mended were lost.
#[test]
fn what_is_left_on_the_way_is_said() {
    let policy = Policy::new().allowed(Allowed::all() - Allowed::REMOVE_DESTINATIONS);
    let (kernel, mut client) = kernel_with(&web_with(&[]));
    let plan = client.plan(&web_with(&[backend(1)]), &policy).unwrap();
    let mut other = kernel.connect().unwrap();
    other.add_destination(web().key, &backend(7)).unwrap();
    let report = client.apply(plan).unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!(report.left.len(), 1, "{report}");
    assert_eq!(report.left[0].why, Reason::NotAllowed);
}

#[test]
fn a_change_whose_answer_was_lost_counts_as_made() {
    for fault in [|| Fault::LoseAnswers, || Fault::NoBuffers] {
        for (actual, wanted) in pairs(40) {
            let (kernel, mut client) = kernel_with(&actual);
            let plan = client.plan(&wanted, &Policy::new()).unwrap();
            let writes = writes(&plan);
            kernel.inject(1, fault());
            let report = client.apply(plan).unwrap();
            assert!(report.is_success(), "{report}");
            assert_eq!(report.changed, writes, "{report}");
            assert_eq!(truth(&kernel), wanted);
        }
    }
}

/// Once: where another rule of the service was wanted before the next reading, an addition counted as
/// never made, and a removal as made by others.
#[test]
fn a_change_whose_answer_was_lost_counts_as_made_whatever_is_wanted_next() {
    let start = web_with(&[backend(1), backend(2)]);
    let mut lost = 0;
    for step in 1..=20 {
        let (kernel, mut client) = kernel_with(&start);
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        let mut syncer = Syncer::new(drained(10).detailed(true));
        syncer.want(start.clone());
        assert!(client.pass(&mut syncer).is_success());
        syncer.drop_destination(web().key, key(1));
        assert_eq!(client.pass(&mut syncer).draining, 1);
        kernel.advance(11 * SECOND);
        syncer.want_destination(web().key, backend(4)).unwrap();
        kernel.inject(step, Fault::LoseAnswers);
        for later in step + 1..60 {
            kernel.inject(later, Fault::Fail(12));
        }
        let first = client.pass(&mut syncer);
        kernel.clear_faults();
        lost += usize::from(truth(&kernel) != start && first.changed == 0);
        syncer.want_destination(web().key, backend(3)).unwrap();
        let (mut made, mut ended) = (first.made, first.ended);
        for _ in 0..3 {
            kernel.advance(2 * SECOND);
            let report = client.pass(&mut syncer);
            made.extend(report.made);
            ended.extend(report.ended);
        }
        assert_eq!(truth(&kernel), web_with(&[backend(2), backend(3), backend(4)]));
        for change in [
            Change::AddDestination(web().key, backend(4)),
            Change::AddDestination(web().key, backend(3)),
            Change::RemoveDestination(web().key, backend(1).weight(0)),
        ] {
            let times = made.iter().filter(|made| **made == change).count();
            assert_eq!(times, 1, "step {step}: {change} in {made:?}");
        }
        let ends: Vec<_> = ended.iter().map(|ended| ended.end).collect();
        assert_eq!(ends, [DrainEnd::Deadline], "step {step}: {ended:?}");
    }
    assert!(lost > 0);
}

/// Once: five thousand destinations that failed for one missing module were reported in five
/// thousand lines.
#[test]
fn what_fails_for_one_reason_is_one_line() {
    let mut wanted = rules("-A -t 10.0.0.1:80 -s nosuch\n-A -t 10.0.0.2:80 -s nosuch");
    for port in 1..=5000 {
        let destination = Destination::masquerade(std::net::Ipv4Addr::new(10, 0, 1, 1), port);
        wanted.insert_destination(web().key, destination).unwrap();
    }
    let mut client = Kernel::new().connect().unwrap();
    let report = client.sync(&wanted, &Policy::new()).unwrap_err().into_report();
    assert_eq!(report.failed.len(), 5002);
    let text = report.to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("scheduler nosuch is not available"), "{text}");
    assert!(text.contains("5002 changes"), "{text}");
}

#[test]
fn a_detailed_report_has_each_change_and_is_written() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2), backend(4)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(drained(30).detailed(true));
    syncer.want(web_with(&[backend(3)]));
    let report = client.pass(&mut syncer);
    // One destination is added, three are lowered, and two of these are removed.
    assert_eq!((report.made.len(), report.changed), (6, 6), "{report}");
    assert_eq!((report.ended.len(), report.drains.len()), (2, 1));
    assert_eq!(report.ended[0].end, DrainEnd::Idle);
    assert_eq!(report.drains[0].destination, key(1));
    assert_eq!(*report.before(), web_with(&[backend(1), backend(2), backend(4)]));
    let written = serde_json::to_value(&report).unwrap();
    assert_eq!(written["made"].as_array().unwrap().len(), 6, "{written}");
    assert_eq!(written["ended"][0]["end"], "idle");
}

#[test]
fn the_way_back_ends_where_it_began() {
    for (actual, wanted) in pairs(150) {
        let (kernel, mut client) = kernel_with(&actual);
        let report = report_of(client.sync(&wanted, &Policy::new()));
        let policy = Policy::new().scope(Scope::none().services(report.touched()));
        let report = client.sync(report.before(), &policy).unwrap();
        assert!(report.is_success(), "{report}");
        assert_eq!(truth(&kernel), actual);
    }
}

/// Once: a sync that had failed was an `Ok`, so that a `?` let it pass.
#[test]
fn what_was_to_be_done_and_is_not_is_an_error() {
    let mut client = Kernel::new().connect().unwrap();
    let wanted = rules(
        "-A -t 10.0.0.1:80 -s nosuch\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -m\n\
         -A -t 10.0.0.2:80 -s rr\n-a -t 10.0.0.2:80 -r 10.0.1.1:80 -m",
    );
    let incomplete = client.sync(&wanted, &Policy::new()).unwrap_err();
    let text = incomplete.to_string();
    let first = "cannot make the table as wanted: 2 changes made, 2 failed\ncannot add ";
    assert!(text.starts_with(first), "{text}");
    assert!(text.contains("modprobe ip_vs_nosuch") && text.lines().count() == 2, "{text}");
    let source = std::error::Error::source(&incomplete).unwrap();
    let cause: &Error = source.downcast_ref().unwrap();
    assert!(cause.is_module_not_found(), "{cause}");
    assert_eq!(incomplete.report().failed.len(), 2);
    assert_eq!(incomplete.into_report().changed, 2);

    // The next sync fails for the same change, and the rest is as wanted.
    let plan = client.plan(&wanted, &Policy::new()).unwrap();
    assert_eq!(client.apply(plan).unwrap_err().report().failed.len(), 2);

    // A pass of a syncer is no error by itself; its report can be turned into one.
    let mut syncer = Syncer::new(Policy::new());
    syncer.want(wanted);
    let report = client.pass(&mut syncer);
    assert!(report.next.is_some() && report.failed.len() == 2, "{report}");
    assert_eq!(report.into_result().unwrap_err().report().failed.len(), 2);
}

/// Differences that the policy leaves were not to be changed.
#[test]
fn what_the_policy_leaves_is_no_error() {
    let (_kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    let policy = Policy::new().allowed(Allowed::all() - Allowed::REMOVE_DESTINATIONS);
    let report = client.sync(&web_with(&[backend(1)]), &policy).unwrap();
    assert_eq!((report.left.len(), report.changed), (1, 0), "{report}");
}

#[test]
fn a_table_that_cannot_be_read_is_an_error_that_says_so() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    kernel.configure(|host| host.privileged = false);
    let incomplete = client.sync(&Ruleset::new(), &Policy::new()).unwrap_err();
    let error = incomplete.report().error.as_ref().unwrap();
    assert!(error.is_permission_denied(), "{error}");
    let text = incomplete.to_string();
    assert!(text.starts_with("cannot make the table as wanted: 0 changes made"), "{text}");
    assert!(text.contains("CAP_NET_ADMIN"), "{text}");
    let report = client.pass(&mut Syncer::new(Policy::new()));
    assert!(report.into_result().is_err());
}

/// Once: a value that others set a second time passed for one that the kernel keeps, after a pass
/// whose reading back had failed.
#[test]
fn what_others_set_again_is_mended_again() {
    for (step, reads_all) in (1..=14).flat_map(|step| [(step, true), (step, false)]) {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
        let mut syncer = Syncer::new(Policy::new());
        syncer.want(web_with(&[backend(1)]));
        assert!(client.pass(&mut syncer).is_success());
        for is_struck in [true, false] {
            client.update_destination(web().key, &backend(1).weight(7)).unwrap();
            if is_struck {
                syncer.resync();
                kernel.inject(step, Fault::Refuse(5));
            } else if reads_all {
                syncer.resync();
            } else {
                syncer.want_service(Service::tcp(Ipv4Addr::new(10, 0, 0, 9), 80)).unwrap();
            }
            let report = client.pass(&mut syncer);
            kernel.clear_faults();
            assert!(is_struck || !reads_all || report.is_success(), "step {step}: {report}");
            let is_told = report.failed.iter().any(|failed| failed.error.is_not_kept());
            assert!(!is_told, "step {step}: {report}");
        }
        let weight = truth(&kernel).service(web().key).unwrap().destination(key(1)).unwrap().weight;
        // Without reading all, the syncer may not have seen it.
        assert!(weight == 1 || !reads_all, "step {step}");
    }
}

/// Once: the service's configuration was both refused and left.
#[test]
fn a_service_that_is_refused_is_not_left_as_well() {
    let (kernel, mut client) = kernel_with(&rules(
        "-A -t 10.0.0.1:80 -s sh -b sh-fallback\n-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 0",
    ));
    kernel.configure(|host| host.engines.clear());
    let policy = Policy::new().allowed(Allowed::all() - Allowed::WEIGHTS);
    let mut syncer = Syncer::new(policy);
    syncer.want(rules(
        "-A -t 10.0.0.1:80 -s sh -p 300 --pe sip\n-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m",
    ));
    let report = client.pass(&mut syncer);
    let of_service = report.left.iter().filter(|left| left.what == Difference::Service).count();
    assert_eq!((report.failed.len(), of_service), (1, 0), "{report}: {:?}", report.left);
}

/// The way back is of the services that were to be changed, not of those that are left.
#[test]
fn the_way_back_leaves_alone_what_was_left() {
    let (_kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let policy = Policy::new().detailed(true).allowed(Allowed::ADD_SERVICES);
    let mut wanted = web_with(&[backend(2)]);
    let added = Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80);
    wanted.insert_service(added).unwrap();
    let report = client.sync(&wanted, &policy).unwrap();
    assert_eq!((report.changed, report.left.len()), (1, 2), "{report}");
    assert_eq!(report.before(), &Ruleset::new(), "{report}");
    assert_eq!(report.touched().collect::<Vec<_>>(), [added.key], "{report}");
}

/// An error is of the change's last attempt, not of an earlier one that was mended.
#[test]
fn an_old_error_is_not_told_again() {
    let mut was_told = false;
    for step in 1..=6 {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2).weight(5)]));
        let mut syncer = Syncer::new(Policy::new());
        syncer.want(web_with(&[backend(1), backend(2).weight(5)]));
        assert!(client.pass(&mut syncer).is_success());
        syncer.want_destination(web().key, backend(2).weight(9)).unwrap();
        kernel.inject(1, Fault::Refuse(1));
        let report = client.pass(&mut syncer);
        kernel.clear_faults();
        assert_eq!(report.failed[0].error.errno(), Some(Errno::from_number(1)), "{report}");
        kernel.advance(report.next.unwrap());
        assert!(client.pass(&mut syncer).is_success());
        // The weight is to be lowered after an addition that others have made meanwhile.
        client.add_destination(web().key, &backend(3).weight(8)).unwrap();
        syncer.want_destination(web().key, backend(2).weight(1)).unwrap();
        syncer.want_destination(web().key, backend(3)).unwrap();
        kernel.inject(step, Fault::Refuse(5));
        let report = client.pass(&mut syncer);
        let lowering = report.failed.iter().find(|it| it.change.destination() == Some(key(2)));
        let told = lowering.map(|failed| failed.error.errno());
        assert_ne!(told, Some(Some(Errno::from_number(1))), "step {step}: {report}");
        was_told |= told == Some(None);
    }
    assert!(was_told);
}
