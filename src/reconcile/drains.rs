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

    /// Keeps, suspends or ends each drain of a service, as the service's planned changes require.
    pub(super) fn keep_drains(&mut self, service: ServiceKey, changes: &[Change]) {
        let Some(mut drains) = self.drains.remove(&service) else { return };
        let (mut removed, mut updated) = (BTreeSet::new(), BTreeSet::new());
        let mut lowered = BTreeSet::new();
        for change in changes {
            match change {
                Change::RemoveService(_) => removed.extend(drains.keys().copied()),
                Change::RemoveDestination(_, destination) => drop(removed.insert(destination.key)),
                Change::DrainDestination(_, destination) => drop(lowered.insert(destination.key)),
                Change::UpdateDestination { to, .. } => drop(updated.insert(to.key)),
                _ => {}
            }
        }
        let (known, wanted) = (self.known.service(service), self.wanted.service(service));
        let sets_weights = self.policy.allowed.contains(Allowed::WEIGHTS);
        let refusals = self.troubles.get(&service).map(|trouble| &trouble.refusals);
        let is_refused = |destination| {
            refusals.is_some_and(|refusals| {
                refusals.contains_key(&Some(destination))
                    || refusals
                        .get(&None)
                        .is_some_and(|it| matches!(it.change, Change::RemoveService(_)))
            })
        };
        let removal = match wanted {
            Some(_) => Allowed::REMOVE_DESTINATIONS,
            None => Allowed::REMOVE_SERVICES,
        };
        let may_remove = self.policy.allowed.contains(removal);
        let mut ended = Vec::new();
        drains.retain(|key, drain| {
            if removed.contains(key) {
                return true;
            }
            // A count serves only the plan that follows it.
            let counted = drain.counted.take();
            let wanted = wanted.and_then(|rules| rules.destination(*key));
            let known = known.and_then(|rules| rules.destination(*key));
            let is_low = known.is_some_and(|known| known.weight == 0);
            // Others have raised its weight, and it is not lowered now. One that could not be
            // lowered, or removed with its service, goes on.
            let is_raised = wanted.is_none()
                && known.is_some_and(|known| known.weight > 0)
                && !lowered.contains(key)
                && !is_refused(*key);
            // An unwanted destination is updated only to get its weight back.
            if wanted.is_none() && !updated.contains(key) && !is_raised {
                // Until its planned drain, if any, is handed out.
                drain.is_suspended = true;
                return true;
            }
            if drain.deadline.take().is_some() {
                let end =
                    if is_raised && may_remove { DrainEnd::Raised } else { DrainEnd::WantedAgain };
                ended.push((*key, end, counted));
            }
            is_low
                && drain.before > 0
                && !(sets_weights && wanted.is_some_and(|wanted| wanted.weight == 0))
        });
        for (destination, end, counted) in ended {
            self.note_end(service, destination, end, counted);
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
            if known.weight > 0 {
                // If it has weight 0 later without a change of ours, others have set it.
                drain.before = 0;
            }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::model::{Destination, Service};
    use crate::reconcile::trouble::Trouble;
    use crate::ruleset::{ConnectionCounts, Policy, Ruleset};

    const SECOND: Duration = Duration::from_secs(1);

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
    }

    fn backend() -> Destination {
        Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 8080)
    }

    /// The service with the destination at this weight, or without it.
    fn rules(weight: Option<u32>) -> Ruleset {
        let mut rules = Ruleset::new();
        rules.insert_service(web()).unwrap();
        if let Some(weight) = weight {
            rules.insert_destination(web().key, backend().weight(weight)).unwrap();
        }
        rules
    }

    fn drain_of(reconciler: &Reconciler) -> Option<Drain> {
        reconciler.drains.get(&web().key)?.get(&backend().key).copied()
    }

    /// A reconciler with a drain that took this weight.
    fn draining(known: u32, before: u32, wanted: Option<u32>, allowed: Allowed) -> Reconciler {
        let mut reconciler = Reconciler::for_table(Policy::new());
        reconciler.policy = Arc::new(Policy::new().allowed(allowed));
        (reconciler.known, reconciler.wanted) = (rules(Some(known)), rules(wanted));
        reconciler.resume([(web().key, backend().key, Drain::new(before, Some(SECOND)))]);
        reconciler
    }

    #[test]
    fn a_drain_is_remembered_as_long_as_its_weight_is_to_be_taken_back() {
        let (all, others) = (Allowed::all(), Allowed::all() - Allowed::WEIGHTS);
        for (known, before, wanted, allowed, is_kept) in [
            (0, 2, 2, all, true),
            (0, 2, 2, others, true),
            // Others have raised it.
            (1, 2, 2, all, false),
            (1, 0, 2, others, false),
            // The weight is not known.
            (0, 0, 2, all, false),
            // It is wanted with weight 0, which counts only where weights are set.
            (0, 2, 0, all, false),
            (0, 2, 0, others, true),
        ] {
            let mut reconciler = draining(known, before, Some(wanted), allowed);
            reconciler.keep_drains(web().key, &[]);
            let drain = drain_of(&reconciler);
            let case = format!("{known} {before} {wanted} {allowed:?}: {drain:?}");
            assert_eq!(drain.is_some(), is_kept, "{case}");
            assert_eq!(reconciler.tally.ends, [(DrainEnd::WantedAgain, 1)].into(), "{case}");
            assert!(drain.is_none_or(|drain| drain.deadline.is_none()), "{case}");
        }
    }

    #[test]
    fn an_unwanted_destination_that_gets_its_weight_back_drains_no_more() {
        let update = Change::UpdateDestination {
            service: web().key,
            from: backend().weight(0),
            to: backend().weight(2),
        };
        for (changes, ends) in [(vec![], 0), (vec![update], 1)] {
            let mut reconciler = draining(0, 2, None, Allowed::all());
            reconciler.keep_drains(web().key, &changes);
            let drain = drain_of(&reconciler).unwrap();
            assert_eq!(drain.deadline.is_none(), ends == 1, "{drain:?}");
            assert_eq!(drain.is_suspended, ends == 0, "{drain:?}");
            assert_eq!(reconciler.tally.ends.values().sum::<usize>(), ends);
        }
    }

    #[test]
    fn a_reading_tells_whether_a_drain_has_lowered_its_destination() {
        for (weight, before, deadline) in [(0, 2, Some(SECOND)), (1, 0, None)] {
            let mut reconciler = draining(weight, 2, None, Allowed::all());
            reconciler.drain_mut(web().key, backend().key).unwrap().has_begun = false;
            assert!(!reconciler.count(web().key, &Listing::default(), Duration::ZERO));
            let drain = drain_of(&reconciler).unwrap();
            assert_eq!((drain.before, drain.deadline), (before, deadline), "{weight}");
        }
    }

    #[test]
    fn a_drain_takes_the_weight_that_it_lowers_last() {
        for (weight, before) in [(3, 3), (0, 2)] {
            let mut reconciler = draining(weight, 2, None, Allowed::all());
            let change = Change::DrainDestination(web().key, backend().weight(weight));
            reconciler.begin_drains([change].iter(), SECOND);
            assert_eq!(drain_of(&reconciler).unwrap().before, before);
        }
    }

    /// Connections may have come since the count. What may have been removed is told with it.
    #[test]
    fn a_count_serves_no_later_pass() {
        for is_unknown in [false, true] {
            let mut reconciler = draining(0, 2, None, Allowed::all());
            reconciler.counted = Some(SECOND);
            let connections = ConnectionCounts::default();
            let count = Count { connections, is_idle: true, is_overdue: false };
            let drains = reconciler.drains.get_mut(&web().key).unwrap();
            drains.get_mut(&backend().key).unwrap().counted = Some(count);
            if is_unknown {
                let unknown = vec![Change::RemoveDestination(web().key, backend().weight(0))];
                reconciler.troubles.insert(web().key, Trouble { unknown, ..Trouble::default() });
            }
            reconciler.begin();
            assert_eq!(drain_of(&reconciler).unwrap().counted.is_some(), is_unknown);
            assert_eq!(reconciler.counted.is_some(), is_unknown);
        }
    }
}
