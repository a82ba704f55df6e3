//! The changes that a plan makes, the differences that it leaves, and its text.

use std::net::Ipv4Addr;

use ipvs_netlink::*;

use super::{SECOND, backend, kernel_with, pairs, rules, web, web_with, writes};

#[test]
fn what_was_applied_leaves_nothing_to_plan() {
    for (actual, wanted) in pairs(1500) {
        let (_kernel, mut client) = kernel_with(&actual);
        let plan = client.plan(&wanted, &Policy::new()).unwrap();
        assert_eq!(plan.is_empty(), actual == wanted);
        let writes = writes(&plan);
        let report = client.apply(plan).unwrap();
        assert!(report.is_success() && report.rounds == 0, "{report}");
        assert_eq!(report.changed, writes);
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

/// Whatever part of a plan was made when the controller died, destinations that are both present
/// and wanted are kept.
#[test]
fn every_prefix_of_a_plan_keeps_what_is_there_and_wanted() {
    for (actual, wanted) in pairs(200) {
        let plan = Plan::new(&actual, &wanted, &Policy::new());
        let kept: Vec<_> = actual
            .services()
            .flat_map(|rules| rules.destinations().map(|d| (rules.key(), d.key)))
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
        let keys = actual.services().chain(wanted.services()).map(ServiceRules::key);
        let foreign: std::collections::BTreeSet<_> = keys.filter(|key| foreign(*key)).collect();
        let left: std::collections::BTreeSet<_> = plan.left().iter().map(|l| l.service).collect();
        assert_eq!(left, foreign);
        assert!(plan.left().iter().all(|left| left.why == Reason::OutOfScope));
        let _ = client.apply(plan).unwrap();
        let now = client.ruleset().unwrap();
        for rules in actual.services().filter(|rules| !owned(&rules.key())) {
            assert_eq!(now.service(rules.key()), Some(rules));
        }
        for rules in wanted.services().filter(|rules| owned(&rules.key())) {
            assert_eq!(now.service(rules.key()), Some(rules));
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
    assert!(plan.to_string().contains("it is left: not allowed"));

    // Weights that others have set are kept, and are not reported.
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

#[test]
fn higher_weights_come_before_other_changes() {
    let actual = web_with(&[backend(1).weight(5), backend(2)]);
    let wanted = web_with(&[backend(1).weight(5).thresholds(9, 3), backend(2).weight(2)]);
    let plan = Plan::new(&actual, &wanted, &Policy::new());
    let last = |change: &Change| change.destination().unwrap().address;
    let order: Vec<_> = plan.changes().iter().map(last).collect();
    assert_eq!(order, [backend(2).key.address, backend(1).key.address], "{plan}");
}

#[test]
fn what_is_out_of_scope_is_told_for_what_it_is() {
    let service = |last| Service::tcp(Ipv4Addr::new(10, 0, 0, last), 80);
    let of = |services: &[Service]| {
        let mut rules = Ruleset::new();
        for service in services {
            rules.insert_service(*service).unwrap();
        }
        rules
    };
    let actual = of(&[service(1), service(2)]);
    let wanted = of(&[service(2).scheduler(Scheduler::RoundRobin), service(3)]);
    let plan = Plan::new(&actual, &wanted, &Policy::new().scope(Scope::none()));
    let left: Vec<_> = plan.left().iter().map(|left| (left.service, left.what)).collect();
    let expected = [
        (service(1).key, Difference::UnwantedService),
        (service(2).key, Difference::Service),
        (service(3).key, Difference::MissingService),
    ];
    assert_eq!((plan.is_empty(), &left[..]), (true, &expected[..]), "{plan}");
}
