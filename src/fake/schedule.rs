//! Scheduling a connection, for the schedulers whose rule can be stated exactly.

use super::table::{Destination, DestinationId, Service};

/// Where a scheduler that takes turns has got to.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The destination chosen last; `None` is before the first.
    last: Option<DestinationId>,
    /// `wrr`: the weight that a destination needs in this round; `None` is the highest there is.
    level: Option<u32>,
}

impl Turn {
    /// The destination at `index` is about to go: its turn passes to the one listed before it.
    pub(super) fn before_removal(&mut self, destinations: &[Destination], index: usize) {
        if self.last == Some(destinations[index].id) {
            self.last = destinations.get(index + 1).map(|newer| newer.id);
        }
    }

    /// Destinations were added, edited or removed: `wrr` starts again at the first.
    pub(super) fn changed(&mut self, destinations: &[Destination]) {
        let Some(level) = self.level else { return };
        let (step, top) = steps(destinations);
        self.last = None;
        self.level = Some(match level {
            level if level == 0 || level > top => top,
            level if step > 1 => level / step * step + 1,
            level => level,
        });
    }
}

/// Why no destination was chosen.
pub(super) enum Refused {
    /// No destination takes connections.
    NoDestination,
    /// The scheduler is not modelled.
    NotModelled,
}

/// The index of the destination that the service's scheduler gives the next connection.
pub(super) fn choose(service: &mut Service) -> Result<usize, Refused> {
    let Service { destinations, turn, scheduler, .. } = service;
    let chosen = match scheduler.as_deref() {
        Some("rr") => round_robin(destinations, turn),
        Some("wrr") => weighted_round_robin(destinations, turn),
        Some("lc") => least(destinations, |d| (load(d), 1)),
        Some("wlc") => least(destinations, |d| (load(d), d.settings.weight)),
        Some("sed") => least(destinations, delay),
        Some("nq") => in_order(destinations)
            .find(|(_, d)| takes_connections(d) && d.active == 0)
            .map(|(index, _)| index)
            .or_else(|| least(destinations, delay)),
        // Of equal ones the first wins, as with `least`: the highest weight is the least of 1/w.
        Some("fo") => least(destinations, |d| (1, d.settings.weight)),
        _ => return Err(Refused::NotModelled),
    };
    chosen.ok_or(Refused::NoDestination)
}

fn takes_connections(destination: &Destination) -> bool {
    !destination.overloaded && destination.settings.weight > 0
}

/// Active connections weigh 256 times as much as inactive ones.
fn load(destination: &Destination) -> u64 {
    u64::from(destination.active) * 256 + u64::from(destination.inactive)
}

fn delay(destination: &Destination) -> (u64, u32) {
    (u64::from(destination.active) + 1, destination.settings.weight)
}

/// The kernel's order, newest first.
fn in_order(destinations: &[Destination]) -> impl Iterator<Item = (usize, &Destination)> {
    destinations.iter().enumerate().rev()
}

/// The first of the destinations with the least cost for its weight.
fn least(
    destinations: &[Destination],
    cost_and_weight: impl Fn(&Destination) -> (u64, u32),
) -> Option<usize> {
    let mut least: Option<(usize, u64, u32)> = None;
    for (index, destination) in in_order(destinations).filter(|(_, d)| takes_connections(d)) {
        let (cost, weight) = cost_and_weight(destination);
        let is_less = least.is_none_or(|(_, least_cost, least_weight)| {
            u128::from(cost) * u128::from(least_weight)
                < u128::from(least_cost) * u128::from(weight)
        });
        if is_less {
            least = Some((index, cost, weight));
        }
    }
    least.map(|(index, ..)| index)
}

/// How many of the destinations, in the kernel's order, have had their turn.
fn done(destinations: &[Destination], turn: &Turn) -> usize {
    let last = turn.last.and_then(|id| destinations.iter().position(|d| d.id == id));
    last.map_or(0, |index| destinations.len() - index)
}

fn round_robin(destinations: &[Destination], turn: &mut Turn) -> Option<usize> {
    let done = done(destinations, turn);
    let (index, chosen) = in_order(destinations)
        .skip(done)
        .chain(in_order(destinations).take(done))
        .find(|(_, d)| takes_connections(d))?;
    turn.last = Some(chosen.id);
    Some(index)
}

/// The greatest common divisor of the weights, and the level at which a round begins.
fn steps(destinations: &[Destination]) -> (u32, u32) {
    let weights = || destinations.iter().map(|d| d.settings.weight).filter(|&weight| weight > 0);
    let step = weights().fold(0, greatest_common_divisor).max(1);
    (step, weights().max().map_or(0, |top| top - (step - 1)))
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// A round of all destinations for each level of weight, from the highest down in equal steps.
fn weighted_round_robin(destinations: &[Destination], turn: &mut Turn) -> Option<usize> {
    let (step, top) = steps(destinations);
    let highest =
        destinations.iter().filter(|d| takes_connections(d)).map(|d| d.settings.weight).max()?;
    let mut level = turn.level.unwrap_or(top);
    let mut done = done(destinations, turn);
    loop {
        let found = in_order(destinations)
            .skip(done)
            .find(|(_, d)| takes_connections(d) && d.settings.weight >= level);
        if let Some((index, chosen)) = found {
            (turn.last, turn.level) = (Some(chosen.id), Some(level));
            return Some(index);
        }
        // Levels that nobody reaches are passed over at once.
        let steps = level.saturating_sub(highest).div_ceil(step).max(1);
        level = level.checked_sub(step.saturating_mul(steps)).filter(|&l| l > 0).unwrap_or(top);
        done = 0;
    }
}
