//! The properties of asynchronous clients alone, on real sockets: they share the executor, their
//! futures may be dropped, and any thread may poll them.

use std::future::{Future as _, poll_fn};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use futures_util::future::join;
use ipvs_netlink::{Client, Draining, Operation, Options, Policy, Ruleset};
use ipvs_netlink::{Stage, SyncEvent};
use tokio::runtime::{Builder, Runtime};

use crate::case::{Outcome, cases};
use crate::rules::{backend, web};
use crate::subject::Subject;
use crate::sync::{Served, served};

cases![
    a_batch_lets_others_have_their_turn_at_each_window,
    a_future_dropped_at_any_await_disturbs_nothing_after_it,
    a_long_listing_works_outside_of_the_runtime,
    a_drain_works_outside_of_the_runtime,
    a_client_goes_on_after_the_end_of_its_runtime,
    a_drain_holds_no_other_clone_and_can_be_called_off,
];

/// A client on each runtime.
async fn clients(options: &Options) -> anyhow::Result<[Client; 2]> {
    Ok([options.connect_tokio().await?, options.connect_smol().await?])
}

/// The kernel answers inside the send, so nothing else would make a batch wait before its end.
async fn a_batch_lets_others_have_their_turn_at_each_window(_: &mut Subject) -> Outcome {
    const WINDOWS: usize = 20;
    for client in clients(&Options::new().window(10)).await? {
        let mut batch = pin!(client.batch(vec![Operation::Zero; 10 * WINDOWS]));
        let mut turns = 0;
        let results = poll_fn(|context| {
            let polled = batch.as_mut().poll(context);
            turns += usize::from(polled.is_pending());
            polled
        })
        .await?;
        assert!(results.iter().all(Result::is_ok));
        assert!(turns >= WINDOWS - 1, "{turns}");
    }
    Ok(())
}

async fn a_future_dropped_at_any_await_disturbs_nothing_after_it(subject: &mut Subject) -> Outcome {
    let mut wanted = Ruleset::new();
    wanted.insert_service(web())?;
    for n in 0..150 {
        wanted.insert_destination(web().key, backend(n))?;
    }
    let policy = Policy::new();
    for client in clients(&Options::new().window(20)).await? {
        for awaits in 1.. {
            subject.client.flush().await?;
            let finished = {
                let mut sync = pin!(client.sync(&wanted, &policy));
                let mut context = Context::from_waker(Waker::noop());
                (0..awaits).any(|_| sync.as_mut().poll(&mut context).is_ready())
            };
            let truth = subject.client.ruleset().await?;
            assert_eq!(client.ruleset().await?, truth, "dropped at await {awaits}");
            assert!(client.sync(&wanted, &policy).await?.is_success(), "dropped at await {awaits}");
            assert_eq!(subject.client.ruleset().await?, wanted, "dropped at await {awaits}");
            if finished {
                // The sync has several windows and listings between which it can be dropped.
                assert!(awaits > 8, "{awaits}");
                break;
            }
        }
    }
    Ok(())
}

/// Runs on a thread that belongs to no runtime.
fn outside(run: impl FnOnce() -> Outcome + Send) -> Outcome {
    thread::scope(|scope| scope.spawn(run).join()).map_err(|_| anyhow!("it panicked"))?
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// Once: opening the socket anew after a long listing panicked for want of a runtime.
async fn a_long_listing_works_outside_of_the_runtime(subject: &mut Subject) -> Outcome {
    let mut wanted = Ruleset::new();
    wanted.insert_service(web())?;
    for n in 0..5000 {
        wanted.insert_destination(web().key, backend(n))?;
    }
    ensure!(subject.client.sync(&wanted, &Policy::new()).await?.is_success());
    outside(|| {
        let runtime = runtime()?;
        let client = runtime.block_on(Client::connect_tokio())?;
        for _ in 0..3 {
            ensure!(smol::block_on(client.ruleset())? == wanted);
        }
        Ok(())
    })
}

/// Once: a drain panicked for want of a runtime's timers, and left the weight at 0.
async fn a_drain_works_outside_of_the_runtime(subject: &mut Subject) -> Outcome {
    let Served { mut wanted, service, leaving, streams: _open } = served(subject).await?;
    wanted.remove_destination(service, leaving);
    outside(|| {
        let runtime = runtime()?;
        let client = runtime.block_on(Client::connect_tokio())?;
        let policy = Policy::new().draining(Draining::within(Duration::from_secs(2)));
        let report = smol::block_on(client.sync(&wanted, &policy))?;
        ensure!(report.is_success() && report.cut_off == 1, "{report}");
        Ok(())
    })?;
    assert_eq!(subject.client.ruleset().await?, wanted);
    Ok(())
}

/// Once: the first call in another runtime failed, though nothing had been sent.
async fn a_client_goes_on_after_the_end_of_its_runtime(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    outside(|| {
        let first = runtime()?;
        let client = first.block_on(Client::connect_tokio())?;
        for _ in 0..2 {
            runtime()?.block_on(async {
                client.add_destination(web().key, &backend(1)).await?;
                client.remove_destination(web().key, backend(1).key).await
            })?;
        }
        drop(first);
        let second = runtime()?;
        second.block_on(client.add_destination(web().key, &backend(1)))?;
        ensure!(second.block_on(client.destinations(web().key))?.len() == 1);
        drop(second);
        let error = smol::block_on(client.flush()).err().context("no runtime is left")?;
        ensure!(error.is_not_sent() && error.to_string().contains("has ended"), "{error}");
        runtime()?.block_on(client.flush())?;
        Ok(())
    })?;
    ensure!(subject.client.ruleset().await?.is_empty());
    Ok(())
}

/// Once: every operation of a clone waited for the end of the drain, and the drain could not be
/// ended earlier.
async fn a_drain_holds_no_other_clone_and_can_be_called_off(subject: &mut Subject) -> Outcome {
    let Served { mut wanted, service, leaving, streams: _open } = served(subject).await?;
    let before = wanted.clone();
    wanted.remove_destination(service, leaving);
    let draining = Draining::within(Duration::from_secs(20)).interval(Duration::from_secs(20));
    let policy = Policy::new().draining(draining);
    for client in clients(&Options::new()).await? {
        let plan = client.plan(&wanted, &policy).await?;
        let (drains, answered) = (AtomicBool::new(false), AtomicBool::new(false));
        let apply = client.apply_with(plan, |event| {
            let SyncEvent::Progress(progress) = event else { return ControlFlow::Continue(()) };
            if progress.stage == Stage::Draining {
                drains.store(true, Ordering::Relaxed);
            }
            if answered.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let clone = client.clone();
        let ask = async {
            while !drains.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            let info = clone.info().await;
            answered.store(true, Ordering::Relaxed);
            info
        };
        let (outcome, info) = join(apply, ask).await;
        info?;
        let incomplete = outcome.err().context("it drained to its end")?;
        let report = incomplete.report();
        ensure!(report.called_off && report.draining == 1, "{incomplete}");
        let weight = client.destination(service, leaving).await?.destination.weight;
        ensure!(weight == 0, "a weight of {weight}");
        ensure!(client.sync(&before, &Policy::new()).await?.changed == 1);
    }
    Ok(())
}
