//! New services under a policy that does not allow adding destinations: they get those with which
//! they were wanted, and no more.
//!
//! The destinations follow in a send of their own once the kernel has acknowledged the service. Until
//! they are there they are owed, whatever fails meanwhile.

use super::Reconciler;
use crate::model::{DestinationKey, ServiceKey};
use crate::ruleset::past::Owed;
use crate::ruleset::{Allowed, Change, ServiceRules};

impl Reconciler {
    /// Remembers the destinations of a new service until they are added, if the policy allows adding
    /// them only with the service.
    pub(super) fn note_owed(&mut self, change: &Change) {
        if self.policy.allowed.contains(Allowed::ADD_DESTINATIONS) {
            return;
        }
        let key = change.service();
        match *change {
            Change::AddService(service) => {
                let wanted = self.wanted.service(key).into_iter();
                let destinations = wanted.flat_map(ServiceRules::destinations).map(|it| it.key);
                let owed = Owed { service, was_read: false, destinations: destinations.collect() };
                self.owed.insert(key, owed);
                self.retain_owed(key, |_| true);
            }
            Change::UpdateService { to, .. } => {
                if let Some(owed) = self.owed.get_mut(&key) {
                    (owed.service, owed.was_read) = (to, false);
                }
            }
            Change::AddDestination(_, destination) => {
                self.retain_owed(key, |it| *it != destination.key);
            }
            Change::RemoveService(_) => drop(self.owed.remove(&key)),
            _ => {}
        }
    }

    /// Takes the service as ours, however it is read next: a change of it may have been made.
    pub(super) fn note_owed_unknown(&mut self, change: &Change) {
        if let (Change::UpdateService { .. }, Some(owed)) =
            (change, self.owed.get_mut(&change.service()))
        {
            owed.was_read = false;
        }
    }

    /// Forgets the destinations of a new service that are there by now; and all if the service is
    /// gone, or was changed by others and may be another one.
    pub(super) fn keep_owed(&mut self, key: ServiceKey) {
        let Some(owed) = self.owed.get_mut(&key) else { return };
        let known = self.known.share(key);
        let service = known.as_ref().map(|known| *known.service());
        let is_ours = service.is_some_and(|service| !owed.was_read || service == owed.service);
        (owed.service, owed.was_read) = (service.unwrap_or(owed.service), true);
        self.retain_owed(key, |it| {
            is_ours && known.as_ref().is_some_and(|known| known.destination(*it).is_none())
        });
    }

    /// Forgets the destinations of a new service that are not wanted any more.
    pub(super) fn keep_owed_wanted(&mut self, key: ServiceKey) {
        if !self.owed.contains_key(&key) {
            return;
        }
        let wanted = self.wanted.share(key);
        self.retain_owed(key, |it| {
            wanted.as_ref().is_some_and(|wanted| wanted.destination(*it).is_some())
        });
    }

    fn retain_owed(&mut self, key: ServiceKey, is_owed: impl Fn(&DestinationKey) -> bool) {
        let Some(Owed { destinations, .. }) = self.owed.get_mut(&key) else { return };
        destinations.retain(is_owed);
        if destinations.is_empty() {
            self.owed.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{Destination, Scheduler, Service};
    use crate::ruleset::{Policy, Ruleset};

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::MAGLEV_HASH)
    }

    fn backend() -> Destination {
        Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 8080)
    }

    /// The service with this scheduler, and with the destination or without it.
    fn rules(scheduler: Scheduler, has_destination: bool) -> Ruleset {
        let mut rules = Ruleset::new();
        rules.insert_service(web().scheduler(scheduler)).unwrap();
        if has_destination {
            rules.insert_destination(web().key, backend()).unwrap();
        }
        rules
    }

    /// A reconciler that has added the service.
    fn owing() -> Reconciler {
        let policy = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS);
        let mut reconciler = Reconciler::for_table(policy);
        reconciler.wanted = rules(Scheduler::MAGLEV_HASH, true);
        reconciler.note_owed(&Change::AddService(web()));
        assert!(reconciler.owed.contains_key(&web().key));
        reconciler
    }

    #[test]
    fn what_is_added_or_removed_is_not_owed() {
        let addition = Change::AddDestination(web().key, backend());
        for change in [addition, Change::RemoveService(web())] {
            let mut reconciler = owing();
            reconciler.note_owed(&change);
            assert!(reconciler.owed.is_empty(), "{change}");
        }
    }

    #[test]
    fn a_service_is_owed_its_destinations_until_others_change_it() {
        let (ours, late) = (Scheduler::MAGLEV_HASH, Scheduler::Unbound);
        let update = Change::UpdateService { from: web().scheduler(late), to: web() };
        for (before, written, read, is_owed) in [
            // The first reading after the service was written may show what the kernel made of it.
            (None, None, Some(rules(ours, false)), true),
            (None, None, Some(rules(late, false)), true),
            (None, None, Some(rules(ours, true)), false),
            (None, None, None, false),
            // Later ones show what others did.
            (Some(late), None, Some(rules(late, false)), true),
            (Some(late), None, Some(rules(ours, false)), false),
            (Some(late), Some(update), Some(rules(ours, false)), true),
            (Some(late), Some(update), Some(rules(ours, true)), false),
            (Some(late), Some(update), None, false),
        ] {
            let mut reconciler = owing();
            if let Some(before) = before {
                reconciler.known = rules(before, false);
                reconciler.keep_owed(web().key);
            }
            if let Some(written) = written {
                reconciler.note_owed(&written);
            }
            reconciler.known = read.clone().unwrap_or_default();
            reconciler.keep_owed(web().key);
            let case = format!("{before:?} {written:?} {read:?}");
            assert_eq!(!reconciler.owed.is_empty(), is_owed, "{case}");
        }
    }

    #[test]
    fn a_change_of_unknown_outcome_may_have_made_the_service_another() {
        let (from, to) = (web(), web().one_packet(true));
        for (change, is_owed) in [
            (Change::UpdateService { from, to }, true),
            (Change::AddDestination(web().key, backend()), false),
        ] {
            let mut reconciler = owing();
            reconciler.known = rules(Scheduler::MAGLEV_HASH, false);
            reconciler.keep_owed(web().key);
            reconciler.note_owed_unknown(&change);
            reconciler.known = rules(Scheduler::RoundRobin, false);
            reconciler.keep_owed(web().key);
            assert_eq!(!reconciler.owed.is_empty(), is_owed, "{change}");
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_owed() {
        let mut reconciler = owing();
        reconciler.keep_owed_wanted(web().key);
        assert!(!reconciler.owed.is_empty());
        reconciler.wanted = rules(Scheduler::MAGLEV_HASH, false);
        reconciler.keep_owed_wanted(web().key);
        assert!(reconciler.owed.is_empty());
    }
}
