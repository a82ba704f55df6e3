//! No request fails although the controller is killed at any moment and started again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ipvs_netlink::{DestinationEntry, Ruleset, Scheduler, ServiceKey, Table};
use proptest::prelude::*;

use super::controller::{Controller, Tally, Wanted};
use super::network::{DIRECTOR, Site};
use super::stream::{Habit, Stream, stop};
use super::{CLIENTS, Lane, PATIENCE, wait_until};
use crate::case::{Outcome, cases};
use crate::client::Client;
use crate::random::samples;
use crate::rival::Rival;
use crate::subject::{Subject, soak};

cases![no_request_fails_though_the_controller_is_killed];

/// The least number of times that other rules are wanted on a site, and of controllers that are
/// killed in a pass. A soak builds one site after the other.
const TURNS: usize = 8;
const KILLED_IN_A_PASS: usize = 2;
/// The least number of turns that each stream makes meanwhile.
const REQUESTS: usize = 10;
/// The most turns that this may take, however slow the machine is.
const MOST_TURNS: usize = 100;

/// Each lane has one of these, which it keeps.
const SCHEDULERS: [Scheduler; 4] = [
    Scheduler::RoundRobin,
    Scheduler::WeightedLeastConnection,
    Scheduler::SOURCE_HASH,
    Scheduler::MAGLEV_HASH,
];

async fn no_request_fails_though_the_controller_is_killed(subject: &mut Subject) -> Outcome {
    let end = Instant::now() + soak();
    let mut schedulers = SCHEDULERS;
    let mut turns = samples(turn(), usize::MAX);
    loop {
        round(subject, &schedulers, &mut turns).await?;
        // On the next site each method and family has another scheduler.
        schedulers.rotate_left(1);
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

/// The rules that are wanted next, and the moment at which the controller is killed after that.
#[derive(Debug, Clone)]
struct Turn {
    /// The weights of each lane's servers: of the first one, which stays; of the one whose turn it
    /// is; and of the one whose turn it was, which is removed if it has none.
    weights: [(u32, u32, Option<u32>); 4],
    killed: Moment,
}

#[derive(Debug, Clone, Copy)]
enum Moment {
    /// This long after it begins to change the table.
    InPass(Duration),
    /// This long after the rules were written, at whatever step the controller is.
    After(Duration),
    /// Not at all: the table is as wanted, and nothing drains, before other rules are wanted.
    Never,
}

fn turn() -> impl Strategy<Value = Turn> {
    let lane = || (1..3_u32, 1..3_u32, proptest::option::weighted(0.25, 1..3_u32));
    let killed = prop_oneof![
        3 => (0..8_000_u64).prop_map(|us| Moment::InPass(Duration::from_micros(us))),
        2 => (0..600_u64).prop_map(|ms| Moment::After(Duration::from_millis(ms))),
        1 => Just(Moment::Never),
    ];
    ([lane(), lane(), lane(), lane()], killed)
        .prop_map(|(weights, killed)| Turn { weights, killed })
}

impl Turn {
    fn wanted(&self, index: usize, schedulers: &[Scheduler; 4]) -> anyhow::Result<Ruleset> {
        let (comes, goes) = if index.is_multiple_of(2) { (2, 3) } else { (3, 2) };
        let mut wanted = Ruleset::new();
        for ((lane, scheduler), weights) in Lane::ALL.into_iter().zip(schedulers).zip(self.weights)
        {
            let service = lane.service(*scheduler);
            wanted.insert_service(service)?;
            for (server, weight) in
                [(1, Some(weights.0)), (comes, Some(weights.1)), (goes, weights.2)]
            {
                if let Some(weight) = weight {
                    let destination = lane.destination(server).weight(weight);
                    wanted.insert_destination(service.key, destination)?;
                }
            }
        }
        Ok(wanted)
    }
}

/// The commands of the rival on services of its own, at other ports of our addresses; and the
/// services that it adds before and leaves alone.
fn rivalry() -> (Vec<String>, Vec<String>) {
    let (mut lines, mut left) = (Vec::new(), Vec::new());
    for lane in Lane::ALL {
        let service =
            |port: u16| format!("-t {}", SocketAddr::from((lane.virtual_address(), port)));
        for port in 81..84 {
            let service = service(port);
            lines.extend(["rr", "wrr", "sh"].map(|name| format!("-A {service} -s {name}")));
            lines.push(format!("-E {service} -s wlc"));
            lines.push(format!("-D {service}"));
            for server in [1, 2] {
                let server = lane.destination(server).key;
                lines.extend(
                    [1, 3].map(|weight| format!("-a {service} -r {server} -g -w {weight}")),
                );
                lines.push(format!("-e {service} -r {server} -g -w 0"));
                lines.push(format!("-d {service} -r {server}"));
            }
        }
        left.push(format!("-A {} -s rr", service(90)));
    }
    (lines, left)
}

async fn round(
    subject: &Subject,
    schedulers: &[Scheduler; 4],
    turns: &mut impl Iterator<Item = Turn>,
) -> Outcome {
    let site = Site::build()?;
    let mut director = site.director(subject.flavour).await?;
    let (lines, left) = rivalry();
    DIRECTOR.run(|| crate::oracle::restore(&left.join("\n")))?;
    let left = director.ruleset().await?;

    let file = Wanted::new();
    let wanted = turns.next().context("a turn")?.wanted(0, schedulers)?;
    file.write(&wanted)?;
    let controller = Controller::start(&file)?;
    settle(&mut director, &wanted).await?;
    let streams = start();
    let rival = Rival::start(lines, || DIRECTOR.enter());
    // However slow the machine is.
    let has_met =
        || rival.runs() > 0 && streams.iter().all(|s| s.done() >= REQUESTS || s.has_failed());
    let killed = kill(&mut director, controller, &file, schedulers, turns, has_met).await;
    let (requests, runs) = (stop(streams), rival.stop());
    let (requests, runs, killed) = match (requests, runs, killed) {
        (Ok(requests), Ok(runs), Ok(killed)) => (requests, runs, killed),
        (requests, runs, killed) => {
            let errors = [requests.err(), runs.err(), killed.err()];
            let errors: Vec<_> = errors.iter().flatten().map(|e| format!("{e:#}")).collect();
            bail!("services by {schedulers:?}: {}", errors.join("\n"));
        }
    };
    ensure!(killed.failures.is_empty(), "services by {schedulers:?}: {killed:#?}");
    wait_until("all connections have ended", || {
        Ok(site.servers.iter().all(|server| server.open() == 0))
    })?;
    assert!(site.servers.iter().all(|server| server.broken() == 0));
    let after = director.ruleset().await?;
    for rules in left.services() {
        assert_eq!(after.service(rules.key()), Some(rules), "it is another's");
    }

    println!("{requests} requests, none failed; {runs} runs of ipvsadm; {killed:?}");
    assert!(site.servers.iter().all(|server| server.accepted() > 0));
    Ok(())
}

/// Streams in every lane: one that tries all places of a scheduler's table, with many clients, and
/// others that keep the servers busy, so that draining them takes time.
fn start() -> Vec<Stream> {
    let start = |lane| {
        let held = [14..=15, 16..=17, 18..=CLIENTS];
        let held = held.map(|clients| Stream::start(lane, clients, Habit::HELD));
        [Stream::start(lane, 1..=13, Habit::SHORT)].into_iter().chain(held)
    };
    Lane::ALL.into_iter().flat_map(start).collect()
}

/// Kills controllers and starts others, while other rules are wanted again and again. In the end
/// the table is as wanted; returns the counts of the controllers. This ends once all has happened
/// that the test is about, and `has_met` says that requests and rival have seen enough of it.
async fn kill(
    director: &mut Client,
    mut controller: Controller,
    file: &Wanted,
    schedulers: &[Scheduler; 4],
    turns: &mut impl Iterator<Item = Turn>,
    has_met: impl Fn() -> bool,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for (index, turn) in (1..).zip(turns.take(MOST_TURNS)) {
        let wanted = turn.wanted(index, schedulers)?;
        controller.catch_up()?;
        file.write(&wanted)?;
        let has_seen_all = tally.changed > TURNS && tally.drained > 0 && has_met();
        if index > TURNS && tally.in_a_pass >= KILLED_IN_A_PASS && has_seen_all {
            settle(director, &wanted).await?;
            tally.add(controller.kill()?);
            return Ok(tally);
        }
        match turn.killed {
            Moment::Never => {
                settle(director, &wanted).await?;
                continue;
            }
            Moment::InPass(time) => {
                controller.wait_for_pass()?;
                std::thread::sleep(time);
            }
            Moment::After(time) => std::thread::sleep(time),
        }
        tally.add(controller.kill()?);
        controller = Controller::start(file)?;
    }
    bail!("{tally:?}: what the test is about has not happened")
}

/// Waits until the controller's services are as wanted.
async fn settle(director: &mut Client, wanted: &Ruleset) -> Outcome {
    let start = Instant::now();
    loop {
        let actual = director.ruleset().await?;
        let mut ours = wanted.services().map(|rules| (rules.key(), rules));
        if ours.all(|(key, rules)| actual.service(key) == Some(rules)) {
            return Ok(());
        }
        if start.elapsed() >= PATIENCE {
            let counts = connections(&director.table().await?);
            bail!("wanted was\n{wanted}and in the end there is\n{actual}{counts}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A line for each destination, with its connections.
fn connections(table: &Table) -> String {
    let line = |service: ServiceKey, entry: &DestinationEntry| {
        let (active, inactive) = (entry.active_connections, entry.inactive_connections);
        format!("{service} {}: {active} active, {inactive} inactive\n", entry.destination.key)
    };
    let services = table.services.iter();
    services
        .flat_map(|s| s.destinations.iter().map(move |d| line(s.entry.service.key, d)))
        .collect()
}
