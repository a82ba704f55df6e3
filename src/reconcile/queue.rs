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
    /// Whether new services are added before everything else. Others may have added such a service
    /// meanwhile, and a policy may not allow adding destinations to theirs.
    pub(super) services_first: bool,
    /// The flight of the first changes that were not handed out.
    pub(super) next: Flight,
    /// The services that are to be planned anew; their changes in this queue are not made any more.
    pub(super) skipped: BTreeSet<ServiceKey>,
}

/// The part of the queues that was handed out to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Flight {
    /// New services, where they are added before everything else.
    Services,
    /// All other changes that add something.
    Gains,
    /// The changes that take something away.
    Losses,
}

impl Flight {
    pub(super) const ALL: [Self; 3] = [Self::Services, Self::Gains, Self::Losses];
}

impl Queue {
    /// Goes on with the flight that follows. A queue may be further on: one that was planned later
    /// begins with its services.
    pub(super) fn was_handed_out(&mut self, flight: Flight) {
        let next = match flight {
            Flight::Services => Flight::Gains,
            Flight::Gains | Flight::Losses => Flight::Losses,
        };
        self.next = self.next.max(next);
    }

    /// The changes of a flight that were not handed out, those of skipped services included.
    pub(super) fn rest(&self, flight: Flight) -> impl Iterator<Item = &Change> {
        let changes = match flight {
            _ if flight < self.next => &[],
            Flight::Services if !self.services_first => &[],
            Flight::Services | Flight::Gains => &self.changes[..self.losses],
            Flight::Losses => &self.changes[self.losses..],
        };
        let is_of_flight = move |change: &Change| {
            !self.services_first
                || flight == Flight::Losses
                || matches!(change, Change::AddService(_)) == (flight == Flight::Services)
        };
        changes.iter().filter(move |change| !change.is_noop() && is_of_flight(change))
    }

    /// The changes of a flight.
    pub(super) fn part(&self, flight: Flight) -> impl Iterator<Item = &Change> {
        self.rest(flight)
            .filter(|change| self.skipped.is_empty() || !self.skipped.contains(&change.service()))
    }

    /// Drops all changes of these services, which are planned anew.
    pub(super) fn drop_all(&mut self, services: &BTreeSet<ServiceKey>) {
        let is_other = |change: &Change| !services.contains(&change.service());
        self.losses = self.changes[..self.losses].iter().filter(|it| is_other(it)).count();
        self.changes.retain(is_other);
        self.deferred.retain(is_other);
    }

    /// Drops all changes but the deferred ones of these services; tells whether a change is left.
    pub(super) fn end(&mut self, troubled: &BTreeSet<ServiceKey>) -> bool {
        (self.changes, self.losses) = (Vec::new(), 0);
        self.deferred.retain(|change| troubled.contains(&change.service()));
        !self.deferred.is_empty()
    }

    /// The changes that were never handed out.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &Change> {
        Flight::ALL.into_iter().flat_map(|flight| self.part(flight))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::Service;

    #[test]
    fn a_queue_ends_with_the_deferred_changes_of_services_in_trouble() {
        let [troubled, other] = [80, 81].map(|port| Service::tcp(Ipv4Addr::LOCALHOST, port));
        for (deferred, left) in [
            (vec![], vec![]),
            (vec![other], vec![]),
            (vec![other, troubled], vec![Change::RemoveService(troubled)]),
        ] {
            let mut queue = Queue {
                changes: vec![Change::AddService(troubled)],
                losses: 1,
                deferred: deferred.into_iter().map(Change::RemoveService).collect(),
                services_first: false,
                next: Flight::Services,
                skipped: BTreeSet::new(),
            };
            assert_eq!(queue.end(&[troubled.key].into()), !left.is_empty());
            assert_eq!((queue.changes, queue.losses, queue.deferred), (vec![], 0, left));
        }
    }

    #[test]
    fn what_is_planned_anew_is_dropped_from_each_part() {
        let [anew, other] = [80, 81].map(|port| Service::tcp(Ipv4Addr::LOCALHOST, port));
        let both = |change: fn(Service) -> Change| [change(anew), change(other)];
        let mut queue = Queue {
            changes: [both(Change::AddService), both(Change::RemoveService)].concat(),
            losses: 2,
            deferred: both(Change::RemoveService).to_vec(),
            services_first: false,
            next: Flight::Services,
            skipped: BTreeSet::new(),
        };
        queue.drop_all(&[anew.key].into());
        assert!(queue.part(Flight::Gains).eq(&[Change::AddService(other)]));
        assert!(queue.part(Flight::Losses).eq(&[Change::RemoveService(other)]));
        assert_eq!(queue.deferred, [Change::RemoveService(other)]);
    }
}
