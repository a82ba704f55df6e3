//! Draining destinations: from the lowered weight to the removal, or to the return of the weight.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Reconciler;
use super::reading::Listing;
use super::tally::{DrainEnd, EndedDrain};
use crate::model::{DestinationKey, ServiceKey};
use crate::ruleset::past::{Count, Drain, ServiceDrains};
use crate::ruleset::{Allowed, Change};

impl Reconciler {
    /// The destinations that drain, and those whose weight is to be taken back.
    pub(crate) fn drains(&self) -> &BTreeMap<ServiceKey, ServiceDrains> {
        &self.drains
    }

    /// Whether a destination of a service drains.
    pub(super) fn is_draining(&self, service: ServiceKey) -> bool {
        let drains = self.drains.get(&service);
        drains.is_some_and(|drains| drains.values().any(|drain| drain.ends().is_some()))
    }

    /// How many destinations drain.
    pub(crate) fn draining(&self) -> usize {
        let all = self.drains.values().flat_map(BTreeMap::values);
        all.filter(|drain| drain.ends().is_some()).count()
    }

    /// Resumes drains that began before a restart.
    pub(crate) fn resume(
        &mut self,
        drains: impl IntoIterator<Item = (ServiceKey, DestinationKey, Drain)>,
    ) {
        for (service, destination, drain) in drains {
            self.drains.entry(service).or_default().insert(destination, drain);
            self.dirty.insert(service);
            self.counted = None;
        }
    }

    /// The time at which connections are to be counted next: after the interval, or at an earlier
    /// deadline.
    pub(crate) fn next_count(&self) -> Option<Duration> {
        let drains = self.drains.values().flat_map(BTreeMap::values);
        let mut deadlines = drains.filter_map(Drain::ends).peekable();
        deadlines.peek()?;
        let Some(counted) = self.counted else { return Some(Duration::ZERO) };
        let by_interval = counted.saturating_add(self.policy.draining.counting_interval());
        // A destination past its deadline was counted already, and is counted again after the
        // interval.
        Some(deadlines.filter(|deadline| *deadline > counted).fold(by_interval, Duration::min))
    }

    /// Begins the drains of these changes; those that have begun already go on.
    pub(super) fn begin_drains<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        now: Duration,
    ) {
        let within = self.policy.draining.deadline.unwrap_or_default();
        for change in changes {
            let Change::DrainDestination(service, destination) = change else { continue };
            let drains = self.drains.entry(*service).or_default();
            let drain =
                drains.entry(destination.key).or_insert(Drain::new(destination.weight, None));
            drain.is_suspended = false;
            if destination.weight > 0 {
                drain.before = destination.weight;
            }
            if drain.deadline.is_none() {
                drain.deadline = Some(now.saturating_add(within));
                drain.has_begun = destination.weight == 0;
                self.counted = None;
            }
        }
    }

    fn drain_mut(&mut self, service: ServiceKey, key: DestinationKey) -> Option<&mut Drain> {
        self.drains.get_mut(&service)?.get_mut(&key)
    }

    /// Records that a destination was lowered.
    pub(super) fn has_lowered(&mut self, service: ServiceKey, destination: DestinationKey) {
        if let Some(drain) = self.drain_mut(service, destination) {
            drain.has_begun = true;
        }
    }

    /// Records that the change that should lower a destination has failed: if the destination has
    /// weight 0 later, others have set it. A drain that has not begun has no deadline yet.
    pub(super) fn has_not_lowered(&mut self, service: ServiceKey, destination: DestinationKey) {
        if let Some(drain) = self.drain_mut(service, destination) {
            drain.before = 0;
            drain.deadline = drain.kept_deadline();
        }
    }

    /// Keeps, suspends or ends each drain of a service, as the service's planned changes require.
    pub(super) fn keep_drains(&mut self, service: ServiceKey, changes: &[Change]) {
        let Some(mut drains) = self.drains.remove(&service) else { return };
        let (mut removed, mut updated) = (BTreeSet::new(), BTreeSet::new());
        for change in changes {
            match change {
                Change::RemoveService(_) => removed.extend(drains.keys().copied()),
                Change::RemoveDestination(_, destination) => drop(removed.insert(destination.key)),
                Change::UpdateDestination { to, .. } => drop(updated.insert(to.key)),
                _ => {}
            }
        }
        let (known, wanted) = (self.known.service(service), self.wanted.service(service));
        let sets_weights = self.policy.allowed.contains(Allowed::WEIGHTS);
        let mut ended = Vec::new();
        drains.retain(|key, drain| {
            if removed.contains(key) {
                return true;
            }
            // A count serves only the plan that follows it.
            let counted = drain.counted.take();
            let wanted = wanted.and_then(|rules| rules.destination(*key));
            let known = known.and_then(|rules| rules.destination(*key));
            // An unwanted destination is updated only to get its weight back.
            if wanted.is_none() && !updated.contains(key) {
                // Until its planned drain, if any, is handed out.
                drain.is_suspended = true;
                return true;
            }
            if drain.deadline.take().is_some() {
                ended.push((*key, counted));
            }
            let is_low = known.is_some_and(|known| known.weight == 0) && drain.before > 0;
            is_low && !(sets_weights && wanted.is_some_and(|wanted| wanted.weight == 0))
        });
        for (destination, counted) in ended {
            self.note_end(service, destination, DrainEnd::WantedAgain, counted);
        }
        if !drains.is_empty() {
            self.drains.insert(service, drains);
        }
    }

    /// Forgets the counts that a pass left behind: connections may have come since. Those of
    /// removals that may have been made are kept for the report.
    pub(super) fn forget_counts(&mut self) {
        let Self { drains, troubles, counted, .. } = self;
        let is_unknown = |key| troubles.get(key).is_some_and(|it| !it.unknown.is_empty());
        for (_, drains) in drains.iter_mut().filter(|(key, _)| !is_unknown(key)) {
            for drain in drains.values_mut() {
                if drain.counted.take().is_some() {
                    *counted = None;
                }
            }
        }
    }

    /// Suspends the drains whose next change has failed.
    pub(super) fn suspend_drains(&mut self, service: ServiceKey, changes: &[Change]) {
        let Some(drains) = self.drains.get_mut(&service) else { return };
        let goes = changes.iter().any(|change| matches!(change, Change::RemoveService(_)));
        let failed: BTreeSet<_> = changes.iter().filter_map(Change::destination).collect();
        for (key, drain) in drains {
            drain.is_suspended |= goes || failed.contains(key);
        }
    }

    /// Ends the drain of a destination; tells whether there was one.
    pub(super) fn end_drain(
        &mut self,
        service: ServiceKey,
        destination: DestinationKey,
        end: impl Fn(&Drain) -> DrainEnd,
    ) -> bool {
        let Some(drains) = self.drains.get_mut(&service) else { return false };
        let Some(drain) = drains.remove(&destination) else { return false };
        if drains.is_empty() {
            self.drains.remove(&service);
        }
        if drain.deadline.is_some() {
            self.note_end(service, destination, end(&drain), drain.counted);
        }
        true
    }

    /// Ends the drains of all destinations of a service.
    pub(super) fn end_drains(&mut self, service: ServiceKey, end: impl Fn(&Drain) -> DrainEnd) {
        for (destination, drain) in self.drains.remove(&service).unwrap_or_default() {
            if drain.deadline.is_some() {
                self.note_end(service, destination, end(&drain), drain.counted);
            }
        }
    }

    fn note_end(
        &mut self,
        service: ServiceKey,
        destination: DestinationKey,
        end: DrainEnd,
        counted: Option<Count>,
    ) {
        *self.tally.ends.entry(end).or_default() += 1;
        if self.policy.detailed {
            let connections = counted.map(|count| count.connections);
            self.tally.ended.push(EndedDrain { service, destination, end, connections });
        }
    }

    /// Takes the counts of connections from a listing. Tells whether the service is to be read
    /// again, since the listing lacks a destination: a listing in several parts can lack entries
    /// that exist.
    pub(super) fn count(&mut self, service: ServiceKey, listing: &Listing, now: Duration) -> bool {
        let Some(drains) = self.drains.get_mut(&service) else { return false };
        let known = self.known.service(service);
        let draining = self.policy.draining;
        let (mut gone, mut reads_again) = (Vec::new(), false);
        for (key, drain) in drains {
            let Some(known) = known.and_then(|rules| rules.destination(*key)) else {
                if drain.is_missing {
                    gone.push(*key);
                } else {
                    (drain.is_missing, reads_again) = (true, true);
                }
                continue;
            };
            drain.is_missing = false;
            // The outcome of the change that should lower it may not have been known.
            drain.has_begun |= known.weight == 0;
            drain.deadline = drain.kept_deadline();
            let connections = listing.connections.get(&(service, *key)).copied();
            drain.counted = connections.zip(drain.deadline).map(|(connections, deadline)| Count {
                connections,
                is_idle: draining.is_idle(&service, connections),
                is_overdue: now >= deadline,
            });
        }
        for destination in gone {
            let _ = self.end_drain(service, destination, |_| DrainEnd::Gone);
        }
        reads_again
    }
}
