//! The judge of [`Policy::at_most`](crate::Policy::at_most): what one pass takes away of all that it
//! has seen.

use super::judge::{Verdict, ensure, place, places};
use super::table::{DESTINATIONS, Place, SERVICES, Table, service_number};
use super::world::Setting;
use crate::ruleset::Change;

/// Services and destinations, in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Marked {
    services: [bool; SERVICES],
    destinations: [[bool; DESTINATIONS]; SERVICES],
}

/// What a pass has seen and taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Losses {
    pub(super) is_confirmed: bool,
    /// Everything of which the loss was confirmed, and that is still to go.
    confirmed: Marked,
    /// Everything that the table had at any time of the pass.
    seen: Marked,
    /// The destinations that drained before the pass.
    drained: Marked,
    taken: Marked,
    /// Everything unwanted that the pass has met: a destination of weight 0 drains without a
    /// change, and is lost whoever removes it.
    met: Marked,
}

impl Marked {
    /// Adds the contents of a table, but for those of another.
    fn add(&mut self, table: &Table, without: &Table) {
        for service in 0..SERVICES {
            let is_there = table.0[service].is_some() && without.0[service].is_none();
            self.services[service] |= is_there;
        }
        for place in places() {
            let is_there = table.backend(place).is_some() && without.backend(place).is_none();
            self.destinations[place.0][place.1] |= is_there;
        }
    }

    /// Adds the marks of another.
    fn join(&mut self, other: &Self) {
        self.change(other, |one, other| one | other);
    }

    fn change(&mut self, other: &Self, by: impl Fn(bool, bool) -> bool) {
        for service in 0..SERVICES {
            self.services[service] = by(self.services[service], other.services[service]);
        }
        for (service, number) in places() {
            let one = &mut self.destinations[service][number];
            *one = by(*one, other.destinations[service][number]);
        }
    }

    /// The numbers of services and destinations among these that the controller owns.
    fn count(&self, setting: &Setting) -> [usize; 2] {
        let owned = || {
            (0..SERVICES).filter(|it| setting.policy.scope.owns(&super::table::service_key(*it)))
        };
        let destinations = owned().flat_map(|service| self.destinations[service]);
        [owned().filter(|it| self.services[*it]).count(), destinations.filter(|it| *it).count()]
    }
}

impl Losses {
    /// The account of another pass. A confirmation that was not used holds for that pass, too.
    pub(super) fn next(
        self,
        known: &Table,
        wanted: &Table,
        drains: impl Fn(Place) -> bool,
    ) -> Self {
        let Self { is_confirmed, mut confirmed, .. } = self;
        let mut unwanted = Marked::default();
        unwanted.add(known, wanted);
        confirmed.change(&unwanted, |one, other| one && other);
        let mut next = Self { is_confirmed, confirmed, ..Self::default() };
        next.read(known, wanted);
        for place in places() {
            next.drained.destinations[place.0][place.1] = drains(place);
        }
        next
    }

    pub(super) fn read(&mut self, known: &Table, wanted: &Table) {
        self.seen.add(known, &Table::default());
        self.met.add(known, wanted);
    }

    /// Adds the losses among these changes; an error tells that they exceed the policy's share.
    pub(super) fn write(
        &mut self,
        changes: &[Change],
        known: &Table,
        wanted: &Table,
        setting: &Setting,
    ) -> Verdict {
        self.read(known, wanted);
        if self.is_confirmed {
            self.confirmed.add(known, wanted);
        }
        let mut taken = Marked::default();
        for change in changes {
            let service = service_number(&change.service());
            match (change, place(change)) {
                // A half-made service makes room for the whole one.
                (Change::RemoveService(_), _) if known.is_unbound(service) => {}
                (Change::RemoveService(_), _) => {
                    let there =
                        || places().filter(|it| it.0 == service && known.backend(*it).is_some());
                    let drained = |it: Place| self.drained.destinations[it.0][it.1];
                    let is_new = there().next().is_none() || !there().all(drained);
                    taken.services[service] |= is_new;
                    there().for_each(|it| taken.destinations[it.0][it.1] = true);
                }
                (Change::RemoveDestination(..) | Change::DrainDestination(..), Some(it)) => {
                    taken.destinations[it.0][it.1] = true;
                }
                _ => {}
            }
        }
        for but in [self.drained, self.confirmed] {
            taken.change(&but, |one, other| one && !other);
        }
        self.taken.join(&taken);
        let (taken, of) = (self.taken.count(setting), self.seen.count(setting));
        ensure(!Self::is_exceeded(taken, of, setting), || {
            format!("{taken:?} services and destinations are taken of {of:?}")
        })
    }

    fn is_exceeded(taken: [usize; 2], of: [usize; 2], setting: &Setting) -> bool {
        let Some(most) = setting.policy.at_most else { return false };
        taken.into_iter().zip(of).any(|(taken, of)| most.is_exceeded(taken, of))
    }

    /// Checks that a pass had to withhold its losses: with what it took they exceed the share of what
    /// does not drain.
    pub(super) fn may_withhold(
        &self,
        known: &Table,
        wanted: &Table,
        setting: &Setting,
        drains: impl Fn(Place) -> bool,
    ) -> Verdict {
        ensure(!self.is_confirmed, || "confirmed losses are withheld".into())?;
        // What others have raised since counts once more.
        let mut drained = self.drained;
        for (service, number) in places() {
            let takes = known.backend((service, number)).is_some_and(|it| it.weight > 0);
            drained.destinations[service][number] &= !takes;
        }
        let mut losses = self.met;
        for service in 0..SERVICES {
            let met = self.met.destinations[service];
            let mut there = (0..DESTINATIONS).filter(|it| met[*it]).peekable();
            let goes = there.peek().is_some() && there.all(|it| drained.destinations[service][it]);
            losses.services[service] &= !goes;
        }
        losses.change(&drained, |one, other| one && !other);
        losses.join(&self.taken);
        let mut of = losses;
        losses.add(known, wanted);
        of.add(known, &Table::default());
        for but in [drained, self.confirmed] {
            losses.change(&but, |one, other| one && !other);
        }
        let mut draining = Marked::default();
        places().for_each(|it| draining.destinations[it.0][it.1] = drains(it));
        for service in 0..SERVICES {
            let mut there =
                places().filter(|it| it.0 == service && known.backend(*it).is_some()).peekable();
            draining.services[service] = there.peek().is_some() && there.all(&drains);
        }
        of.change(&draining, |one, other| one && !other);
        let (losses, of) = (losses.count(setting), of.count(setting));
        ensure(Self::is_exceeded(losses, of, setting), || {
            format!("{losses:?} services and destinations of {of:?} are withheld")
        })
    }

    /// Ends the pass, and with it a confirmation.
    pub(super) fn end(&mut self, known: &Table, wanted: &Table) {
        if std::mem::take(&mut self.is_confirmed) {
            self.confirmed.add(known, wanted);
        }
    }
}
