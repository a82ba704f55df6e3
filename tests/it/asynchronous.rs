//! What only asynchronous clients have to show, on real sockets: they share the executor, and their
//! futures may be dropped.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::{Context, Waker};

use ipvs_netlink::{Operation, Options, Policy, Ruleset};

use crate::case::{Outcome, cases};
use crate::rules::{backend, web};
use crate::subject::Subject;

cases![
    a_batch_lets_others_have_their_turn_at_each_window,
    a_future_dropped_at_any_await_disturbs_nothing_after_it,
];

/// A client on each runtime.
async fn clients(options: &Options) -> anyhow::Result<[ipvs_netlink::Client; 2]> {
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
                // It has windows and listings to be dropped between.
                assert!(awaits > 8, "{awaits}");
                break;
            }
        }
    }
    Ok(())
}
