//! Each scheduler spreads requests as its documentation says.

use std::collections::BTreeMap;

use ipvs_netlink::{HashOptions, Policy, Ruleset, Scheduler};

use super::network::{CLIENT, Site};
use super::stream::Connection;
use super::{CLIENTS, Lane, SERVERS, wait_until};
use crate::case::{Outcome, cases};
use crate::client::Client;
use crate::subject::Subject;

cases![requests_are_spread_as_the_scheduler_says];

/// Schedulers that count connections come first, since the kernel goes on counting ended
/// connections.
async fn requests_are_spread_as_the_scheduler_says(subject: &mut Subject) -> Outcome {
    let site = Site::build()?;
    let mut director = site.director(subject.flavour).await?;
    for lane in Lane::ALL {
        least_connection(&site, &mut director, lane).await?;
        in_turn(&site, &mut director, lane).await?;
        by_source(&mut director, lane).await?;
    }
    for number in SERVERS {
        assert_eq!(site.server(number).broken(), 0);
    }
    Ok(())
}

/// Gives the lane's service this scheduler, and its servers these weights.
async fn schedule(
    director: &mut Client,
    lane: Lane,
    scheduler: Scheduler,
    weights: [u32; 3],
) -> Outcome {
    let mut rules = Ruleset::new();
    let service = lane.service(scheduler);
    rules.insert_service(service)?;
    for (server, weight) in SERVERS.into_iter().zip(weights) {
        rules.insert_destination(service.key, lane.destination(server).weight(weight))?;
    }
    let report = director.sync(&rules, &Policy::new()).await?;
    anyhow::ensure!(report.is_success(), "{report}");
    Ok(())
}

/// Makes requests from one client, and counts the answers by server.
fn answers(lane: Lane, client: u8, requests: usize) -> anyhow::Result<BTreeMap<u8, usize>> {
    CLIENT.run(|| {
        let mut answers = BTreeMap::new();
        for _ in 0..requests {
            *answers.entry(Connection::open(lane, client)?.server).or_default() += 1;
        }
        Ok(answers)
    })
}

async fn in_turn(site: &Site, director: &mut Client, lane: Lane) -> Outcome {
    let accepted = || SERVERS.map(|server| site.server(server).accepted());
    for (scheduler, weights, expected) in [
        (Scheduler::RoundRobin, [1, 1, 1], [12, 12, 12]),
        (Scheduler::RoundRobin, [1, 0, 1], [18, 0, 18]),
        (Scheduler::WeightedRoundRobin, [3, 2, 1], [18, 12, 6]),
        (Scheduler::WeightedRoundRobin, [1, 0, 5], [6, 0, 30]),
    ] {
        schedule(director, lane, scheduler, weights).await?;
        let before = accepted();
        let answers = answers(lane, 1, 36)?;
        let answered = SERVERS.map(|server| answers.get(&server).copied().unwrap_or(0));
        assert_eq!(answered, expected, "{scheduler} with weights {weights:?}, {lane}");
        // The servers have counted the same.
        let after = accepted();
        assert_eq!([0, 1, 2].map(|n| after[n] - before[n]), expected);
    }
    Ok(())
}

/// Each client has one server, and all clients together have more than one.
async fn by_source(director: &mut Client, lane: Lane) -> Outcome {
    schedule(director, lane, Scheduler::SOURCE_HASH, [1, 1, 1]).await?;
    let mut servers = BTreeMap::new();
    for client in 1..=CLIENTS {
        let answers = answers(lane, client, 3)?;
        assert_eq!(answers.len(), 1, "client {client} of {lane}: {answers:?}");
        servers.extend(answers);
    }
    assert_eq!(servers.len(), SERVERS.len(), "{lane}: {servers:?}");
    // If the port is hashed as well, one client has many servers.
    let with_port = Scheduler::SourceHash(HashOptions::default().port(true));
    schedule(director, lane, with_port, [1, 1, 1]).await?;
    assert!(answers(lane, 1, 40)?.len() > 1);
    Ok(())
}

async fn least_connection(site: &Site, director: &mut Client, lane: Lane) -> Outcome {
    schedule(director, lane, Scheduler::LeastConnection, [1, 1, 1]).await?;
    let open = |count: usize| {
        CLIENT.run(|| (0..count).map(|_| Connection::open(lane, 1)).collect::<Result<Vec<_>, _>>())
    };
    let count = |held: &[Connection]| {
        SERVERS.map(|server| held.iter().filter(|c| c.server == server).count())
    };
    let mut held = open(6)?;
    assert_eq!(count(&held), [2, 2, 2], "{lane}");
    held.retain(|connection| connection.server != 2);
    // The director has seen the close once the server has.
    wait_until("server 2 is idle", || Ok(site.server(2).open() == 0))?;
    let key = lane.service(Scheduler::LeastConnection).key;
    let idle = director.destination(key, lane.destination(2).key).await?;
    assert_eq!((idle.active_connections, idle.inactive_connections), (0, 2), "{lane}");
    held.extend(open(2)?);
    assert_eq!(count(&held), [2, 2, 2], "the least loaded is next, {lane}");
    drop(held);
    wait_until("all connections have ended", || {
        Ok(site.servers.iter().all(|server| server.open() == 0))
    })
}
