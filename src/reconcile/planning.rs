//! Planning the services that may differ from the wanted ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Guard, ROUNDS, Reconciler};
use crate::model::{DestinationKey, ServiceKey};
use crate::ruleset::past::{Failure, Past};
use crate::ruleset::planner::{Planned, Planner};
use crate::ruleset::{Allowed, Change, Excess, Lost, add_losses};

impl Reconciler {
    /// Plans changes of the services that may differ from the wanted ones.
    pub(super) fn plan(&mut self, now: Duration) {
        let keys = std::mem::take(&mut self.dirty);
        for queue in &mut self.queues {
            queue.deferred.retain(|change| !keys.contains(&change.service()));
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
            };
            let (known, wanted) = (self.known.service(*key), self.wanted.service(*key));
            if past.drains.is_none() && trouble.is_none() && !self.withheld.contains(key) {
                plain.service(*key, known, wanted, past);
                continue;
            }
            let mut planner = new();
            planner.service(*key, known, wanted, past);
            others.push((*key, planner.finish()));
        }
        let mut plain = plain.finish();
        for key in &keys {
            self.left.remove(key);
            self.failed.remove(key);
        }
        self.said = None;
        if self.takes_too_much(&plain, &others) {
            self.withheld.extend(&keys);
            (plain.changes, plain.losses, plain.deferred) = (Vec::new(), 0, 0);
            (plain.left, plain.failed) = (Vec::new(), Vec::new());
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

    /// Whether the planned changes take away more than the policy allows in one pass.
    fn takes_too_much(&mut self, plain: &Planned, others: &[(ServiceKey, Planned)]) -> bool {
        if self.guard == Guard::Confirmed {
            self.guard = Guard::Down;
        }
        if self.policy.at_most.is_none() || self.guard == Guard::Down {
            return false;
        }
        let mut lost = Lost::new();
        add_losses(&mut lost, &plain.changes, &self.known);
        for (_, planned) in others {
            add_losses(&mut lost, &planned.changes, &self.known);
        }
        lost.retain(|(service, destination)| !self.was_counted(service, *destination));
        if lost.is_subset(&self.lost) {
            return false;
        }
        lost.extend(&self.lost);
        if Excess::find(&self.policy, &self.known, &lost).is_none() {
            self.lost = lost;
            return false;
        }
        self.withheld_losses.append(&mut lost);
        self.excess = Excess::find(&self.policy, &self.known, &self.withheld_losses);
        true
    }

    /// Whether a loss was counted when its drain began. The loss of a service was counted if all of
    /// its destinations had begun to drain.
    fn was_counted(&self, service: &ServiceKey, destination: Option<DestinationKey>) -> bool {
        let Some(drains) = self.drains.get(service) else { return false };
        let drains =
            |key: &DestinationKey| drains.get(key).is_some_and(|drain| drain.deadline.is_some());
        match destination {
            Some(key) => drains(&key),
            None => self.known.service(*service).is_some_and(|known| {
                let mut keys = known.destinations().map(|destination| &destination.key).peekable();
                keys.peek().is_some() && keys.all(drains)
            }),
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
            (planned.left, planned.failed) = (Vec::new(), Vec::new());
            self.keep_what_drains(key, &mut planned);
        }
        self.keep_before(&planned.changes);
        self.keep_remarks(&mut planned);
        self.keep_drains(key, &planned.changes[..planned.deferred]);
        if let Some(removal) = self.removal_of_half_made(key) {
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
            let failed = self.failed.entry(key).or_default();
            failed.extend(changes.iter().map(
                |change| match trouble.last.get(&change.destination()) {
                    None | Some((_, Failure::Conflict)) => (*change, Failure::Overruled),
                    Some((_, failure)) => (*change, *failure),
                },
            ));
            self.suspend_drains(key, changes);
            if !self.is_draining(key) {
                let deferred = deferred.iter().filter(|change| change.destination().is_none());
                let failed = self.failed.entry(key).or_default();
                failed.extend(deferred.map(|change| (*change, Failure::Overruled)));
            }
            return Planned::default();
        }
        if !is_something && !self.failed.contains_key(&key) {
            self.troubles.remove(&key);
        }
        planned
    }

    /// Keeps nothing of a withheld service's planned changes but the drains that have begun.
    fn keep_what_drains(&self, key: ServiceKey, planned: &mut Planned) {
        planned.changes.clear();
        let known = self.known.service(key);
        let drains = self.drains.get(&key).into_iter().flatten();
        for (destination, drain) in drains.filter(|(_, drain)| drain.deadline.is_some()) {
            let Some(known) = known.and_then(|rules| rules.destination(*destination)) else {
                continue;
            };
            let may_remove = self.policy.allowed.contains(Allowed::REMOVE_DESTINATIONS);
            planned.changes.push(if known.weight == 0 && drain.is_over(0) && may_remove {
                Change::RemoveDestination(key, *known)
            } else {
                Change::DrainDestination(key, *known)
            });
        }
        (planned.losses, planned.deferred) = (0, planned.changes.len());
    }

    /// Records the differences that the planner leaves, and the changes that it does not try again.
    fn keep_remarks(&mut self, planned: &mut Planned) {
        for left in std::mem::take(&mut planned.left) {
            self.left.entry(left.service).or_default().push(left);
        }
        for (change, failure) in std::mem::take(&mut planned.failed) {
            self.failed.entry(change.service()).or_default().push((change, failure));
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
