//! The plan: the changes that turn one ruleset into another, in their order.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::draining::is_udp;
use super::past::Past;
use super::planner::{Planned, Planner};
use super::print::AsOptions;
use super::{Change, Left, Policy, Ruleset, ServiceRules};
use crate::model::{Destination, DestinationKey, ServiceKey};

/// The changes that turn one ruleset into another, in their order.
///
/// The order keeps traffic flowing: new services with their destinations, new destinations, changes
/// that raise weights, other changes, and last the changes that lose something. Each service and
/// each destination has one change at most, and one more if it is drained. A service that takes
/// connections keeps a destination that takes connections, as long as one is wanted.
///
/// A plan prints as a list of changes for people; [`commands`](Self::commands) are those of
/// `ipvsadm`. With the feature `serde` a plan's changes and the differences that it leaves can be
/// written, for review. They cannot be read back, since a plan fits only the table that it was made
/// for.
///
/// ```
/// use ipvs_netlink::{Plan, Policy, Ruleset};
///
/// let actual: Ruleset = "-A -t 10.0.0.1:80 -s rr".parse()?;
/// let wanted: Ruleset = "-A -t 10.0.0.1:80 -s wrr
///                        -a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 3".parse()?;
/// let plan = Plan::new(&actual, &wanted, &Policy::new());
/// assert_eq!(plan.to_string(), "\
/// + tcp 10.0.0.1:80 -> 10.0.1.1:80 -m -w 3
/// ~ tcp 10.0.0.1:80: -s rr => -s wrr
/// ");
/// # Ok::<(), ipvs_netlink::ParseError>(())
/// ```
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[must_use = "a plan changes nothing until it is applied"]
pub struct Plan {
    changes: Vec<Change>,
    /// The index from which on changes are losses.
    #[cfg_attr(feature = "serde", serde(skip))]
    losses: usize,
    /// The index from which on changes wait for destinations to be drained.
    #[cfg_attr(feature = "serde", serde(skip))]
    deferred: usize,
    left: Vec<Left>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    excess: Option<Excess>,
    /// The services that are changed, as they are and as they are wanted.
    #[cfg_attr(feature = "serde", serde(skip))]
    actual: Ruleset,
    #[cfg_attr(feature = "serde", serde(skip))]
    wanted: Ruleset,
    #[cfg_attr(feature = "serde", serde(skip))]
    policy: Policy,
    /// How many services the table has.
    #[cfg_attr(feature = "serde", serde(skip))]
    table_size: usize,
    /// The family's number when the table was read, which differs between one load of the module
    /// and another.
    #[cfg_attr(feature = "serde", serde(skip))]
    module: Option<u16>,
}

/// How many services and destinations a plan removes, if that is more than its policy allows at
/// once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Excess {
    /// How many services the plan removes, …
    pub services: usize,
    /// … of how many in the policy's scope.
    pub of_services: usize,
    /// How many destinations the plan removes, …
    pub destinations: usize,
    /// … of how many in the policy's scope.
    pub of_destinations: usize,
}

impl Excess {
    /// The losses of a plan, if they are more than the policy allows. Destinations that are `going`
    /// already do not count as part of the whole.
    pub(crate) fn find(
        policy: &Policy,
        actual: &Ruleset,
        lost: &Lost,
        going: &Lost,
    ) -> Option<Self> {
        let most = policy.at_most.filter(|_| !lost.is_empty())?;
        let owned = actual.services().filter(|rules| policy.scope.owns(&rules.key()));
        let all = owned.fold([0, 0], |[services, destinations], rules| {
            [services + 1, destinations + rules.destinations().len()]
        });
        let count = |subjects: &mut dyn Iterator<Item = &Subject>| {
            subjects.fold([0, 0], |[services, destinations], (_, destination)| {
                let is_service = usize::from(destination.is_none());
                [services + is_service, destinations + 1 - is_service]
            })
        };
        let is_there = |(service, destination): &&Subject| {
            let rules = actual.service(*service);
            rules.is_some_and(|rules| destination.is_none_or(|it| rules.destination(it).is_some()))
        };
        let [services, destinations] = count(&mut lost.iter());
        let owned = |(service, _): &&Subject| policy.scope.owns(service);
        let going = going.difference(lost).filter(owned).filter(is_there);
        let going = count(&mut going.into_iter());
        // The share is of the table at the beginning of the pass: add what the pass has removed
        // since.
        let removed = count(&mut lost.iter().filter(|subject| !is_there(subject)));
        let [of_services, of_destinations] =
            [0, 1].map(|it| (all[it] + removed[it]).saturating_sub(going[it]));
        let is_too_much = most.is_exceeded(services, of_services)
            || most.is_exceeded(destinations, of_destinations);
        is_too_much.then_some(Self { services, of_services, destinations, of_destinations })
    }
}

/// A service, or a destination of it.
pub(crate) type Subject = (ServiceKey, Option<DestinationKey>);

/// Services and destinations that are removed.
pub(crate) type Lost = BTreeSet<Subject>;

/// Adds the removals of these changes to the losses, and the drains: one that was refused may keep
/// its service, and with it the removals of the others, from being planned.
pub(crate) fn add_losses<'a>(
    lost: &mut Lost,
    changes: impl IntoIterator<Item = &'a Change>,
    actual: &Ruleset,
) {
    for change in changes {
        match change {
            Change::RemoveService(service) => {
                let rules = actual.service(service.key);
                let destinations = rules.into_iter().flat_map(ServiceRules::destinations);
                lost.extend(destinations.map(|d| (service.key, Some(d.key))));
                lost.insert((service.key, None));
            }
            Change::DrainDestination(service, destination)
            | Change::RemoveDestination(service, destination) => {
                lost.insert((*service, Some(destination.key)));
            }
            _ => {}
        }
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, of_services, destinations, of_destinations } = self;
        write!(
            f,
            "takes away {services} of {of_services} services and {destinations} of \
             {of_destinations} destinations, which is more than the policy takes at once"
        )
    }
}

/// The parts of a plan, for those who carry it out.
pub(crate) struct PlanParts {
    pub(crate) changes: Vec<Change>,
    /// The index from which on changes are losses.
    pub(crate) losses: usize,
    /// The changes that wait for destinations to be drained.
    pub(crate) deferred: Vec<Change>,
    pub(crate) left: Vec<Left>,
    pub(crate) excess: Option<Excess>,
    pub(crate) actual: Ruleset,
    pub(crate) wanted: Ruleset,
    pub(crate) policy: Policy,
    pub(crate) table_size: usize,
}

impl Plan {
    /// Plans how `actual` becomes `wanted`, as far as the policy allows.
    pub fn new(actual: &Ruleset, wanted: &Ruleset, policy: &Policy) -> Self {
        let keys = actual.services.keys().chain(wanted.services.keys());
        let keys: BTreeSet<_> = keys.copied().collect();
        let mut planner = Planner::new(policy);
        let (mut from, mut to) = (Ruleset::new(), Ruleset::new());
        for key in keys {
            let (actual, wanted) = (actual.services.get(&key), wanted.services.get(&key));
            let rules = (actual.map(Arc::as_ref), wanted.map(Arc::as_ref));
            if planner.service(key, rules.0, rules.1, Past::default()) {
                from.services.extend(actual.map(|rules| (key, Arc::clone(rules))));
                to.services.extend(wanted.map(|rules| (key, Arc::clone(rules))));
            }
        }
        let Planned { changes, losses, deferred, left, .. } = planner.finish();
        let mut lost = Lost::new();
        if policy.at_most.is_some() {
            add_losses(&mut lost, &changes, actual);
        }
        let excess = Excess::find(policy, actual, &lost, &Lost::new());
        let policy = policy.clone();
        Self {
            changes,
            losses,
            deferred,
            left,
            excess,
            actual: from,
            wanted: to,
            policy,
            table_size: actual.services.len(),
            module: None,
        }
    }

    /// The same plan, for the table of this load of the module.
    pub(crate) fn of_module(self, module: Option<u16>) -> Self {
        Self { module, ..self }
    }

    pub(crate) fn module(&self) -> Option<u16> {
        self.module
    }

    /// The changes, in their order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The differences that the plan does not change.
    pub fn left(&self) -> &[Left] {
        &self.left
    }

    /// Whether the plan has no changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The losses, if they are more than [`Policy::at_most`] allows. Such a plan is not carried out
    /// unless it is confirmed.
    pub fn excess(&self) -> Option<&Excess> {
        self.excess.as_ref()
    }

    /// The same plan, to be carried out however much it removes.
    pub fn confirm(self) -> Self {
        Self { excess: None, ..self }
    }

    /// The services that are changed, as they are.
    pub fn before(&self) -> &Ruleset {
        &self.actual
    }

    /// Prints the changes as `ipvsadm` commands, one a line, for `ipvsadm -R`.
    ///
    /// If `ipvsadm` has no option for a value, the command has an option that `ipvsadm` refuses.
    /// `ipvsadm` gives destinations of direct routing and of tunnels the port of their service: see
    /// [`Ruleset`].
    pub fn commands(&self) -> impl fmt::Display {
        Commands(self)
    }

    pub(crate) fn into_parts(self) -> PlanParts {
        let Self { mut changes, losses, left, excess, actual, wanted, policy, table_size, .. } =
            self;
        let deferred = changes.split_off(self.deferred);
        PlanParts { changes, losses, deferred, left, excess, actual, wanted, policy, table_size }
    }

    /// Whether a drain of UDP is shorter than the time for which the kernel keeps idle UDP
    /// connections by default.
    fn cuts_udp(&self) -> bool {
        const UDP_TIMEOUT: Duration = Duration::from_secs(300);
        let mut drained = self.changes.iter().filter_map(|change| match change {
            Change::DrainDestination(service, _) => Some(service),
            _ => None,
        });
        self.policy.draining.deadline.is_some_and(|deadline| deadline < UDP_TIMEOUT)
            && drained.any(is_udp)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        for left in &self.left {
            writeln!(f, "{left}")?;
        }
        if self.cuts_udp() {
            writeln!(
                f,
                "  UDP connections end by their timeout alone, 300 s unless set otherwise: a \
                 shorter drain cuts them off"
            )?;
        }
        if let Some(excess) = &self.excess {
            writeln!(f, "  withheld until it is confirmed: it {excess}")?;
        }
        Ok(())
    }
}

struct Commands<'a>(&'a Plan);

impl fmt::Display for Commands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.0.changes {
            match change {
                Change::AddService(service) => writeln!(f, "-A {}", AsOptions(service)),
                Change::UpdateService { to, .. } => writeln!(f, "-E {}", AsOptions(to)),
                Change::RemoveService(service) => writeln!(f, "-D {}", AsOptions(&service.key)),
                Change::AddDestination(service, to) => {
                    writeln!(f, "-a {} -r {}", AsOptions(service), AsOptions(to))
                }
                Change::UpdateDestination { service, to, .. } => {
                    writeln!(f, "-e {} -r {}", AsOptions(service), AsOptions(to))
                }
                Change::DrainDestination(_, Destination { weight: 0, .. }) => Ok(()),
                Change::DrainDestination(service, from) => {
                    writeln!(f, "-e {} -r {}", AsOptions(service), AsOptions(&from.weight(0)))
                }
                Change::RemoveDestination(service, from) => {
                    writeln!(f, "-d {} -r {}", AsOptions(service), from.key)
                }
            }?;
        }
        Ok(())
    }
}
