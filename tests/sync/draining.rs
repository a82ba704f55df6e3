//! Draining a destination until its connections have ended, until the deadline, or until it is
//! wanted again.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;

use super::{SECOND, backend, drained, kernel_with, key, report_of, rules, truth, web, web_with};

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
    let inactive = Policy::new().draining(Draining::within(30 * SECOND).wait_for_inactive(true));
    let (_, _, report) = removed_first(&inactive);
    assert_eq!((report.drained, report.cut_off), (0, 1), "{report}");
    assert!(report.times.drain >= 30 * SECOND, "{report}");
}

#[test]
fn without_draining_nothing_is_waited_for() {
    let (_, _, report) = removed_first(&Policy::new());
    assert_eq!((report.drained, report.cut_off, report.times.drain), (0, 0, Duration::ZERO));
}

/// Nothing marks the end of a UDP exchange, so a drain that waits for it lasts until the deadline.
#[test]
fn udp_is_removed_at_once_unless_told_otherwise() {
    let dns = Service::udp(Ipv4Addr::new(10, 0, 0, 1), 53);
    for (draining, took) in [
        (Draining::within(30 * SECOND), Duration::ZERO),
        (Draining::within(30 * SECOND).drain_udp(true), 30 * SECOND),
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

/// A service proxy removes an endpoint of UDP and SCTP at once, and lets its TCP connections end.
#[test]
fn sctp_is_drained_unless_told_otherwise() {
    let within = Draining::within(30 * SECOND);
    for (text, draining, is_drained) in [
        ("--sctp-service 10.0.0.1:53", within, true),
        ("--sctp-service 10.0.0.1:53", within.drain_sctp(false), false),
        ("-t 10.0.0.1:53", within.drain_sctp(false), true),
        ("-f 7", within.drain_sctp(false), true),
    ] {
        let before = rules(&format!("-A {text} -s rr\n-a {text} -r 10.0.1.1:53 -m"));
        for wanted in [rules(&format!("-A {text} -s rr")), Ruleset::new()] {
            let plan = Plan::new(&before, &wanted, &Policy::new().draining(draining));
            let drains = |change: &Change| matches!(change, Change::DrainDestination(..));
            assert_eq!(plan.changes().iter().any(drains), is_drained, "{text}\n{plan}");
        }
    }
}

#[test]
fn an_unwanted_service_goes_when_its_destinations_have_drained() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    kernel.after(3 * SECOND, |kernel| {
        // Until then the destination serves its old connections.
        let mut observer = Client::connect_with(kernel.observer()).unwrap();
        assert_eq!(observer.destination(web().key, key(1)).unwrap().destination.weight, 0);
        kernel.set_connections(web().key, key(1), 0, 0, 0);
    });
    let report = client.sync(&Ruleset::new(), &drained(30)).unwrap();
    assert!(report.is_success() && report.drained == 2, "{report}");
    assert!(client.ruleset().unwrap().is_empty());
    assert!(report.times.drain >= 2 * SECOND, "{report}");
}

/// Once: if counting took longer than the interval, the drain counted without a pause, and told
/// nobody.
#[test]
fn between_two_counts_is_a_rest_however_long_they_take() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    kernel.after(5 * SECOND, |kernel| {
        kernel.set_connections(web().key, key(1), 0, 0, 0);
    });
    let draining = Draining::within(30 * SECOND).interval(Duration::from_millis(20));
    let plan = client.plan(&web_with(&[backend(2)]), &Policy::new().draining(draining)).unwrap();
    let (mut counts, mut rests) = (0, 0);
    let report = client.apply_with(plan, |event| {
        match event {
            SyncEvent::Progress(Progress { stage: Stage::Verifying, .. }) => {
                counts += 1;
                kernel.inject(1, Fault::Delay(Duration::from_millis(100)));
            }
            SyncEvent::Progress(Progress { stage: Stage::Draining, .. }) => rests += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert_eq!(report.unwrap().drained, 1);
    assert!(counts > 20 && rests + 3 >= counts, "{rests} rests between {counts} counts");
}

/// Other programs remove the destination and add it again, and lose its connections.
#[test]
fn a_destination_that_returns_is_raised_and_keeps_its_connections() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 3, 0, 0);
    let mut syncer = Syncer::new(drained(30));
    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.changed), (1, 1), "{report}");
    assert!(report.next.is_some_and(|next| next <= SECOND));
    kernel.advance(2 * SECOND);

    syncer.want_destination(web().key, backend(1)).unwrap();
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.changed, report.next), (0, 1, None), "{report}");
    let entry = client.destination(web().key, key(1)).unwrap();
    assert_eq!((entry.destination, entry.active_connections), (backend(1), 3));
    kernel.advance(60 * SECOND);
    let _ = client.pass(&mut syncer);
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(1), backend(2)]));
}

/// Other controllers leave a destination at weight 0 for ever after a restart.
#[test]
fn a_restarted_controller_goes_on_draining_and_raises_what_is_wanted() {
    let actual = web_with(&[backend(1).weight(0), backend(2).weight(0)]);
    let (kernel, mut client) = kernel_with(&actual);
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(drained(10));
    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.changed), (1, 1), "{report}");
    assert_eq!(client.destination(web().key, key(2)).unwrap().destination.weight, 1);
    let start = kernel.now();
    while let Some(next) = client.pass(&mut syncer).next {
        kernel.advance(next);
    }
    let took = kernel.now() - start;
    assert!(took >= 9 * SECOND && took <= 11 * SECOND, "its deadline starts anew: {took:?}");
    assert_eq!(client.ruleset().unwrap(), web_with(&[backend(2)]));
}

/// Once: under a policy without weights, as in the example of the policy's documentation, the
/// destination stayed at weight 0 for ever, and no report told it.
#[test]
fn a_destination_wanted_again_gets_its_weight_back_where_weights_are_others() {
    let policy = drained(30).allowed(Allowed::all() - Allowed::WEIGHTS);
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1).weight(7), backend(2)]));
    kernel.set_connections(web().key, key(1), 3, 0, 0);
    let mut syncer = Syncer::new(policy.clone());
    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer);
    assert_eq!(report.draining, 1, "{report}");
    syncer.want(web_with(&[backend(1), backend(2)]));
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.wanted_again), (0, 1), "{report}");
    assert_eq!(truth(&kernel), web_with(&[backend(1).weight(7), backend(2)]));

    // A controller that was killed in between does not know who set the weight to 0, and says so.
    syncer.want(web_with(&[backend(2)]));
    let _ = client.pass(&mut syncer);
    let drains = syncer.drains();
    let mut restarted = Syncer::new(policy.clone());
    restarted.want(web_with(&[backend(1), backend(2)]));
    let report = client.pass(&mut restarted);
    assert_eq!(report.left[0].why, Reason::UnknownOrigin, "{report}");
    let report = client.sync(&web_with(&[backend(1), backend(2)]), &policy).unwrap();
    assert_eq!(report.left[0].why, Reason::UnknownOrigin, "{report}");

    // With the drains of the old controller, it knows.
    let text = serde_json::to_string(&drains).unwrap();
    let mut restarted = Syncer::new(policy).resume(&serde_json::from_str(&text).unwrap());
    restarted.want(web_with(&[backend(1), backend(2)]));
    let report = client.pass(&mut restarted);
    assert!(report.is_success() && report.left.is_empty(), "{report}");
    assert_eq!(truth(&kernel), web_with(&[backend(1).weight(7), backend(2)]));
}

/// Once: destinations that were found while settling or verifying were set to weight 0 and
/// forgotten.
#[test]
fn what_others_add_meanwhile_is_drained_to_its_end() {
    let wanted = web_with(&[backend(1), backend(2)]);
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let plan = client.plan(&wanted, &drained(30)).unwrap();
    let mut other = kernel.connect().unwrap();
    other.add_destination(web().key, &backend(3)).unwrap();
    kernel.set_connections(web().key, key(3), 1, 0, 0);
    let report = client.apply(plan).unwrap();
    assert_eq!((report.cut_off, report.is_success()), (1, true), "{report}");
    assert_eq!(truth(&kernel), wanted);

    let mut syncer = Syncer::new(drained(30)).max_age(MaxAge::never());
    syncer.want(wanted.clone());
    let _ = client.pass(&mut syncer);
    other.add_destination(web().key, &backend(3)).unwrap();
    other.remove_destination(web().key, key(2)).unwrap();
    syncer.want_destination(web().key, backend(2).weight(4)).unwrap();
    while let Some(next) = client.pass(&mut syncer).next {
        kernel.advance(next);
    }
    assert_eq!(truth(&kernel), web_with(&[backend(1), backend(2).weight(4)]));
}

/// Once: the service was removed together with the connections of destinations that others had
/// raised or added.
#[test]
fn a_going_service_waits_for_what_others_raise_or_add() {
    let acts: [fn(&mut Client); 2] = [
        |other| other.update_destination(web().key, &backend(1).weight(9)).unwrap(),
        |other| other.add_destination(web().key, &backend(5)).unwrap(),
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        kernel.after(2 * SECOND, move |kernel| {
            act(&mut Client::connect_with(kernel.observer()).unwrap());
            if number == 1 {
                kernel.set_connections(web().key, key(1), 0, 0, 0);
                kernel.set_connections(web().key, key(5), 5, 0, 0);
            }
        });
        let start = kernel.now();
        let report = client.sync(&Ruleset::new(), &drained(600)).unwrap();
        let took = kernel.now() - start;
        assert!(took >= 600 * SECOND && took < 610 * SECOND, "{took:?}: {report}");
        assert_eq!(report.cut_off, 1, "{report}");
        assert!(truth(&kernel).is_empty());
    }
}

/// Once: a raised destination of a service that stays was no difference in any report.
#[test]
fn what_others_raise_is_lowered_again_and_keeps_its_deadline() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 5, 0, 0);
    kernel.after(4 * SECOND, |kernel| {
        let mut other = Client::connect_with(kernel.observer()).unwrap();
        other.update_destination(web().key, &backend(1).weight(9)).unwrap();
    });
    kernel.after(8 * SECOND, |kernel| {
        let mut observer = Client::connect_with(kernel.observer()).unwrap();
        assert_eq!(observer.destination(web().key, key(1)).unwrap().destination.weight, 0);
    });
    let report = client.sync(&web_with(&[backend(2)]), &drained(20)).unwrap();
    assert_eq!((report.cut_off, report.is_success()), (1, true), "{report}");
    assert!(report.times.drain >= 19 * SECOND && report.times.drain <= 22 * SECOND, "{report}");
}

/// Once: a listing that lacked an entry ended the drain.
#[test]
fn an_entry_that_a_listing_lacks_is_read_again() {
    // One listing lacks the destination, since others remove and add it meanwhile.
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 5, 0, 0);
    let mut syncer = Syncer::new(drained(600));
    syncer.want(web_with(&[backend(2)]));
    let _ = client.pass(&mut syncer);
    kernel.advance(2 * SECOND);
    Client::connect_with(kernel.observer()).unwrap().remove_destination(web().key, key(1)).unwrap();
    let start = kernel.steps();
    // The second listing has the destination again.
    kernel.inject(
        6,
        Fault::meanwhile(|kernel| {
            let mut other = Client::connect_with(kernel.observer()).unwrap();
            other.add_destination(web().key, &backend(1).weight(0)).unwrap();
        }),
    );
    let report = client.pass(&mut syncer);
    assert!(kernel.steps() - start > 6);
    assert_eq!((report.draining, report.gone), (1, 0), "{report}");

    // A destination that two listings lack is gone.
    kernel.advance(2 * SECOND);
    Client::connect_with(kernel.observer()).unwrap().remove_destination(web().key, key(1)).unwrap();
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.gone), (0, 1), "{report}");
}

/// Once: UDP was removed at the first count, since its connections are inactive all their life.
#[test]
fn udp_and_sctp_wait_for_inactive_connections() {
    for (text, draining, waits) in [
        ("-u 10.0.0.1:53", Draining::within(30 * SECOND).drain_udp(true), true),
        ("--sctp-service 10.0.0.1:53", Draining::within(30 * SECOND), true),
        ("-t 10.0.0.1:53", Draining::within(30 * SECOND).drain_udp(true), false),
        ("-f 7", Draining::within(30 * SECOND), false),
        ("-f 7", Draining::within(30 * SECOND).drain_udp(true), true),
    ] {
        let before = rules(&format!("-A {text} -s rr\n-a {text} -r 10.0.1.1:53 -m"));
        let wanted = rules(&format!("-A {text} -s rr"));
        let (kernel, mut client) = kernel_with(&before);
        let service = before.services().next().unwrap();
        let destination = service.destinations().next().unwrap().key;
        kernel.set_connections(service.key(), destination, 0, 3, 0);
        let report = client.sync(&wanted, &Policy::new().draining(draining)).unwrap();
        assert_eq!(report.cut_off, usize::from(waits), "{text}: {report}");
        assert_eq!(report.times.drain >= 29 * SECOND, waits, "{text}: {report}");
    }
}

#[test]
fn a_plan_notes_that_a_short_drain_cuts_udp() {
    let before = rules("-A -u 10.0.0.1:53 -s rr\n-a -u 10.0.0.1:53 -r 10.0.1.1:53 -m");
    let note = |seconds| {
        let policy = Policy::new().draining(Draining::within(seconds * SECOND).drain_udp(true));
        Plan::new(&before, &Ruleset::new(), &policy).to_string().contains("cuts them off")
    };
    assert!(note(30) && !note(300));
}

/// Once: a one-packet service was removed at once, with the TCP connections of its mark.
#[test]
fn the_tcp_of_a_one_packet_mark_is_drained() {
    let before = rules("-A -f 7 -s rr -o\n-a -f 7 -r 10.0.1.1:0 -m");
    let plan = Plan::new(&before, &Ruleset::new(), &drained(30));
    assert!(plan.changes().iter().any(|change| matches!(change, Change::DrainDestination(..))));
}

#[test]
fn no_duration_is_too_long() {
    let draining = Draining::within(Duration::MAX).interval(Duration::MAX);
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(Policy::new().draining(draining));
    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer);
    assert_eq!(report.draining, 1, "{report}");
    let drains = syncer.drains();
    let mut syncer = Syncer::new(Policy::new().draining(draining)).resume(&drains);
    syncer.want(web_with(&[backend(2)]));
    assert_eq!(client.pass(&mut syncer).draining, 1);
}

/// Once: if counting failed past the deadline, the report asked for the next pass at once, for
/// ever.
#[test]
fn a_count_that_fails_past_the_deadline_waits() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(drained(5));
    syncer.want(web_with(&[backend(2)]));
    let _ = client.pass(&mut syncer);
    kernel.advance(6 * SECOND);
    for _ in 0..3 {
        kernel.inject(1, Fault::Fail(5));
        let report = client.pass(&mut syncer);
        assert!(!report.is_success());
        assert!(report.next.is_some_and(|next| next > SECOND / 2), "{:?}", report.next);
        kernel.clear_faults();
        kernel.advance(SECOND / 10);
    }
    kernel.advance(10 * SECOND);
    let report = client.pass(&mut syncer);
    assert_eq!((report.cut_off, report.draining), (1, 0), "{report}");
}

/// Once: one failed removal began the whole deadline anew.
#[test]
fn a_removal_that_fails_keeps_the_deadline() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(drained(5));
    syncer.want(web_with(&[backend(2)]));
    let _ = client.pass(&mut syncer);
    kernel.advance(6 * SECOND);
    for step in 1..20 {
        kernel.inject(step, Fault::Refuse(12));
    }
    let report = client.pass(&mut syncer);
    assert!(!report.is_success(), "{report}");
    kernel.clear_faults();
    kernel.advance(report.next.unwrap());
    let report = client.pass(&mut syncer);
    assert_eq!((report.cut_off, report.draining), (1, 0), "{report}");
}

/// Once: a destination that was wanted again, and drained again later, had the old deadline.
#[test]
fn a_new_drain_has_a_new_deadline() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(drained(10));
    for _ in 0..3 {
        syncer.want(web_with(&[backend(2)]));
        assert_eq!(client.pass(&mut syncer).draining, 1);
        kernel.advance(8 * SECOND);
        assert_eq!(client.pass(&mut syncer).draining, 1);
        syncer.want(web_with(&[backend(1), backend(2)]));
        assert_eq!(client.pass(&mut syncer).draining, 0);
    }
}

/// A controller that keeps its drains ends like one that was never stopped.
#[test]
fn a_restart_with_drains_keeps_the_deadline() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let mut syncer = Syncer::new(drained(100));
    syncer.want(web_with(&[backend(2)]));
    let _ = client.pass(&mut syncer);
    kernel.advance(60 * SECOND);
    let _ = client.pass(&mut syncer);
    let mut syncer = Syncer::new(drained(100)).resume(&syncer.drains());
    syncer.want(web_with(&[backend(2)]));
    let start = kernel.now();
    while let Some(next) = client.pass(&mut syncer).next {
        kernel.advance(next);
    }
    let took = kernel.now() - start;
    assert!(took >= 38 * SECOND && took <= 42 * SECOND, "{took:?}");
    assert_eq!(truth(&kernel), web_with(&[backend(2)]));
}

/// Under `sh` and `mh` a destination of weight 0 keeps its share of the clients, which are refused
/// unless the service falls back.
#[test]
fn under_schedulers_by_hash_a_service_falls_back_while_it_drains() {
    for name in ["sh", "mh", "sh -b sh-port", "mh -b mh-port"] {
        let table = |options: &str, hosts: &[u8]| {
            let each = |host| format!("-a -t 10.0.0.1:80 -r 10.0.1.{host}:80 -m\n");
            let hosts: String = hosts.iter().map(each).collect();
            rules(&format!("-A -t 10.0.0.1:80 -s {options}\n{hosts}"))
        };
        let (before, wanted) = (table(name, &[1, 2, 3]), table(name, &[2, 3]));
        let first = before.services().next().unwrap().destinations().next().unwrap().key;
        let (kernel, mut client) = kernel_with(&before);
        kernel.set_connections(web().key, first, 1, 0, 0);
        let mut syncer = Syncer::new(drained(30));
        syncer.want(wanted.clone());
        let report = client.pass(&mut syncer);
        assert_eq!((report.draining, report.changed), (1, 2), "{name}: {report}");
        let options = client.service(web().key).unwrap().service.scheduler.hash_options();
        assert!(options.unwrap().fallback, "{name}");
        // A new controller knows this, too.
        let mut syncer = Syncer::new(drained(30));
        syncer.want(wanted.clone());
        let report = client.pass(&mut syncer);
        assert_eq!((report.draining, report.changed), (1, 0), "{name}: {report}");
        kernel.set_connections(web().key, first, 0, 0, 0);
        kernel.advance(SECOND);
        let report = client.pass(&mut syncer);
        assert_eq!((report.drained, report.changed), (1, 2), "{name}: {report}");
        assert_eq!(truth(&kernel), wanted, "{name}");

        // Under a policy without updates of services the destination is removed at once, and the
        // plan says so.
        let policy = drained(30).allowed(Allowed::all() - Allowed::UPDATE_SERVICES);
        let plan = Plan::new(&before, &wanted, &policy);
        assert_eq!(plan.to_string(), "- tcp 10.0.0.1:80 -> 10.0.1.1:80\n");
    }
}

fn by(options: &str, destinations: &[u8]) -> Ruleset {
    let each = |last| format!("-a -t 10.0.0.1:80 -r 10.0.1.{last}:8080 -m\n");
    let destinations: String = destinations.iter().map(each).collect();
    rules(&format!("-A -t 10.0.0.1:80 -s {options}\n{destinations}"))
}

/// How many of the new clients are refused.
fn refused(kernel: &Kernel) -> usize {
    (0..300).filter(|_| kernel.open(web().key).is_err()).count()
}

/// Once: a drain that had begun when its service had no other destination went on under `dh`, and
/// under `sh` and `mh` without permission to update services, until its deadline. Meanwhile a half
/// of all new clients was refused, or each, though another destination was there.
#[test]
fn no_drain_refuses_clients_once_another_destination_is_there() {
    let but_services = Allowed::all() - Allowed::UPDATE_SERVICES;
    for (from, to, allowed) in [
        ("dh", "dh", Allowed::all()),
        ("rr", "dh", Allowed::all()),
        ("sh", "sh", Allowed::all()),
        ("sh", "sh", but_services),
        ("mh", "mh", but_services),
    ] {
        let (kernel, mut client) = kernel_with(&by(from, &[1]));
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        let mut syncer = Syncer::new(drained(600).allowed(allowed).detailed(true));
        syncer.want(by(from, &[]));
        let report = client.pass(&mut syncer);
        assert_eq!(report.draining, 1, "{from} {to}: {report}");
        syncer.want(by(to, &[2]));
        let report = client.pass(&mut syncer);
        assert!(report.is_success(), "{from} {to}: {report}");
        assert_eq!(refused(&kernel), 0, "{from} {to}: {report}");
        // The connections that were cut are told.
        assert_eq!(report.cut_off + report.draining, 1, "{from} {to}: {report}");
        assert_eq!(report.ended.len(), report.cut_off, "{from} {to}: {report}");
    }
}

/// Once: a controller that was killed while it drained, and started again without its drains, took
/// the fallback option away from a service of `sh` or `mh` and left a destination at weight 0 whose
/// weight it was not allowed to set. A half of all new clients was refused from then on.
#[test]
fn the_fallback_option_stays_while_a_destination_stays_at_weight_0() {
    let weights = Allowed::all() - Allowed::WEIGHTS;
    for (name, allowed, wanted) in [
        ("sh", weights, &[1, 2][..]),
        ("mh", weights, &[1, 2]),
        ("sh", weights - Allowed::REMOVE_DESTINATIONS, &[2]),
    ] {
        let (kernel, mut client) = kernel_with(&by(name, &[1, 2]));
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        let mut syncer = Syncer::new(drained(600).allowed(weights));
        syncer.want(by(name, &[2]));
        let report = client.pass(&mut syncer);
        assert_eq!((report.draining, refused(&kernel)), (1, 0), "{name}: {report}");

        let mut restarted = Syncer::new(drained(600).allowed(allowed));
        restarted.want(by(name, wanted));
        let report = client.pass(&mut restarted);
        assert_eq!((report.changed, refused(&kernel)), (0, 0), "{name}: {report}");
        let is_said = |why| report.left.iter().any(|left| left.why == why);
        assert!(is_said(Reason::WouldRefuse) && report.left.len() == 2, "{name}: {report}");

        // Once somebody raises the weight, the option goes.
        client.update_destination(web().key, &backend(1)).unwrap();
        restarted.resync();
        let report = client.pass(&mut restarted);
        assert_eq!((report.changed, refused(&kernel)), (1, 0), "{name}: {report}");
        assert_eq!(truth(&kernel), by(name, &[1, 2]), "{name}: {report}");
    }
}

/// Once: a stored deadline of the year 2096, or of a clock that was set back since, let a
/// destination drain for decades; and a stored weight that no kernel takes failed for ever.
#[test]
fn odd_drains_do_no_harm() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 5, 0, 0);
    let policy = drained(60).allowed(Allowed::all() - Allowed::WEIGHTS);
    let mut syncer = Syncer::new(policy.clone());
    syncer.want(web_with(&[backend(2)]));
    assert_eq!(client.pass(&mut syncer).draining, 1);
    let mut stored = serde_json::to_value(syncer.drains()).unwrap();
    let until = &mut stored[0]["until"]["secs_since_epoch"];
    assert!(until.is_u64(), "{stored}");
    *until = 4_000_000_000_u64.into();
    stored[0]["weight"] = u32::MAX.into();
    let drains: Drains = serde_json::from_value(stored).unwrap();

    let mut syncer = Syncer::new(policy.clone()).resume(&drains);
    syncer.want(web_with(&[backend(1), backend(2)]));
    let report = client.pass(&mut syncer);
    assert!(report.is_success() && report.wanted_again == 1, "{report}");
    let largest = backend(1).weight(i32::MAX.unsigned_abs());
    assert_eq!(truth(&kernel), web_with(&[largest, backend(2)]));

    client.update_destination(web().key, &backend(1).weight(0)).unwrap();
    let mut syncer = Syncer::new(policy).resume(&drains);
    syncer.want(web_with(&[backend(2)]));
    assert_eq!(client.pass(&mut syncer).draining, 1);
    kernel.advance(61 * SECOND);
    let report = client.pass(&mut syncer);
    assert_eq!(report.cut_off, 1, "{report}");
}

/// Once: a destination was removed with its connections at the moment when another could take its
/// place. Its deadline had begun when the destination was first unwanted, though it was held back
/// and took connections.
#[test]
fn what_was_held_back_drains_from_when_it_is_lowered() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let refused = Destination::masquerade(Ipv4Addr::new(224, 0, 0, 1), 80);
    let mut syncer = Syncer::new(drained(30));
    syncer.want(web_with(&[refused]));
    let report = client.pass(&mut syncer);
    assert_eq!((report.left[0].why, report.draining), (Reason::HeldBack, 0), "{report}");
    kernel.set_connections(web().key, key(1), 3, 0, 0);
    kernel.advance(60 * SECOND);

    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.cut_off), (1, 0), "{report}");
    kernel.advance(29 * SECOND);
    assert_eq!(client.pass(&mut syncer).draining, 1);
    kernel.advance(SECOND);
    assert_eq!(client.pass(&mut syncer).cut_off, 1);
}

/// Once: an apply drained a destination again that it had removed. It wrote to the destination,
/// waited for it, and reported that others had removed it.
#[test]
fn what_was_drained_and_removed_by_an_apply_is_done_with() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 3, 0, 0);
    kernel.after(SECOND + SECOND / 2, |kernel| {
        let mut other = Client::connect_with(kernel.observer()).unwrap();
        other.update_destination(web().key, &backend(1)).unwrap();
    });
    let report = client.sync(&web_with(&[backend(2)]), &drained(2)).unwrap();
    assert_eq!((report.cut_off, report.gone, report.changed), (1, 0, 2), "{report}");
    assert_eq!(truth(&kernel), web_with(&[backend(2)]));
}

/// Once: the last removal of a draining destination was taken for somebody else's.
#[test]
fn what_is_removed_here_is_not_said_to_be_removed_by_others() {
    for policy in [drained(10), drained(10).verify(false)] {
        for weight in [0, 1] {
            let actual = web_with(&[backend(1), backend(2).weight(weight)]);
            let (kernel, mut client) = kernel_with(&actual);
            kernel.set_connections(web().key, key(2), 5, 0, 0);
            let report = client.sync(&web_with(&[backend(1)]), &policy).unwrap();
            let ends = (report.cut_off, report.drained, report.gone);
            assert_eq!((ends, report.rounds), ((1, 0, 0), 0), "{report}");
        }
    }
}

/// Once: while one service drained, all changes of another were written twice.
#[test]
fn a_service_beside_one_that_drains_is_written_once() {
    let table = |web: &str, dns: &str| {
        rules(&format!("-A -t 10.0.0.1:80 -s rr\n{web}-A -u 10.0.0.1:53 -s rr\n{dns}"))
    };
    let http = |n| format!("-a -t 10.0.0.1:80 -r 10.0.1.{n}:8080 -m\n");
    let dns = |n, w| format!("-a -u 10.0.0.1:53 -r 10.0.1.{n}:53 -m -w {w}\n");
    let actual = table(&[http(1), http(2)].concat(), &[dns(1, 1), dns(2, 1)].concat());
    let wanted = table(&http(1), &[dns(1, 5), dns(3, 1)].concat());
    let (kernel, mut client) = kernel_with(&actual);
    kernel.set_connections(web().key, key(2), 5, 0, 0);
    let plan = client.plan(&wanted, &drained(10)).unwrap();
    let planned = plan.changes().len();
    let report = client.apply(plan).unwrap();
    assert_eq!((report.changed, report.rounds), (planned, 0), "{report}");
    assert_eq!(truth(&kernel), wanted);
}

/// Once: the fallback option stayed if a destination was lowered while another stopped draining.
#[test]
fn the_fallback_option_goes_with_the_drain() {
    let table = |service: &str, destinations: &[(u8, u32)]| {
        let each = |(n, w): &(u8, u32)| format!("-a -t 10.0.0.1:80 -r 10.0.1.{n}:8080 -m -w {w}\n");
        let destinations: String = destinations.iter().map(each).collect();
        rules(&format!("-A -t 10.0.0.1:80 -s {service}\n{destinations}"))
    };
    let (kernel, mut client) = kernel_with(&table("sh", &[(1, 3), (2, 1)]));
    kernel.set_connections(web().key, key(2), 5, 0, 0);
    let mut syncer = Syncer::new(drained(60));
    syncer.want(table("sh", &[(1, 3)]));
    let _ = client.pass(&mut syncer);
    syncer.want(table("sh", &[(1, 2), (2, 1)]));
    let report = client.pass(&mut syncer);
    assert!(report.is_success(), "{report}");
    assert_eq!(truth(&kernel), table("sh", &[(1, 2), (2, 1)]));
}

/// Once: a deadline that was kept before the first pass was in 1970.
#[test]
fn drains_are_kept_before_the_first_pass() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 5, 0, 0);
    let mut syncer = Syncer::new(drained(3600));
    syncer.want(web_with(&[backend(2)]));
    let _ = client.pass(&mut syncer);
    let drains = syncer.drains();
    let never_ran = Syncer::new(drained(3600)).resume(&drains);
    assert_eq!(never_ran.drains(), drains);
    let mut syncer = Syncer::new(drained(3600)).resume(&never_ran.drains());
    syncer.want(web_with(&[backend(2)]));
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.cut_off), (1, 0), "{report}");
}

/// Once: a removal whose answer was lost, and the reading after it, too, was taken for somebody
/// else's.
#[test]
fn a_removal_of_unknown_outcome_is_counted_in_the_next_pass() {
    let mut cut = 0;
    for step in 1..10 {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        let mut syncer = Syncer::new(drained(5));
        syncer.want(web_with(&[backend(2)]));
        let _ = client.pass(&mut syncer);
        kernel.advance(6 * SECOND);
        kernel.inject(step, Fault::LoseAnswers);
        kernel.inject(step + 2, Fault::Fail(5));
        let first = client.pass(&mut syncer);
        kernel.clear_faults();
        kernel.advance(10 * SECOND);
        let second = client.pass(&mut syncer);
        assert_eq!((first.gone, second.gone), (0, 0), "step {step}: {first}; {second}");
        assert_eq!(first.cut_off + second.cut_off, 1, "step {step}: {first}; {second}");
        cut += second.cut_off;
    }
    assert!(cut > 0);
}

/// Once: the callback was called only at the beginning of each wait, and could not end a long one.
#[test]
fn a_drain_is_called_off_within_a_second() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    let draining = Draining::within(600 * SECOND).interval(600 * SECOND);
    let policy = Policy::new().draining(draining);
    let plan = client.plan(&web_with(&[backend(2)]), &policy).unwrap();
    let mut asked = Vec::new();
    let outcome = client.apply_with(plan, |event| {
        if matches!(event, SyncEvent::Progress(progress) if progress.stage == Stage::Draining) {
            asked.push(kernel.now());
        }
        if asked.len() > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] <= SECOND), "{asked:?}");
    let incomplete = outcome.expect_err("it drained to its end");
    let report = incomplete.report();
    assert!(report.called_off && report.failed.is_empty() && report.draining == 1, "{incomplete}");
    assert!(incomplete.to_string().contains("the caller called off the rest"), "{incomplete}");
    assert_eq!(truth(&kernel), web_with(&[backend(1).weight(0), backend(2)]));
}

/// A caller that breaks off when nothing is left to do has called off nothing.
#[test]
fn what_is_called_off_after_its_end_is_done() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
    let wanted = web_with(&[backend(1), backend(2)]);
    let plan = client.plan(&wanted, &Policy::new()).unwrap();
    let outcome = client.apply_with(plan, |event| match event {
        SyncEvent::Progress(progress) if progress.stage == Stage::Verifying => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    assert!(!outcome.unwrap().called_off);
    assert_eq!(truth(&kernel), wanted);
}

/// Once: one reading that failed for want of memory ended an apply that waited for connections, and
/// no report told that the destination stays at weight 0.
#[test]
fn a_count_that_fails_for_a_moment_ends_nothing() {
    for (failures, goes_on) in [(4, true), (5, false)] {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        let wanted = web_with(&[backend(2)]);
        let plan = client.plan(&wanted, &drained(60)).unwrap();
        kernel.after(3 * SECOND, move |kernel| {
            // Each reading has two steps: the send, and the answer.
            for reading in 0..failures {
                kernel.inject(1 + 2 * reading, Fault::Refuse(12));
            }
        });
        match client.apply(plan) {
            Ok(report) => {
                assert!(goes_on && report.cut_off == 1, "{report}");
                assert_eq!(truth(&kernel), wanted);
            }
            Err(incomplete) => {
                assert!(!goes_on, "{incomplete}");
                let text = incomplete.to_string();
                assert!(text.contains("1 destination left at weight 0; plan again"), "{text}");
                assert_eq!(truth(&kernel), web_with(&[backend(1).weight(0), backend(2)]));
            }
        }
    }
}

/// Once: a sync that was called off left a service with the fallback option, which was to be taken
/// back after the drain, and neither the failed nor the draining list of the report told it.
#[test]
fn what_was_to_come_after_a_drain_is_said_when_it_is_called_off() {
    let before = rules(
        "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 2\n\
         -a -t 10.0.0.1:80 -r 10.0.1.3:8080 -m -w 1",
    );
    let wanted = rules(
        "-A -t 10.0.0.1:80 -s mh\n-a -t 10.0.0.1:80 -r 10.0.1.2:8080 -m -w 2\n\
         -a -t 10.0.0.1:80 -r 10.0.1.3:8080 -m -w 0\n-a -t 10.0.0.1:80 -r 10.0.1.4:8080 -m -w 0",
    );
    for stop in 1.. {
        let (kernel, mut client) = kernel_with(&before);
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        let plan = client.plan(&wanted, &drained(5)).unwrap();
        let mut events = 0;
        let outcome = client.apply_with(plan, |_| {
            events += 1;
            if events == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let report = report_of(outcome);
        let there = *truth(&kernel).service(web().key).unwrap().service();
        let is_said = report.failed.iter().any(|it| it.change.destination().is_none());
        let is_as_wanted = there == *wanted.service(web().key).unwrap().service();
        assert!(is_as_wanted || is_said || report.draining > 0, "event {stop}: {report}");
        if events < stop {
            break;
        }
    }
}

/// Once: connections were cut at once, unsaid, where the kernel refused the fallback option of `sh`
/// or `mh`, or the scheduler that was to take the place of such a one.
#[test]
fn connections_outlive_a_refused_scheduler() {
    for from in ["sh", "mh"] {
        for to in [from, "wrr"] {
            let destinations = "-a -t 10.0.0.1:80 -r 10.0.1.2:8080 -m";
            let before = rules(&format!(
                "-A -t 10.0.0.1:80 -s {from}\n-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m\n{destinations}"
            ));
            let wanted = rules(&format!("-A -t 10.0.0.1:80 -s {to}\n{destinations}"));
            let (kernel, mut client) = kernel_with(&before);
            kernel.set_connections(web().key, key(1), 5, 0, 0);
            let mut syncer = Syncer::new(drained(600));
            syncer.want(before);
            assert!(client.pass(&mut syncer).is_success());
            kernel.configure(|host| host.schedulers.retain(|name| name != "wrr"));
            syncer.want(wanted);
            if from == to {
                kernel.inject(1, Fault::Refuse(22));
            }
            let report = client.pass(&mut syncer);
            assert_eq!((report.draining, report.cut_off), (1, 0), "{from} {to}: {report}");
            assert_eq!(report.failed.len(), 1, "{from} {to}: {report}");
            assert_eq!(truth(&kernel).destination_count(), 2, "{report}");
        }
    }
}

/// Once: a service that could not be removed, since the drain of its destination was refused, was no
/// failure of its own.
#[test]
fn a_service_whose_drain_is_refused_is_said_to_stay() {
    for errno in [5, 22] {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
        kernel.set_connections(web().key, key(1), 5, 0, 0);
        let mut syncer = Syncer::new(drained(10));
        syncer.want(truth(&kernel));
        assert!(client.pass(&mut syncer).is_success());
        syncer.drop_service(web().key);
        // The writing comes first: the table is known.
        kernel.inject(1, Fault::Refuse(errno));
        let report = client.pass(&mut syncer);
        let failed: Vec<_> = report.failed.iter().map(|failed| failed.change).collect();
        if failed.is_empty() {
            assert_eq!(report.draining, 2, "{errno}: {report}");
            continue;
        }
        assert!(failed.contains(&Change::RemoveService(web())), "{errno}: {report}");
        assert!(report.next.is_some(), "{report}");
        while let Some(next) = client.pass(&mut syncer).next {
            kernel.advance(next);
        }
        assert_eq!(truth(&kernel), Ruleset::new(), "{errno}");
    }
}

/// Once: its deadline ran from the attempt, and the destination was removed with its connections as
/// soon as writing went again, having taken new ones until then.
#[test]
fn a_drain_begins_once_the_weight_is_lowered() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(2), 50, 0, 0);
    let mut syncer = Syncer::new(drained(10).detailed(true));
    syncer.want(web_with(&[backend(1), backend(2)]));
    assert!(client.pass(&mut syncer).is_success());
    syncer.want(web_with(&[backend(1)]));
    kernel.inject(1, Fault::Refuse(1));
    let report = client.pass(&mut syncer);
    kernel.clear_faults();
    assert_eq!((report.is_success(), report.draining), (false, 0), "{report}");
    kernel.advance(11 * SECOND);
    let report = client.pass(&mut syncer);
    assert_eq!((report.draining, report.cut_off), (1, 0), "{report}");
    assert_eq!(report.drains[0].left, 10 * SECOND, "{report}");
}

#[test]
fn a_drain_that_others_interrupt_keeps_its_deadline_though_lowering_fails() {
    for step in 1..=8 {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
        kernel.set_connections(web().key, key(2), 50, 0, 0);
        let mut syncer = Syncer::new(drained(10).detailed(true));
        syncer.want(web_with(&[backend(1)]));
        assert_eq!(client.pass(&mut syncer).draining, 1);
        kernel.advance(4 * SECOND);
        client.update_destination(web().key, &backend(2)).unwrap();
        syncer.resync();
        kernel.inject(step, Fault::Refuse(1));
        let _ = client.pass(&mut syncer);
        kernel.clear_faults();
        kernel.advance(2 * SECOND);
        let report = client.pass(&mut syncer);
        assert_eq!(report.drains[0].left, 4 * SECOND, "step {step}: {report}");
    }
}

/// Once: it went on until the deadline of the service's last destination.
#[test]
fn a_drain_ends_at_its_deadline_though_its_service_goes_later() {
    for allowed in [Allowed::all(), Allowed::all() - Allowed::REMOVE_DESTINATIONS] {
        let may_remove = allowed.contains(Allowed::REMOVE_DESTINATIONS);
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
        for last in [1, 2] {
            kernel.set_connections(web().key, key(last), 1, 0, 0);
        }
        let mut syncer = Syncer::new(drained(60).allowed(allowed));
        syncer.want(if may_remove { web_with(&[backend(2)]) } else { Ruleset::new() });
        assert_eq!(client.pass(&mut syncer).draining, if may_remove { 1 } else { 2 });
        kernel.advance(50 * SECOND);
        if !may_remove {
            client.add_destination(web().key, &backend(3)).unwrap();
            kernel.set_connections(web().key, key(3), 1, 0, 0);
            syncer.resync();
        }
        syncer.want(Ruleset::new());
        assert_eq!(client.pass(&mut syncer).draining, if may_remove { 2 } else { 3 });
        kernel.advance(11 * SECOND);
        let report = client.pass(&mut syncer);
        if may_remove {
            assert_eq!((report.draining, report.cut_off), (1, 1), "{report}");
            assert_eq!(truth(&kernel), drained_web(&[2]));
        } else {
            // Without permission to remove destinations, they go with their service.
            assert_eq!((report.draining, report.cut_off), (3, 0), "{report}");
        }
        kernel.advance(50 * SECOND);
        let report = client.pass(&mut syncer);
        assert_eq!(report.cut_off, if may_remove { 1 } else { 3 }, "{report}");
        assert_eq!(truth(&kernel), Ruleset::new());
    }
}

/// The service with these destinations, at weight 0.
fn drained_web(destinations: &[u8]) -> Ruleset {
    let destinations: Vec<_> = destinations.iter().map(|last| backend(*last).weight(0)).collect();
    web_with(&destinations)
}

/// Once: the report still told weight 0 of it.
#[test]
fn a_destination_that_may_stay_is_told_with_the_weight_that_it_gets_back() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2).weight(3)]));
    kernel.set_connections(web().key, key(2), 1, 0, 0);
    let mut syncer = Syncer::new(drained(60));
    syncer.want(web_with(&[backend(1)]));
    assert_eq!(client.pass(&mut syncer).draining, 1);
    let removes = Allowed::REMOVE_DESTINATIONS;
    let mut next = Syncer::new(drained(60).allowed(Allowed::all() - removes));
    next = next.resume(&syncer.drains());
    next.want(web_with(&[backend(1)]));
    let report = client.pass(&mut next);
    assert_eq!(truth(&kernel), web_with(&[backend(1), backend(2).weight(3)]), "{report}");
    let left: Vec<_> = report.left.iter().map(|left| left.what).collect();
    assert_eq!(left, [Difference::UnwantedDestination(backend(2).weight(3))], "{report}");
}

/// Once: the deadline ran from a lowering of unknown outcome that was never made.
#[test]
fn a_drain_of_unknown_beginning_begins_when_its_weight_is_0() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(2), 50, 0, 0);
    let plan = client.plan(&web_with(&[backend(1)]), &drained(10)).unwrap();
    kernel.inject(1, Fault::Refuse(12));
    kernel.inject(2, Fault::Delay(11 * SECOND));
    let report = client.apply(plan).unwrap();
    assert_eq!((report.cut_off, report.is_success()), (1, true), "{report}");
    assert!(report.times.drain >= 10 * SECOND, "{report}");
    // Made after all: the deadline is that of the attempt.
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    kernel.set_connections(web().key, key(2), 50, 0, 0);
    let mut syncer = Syncer::new(drained(10).detailed(true));
    syncer.want(web_with(&[backend(1)]));
    kernel.inject(5, Fault::LoseAnswers);
    let report = client.pass(&mut syncer);
    kernel.clear_faults();
    assert_eq!((report.draining, report.drains[0].left), (1, 10 * SECOND), "{report}");
    kernel.advance(4 * SECOND);
    let report = client.pass(&mut syncer);
    assert_eq!(report.drains[0].left, 6 * SECOND, "{report}");
}

/// Once: what could not be added again was removed one by one, and the service that was wanted again
/// kept a part of its destinations.
#[test]
fn a_service_unwanted_for_a_moment_comes_back_whole() {
    let all = [backend(1), backend(2), backend(3), backend(4)];
    for allowed in [Allowed::all(), Allowed::all() - Allowed::ADD_DESTINATIONS] {
        for seconds in [0, 1, 11] {
            let (kernel, mut client) = kernel_with(&web_with(&all));
            kernel.set_connections(web().key, key(1), 1, 0, 0);
            kernel.set_connections(web().key, key(2), 1, 0, 0);
            let mut syncer = Syncer::new(drained(10).allowed(allowed));
            syncer.want(web_with(&[backend(2), backend(3), backend(4)]));
            assert!(client.pass(&mut syncer).is_success());
            kernel.advance(5 * SECOND);
            syncer.drop_service(web().key);
            for _ in 0..=seconds {
                assert!(client.pass(&mut syncer).is_success());
                kernel.advance(SECOND / 2);
            }
            syncer.want(web_with(&[backend(2), backend(3), backend(4)]));
            let report = client.pass(&mut syncer);
            let there = truth(&kernel);
            for last in 2..=4 {
                let rules = there.service(web().key).unwrap();
                let weight = rules.destination(key(last)).map(|it| it.weight);
                assert_eq!(weight, Some(1), "{allowed:?}, {seconds}: {report}\n{there}");
            }
        }
    }
}

/// Once: it was in no report, and was tried at each count.
#[test]
fn a_refused_removal_of_a_going_service_is_told() {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1), backend(2)]));
    for last in [1, 2] {
        kernel.set_connections(web().key, key(last), 1, 0, 0);
    }
    let mut syncer = Syncer::new(drained(60));
    syncer.want(web_with(&[backend(2)]));
    let _ = client.pass(&mut syncer);
    kernel.advance(50 * SECOND);
    syncer.want(Ruleset::new());
    let _ = client.pass(&mut syncer);
    kernel.advance(11 * SECOND);
    for _ in 0..3 {
        // The service is read in four steps, and nothing else is sent before the removal.
        kernel.inject(5, Fault::Refuse(1));
        let report = client.pass(&mut syncer);
        kernel.clear_faults();
        let removal = Change::RemoveDestination(web().key, backend(1).weight(0));
        assert!(report.failed.iter().any(|failed| failed.change == removal), "{report}");
        assert_eq!(report.draining, 1, "{report}");
        kernel.advance(SECOND / 4);
    }
    let report = client.pass(&mut syncer);
    assert_eq!((report.failed.len(), report.cut_off), (1, 0), "{report}");
    kernel.advance(2 * SECOND);
    let report = client.pass(&mut syncer);
    assert_eq!((report.failed.len(), report.cut_off), (0, 1), "{report}");
    kernel.advance(60 * SECOND);
    assert!(client.pass(&mut syncer).is_success());
    assert_eq!(truth(&kernel), Ruleset::new());
}

/// Destination 1, of weight 5, drains; then others raise it to 3, and remove all other destinations.
fn raised_alone(policy: Policy) -> (Kernel, Client, Syncer) {
    let (kernel, mut client) = kernel_with(&web_with(&[backend(1).weight(5), backend(2)]));
    let mut syncer = Syncer::new(policy);
    syncer.want(truth(&kernel));
    let _ = client.pass(&mut syncer);
    kernel.set_connections(web().key, key(1), 1, 0, 0);
    syncer.drop_destination(web().key, key(1));
    assert_eq!(client.pass(&mut syncer).draining, 1);
    let mut other = Client::connect_with(kernel.observer()).unwrap();
    other.update_destination(web().key, &backend(1).weight(3)).unwrap();
    other.remove_destination(web().key, key(2)).unwrap();
    for raised in [1, 0] {
        kernel.advance(2 * SECOND);
        syncer.resync();
        let report = client.pass(&mut syncer);
        assert_eq!((report.raised, report.draining), (raised, 0), "{report}");
        assert!(report.left.iter().any(|left| left.why == Reason::HeldBack), "{report}");
    }
    (kernel, client, syncer)
}

/// Once: it was removed in the pass in which another destination was there, with the connections that
/// it had got meanwhile: the deadline of its first drain had passed.
#[test]
fn what_others_raise_while_it_is_held_back_drains_anew() {
    let policy = drained(60).allowed(Allowed::all() - Allowed::ADD_DESTINATIONS);
    let (kernel, mut client, mut syncer) = raised_alone(policy);
    kernel.advance(300 * SECOND);
    let mut other = Client::connect_with(kernel.observer()).unwrap();
    other.add_destination(web().key, &backend(2)).unwrap();
    syncer.resync();
    let report = client.pass(&mut syncer);
    assert_eq!((report.cut_off, report.draining), (0, 1), "{report}");
    kernel.advance(60 * SECOND);
    assert_eq!(client.pass(&mut syncer).cut_off, 1);
}

/// Once: a health checker's 0 was overruled by the weight that the destination had had before a drain
/// that others undid, by a policy that does not set weights.
#[test]
fn a_weight_of_0_after_others_have_raised_it_is_theirs() {
    let others = Allowed::WEIGHTS | Allowed::ADD_DESTINATIONS;
    let (kernel, mut client, mut syncer) =
        raised_alone(drained(600).allowed(Allowed::all() - others));
    let mut other = Client::connect_with(kernel.observer()).unwrap();
    other.update_destination(web().key, &backend(1).weight(0)).unwrap();
    syncer.resync();
    syncer.want_destination(web().key, backend(1).weight(5)).unwrap();
    let report = client.pass(&mut syncer);
    assert!(report.left.iter().any(|left| left.why == Reason::UnknownOrigin), "{report}");
    let there = truth(&kernel);
    assert_eq!(there.service(web().key).unwrap().destination(key(1)).unwrap().weight, 0);
}

/// Once: an apply counted the connections of the other destination for ever.
#[test]
fn a_service_whose_drain_is_refused_is_not_waited_for() {
    for but in [Allowed::empty(), Allowed::ADD_DESTINATIONS, Allowed::REMOVE_DESTINATIONS] {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1).weight(0), backend(2)]));
        let policy = drained(5).allowed(Allowed::all() - but);
        let plan = client.plan(&Ruleset::new(), &policy).unwrap();
        kernel.inject(1, Fault::Refuse(1));
        let start = kernel.now();
        let wait = |_: SyncEvent<'_>| {
            let is_too_long = kernel.now() - start > 3600 * SECOND;
            if is_too_long { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let report = report_of(client.apply_with(plan, wait));
        assert!(!report.called_off && !report.is_success(), "{but:?}: {report}");
        let removal = |failed: &FailedChange| matches!(failed.change, Change::RemoveService(_));
        assert!(report.failed.iter().any(removal), "{but:?}: {report}");
    }
}

/// Once: it was told as raised, which would drain anew later.
#[test]
fn a_destination_that_may_not_be_removed_drains_no_more_whoever_raises_it() {
    for raises in [false, true] {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
        kernel.set_connections(web().key, key(1), 3, 0, 0);
        let allowed = Allowed::all() - Allowed::REMOVE_DESTINATIONS;
        let mut syncer = Syncer::new(drained(60).allowed(allowed));
        syncer.want(Ruleset::new());
        assert_eq!(client.pass(&mut syncer).draining, 1);
        syncer.want_service(web()).unwrap();
        if raises {
            client.update_destination(web().key, &backend(1)).unwrap();
        }
        kernel.advance(2 * SECOND);
        syncer.resync();
        let report = client.pass(&mut syncer);
        assert_eq!((report.wanted_again, report.raised), (1, 0), "{raises}: {report}");
    }
}

/// Once: the drain began anew, for the whole time, if others raised the weight at that moment.
#[test]
fn a_refused_removal_of_a_service_keeps_the_deadlines_of_its_drains() {
    for (step, raises) in (2..12).flat_map(|step| [(step, false), (step, true)]) {
        let (kernel, mut client) = kernel_with(&web_with(&[backend(1)]));
        kernel.set_connections(web().key, key(1), 3, 0, 0);
        let allowed = Allowed::all() - Allowed::ADD_DESTINATIONS;
        let mut syncer = Syncer::new(drained(60).allowed(allowed).detailed(true));
        syncer.want(Ruleset::new());
        assert_eq!(client.pass(&mut syncer).draining, 1);
        kernel.advance(61 * SECOND);
        kernel.inject(step, Fault::Refuse(1));
        if raises {
            let raise = |kernel: &Kernel| {
                let mut other = Client::connect_with(kernel.observer()).unwrap();
                let _ = other.update_destination(web().key, &backend(1));
            };
            kernel.inject(step + 1, Fault::meanwhile(raise));
        }
        let report = client.pass(&mut syncer);
        kernel.clear_faults();
        kernel.advance(report.next.unwrap_or_default());
        let next = client.pass(&mut syncer);
        assert_eq!((report.raised, next.raised), (0, 0), "{step} {raises}: {report}; {next}");
        assert!(next.drains.iter().all(|it| it.left.is_zero()), "{step} {raises}: {next}");
    }
}
