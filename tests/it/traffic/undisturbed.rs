//! No request fails while the rules change.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::ensure;
use ipvs_netlink::{Draining, Policy, Ruleset, Scheduler};
use ipvs_netlink::{Report, Stage, SyncEvent};

use super::network::Site;
use super::stream::{Habit, Stream, stop};
use super::{Lane, wait_until};
use crate::case::{Outcome, cases};
use crate::client::Client;
use crate::subject::Subject;

cases![no_request_fails_while_rules_change];

/// The same rules in every lane: a scheduler, and servers with their weights.
fn rules(scheduler: Scheduler, servers: &[(u8, u32)]) -> anyhow::Result<Ruleset> {
    let mut rules = Ruleset::new();
    for lane in Lane::ALL {
        let service = lane.service(scheduler);
        rules.insert_service(service)?;
        for (server, weight) in servers {
            let destination = lane.destination(*server).weight(*weight);
            rules.insert_destination(service.key, destination)?;
        }
    }
    Ok(rules)
}

async fn sync(director: &mut Client, rules: &Ruleset) -> anyhow::Result<Report> {
    let report = director.sync(rules, &Policy::new()).await?;
    assert_eq!(&director.ruleset().await?, rules);
    Ok(report)
}

/// Waits until every stream has made some more requests.
fn more(streams: &[Stream]) -> Outcome {
    let before: Vec<_> = streams.iter().map(Stream::done).collect();
    wait_until("every stream has made more requests", || {
        ensure!(!streams.iter().any(Stream::has_failed), "a request failed");
        Ok(streams.iter().zip(&before).all(|(stream, before)| stream.done() >= before + 8))
    })
}

fn start(client: u8, habit: Habit) -> Vec<Stream> {
    Lane::ALL.map(|lane| Stream::start(lane, client..=client, habit)).into()
}

async fn no_request_fails_while_rules_change(subject: &mut Subject) -> Outcome {
    let site = Site::build()?;
    let mut director = site.director(subject.flavour).await?;
    let wrr = Scheduler::WeightedRoundRobin;
    let two = rules(wrr, &[(1, 1), (2, 1)])?;
    let three = rules(wrr, &[(1, 1), (2, 1), (3, 2)])?;
    let _ = sync(&mut director, &two).await?;
    let mut streams = start(1, Habit::SHORT);
    streams.extend(start(2, Habit::LONG));
    let mut changed = change(&site, &mut director, &streams, &two, &three).await;
    if changed.is_ok() {
        let is_seamless = subject.release.series() >= (6, 12);
        changed = change_schedulers(&site, &mut director, &streams, is_seamless).await;
    }
    // The first failure is reported first.
    stop(streams)?;
    changed?;

    wait_until("all connections have ended", || {
        Ok(site.servers.iter().all(|server| server.open() == 0))
    })?;
    assert!(site.servers.iter().all(|server| server.broken() == 0));
    Ok(())
}

async fn change(
    site: &Site,
    director: &mut Client,
    streams: &[Stream],
    two: &Ruleset,
    three: &Ruleset,
) -> Outcome {
    let wrr = Scheduler::WeightedRoundRobin;
    more(streams)?;
    for weights in [[5, 1], [5, 3], [1, 3], [0, 1], [1, 1]] {
        let [one, other] = weights;
        let _ = sync(director, &rules(wrr, &[(1, one), (2, other)])?).await?;
        more(streams)?;
    }

    let _ = sync(director, three).await?;
    let last = start(3, Habit::long_to(3));
    more(&last)?;
    drain(director, two, streams, last).await?;
    wait_until("the last connection has ended", || Ok(site.server(3).open() == 0))?;
    assert_eq!(site.server(3).broken(), 0, "it ended by its client");
    for _ in 0..10 {
        let report = sync(director, two).await?;
        assert_eq!((report.changed, report.rounds), (0, 0), "{report}");
    }
    more(streams)?;
    more(streams)
}

/// While Linux 6.1 changes a scheduler, the service has none for some tens of milliseconds. A
/// client that connects then is refused, and no way of writing the change avoids that. Open
/// connections go on.
async fn change_schedulers(
    site: &Site,
    director: &mut Client,
    streams: &[Stream],
    is_seamless: bool,
) -> Outcome {
    let gone = site.server(3).accepted();
    for stream in streams {
        stream.forgive_refusals(!is_seamless);
    }
    let schedulers =
        [Scheduler::RoundRobin, Scheduler::LeastConnection, Scheduler::WeightedRoundRobin];
    for scheduler in schedulers {
        let _ = sync(director, &rules(scheduler, &[(1, 1), (2, 1)])?).await?;
        more(streams)?;
    }
    for stream in streams {
        stream.forgive_refusals(false);
    }
    more(streams)?;
    assert!(gone > 0);
    assert_eq!(site.server(3).accepted(), gone, "nothing goes to a server that is gone");
    Ok(())
}

/// Drains a server in each lane, whose last connections stay for a while.
async fn drain(
    director: &mut Client,
    rules: &Ruleset,
    streams: &[Stream],
    last: Vec<Stream>,
) -> Outcome {
    let draining = Draining::within(super::PATIENCE).interval(Duration::from_millis(20));
    let plan = director.plan(rules, &Policy::new().draining(draining)).await?;
    let (mut seen, mut counts) = (Ok(()), 0);
    let report = director
        .apply_with(plan, |event| {
            let SyncEvent::Progress(progress) = event else { return ControlFlow::Continue(()) };
            let is_over = progress.done == progress.total;
            if progress.stage != Stage::Draining || counts == 3 || is_over {
                return ControlFlow::Continue(());
            }
            // The connections of the server are counted again and again until the last one ends.
            assert_eq!(progress.done, 0);
            if seen.is_ok() {
                seen = more(streams).and_then(|()| more(&last));
            }
            counts += 1;
            if counts == 3 {
                last.iter().for_each(Stream::leave);
            }
            ControlFlow::Continue(())
        })
        .await?;
    seen?;
    stop(last)?;
    ensure!(report.is_success(), "{report}");
    assert_eq!((report.drained, report.cut_off), (Lane::ALL.len(), 0), "{report}");
    assert_eq!(&director.ruleset().await?, rules);
    Ok(())
}
