//! The state that survives when a pass is dropped at any await, by a timeout or a shutdown for
//! example.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;
use smol::block_on;

use super::support::Pausing;
use super::support::rules::{rules_of, service};
use super::{SECOND, drained, kernel_with, truth};

/// The rules with which each of the dropped passes begins.
fn before() -> Ruleset {
    rules_of([(80, 3), (443, 2)])
}

/// The first destination of port 80.
fn first() -> DestinationKey {
    before().service(service(80).key).unwrap().destinations().next().unwrap().key
}

fn without_the_first() -> Ruleset {
    let mut rules = before();
    rules.remove_destination(service(80).key, first());
    rules
}

/// A client that waits at every await.
fn client_to(kernel: &Kernel) -> Client {
    block_on(Client::connect_with(Pausing::new(kernel.link()))).unwrap()
}

/// A syncer whose table is as wanted.
fn at_rest(client: &Client, policy: Policy) -> Syncer {
    let mut syncer = Syncer::new(policy);
    syncer.want(before());
    assert!(block_on(client.pass(&mut syncer)).is_success());
    syncer
}

/// Runs a test with a pass that is dropped at each await in turn, until a pass ends by itself.
fn at_each_await(mut with: impl FnMut(usize) -> bool) {
    let awaits = (1..1000).find(|awaits| with(*awaits)).unwrap();
    assert!(awaits > 2, "the pass was never dropped");
}

/// Drops a pass at this await; returns whether the pass has ended before.
fn drop_pass(client: &Client, syncer: &mut Syncer, awaits: usize) -> bool {
    let mut pass = pin!(client.pass(syncer));
    let mut context = Context::from_waker(Waker::noop());
    (0..awaits).any(|_| pass.as_mut().poll(&mut context).is_ready())
}

/// Once: the drains of a dropped pass had a deadline in 1970, and the next controller cut off their
/// connections at once.
#[test]
fn drains_keep_their_deadline() {
    at_each_await(|awaits| {
        let (kernel, _) = kernel_with(&before());
        kernel.set_connections(service(80).key, first(), 5, 0, 0);
        let client = client_to(&kernel);
        let mut syncer = at_rest(&client, drained(600));
        syncer.want(without_the_first());
        let has_ended = drop_pass(&client, &mut syncer, awaits);

        let mut next = Syncer::new(drained(600)).resume(&syncer.drains());
        next.want(without_the_first());
        let report = block_on(client.pass(&mut next));
        assert_eq!((report.draining, report.cut_off), (1, 0), "await {awaits}: {report}");
        has_ended
    });
}

/// Once: after a first pass that was dropped when it had read the table, neither drift nor a module
/// that was loaded anew was ever seen, and every later pass was a success.
#[test]
fn the_table_is_read_again() {
    let lose: [fn(&Client, &Kernel); 2] = [
        |client, _| block_on(client.flush()).unwrap(),
        |client, kernel| {
            kernel.reload(0x40);
            block_on(client.info()).unwrap();
        },
    ];
    for (index, lose) in lose.into_iter().enumerate() {
        at_each_await(|awaits| {
            let (kernel, _) = kernel_with(&before());
            let client = client_to(&kernel);
            let mut syncer = Syncer::new(Policy::new()).max_age(60 * SECOND);
            syncer.want(without_the_first());
            let has_ended = drop_pass(&client, &mut syncer, awaits);
            if index == 0 {
                assert!(block_on(client.pass(&mut syncer)).is_success());
            }
            lose(&client, &kernel);
            kernel.advance(60 * SECOND);
            let report = block_on(client.pass(&mut syncer));
            assert!(report.is_success(), "await {awaits}: {report}");
            assert_eq!(truth(&kernel), without_the_first(), "await {awaits}: {report}");
            has_ended
        });
    }
}

/// Once: a pass that was dropped before it sent anything used up the confirmation.
#[test]
fn a_confirmation_is_kept_until_it_is_made() {
    at_each_await(|awaits| {
        let (kernel, _) = kernel_with(&before());
        let client = client_to(&kernel);
        let mut syncer = at_rest(&client, Policy::new().at_most(0.1));
        syncer.want(rules_of([(80, 3)]));
        assert!(block_on(client.pass(&mut syncer)).excess.is_some());
        syncer.confirm();
        let has_ended = drop_pass(&client, &mut syncer, awaits);
        let report = block_on(client.pass(&mut syncer));
        assert!(report.is_success(), "await {awaits}: {report}");
        assert_eq!(truth(&kernel), rules_of([(80, 3)]), "await {awaits}");
        // The next losses are guarded again.
        syncer.want(Ruleset::new());
        assert!(block_on(client.pass(&mut syncer)).excess.is_some(), "await {awaits}");
        has_ended
    });
}

/// Once: changes that a dropped pass had made were reported as not sent, and no pass counted them.
#[test]
fn a_change_of_unknown_outcome_is_not_said_to_be_unsent() {
    let mut sent = 0;
    at_each_await(|awaits| {
        let (kernel, _) = kernel_with(&before());
        let client = client_to(&kernel);
        let mut syncer = at_rest(&client, Policy::new());
        syncer.want(without_the_first());
        let has_ended = drop_pass(&client, &mut syncer, awaits);
        let is_made = truth(&kernel) == without_the_first();
        kernel.inject(1, Fault::Refuse(12));
        let report = block_on(client.pass(&mut syncer));
        kernel.clear_faults();
        if is_made && !has_ended {
            sent += 1;
            let error = &report.failed[0].error;
            assert!(error.is_outcome_unknown() && !error.is_not_sent(), "await {awaits}: {error}");
        }
        kernel.advance(2 * SECOND);
        let next = block_on(client.pass(&mut syncer));
        let changed = report.changed + next.changed;
        assert!(next.is_success(), "await {awaits}: {report}; {next}");
        assert_eq!(changed, usize::from(!has_ended), "await {awaits}: {report}; {next}");
        has_ended
    });
    assert!(sent > 0, "none was dropped after its send");
}
