//! Planned changes on their way: first what adds, everywhere, then what takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Guard, ROUNDS, Reconciler};
use crate::model::ServiceKey;
use crate::ruleset::past::{Failure, Past};
use crate::ruleset::planner::Planner;
use crate::ruleset::{Change, Excess};

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
    pub(super) fn take_off(&mut self, flight: Flight, now: std::time::Duration) {
        self.flight = Some(flight);
        if flight == Flight::Losses {
            let queues = std::mem::take(&mut self.queues);
            self.begin_drains(queues.iter().flat_map(|queue| queue.part(flight)), now);
            self.queues = queues;
        }
    }

    pub(super) fn enqueue(
        &mut self,
        changes: Vec<Change>,
        losses: usize,
        now: std::time::Duration,
    ) {
        // Those of weight 0 have nothing to wait for.
        self.begin_drains(changes.iter().filter(|change| change.is_so_already()), now);
        let (changes, losses) = self.with_late_schedulers(changes, losses);
        self.queues.push(Queue {
            changes,
            losses,
            gains_are_sent: false,
            skipped: BTreeSet::new(),
        });
    }

    /// Plans for the services that may not be as wanted.
    pub(super) fn plan(&mut self, now: Duration) {
        let keys = std::mem::take(&mut self.dirty);
        let policy = Arc::clone(&self.policy);
        let new = || Planner::new(&policy).all_known(self.mode.all_known);
        let mut plain = new();
        // The services that have a past are planned one by one.
        let mut others = Vec::new();
        for key in &keys {
            let trouble = self.troubles.get(key);
            let past = Past {
                drains: self.drains.get(key),
                refusals: trouble.map(|trouble| &trouble.refusals),
            };
            let (known, wanted) = (self.known.service(*key), self.wanted.service(*key));
            if past.drains.is_none() && trouble.is_none() {
                plain.service(*key, known, wanted, past);
                continue;
            }
            let mut planner = new();
            planner.service(*key, known, wanted, past);
            others.push((*key, planner));
        }
        if self.guard == Guard::Up {
            let mut lost = plain.lost;
            for (_, planner) in &others {
                lost.services += planner.lost.services;
                lost.destinations += planner.lost.destinations;
            }
            self.excess = Excess::find(&policy, &self.known, lost);
            if self.excess.is_some() {
                self.dirty = keys;
                return;
            }
            self.guard = Guard::Down;
        }
        for key in &keys {
            self.left.remove(key);
            self.failed.remove(key);
        }
        self.keep_remarks(&mut plain);
        self.keep_before(&plain);
        let (changes, losses, deferred) = plain.into_changes();
        let mut changes = changes;
        changes.truncate(deferred);
        self.enqueue(changes, losses, now);
        let mut is_another_round = false;
        for (key, planner) in others {
            is_another_round |= self.plan_with_past(key, planner, now);
        }
        self.tally.rounds += usize::from(is_another_round);
        self.queues.retain(|queue| !queue.changes.is_empty());
    }

    /// Takes over what is planned of a service that has a past; returns whether it is another
    /// round against others.
    fn plan_with_past(&mut self, key: ServiceKey, mut planner: Planner<'_>, now: Duration) -> bool {
        self.keep_remarks(&mut planner);
        self.keep_before(&planner);
        let (mut changes, losses, deferred) = planner.into_changes();
        changes.truncate(deferred);
        self.keep_drains(key, &changes);
        let mut losses = losses;
        if let Some(removal) = self.removal_of_half_made(key) {
            (changes, losses) = (vec![removal], 0);
        }
        let is_something = changes.iter().any(|change| !change.is_so_already());
        let mut is_another_round = false;
        if let Some(trouble) = self.troubles.get_mut(&key) {
            is_another_round = trouble.is_fresh && is_something;
            trouble.is_fresh = false;
            trouble.rounds += u8::from(is_another_round);
            if trouble.rounds > ROUNDS && is_something {
                let failed = self.failed.entry(key).or_default();
                failed.extend(changes.iter().map(|change| {
                    let last = trouble.last.get(&change.destination());
                    (*change, last.map_or(Failure::Overruled, |(_, failure)| *failure))
                }));
                self.suspend_drains(key, &changes);
                return false;
            }
            if !is_something && !self.failed.contains_key(&key) {
                self.troubles.remove(&key);
            }
        }
        self.enqueue(changes, losses, now);
        is_another_round
    }

    /// Keeps what a planner leaves and what it knows to have failed.
    fn keep_remarks(&mut self, planner: &mut Planner<'_>) {
        for left in std::mem::take(&mut planner.left) {
            self.left.entry(left.service).or_default().push(left);
        }
        for (change, failure) in std::mem::take(&mut planner.failed) {
            self.failed.entry(change.service()).or_default().push((change, failure));
        }
    }

    /// Keeps the services that are about to change as they are, where the policy asks for it.
    fn keep_before(&mut self, planner: &Planner<'_>) {
        if !self.policy.detailed {
            return;
        }
        for change in planner.changes() {
            let key = change.service();
            if self.tally.touched.insert(key) {
                self.tally.before.replace(key, self.known.share(key));
            }
        }
    }

    /// Gives up what is not made yet, for this reason.
    pub(crate) fn abandon(&mut self, failure: Failure) {
        self.land_flight();
        let mut failed = BTreeMap::new();
        for queue in &self.queues {
            let sent = if queue.gains_are_sent { queue.losses } else { 0 };
            for change in queue.changes[sent..].iter().filter(|change| !change.is_so_already()) {
                let key = change.service();
                if !queue.skipped.contains(&key) || self.doubtful.contains(&key) {
                    failed.insert((key, change.destination()), (*change, failure));
                }
            }
        }
        for key in &self.doubtful {
            let last = self.troubles.get(key).into_iter().flat_map(|trouble| &trouble.last);
            failed.extend(last.map(|(destination, last)| ((*key, *destination), *last)));
        }
        for ((key, _), failed) in failed {
            self.failed.entry(key).or_default().push(failed);
        }
    }
}
