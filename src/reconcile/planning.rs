//! Planning the services that may differ from the wanted ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Guard, ROUNDS, Reconciler, Subject};
use crate::model::{Destination, ServiceKey};
use crate::ruleset::past::{Failure, Past};
use crate::ruleset::planner::{Planned, Planner, takes_apart};
use crate::ruleset::{Change, Difference, Excess, Lost, Reason, Ruleset, add_losses};

impl Reconciler {
    /// Plans changes of the services that may differ from the wanted ones.
    pub(super) fn plan(&mut self, now: Duration) {
        let keys = std::mem::take(&mut self.dirty);
        for queue in &mut self.queues {
            queue.drop_all(&keys);
        }
        let policy = Arc::clone(&self.policy);
        let new = || Planner::new(&policy).all_known(self.mode.all_known);
        let mut plain = new();
        // Services with a past are planned one by one.
        let mut others = Vec::new();
        for key in &keys {
            let trouble = self.troubles.get(key);
            let past = Past {
                drains: self.drains.get(key),
                refusals: trouble.map(|trouble| &trouble.refusals),
                owed: self.owed.get(key),
            };
            let (known, wanted) = (self.known.service(*key), self.wanted.service(*key));
            let is_plain = past.drains.is_none() && trouble.is_none() && past.owed.is_none();
            if is_plain && !self.withheld.contains(key) && !self.unbound.contains(key) {
                plain.service(*key, known, wanted, past);
                continue;
            }
            let mut planner = new();
            planner.service(*key, known, wanted, past);
            others.push((*key, planner.finish()));
        }
        let mut plain = plain.finish();
        for key in &keys {
            if self.left.remove(key).is_some() {
                self.said = None;
            }
            self.failed.remove(key);
        }
        if self.takes_too_much(&plain, &others) {
            self.withheld.extend(&keys);
            (plain.changes, plain.losses, plain.deferred) = (Vec::new(), 0, 0);
            plain.left.retain(|left| left.why != Reason::HeldBack);
        }
        self.keep_before(&plain.changes);
        self.keep_remarks(&mut plain);
        let Planned { mut changes, mut losses, deferred, .. } = plain;
        let mut deferred = changes.split_off(deferred);
        let (mut more_gains, mut more_losses) = (Vec::new(), Vec::new());
        let mut is_another_round = false;
        for (key, planned) in others {
            let mut planned = self.with_past(key, planned, &mut is_another_round);
            deferred.extend(planned.changes.drain(planned.deferred..));
            more_losses.extend(planned.changes.drain(planned.losses..));
            more_gains.append(&mut planned.changes);
        }
        self.tally.rounds += usize::from(is_another_round);
        if !more_gains.is_empty() {
            let added = more_gains.len();
            changes.splice(losses..losses, more_gains);
            losses += added;
        }
        changes.append(&mut more_losses);
        self.enqueue(changes, losses, deferred, now);
    }

    /// Has the withheld services planned anew: the table may be another since they were withheld.
    pub(super) fn release_withheld(&mut self) {
        self.dirty.append(&mut self.withheld);
        self.withheld_losses.clear();
        self.excess = None;
    }

    /// Whether the planned changes take away more than the policy allows in one pass.
    fn takes_too_much(&mut self, plain: &Planned, others: &[(ServiceKey, Planned)]) -> bool {
        if self.guard == Guard::Confirmed {
            self.guard = Guard::Down;
        }
        if self.policy.at_most.is_none() {
            return false;
        }
        let mut lost = Lost::new();
        add_losses(&mut lost, &plain.changes, &self.known);
        for (_, planned) in others {
            add_losses(&mut lost, &planned.changes, &self.known);
        }
        lost.retain(|subject| !self.is_going(subject) && !self.confirmed.contains(subject));
        if self.guard == Guard::Down {
            self.confirmed.append(&mut lost);
            return false;
        }
        if lost.is_subset(&self.lost) {
            return false;
        }
        lost.extend(&self.lost);
        let going = self.going();
        if Excess::find(&self.policy, &self.known, &lost, &going).is_none() {
            self.lost = lost;
            return false;
        }
        self.withheld_losses.append(&mut lost);
        self.excess = Excess::find(&self.policy, &self.known, &self.withheld_losses, &going);
        true
    }

    /// Forgets the confirmed losses that were made and those that are wanted again.
    pub(super) fn keep_confirmed(&mut self) {
        let Self { confirmed, known, wanted, .. } = self;
        let is_in = |rules: &Ruleset, (service, destination): &Subject| {
            let rules = rules.service(*service);
            rules.is_some_and(|rules| destination.is_none_or(|it| rules.destination(it).is_some()))
        };
        confirmed.retain(|subject| is_in(known, subject) && !is_in(wanted, subject));
    }

    /// The services and destinations that are going.
    fn going(&self) -> Lost {
        let subjects = self.drains.iter().flat_map(|(service, drains)| {
            let subjects = drains.keys().map(|key| Some(*key)).chain([None]);
            subjects.map(|subject| (*service, subject))
        });
        subjects.filter(|subject| self.is_going(subject)).collect()
    }

    /// Whether an unwanted destination drains and takes no new connections: the share was asked for
    /// its loss when the drain began. An unwanted service is going if all of its destinations are.
    fn is_going(&self, (service, destination): &Subject) -> bool {
        let Some(drains) = self.drains.get(service) else { return false };
        let Some(known) = self.known.service(*service) else { return false };
        let wanted = self.wanted.service(*service);
        let is_going = |destination: &Destination| {
            let drain = drains.get(&destination.key);
            let is_wanted = wanted.is_some_and(|it| it.destination(destination.key).is_some());
            let drains = drain.is_some_and(|drain| drain.deadline.is_some());
            drains && destination.weight == 0 && !is_wanted
        };
        match destination {
            Some(key) => known.destination(*key).is_some_and(is_going),
            None => {
                let mut destinations = known.destinations();
                wanted.is_none() && destinations.len() > 0 && destinations.all(is_going)
            }
        }
    }

    /// The planned changes of a service with a past that are to be made now.
    fn with_past(
        &mut self,
        key: ServiceKey,
        mut planned: Planned,
        is_another_round: &mut bool,
    ) -> Planned {
        if self.withheld.contains(&key) {
            self.withhold(key, &mut planned);
        }
        self.keep_before(&planned.changes);
        self.keep_remarks(&mut planned);
        self.keep_drains(key, &planned.changes[..planned.deferred]);
        if !self.withheld.contains(&key)
            && let Some(removal) = self.removal_of_half_made(key)
        {
            (planned.changes, planned.losses, planned.deferred) = (vec![removal], 0, 1);
        }
        let (changes, deferred) = planned.changes.split_at(planned.deferred);
        let is_something = changes.iter().any(|change| !change.is_noop());
        let Some(trouble) = self.troubles.get_mut(&key) else { return planned };
        let is_fresh = std::mem::take(&mut trouble.is_fresh);
        if is_fresh && is_something {
            trouble.rounds += 1;
            *is_another_round |= trouble.rounds <= ROUNDS;
        }
        if trouble.rounds > ROUNDS && is_something {
            let why = |change: &Change| match trouble.last.get(&change.destination()) {
                None | Some((_, Failure::Conflict)) => Failure::Overruled,
                Some((_, failure)) => *failure,
            };
            let failed: Vec<_> = changes.iter().map(|change| (*change, why(change))).collect();
            self.note_failed(key, failed);
            self.suspend_drains(key, changes);
            let deferred = deferred.iter().filter(|change| change.destination().is_none());
            self.note_failed(key, deferred.map(|change| (*change, Failure::Overruled)));
            return Planned::default();
        }
        if !is_something && !self.failed.contains_key(&key) {
            self.troubles.remove(&key);
        }
        planned
    }

    /// Of a withheld service's planned changes, keeps those that end its drains: the removal of what
    /// is going, and the return of a weight that a drain took.
    fn withhold(&self, key: ServiceKey, planned: &mut Planned) {
        let drain = |it: &Destination| self.drains.get(&key)?.get(&it.key);
        let is_over = |it: &Destination| drain(it).is_some_and(|drain| drain.is_over(0));
        let service_goes = self.is_going(&(key, None));
        let both = self.known.service(key).zip(self.wanted.service(key));
        let other_serves = both.is_some_and(|(known, wanted)| {
            known.service().scheduler == wanted.service().scheduler
                && known.destinations().any(|it| it.weight > 0)
        });
        let kept = |change: Change| match change {
            // It would have gone with its service.
            Change::DrainDestination(_, it) if it.weight == 0 && is_over(&it) && !service_goes => {
                takes_apart(&self.policy).then_some(Change::RemoveDestination(key, it))
            }
            // The other destination, or the scheduler, for which it would go at once is withheld.
            Change::RemoveDestination(_, it) if !is_over(&it) && !other_serves => {
                self.is_going(&(key, Some(it.key))).then_some(Change::DrainDestination(key, it))
            }
            Change::DrainDestination(_, it) | Change::RemoveDestination(_, it) => {
                self.is_going(&(key, Some(it.key))).then_some(change)
            }
            Change::RemoveService(_) => service_goes.then_some(change),
            Change::UpdateDestination { service, from, to } => {
                let raised = from.weight(to.weight);
                (drain(&to).is_some() && from.weight == 0 && to.weight > 0)
                    .then_some(Change::UpdateDestination { service, from, to: raised })
            }
            _ => None,
        };
        let (losses, deferred) = (planned.losses, planned.deferred);
        (planned.losses, planned.deferred) = (0, 0);
        let changes = std::mem::take(&mut planned.changes);
        for (index, change) in changes.into_iter().enumerate() {
            let Some(change) = kept(change) else { continue };
            planned.changes.push(change);
            planned.losses += usize::from(index < losses);
            planned.deferred += usize::from(index < deferred);
        }
        planned.left.retain(|left| left.why != Reason::HeldBack);
    }

    /// Records the differences that the planner leaves, and the changes that it does not try again.
    fn keep_remarks(&mut self, planned: &mut Planned) {
        for left in std::mem::take(&mut planned.left) {
            self.said = None;
            self.left.entry(left.service).or_default().push(left);
        }
        for (change, failure) in std::mem::take(&mut planned.failed) {
            self.note_failed(change.service(), [(change, failure)]);
        }
    }

    /// Records changes of a service that have failed. If one of them is of the service itself, its
    /// configuration is not left as well.
    pub(super) fn note_failed(
        &mut self,
        key: ServiceKey,
        failed: impl IntoIterator<Item = (Change, Failure)>,
    ) {
        let all = self.failed.entry(key).or_default();
        all.extend(failed);
        let is_update = |(change, _): &(Change, _)| matches!(change, Change::UpdateService { .. });
        if let Some(left) = self.left.get_mut(&key).filter(|_| all.iter().any(is_update)) {
            left.retain(|left| left.what != Difference::Service);
            self.said = None;
        }
    }

    /// Records services as they are before they change, if the policy asks for details.
    fn keep_before(&mut self, changes: &[Change]) {
        if !self.policy.detailed {
            return;
        }
        let keys: BTreeSet<_> = changes.iter().map(Change::service).collect();
        for key in keys {
            if self.tally.touched.insert(key) {
                self.tally.before.replace(key, self.known.share(key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{Scheduler, Service};
    use crate::reconcile::Step;
    use crate::ruleset::past::{Count, Drain};
    use crate::ruleset::{Allowed, ConnectionCounts, Left, Policy};

    const DEADLINE: Duration = Duration::from_secs(9);

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin)
    }

    /// A destination of this weight.
    fn backend(last: u8, weight: u32) -> Destination {
        Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080).weight(weight)
    }

    fn rules(destinations: &[Destination]) -> Ruleset {
        Ruleset::of(web(), destinations)
    }

    /// A drain of weight 2, whose destination was found idle, or past the deadline.
    fn drain(is_idle: bool, is_overdue: bool) -> Drain {
        let connections = ConnectionCounts::default();
        let counted = Some(Count { connections, is_idle, is_overdue });
        Drain { counted, ..Drain::new(2, Some(DEADLINE)) }
    }

    /// A reconciler that has read these rules, and drains some of their destinations.
    fn reconciler(known: &[Destination], wanted: Ruleset, drains: &[(u8, Drain)]) -> Reconciler {
        let mut reconciler = Reconciler::for_table(Policy::new());
        (reconciler.unread, reconciler.known) = (false, rules(known));
        reconciler.want_all(wanted);
        let drains = drains.iter().map(|(last, drain)| (web().key, backend(*last, 0).key, *drain));
        reconciler.resume(drains);
        reconciler
    }

    fn update(from: Destination, to: Destination) -> Change {
        Change::UpdateDestination { service: web().key, from, to }
    }

    #[test]
    fn an_unwanted_service_is_going_once_all_of_its_destinations_are() {
        let [low, also_low] = [1, 2].map(|last| backend(last, 0));
        let drains = [1, 2].map(|last| (last, drain(false, false)));
        for (known, wanted, is_going) in [
            (&[low, also_low][..], Ruleset::new(), true),
            (&[low, backend(2, 1)], Ruleset::new(), false),
            (&[low, backend(3, 0)], Ruleset::new(), false),
            (&[], Ruleset::new(), false),
            (&[low, also_low], rules(&[]), false),
        ] {
            let reconciler = reconciler(known, wanted.clone(), &drains);
            assert_eq!(reconciler.is_going(&(web().key, None)), is_going, "{known:?} {wanted:?}");
        }
    }

    #[test]
    fn only_the_drains_of_a_withheld_service_go_on() {
        let key = web().key;
        let [idle, busy, raised] = [backend(1, 0), backend(2, 0), backend(3, 1)];
        let drains = [(1, drain(true, false)), (2, drain(false, false)), (3, drain(false, true))];
        let (addition, removal) = (Change::AddDestination(key, backend(9, 1)), web());
        let idle_goes = Change::RemoveDestination(key, idle);
        let (drain_idle, drain_busy) =
            (Change::DrainDestination(key, idle), Change::DrainDestination(key, busy));
        let others_stay: &[Destination] = &[idle, busy, raised, backend(4, 1)];
        let all_go: &[Destination] = &[idle, busy];
        for (known, change, kept) in [
            (others_stay, drain_idle, Some(idle_goes)),
            (others_stay, drain_busy, Some(drain_busy)),
            (others_stay, Change::DrainDestination(key, raised), None),
            (others_stay, Change::DrainDestination(key, backend(4, 1)), None),
            (others_stay, idle_goes, Some(idle_goes)),
            (others_stay, Change::RemoveDestination(key, busy), Some(drain_busy)),
            (others_stay, Change::RemoveDestination(key, raised), None),
            (others_stay, Change::RemoveDestination(key, backend(4, 1)), None),
            (others_stay, Change::RemoveService(removal), None),
            (others_stay, update(busy, backend(2, 2)), Some(update(busy, backend(2, 2)))),
            (
                others_stay,
                update(busy, backend(2, 2).thresholds(9, 0)),
                Some(update(busy, backend(2, 2))),
            ),
            (others_stay, update(busy, busy.thresholds(9, 0)), None),
            (others_stay, update(raised, backend(3, 2)), None),
            (others_stay, update(backend(4, 0), backend(4, 2)), None),
            (others_stay, addition, None),
            (all_go, drain_idle, Some(drain_idle)),
            (all_go, Change::RemoveService(removal), Some(Change::RemoveService(removal))),
        ] {
            let reconciler = reconciler(known, Ruleset::new(), &drains);
            let mut planned = Planned { changes: vec![change], ..Planned::default() };
            reconciler.withhold(key, &mut planned);
            assert_eq!(planned.changes, Vec::from_iter(kept), "{known:?} {change}");
        }
        let mut reconciler = reconciler(others_stay, Ruleset::new(), &drains);
        let allowed = Allowed::all() - Allowed::REMOVE_DESTINATIONS;
        reconciler.policy = Arc::new(Policy::new().allowed(allowed));
        let mut planned = Planned { changes: vec![drain_idle], ..Planned::default() };
        reconciler.withhold(key, &mut planned);
        assert!(planned.changes.is_empty());
    }

    #[test]
    fn what_is_kept_of_a_withheld_service_keeps_its_part_of_the_plan() {
        let key = web().key;
        let [idle, busy] = [backend(1, 0), backend(2, 0)];
        let drains = [(1, drain(true, false)), (2, drain(false, false))];
        let reconciler = reconciler(&[idle, busy], Ruleset::new(), &drains);
        let (raise, service) = (update(busy, backend(2, 2)), Change::RemoveService(web()));
        let gone = Change::AddDestination(key, backend(9, 1));
        let drain = Change::DrainDestination(key, busy);
        let [held_back, other] = [Reason::HeldBack, Reason::OutOfScope].map(|why| Left {
            service: key,
            what: Difference::Service,
            why,
        });
        let mut planned = Planned {
            changes: vec![gone, raise, raise, drain, drain, drain, service],
            losses: 3,
            deferred: 6,
            left: vec![held_back, other],
            failed: Vec::new(),
        };
        reconciler.withhold(key, &mut planned);
        assert_eq!(planned.changes, [raise, raise, drain, drain, drain, service]);
        assert_eq!((planned.losses, planned.deferred), (2, 5));
        assert_eq!(planned.left, [other]);
    }

    #[test]
    fn a_withheld_service_without_a_drain_gets_nothing_either() {
        let (known, wanted) = ([backend(1, 1)], rules(&[backend(1, 1), backend(2, 1)]));
        for is_withheld in [false, true] {
            let mut reconciler = reconciler(&known, wanted.clone(), &[]);
            reconciler.withheld.extend(is_withheld.then_some(web().key));
            let step = if is_withheld { Step::Settled } else { Step::Write };
            assert_eq!(reconciler.next(Duration::ZERO), step);
        }
    }

    #[test]
    fn a_new_service_to_which_others_gave_a_scheduler_waits_for_none() {
        let mut reconciler = reconciler(&[], rules(&[backend(1, 1)]), &[]);
        reconciler.unbound.insert(web().key);
        assert_eq!(reconciler.next(Duration::ZERO), Step::Write);
        assert!(reconciler.unbound.is_empty());
    }

    #[test]
    fn a_confirmed_loss_is_confirmed_until_it_is_made_or_wanted_again() {
        let (there, gone) = (backend(1, 1), backend(2, 1));
        for (known, wanted, kept) in [
            (&[there][..], Ruleset::new(), &[None, Some(there.key)][..]),
            (&[there], rules(&[]), &[Some(there.key)]),
            (&[there], rules(&[there]), &[]),
            (&[], Ruleset::new(), &[None]),
        ] {
            let mut reconciler = reconciler(known, wanted, &[]);
            let confirmed = [None, Some(there.key), Some(gone.key)];
            reconciler.confirmed.extend(confirmed.map(|subject| (web().key, subject)));
            reconciler.begin();
            let kept: Lost = kept.iter().map(|subject| (web().key, *subject)).collect();
            assert_eq!(reconciler.confirmed, kept);
        }
    }
}
