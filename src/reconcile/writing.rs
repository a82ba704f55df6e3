//! Handing out the changes that are to be made, and taking in their outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::late::joined;
use super::queue::{Flight, Queue};
use super::tally::DrainEnd;
use super::{Purpose, Reconciler};
use crate::ruleset::past::{Failure, Refusal};
use crate::ruleset::{Allowed, Change};

/// The outcome of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The kernel acknowledged it.
    Done,
    /// The service or destination that was to be added existed already.
    Exists,
    /// The service did not exist.
    ServiceMissing,
    /// The service existed, but not the destination.
    DestinationMissing,
    /// The kernel refused it for a passing reason, such as want of memory.
    RefusedForNow,
    /// The kernel refused it for a lasting reason.
    Refused,
    /// The kernel has not seen it.
    NotSent,
    /// It is not known whether the kernel made it.
    Unknown,
}

impl Reconciler {
    /// The changes that are to be made now, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        let flight = self.flight;
        let queues = if flight.is_some() { &self.queues[..] } else { &[] };
        queues.iter().flat_map(move |queue| queue.part(flight.unwrap_or(Flight::Losses)))
    }

    /// The next flight, if any change is left.
    pub(super) fn next_flight(&mut self) -> Option<Flight> {
        let has = |flight| {
            self.queues.iter().any(|queue| queue.part(flight).next().is_some()).then_some(flight)
        };
        Flight::ALL.into_iter().find_map(has)
    }

    /// Hands out a flight. A drain begins when the weight of its destination is lowered, not when
    /// the lowering is planned: the replacement may yet be refused.
    pub(super) fn take_off(&mut self, flight: Flight, now: Duration) {
        self.flight = Some(flight);
        if flight == Flight::Losses {
            let queues = std::mem::take(&mut self.queues);
            self.begin_drains(queues.iter().flat_map(|queue| queue.part(flight)), now);
            self.queues = queues;
        }
    }

    pub(super) fn enqueue(
        &mut self,
        changes: Vec<Change>,
        losses: usize,
        mut deferred: Vec<Change>,
        now: Duration,
    ) {
        if changes.is_empty() {
            return;
        }
        deferred.retain(|change| change.destination().is_none());
        deferred.shrink_to_fit();
        // The drain of a destination that has weight 0 already begins at once.
        self.begin_drains(changes.iter().filter(|change| change.is_noop()), now);
        let (changes, losses) = self.with_late_schedulers(changes, losses);
        let services_first = !self.policy.allowed.contains(Allowed::ADD_DESTINATIONS);
        let (next, skipped) = (Flight::Services, BTreeSet::new());
        self.queues.push(Queue { changes, losses, deferred, services_first, next, skipped });
    }

    /// Gives up all changes that are not made yet, and records this failure for each.
    pub(crate) fn abandon(&mut self, failure: Failure, now: Duration) {
        self.land_flight();
        // A service that was read back other than written counts as different, without a second
        // reading.
        for (key, seen) in std::mem::take(&mut self.looked_once) {
            self.known.replace(key, seen);
            self.doubtful.remove(&key);
            self.dirty.insert(key);
        }
        if !self.unread && !self.dirty.is_empty() {
            // Nothing is written, so that a confirmation is left to the next pass.
            let guard = self.guard;
            self.plan(now);
            self.guard = guard;
        }
        let mut failed = BTreeMap::<_, BTreeMap<_, _>>::new();
        for queue in &self.queues {
            for change in Flight::ALL.into_iter().flat_map(|flight| queue.rest(flight)) {
                let key = change.service();
                if !queue.skipped.contains(&key) || self.doubtful.contains(&key) {
                    let (of_service, of) = (failed.entry(key).or_default(), change.destination());
                    let whole = of_service.get(&of).and_then(|(first, _)| joined(first, change));
                    of_service.insert(of, (whole.unwrap_or(*change), failure));
                }
            }
        }
        for key in &self.doubtful {
            let Some(trouble) = self.troubles.get(key) else { continue };
            let of_service = failed.entry(*key).or_default();
            let refused = trouble.refusals.iter().map(|(of, it)| (of, (it.change, it.failure)));
            let last = trouble.last.iter().map(|(of, (change, last))| {
                (of, (*change, if *last == Failure::NotSent { failure } else { *last }))
            });
            // A later plan tells more, unless it has only the rest of the addition that failed.
            for (of, (change, failure)) in last.chain(refused) {
                match of_service.get(of) {
                    None => drop(of_service.insert(*of, (change, failure))),
                    Some((rest, _)) => {
                        let whole = joined(&change, rest).map(|whole| (whole, failure));
                        of_service.extend(whole.map(|whole| (*of, whole)));
                    }
                }
            }
        }
        // A wanted service is removed only since its late scheduler was refused.
        for (key, of_service) in &mut failed {
            let is_removed = matches!(of_service.get(&None), Some((Change::RemoveService(_), _)));
            let refusals = self.troubles.get(key).map(|trouble| &trouble.refusals);
            let refusal = refusals.and_then(|refusals| refusals.get(&None));
            if is_removed && self.wanted.service(*key).is_some() {
                of_service.extend(refusal.map(|it| (None, (it.change, it.failure))));
            }
        }
        let deferred = self.queues.iter().flat_map(|queue| &queue.deferred);
        let deferred: BTreeMap<_, _> = deferred.map(|change| (change.service(), *change)).collect();
        for (key, mut failed) in failed {
            let known = self.failed.remove(&key).unwrap_or_default();
            failed.extend(known.into_iter().map(|it| (it.0.destination(), it)));
            let changes: Vec<_> = failed.values().map(|(change, _)| *change).collect();
            self.suspend_drains(key, &changes);
            if let Some(change) = deferred.get(&key).filter(|_| !self.is_draining(key)) {
                failed.entry(None).or_insert((*change, failure));
            }
            if !failed.is_empty() {
                self.note_failed(key, failed.into_values());
            }
        }
    }

    /// Takes the outcome of each of the [`changes`](Self::changes), in their order. A change
    /// without an outcome counts as of unknown outcome.
    pub(crate) fn wrote(&mut self, outcomes: &[Outcome]) {
        let Some(flight) = self.flight.take() else { return };
        let mut queues = std::mem::take(&mut self.queues);
        let mut troubled = BTreeSet::new();
        let mut outcomes = outcomes.iter();
        for change in queues.iter().flat_map(|queue| queue.part(flight)) {
            match outcomes.next().unwrap_or(&Outcome::Unknown) {
                Outcome::Done => self.done(change),
                outcome => {
                    troubled.insert(change.service());
                    self.not_done(change, *outcome);
                }
            }
        }
        for queue in &mut queues {
            queue.was_handed_out(flight);
            queue.skipped.extend(&troubled);
        }
        if flight == Flight::Losses {
            // Deferred changes serve only to report a service whose drains have failed.
            queues.retain_mut(|queue| queue.end(&troubled));
        }
        self.queues = queues;
    }

    /// Gives up a flight whose driver was dropped before it handed over the outcomes.
    pub(super) fn land_flight(&mut self) {
        self.wrote(&[]);
    }

    fn done(&mut self, change: &Change) {
        let key = change.service();
        if self.last_touched != Some(key) {
            self.last_touched = Some(key);
            self.touched.insert(key);
        }
        let trouble = if self.troubles.is_empty() { None } else { self.troubles.get_mut(&key) };
        // A service with drains is planned again once a drained destination is removed, and must be
        // known then.
        if self.mode.remembers || trouble.is_some() || self.drains.contains_key(&key) {
            self.known.record(change);
        }
        if let Some(trouble) = trouble {
            let subject = change.destination();
            // The scheduler of a service that others had added does not make its addition.
            let last = trouble.last.get(&subject);
            if last.is_none_or(|(first, _)| joined(first, change).is_none()) {
                trouble.last.remove(&subject);
            }
            // The addition without the scheduler may have been refused.
            if let Change::AddService(_) = change {
                trouble.refusals.remove(&subject);
            }
        }
        if let Change::DrainDestination(_, destination) = change {
            self.has_lowered(key, destination.key);
        }
        self.count_made(change);
    }

    /// Counts a change that was made, and ends the drain that the change completes.
    pub(super) fn count_made(&mut self, change: &Change) {
        self.note_late_scheduler(change);
        self.note_owed(change);
        self.tally.changed += 1;
        if self.policy.detailed {
            self.tally.made.push(*change);
        }
        if self.drains.is_empty() {
            return;
        }
        let key = change.service();
        match change {
            // The service is planned again: the fallback option that the drain needed can go now.
            Change::RemoveDestination(_, d) if self.end_drain(key, d.key, DrainEnd::of) => {
                self.dirty.insert(key);
            }
            Change::RemoveService(_) => self.end_drains(key, DrainEnd::of),
            Change::UpdateDestination { to, .. } if to.weight > 0 => {
                let _ = self.end_drain(key, to.key, |_| DrainEnd::WantedAgain);
            }
            _ => {}
        }
    }

    fn not_done(&mut self, change: &Change, outcome: Outcome) {
        let key = change.service();
        let was_known = self.known.service(key).is_some();
        let trouble = self.troubles.entry(key).or_default();
        trouble.is_fresh = true;
        let subject = change.destination();
        let refused = trouble.refusals.get(&subject);
        let is_refused = refused.is_some_and(|it| joined(&it.change, change).is_some());
        let whole = trouble.last.get(&subject);
        let whole = whole.and_then(|(first, failure)| Some((joined(first, change)?, *failure)));
        let mut last = |failure| {
            trouble.last.insert(subject, whole.unwrap_or((*change, failure)));
        };
        match outcome {
            Outcome::Done => {}
            // A late scheduler fails since the addition of its service has: the addition is told.
            _ if is_refused && outcome != Outcome::Unknown => {}
            Outcome::Exists | Outcome::DestinationMissing => last(Failure::Conflict),
            Outcome::ServiceMissing => {
                last(Failure::Conflict);
                self.owed.remove(&key);
                // All other services may be gone, too.
                if self.mode.remembers && was_known && !self.lost_a_service {
                    self.lost_a_service = true;
                    self.unread = true;
                }
            }
            Outcome::Refused => {
                let refusal = Refusal { change: *change, failure: Failure::Refused };
                trouble.last.remove(&subject);
                trouble.refusals.insert(subject, refusal);
            }
            Outcome::RefusedForNow => last(Failure::Refused),
            Outcome::NotSent => last(Failure::NotSent),
            Outcome::Unknown => {
                last(Failure::Unknown);
                trouble.unknown.push(*change);
            }
        }
        if outcome == Outcome::Unknown {
            self.note_owed_unknown(change);
        }
        self.doubtful.insert(key);
        self.purpose = Purpose::Doubt;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::model::{Destination, Scheduler, Service};
    use crate::ruleset::past::Drain;
    use crate::ruleset::{Draining, Policy, Ruleset};

    const SECOND: Duration = Duration::from_secs(1);

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
    }

    /// A destination of this weight.
    fn backend(last: u8, weight: u32) -> Destination {
        Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080).weight(weight)
    }

    /// A reconciler that has read these rules and wants none.
    fn knowing(destinations: &[Destination]) -> Reconciler {
        let policy = Policy::new().draining(Draining::within(9 * SECOND));
        let mut reconciler = Reconciler::for_table(policy);
        (reconciler.unread, reconciler.known) = (false, Ruleset::of(web(), destinations));
        reconciler.want_all(Ruleset::new());
        reconciler
    }

    #[test]
    fn a_drain_is_forgotten_once_the_weight_is_back() {
        for (weight, is_forgotten) in [(2, true), (1, true), (0, false)] {
            let mut reconciler = knowing(&[backend(1, 0)]);
            reconciler.resume([(web().key, backend(1, 0).key, Drain::new(2, None))]);
            let (from, to) = (backend(1, 0), backend(1, weight));
            reconciler.count_made(&Change::UpdateDestination { service: web().key, from, to });
            assert_eq!(reconciler.drains.is_empty(), is_forgotten, "{weight}");
        }
    }

    /// A service whose other destination drains on is draining. Else its own removal was given up,
    /// too.
    #[test]
    fn the_removal_of_a_service_was_given_up_with_all_of_its_drains() {
        for (weight, gives_up) in [(0, false), (1, true)] {
            let mut reconciler = knowing(&[backend(1, weight), backend(2, 1)]);
            reconciler.abandon(Failure::Stopped, SECOND);
            let failed: Vec<_> = reconciler.failed().copied().collect();
            let removal = (Change::RemoveService(web()), Failure::Stopped);
            assert_eq!(failed.contains(&removal), gives_up, "{failed:?}");
            assert_eq!(reconciler.is_draining(web().key), !gives_up, "{failed:?}");
        }
    }

    /// The table that was not read may be as wanted.
    #[test]
    fn nothing_fails_before_the_first_reading() {
        for (unread, fails) in [(false, true), (true, false)] {
            let mut reconciler = knowing(&[backend(1, 1)]);
            reconciler.unread = unread;
            reconciler.abandon(Failure::NotSent, SECOND);
            assert_eq!(reconciler.failed().count() > 0, fails, "{unread}");
        }
    }

    #[test]
    fn only_a_change_of_unknown_outcome_makes_a_service_another_of_ours() {
        for (outcome, is_owed) in [(Outcome::Unknown, true), (Outcome::Refused, false)] {
            let mut reconciler = knowing(&[]);
            let policy = Policy::new().allowed(Allowed::all() - Allowed::ADD_DESTINATIONS);
            reconciler.policy = Arc::new(policy);
            reconciler.wanted.insert_service(web()).unwrap();
            reconciler.wanted.insert_destination(web().key, backend(1, 1)).unwrap();
            reconciler.count_made(&Change::AddService(web()));
            reconciler.keep_owed(web().key);
            let (from, to) = (web(), web().scheduler(Scheduler::SOURCE_HASH));
            reconciler.not_done(&Change::UpdateService { from, to }, outcome);
            reconciler.known.record(&Change::UpdateService { from, to });
            reconciler.keep_owed(web().key);
            assert_eq!(reconciler.owed.contains_key(&web().key), is_owed, "{outcome:?}");
        }
    }
}
