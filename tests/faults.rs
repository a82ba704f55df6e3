//! Every fault at every step: the right result or an error that says so, never a hang, a panic or
//! a wrong success, and a client that works for the next call.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::transport::Transport;
use ipvs_netlink::{
    Change, Destination, Operation, Plan, Policy, Ruleset, Scheduler, Service, blocking,
};
use support::{Client, KINDS, Kind};

const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;

/// Longer than any client waits.
const LONG: Duration = Duration::from_secs(300);

/// A fault, anew for each step.
type Make = fn() -> Fault;

const FAULTS: &[Make] = &[
    || Fault::Fail(EINTR),
    || Fault::Fail(EAGAIN),
    || Fault::Fail(ENOMEM),
    || Fault::Refuse(EINVAL),
    || Fault::LoseAnswers,
    || Fault::NoBuffers,
    || Fault::Delay(Duration::from_secs(3)),
    || Fault::Delay(LONG),
    || Fault::Truncate(0),
    || Fault::Truncate(15),
    || Fault::Truncate(18),
    // Behind the second of the destinations.
    || Fault::Truncate(2 * 356),
    || Fault::Stale,
    || Fault::Foreign,
    || Fault::UnknownType,
    || Fault::FailListing(ENOMEM),
    || Fault::Interrupted,
    || Fault::Split,
    || Fault::Reorder,
    || Fault::Close,
];

/// Whether a client that retries and skips what it should sees nothing of the fault.
fn is_harmless(fault: &Fault) -> bool {
    match fault {
        Fault::Fail(errno) => *errno == EINTR,
        Fault::Delay(delay) => *delay < LONG,
        Fault::Stale | Fault::Foreign | Fault::Split | Fault::Reorder => true,
        _ => false,
    }
}

fn service(port: u16) -> Service {
    Service::tcp(Ipv4Addr::new(10, 0, 0, 1), port).scheduler(Scheduler::RoundRobin)
}

/// Two services, one of them with more destinations than a part of a listing has room for.
fn rules() -> Ruleset {
    rules_of([(80, 250), (443, 2)])
}

/// Services of these ports with so many destinations.
fn rules_of(services: [(u16, u8); 2]) -> Ruleset {
    let mut rules = Ruleset::new();
    for (port, destinations) in services {
        let service = service(port);
        rules.insert_service(service).unwrap();
        for last in 1..=destinations {
            let destination = Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), port);
            rules.insert_destination(service.key, destination).unwrap();
        }
    }
    rules
}

fn operations(rules: &Ruleset) -> Vec<Operation> {
    let plan = Plan::new(&Ruleset::new(), rules, &Policy::new());
    plan.changes().iter().filter_map(Change::operation).collect()
}

/// Adds all that is not there yet.
fn restore(client: &mut Client, rules: &Ruleset) {
    for operation in operations(rules) {
        match client.run(&operation) {
            Err(error) if error.is_already_exists() => {}
            other => other.unwrap(),
        }
    }
}

/// What the kernel holds, asked for by someone whom no fault strikes.
fn truth(kernel: &Kernel) -> Ruleset {
    blocking::Client::connect_with(kernel.observer()).unwrap().ruleset().unwrap()
}

fn holds(rules: &Ruleset, operation: &Operation) -> bool {
    match operation {
        Operation::AddService(service) => rules.service(service.key).is_some(),
        Operation::AddDestination(service, destination) => {
            rules.service(*service).is_some_and(|s| s.destination(destination.key).is_some())
        }
        other => unreachable!("{other}"),
    }
}

#[test]
fn a_listing_is_right_or_fails() {
    let rules = rules();
    let faults = KINDS.into_iter().flat_map(|kind| FAULTS.iter().map(move |make| (kind, make)));
    for (kind, make) in faults {
        let mut step = 1;
        loop {
            let kernel = Kernel::new();
            restore(&mut Client::connect_to(&kernel, Kind::Blocking), &rules);
            let mut client = Client::connect_to(&kernel, kind);
            let before = kernel.steps();
            let story = format!("{kind:?}: {:?} at step {step}", make());
            kernel.inject(step, make());
            let listed = client.ruleset();
            let taken = kernel.steps() - before;
            match &listed {
                Ok(listed) => assert_eq!(listed, &rules, "{story}"),
                Err(error) => assert!(!is_harmless(&make()), "{story}: {error}"),
            }
            if matches!(make(), Fault::Interrupted | Fault::FailListing(_)) && step <= 3 {
                assert!(listed.is_err(), "{story}: a broken listing was taken for whole");
            }
            kernel.clear_faults();
            kernel.advance(LONG);
            assert_eq!(client.ruleset().as_ref().ok(), Some(&rules), "{story}, then again");
            if step > taken {
                break;
            }
            step += 1;
        }
    }
}

#[test]
fn what_a_restore_says_is_so() {
    let rules: Ruleset = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -m\n\
        -A -u 10.0.0.1:53 -s wlc\n-a -u 10.0.0.1:53 -r 10.0.1.1:53 -m\n"
        .parse()
        .unwrap();
    let operations = operations(&rules);
    let faults = KINDS.into_iter().flat_map(|kind| FAULTS.iter().map(move |make| (kind, make)));
    for (kind, make) in faults {
        for step in 1..=20 {
            let kernel = Kernel::new();
            let mut client = Client::connect_to(&kernel, kind);
            let story = format!("{kind:?}: {:?} at step {step}", make());
            kernel.inject(step, make());
            for operation in &operations {
                let outcome = client.run(operation);
                let held = holds(&truth(&kernel), operation);
                if is_harmless(&make()) {
                    assert!(outcome.is_ok(), "{story}: {outcome:?}");
                }
                match outcome {
                    Ok(()) => assert!(held, "{story}: {operation} was to have been done"),
                    Err(error) if error.is_outcome_unknown() => {}
                    Err(error) => assert!(!held, "{story}: {operation} was done, not: {error}"),
                }
            }
            kernel.clear_faults();
            kernel.advance(LONG);
            restore(&mut client, &rules);
            assert_eq!(client.ruleset().unwrap(), rules, "{story}, then again");
        }
    }
}

/// A batch of three windows, whose second loses its answers: what the first and the third did is
/// known, and nothing of the second.
#[test]
fn lost_answers_leave_exactly_their_own_outcomes_unknown() {
    // As many as errors fit the receive buffer.
    const WINDOW: usize = 208;
    let kernel = Kernel::new();
    let mut client = blocking::Client::connect_to(&kernel).unwrap();
    let key = service(80).key;
    let add = |port| {
        let there = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), port);
        Operation::AddDestination(key, there)
    };
    let all: Vec<_> = std::iter::once(Operation::AddService(service(80)))
        .chain((1..).map(add).take(3 * WINDOW - 1))
        .collect();
    kernel.inject(3, Fault::LoseAnswers);
    let results = client.batch(all.iter().copied()).unwrap();
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(()) => assert!(!(WINDOW..2 * WINDOW).contains(&index), "{index}"),
            Err(error) => {
                assert!(error.is_outcome_unknown(), "{index}: {error}");
                assert!((WINDOW..2 * WINDOW).contains(&index), "{index}: {error}");
            }
        }
    }
    // The kernel did it all the same.
    assert_eq!(truth(&kernel).destination_count(), 3 * WINDOW - 1);
}

/// More answers than the receive buffer has room for, as in no batch of the crate's: those that
/// fit come after the word of the loss, and all requests are done.
#[test]
fn an_overflow_is_told_once_and_first() {
    let kernel = Kernel::new();
    let mut link = kernel.link();
    let family = 0x1c_u16;
    let mut datagram = Vec::new();
    for sequence in 0..300_u32 {
        datagram.extend(20_u32.to_ne_bytes());
        datagram.extend(family.to_ne_bytes());
        datagram.extend(5_u16.to_ne_bytes());
        datagram.extend(sequence.to_ne_bytes());
        datagram.extend([0, 0, 0, 0, 17, 1, 0, 0]);
    }
    link.send(&datagram).unwrap();
    let mut buffer = Vec::with_capacity(65536);
    let now = Transport::now(&link);
    let error = link.receive(&mut buffer, now).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(105));
    let mut received = 0;
    while link.receive(&mut buffer, now).is_ok() {
        received += 1;
    }
    assert_eq!(received, 237);
}

#[test]
fn what_a_batch_says_is_so() {
    let rules = rules_of([(80, 250), (443, 248)]);
    let operations = operations(&rules);
    assert_eq!(operations.len(), 500);
    let faults = KINDS.into_iter().flat_map(|kind| FAULTS.iter().map(move |make| (kind, make)));
    for (kind, make) in faults {
        // Of either client the windows are fewer, with a send and a receive each.
        for step in 1..=18 {
            let kernel = Kernel::new();
            let mut client = Client::connect_to(&kernel, kind);
            let story = format!("{kind:?}: {:?} at step {step}", make());
            kernel.inject(step, make());
            let results = client.batch(&operations).unwrap();
            let held = truth(&kernel);
            if is_harmless(&make()) {
                assert!(results.iter().all(Result::is_ok), "{story}");
            }
            for (operation, result) in operations.iter().zip(results) {
                let held = holds(&held, operation);
                match result {
                    Ok(()) => assert!(held, "{story}: {operation} was to have been done"),
                    Err(error) if error.is_outcome_unknown() => {}
                    Err(error) => assert!(!held, "{story}: {operation} was done, not: {error}"),
                }
            }
            kernel.clear_faults();
            kernel.advance(LONG);
            restore(&mut client, &rules);
            assert_eq!(client.ruleset().unwrap(), rules, "{story}, then again");
        }
    }
}

/// Another controller takes a destination away in the middle of a listing: the client sees the
/// table of before or after, or one in between, but never one that is broken.
#[test]
fn a_table_that_changes_meanwhile_is_still_listed() {
    let rules = rules();
    for step in 1..=12 {
        let kernel = Kernel::new();
        restore(&mut Client::connect_to(&kernel, Kind::Blocking), &rules);
        let mut client = blocking::Client::connect_to(&kernel).unwrap();
        kernel.inject(
            step,
            Fault::meanwhile(|kernel| {
                let mut other = blocking::Client::connect_with(kernel.observer()).unwrap();
                other.remove_service(service(443).key).unwrap();
            }),
        );
        let listed = client.table().unwrap();
        assert!(listed.services.iter().any(|s| s.destinations.len() == 250), "at step {step}");
        assert_eq!(client.services().unwrap().len(), 1, "at step {step}");
    }
}
