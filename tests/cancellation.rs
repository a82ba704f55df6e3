//! Futures are dropped at any await, and the next call works.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)] // Other tests use all of this module.
mod support;

use std::future::Future;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::*;
use support::Pausing;
use support::rules::{kernel_with, service};

type Conversation<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn backend(last: u8) -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 80)
}

/// Rules enough for listings of several parts.
fn rules() -> Ruleset {
    let mut rules = Ruleset::new();
    for port in 1..=3 {
        rules.insert_service(service(port)).unwrap();
        for last in 0..100 {
            rules.insert_destination(service(port).key, backend(last)).unwrap();
        }
    }
    rules
}

/// A conversation of a client whose outcome does not matter.
fn conversation<'a>(future: impl Future<Output: 'a> + Send + 'a) -> Conversation<'a> {
    Box::pin(async move { drop(future.await) })
}

/// The names of a client's operations, in the order of their definition.
fn names() -> Vec<&'static str> {
    let lines = include_str!("../src/operations.rs").lines();
    lines.filter_map(|line| line.trim().strip_prefix("fn ")?.split('(').next()).collect()
}

/// Every operation of a client, in the order of their definition.
fn operations(client: &Client) -> Vec<(&'static str, Conversation<'_>)> {
    let key = service(1).key;
    let daemon = SyncDaemon::new(DaemonRole::Master, "lo".parse().unwrap());
    let hour = TimeoutsUpdate::default().udp(Duration::from_secs(3600));
    let many = (0..300).map(move |n| match n % 3 {
        0 => Operation::RemoveDestination(key, backend(99).key),
        1 => Operation::AddDestination(key, backend(99)),
        _ => Operation::UpdateDestination(key, backend(99).weight(n)),
    });
    let wanted = Ruleset::new();
    let policy = Policy::new().draining(Draining::within(Duration::from_secs(2)));
    let plan = || Plan::new(&rules(), &wanted, &policy);
    vec![
        ("info", conversation(client.info())),
        ("services", conversation(client.services())),
        ("service", conversation(client.service(key))),
        ("destinations", conversation(client.destinations(key))),
        ("destination", conversation(client.destination(key, backend(5).key))),
        ("table", conversation(client.table())),
        ("ruleset", conversation(client.ruleset())),
        ("add_service", conversation(async { client.add_service(&service(9)).await })),
        ("update_service", conversation(async { client.update_service(&service(1)).await })),
        ("modify_service", conversation(client.modify_service(key, |s| s.one_packet = true))),
        ("remove_service", conversation(client.remove_service(service(3).key))),
        (
            "add_destination",
            conversation(async { client.add_destination(service(1).key, &backend(200)).await }),
        ),
        (
            "update_destination",
            conversation(async {
                client.update_destination(service(1).key, &backend(1).weight(7)).await
            }),
        ),
        (
            "modify_destination",
            conversation(client.modify_destination(key, backend(2).key, |d| d.weight = 9)),
        ),
        ("remove_destination", conversation(client.remove_destination(key, backend(3).key))),
        ("batch", conversation(client.batch(many.clone()))),
        ("batch_each", conversation(client.batch_each(many, BatchOptions::default(), |_, _| ()))),
        ("zero", conversation(client.zero())),
        ("zero_service", conversation(client.zero_service(key))),
        (
            "plan",
            conversation(async {
                let (wanted, policy) = (Ruleset::new(), Policy::new());
                client.plan(&wanted, &policy).await
            }),
        ),
        ("flush", conversation(client.flush())),
        ("timeouts", conversation(client.timeouts())),
        ("set_timeouts", conversation(client.set_timeouts(hour))),
        ("daemons", conversation(client.daemons())),
        ("start_daemon", conversation(async move { client.start_daemon(&daemon).await })),
        ("stop_daemon", conversation(client.stop_daemon(DaemonRole::Master))),
        ("apply", conversation(client.apply(plan()))),
        ("apply_with", conversation(client.apply_with(plan(), |_| ControlFlow::Continue(())))),
        ("sync", conversation(async move { client.sync(&wanted, &policy).await })),
        (
            "pass",
            conversation(async {
                let mut syncer = Syncer::new(Policy::new());
                syncer.want(rules());
                client.pass(&mut syncer).await
            }),
        ),
    ]
}

fn poll(future: &mut Conversation<'_>) -> bool {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_future_dropped_at_any_await_disturbs_nothing_after_it() {
    for (index, name) in names().into_iter().enumerate() {
        for awaits in 0.. {
            let kernel = kernel_with(&rules());
            // Something for draining to wait for.
            kernel.set_connections(service(1).key, backend(1).key, 1, 0, 0);
            let client = smol::block_on(Client::connect_with(Pausing::new(kernel.link()))).unwrap();
            let (_, mut future) = operations(&client).swap_remove(index);
            let finished = (0..=awaits).any(|_| poll(&mut future));
            drop(future);

            let mut observer = blocking::Client::connect_with(kernel.observer()).unwrap();
            let truth = observer.table().unwrap();
            let story = format!("{name}, dropped at await {awaits}");
            let before = kernel.now();
            if awaits % 2 == 1 {
                // Once: this question took the end of a listing that was dropped, and the next
                // listing waited for that end.
                smol::block_on(client.info()).unwrap();
            }
            let table = smol::block_on(client.table()).unwrap_or_else(|e| panic!("{story}: {e}"));
            assert_eq!(table, truth, "{story}");
            // Once: where a listing was dropped before it was sent, the client waited for its end
            // until the deadline.
            assert_eq!(kernel.now(), before, "{story}: it waited for what never comes");
            let added = smol::block_on(client.add_service(&service(77)));
            assert!(added.is_ok(), "{story}: {added:?}");
            if finished {
                break;
            }
        }
    }
}

/// Once: the errors of dropped batches stayed in the receive buffer, and the outcome of a later
/// batch was unknown.
#[test]
fn the_answers_to_batches_that_were_dropped_take_no_room() {
    let missing = || vec![Operation::RemoveService(service(80).key); 64];
    let (kernel, mut sent) = (Kernel::new(), 0);
    let client = smol::block_on(Client::connect_with(Pausing::new(kernel.link()))).unwrap();
    for dropped in 1..12 {
        for _ in 0..dropped {
            let before = kernel.steps();
            let mut batch = conversation(client.batch(missing()));
            while kernel.steps() == before {
                assert!(!poll(&mut batch));
            }
            sent += 1;
        }
        for result in &smol::block_on(client.batch(missing())).unwrap() {
            let error = result.as_ref().unwrap_err();
            assert!(error.is_service_not_found(), "after {sent} that were dropped: {error}");
        }
    }
}

/// Once: the kernel had dropped answers to a batch, and the next question failed for that, though
/// its own answer had arrived.
#[test]
fn answers_that_were_lost_before_are_no_error_of_the_next() {
    let kernel = Kernel::new();
    let client = smol::block_on(Client::connect_with(Pausing::new(kernel.link()))).unwrap();
    kernel.inject(1, Fault::LoseAnswers);
    let before = kernel.steps();
    let mut batch = conversation(client.batch([Operation::Zero]));
    while kernel.steps() == before {
        assert!(!poll(&mut batch));
    }
    drop(batch);
    smol::block_on(client.info()).unwrap();
}

/// A future that waits for its turn can be dropped as well, and then no other waits for it.
#[test]
fn clones_take_turns_and_a_dropped_one_gives_up_its_own() {
    let kernel = Kernel::new();
    let client = smol::block_on(Client::connect_with(Pausing::new(kernel.link()))).unwrap();
    let (other, third) = (client.clone(), client.clone());
    let mut first = conversation(async { client.add_service(&service(1)).await });
    let mut second = conversation(async { other.add_service(&service(2)).await });
    let mut last = conversation(async { third.add_service(&service(3)).await });
    assert!(!poll(&mut first) && !poll(&mut second) && !poll(&mut last));
    drop(second);
    smol::block_on(async {
        first.await;
        last.await;
    });
    let services = smol::block_on(client.ruleset()).unwrap();
    let keys: Vec<_> = services.services().map(ipvs_netlink::ServiceRules::key).collect();
    assert_eq!(keys, [service(1).key, service(3).key]);
}

/// The futures that connect on tokio and on smol are `Send`, and so is the client itself.
/// `Conversation` requires the same of the operations.
#[test]
fn futures_are_send() {
    fn send(_: impl Send) {}
    fn shared(_: impl Send + Sync + Clone + 'static) {}
    let kernel = Kernel::new();
    let client = smol::block_on(kernel.connect_async()).unwrap();
    let listed: Vec<_> = operations(&client).into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, names());
    send(operations(&client));
    let options = Options::new();
    send((Client::connect_tokio(), options.connect_tokio()));
    send((Client::connect_smol(), options.connect_smol()));
    shared(client);
}
