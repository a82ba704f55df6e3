//! The end of an apply or a pass: the report tells every difference, once.

use std::fmt;

use super::super::Reconciler;
use super::judge::{Judge, Verdict, place, places};
use super::table::{Place, SERVICES, Table, Vip, destination_key, service_key, service_number};
use super::world::Setting;
use crate::model::Scheduler;
use crate::ruleset::{Allowed, Change, Difference, Left, Reason};

/// An aspect in which a destination, or a service (without a destination's number), differs from
/// the wanted one.
type Subject = (usize, Option<usize>, Aspect);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aspect {
    Existence,
    Configuration,
    Weight,
}

/// A statement of a report, and the differences that it may be about.
struct Statement {
    text: String,
    about: Vec<Subject>,
}

/// The report of an apply or a pass at its end.
pub(super) struct Said {
    /// The changes that failed.
    pub(super) failed: Vec<Change>,
    pub(super) left: Vec<Left>,
    /// The destinations that drain.
    pub(super) draining: Vec<Place>,
    /// The losses, and whatever belongs to them, are withheld.
    pub(super) is_withheld: bool,
}

impl From<&mut Reconciler> for Said {
    fn from(reconciler: &mut Reconciler) -> Self {
        let left = reconciler.left().to_vec();
        let drains = |(service, number): &Place| {
            let drains = reconciler.drains().get(&service_key(*service));
            let drain = drains.and_then(|drains| drains.get(&destination_key(*number)));
            drain.is_some_and(|drain| drain.ends().is_some())
        };
        Self {
            failed: reconciler.failed().map(|(change, _)| *change).collect(),
            left,
            draining: places().filter(drains).collect(),
            is_withheld: reconciler.excess().is_some(),
        }
    }
}

impl Judge {
    /// Checks that a report tells all differences and nothing else.
    pub(super) fn end(&self, said: &Said, wanted: &Table, setting: &Setting) -> Verdict {
        for place in places() {
            let takes = self.known.backend(place).is_some_and(|backend| backend.weight > 0);
            let drains = self.seen(place).deadline.is_some();
            let fails = said.failed.iter().any(|it| service_number(&it.service()) == place.0);
            if takes && drains && !fails {
                return Err(format!("{place:?} takes connections and keeps its deadline"));
            }
        }
        let differences = self.differences(&said.draining, wanted, setting);
        let statements = self.statements(said, wanted, setting)?;
        for difference in &differences {
            let by = statements.iter().filter(|by| by.about.contains(difference));
            let by: Vec<_> = by.map(|by| by.text.as_str()).collect();
            // Each draining destination of an unwanted service tells of the service's removal.
            let is_service = matches!(difference, (_, None, Aspect::Existence));
            let is_drained = is_service && by.iter().all(|text| text.starts_with(DRAINING));
            let is_told = !by.is_empty() || said.is_withheld;
            if !is_told || by.len() > 1 && !is_drained {
                return Err(format!("{difference:?} is told by {by:?}"));
            }
        }
        // The fallback option for a drain that failed is a step towards the difference.
        let drains = |service| {
            let mut failed = said.failed.iter();
            failed.any(|it| {
                matches!(it, Change::DrainDestination(..))
                    && service_number(&it.service()) == service
            })
        };
        let is_step =
            |it: &Subject| matches!(*it, (service, None, Aspect::Configuration) if drains(service));
        let tells_of_nothing = |it: &&Statement| {
            !it.about.iter().any(|about| differences.contains(about) || is_step(about))
        };
        match statements.iter().find(tells_of_nothing) {
            Some(Statement { text, .. }) => Err(format!("{text:?} tells of no difference")),
            None => Ok(()),
        }
    }

    /// Checks that a report tells all differences when the driver goes no further.
    pub(super) fn is_told(&self, said: &Said, wanted: &Table, setting: &Setting) -> Verdict {
        let statements = self.statements(said, wanted, setting)?;
        let differences = self.differences(&said.draining, wanted, setting);
        let is_told = |it: &Subject| statements.iter().any(|by| by.about.contains(it));
        // A statement on the existence of a service covers its destinations.
        let is_untold = |it: &&Subject| !is_told(it) && !is_told(&(it.0, None, Aspect::Existence));
        match differences.iter().find(|it| !said.is_withheld && is_untold(it)) {
            Some(difference) => Err(format!("{difference:?} is not told")),
            None => Ok(()),
        }
    }

    fn differences(&self, draining: &[Place], wanted: &Table, setting: &Setting) -> Vec<Subject> {
        let mut differences = Vec::new();
        for service in 0..SERVICES {
            // A drain may need the fallback option, which is taken back after the drain.
            let drains = draining.iter().any(|place| place.0 == service);
            let is_wanted = |known: Vip, wanted: Vip| {
                known.scheduler == wanted.scheduler
                    || drains && known.scheduler == wanted.with_fallback().scheduler
            };
            match (self.known.0[service], wanted.0[service]) {
                (Some(known), Some(wanted)) if !is_wanted(known, wanted) => {
                    differences.push((service, None, Aspect::Configuration));
                }
                (None, Some(_)) | (Some(_), None) => {
                    differences.push((service, None, Aspect::Existence));
                }
                _ => {}
            }
        }
        for (service, number) in places() {
            let place = (service, number);
            let mut differs = |aspect| differences.push((service, Some(number), aspect));
            match (self.known.backend(place), wanted.backend(place)) {
                (None, Some(_)) | (Some(_), None) => differs(Aspect::Existence),
                (Some(known), Some(wanted)) => {
                    if known.is_other != wanted.is_other {
                        differs(Aspect::Configuration);
                    }
                    let is_weight_ours = setting.allows([Allowed::WEIGHTS]);
                    let is_lost = known.weight == 0 && wanted.weight > 0;
                    if known.weight != wanted.weight && (is_weight_ours || is_lost) {
                        differs(Aspect::Weight);
                    }
                }
                (None, None) => {}
            }
        }
        differences
    }

    fn statements(
        &self,
        said: &Said,
        wanted: &Table,
        setting: &Setting,
    ) -> Verdict<Vec<Statement>> {
        let mut statements = Vec::new();
        let mut say = |text: fmt::Arguments<'_>, about| {
            statements.push(Statement { text: text.to_string(), about });
        };
        for change in &said.failed {
            say(format_args!("failed: {change}"), about_change(change));
        }
        for left in &said.left {
            let service = service_number(&left.service);
            let (place, about) = about_left(service, &left.what, left.why);
            self.is_reason((service, place), left, said, wanted, setting)
                .map_err(|fault| format!("{left}: {fault}"))?;
            say(format_args!("left: {left}"), about);
        }
        for (service, number) in &said.draining {
            let existence = |number| (*service, number, Aspect::Existence);
            let mut about = vec![existence(Some(*number))];
            about.extend(wanted.0[*service].is_none().then_some(existence(None)));
            say(format_args!("{DRAINING} destination {number} of {service}"), about);
        }
        Ok(statements)
    }

    /// Checks that a difference can be left for this reason.
    fn is_reason(
        &self,
        (service, place): (usize, Option<Place>),
        left: &Left,
        said: &Said,
        wanted: &Table,
        setting: &Setting,
    ) -> Verdict {
        let needed = match left.what {
            Difference::UnwantedService => Allowed::REMOVE_SERVICES,
            Difference::MissingService => Allowed::ADD_SERVICES,
            Difference::Service => Allowed::UPDATE_SERVICES,
            Difference::UnwantedDestination(_) => Allowed::REMOVE_DESTINATIONS,
            Difference::MissingDestination(_) => Allowed::ADD_DESTINATIONS,
            Difference::Destination(_) => Allowed::UPDATE_DESTINATIONS,
            Difference::Weight(_) => Allowed::WEIGHTS,
        };
        let is_so = match left.why {
            Reason::NotAllowed => {
                let is_owed = place.is_some_and(|place| self.owes(place));
                !setting.allows([needed]) && !is_owed
            }
            Reason::OutOfScope => !setting.policy.scope.owns(&service_key(service)),
            Reason::NotAllKnown => !self.is_told,
            Reason::UnknownOrigin => {
                let is_ours = place.is_some_and(|place| self.seen(place).lowered > 0);
                !setting.allows([Allowed::WEIGHTS]) && !is_ours
            }
            Reason::WouldRefuse => {
                let is_low = |place: &Place| {
                    place.0 == service
                        && self.known.backend(*place).is_some_and(|it| it.weight == 0)
                };
                let with_option = wanted.0[service].map(Vip::with_fallback);
                let has_option = self.known.0[service].zip(with_option);
                has_option.is_some_and(|(known, with)| known.scheduler == with.scheduler)
                    && places().any(|place| is_low(&place))
            }
            Reason::HeldBack => {
                // Others may still take connections if their loss was called off.
                let is_lost = |other| {
                    said.failed.iter().any(|change| super::judge::place(change) == Some(other))
                };
                let serves_alone = places().filter(|place| place.0 == service).all(|other| {
                    let takes = self.known.backend(other).is_some_and(|it| it.weight > 0);
                    takes == (Some(other) == place) || takes && is_lost(other)
                });
                serves_alone && wanted.0[service].is_some_and(|vip| vip.serves())
            }
        };
        if is_so { Ok(()) } else { Err("the reason does not apply".into()) }
    }
}

const DRAINING: &str = "draining";

fn about_change(change: &Change) -> Vec<Subject> {
    let service = service_number(&change.service());
    let number = place(change).map(|(_, number)| number);
    let one = |aspect| vec![(service, number, aspect)];
    match change {
        Change::RemoveService(_) => whole(service),
        // The late scheduler of a new service.
        Change::UpdateService { from, .. } if from.scheduler == Scheduler::Unbound => {
            vec![(service, None, Aspect::Configuration), (service, None, Aspect::Existence)]
        }
        Change::UpdateService { .. } => one(Aspect::Configuration),
        Change::UpdateDestination { from, to, .. } => {
            let mut about = Vec::new();
            if from.weight(to.weight) != *to {
                about.push((service, number, Aspect::Configuration));
            }
            if from.weight != to.weight {
                about.push((service, number, Aspect::Weight));
            }
            about
        }
        _ => one(Aspect::Existence),
    }
}

fn about_left(service: usize, what: &Difference, why: Reason) -> (Option<Place>, Vec<Subject>) {
    let one = |key, aspect| {
        let number = super::table::destination_number(key);
        (Some((service, number)), vec![(service, Some(number), aspect)])
    };
    match what {
        Difference::UnwantedService | Difference::MissingService => (None, whole(service)),
        Difference::Service if why == Reason::OutOfScope => {
            let mut about = whole(service);
            about.push((service, None, Aspect::Configuration));
            for aspect in [Aspect::Configuration, Aspect::Weight] {
                about.extend(numbers().map(|number| (service, number, aspect)));
            }
            (None, about)
        }
        Difference::Service => (None, vec![(service, None, Aspect::Configuration)]),
        Difference::UnwantedDestination(d) | Difference::MissingDestination(d) => {
            one(&d.key, Aspect::Existence)
        }
        Difference::Destination(d) => one(&d.key, Aspect::Configuration),
        Difference::Weight(d) => one(&d.key, Aspect::Weight),
    }
}

fn numbers() -> impl Iterator<Item = Option<usize>> {
    (0..super::table::DESTINATIONS).map(Some)
}

/// The existence of a service and of its destinations.
fn whole(service: usize) -> Vec<Subject> {
    let numbers = std::iter::once(None).chain(numbers());
    numbers.map(|number| (service, number, Aspect::Existence)).collect()
}
