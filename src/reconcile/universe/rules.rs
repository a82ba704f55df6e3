//! The rules for changes that are sent: their order, the permission that they need, and the
//! destinations that have to stay.

use std::time::Duration;

use super::judge::{Judge, Verdict, ensure, place, places};
use super::table::{
    Backend, DESTINATIONS, Place, SERVICES, Table, Vip, service_key, service_number,
};
use super::world::Setting;
use crate::ruleset::{Allowed, Change};

impl Table {
    /// Whether a destination is removed without a drain, since the drain would refuse clients that
    /// another destination can take: the scheduler lacks the fallback option, and the policy may
    /// not set it.
    pub(super) fn is_at_once(&self, removal: &Change, setting: &Setting) -> bool {
        let vip = self.0[service_number(&removal.service())];
        matches!(removal, Change::RemoveDestination(..))
            && vip.is_some_and(|vip| vip.refuses_during_drains(setting) && vip.serves())
    }
}

impl Judge {
    /// Checks changes that are about to be sent. `is_given_up`: the reconciler has given up a
    /// destination after several rounds.
    pub(super) fn write(
        &self,
        changes: &[Change],
        wanted: &Table,
        setting: &Setting,
        now: Duration,
        is_given_up: impl Fn(Place) -> bool,
    ) -> Verdict {
        // The table as the changes make it.
        let mut table = self.known;
        let is_gain = |change: &&Change| self.is_gain(change);
        for change in changes {
            let Some(operation) = change.operation() else {
                return Err(format!("{change} has no operation to send"));
            };
            let service = service_number(&change.service());
            // Removing a new service that did not get its scheduler is no loss: the service takes
            // no connections.
            let is_removal =
                matches!(change, Change::RemoveService(_)) && !table.is_unbound(service);
            let is_owned = setting.policy.scope.owns(&change.service());
            let may_lose = self.is_told || !(is_removal || self.is_loss(change));
            ensure(is_owned && may_lose, || format!("the controller may not make {change}"))?;
            let permission = self.permission(change, &table, wanted);
            let needed = permission.map_err(|fault| format!("{change}: {fault}"))?;
            ensure(setting.allows(needed), || format!("{change} is not allowed"))?;
            if is_removal || self.is_loss(change) {
                let concerns = |other: usize| is_removal || other == service;
                let gain = changes
                    .iter()
                    .filter(is_gain)
                    .find(|gain| concerns(service_number(&gain.service())));
                ensure(gain.is_none(), || {
                    format!("{change} takes away in one send with {}", gain.unwrap())
                })?;
                // Drains go on while the gains of their service are withheld.
                let may_be_withheld = setting.policy.at_most.is_some();
                let ends_a_drain =
                    place(change).is_some_and(|place| self.is_going(place, &self.known));
                let concerns = |other| concerns(other) && !(may_be_withheld && ends_a_drain);
                for other in (0..SERVICES).filter(|other| concerns(*other)) {
                    if let Some(gain) = self.outstanding_gain(other, wanted, setting, &is_given_up)
                    {
                        return Err(format!("{change} takes away before {gain}"));
                    }
                }
            }
            self.may_end_connections(change, &table, setting, now)?;
            let did_serve = table.0[service].is_some_and(|vip| vip.serves());
            table.run(&operation);
            let serves = table.0[service].is_some_and(|vip| vip.serves());
            let shall = wanted.0[service].is_some_and(|vip| vip.serves());
            ensure(serves || !did_serve || !shall, || {
                format!("{change} leaves no destination that takes connections")
            })?;
            self.serves_while_draining(change, &table, wanted, setting)?;
        }
        self.holds_back_the_best(&table, wanted, setting, is_given_up)
    }

    /// The kinds of changes of which the policy must allow one for this change.
    fn permission(&self, change: &Change, table: &Table, wanted: &Table) -> Verdict<Vec<Allowed>> {
        let takes_back = [Allowed::REMOVE_DESTINATIONS, Allowed::REMOVE_SERVICES];
        Ok(match *change {
            Change::AddService(_) => vec![Allowed::ADD_SERVICES],
            Change::UpdateService { .. } => vec![Allowed::UPDATE_SERVICES],
            Change::RemoveService(_) => vec![Allowed::REMOVE_SERVICES],
            // Others may have added the service, unless the addition is known to be made.
            Change::AddDestination(..) if self.owes(place(change).unwrap()) => {
                vec![Allowed::ADD_SERVICES, Allowed::ADD_DESTINATIONS]
            }
            Change::AddDestination(..) => vec![Allowed::ADD_DESTINATIONS],
            Change::RemoveDestination(..) => vec![Allowed::REMOVE_DESTINATIONS],
            Change::DrainDestination(_, from) | Change::UpdateDestination { from, .. } => {
                let place = place(change).unwrap();
                let before = table.backend(place).ok_or("the destination does not exist")?;
                let after = match change {
                    Change::UpdateDestination { to, .. } => *to,
                    _ => from.weight(0),
                };
                let after = Backend::from(&after);
                let sets_weight = before.weight != after.weight;
                match (change, before.is_other != after.is_other, sets_weight) {
                    (Change::DrainDestination(..), true, _) => {
                        return Err("a drain changes more than the weight".into());
                    }
                    (Change::DrainDestination(..), ..) if wanted.0[place.0].is_none() => {
                        vec![Allowed::REMOVE_SERVICES]
                    }
                    (Change::DrainDestination(..), ..) => vec![Allowed::REMOVE_DESTINATIONS],
                    (_, true, false) => vec![Allowed::UPDATE_DESTINATIONS],
                    (_, is_other, _) => {
                        let lowered = self.seen(place).lowered;
                        let mut any = vec![Allowed::WEIGHTS];
                        if before.weight == 0 && lowered == after.weight {
                            any.extend(takes_back);
                        }
                        if is_other {
                            for one in &mut any {
                                *one |= Allowed::UPDATE_DESTINATIONS;
                            }
                        }
                        any
                    }
                }
            }
        })
    }

    fn is_gain(&self, change: &Change) -> bool {
        match change {
            Change::AddService(_) | Change::AddDestination(..) => true,
            Change::UpdateDestination { to, .. } => {
                let known = self.known.backend(place(change).unwrap());
                known.is_some_and(|known| u32::from(known.weight) < to.weight)
            }
            _ => false,
        }
    }

    fn is_loss(&self, change: &Change) -> bool {
        let known = || self.known.backend(place(change).unwrap());
        match change {
            Change::RemoveDestination(..) => true,
            Change::DrainDestination(..) => known().is_some_and(|known| known.weight > 0),
            Change::UpdateDestination { to, .. } => {
                known().is_some_and(|known| u32::from(known.weight) > to.weight)
            }
            _ => false,
        }
    }

    /// A gain of a service that the policy allows and that has no final result yet.
    fn outstanding_gain(
        &self,
        service: usize,
        wanted: &Table,
        setting: &Setting,
        is_given_up: impl Fn(Place) -> bool,
    ) -> Option<String> {
        let vip = wanted.0[service]?;
        if !setting.policy.scope.owns(&service_key(service)) {
            return None;
        }
        if self.known.0[service].is_none() {
            let is_final = self.refused[service] || !setting.allows([Allowed::ADD_SERVICES]);
            return (!is_final).then(|| format!("service {service} is added"));
        }
        (0..DESTINATIONS).map(|number| (service, number)).find_map(|place| {
            let to = vip.backends[place.1]?;
            let seen = self.seen(place);
            let is_final = match self.known.backend(place) {
                None => {
                    let is_allowed =
                        self.owes(place) || setting.allows([Allowed::ADD_DESTINATIONS]);
                    seen.is_refused || !is_allowed
                }
                Some(Backend { weight: 0, .. }) if seen.lowered > 0 && to.weight > 0 => !setting
                    .allows([
                        Allowed::WEIGHTS,
                        Allowed::REMOVE_DESTINATIONS,
                        Allowed::REMOVE_SERVICES,
                    ]),
                Some(from) => from.weight >= to.weight || !setting.allows([Allowed::WEIGHTS]),
            };
            (!is_final && !is_given_up(place)).then(|| format!("destination {place:?} has come"))
        })
    }

    /// Checks that a draining policy removes destinations only when the count is 0 or the deadline
    /// has passed.
    fn may_end_connections(
        &self,
        change: &Change,
        table: &Table,
        setting: &Setting,
        now: Duration,
    ) -> Verdict {
        let Some(_) = setting.policy.draining.deadline else { return Ok(()) };
        let service = service_number(&change.service());
        if table.is_at_once(change, setting) || table.is_unbound(service) {
            return Ok(());
        }
        let is_over = |place: Place| {
            let (seen, known) = (self.seen(place), self.known.backend(place));
            let is_idle = seen.count == Some(0) && known.is_none_or(|known| known.weight == 0);
            let is_past = |deadline| now >= deadline && seen.has_begun;
            seen.deadline.is_some_and(|deadline| is_idle || is_past(deadline))
        };
        let removed = |one: &Place| match change {
            Change::RemoveService(_) => one.0 == service && self.known.backend(*one).is_some(),
            Change::RemoveDestination(..) => place(change) == Some(*one),
            _ => false,
        };
        match places().filter(removed).find(|place| !is_over(*place)) {
            Some(place) => Err(format!("{change} removes {place:?} before it has drained")),
            None => Ok(()),
        }
    }

    /// Checks that, while a destination drains under `sh` or `mh`, another that serves and stays
    /// takes its share of the clients.
    fn serves_while_draining(
        &self,
        change: &Change,
        after: &Table,
        wanted: &Table,
        setting: &Setting,
    ) -> Verdict {
        let service = service_number(&change.service());
        let Some(vip) = after.0[service] else { return Ok(()) };
        let is_quiet = |place: &Place| {
            let seen = self.seen(*place);
            // A drain that has begun goes on even if the policy forbids to set the option. The
            // judge of random runs does not know when a drain begins.
            let goes_on = !setting.allows([Allowed::UPDATE_SERVICES])
                && (seen.deadline.is_some() || !setting.drains());
            let drains = match change {
                Change::DrainDestination(..) => !goes_on && self::place(change) == Some(*place),
                Change::UpdateService { .. } => seen.deadline.is_some() && seen.has_begun,
                _ => false,
            };
            drains && after.backend(*place).is_some_and(|backend| backend.weight == 0)
        };
        let takes = |table: &Table, place| table.backend(place).is_some_and(|b| b.weight > 0);
        let of_service = || places().filter(|place| place.0 == service);
        let serves = of_service().any(|place| takes(after, place) && takes(wanted, place));
        match of_service().find(is_quiet) {
            Some(place) if serves && vip.refuses_for_the_quiet() => {
                Err(format!("{change} refuses clients while {place:?} drains"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that, if all destinations that still serve are to go as well, the best of them is
    /// better than any that goes now.
    fn holds_back_the_best(
        &self,
        after: &Table,
        wanted: &Table,
        setting: &Setting,
        is_given_up: impl Fn(Place) -> bool,
    ) -> Verdict {
        for (service, vip) in wanted.0.iter().enumerate() {
            let (Some(before), Some(after)) = (self.known.0[service], after.0[service]) else {
                continue;
            };
            if !vip.is_some_and(|vip| vip.serves()) || before == after {
                continue;
            }
            let serving = |vip: Vip| {
                let backends = vip.backends.into_iter().enumerate();
                backends.filter_map(|(n, b)| b.filter(|b| b.weight > 0).map(|b| (b.weight, n)))
            };
            let is_to_go = |(_, number): &(u8, usize)| match wanted.backend((service, *number)) {
                _ if is_given_up((service, *number)) => false,
                Some(to) => to.weight == 0 && setting.allows([Allowed::WEIGHTS]),
                None => setting.allows([Allowed::REMOVE_DESTINATIONS]),
            };
            if !serving(after).all(|one| is_to_go(&one)) || serving(after).next().is_none() {
                continue;
            }
            let losses = serving(before).filter(|one| !serving(after).any(|kept| kept == *one));
            let by_rank = |one: &(u8, usize)| (one.0, std::cmp::Reverse(one.1));
            let best = serving(after).map(|one| by_rank(&one)).max();
            for loss in losses.filter(is_to_go) {
                ensure(best > Some(by_rank(&loss)), || {
                    format!("{loss:?} of service {service} goes, while a lesser destination stays")
                })?;
            }
        }
        Ok(())
    }
}
