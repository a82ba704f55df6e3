//! What came of the changes that were written.

use std::collections::BTreeSet;

use super::drains::End;
use super::queue::Flight;
use super::{Purpose, Reconciler};
use crate::ruleset::Change;
use crate::ruleset::past::{Failure, Refusal};

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The kernel acknowledged it.
    Done,
    /// What was to be added is there already.
    Exists,
    /// The service was not there.
    ServiceMissing,
    /// The service was there, the destination was not.
    DestinationMissing,
    /// The kernel refused it for a reason that passes, such as want of memory.
    RefusedForNow,
    /// The kernel refused it for a reason that stays.
    Refused,
    /// The kernel has not seen it.
    NotSent,
    /// Whether the kernel made it is not known.
    Unknown,
}

impl Reconciler {
    /// Takes what came of each of the [`changes`](Self::changes), in their order. Those that no
    /// outcome is given for are of unknown outcome.
    pub(crate) fn wrote(&mut self, outcomes: &[Outcome]) {
        let Some(flight) = self.flight.take() else { return };
        let mut queues = std::mem::take(&mut self.queues);
        let mut troubled = BTreeSet::new();
        let mut outcomes = outcomes.iter();
        for change in queues.iter().flat_map(|queue| queue.part(flight)) {
            match outcomes.next().unwrap_or(&Outcome::Unknown) {
                Outcome::Done => self.done(change),
                outcome => {
                    troubled.insert(change.service());
                    self.not_done(change, *outcome);
                }
            }
        }
        match flight {
            Flight::Gains => queues.iter_mut().for_each(|queue| queue.gains_are_sent = true),
            Flight::Losses => queues.clear(),
        }
        for queue in &mut queues {
            queue.skipped.extend(&troubled);
        }
        self.queues = queues;
    }

    /// A flight that nobody told the outcome of was dropped on its way.
    pub(super) fn land_flight(&mut self) {
        self.wrote(&[]);
    }

    fn done(&mut self, change: &Change) {
        let key = change.service();
        if self.last_touched != Some(key) {
            self.last_touched = Some(key);
            self.touched.insert(key);
        }
        let trouble = if self.troubles.is_empty() { None } else { self.troubles.get_mut(&key) };
        // What drains is planned again once it is removed.
        if self.mode.remembers || trouble.is_some() || self.drains.contains_key(&key) {
            self.known.record(change);
        }
        if let Some(trouble) = trouble {
            trouble.last.remove(&change.destination());
        }
        self.count_made(change);
    }

    /// Counts a change that was made, and ends the drains that it ends.
    pub(super) fn count_made(&mut self, change: &Change) {
        if self.is_step_of_late_scheduler(change) {
            return;
        }
        self.tally.changed += 1;
        if self.policy.detailed {
            self.tally.made.push(*change);
        }
        if self.drains.is_empty() {
            return;
        }
        let key = change.service();
        match change {
            // The fallback option that the drain needed goes now.
            Change::RemoveDestination(_, d) if self.end_drain(key, d.key, End::of) => {
                self.dirty.insert(key);
            }
            Change::RemoveService(_) => self.end_drains(key, End::of),
            Change::UpdateDestination { to, .. } if to.weight > 0 => {
                let _ = self.end_drain(key, to.key, |_| End::WantedAgain);
            }
            _ => {}
        }
    }

    fn not_done(&mut self, change: &Change, outcome: Outcome) {
        let key = change.service();
        let was_known = self.known.service(key).is_some();
        let trouble = self.troubles.entry(key).or_default();
        trouble.is_fresh = true;
        let subject = change.destination();
        let mut last = |failure| {
            trouble.last.insert(subject, (*change, failure));
        };
        match outcome {
            Outcome::Done => {}
            Outcome::Exists | Outcome::DestinationMissing => last(Failure::Conflict),
            Outcome::ServiceMissing => {
                last(Failure::Conflict);
                // All others may be gone, too.
                if self.mode.remembers && was_known && !self.lost_a_service {
                    self.lost_a_service = true;
                    self.unread = true;
                }
            }
            Outcome::Refused => {
                let refusal = Refusal { change: *change, failure: Failure::Refused };
                trouble.last.remove(&subject);
                trouble.refusals.insert(subject, refusal);
            }
            Outcome::RefusedForNow => last(Failure::Refused),
            Outcome::NotSent => last(Failure::NotSent),
            Outcome::Unknown => {
                last(Failure::Unknown);
                trouble.unknown.push(*change);
            }
        }
        if let Change::DrainDestination(_, destination) = change
            && outcome != Outcome::Unknown
        {
            self.has_not_lowered(key, destination.key);
        }
        self.doubtful.insert(key);
        self.purpose = Purpose::Doubt;
    }
}
