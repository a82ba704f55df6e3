//! The judge: it keeps its own account of readings and acknowledgements, and checks each step
//! against the rules.
//!
//! The judge goes by the documentation of the policy and by the rules at the head of `reconcile`.
//! Of the reconciler it knows only what the reconciler hands out.

use std::time::Duration;

use super::super::{DrainEnd, EndedDrain, Listing, Outcome, Reconciler};
use super::guard::Losses;
use super::table::{
    Backend, DESTINATIONS, Place, SERVICES, Table, Vip, destination_number, service_key,
    service_number,
};
use super::world::Setting;
use crate::model::Scheduler;
use crate::protocol::Operation;
use crate::ruleset::{Allowed, Change};

/// The outcome of a check; the error tells in words which rule was broken.
pub(super) type Verdict<T = ()> = Result<T, String>;

/// The account of readings and acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Judge {
    /// Each service as it was last read, with the changes that were acknowledged since.
    pub(super) known: Table,
    /// Whether the controller has told what it wants.
    pub(super) is_told: bool,
    seen: [[Seen; DESTINATIONS]; SERVICES],
    /// The new services that the kernel has refused.
    pub(super) refused: [bool; SERVICES],
    /// The destinations that are still to be added to services that the controller has added.
    pub(super) owed: [[bool; DESTINATIONS]; SERVICES],
    /// The services that the controller may have added, with their schedulers.
    adding: [Option<Scheduler>; SERVICES],
    /// The services to whose configuration the controller has written, and that were not read since.
    written: [bool; SERVICES],
    /// The account of the losses of this pass.
    pub(super) losses: Losses,
}

/// The account of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Seen {
    /// Whether the kernel has refused to add it.
    pub(super) is_refused: bool,
    /// The weight that a drain has taken from it.
    pub(super) lowered: u8,
    /// The deadline of its drain.
    pub(super) deadline: Option<Duration>,
    /// Whether its weight is known to have become 0 since the drain began.
    pub(super) has_begun: bool,
    /// Its connections at the last count of the drain.
    pub(super) count: Option<u8>,
    /// The number of listings in a row that lacked it.
    lacking: u8,
    /// The change that was sent and has no answer yet.
    pending: Option<Pending>,
    /// Whether its removal was acknowledged, or found to be made, in this step.
    is_removed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pending {
    /// Lowering it from this weight.
    Drain(u8),
    Removal,
}

pub(super) fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

pub(super) fn places() -> impl Iterator<Item = Place> {
    (0..SERVICES).flat_map(|service| (0..DESTINATIONS).map(move |number| (service, number)))
}

/// The destination of a change.
pub(super) fn place(change: &Change) -> Option<Place> {
    let destination = change.destination()?;
    Some((service_number(&change.service()), destination_number(&destination)))
}

impl Judge {
    /// A judge of a controller that has told what it wants.
    pub(super) fn told() -> Self {
        Self { is_told: true, ..Self::default() }
    }

    pub(super) fn seen(&self, (service, destination): Place) -> &Seen {
        &self.seen[service][destination]
    }

    /// Whether a destination is still to be added to a service that the controller has added.
    pub(super) fn owes(&self, (service, destination): Place) -> bool {
        self.owed[service][destination]
    }

    fn seen_mut(&mut self, (service, destination): Place) -> &mut Seen {
        &mut self.seen[service][destination]
    }

    /// A new judge, which knows nothing but the drains, if they are kept.
    pub(super) fn restarted(&self, keeps_drains: bool) -> Self {
        let mut new = Self { is_told: self.is_told, ..Self::default() };
        for place in places().filter(|_| keeps_drains) {
            let Seen { lowered, deadline, has_begun, pending, .. } = *self.seen(place);
            *new.seen_mut(place) = Seen {
                lowered,
                deadline: deadline.filter(|_| has_begun),
                has_begun,
                pending,
                ..Seen::default()
            };
        }
        new
    }

    /// Begins the account of the losses of another pass, which finds this table.
    pub(super) fn begin(&mut self, table: &Table, wanted: &Table) {
        for place in places() {
            self.owed[place.0][place.1] &= wanted.backend(place).is_some();
        }
        self.losses = self.losses.next(table, wanted, |place| self.is_going(place, table));
    }

    /// Whether a destination drains and takes no connections in this table.
    pub(super) fn is_going(&self, place: Place, table: &Table) -> bool {
        self.seen(place).deadline.is_some()
            && table.backend(place).is_some_and(|backend| backend.weight == 0)
    }

    /// Whether a drain has taken a weight that may have to be given back.
    pub(super) fn has_lowered(&self) -> bool {
        places().any(|place| {
            let seen = self.seen(place);
            seen.lowered > 0 || seen.deadline.is_some() || seen.pending.is_some()
        })
    }

    /// Takes a listing of these services.
    pub(super) fn read(
        &mut self,
        is_asked: impl Fn(usize) -> bool,
        listing: &Listing,
        wanted: &Table,
    ) {
        let read = Table::from(&listing.rules);
        for place in places().filter(|(service, _)| is_asked(*service)) {
            let backend = read.backend(place);
            let key = (service_key(place.0), super::table::destination_key(place.1));
            let count = listing.connections.get(&key).map(|c| u8::try_from(c.active).unwrap());
            let seen = self.seen_mut(place);
            seen.is_removed = backend.is_none() && seen.pending == Some(Pending::Removal);
            match (backend, seen.pending.take()) {
                (Some(Backend { weight: 0, .. }), Some(Pending::Drain(from))) => {
                    seen.lowered = from;
                }
                (Some(Backend { weight: 1.., .. }), _) => seen.lowered = 0,
                _ => {}
            }
            if backend.is_some() {
                seen.count = count.filter(|_| seen.deadline.is_some());
            }
            seen.lacking = if backend.is_some() { 0 } else { (seen.lacking + 1).min(2) };
            if seen.is_removed || seen.lacking == 2 || read.0[place.0].is_none() {
                seen.lowered = 0;
            }
        }
        for service in (0..SERVICES).filter(|service| is_asked(*service)) {
            let before = std::mem::replace(&mut self.known.0[service], read.0[service]);
            let added = self.adding[service].take().zip(read.0[service]);
            let of =
                [added.map(|(scheduler, _)| scheduler), wanted.0[service].map(|it| it.scheduler)];
            if added.is_some_and(|(_, read)| of.contains(&Some(read.scheduler))) {
                self.owe(service, wanted);
            }
            // Others may have put another service in its place. The first reading after a write of
            // ours may show what the kernel made of it.
            let was_written = std::mem::take(&mut self.written[service]) || added.is_some();
            let is_as_before =
                |it: Vip| before.is_some_and(|before| before.scheduler == it.scheduler);
            let is_ours = read.0[service].is_some_and(|it| was_written || is_as_before(it));
            for number in 0..DESTINATIONS {
                let is_there = read.backend((service, number)).is_some();
                self.owed[service][number] &= is_ours && !is_there;
            }
        }
        self.losses.read(&self.known, wanted);
    }

    /// Records that the controller has added a service, whose destinations follow.
    fn owe(&mut self, service: usize, wanted: &Table) {
        self.owed[service] = std::array::from_fn(|it| wanted.backend((service, it)).is_some());
    }

    /// Takes the outcomes of changes.
    pub(super) fn wrote(&mut self, changes: &[Change], outcomes: &[Outcome], wanted: &Table) {
        for (change, outcome) in changes.iter().zip(outcomes) {
            let service = service_number(&change.service());
            let from = place(change).and_then(|place| self.known.backend(place));
            let from = from.map_or(0, |backend| backend.weight);
            let mut about: Vec<Place> = place(change).into_iter().collect();
            if matches!(change, Change::RemoveService(_)) {
                about = places().filter(|place| place.0 == service).collect();
            }
            if let (Change::AddService(_), Outcome::Done | Outcome::Refused) = (change, outcome) {
                self.refused[service] = *outcome == Outcome::Refused;
            }
            if let (
                Change::AddService(_) | Change::UpdateService { .. },
                Outcome::Done | Outcome::Unknown,
            ) = (change, outcome)
            {
                self.written[service] = true;
            }
            match (change, outcome) {
                (Change::AddService(_), Outcome::Done) => self.owe(service, wanted),
                (Change::AddService(it), Outcome::Unknown) => {
                    self.adding[service] = Some(it.scheduler);
                }
                (Change::RemoveService(_), Outcome::Done) | (_, Outcome::ServiceMissing) => {
                    self.owed[service] = [false; DESTINATIONS];
                }
                (Change::AddDestination(..), Outcome::Done) => {
                    self.owed[service][place(change).unwrap().1] = false;
                }
                _ => {}
            }
            if let (Outcome::Done, Some(operation)) = (outcome, change.operation()) {
                self.known.run(&operation);
            }
            for place in about {
                let is_there = self.known.backend(place).is_some();
                let seen = self.seen_mut(place);
                match (change, outcome) {
                    (Change::AddDestination(..), Outcome::Refused) => seen.is_refused = true,
                    (Change::AddDestination(..), Outcome::Done) => seen.is_refused = false,
                    (Change::DrainDestination(..), Outcome::Done) if from > 0 => {
                        seen.lowered = from;
                    }
                    (Change::DrainDestination(..), Outcome::Unknown) => {
                        seen.pending = Some(Pending::Drain(from));
                    }
                    (Change::UpdateDestination { to, .. }, Outcome::Done) if to.weight > 0 => {
                        seen.lowered = 0;
                    }
                    (Change::RemoveDestination(..) | Change::RemoveService(_), _) => {
                        match outcome {
                            Outcome::Done => (seen.lowered, seen.is_removed) = (0, !is_there),
                            Outcome::Unknown => seen.pending = Some(Pending::Removal),
                            _ => {}
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Checks after a step which drains went on, began or ended.
    pub(super) fn step(
        &mut self,
        reconciler: &Reconciler,
        ended: &[EndedDrain],
        wanted: &Table,
        setting: &Setting,
        now: Duration,
    ) -> Verdict {
        for place in places() {
            let key = (service_key(place.0), super::table::destination_key(place.1));
            let drain = reconciler.drains().get(&key.0).and_then(|drains| drains.get(&key.1));
            let deadline = drain.and_then(|drain| drain.deadline);
            let mut ends = ended.iter().filter(|end| (end.service, end.destination) == key);
            let (end, more) = (ends.next(), ends.next());
            let what = || format!("{place:?}, deadline {:?}: {end:?}", self.seen(place).deadline);
            ensure(more.is_none(), || format!("{} and {more:?}", what()))?;
            match (self.seen(place).deadline, deadline, end) {
                (None, None, None) => {}
                (Some(before), Some(after), None) => {
                    ensure(before == after, || format!("{}, now {after:?}", what()))?;
                }
                (None, Some(new), None) => {
                    let within = setting.policy.draining.deadline.unwrap_or_default();
                    let is_unwanted = wanted.backend(place).is_none();
                    let is_there = self.known.backend(place).is_some() && is_unwanted;
                    ensure(is_there && new == now + within, || {
                        format!("{}, now {new:?}, at {now:?}", what())
                    })?;
                    self.seen_mut(place).count = None;
                }
                (Some(_), None, Some(end)) => {
                    self.is_end(place, end, wanted, setting, now)
                        .map_err(|fault| format!("{}: {fault}", what()))?;
                    self.seen_mut(place).count = None;
                }
                // It was to begin, but the weight could not be lowered.
                (Some(_), None, None) if !self.seen(place).has_begun => {
                    self.seen_mut(place).count = None;
                }
                _ => return Err(format!("{} and goes on until {deadline:?}", what())),
            }
            let is_low = self.known.backend(place).is_some_and(|known| known.weight == 0);
            let seen = self.seen_mut(place);
            (seen.deadline, seen.is_removed) = (deadline, false);
            seen.has_begun = deadline.is_some() && (seen.has_begun || is_low);
        }
        Ok(())
    }

    /// Checks that a drain can have ended like this.
    fn is_end(
        &self,
        place: Place,
        ended: &EndedDrain,
        wanted: &Table,
        setting: &Setting,
        now: Duration,
    ) -> Verdict {
        let seen = self.seen(place);
        let connections = ended.connections.map(|count| u8::try_from(count.active).unwrap());
        let is_counted = connections == seen.count;
        let is_so = match ended.end {
            DrainEnd::Idle => seen.is_removed && is_counted && seen.count == Some(0),
            DrainEnd::Deadline => {
                let is_past = seen.deadline.is_some_and(|deadline| now >= deadline);
                // It would refuse clients that another destination takes now.
                let would_refuse = self.known.0[place.0]
                    .is_some_and(|vip| vip.refuses_during_drains(setting) && vip.serves());
                seen.is_removed && (is_past && is_counted && seen.count != Some(0) || would_refuse)
            }
            DrainEnd::WantedAgain => {
                let removal = match wanted.0[place.0] {
                    Some(_) => Allowed::REMOVE_DESTINATIONS,
                    None => Allowed::REMOVE_SERVICES,
                };
                wanted.backend(place).is_some() || !setting.allows([removal])
            }
            DrainEnd::Raised => {
                let takes = |backend: Backend| backend.weight > 0;
                wanted.backend(place).is_none() && self.known.backend(place).is_some_and(takes)
            }
            DrainEnd::Gone => seen.lacking == 2,
        };
        ensure(is_so, || format!("the drain cannot have ended so: {seen:?}"))
    }
}

impl From<&crate::ruleset::Ruleset> for Table {
    fn from(rules: &crate::ruleset::Ruleset) -> Self {
        let mut table = Self::default();
        for rules in rules.services() {
            table.run(&Operation::AddService(*rules.service()));
            for destination in rules.destinations() {
                table.run(&Operation::AddDestination(rules.key(), *destination));
            }
        }
        table
    }
}
