//! Planned changes on their way: first what adds, everywhere, then what takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Reconciler;
use crate::model::ServiceKey;
use crate::ruleset::Change;
use crate::ruleset::past::Failure;

/// The changes of one planning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) changes: Vec<Change>,
    /// From where on changes take something away.
    pub(super) losses: usize,
    pub(super) gains_are_sent: bool,
    /// The services that are planned anew: nothing more of them is made from here.
    pub(super) skipped: BTreeSet<ServiceKey>,
}

/// The part of the queues that was handed out to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Flight {
    Gains,
    Losses,
}

impl Queue {
    /// The changes of a flight.
    pub(super) fn part(&self, flight: Flight) -> impl Iterator<Item = &Change> {
        let changes = match flight {
            Flight::Gains if self.gains_are_sent => &[],
            Flight::Gains => &self.changes[..self.losses],
            Flight::Losses => &self.changes[self.losses..],
        };
        changes.iter().filter(|change| {
            !change.is_so_already()
                && (self.skipped.is_empty() || !self.skipped.contains(&change.service()))
        })
    }

    /// What was never handed out.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &Change> {
        self.part(Flight::Gains).chain(self.part(Flight::Losses))
    }
}

impl Reconciler {
    /// The changes that are to be made now, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        let flight = self.flight;
        let queues = if flight.is_some() { &self.queues[..] } else { &[] };
        queues.iter().flat_map(move |queue| queue.part(flight.unwrap_or(Flight::Losses)))
    }

    /// The next part of the queues that has anything in it.
    pub(super) fn next_flight(&mut self) -> Option<Flight> {
        let has = |flight| {
            self.queues.iter().any(|queue| queue.part(flight).next().is_some()).then_some(flight)
        };
        has(Flight::Gains).or_else(|| has(Flight::Losses))
    }

    /// Hands out a flight. A drain begins when its destination is lowered, and not when that is
    /// planned: what should take its place may yet be refused.
    pub(super) fn take_off(&mut self, flight: Flight, now: Duration) {
        self.flight = Some(flight);
        if flight == Flight::Losses {
            let queues = std::mem::take(&mut self.queues);
            self.begin_drains(queues.iter().flat_map(|queue| queue.part(flight)), now);
            self.queues = queues;
        }
    }

    pub(super) fn enqueue(&mut self, changes: Vec<Change>, losses: usize, now: Duration) {
        if changes.is_empty() {
            return;
        }
        // Those of weight 0 have nothing to wait for.
        self.begin_drains(changes.iter().filter(|change| change.is_so_already()), now);
        let (changes, losses) = self.with_late_schedulers(changes, losses);
        let (gains_are_sent, skipped) = (false, BTreeSet::new());
        self.queues.push(Queue { changes, losses, gains_are_sent, skipped });
    }

    /// Gives up what is not made yet, for this reason, and says so of all of it.
    pub(crate) fn abandon(&mut self, failure: Failure, now: Duration) {
        self.land_flight();
        // What seemed to differ is taken for it.
        for (key, seen) in std::mem::take(&mut self.looked_once) {
            self.known.replace(key, seen);
            self.doubtful.remove(&key);
            self.dirty.insert(key);
        }
        if !self.unread && !self.dirty.is_empty() {
            self.plan(now);
        }
        let mut failed = BTreeMap::<_, BTreeMap<_, _>>::new();
        for queue in &self.queues {
            let sent = if queue.gains_are_sent { queue.losses } else { 0 };
            for change in queue.changes[sent..].iter().filter(|change| !change.is_so_already()) {
                let key = change.service();
                if !queue.skipped.contains(&key) || self.doubtful.contains(&key) {
                    let of_service = failed.entry(key).or_default();
                    of_service.insert(change.destination(), (*change, failure));
                }
            }
        }
        for key in &self.doubtful {
            let Some(trouble) = self.troubles.get(key) else { continue };
            let of_service = failed.entry(*key).or_default();
            let refused = trouble.refusals.iter();
            of_service.extend(refused.map(|(of, it)| (*of, (it.change, it.failure))));
            of_service.extend(trouble.last.iter().map(|(of, last)| (*of, *last)));
        }
        for (key, mut failed) in failed {
            let known = self.failed.remove(&key).unwrap_or_default();
            failed.extend(known.into_iter().map(|it| (it.0.destination(), it)));
            let changes: Vec<_> = failed.values().map(|(change, _)| *change).collect();
            self.suspend_drains(key, &changes);
            if !failed.is_empty() {
                self.failed.insert(key, failed.into_values().collect());
            }
        }
    }
}
