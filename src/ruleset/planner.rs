//! Planning: the changes that lead from one ruleset to another, service by service.

use std::cmp::Ordering;

use super::past::{Failure, Past};
use super::{Allowed, Change, Difference, Left, Policy, Reason, ServiceRules};
use crate::model::{Destination, Scheduler, Service, ServiceKey};

/// The phase of a change: all changes of a phase come before those of the next.
///
/// The phases up to [`Changed`](Self::Changed) take nothing away from a service, those from
/// [`Lowered`](Self::Lowered) on do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// New services, each with its destinations.
    New,
    /// New destinations of present services.
    Added,
    /// Higher weights.
    Raised,
    /// Other configurations.
    Changed,
    /// Lower weights.
    Lowered,
    /// Removals that wait for nothing.
    Removed,
    /// Weights of 0, for destinations that drain.
    Drained,
    /// Changes that follow once destinations have drained.
    Deferred,
}

impl Phase {
    const COUNT: usize = Self::Deferred as usize + 1;
}

/// Sorts changes by phase.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    policy: &'a Policy,
    /// Whether all wanted rules are known, and the rest may be removed.
    all_known: bool,
    changes: [Vec<Change>; Phase::COUNT],
    left: Vec<Left>,
    failed: Vec<(Change, Failure)>,
}

/// The result of planning.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    /// All changes, by phase.
    pub(crate) changes: Vec<Change>,
    /// The index from which on changes are losses.
    pub(crate) losses: usize,
    /// The index from which on changes wait for destinations to be drained.
    pub(crate) deferred: usize,
    /// The differences that are left.
    pub(crate) left: Vec<Left>,
    /// The changes that were refused before and are not tried again.
    pub(crate) failed: Vec<(Change, Failure)>,
}

/// How the unwanted destinations of a service are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// Removed at once. A drain that has begun goes on until its end.
    AtOnce,
    /// Removed at once, be it in the middle of a drain: at weight 0 the destination would refuse
    /// clients that another one can take.
    Undrained,
    Drained,
    /// Drained while the service has its scheduler's fallback option.
    DrainedWithFallback,
}

/// The effect of a service's losses on its draining destinations.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    /// A destination drains on.
    drains: bool,
    /// A destination has drained, and is removed.
    has_drained: bool,
}

/// A loss of a service.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Lowered { from: Destination, to: Destination },
    Unwanted(Destination),
}

impl Loss {
    fn before(&self) -> &Destination {
        match self {
            Self::Lowered { from, .. } | Self::Unwanted(from) => from,
        }
    }
}

impl<'a> Planner<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            all_known: true,
            changes: Default::default(),
            left: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// The same planner, which removes nothing unless all wanted rules are known.
    pub(crate) fn all_known(self, all_known: bool) -> Self {
        Self { all_known, ..self }
    }

    /// Ends planning.
    pub(crate) fn finish(self) -> Planned {
        let Self { changes: phases, left, failed, .. } = self;
        let begin = |phase: Phase| phases[..phase as usize].iter().map(Vec::len).sum();
        let (losses, deferred) = (begin(Phase::Lowered), begin(Phase::Deferred));
        let mut phases = phases.into_iter();
        let mut changes = phases.next().unwrap_or_default();
        phases.for_each(|phase| changes.extend(phase));
        Planned { changes, losses, deferred, left, failed }
    }

    /// Plans for one service; tells whether the service needs any change.
    pub(crate) fn service(
        &mut self,
        key: ServiceKey,
        actual: Option<&ServiceRules>,
        wanted: Option<&ServiceRules>,
        past: Past<'_>,
    ) -> bool {
        if actual == wanted {
            return false;
        }
        let count = |planner: &Self| planner.changes.iter().map(Vec::len).sum::<usize>();
        let before = count(self);
        let in_scope = self.policy.scope.owns(&key);
        match (actual, wanted) {
            (_, Some(_)) | (Some(_), None) if !in_scope => {
                let what = match (actual, wanted) {
                    (Some(_), None) => Difference::UnwantedService,
                    (None, _) => Difference::MissingService,
                    _ => Difference::Service,
                };
                self.leave(key, what, Reason::OutOfScope);
            }
            (None, Some(wanted)) => self.new_service(wanted, past),
            (Some(actual), Some(wanted)) => self.changed_service(actual, wanted, past),
            (Some(actual), None) => self.unwanted_service(actual, past),
            (None, None) => {}
        }
        count(self) > before
    }

    fn new_service(&mut self, wanted: &ServiceRules, past: Past<'_>) {
        let key = wanted.service.key;
        if !self.allows(Allowed::ADD_SERVICES) {
            return self.leave(key, Difference::MissingService, Reason::NotAllowed);
        }
        let additions = wanted.destinations().map(|wanted| Change::AddDestination(key, *wanted));
        let service = Change::AddService(wanted.service);
        if let Some(failure) = past.refusal(&service) {
            self.failed.push((service, failure));
            self.failed.extend(additions.map(|addition| (addition, Failure::ServiceRefused)));
            return;
        }
        self.push(Phase::New, service);
        for addition in additions {
            self.make(Phase::New, addition, past);
        }
    }

    fn changed_service(&mut self, actual: &ServiceRules, wanted: &ServiceRules, past: Past<'_>) {
        let key = actual.service.key;
        let may_update = self.allows(Allowed::UPDATE_SERVICES);
        if actual.service != wanted.service && !may_update {
            self.leave(key, Difference::Service, Reason::NotAllowed);
        }
        // Whether a destination takes connections, whichever losses are made.
        let mut serves = false;
        let mut losses = Vec::new();
        let mut unwanted = Vec::new();
        let first_left = self.left.len();
        for pair in side_by_side(actual, wanted) {
            serves |= match pair {
                (Some(actual), Some(wanted)) => {
                    self.changed_destination(key, actual, wanted, &mut losses, past)
                }
                (None, Some(wanted)) => self.missing_destination(key, wanted, past),
                (actual, None) => {
                    unwanted.extend(actual);
                    false
                }
            };
        }
        for unwanted in unwanted {
            serves |= self.unwanted_destination(key, unwanted, &mut losses, past);
        }
        serves |= self.hold_back(key, &mut losses, serves, wanted, past);

        let (from, mut to) = (actual.service, wanted.service);
        let with_fallback = to.with_fallback();
        // A scheduler that the kernel does not have is refused with the fallback option and without
        // it.
        let forms = [to, with_fallback].into_iter().filter(|to| *to != from);
        let refusal = forms
            .map(|to| Change::UpdateService { from, to })
            .find_map(|change| past.refusal(&change));
        let updates = may_update && refusal.is_none();
        let service = if updates { &wanted.service } else { &actual.service };
        let refusing = match (may_update, refusal) {
            (false, _) => Farewell::Undrained,
            (true, None) => Farewell::DrainedWithFallback,
            // A failure that the report tells is better than connections that are cut.
            (true, Some(_)) => Farewell::Drained,
        };
        let farewell = self.farewell(service, serves, refusing);
        let taken = self.take_away(key, &losses, farewell, past);
        if !may_update {
            return;
        }
        if farewell == Farewell::DrainedWithFallback
            && (taken.drains || taken.has_drained && from != to)
        {
            to = with_fallback;
            // The option is taken back later. The change is planned now, so that a report has it if
            // the rest is called off.
            let after = Change::UpdateService { from: to, to: wanted.service };
            self.push(Phase::Deferred, after);
        }
        if refusal.is_some() && from == to && taken.drains {
            to = with_fallback;
        }
        let stays_low = self.left[first_left..].iter().any(Self::is_low);
        if stays_low && from.scheduler != to.scheduler && from.scheduler == with_fallback.scheduler
        {
            to.scheduler = from.scheduler;
            // While a destination drains, the option is no difference.
            if !taken.drains {
                self.leave(key, Difference::Service, Reason::WouldRefuse);
            }
        }
        if from != to {
            let change = Change::UpdateService { from, to };
            match refusal {
                Some(failure) => self.failed.push((change, failure)),
                None => self.push(Phase::Changed, change),
            }
        }
    }

    /// Whether a difference that is left is a destination that stays at weight 0.
    fn is_low(left: &Left) -> bool {
        match left.what {
            Difference::Weight(_) => left.why != Reason::HeldBack,
            Difference::UnwantedDestination(it) => it.weight == 0,
            _ => false,
        }
    }

    /// Returns whether the destination will take connections.
    fn missing_destination(
        &mut self,
        key: ServiceKey,
        wanted: &Destination,
        past: Past<'_>,
    ) -> bool {
        if !self.allows(Allowed::ADD_DESTINATIONS) && !past.owes(wanted.key) {
            self.leave(key, Difference::MissingDestination(*wanted), Reason::NotAllowed);
            return false;
        }
        self.make(Phase::Added, Change::AddDestination(key, *wanted), past) && wanted.weight > 0
    }

    /// Returns whether the destination takes connections and will go on to take them.
    fn changed_destination(
        &mut self,
        key: ServiceKey,
        from: &Destination,
        wanted: &Destination,
        losses: &mut Vec<Loss>,
        past: Past<'_>,
    ) -> bool {
        if from == wanted {
            return from.weight > 0;
        }
        let mut to = *from;
        if self.allows(Allowed::UPDATE_DESTINATIONS) {
            to = wanted.weight(from.weight);
        } else if from.weight(wanted.weight) != *wanted {
            self.leave(key, Difference::Destination(*wanted), Reason::NotAllowed);
        }
        if self.allows(Allowed::WEIGHTS) {
            to.weight = wanted.weight;
        } else if let Some(before) = self.weight_to_take_back(from, past) {
            to.weight = before;
        } else if from.weight == 0 && wanted.weight > 0 {
            let is_ours = past.drain(from.key).is_some_and(|drain| drain.before > 0);
            let why = if is_ours { Reason::NotAllowed } else { Reason::UnknownOrigin };
            self.leave(key, Difference::Weight(*wanted), why);
        }
        let change = Change::UpdateDestination { service: key, from: *from, to };
        if to == *from {
            return from.weight > 0;
        }
        if to.weight < from.weight {
            match past.refusal(&change) {
                Some(failure) => self.failed.push((change, failure)),
                None => losses.push(Loss::Lowered { from: *from, to }),
            }
            return to.weight > 0 || past.refusal(&change).is_some();
        }
        let phase = if to.weight > from.weight { Phase::Raised } else { Phase::Changed };
        let is_made = self.make(phase, change, past);
        from.weight > 0 || is_made && to.weight > 0
    }

    /// The weight to give back to a destination that draining has lowered, if the destination is
    /// not to be drained any more.
    fn weight_to_take_back(&self, from: &Destination, past: Past<'_>) -> Option<u32> {
        let may = Allowed::REMOVE_DESTINATIONS | Allowed::REMOVE_SERVICES | Allowed::WEIGHTS;
        let before = past.drain(from.key)?.before;
        (from.weight == 0 && before > 0 && self.policy.allowed.intersects(may)).then_some(before)
    }

    /// Returns whether the destination takes connections and will go on to take them.
    fn unwanted_destination(
        &mut self,
        key: ServiceKey,
        unwanted: &Destination,
        losses: &mut Vec<Loss>,
        past: Past<'_>,
    ) -> bool {
        if let Some(reason) = self.reason_to_keep(Allowed::REMOVE_DESTINATIONS) {
            let before = self.take_back(key, unwanted, reason, past);
            let stays = before.map_or(*unwanted, |before| unwanted.weight(before));
            self.leave(key, Difference::UnwantedDestination(stays), reason);
            return stays.weight > 0;
        }
        let removal = Change::RemoveDestination(key, *unwanted);
        if let Some(failure) = past.refusal(&removal) {
            self.failed.push((removal, failure));
            return unwanted.weight > 0;
        }
        losses.push(Loss::Unwanted(*unwanted));
        false
    }

    /// Gives a destination that stays the weight back that draining has lowered; returns the weight
    /// if this is planned.
    fn take_back(
        &mut self,
        key: ServiceKey,
        from: &Destination,
        reason: Reason,
        past: Past<'_>,
    ) -> Option<u32> {
        let before = self.weight_to_take_back(from, past);
        let before = before.filter(|_| reason == Reason::NotAllowed)?;
        let to = from.weight(before);
        let change = Change::UpdateDestination { service: key, from: *from, to };
        self.make(Phase::Raised, change, past).then_some(before)
    }

    /// Keeps one destination if a service that takes connections would be left without any
    /// destination that does, though one is wanted; returns whether a destination is kept.
    fn hold_back(
        &mut self,
        key: ServiceKey,
        losses: &mut Vec<Loss>,
        serves: bool,
        wanted: &ServiceRules,
        past: Past<'_>,
    ) -> bool {
        if serves || !wanted.destinations().any(|wanted| wanted.weight > 0) {
            return false;
        }
        let taking = losses.iter().enumerate().filter(|(_, loss)| loss.before().weight > 0);
        // Among equal weights the lowest key, which comes last in descending order.
        let best = taking.max_by_key(|(_, loss)| {
            let before = loss.before();
            (before.weight, std::cmp::Reverse(before.key))
        });
        let Some((index, _)) = best else { return false };
        match losses.remove(index) {
            Loss::Unwanted(destination) => {
                self.leave(key, Difference::UnwantedDestination(destination), Reason::HeldBack);
            }
            Loss::Lowered { from, to } => {
                self.leave(key, Difference::Weight(to), Reason::HeldBack);
                let to = to.weight(from.weight);
                if to != from {
                    let change = Change::UpdateDestination { service: key, from, to };
                    self.make(Phase::Changed, change, past);
                }
            }
        }
        true
    }

    /// How the unwanted destinations of a service are removed. `refusing` is the way to use if the
    /// scheduler would refuse clients during a drain.
    fn farewell(&self, service: &Service, serves: bool, refusing: Farewell) -> Farewell {
        if !self.policy.draining.applies_to(service) {
            return Farewell::AtOnce;
        }
        match service.scheduler {
            // No other destination could serve its clients while it drains.
            _ if !serves => Farewell::Drained,
            Scheduler::SourceHash(options) | Scheduler::MaglevHash(options) => {
                if options.fallback {
                    Farewell::Drained
                } else {
                    refusing
                }
            }
            Scheduler::DestinationHash => Farewell::Undrained,
            Scheduler::RoundRobin
            | Scheduler::WeightedRoundRobin
            | Scheduler::LeastConnection
            | Scheduler::WeightedLeastConnection
            | Scheduler::LocalityLeastConnection
            | Scheduler::LocalityLeastConnectionReplication
            | Scheduler::ShortestExpectedDelay
            | Scheduler::NeverQueue
            | Scheduler::WeightedFailover
            | Scheduler::WeightedOverflow
            | Scheduler::TwoChoices
            | Scheduler::Unbound
            | Scheduler::Other(_) => Farewell::Drained,
        }
    }

    /// Plans the losses of a service.
    fn take_away(
        &mut self,
        key: ServiceKey,
        losses: &[Loss],
        farewell: Farewell,
        past: Past<'_>,
    ) -> Taken {
        let mut taken = Taken::default();
        for loss in losses {
            match *loss {
                Loss::Lowered { from, to } => {
                    let change = Change::UpdateDestination { service: key, from, to };
                    self.push(Phase::Lowered, change);
                }
                Loss::Unwanted(unwanted) => {
                    let removal = Change::RemoveDestination(key, unwanted);
                    let is_over = past.is_over(unwanted.key, unwanted.weight);
                    let at_once = match farewell {
                        Farewell::AtOnce => !past.drains(unwanted.key),
                        Farewell::Undrained => true,
                        Farewell::Drained | Farewell::DrainedWithFallback => false,
                    };
                    if is_over || at_once {
                        self.push(Phase::Removed, removal);
                        taken.has_drained |= is_over;
                    } else if self.make(
                        Phase::Drained,
                        Change::DrainDestination(key, unwanted),
                        past,
                    ) {
                        self.push(Phase::Deferred, removal);
                        taken.drains = true;
                    }
                }
            }
        }
        taken
    }

    fn unwanted_service(&mut self, actual: &ServiceRules, past: Past<'_>) {
        let key = actual.service.key;
        if let Some(reason) = self.reason_to_keep(Allowed::REMOVE_SERVICES) {
            self.leave(key, Difference::UnwantedService, reason);
            for destination in actual.destinations() {
                self.take_back(key, destination, reason, past);
            }
            return;
        }
        let removal = Change::RemoveService(actual.service);
        if let Some(failure) = past.refusal(&removal) {
            return self.failed.push((removal, failure));
        }
        let is_over = |d: &Destination| past.is_over(d.key, d.weight);
        let applies = self.policy.draining.applies_to(&actual.service)
            || actual.destinations().any(|d| past.drains(d.key));
        if !applies || actual.destinations().all(is_over) {
            return self.push(Phase::Removed, removal);
        }
        let drain = |it: &Destination| Change::DrainDestination(key, *it);
        let is_refused = actual.destinations().any(|it| past.refusal(&drain(it)).is_some());
        for destination in actual.destinations() {
            let is_overdue = past.is_overdue(destination.key);
            if is_overdue && takes_apart(self.policy) {
                let removal = Change::RemoveDestination(key, *destination);
                self.make(Phase::Removed, removal, past);
            } else if !is_overdue || !is_refused || destination.weight > 0 {
                // One that is overdue, and can only go with its service, has nothing to wait for if
                // the service stays.
                self.make(Phase::Drained, drain(destination), past);
            }
        }
        if is_refused {
            self.failed.push((removal, Failure::NotSent));
        } else {
            self.push(Phase::Deferred, removal);
        }
    }

    /// Plans a change unless it was refused; returns whether the change is planned.
    fn make(&mut self, phase: Phase, change: Change, past: Past<'_>) -> bool {
        match past.refusal(&change) {
            Some(failure) => self.failed.push((change, failure)),
            None => self.push(phase, change),
        }
        past.refusal(&change).is_none()
    }

    fn push(&mut self, phase: Phase, change: Change) {
        self.changes[phase as usize].push(change);
    }

    fn allows(&self, change: Allowed) -> bool {
        self.policy.allowed.contains(change)
    }

    /// Why an unwanted service or destination is not removed; `None` if it is removed.
    fn reason_to_keep(&self, removal: Allowed) -> Option<Reason> {
        if self.allows(removal) {
            (!self.all_known).then_some(Reason::NotAllKnown)
        } else {
            Some(Reason::NotAllowed)
        }
    }

    fn leave(&mut self, service: ServiceKey, what: Difference, why: Reason) {
        self.left.push(Left { service, what, why });
    }
}

/// The destinations of both rules, paired by their keys.
fn side_by_side<'a>(
    actual: &'a ServiceRules,
    wanted: &'a ServiceRules,
) -> impl Iterator<Item = (Option<&'a Destination>, Option<&'a Destination>)> {
    // Both iterators go by the order of the keys.
    let mut actual = actual.destinations().peekable();
    let mut wanted = wanted.destinations().peekable();
    std::iter::from_fn(move || {
        let order = match (actual.peek(), wanted.peek()) {
            (None, None) => return None,
            (Some(actual), Some(wanted)) => actual.key.cmp(&wanted.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        let actual = if order.is_le() { actual.next() } else { None };
        Some((actual, if order.is_ge() { wanted.next() } else { None }))
    })
}

/// Whether the destinations of a service that goes may go before it. One that may not be added
/// again, were the service wanted again, stays with it.
pub(crate) fn takes_apart(policy: &Policy) -> bool {
    policy.allowed.contains(Allowed::REMOVE_DESTINATIONS | Allowed::ADD_DESTINATIONS)
}

impl Service {
    /// The same with the fallback option of `sh` or `mh`.
    fn with_fallback(self) -> Self {
        let options = self.scheduler.hash_options().unwrap_or_default();
        self.scheduler(self.scheduler.with_hash_options(options.fallback(true)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::ruleset::past::{Count, Drain, Refusal};
    use crate::ruleset::{ConnectionCounts, Draining, Ruleset};

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin)
    }

    /// A destination of this weight.
    fn backend(last: u8, weight: u32) -> Destination {
        Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080).weight(weight)
    }

    fn planned(policy: &Policy, actual: &Ruleset, wanted: &Ruleset, past: Past<'_>) -> Planned {
        let mut planner = Planner::new(policy);
        planner.service(web().key, actual.service(web().key), wanted.service(web().key), past);
        planner.finish()
    }

    fn refused(change: Change) -> (Option<crate::model::DestinationKey>, Refusal) {
        (change.destination(), Refusal { change, failure: Failure::Refused })
    }

    /// The wanted destination 1 cannot be added. The unwanted destination 2 goes only if a third,
    /// as it is and as it is wanted, takes connections and will go on to take them.
    #[test]
    fn a_destination_that_takes_connections_stays_if_no_other_does() {
        let other = |weight| backend(3, weight).thresholds(9, 0);
        for (actual, wanted, is_refused, serves) in [
            (None, None, false, false),
            (None, Some(backend(3, 1)), false, true),
            (None, Some(backend(3, 1)), true, false),
            (None, Some(backend(3, 0)), false, false),
            (Some(backend(3, 0)), Some(backend(3, 0)), false, false),
            (Some(backend(3, 1)), Some(backend(3, 1)), false, true),
            (Some(backend(3, 0)), Some(backend(3, 1)), false, true),
            (Some(backend(3, 0)), Some(backend(3, 1)), true, false),
            (Some(backend(3, 1)), Some(backend(3, 2)), true, true),
            (Some(backend(3, 2)), Some(backend(3, 1)), false, true),
            (Some(backend(3, 2)), Some(backend(3, 0)), true, true),
            (Some(backend(3, 1)), Some(other(1)), true, true),
            (Some(backend(3, 0)), Some(other(0)), false, false),
            (Some(backend(3, 1)), None, true, true),
            (Some(backend(3, 0)), None, true, false),
        ] {
            let key = web().key;
            let addition = Change::AddDestination(key, backend(1, 1));
            let mut refusals = BTreeMap::from([refused(addition)]);
            let change = match (actual, wanted) {
                (Some(from), Some(to)) => Change::UpdateDestination { service: key, from, to },
                (Some(actual), None) => Change::RemoveDestination(key, actual),
                (None, wanted) => Change::AddDestination(key, wanted.unwrap_or(backend(3, 1))),
            };
            refusals.extend(is_refused.then(|| refused(change)));
            let with = |other, third: Option<Destination>| -> Vec<_> {
                [other].into_iter().chain(third).collect()
            };
            let past = Past { refusals: Some(&refusals), ..Past::default() };
            let planned = planned(
                &Policy::new(),
                &Ruleset::of(web(), &with(backend(2, 1), actual)),
                &Ruleset::of(web(), &with(backend(1, 1), wanted)),
                past,
            );
            let goes = planned.changes.contains(&Change::RemoveDestination(key, backend(2, 1)));
            let is_held_back = planned.left.iter().any(|left| {
                left.what == Difference::UnwantedDestination(backend(2, 1))
                    && left.why == Reason::HeldBack
            });
            let case = format!("{actual:?} {wanted:?} {is_refused}: {planned:?}");
            assert_eq!((goes, is_held_back), (serves, !serves), "{case}");
        }
    }

    #[test]
    fn another_configuration_with_the_same_weight_is_no_loss() {
        let other = backend(1, 1).thresholds(9, 0);
        let (actual, wanted) = (Ruleset::of(web(), &[backend(1, 1)]), Ruleset::of(web(), &[other]));
        let planned = planned(&Policy::new(), &actual, &wanted, Past::default());
        assert_eq!((planned.changes.len(), planned.losses), (1, 1));
    }

    /// The policy allows neither weights nor removals, which would let a drain's weight be given
    /// back.
    #[test]
    fn a_weight_of_zero_that_a_drain_has_set_is_told_from_that_of_others() {
        let policy = Policy::new().allowed(Allowed::ADD_DESTINATIONS);
        let (actual, wanted) =
            (Ruleset::of(web(), &[backend(1, 0)]), Ruleset::of(web(), &[backend(1, 2)]));
        for (before, why) in [(2, Reason::NotAllowed), (0, Reason::UnknownOrigin)] {
            let drains = BTreeMap::from([(backend(1, 0).key, Drain::new(before, None))]);
            let past = Past { drains: Some(&drains), ..Past::default() };
            let left = planned(&policy, &actual, &wanted, past).left;
            assert_eq!((left.len(), left[0].why), (1, why), "{before}");
        }
    }

    #[test]
    fn a_hash_service_whose_last_destination_drains_needs_no_fallback() {
        let service = web().scheduler(Scheduler::SOURCE_HASH);
        let policy = Policy::new().draining(Draining::within(Duration::from_secs(9)));
        for (wanted, updates) in [(&[][..], 0), (&[backend(2, 1)][..], 2)] {
            let actual = [&[backend(1, 1)][..], wanted].concat();
            let (actual, wanted) = (Ruleset::of(service, &actual), Ruleset::of(service, wanted));
            let changes = planned(&policy, &actual, &wanted, Past::default()).changes;
            let is_update = |it: &&Change| matches!(it, Change::UpdateService { .. });
            assert_eq!(changes.iter().filter(is_update).count(), updates, "{changes:?}");
        }
    }

    /// The policy that began the drain may have been another one.
    #[test]
    fn a_drain_that_has_begun_goes_on_without_a_draining_policy() {
        let (actual, wanted) = (Ruleset::of(web(), &[backend(1, 0)]), Ruleset::of(web(), &[]));
        for (deadline, is_removed) in [(None, true), (Some(Duration::from_secs(9)), false)] {
            let drains = BTreeMap::from([(backend(1, 0).key, Drain::new(1, deadline))]);
            let past = Past { drains: Some(&drains), ..Past::default() };
            let planned = planned(&Policy::new(), &actual, &wanted, past);
            let removal = Change::RemoveDestination(web().key, backend(1, 0));
            let is_now = planned.changes[..planned.deferred].contains(&removal);
            assert_eq!(is_now, is_removed, "{planned:?}");
        }
    }

    /// The drain of destination 2 is refused, and the service stays.
    #[test]
    fn beside_a_refused_drain_others_drain_until_their_deadline() {
        let key = web().key;
        let drain = |last, weight| Change::DrainDestination(key, backend(last, weight));
        let removal = |weight| Change::RemoveDestination(key, backend(1, weight));
        let refusals = BTreeMap::from([refused(drain(2, 1))]);
        let all = Allowed::all();
        for (weight, is_overdue, allowed, changes) in [
            (0, false, all, vec![drain(1, 0)]),
            (0, true, all, vec![removal(0)]),
            (0, true, all - Allowed::ADD_DESTINATIONS, vec![]),
            (0, true, all - Allowed::REMOVE_DESTINATIONS, vec![]),
            // Others have raised it.
            (1, true, all, vec![removal(1)]),
            (1, true, all - Allowed::ADD_DESTINATIONS, vec![drain(1, 1)]),
        ] {
            let actual = Ruleset::of(web(), &[backend(1, weight), backend(2, 1)]);
            let deadline = Duration::from_secs(9);
            let policy = Policy::new().allowed(allowed).draining(Draining::within(deadline));
            let connections = ConnectionCounts::default();
            let counted = Some(Count { connections, is_idle: false, is_overdue });
            let drain = Drain { counted, ..Drain::new(1, Some(deadline)) };
            let drains = BTreeMap::from([(backend(1, 0).key, drain)]);
            let past = Past { drains: Some(&drains), refusals: Some(&refusals), owed: None };
            let planned = planned(&policy, &actual, &Ruleset::new(), past);
            assert_eq!(planned.changes, changes, "{weight} {is_overdue} {allowed:?}");
            let removal = (Change::RemoveService(web()), Failure::NotSent);
            assert!(planned.failed.contains(&removal), "{planned:?}");
        }
    }
}
