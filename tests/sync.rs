//! Rule sync on the fake kernel: plans, faults at every step, draining, the syncer.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "it/random.rs"]
#[allow(dead_code)] // The integration tests use all of it.
mod random;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::ruleset::{Difference, Reason};
use ipvs_netlink::sync::{Event, Report, Stage};
use ipvs_netlink::*;
use random::{Speaker, rulesets, samples};

const SECOND: Duration = Duration::from_secs(1);

fn web() -> Service {
    Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin)
}

fn backend(last: u8) -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080)
}

fn rules(text: &str) -> Ruleset {
    text.parse().unwrap()
}

/// Rules of one service with these destinations.
fn web_with(destinations: &[Destination]) -> Ruleset {
    let mut rules = Ruleset::new();
    rules.insert_service(web()).unwrap();
    for destination in destinations {
        rules.insert_destination(web().key, *destination).unwrap();
    }
    rules
}

/// A kernel that holds these rules, and a client to it.
fn kernel_with(rules: &Ruleset) -> (Kernel, Client) {
    let kernel = Kernel::new();
    let mut client = Client::connect_to(&kernel).unwrap();
    let report = client.sync(rules, &Policy::new()).unwrap();
    assert!(report.is_success(), "{report}");
    (kernel, client)
}

/// Random pairs of rulesets.
fn pairs(count: usize) -> impl Iterator<Item = (Ruleset, Ruleset)> {
    let rulesets = rulesets(Speaker::Crate, Scheduler::KNOWN.to_vec());
    samples(random::pairs(rulesets), count)
}

#[test]
fn what_was_applied_leaves_nothing_to_plan() {
    for (actual, wanted) in pairs(1500) {
        let (_kernel, mut client) = kernel_with(&actual);
        let plan = client.plan(&wanted, &Policy::new()).unwrap();
        assert_eq!(plan.is_empty(), actual == wanted);
        let planned = plan.changes().len();
        let report = client.apply(plan).unwrap();
        assert!(report.is_success() && report.rounds == 0, "{report}");
        assert_eq!(report.changed, planned);
        assert_eq!(client.ruleset().unwrap(), wanted);
        assert!(client.plan(&wanted, &Policy::new()).unwrap().is_empty());
    }
}

#[test]
fn there_is_one_change_for_each_difference() {
    let drained = Policy::new().draining(Draining::within(SECOND));
    for (actual, wanted) in pairs(500) {
        for (policy, most) in [(Policy::new(), 1), (drained.clone(), 2)] {
            let plan = Plan::new(&actual, &wanted, &policy);
            let mut counts = std::collections::HashMap::new();
            for change in plan.changes() {
                let destination = match change {
                    Change::AddDestination(_, to) | Change::UpdateDestination { to, .. } => {
                        Some(to.key)
                    }
                    Change::DrainDestination(_, from) | Change::RemoveDestination(_, from) => {
                        Some(from.key)
                    }
                    _ => None,
                };
                *counts.entry((change.service(), destination)).or_insert(0) += 1;
            }
            assert!(counts.values().all(|count| *count <= most), "{plan}");
        }
    }
}

/// Whatever part of a plan was made when its controller died, what is there and wanted has stayed.
#[test]
fn every_prefix_of_a_plan_keeps_what_is_there_and_wanted() {
    for (actual, wanted) in pairs(200) {
        let plan = Plan::new(&actual, &wanted, &Policy::new());
        let kept: Vec<_> = actual
            .services()
            .flat_map(|rules| rules.destinations().map(|d| (rules.service().key, d.key)))
            .filter(|(service, key)| {
                wanted.service(*service).is_some_and(|rules| rules.destination(*key).is_some())
            })
            .collect();
        let (_kernel, mut client) = kernel_with(&actual);
        for change in plan.changes() {
            for result in client.batch(change.operation()).unwrap() {
                result.unwrap();
            }
            let now = client.ruleset().unwrap();
            for (service, key) in &kept {
                let there = now.service(*service).and_then(|rules| rules.destination(*key));
                assert!(there.is_some(), "{key} of {service} is gone after {change}");
            }
        }
    }
}

#[test]
fn nothing_outside_of_the_scope_changes() {
    let owned = |key: &ServiceKey| matches!(key, ServiceKey::Address { port, .. } if port % 2 == 0);
    let policy = Policy::new().scope(Scope::none().matching(owned));
    for (actual, wanted) in pairs(500) {
        let (_kernel, mut client) = kernel_with(&actual);
        let plan = client.plan(&wanted, &policy).unwrap();
        let foreign = |key: ServiceKey| !owned(&key) && actual.service(key) != wanted.service(key);
        let keys = actual.services().chain(wanted.services()).map(|rules| rules.service().key);
        let foreign: std::collections::BTreeSet<_> = keys.filter(|key| foreign(*key)).collect();
        let left: std::collections::BTreeSet<_> = plan.left().iter().map(|l| l.service).collect();
        assert_eq!(left, foreign);
        assert!(plan.left().iter().all(|left| left.why == Reason::OutOfScope));
        client.apply(plan).unwrap();
        let now = client.ruleset().unwrap();
        for rules in actual.services().filter(|rules| !owned(&rules.service().key)) {
            assert_eq!(now.service(rules.service().key), Some(rules));
        }
        for rules in wanted.services().filter(|rules| owned(&rules.service().key)) {
            assert_eq!(now.service(rules.service().key), Some(rules));
        }
    }
}

#[test]
fn what_is_not_allowed_is_left_and_said() {
    let actual = web_with(&[backend(1), backend(2).weight(5)]);
    let mut wanted = web_with(&[backend(2).thresholds(9, 3), backend(3)]);
    wanted.insert_service(web().scheduler(Scheduler::LeastConnection)).unwrap();
    let plan = Plan::new(&actual, &wanted, &Policy::new().allowed(Allowed::empty()));
    assert!(plan.is_empty());
    let left: Vec<_> = plan.left().iter().map(|left| left.what).collect();
    assert_eq!(
        left,
        [
            Difference::Service,
            Difference::Destination(backend(2).thresholds(9, 3)),
            Difference::MissingDestination(backend(3)),
            Difference::UnwantedDestination(backend(1)),
        ]
    );
    assert!(plan.to_string().contains("left so: not allowed"));

    // Weights that others set are kept, and nothing is said of them.
    let policy = Policy::new().allowed(Allowed::all() - Allowed::WEIGHTS);
    let plan = Plan::new(&actual, &web_with(&[backend(1), backend(2)]), &policy);
    assert!(plan.is_empty() && plan.left().is_empty(), "{plan}");
    let plan = Plan::new(&actual, &web_with(&[backend(1), backend(2).thresholds(9, 3)]), &policy);
    let operation = plan.changes()[0].operation().unwrap();
    let kept = backend(2).thresholds(9, 3).weight(5);
    assert_eq!(operation, Operation::UpdateDestination(web().key, kept));
}

#[test]
fn a_plan_prints_as_a_list_and_as_commands() {
    let actual = rules(
        "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 1\n\
         -a -t 10.0.0.1:80 -r 10.0.1.2:80 -m -w 1\n-A -u 10.0.0.1:53 -s rr",
    );
    let wanted = rules(
        "-A -t 10.0.0.1:80 -s sh -b sh-port\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 3\n\
         -A -f 7 -6 -s wlc\n-a -f 7 -6 -r [2001:db8::1]:80 -m -w 1",
    );
    let policy = Policy::new().draining(Draining::within(SECOND));
    let plan = Plan::new(&actual, &wanted, &policy);
    assert_eq!(
        plan.to_string(),
        "+ IPv6 firewall mark 7 -s wlc\n\
         + IPv6 firewall mark 7 -> [2001:db8::1]:80 -m -w 1\n\
         ~ tcp 10.0.0.1:80 -> 10.0.1.1:80 -m -w 1 => 10.0.1.1:80 -m -w 3\n\
         ~ tcp 10.0.0.1:80: -s rr => -s sh -b sh-fallback,sh-port\n\
         - udp 10.0.0.1:53\n\
         ~ tcp 10.0.0.1:80 -> 10.0.1.2:80, drained\n\
         - tcp 10.0.0.1:80 -> 10.0.1.2:80\n\
         ~ tcp 10.0.0.1:80: -s sh -b sh-fallback,sh-port => -s sh -b sh-port\n"
    );
    assert_eq!(
        plan.commands().to_string(),
        "-A -f 7 -6 -s wlc\n\
         -a -f 7 -6 -r [2001:db8::1]:80 -m -w 1\n\
         -e -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 3\n\
         -E -t 10.0.0.1:80 -s sh -b sh-fallback,sh-port\n\
         -D -u 10.0.0.1:53\n\
         -e -t 10.0.0.1:80 -r 10.0.1.2:80 -m -w 0\n\
         -d -t 10.0.0.1:80 -r 10.0.1.2:80\n\
         -E -t 10.0.0.1:80 -s sh -b sh-port\n"
    );
}

#[test]
fn a_plan_is_written_in_words() {
    let policy = Policy::new().allowed(Allowed::all() - Allowed::REMOVE_DESTINATIONS);
    let plan = Plan::new(&web_with(&[backend(1)]), &web_with(&[backend(2)]), &policy);
    let written = serde_json::to_value(&plan).unwrap();
    assert_eq!(
        written["changes"],
        serde_json::json!([{ "add_destination": [web().key, backend(2)] }])
    );
    assert_eq!(written["left"][0]["why"], "not_allowed");
    assert_eq!(written.as_object().unwrap().len(), 2, "{written}");
}

/// A before and an after with something of every change.
fn before_and_after() -> (Ruleset, Ruleset) {
    let before = rules(
        "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -m\n\
         -a -t 10.0.0.1:80 -r 10.0.1.2:80 -m\n-A -u 10.0.0.1:53 -s rr\n\
         -a -u 10.0.0.1:53 -r 10.0.1.1:53 -m",
    );
    let after = rules(
        "-A -t 10.0.0.1:80 -s wrr\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 3\n\
         -a -t 10.0.0.1:80 -r 10.0.1.3:80 -m\n-A -f 7 -s wlc\n-a -f 7 -r 10.0.1.1:0 -m",
    );
    (before, after)
}

/// The controller starts again, and wants the same.
fn ends_equal(kernel: &Kernel, wanted: &Ruleset, what: &str) {
    kernel.clear_faults();
    let mut client = Client::connect_to(kernel).unwrap();
    let report = client.sync(wanted, &Policy::new()).unwrap();
    assert!(report.is_success(), "{what}: {report}");
    assert_eq!(&client.ruleset().unwrap(), wanted, "{what}");
}

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
            match same {
                Ok(report) if report.is_success() => assert_eq!(now, after, "{what}: {report}"),
                Ok(_) | Err(_) => {}
            }
            // The same client goes on, once nothing is late any more, and so does one that is
            // started anew.
            kernel.advance(300 * SECOND);
            let report = client.sync(&after, &Policy::new()).unwrap();
            assert!(report.is_success(), "{what}: {report}");
            assert_eq!(client.ruleset().unwrap(), after, "{what}");
            ends_equal(&kernel, &before, &what);
        }
    }
}

/// Others add, change, remove and flush at every step; what is wanted is there in the end.
#[test]
fn what_others_change_meanwhile_is_mended() {
    type Act = fn(&mut Client);
    let others: &[Act] = &[
        |other| other.flush().unwrap(),
        |other| drop(other.remove_service(web().key)),
        |other| drop(other.add_service(&Service::mark(7.try_into().unwrap(), Family::V4))),
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
        // Later, there is nothing that could still see it: it is drift, for a pass to come.
        let (kernel, mut client) = kernel_with(&before);
        let start = kernel.steps();
        client.sync(&after, &Policy::new()).unwrap();
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
    let report = client.sync(&wanted, &Policy::new()).unwrap();
    assert!(!report.is_success());
    assert!(report.failed[0].error.is_module_not_found(), "{report}");
    assert_eq!(report.failed.len(), 2, "the service and its destination: {report}");
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1)]));
}

/// What the kernel refuses was reported again each time that others' changes had been mended.
#[test]
fn what_is_refused_is_reported_once_though_others_meddle() {
    let (kernel, mut client) = kernel_with(&web_with(&[]));
    let refused = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    let plan = client.plan(&web_with(&[backend(1), refused]), &Policy::new()).unwrap();
    Client::connect_to(&kernel).unwrap().add_destination(web().key, &backend(1).weight(9)).unwrap();
    let report = client.apply(plan).unwrap();
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
    client
        .apply_with(plan, |event| {
            if let Event::Progress(progress) = event {
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

fn drained(seconds: u32) -> Policy {
    Policy::new().draining(Draining::within(seconds * SECOND))
}

fn key(last: u8) -> DestinationKey {
    backend(last).key
}

fn removed_first(policy: &Policy) -> (Kernel, Client, Report) {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 3, 2, 0);
    kernel.after(5 * SECOND, |kernel| {
        kernel.set_connections(web().key, key(1), 0, 2, 0);
    });
    let wanted = web_with(&[backend(2)]);
    let report = client.sync(&wanted, policy).unwrap();
    assert_eq!(client.ruleset().unwrap(), wanted);
    (kernel, client, report)
}

#[test]
fn a_drained_destination_goes_when_its_connections_have_ended() {
    let (_, _, report) = removed_first(&drained(30));
    assert_eq!((report.drained, report.cut_off), (1, 0), "{report}");
    assert!(report.times.drain >= 4 * SECOND && report.times.drain <= 7 * SECOND, "{report}");
}

#[test]
fn a_drained_destination_goes_at_the_deadline() {
    let (_, _, report) = removed_first(&drained(3));
    assert_eq!((report.drained, report.cut_off), (0, 1), "{report}");
    assert!(report.times.drain >= 3 * SECOND && report.times.drain <= 4 * SECOND, "{report}");
    let inactive = Policy::new().draining(Draining::within(30 * SECOND).inactive());
    let (_, _, report) = removed_first(&inactive);
    assert_eq!((report.drained, report.cut_off), (0, 1), "{report}");
    assert!(report.times.drain >= 30 * SECOND, "{report}");
}

#[test]
fn without_draining_nothing_is_waited_for() {
    let (_, _, report) = removed_first(&Policy::new());
    assert_eq!((report.drained, report.cut_off, report.times.drain), (0, 0, Duration::ZERO));
}

/// Nothing ends a UDP exchange, so waiting for it waits for the deadline.
#[test]
fn udp_is_removed_at_once_unless_told_otherwise() {
    let dns = Service::udp(Ipv4Addr::new(10, 0, 0, 1), 53);
    for (draining, took) in [
        (Draining::within(30 * SECOND), Duration::ZERO),
        (Draining::within(30 * SECOND).udp(), 30 * SECOND),
    ] {
        let (kernel, mut client) = kernel_with(&rules("-A -u 10.0.0.1:53 -s rr"));
        client.add_destination(dns.key, &backend(1)).unwrap();
        kernel.set_connections(dns.key, key(1), 1, 0, 0);
        let wanted = rules("-A -u 10.0.0.1:53 -s rr");
        let report = client.sync(&wanted, &Policy::new().draining(draining)).unwrap();
        assert!(report.times.drain >= took && report.times.drain < took + SECOND, "{report}");
        assert_eq!(client.ruleset().unwrap(), wanted);
    }
}

#[test]
fn an_unwanted_service_goes_when_its_destinations_have_drained() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    kernel.after(3 * SECOND, |kernel| {
        // Until then, it is there for the connections it has.
        let mut observer = Client::connect_with(kernel.observer()).unwrap();
        assert_eq!(observer.destination(web().key, key(1)).unwrap().destination.weight, 0);
        kernel.set_connections(web().key, key(1), 0, 0, 0);
    });
    let report = client.sync(&Ruleset::new(), &drained(30)).unwrap();
    assert!(report.is_success() && report.drained == 2, "{report}");
    assert!(client.ruleset().unwrap().is_empty());
    assert!(report.times.drain >= 2 * SECOND, "{report}");
}

/// Others delete it and add it again, and its connections are lost.
#[test]
fn a_destination_that_returns_is_raised_and_keeps_its_connections() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 3, 0, 0);
    let mut syncer = Syncer::new(drained(30));
    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer).unwrap();
    assert_eq!((report.draining, report.changed), (1, 1), "{report}");
    assert!(report.next.is_some_and(|next| next <= SECOND));
    kernel.advance(2 * SECOND);

    syncer.want_destination(web().key, backend(1)).unwrap();
    let report = client.pass(&mut syncer).unwrap();
    assert_eq!((report.draining, report.changed, report.next), (0, 1, None), "{report}");
    let entry = client.destination(web().key, key(1)).unwrap();
    assert_eq!((entry.destination, entry.active_connections), (backend(1), 3));
    kernel.advance(60 * SECOND);
    client.pass(&mut syncer).unwrap();
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1), backend(2)]));
}

/// After a restart others leave a destination at weight 0 for ever.
#[test]
fn a_restarted_controller_goes_on_draining_and_raises_what_is_wanted() {
    let actual = web_with(&[backend(1).weight(0), backend(2).weight(0)]);
    let (kernel, mut client) = kernel_with(&actual);
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(drained(10));
    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer).unwrap();
    assert_eq!((report.draining, report.changed), (1, 1), "{report}");
    assert_eq!(client.destination(web().key, key(2)).unwrap().destination.weight, 1);
    let start = kernel.now();
    while let Some(next) = client.pass(&mut syncer).unwrap().next {
        kernel.advance(next);
    }
    let took = kernel.now() - start;
    assert!(took >= 9 * SECOND && took <= 11 * SECOND, "its deadline starts anew: {took:?}");
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(2)]));
}

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
    let report = client.pass(&mut syncer).unwrap();
    assert!(report.is_success() && report.changed == 110_000, "{report}");

    let before = kernel.steps();
    let report = client.pass(&mut syncer).unwrap();
    assert_eq!((report.changed, kernel.steps() - before), (0, 0));

    let key = ServiceKey::tcp(Ipv4Addr::new(10, 0, 20, 20), 80);
    syncer.want_destination(key, backend(4).weight(9)).unwrap();
    let report = client.pass(&mut syncer).unwrap();
    assert_eq!((report.changed, kernel.steps() - before), (1, 2), "one send, one receive");
    assert_eq!(client.destination(key, backend(4).key).unwrap().destination.weight, 9);

    // The same rules wanted anew are no change.
    let same = syncer.wanted().clone();
    let before = kernel.steps();
    syncer.want(same);
    client.pass(&mut syncer).unwrap();
    assert_eq!(kernel.steps(), before);
}

#[test]
fn drift_shows_at_the_maximum_age_and_on_request() {
    let (kernel, mut client) = kernel_with(&Ruleset::new());
    let mut syncer = Syncer::new(Policy::new()).max_age(60 * SECOND);
    syncer.want(web_with(&[backend(1)]));
    client.pass(&mut syncer).unwrap();
    let mut other = Client::connect_to(&kernel).unwrap();
    other.remove_destination(web().key, key(1)).unwrap();

    kernel.advance(59 * SECOND);
    assert_eq!(client.pass(&mut syncer).unwrap().changed, 0);
    kernel.advance(SECOND);
    assert_eq!(client.pass(&mut syncer).unwrap().changed, 1);
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1)]));

    other.flush().unwrap();
    syncer.resync();
    assert_eq!(client.pass(&mut syncer).unwrap().changed, 2);
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
            client.pass(&mut syncer).unwrap();
            syncer.want(after.clone());
            kernel.inject(step, fault());
            let report = client.pass(&mut syncer).unwrap();
            kernel.clear_faults();
            let what = format!("{:?} at step {step}: {report}", fault());
            if !report.is_success() {
                kernel.advance(300 * SECOND);
                let report = client.pass(&mut syncer).unwrap();
                assert!(report.is_success(), "{what}, then {report}");
            }
            // What others did after the last answer is drift.
            syncer.resync();
            client.pass(&mut syncer).unwrap();
            assert_eq!(client.ruleset().unwrap(), after, "{what}");
        }
    }
}
