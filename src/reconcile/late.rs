//! New services of `mh`, which get their scheduler after their destinations.
//!
//! The kernel makes the whole table of `mh`, 4,093 places, anew with every destination that is
//! added. A new service with several destinations is therefore added without its scheduler, and
//! gets it last, so that the table is made once. Such a service takes up to three changes instead
//! of one (adding it, updating it, and removing it if the scheduler is not available), and needs a
//! policy that allows all three. Reports and events tell these changes as they are made.

use super::Reconciler;
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

    /// Remembers a service that was added without its scheduler until it has one, or is removed
    /// since the scheduler is not available.
    pub(super) fn note_late_scheduler(&mut self, change: &Change) {
        let key = change.service();
        match change {
            Change::AddService(service) if self.is_to_be_bound(service) => {
                self.unbound.insert(key);
            }
            Change::AddService(_) => {
                self.refused_late.remove(&key);
            }
            Change::UpdateService { .. } => {
                self.unbound.remove(&key);
            }
            Change::RemoveService(_)
                if self.unbound.remove(&key) && self.wanted.service(key).is_some() =>
            {
                if let Some(trouble) = self.troubles.get_mut(&key) {
                    trouble.refusals.remove(&None);
                }
                self.refused_late.insert(key);
                self.dirty.insert(key);
            }
            _ => {}
        }
    }

    /// Forgets that a service is to get a scheduler if it is wanted without one by now.
    pub(super) fn keep_unbound(&mut self, key: ServiceKey) {
        if !self.unbound.contains(&key) {
            return;
        }
        let wanted = self.wanted.service(key).map(ServiceRules::service);
        if wanted.is_some_and(|wanted| wanted.scheduler == Scheduler::Unbound) {
            self.unbound.remove(&key);
        }
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
        if !self.unbound.contains(&key) {
            return None;
        }
        let service = self.known.service(key).map(|rules| *rules.service());
        let Some(service) = service.filter(|service| service.scheduler == Scheduler::Unbound)
        else {
            // Others have removed the service, or given it a scheduler.
            self.unbound.remove(&key);
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

/// An addition that was planned as one change, if these are the two writes of a new service with a
/// late scheduler.
pub(crate) fn joined(first: &Change, second: &Change) -> Option<Change> {
    match (first, second) {
        (Change::AddService(added), Change::UpdateService { from, to })
            if added == from && added.scheduler == Scheduler::Unbound =>
        {
            Some(Change::AddService(*to))
        }
        _ => None,
    }
}

pub(super) fn unbound(service: Service) -> Service {
    service.scheduler(Scheduler::Unbound)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::Destination;
    use crate::ruleset::{Policy, Ruleset};

    fn service(last: u8) -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, last), 80).scheduler(Scheduler::MAGLEV_HASH)
    }

    fn addition(service: Service, last: u8) -> Change {
        let destination = Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080);
        Change::AddDestination(service.key, destination)
    }

    #[test]
    fn losses_come_after_all_late_schedulers() {
        let of =
            |service| [Change::AddService(service), addition(service, 1), addition(service, 2)];
        let gains: Vec<Change> = (1..=3).map(service).flat_map(of).collect();
        let (losses, loss) = (gains.len(), Change::RemoveService(service(9)));
        let reconciler = Reconciler::for_table(Policy::new());
        let (with, losses) = reconciler.with_late_schedulers([gains, vec![loss]].concat(), losses);
        assert_eq!((with.len(), losses, with[losses]), (13, 12, loss));
    }

    #[test]
    fn a_service_that_has_its_scheduler_is_done_with() {
        let mut wanted = Ruleset::new();
        wanted.insert_service(service(1)).unwrap();
        let mut reconciler = Reconciler::for_table(Policy::new());
        reconciler.want_all(wanted);
        let (from, to) = (unbound(service(1)), service(1));
        reconciler.note_late_scheduler(&Change::AddService(from));
        assert!(reconciler.unbound.contains(&to.key));
        // It is wanted anew, but with a scheduler.
        reconciler.keep_unbound(to.key);
        assert!(reconciler.unbound.contains(&to.key));
        reconciler.note_late_scheduler(&Change::UpdateService { from, to });
        assert!(reconciler.unbound.is_empty());
    }

    #[test]
    fn only_the_two_writes_of_one_service_are_one_addition() {
        let (from, to) = (unbound(service(1)), service(1));
        let update = Change::UpdateService { from, to };
        assert_eq!(joined(&Change::AddService(from), &update), Some(Change::AddService(to)));
        let other = from.one_packet(true);
        assert_eq!(joined(&Change::AddService(other), &update), None);
        let update = Change::UpdateService { from: to, to: other };
        assert_eq!(joined(&Change::AddService(to), &update), None);
    }
}
