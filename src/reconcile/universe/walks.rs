//! Random walks through universes that are too large to be explored: every set of changes that a
//! policy allows, any number of disturbances.

use std::time::Duration;

use super::coverage::Coverage;
use super::explore::{STEPS, story};
use super::fake::Random;
use super::random::runs;
use super::table::{DESTINATIONS, Kernel, SERVICES, Table};
use super::tables;
use super::world::{Budget, Mode, Move, SCHEDULER, Setting, World};
use crate::model::Scheduler;
use crate::ruleset::{Allowed, Draining, Policy};

/// The length of a walk, before nobody interferes any more.
const LENGTH: usize = 40;
/// The largest budget; a walk has not that many disturbances.
const ALL: Budget = {
    let all = u8::MAX;
    Budget { all, moves: all, faults: all, restarts: all, rereads: all, retries: all }
};

#[test]
fn long_walks_keep_to_the_rules() {
    let tables = tables(SERVICES, DESTINATIONS, 2);
    let runs = runs();
    for seed in 0..runs {
        if let Err(fault) = walk(seed, &tables) {
            panic!("seed {seed}: {fault}");
        }
    }
    println!("{runs} walks");
}

fn walk(seed: u64, tables: &[Table]) -> Result<(), String> {
    let mut random = Random(seed);
    let schedulers =
        [SCHEDULER, Scheduler::SOURCE_HASH, Scheduler::MAGLEV_HASH, Scheduler::DestinationHash];
    let scheduler = schedulers[random.below(schedulers.len())];
    let table = |random: &mut Random| tables[random.below(tables.len())].scheduled_by(scheduler);
    let draining = match random.below(3) {
        0 => Draining::at_once(),
        _ => Draining::within(Duration::from_secs(2)),
    };
    let bits = u8::try_from(random.below(128)).unwrap();
    let bits = if random.below(2) == 0 { Allowed::all().bits() & !(1 << (bits % 8)) } else { bits };
    let policy = Policy::new().allowed(Allowed::from_bits_truncate(bits)).draining(draining);
    let policy = match random.below(3) {
        0 => policy.at_most(0.5),
        _ => policy,
    };
    let setting = Setting {
        mode: if random.below(4) == 0 { Mode::Apply } else { Mode::Passes },
        policy: policy.detailed(true),
        services: SERVICES,
        destinations: DESTINATIONS,
        heaviest: 2,
        wishes: (0..3).map(|_| table(&mut random)).collect(),
    };
    let kernel = Kernel { table: table(&mut random), ..Kernel::default() };
    let start = World::new(kernel, table(&mut random), ALL, &setting);
    let mut moves = Vec::new();
    take(start.clone(), &setting, &mut random, &mut moves)
        .map_err(|fault| format!("{fault}\n{}", story(&setting, &start, &moves)))
}

fn take(
    mut world: World,
    setting: &Setting,
    random: &mut Random,
    moves: &mut Vec<Move>,
) -> Result<(), String> {
    let mut coverage = Coverage::default();
    for _ in 0..LENGTH {
        let mut found = Vec::new();
        world.successors(setting, &mut coverage, &mut found)?;
        let is_course = |(it, _): &(Move, World)| matches!(it, Move::Next | Move::Pass);
        let (course, disturbed): (Vec<_>, Vec<_>) = found.into_iter().partition(is_course);
        let from = if course.is_empty() || random.below(3) == 0 { disturbed } else { course };
        let number = random.below(from.len().max(1));
        let Some((last, next)) = from.into_iter().nth(number) else { break };
        moves.push(last);
        world = next;
    }
    world.budget = Budget::default();
    for _ in 0..STEPS {
        match world.next(setting, &mut coverage)? {
            Some(next) => world = next,
            None => return Ok(()),
        }
    }
    Err("the reconciler does not come to an end".into())
}
