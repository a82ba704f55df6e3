//! New services of `mh`, which get their scheduler after their destinations.
//!
//! The kernel makes the whole table of `mh`, 4,093 places, anew with every destination that is
//! added. A new service with several destinations is therefore added without its scheduler, and
//! gets it last, so that the table is made once. Such a service takes up to three changes instead
//! of one (adding it, updating it, and removing it if the scheduler is not available), and needs a
//! policy that allows all three.

use std::borrow::Cow;

use super::Reconciler;
use super::tally::{Additions, DrainEnd};
use crate::model::{Scheduler, Service, ServiceKey};
use crate::ruleset::past::Failure;
use crate::ruleset::{Allowed, Change, ServiceRules};

const NEEDED: Allowed =
    Allowed::ADD_SERVICES.union(Allowed::UPDATE_SERVICES).union(Allowed::REMOVE_SERVICES);

impl Reconciler {
    /// The same changes, in which new services get their scheduler last where that pays.
    pub(super) fn with_late_schedulers(
        &self,
        changes: Vec<Change>,
        losses: usize,
    ) -> (Vec<Change>, usize) {
        let is_late = |index: usize| {
            let Change::AddService(service) = changes[index] else { return None };
            let adds = |change: &&Change| matches!(change, Change::AddDestination(key, _) if *key == service.key);
            let pays = matches!(service.scheduler, Scheduler::MaglevHash(_))
                && changes[index + 1..].iter().take(2).filter(adds).count() == 2
                && !self.troubles.contains_key(&service.key)
                && !self.refused_late.contains(&service.key);
            pays.then_some(service)
        };
        if !self.policy.allowed.contains(NEEDED)
            || !(0..losses).any(|index| is_late(index).is_some())
        {
            return (changes, losses);
        }
        let mut with = Vec::with_capacity(changes.len());
        let mut late: Option<Service> = None;
        let bind = |with: &mut Vec<Change>, late: &mut Option<Service>| {
            if let Some(to) = late.take() {
                with.push(Change::UpdateService { from: unbound(to), to });
            }
        };
        for (index, change) in changes.iter().enumerate() {
            let is_its = late.is_some_and(
                |service| matches!(change, Change::AddDestination(key, _) if *key == service.key),
            );
            if !is_its {
                bind(&mut with, &mut late);
            }
            match is_late(index) {
                Some(service) => {
                    with.push(Change::AddService(unbound(service)));
                    late = Some(service);
                }
                None => with.push(*change),
            }
        }
        bind(&mut with, &mut late);
        let added = with.len() - changes.len();
        (with, losses + added)
    }

    /// Counts the two writes of a new service with a late scheduler as one change, in the place of
    /// the first, once the service has its scheduler. Tells whether the change was such a write,
    /// which the caller must not count.
    pub(super) fn is_step_of_late_scheduler(&mut self, change: &Change) -> bool {
        let key = change.service();
        match change {
            Change::AddService(service) if self.is_to_be_bound(service) => {
                let additions = Additions { place: self.tally.made.len(), destinations: 0 };
                self.unbound.insert(key, Some(additions));
                if self.policy.detailed
                    && let Some(wanted) = self.wanted.service(key)
                {
                    self.tally.made.push(Change::AddService(*wanted.service()));
                }
                true
            }
            _ if self.unbound.is_empty() => false,
            Change::AddDestination(..) => {
                if let Some(Some(additions)) = self.unbound.get_mut(&key) {
                    additions.destinations += 1;
                }
                false
            }
            Change::UpdateService { to, .. } => {
                let Some(additions) = self.unbound.remove(&key) else { return false };
                self.tally.changed += 1;
                if additions.is_none() && self.policy.detailed {
                    self.tally.made.push(Change::AddService(*to));
                }
                true
            }
            Change::RemoveService(_) => {
                let Some(additions) = self.unbound.remove(&key) else { return false };
                self.end_drains(key, DrainEnd::of);
                if self.wanted.service(key).is_none() {
                    self.was_never_bound(additions);
                    return false;
                }
                if let Some(trouble) = self.troubles.get_mut(&key) {
                    trouble.refusals.remove(&None);
                }
                self.refused_late.insert(key);
                self.dirty.insert(key);
                let Some(Additions { destinations, .. }) = additions else { return false };
                self.tally.changed = self.tally.changed.saturating_sub(destinations);
                self.unmade.insert(key, self.tally.made.len());
                true
            }
            _ => false,
        }
    }

    /// Takes the addition of a service that did not get its scheduler out of the changes that were
    /// made.
    pub(super) fn was_never_bound(&mut self, additions: Option<Additions>) {
        if self.policy.detailed {
            self.unbound_places.extend(additions.map(|additions| additions.place));
        }
    }

    /// The planned change that a written change completes. Adding a service without its late
    /// scheduler completes none; setting the scheduler completes the addition.
    pub(crate) fn as_planned<'a>(&self, change: &'a Change) -> Option<Cow<'a, Change>> {
        match change {
            Change::AddService(service) if self.is_to_be_bound(service) => None,
            Change::UpdateService { from, to }
                if from.scheduler == Scheduler::Unbound && self.is_being_bound(from.key) =>
            {
                Some(Cow::Owned(Change::AddService(*to)))
            }
            other => Some(Cow::Borrowed(other)),
        }
    }

    fn is_being_bound(&self, key: ServiceKey) -> bool {
        self.unbound.contains_key(&key) || self.known.service(key).is_none()
    }

    fn is_to_be_bound(&self, service: &Service) -> bool {
        let wanted = || self.wanted.service(service.key).map(ServiceRules::service);
        service.scheduler == Scheduler::Unbound
            && wanted().is_some_and(|wanted| wanted.scheduler != Scheduler::Unbound)
    }

    /// The removal of a service that could not get its late scheduler, so that no service is left
    /// half made. The service is then planned anew and added with its scheduler, and the error of
    /// that addition is reported.
    pub(super) fn removal_of_half_made(&mut self, key: ServiceKey) -> Option<Change> {
        self.unbound.get(&key)?;
        let service = self.known.service(key).map(|rules| *rules.service());
        let Some(service) = service.filter(|service| service.scheduler == Scheduler::Unbound)
        else {
            // Others have removed the service, or given it a scheduler.
            let additions = self.unbound.remove(&key)?;
            self.was_never_bound(additions);
            return None;
        };
        let refusal = self.troubles.get(&key)?.refusals.get(&None)?;
        if refusal.failure != Failure::Refused {
            return None;
        }
        self.failed.remove(&key);
        Some(Change::RemoveService(service))
    }
}

fn unbound(service: Service) -> Service {
    service.scheduler(Scheduler::Unbound)
}
