//! New services under a policy that does not allow adding destinations: they get those with which
//! they were wanted, and no more.
//!
//! The destinations follow in a send of their own once the kernel has acknowledged the service. Until
//! they are there they are owed, whatever fails meanwhile.

use std::collections::BTreeSet;

use super::Reconciler;
use super::late::unbound;
use crate::model::{DestinationKey, ServiceKey};
use crate::ruleset::{Allowed, Change, ServiceRules};

impl Reconciler {
    /// Remembers the destinations of a new service until they are added, if the policy allows adding
    /// them only with the service.
    pub(super) fn note_owed(&mut self, change: &Change) {
        if self.policy.allowed.contains(Allowed::ADD_DESTINATIONS) {
            return;
        }
        let key = change.service();
        match change {
            Change::AddService(_) => {
                let wanted = self.wanted.service(key).into_iter();
                let owed: BTreeSet<_> =
                    wanted.flat_map(|it| it.destinations().map(|d| d.key)).collect();
                if !owed.is_empty() {
                    self.owed.insert(key, owed);
                }
            }
            Change::AddDestination(_, destination) => {
                let owed = self.owed.get_mut(&key);
                if owed.is_some_and(|owed| owed.remove(&destination.key) && owed.is_empty()) {
                    self.owed.remove(&key);
                }
            }
            Change::RemoveService(_) => drop(self.owed.remove(&key)),
            _ => {}
        }
    }

    /// Forgets the destinations of a new service that are there by now, or no longer wanted; and all
    /// if the service is gone, or was changed by others and may be another one.
    pub(super) fn keep_owed(&mut self, key: ServiceKey) {
        let Some(owed) = self.owed.get_mut(&key) else { return };
        let (known, wanted) = (self.known.service(key), self.wanted.service(key));
        let is_ours = known.zip(wanted).is_some_and(|(known, wanted)| {
            let (known, wanted) = (*known.service(), *wanted.service());
            known == wanted || self.unbound.contains(&key) && known == unbound(wanted)
        });
        let lacks = |rules: Option<&ServiceRules>, it: &DestinationKey| {
            rules.is_none_or(|rules| rules.destination(*it).is_none())
        };
        owed.retain(|it| is_ours && lacks(known, it) && !lacks(wanted, it));
        if owed.is_empty() {
            self.owed.remove(&key);
        }
    }

    /// Forgets the destinations of a new service that are not wanted any more.
    pub(super) fn keep_owed_wanted(&mut self, key: ServiceKey) {
        let Some(owed) = self.owed.get_mut(&key) else { return };
        let wanted = self.wanted.service(key);
        owed.retain(|it| wanted.is_some_and(|wanted| wanted.destination(*it).is_some()));
        if owed.is_empty() {
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
    fn a_service_is_owed_its_destinations_while_it_is_as_it_was_added() {
        let (ours, late) = (Scheduler::MAGLEV_HASH, Scheduler::Unbound);
        for (known, is_to_be_bound, is_owed) in [
            (Some(rules(ours, false)), false, true),
            (Some(rules(ours, true)), false, false),
            (Some(rules(late, false)), true, true),
            (Some(rules(late, false)), false, false),
            (Some(rules(Scheduler::RoundRobin, false)), true, false),
            (None, false, false),
        ] {
            let mut reconciler = owing();
            if is_to_be_bound {
                reconciler.unbound.insert(web().key);
            }
            reconciler.known = known.clone().unwrap_or_default();
            reconciler.keep_owed(web().key);
            assert_eq!(!reconciler.owed.is_empty(), is_owed, "{known:?} {is_to_be_bound}");
        }
        let mut reconciler = owing();
        reconciler.wanted = rules(ours, false);
        reconciler.keep_owed_wanted(web().key);
        assert!(reconciler.owed.is_empty());
    }
}
