//! Scheduling connections: exactly as the kernel does by weights and counts, and in the right
//! shares by a hash.

use super::destination::KernelDestination;
use super::key::{DestinationId, Key};

/// The number of places in the tables of `sh` and `dh`.
const PLACES: u64 = 256;

/// Why no destination was chosen.
pub(super) enum Refused {
    /// No destination takes connections.
    NoDestination,
    /// The scheduler is not modelled.
    NotModelled,
}

/// The state of a scheduler between two connections.
#[derive(Debug, Default)]
pub(super) struct SchedulerTurn {
    /// The destination chosen last; `None` before the first connection.
    last: Option<DestinationId>,
    /// Of `wrr`: the weight that a destination needs in this round; `None` stands for the highest
    /// weight.
    level: Option<u32>,
    /// Of schedulers by hash: the number of clients so far.
    clients: u64,
}

impl SchedulerTurn {
    /// The number of the next client. A hash would spread clients over the scheduler's table; here
    /// they take its places in turn, so that a few clients show the shares that many would have.
    fn next_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients - 1
    }

    /// The index of the destination that a scheduler gives the next connection of a service. With
    /// `falls_back`, `sh` and `mh` pass over destinations that take no connections.
    pub(super) fn choose(
        &mut self,
        scheduler: Option<&str>,
        falls_back: bool,
        service: Key,
        destinations: &[KernelDestination],
    ) -> Result<usize, Refused> {
        let chosen = match scheduler {
            Some("rr") => round_robin(destinations, self),
            Some("wrr") => weighted_round_robin(destinations, self),
            Some("lc") => least(destinations, |d| (load(d), 1)),
            Some("wlc") => least(destinations, |d| (load(d), d.settings.weight)),
            Some("sed") => least(destinations, delay),
            Some("nq") => in_order(destinations)
                .find(|(_, d)| takes_connections(d) && d.active == 0)
                .map(|(index, _)| index)
                .or_else(|| least(destinations, delay)),
            // The first of the destinations with the highest weight, which is the least of 1/w.
            Some("fo") => least(destinations, |d| (1, d.settings.weight)),
            Some("sh") => {
                let place = self.next_client() % PLACES;
                by_hash(destinations, |d| d.settings.weight.max(1), place, falls_back)
            }
            Some("mh") => {
                let step = divisor(destinations, |d| d.last_weight);
                by_hash(destinations, |d| d.last_weight / step, self.next_client(), falls_back)
            }
            Some("dh") => {
                let place = address_place(service).unwrap_or_else(|| self.next_client() % PLACES);
                by_hash(destinations, |_| 1, place, false)
            }
            _ => return Err(Refused::NotModelled),
        };
        chosen.ok_or(Refused::NoDestination)
    }

    /// Before the removal of the destination at `index`: its turn passes to the destination listed
    /// before it.
    pub(super) fn before_removal(&mut self, destinations: &[KernelDestination], index: usize) {
        if self.last == Some(destinations[index].id) {
            self.last = destinations.get(index + 1).map(|newer| newer.id);
        }
    }

    /// After destinations were added, edited or removed: `wrr` starts again at the first.
    pub(super) fn changed(&mut self, destinations: &[KernelDestination]) {
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

fn takes_connections(destination: &KernelDestination) -> bool {
    !destination.overloaded && destination.settings.weight > 0
}

/// The load of a destination: an active connection counts 256 times as much as an inactive one.
fn load(destination: &KernelDestination) -> u64 {
    u64::from(destination.active) * 256 + u64::from(destination.inactive)
}

fn delay(destination: &KernelDestination) -> (u64, u32) {
    (u64::from(destination.active) + 1, destination.settings.weight)
}

/// The destinations in the kernel's order, newest first.
fn in_order(
    destinations: &[KernelDestination],
) -> impl Iterator<Item = (usize, &KernelDestination)> {
    destinations.iter().enumerate().rev()
}

/// The first destination with the least cost in proportion to its weight.
fn least(
    destinations: &[KernelDestination],
    cost_and_weight: impl Fn(&KernelDestination) -> (u64, u32),
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

/// How many destinations, in the kernel's order, have had their turn.
fn done(destinations: &[KernelDestination], turn: &SchedulerTurn) -> usize {
    let last = turn.last.and_then(|id| destinations.iter().position(|d| d.id == id));
    last.map_or(0, |index| destinations.len() - index)
}

/// The destinations in the kernel's order, the first `count` of them put last.
fn all_after(
    destinations: &[KernelDestination],
    count: usize,
) -> impl Iterator<Item = (usize, &KernelDestination)> {
    in_order(destinations).skip(count).chain(in_order(destinations).take(count))
}

fn round_robin(destinations: &[KernelDestination], turn: &mut SchedulerTurn) -> Option<usize> {
    let done = done(destinations, turn);
    let (index, chosen) = all_after(destinations, done).find(|(_, d)| takes_connections(d))?;
    turn.last = Some(chosen.id);
    Some(index)
}

/// The greatest common divisor of the destinations' weights, and the level at which a round begins.
fn steps(destinations: &[KernelDestination]) -> (u32, u32) {
    let step = divisor(destinations, |d| d.settings.weight);
    let top = destinations.iter().map(|d| d.settings.weight).max().unwrap_or(0);
    (step, top.saturating_sub(step - 1))
}

/// The greatest common divisor of the destinations' weights; 1 if all are 0.
fn divisor(destinations: &[KernelDestination], weight: impl Fn(&KernelDestination) -> u32) -> u32 {
    destinations.iter().map(weight).fold(0, greatest_common_divisor).max(1)
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Goes round all destinations once for each level of weight, from the highest down in equal steps.
fn weighted_round_robin(
    destinations: &[KernelDestination],
    turn: &mut SchedulerTurn,
) -> Option<usize> {
    let (step, top) = steps(destinations);
    let mut level = turn.level.unwrap_or(top);
    let available = destinations.iter().filter(|d| takes_connections(d));
    let Some(highest) = available.map(|d| d.settings.weight).max() else {
        // The kernel has looked at every destination without success, and goes on from where its
        // search ended.
        if top > 0 && (turn.last.is_none() || level > step) {
            (turn.last, turn.level) = (None, Some(top));
        } else if top > 0 {
            turn.level = Some((top - 1) % step + 1);
        }
        return None;
    };
    let mut done = done(destinations, turn);
    loop {
        let found = in_order(destinations)
            .skip(done)
            .find(|(_, d)| takes_connections(d) && d.settings.weight >= level);
        if let Some((index, chosen)) = found {
            (turn.last, turn.level) = (Some(chosen.id), Some(level));
            return Some(index);
        }
        // Skip all levels that no destination reaches.
        let steps = level.saturating_sub(highest).div_ceil(step).max(1);
        level = level.checked_sub(step.saturating_mul(steps)).filter(|&l| l > 0).unwrap_or(top);
        done = 0;
    }
}

/// The destination to which a place in the table of a scheduler by hash belongs. The shares of the
/// destinations follow each other, over and over. A destination keeps its share while it takes no
/// connections: then the next one that does is chosen with fallback, and none without.
fn by_hash(
    destinations: &[KernelDestination],
    share: impl Fn(&KernelDestination) -> u32,
    place: u64,
    falls_back: bool,
) -> Option<usize> {
    let sum = destinations.iter().map(|d| u64::from(share(d))).sum();
    let place = place.checked_rem(sum)?;
    let mut end = 0;
    let owner = in_order(destinations).position(|(_, destination)| {
        end += u64::from(share(destination));
        place < end
    })?;
    let tries = if falls_back { destinations.len() } else { 1 };
    all_after(destinations, owner)
        .take(tries)
        .find(|(_, d)| takes_connections(d))
        .map(|(index, _)| index)
}

/// The place of a service's address in the table of `dh`; `None` for a mark, whose packets come to
/// any address.
fn address_place(key: Key) -> Option<u64> {
    let Key::Address { address, .. } = key else { return None };
    let hash = address.iter().fold(0_u64, |hash, byte| hash * 31 % PLACES + u64::from(*byte));
    Some(hash % PLACES)
}
