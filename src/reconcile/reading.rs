//! Taking in listings of the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::late::joined;
use super::{Purpose, ReadBack, Reconciler};
use crate::model::{Destination, DestinationKey, Service, ServiceKey};
use crate::ruleset::past::{Drain, Failure, Refusal};
use crate::ruleset::{Allowed, Change, ConnectionCounts, Ruleset, ServiceRules};

/// Services as they were read. A service that was asked for and that the listing lacks does not
/// exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Listing {
    pub(crate) rules: Ruleset,
    /// The connections of all destinations of services with a draining destination.
    pub(crate) connections: BTreeMap<(ServiceKey, DestinationKey), ConnectionCounts>,
}

impl Reconciler {
    /// Takes a listing of the whole table, or of the services that were asked for.
    pub(crate) fn read(&mut self, mut listing: Listing, now: Duration) {
        self.release_withheld();
        if self.unread {
            return self.read_all(listing, now);
        }
        let is_counted = |(key, drains): (&ServiceKey, &BTreeMap<_, Drain>)| {
            self.doubtful.contains(key) || drains.values().all(|drain| drain.ends().is_none())
        };
        if self.purpose == Purpose::Count && self.drains.iter().all(is_counted) {
            // The interval begins at the end of the count, so that a rest follows even a count that
            // takes longer than the interval.
            self.counted = Some(now);
        }
        for key in std::mem::take(&mut self.doubtful) {
            // A listing can lack entries that exist. A service that is read back other than wanted
            // is therefore read twice. Not so a service with drains: they need two listings without
            // a destination in any case.
            let seems_to_differ = listing.rules.service(key) != self.wanted.service(key);
            if self.purpose == Purpose::Verification
                && seems_to_differ
                && !self.drains.contains_key(&key)
                && !self.looked_once.contains_key(&key)
            {
                self.looked_once.insert(key, listing.rules.take(key));
                self.doubtful.insert(key);
                continue;
            }
            self.looked_once.remove(&key);
            let rules = listing.rules.take(key);
            self.compare(key, rules.as_deref());
            self.known.replace(key, rules);
            self.touched.remove(&key);
            self.last_touched = None;
            self.count_unknown(key);
            self.keep_owed(key);
            if self.count(key, &listing, now) {
                self.doubtful.insert(key);
                continue;
            }
            self.compared(key);
        }
    }

    fn read_all(&mut self, mut listing: Listing, now: Duration) {
        self.unread = false;
        self.purpose = Purpose::Doubt;
        let rules = std::mem::take(&mut listing.rules);
        let before = std::mem::replace(&mut self.known, rules);
        let keys = self.known.keys().chain(self.wanted.keys()).chain(before.keys());
        let keys = keys.chain(self.drains.keys().copied());
        let keys: std::collections::BTreeSet<_> = keys.collect();
        // All services that differ from the wanted ones are planned anew.
        self.queues.clear();
        let read = std::mem::take(&mut self.known);
        self.known = before;
        for key in &keys {
            self.compare(*key, read.service(*key));
        }
        self.known = read;
        self.doubtful.clear();
        self.touched.clear();
        self.last_touched = None;
        self.left.clear();
        self.said = None;
        self.failed.clear();
        for key in &keys {
            self.count_unknown(*key);
            self.keep_owed(*key);
            if self.count(*key, &listing, now) {
                self.doubtful.insert(*key);
            } else {
                self.purpose = Purpose::Count;
                self.compared(*key);
            }
        }
        self.purpose = Purpose::Doubt;
    }

    /// Marks a service for planning if it differs from the wanted one.
    fn compared(&mut self, key: ServiceKey) {
        let is_as_wanted = self.known.service(key) == self.wanted.service(key);
        if is_as_wanted && !self.drains.contains_key(&key) && !self.unbound.contains(&key) {
            if self.left.remove(&key).is_some() {
                self.said = None;
            }
            self.failed.remove(&key);
            self.troubles.remove(&key);
            self.refused_late.remove(&key);
            self.dirty.remove(&key);
            return;
        }
        if self.purpose != Purpose::Count && !is_as_wanted {
            self.troubles.entry(key).or_default().is_fresh = true;
        }
        self.dirty.insert(key);
    }

    /// Counts the changes of unknown outcome that a reading shows as made.
    fn count_unknown(&mut self, key: ServiceKey) {
        let Some(trouble) = self.troubles.get_mut(&key) else { return };
        let unknown = std::mem::take(&mut trouble.unknown);
        for (index, change) in unknown.iter().enumerate() {
            let rules = self.known.service(key);
            // A later change of the service may have completed its addition.
            let is_addition = matches!(change, Change::AddService(_));
            let later = if is_addition { &unknown[index + 1..] } else { &[] };
            let completes = |it: &Change| joined(change, it).is_some() && is_made(it, rules);
            if is_made(change, rules) || later.iter().any(completes) {
                self.found_made.push(*change);
                self.count_made(change);
            }
        }
    }

    /// Records values that are read back other than written. If the same value is read twice, the
    /// kernel does not keep the wanted one, which is then not written again.
    fn compare(&mut self, key: ServiceKey, read: Option<&ServiceRules>) {
        let Some(wanted) = self.wanted.share(key) else { return };
        let Some(read) = read.filter(|read| *read != &*wanted) else {
            self.forget_read_back(key);
            return;
        };
        // A plan's changes are not recorded one by one; they were acknowledged.
        let was_planned = !self.mode.remembers
            && self.purpose == Purpose::Verification
            && !self.troubles.contains_key(&key);
        let believed = if was_planned { Some(Arc::clone(&wanted)) } else { self.known.share(key) };
        let Some(believed) = believed else { return };
        // The service before the write. A value that is read back as it was then was not written,
        // or others have taken it back.
        let before = self.known.share(key).filter(|_| was_planned);
        let is_as_before = |destination: DestinationKey| {
            let before = before.as_ref().and_then(|before| before.destination(destination));
            before.is_some_and(|before| read.destination(destination) == Some(before))
        };
        if read.service() != wanted.service()
            && believed.service() == wanted.service()
            && before.as_ref().is_none_or(|before| before.service() != read.service())
        {
            let (from, to) = (*read.service(), *wanted.service());
            let change = Change::UpdateService { from, to };
            self.note_read_back(change, ReadBack::Service(from));
        }
        for to in wanted.destinations() {
            let (Some(from), Some(written)) =
                (read.destination(to.key), believed.destination(to.key))
            else {
                continue;
            };
            let is_drained = self.drains.get(&key).is_some_and(|d| d.contains_key(&to.key));
            let seen = self.as_written(from, to);
            if !is_drained
                && !is_as_before(to.key)
                && seen != *to
                && self.as_written(written, to) == *to
            {
                let change = Change::UpdateDestination { service: key, from: *from, to: *to };
                self.note_read_back(change, ReadBack::Destination(seen));
            }
        }
    }

    /// A destination as it was read, but with the wanted value in each field that the policy leaves
    /// to others.
    fn as_written(&self, read: &Destination, wanted: &Destination) -> Destination {
        let allows = |change| self.policy.allowed.contains(change);
        let with = if allows(Allowed::UPDATE_DESTINATIONS) { read } else { wanted };
        with.weight(if allows(Allowed::WEIGHTS) { read.weight } else { wanted.weight })
    }

    fn note_read_back(&mut self, change: Change, value: ReadBack) {
        let (key, subject) = (change.service(), change.destination());
        let is_again = self.read_back.insert((key, subject), Some(value)) == Some(Some(value));
        // Only what is read right after a write tells what the kernel keeps. Others may have set an
        // older value again.
        if is_again && self.purpose == Purpose::Verification {
            let refusal = Refusal { change, failure: Failure::NotKept };
            self.troubles.entry(key).or_default().refusals.insert(subject, refusal);
        }
    }
}

/// Whether a service is as the change makes it.
fn is_made(change: &Change, rules: Option<&ServiceRules>) -> bool {
    let destination = |key| rules.and_then(|rules| rules.destination(key)).copied();
    match *change {
        // The kernel may keep another timeout.
        Change::AddService(to) | Change::UpdateService { to, .. } => {
            rules.map(ServiceRules::service).is_some_and(|read| {
                read.persistence.is_some() == to.persistence.is_some()
                    && Service { persistence: to.persistence, ..*read } == to
            })
        }
        Change::RemoveService(_) => rules.is_none(),
        Change::AddDestination(_, to) | Change::UpdateDestination { to, .. } => {
            destination(to.key) == Some(to)
        }
        Change::DrainDestination(_, from) => destination(from.key) == Some(from.weight(0)),
        Change::RemoveDestination(_, from) => rules.is_some() && destination(from.key).is_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::Scheduler;
    use crate::reconcile::trouble::Trouble;
    use crate::ruleset::Policy;

    const SECOND: Duration = Duration::from_secs(1);

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin)
    }

    /// A destination of this weight.
    fn backend(weight: u32) -> Destination {
        Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 8080).weight(weight)
    }

    fn listing(rules: Ruleset) -> Listing {
        Listing { rules, ..Listing::default() }
    }

    /// A reconciler that knows these rules and is about to read the service.
    fn reading(purpose: Purpose, known: Ruleset, wanted: Ruleset) -> Reconciler {
        let mut reconciler = Reconciler::for_table(Policy::new());
        (reconciler.unread, reconciler.known, reconciler.wanted) = (false, known, wanted);
        (reconciler.purpose, reconciler.doubtful) = (purpose, [web().key].into());
        reconciler
    }

    #[test]
    fn what_is_read_back_other_than_wanted_is_read_a_second_time() {
        let [wanted, other] = [1, 2].map(|weight| Ruleset::of(web(), &[backend(weight)]));
        for (purpose, read, is_again) in [
            (Purpose::Verification, &other, true),
            (Purpose::Verification, &wanted, false),
            (Purpose::Doubt, &other, false),
        ] {
            let mut reconciler = reading(purpose, wanted.clone(), wanted.clone());
            reconciler.read(listing(read.clone()), SECOND);
            assert_eq!(reconciler.doubtful.contains(&web().key), is_again, "{purpose:?}");
            reconciler.read(listing(read.clone()), SECOND);
            assert!(reconciler.doubtful.is_empty(), "{purpose:?}");
            assert_eq!(reconciler.known.service(web().key), read.service(web().key));
        }
    }

    #[test]
    fn a_count_is_one_of_all_services_that_drain() {
        let drain = Drain::new(1, Some(9 * SECOND));
        let other = Service::tcp(Ipv4Addr::new(10, 0, 0, 2), 80).key;
        for (purpose, drains_another, is_count) in [
            (Purpose::Count, false, true),
            (Purpose::Count, true, false),
            (Purpose::Verification, false, false),
        ] {
            let known = Ruleset::of(web(), &[backend(0)]);
            let mut reconciler = reading(purpose, known.clone(), Ruleset::new());
            let drained = [(web().key, true), (other, drains_another)];
            let drained = drained.into_iter().filter(|(_, drains)| *drains);
            reconciler.resume(drained.map(|(service, _)| (service, backend(0).key, drain)));
            reconciler.read(listing(known), SECOND);
            assert_eq!(reconciler.counted, is_count.then_some(SECOND), "{purpose:?}");
        }
    }

    #[test]
    fn only_a_service_with_something_to_do_is_planned() {
        let wanted = Ruleset::of(web(), &[backend(1)]);
        for (read, is_unbound, is_dirty) in [
            (&wanted, false, false),
            (&wanted, true, true),
            (&Ruleset::of(web(), &[]), false, true),
        ] {
            let mut reconciler = reading(Purpose::Doubt, wanted.clone(), wanted.clone());
            reconciler.unbound.extend(is_unbound.then_some(web().key));
            reconciler.read(listing(read.clone()), SECOND);
            assert_eq!(reconciler.dirty.contains(&web().key), is_dirty, "{is_unbound}");
        }
    }

    #[test]
    fn an_addition_in_two_writes_is_made_once_the_second_is() {
        let (from, to) = (web().scheduler(Scheduler::Unbound), web());
        let unknown = vec![Change::AddService(from), Change::UpdateService { from, to }];
        for (read, made) in [(from, 1), (to, 2), (to.scheduler(Scheduler::SOURCE_HASH), 0)] {
            let mut reconciler = reading(Purpose::Doubt, Ruleset::new(), Ruleset::of(to, &[]));
            let trouble = Trouble { unknown: unknown.clone(), ..Trouble::default() };
            reconciler.troubles.insert(to.key, trouble);
            reconciler.read(listing(Ruleset::of(read, &[])), SECOND);
            assert_eq!(reconciler.take_found_made(), unknown[..made]);
        }
    }

    #[test]
    fn a_change_is_made_if_the_service_is_as_the_change_makes_it() {
        let key = web().key;
        let [low, high] = [0, 2].map(backend);
        let other = web().scheduler(Scheduler::SOURCE_HASH);
        let bare = Ruleset::of(web(), &[]);
        let persistent = |timeout| web().persistence(timeout * SECOND);
        for (change, made, not_made) in [
            (Change::AddService(persistent(60)), &Ruleset::of(persistent(90), &[]), &bare),
            (Change::AddService(web()), &bare, &Ruleset::of(other, &[])),
            (Change::UpdateService { from: other, to: web() }, &bare, &Ruleset::of(other, &[])),
            (Change::RemoveService(web()), &Ruleset::new(), &bare),
            (
                Change::AddDestination(key, high),
                &Ruleset::of(web(), &[high]),
                &Ruleset::of(web(), &[low]),
            ),
            (
                Change::UpdateDestination { service: key, from: low, to: high },
                &Ruleset::of(web(), &[high]),
                &Ruleset::of(web(), &[low]),
            ),
            (
                Change::DrainDestination(key, high),
                &Ruleset::of(web(), &[low]),
                &Ruleset::of(web(), &[high]),
            ),
            (Change::RemoveDestination(key, low), &bare, &Ruleset::of(web(), &[low])),
            (Change::RemoveDestination(key, low), &bare, &Ruleset::new()),
        ] {
            assert!(is_made(&change, made.service(key)), "{change}");
            assert!(!is_made(&change, not_made.service(key)), "{change}");
        }
    }

    /// Compares a reading; returns whether it shows the service, and the destination, to be other
    /// than written.
    fn compared(mut reconciler: Reconciler, read: &Ruleset) -> (bool, bool) {
        let key = web().key;
        reconciler.compare(key, read.service(key));
        let is_noted = |subject| reconciler.read_back.contains_key(&(key, subject));
        (is_noted(None), is_noted(Some(backend(1).key)))
    }

    /// The table before a plan, as wanted, and another one.
    fn tables() -> [Ruleset; 3] {
        let [before, wanted] = [1, 2].map(|weight| {
            let service = web().persistence(weight * 60 * SECOND);
            Ruleset::of(service, &[backend(weight)])
        });
        [before, wanted, Ruleset::of(web().scheduler(Scheduler::SOURCE_HASH), &[backend(3)])]
    }

    #[test]
    fn what_a_plan_wrote_was_not_kept_if_it_is_neither_as_wanted_nor_as_before() {
        let [before, wanted, other] = tables();
        let planned = || {
            let it = reading(Purpose::Verification, before.clone(), wanted.clone());
            Reconciler { mode: crate::reconcile::Mode { remembers: false, ..it.mode }, ..it }
        };
        assert_eq!(compared(planned(), &other), (true, true));
        assert_eq!(compared(planned(), &before), (false, false));
        assert_eq!(compared(planned(), &wanted), (false, false));
        // Another reading, and one after a failure, know only what was read before.
        let purpose = Purpose::Doubt;
        assert_eq!(compared(Reconciler { purpose, ..planned() }, &other), (false, false));
        let mut reconciler = planned();
        reconciler.troubles.insert(web().key, Trouble::default());
        assert_eq!(compared(reconciler, &other), (false, false));
    }

    #[test]
    fn what_a_syncer_knew_to_be_as_wanted_was_not_kept_if_it_is_not_so() {
        let [before, wanted, other] = tables();
        let knowing = |known: &Ruleset| reading(Purpose::Doubt, known.clone(), wanted.clone());
        assert_eq!(compared(knowing(&wanted), &other), (true, true));
        assert_eq!(compared(knowing(&before), &other), (false, false));
        assert_eq!(compared(knowing(&Ruleset::new()), &other), (false, false));
        // Drains and others set weights.
        let mut reconciler = knowing(&wanted);
        reconciler.resume([(web().key, backend(1).key, Drain::new(2, None))]);
        assert_eq!(compared(reconciler, &other), (true, false));
        let mut reconciler = knowing(&wanted);
        reconciler.policy = Arc::new(Policy::new().allowed(Allowed::all() - Allowed::WEIGHTS));
        assert_eq!(compared(reconciler, &other), (true, false));
    }
}
