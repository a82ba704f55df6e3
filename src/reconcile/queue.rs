//! Planned changes on their way to the kernel: the gains of all services first, then the losses.

use std::collections::BTreeSet;

use crate::model::ServiceKey;
use crate::ruleset::Change;

/// The changes of one planning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) changes: Vec<Change>,
    /// The index of the first change that takes something away.
    pub(super) losses: usize,
    /// Changes of services that wait for the end of drains; they are planned again then.
    pub(super) deferred: Vec<Change>,
    pub(super) gains_are_sent: bool,
    /// The services that are to be planned anew; their changes in this queue are not made any more.
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
            !change.is_noop()
                && (self.skipped.is_empty() || !self.skipped.contains(&change.service()))
        })
    }

    /// Drops all changes but the deferred ones of these services; tells whether a change is left.
    pub(super) fn end(&mut self, troubled: &BTreeSet<ServiceKey>) -> bool {
        (self.changes, self.losses) = (Vec::new(), 0);
        self.deferred.retain(|change| troubled.contains(&change.service()));
        !self.deferred.is_empty()
    }

    /// The changes that were never handed out.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &Change> {
        self.part(Flight::Gains).chain(self.part(Flight::Losses))
    }
}
