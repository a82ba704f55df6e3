//! Every fault at every step leads to the right result or to an error that tells the truth, never
//! to a hang, a panic or a false success; and the client works for the next call.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)] // Other tests use all of this module.
mod support;

use std::time::Duration;

use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::{Error, Operation, Ruleset, blocking};
use support::rules::{kernel_with, operations, rules_of, service, truth};
use support::{Client, KINDS};

const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;

/// A delay longer than any client waits.
const LONG: Duration = Duration::from_secs(300);

/// Makes the fault anew for each step.
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
    // The datagram ends behind the second destination.
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

/// Whether a client sees nothing of the fault, since it retries and skips foreign answers.
fn is_harmless(fault: &Fault) -> bool {
    match fault {
        Fault::Fail(errno) => *errno == EINTR,
        Fault::Delay(delay) => *delay < LONG,
        Fault::Stale | Fault::Foreign | Fault::Split | Fault::Reorder => true,
        _ => false,
    }
}

/// Two services, one of them with more destinations than a part of a listing has room for.
fn rules() -> Ruleset {
    rules_of([(80, 250), (443, 2)])
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

/// A conversation that a fault could strike.
struct Struck {
    kernel: Kernel,
    fault: Fault,
    step: u64,
    /// What happened, for the messages of assertions.
    story: String,
}

/// Runs a conversation with every fault at each of its steps, with both clients, up to the first
/// step that the conversation does not reach. The table is `held` before. After the result is
/// checked, the client goes on without the fault, and must end with `wanted`.
fn at_every_step<T>(
    held: &Ruleset,
    wanted: &Ruleset,
    converse: impl Fn(&mut Client) -> T,
    check: impl Fn(&Struck, T),
) {
    let faults = KINDS.into_iter().flat_map(|kind| FAULTS.iter().map(move |make| (kind, make)));
    for (kind, make) in faults {
        for step in 1.. {
            let kernel = kernel_with(held);
            let mut client = Client::connect_to(&kernel, kind);
            let story = format!("{kind:?}: {:?} at step {step}", make());
            let before = kernel.steps();
            kernel.inject(step, make());
            let outcome = converse(&mut client);
            let taken = kernel.steps() - before;
            let struck = Struck { kernel, fault: make(), step, story };
            check(&struck, outcome);

            let Struck { kernel, story, .. } = struck;
            kernel.clear_faults();
            kernel.advance(LONG);
            let report = client.sync(wanted).unwrap();
            assert!(report.is_success(), "{story}, then {report}");
            assert_eq!(client.ruleset().as_ref().ok(), Some(wanted), "{story}, then again");
            if step > taken {
                break;
            }
        }
    }
}

/// Asserts that the table has the service or destination after a success, and lacks it after an
/// error.
fn assert_told(
    struck: &Struck,
    operations: &[Operation],
    results: impl IntoIterator<Item = Result<(), Error>, IntoIter: ExactSizeIterator>,
) {
    let Struck { kernel, fault, story, .. } = struck;
    let truth = truth(kernel);
    let results = results.into_iter();
    assert_eq!(operations.len(), results.len(), "{story}");
    for (operation, result) in operations.iter().zip(results) {
        let held = holds(&truth, operation);
        match result {
            Ok(()) => assert!(held, "{story}: {operation} was to have been done"),
            Err(error) => {
                assert!(!is_harmless(fault), "{story}: {operation}: {error}");
                assert!(
                    error.is_outcome_unknown() || !held,
                    "{story}: {operation} was done: {error}"
                );
            }
        }
    }
}

#[test]
fn a_listing_is_right_or_fails() {
    let rules = rules();
    at_every_step(&rules, &rules, Client::ruleset, |struck, listed| {
        let Struck { fault, step, story, .. } = struck;
        match &listed {
            Ok(listed) => assert_eq!(listed, &rules, "{story}"),
            Err(error) => assert!(!is_harmless(fault), "{story}: {error}"),
        }
        if matches!(fault, Fault::Interrupted | Fault::FailListing(_)) && *step <= 3 {
            assert!(listed.is_err(), "{story}: a broken listing was taken for whole");
        }
    });
}

#[test]
fn what_is_said_of_operations_one_by_one_is_so() {
    let rules = rules_of([(80, 2), (443, 2)]);
    let operations = operations(&rules);
    let one_by_one =
        |client: &mut Client| operations.iter().map(|o| client.run(o)).collect::<Vec<_>>();
    at_every_step(&Ruleset::new(), &rules, one_by_one, |struck, results| {
        assert_told(struck, &operations, results);
    });
}

#[test]
fn what_a_batch_says_is_so() {
    let rules = rules_of([(80, 250), (443, 248)]);
    let operations = operations(&rules);
    assert_eq!(operations.len(), 500);
    let batch = |client: &mut Client| client.batch(&operations).unwrap();
    at_every_step(&Ruleset::new(), &rules, batch, |struck, results| {
        assert_told(struck, &operations, results);
    });
}

/// A sync reads, writes in batches and reads back, and repeats failed changes.
#[test]
fn what_a_restore_says_is_so() {
    let rules = rules();
    at_every_step(
        &Ruleset::new(),
        &rules,
        |client| client.sync(&rules),
        |struck, outcome| {
            let Struck { kernel, fault, story, .. } = struck;
            let truth = truth(kernel);
            match outcome {
                Ok(report) => assert_eq!(truth, rules, "{story}: {report}"),
                Err(incomplete) => {
                    assert!(!is_harmless(fault), "{story}: {incomplete}");
                    let report = incomplete.report();
                    let is_told = report.changed > 0 || !report.failed.is_empty();
                    assert!(is_told || truth.is_empty(), "{story}: not read, but changed");
                    for failed in &report.failed {
                        let operation = failed.change.operation().unwrap();
                        let held = holds(&truth, &operation);
                        let unknown = failed.error.is_outcome_unknown();
                        assert!(unknown || !held, "{story}: {operation} was done: {report}");
                    }
                }
            }
        },
    );
}

/// Another controller removes a destination in the middle of a listing. The client sees the table
/// before the removal, after it or in between, but never a broken one.
#[test]
fn a_table_that_changes_meanwhile_is_still_listed() {
    let rules = rules();
    for step in 1..=12 {
        let kernel = kernel_with(&rules);
        let mut client = kernel.connect().unwrap();
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
