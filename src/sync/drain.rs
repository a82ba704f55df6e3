//! Draining: destinations of weight 0 that are removed once their connections have ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Failed;
use super::apply::Work;
use crate::error::Error;
use crate::model::{Destination, DestinationEntry, DestinationKey, Service, ServiceKey};
use crate::protocol::Operation;
use crate::ruleset::{Change, Draining, Plan, Ruleset};
use crate::session::Session;

/// The destinations that are being drained.
#[derive(Debug, Default)]
pub(super) struct Drainer {
    services: BTreeMap<ServiceKey, DrainedService>,
    /// When connections were counted last.
    counted: Option<Instant>,
}

#[derive(Debug, Default)]
struct DrainedService {
    /// When each is removed at the latest.
    destinations: BTreeMap<DestinationKey, Instant>,
    /// The service goes, too, once they are gone.
    unwanted: Option<Service>,
}

impl Drainer {
    /// Takes over what a plan drains. Those that are being drained already keep their deadline.
    pub(super) fn begin(&mut self, plan: &Plan, now: Instant) {
        let deadline = plan.policy().draining.deadline.unwrap_or_default();
        for change in plan.immediate() {
            if let Change::DrainDestination(service, destination) = change {
                let destinations = &mut self.services.entry(*service).or_default().destinations;
                destinations.entry(destination.key).or_insert(now + deadline);
            }
        }
        for change in plan.deferred() {
            if let Change::RemoveService(service) = change {
                self.services.entry(service.key).or_default().unwanted = Some(*service);
            }
        }
    }

    /// Lets go of what is wanted again.
    pub(super) fn keep_wanted(&mut self, keys: &[ServiceKey], wanted: &Ruleset) {
        for key in keys {
            let Some(drained) = self.services.get_mut(key) else { continue };
            if let Some(rules) = wanted.service(*key) {
                drained.unwanted = None;
                drained.destinations.retain(|key, _| rules.destination(*key).is_none());
            }
            if drained.destinations.is_empty() && drained.unwanted.is_none() {
                self.services.remove(key);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// How many destinations are being drained.
    pub(super) fn len(&self) -> usize {
        self.services.values().map(|service| service.destinations.len()).sum()
    }

    /// When connections are to be counted again: after the interval, or at a deadline before.
    pub(super) fn next_step(&self, now: Instant, interval: Duration) -> Option<Instant> {
        let deadlines = self.services.values().flat_map(|service| service.destinations.values());
        let by_interval = self.counted.map_or(now, |counted| counted + interval);
        (!self.is_empty()).then(|| deadlines.copied().fold(by_interval, Instant::min))
    }
}

impl Session {
    /// Counts the connections of what is being drained, and removes what has none left.
    pub(super) async fn drain_step(
        &mut self,
        drains: &mut Drainer,
        work: &mut Work<'_>,
    ) -> Result<(), Error> {
        let policy = work.policy.draining;
        drains.counted = Some(self.now());
        let keys: Vec<_> = drains.services.keys().copied().collect();
        for key in keys {
            let entries: Vec<DestinationEntry> = self.list_destinations(key).await?;
            let now = self.now();
            let Some(service) = drains.services.get_mut(&key) else { continue };
            let mut removals = Vec::new();
            let mut ended = Vec::new();
            for (destination, deadline) in &service.destinations {
                let entry = entries.iter().find(|e| e.destination.key == *destination);
                // Others have removed it, or raised it and have their reason.
                let Some(entry) = entry.filter(|e| e.destination.weight == 0) else {
                    ended.push(*destination);
                    continue;
                };
                let idle = policy.is_idle(entry);
                if idle || now >= *deadline {
                    removals.push((entry.destination, idle));
                    ended.push(*destination);
                }
            }
            self.remove_drained(key, &removals, work).await?;
            service.destinations.retain(|destination, _| !ended.contains(destination));
            if service.destinations.is_empty() {
                if let Some(unwanted) = service.unwanted {
                    self.remove_service_of_drained(unwanted, work).await;
                }
                drains.services.remove(&key);
            }
        }
        Ok(())
    }

    async fn remove_drained(
        &mut self,
        service: ServiceKey,
        removals: &[(Destination, bool)],
        work: &mut Work<'_>,
    ) -> Result<(), Error> {
        let operations: Vec<_> =
            removals.iter().map(|(d, _)| Operation::RemoveDestination(service, d.key)).collect();
        let results = self.batch(operations).await?;
        for ((destination, idle), result) in removals.iter().zip(results) {
            let change = Change::RemoveDestination(service, *destination);
            if !work.finish(change, result) {
                continue;
            }
            if *idle {
                work.report.drained += 1;
            } else {
                work.report.cut_off += 1;
            }
        }
        Ok(())
    }

    async fn remove_service_of_drained(&mut self, service: Service, work: &mut Work<'_>) {
        let result = self.remove_service(service.key).await;
        work.finish(Change::RemoveService(service), result);
    }
}

impl Work<'_> {
    /// Records a removal, and tells whether it took place; what is gone already is as good.
    fn finish(&mut self, change: Change, result: Result<(), Error>) -> bool {
        match result {
            Err(error) if !error.is_not_found() => {
                self.report.failed.push(Failed { change, error });
                false
            }
            result => {
                self.report.changed += usize::from(result.is_ok());
                self.record(&change);
                true
            }
        }
    }
}

impl Draining {
    fn is_idle(&self, entry: &DestinationEntry) -> bool {
        entry.active_connections == 0
            && (!self.inactive || entry.inactive_connections == 0)
            && (!self.templates || entry.persistent_connections == 0)
    }
}
