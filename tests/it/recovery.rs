//! Clients recover from a stale family or socket, and the system's buffers are large enough.

use std::time::Duration;

use anyhow::Context as _;
use ipvs_netlink::{Error, Operation, Options};

use crate::case::{Outcome, cases};
use crate::client::Client;
use crate::diagnose::without_module;
use crate::rules::{backend, web};
use crate::subject::Subject;

cases![
    a_reloaded_module_is_found_again,
    a_batch_survives_a_reloaded_module,
    small_buffers_lose_nothing,
];

/// Unloads IPVS, and loads it again: the family comes back with another number.
pub(crate) fn reload() -> anyhow::Result<()> {
    without_module("ip_vs", || Ok(()))
}

async fn a_reloaded_module_is_found_again(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.flush().await?;
    reload()?;
    subject.client.add_service(&web()).await?;
    reload_with_rules(subject).await?;
    assert!(subject.client.services().await?.is_empty());
    Ok(())
}

/// The module cannot be unloaded while services use its schedulers.
async fn reload_with_rules(subject: &mut Subject) -> Outcome {
    subject.client.flush().await?;
    reload()
}

async fn a_batch_survives_a_reloaded_module(subject: &mut Subject) -> Outcome {
    reload()?;
    let mut operations = vec![Operation::AddService(web())];
    operations.extend((0..500).map(|n| Operation::AddDestination(web().key, backend(n))));
    // This operation fails for good, with the same error number as a lost family.
    operations.push(Operation::RemoveDestination(web().key, backend(1000).key));
    let results = subject.client.batch(operations).await?;
    let (last, others) = results.split_last().context("no results")?;
    assert!(last.as_ref().is_err_and(Error::is_destination_not_found));
    assert!(others.iter().all(Result::is_ok));
    assert_eq!(subject.client.destinations(web().key).await?.len(), 500);
    Ok(())
}

/// The windows of a batch fit the buffers of the system.
async fn small_buffers_lose_nothing(subject: &mut Subject) -> Outcome {
    let options = Options::new().receive_buffer(4096);
    subject.client = Client::connect(subject.flavour, &options).await?;
    let missing = Operation::RemoveService(web().key);
    for result in subject.client.batch(vec![missing; 500]).await? {
        assert!(result.unwrap_err().is_service_not_found());
    }

    let options = Options::new()
        .receive_buffer(1 << 20)
        .send_buffer(8192)
        .window(100_000)
        .timeout(Duration::MAX);
    subject.client = Client::connect(subject.flavour, &options).await?;
    subject.client.add_service(&web()).await?;
    let operations = (0..2000).map(|n| match n % 2 {
        0 => Operation::AddDestination(web().key, backend(n)),
        _ => Operation::RemoveDestination(web().key, backend(n).key),
    });
    let results = subject.client.batch(operations.collect()).await?;
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(()) => assert!(n.is_multiple_of(2)),
            Err(error) => assert!(error.is_destination_not_found() && !n.is_multiple_of(2)),
        }
    }
    assert_eq!(subject.client.destinations(web().key).await?.len(), 1000);
    Ok(())
}
