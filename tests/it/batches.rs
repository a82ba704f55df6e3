//! Batches: many operations in one send, a result for each.

use std::collections::BTreeMap;

use ipvs_netlink::{BatchOptions, Destination, Operation, Options, Ruleset, Service, ServiceKey};

use crate::case::{Outcome, cases};
use crate::client::Client;
use crate::rules::{backend, real, vip, web};
use crate::subject::{Subject, soak};

cases![
    a_batch_does_all_of_it,
    an_empty_batch_does_nothing,
    bad_operations_fail_alone,
    every_seventh_of_11000_fails,
    all_of_5000_fail_and_none_is_lost,
    a_small_window_gives_the_same_results,
    stopping_says_what_was_done,
    results_come_while_it_works,
    two_clients_mix_nothing_up,
];

/// `count` operations that add destinations to a service.
fn additions(count: u16) -> impl Iterator<Item = Operation> {
    (0..count).map(|n| Operation::AddDestination(web().key, Destination::masquerade(real(n), 80)))
}

async fn a_batch_does_all_of_it(subject: &mut Subject) -> Outcome {
    let mut operations = vec![Operation::AddService(web())];
    operations.extend(additions(1000));
    let results = subject.client.batch(operations).await?;
    assert_eq!(results.len(), 1001);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(subject.client.destinations(web().key).await?.len(), 1000);
    Ok(())
}

async fn an_empty_batch_does_nothing(subject: &mut Subject) -> Outcome {
    assert!(subject.client.batch(Vec::new()).await?.is_empty());
    Ok(())
}

async fn bad_operations_fail_alone(subject: &mut Subject) -> Outcome {
    let missing = ServiceKey::tcp(vip(), 81);
    let results = subject
        .client
        .batch(vec![
            Operation::AddDestination(missing, backend(1)),
            Operation::AddService(web()),
            Operation::AddService(web()),
            Operation::AddDestination(web().key, backend(1).weight(u32::MAX)),
            Operation::AddDestination(web().key, backend(1)),
            Operation::RemoveDestination(web().key, backend(2).key),
        ])
        .await?;
    assert!(results[0].as_ref().unwrap_err().is_service_not_found());
    assert!(results[1].is_ok());
    assert!(results[2].as_ref().unwrap_err().is_already_exists());
    let invalid = results[3].as_ref().unwrap_err();
    assert!(invalid.is_invalid() && invalid.is_not_sent() && !invalid.is_outcome_unknown());
    assert!(results[4].is_ok());
    let missing = results[5].as_ref().unwrap_err();
    assert!(missing.is_destination_not_found());
    assert_eq!(missing.request(), &Operation::RemoveDestination(web().key, backend(2).key).into());
    assert_eq!(subject.client.destinations(web().key).await?.len(), 1);
    Ok(())
}

async fn every_seventh_of_11000_fails(subject: &mut Subject) -> Outcome {
    let mut operations = Vec::new();
    for n in 0..1000 {
        let service = Service::tcp(vip(), 1000 + n);
        operations.push(Operation::AddService(service));
        for host in 0..10 {
            operations.push(Operation::AddDestination(service.key, backend(host)));
        }
    }
    let missing = ServiceKey::tcp(vip(), 1);
    for operation in operations.iter_mut().skip(6).step_by(7) {
        *operation = Operation::RemoveService(missing);
    }
    let results = subject.client.batch(operations.clone()).await?;
    assert_eq!(results.len(), 11_000);
    let mut services = std::collections::HashSet::new();
    for (index, (operation, result)) in operations.iter().zip(&results).enumerate() {
        let expected = match operation {
            Operation::AddService(service) => services.insert(service.key),
            Operation::AddDestination(key, _) => services.contains(key),
            _ => false,
        };
        match result {
            Ok(()) => assert!(expected, "{index}: {operation}"),
            Err(error) => {
                assert!(!expected && error.is_service_not_found(), "{index}: {error}");
                assert_eq!(error.request(), &(*operation).into());
            }
        }
    }
    assert_eq!(subject.client.services().await?.len(), services.len());
    Ok(())
}

async fn all_of_5000_fail_and_none_is_lost(subject: &mut Subject) -> Outcome {
    let missing = ServiceKey::tcp(vip(), 1);
    let results = subject.client.batch(vec![Operation::RemoveService(missing); 5000]).await?;
    assert_eq!(results.len(), 5000);
    for result in results {
        assert!(result.unwrap_err().is_service_not_found());
    }
    Ok(())
}

async fn a_small_window_gives_the_same_results(subject: &mut Subject) -> Outcome {
    subject.client = subject.connect(&Options::new().window(1)).await?;
    bad_operations_fail_alone(subject).await
}

/// The operations that were sent together with the failed one are done, and their results say so.
async fn stopping_says_what_was_done(subject: &mut Subject) -> Outcome {
    let mut operations = vec![Operation::AddService(web())];
    operations.extend(additions(1000));
    operations[10] = Operation::RemoveService(ServiceKey::tcp(vip(), 1));
    let mut results = Vec::new();
    subject
        .client
        .batch_each(operations, BatchOptions::default().stop_at_first_error(true), |_, result| {
            results.push(result);
        })
        .await?;
    assert!(results.len() < 1001, "nothing more is taken");
    assert!(results[..10].iter().all(Result::is_ok));
    assert!(results[10].as_ref().unwrap_err().is_service_not_found());
    let done = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(done, results.len() - 1);
    assert_eq!(subject.client.destinations(web().key).await?.len(), done - 1);
    Ok(())
}

async fn results_come_while_it_works(subject: &mut Subject) -> Outcome {
    let given = std::sync::atomic::AtomicUsize::new(0);
    let known = std::sync::atomic::AtomicUsize::new(0);
    let order = std::sync::atomic::Ordering::Relaxed;
    let operations = std::iter::once(Operation::AddService(web())).chain(additions(2000));
    let operations = operations.inspect(|_| {
        given.fetch_add(1, order);
        // No operations but those of the present window are under way.
        assert!(given.load(order) - known.load(order) <= 256);
    });
    let count = |_: &Operation, result: Result<(), _>| {
        assert!(result.is_ok());
        known.fetch_add(1, order);
    };
    match &mut subject.client {
        Client::Blocking(client) => {
            client.batch_each(operations, BatchOptions::default(), count)?;
        }
        Client::Async(client) => {
            client.batch_each(operations, BatchOptions::default(), count).await?;
        }
    }
    assert_eq!(known.load(order), 2001);
    Ok(())
}

/// Two clients change and read services of their own in one table at the same time, and each sees
/// its services as it left them. The asynchronous client is joined by a clone, which shares its
/// socket.
async fn two_clients_mix_nothing_up(subject: &mut Subject) -> Outcome {
    let mut other = subject.connect(&Options::new()).await?;
    let one = &mut subject.client;
    if let Client::Async(client) = one {
        let mut clone = Client::Async(client.clone());
        let (one, other, clone) =
            tokio::join!(hammer(one, 1000), hammer(&mut other, 2000), hammer(&mut clone, 3000));
        return one.and(other).and(clone);
    }
    std::thread::scope(|scope| {
        let other = scope.spawn(|| smol::block_on(hammer(&mut other, 2000)));
        let one = smol::block_on(hammer(one, 1000));
        one.and(other.join().unwrap())
    })
}

/// Changes and reads services of its own, from this port on.
async fn hammer(client: &mut Client, first: u16) -> Outcome {
    let start = std::time::Instant::now();
    let mut known = Ruleset::new();
    for n in 0..10 {
        let service = Service::tcp(vip(), first + n);
        client.add_service(&service).await?;
        known.insert_service(service)?;
    }
    let mut random = u64::from(first);
    let mut rounds = 0;
    while rounds < 20 || start.elapsed() < soak() {
        rounds += 1;
        let mut operations = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..100 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bytes = random.to_be_bytes();
            let key = ServiceKey::tcp(vip(), first + u16::from(bytes[0] % 10));
            let destination = backend((bytes[1] % 20).into()).weight(bytes[2].into());
            let there = known.service(key).unwrap().destination(destination.key).is_some();
            let (operation, done) = match bytes[3] % 3 {
                0 => (Operation::AddDestination(key, destination), !there),
                1 => (Operation::UpdateDestination(key, destination), there),
                _ => (Operation::RemoveDestination(key, destination.key), there),
            };
            match operation {
                Operation::RemoveDestination(..) => {
                    known.remove_destination(key, destination.key);
                }
                _ if done => drop(known.insert_destination(key, destination)?),
                _ => {}
            }
            operations.push(operation);
            expected.push(done);
        }
        let results = client.batch(operations).await?;
        let done: Vec<_> = results.iter().map(Result::is_ok).collect();
        assert_eq!(done, expected, "in round {rounds} of {first}");
        for rules in known.services() {
            let listed = client.destinations(rules.key()).await?;
            let listed: BTreeMap<_, _> =
                listed.into_iter().map(|e| (e.destination.key, e.destination)).collect();
            let wanted = rules.destinations().map(|d| (d.key, *d)).collect();
            assert_eq!(listed, wanted, "in round {rounds} of {first}");
        }
    }
    Ok(())
}
