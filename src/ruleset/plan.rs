//! The plan: what to change, in which order, so that one ruleset becomes another.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::print::{AsOptions, Configuration};
use super::{Allowed, Policy, Ruleset, ServiceRules};
use crate::model::{Destination, Service, ServiceKey};
use crate::protocol::Operation;

/// A change of a [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Change {
    /// A service is added.
    AddService(Service),
    /// A service gets another configuration. Another scheduler makes some kernels refuse new
    /// connections for a moment; see [`update_service`](crate::blocking::Client::update_service).
    UpdateService {
        /// The configuration it has.
        from: Service,
        /// The configuration it gets.
        to: Service,
    },
    /// A service is removed, with its destinations.
    RemoveService(Service),
    /// A destination is added.
    AddDestination(ServiceKey, Destination),
    /// A destination gets another configuration.
    UpdateDestination {
        /// Its service.
        service: ServiceKey,
        /// The configuration it has.
        from: Destination,
        /// The configuration it gets.
        to: Destination,
    },
    /// A destination gets weight 0, so that no new connections come; one that has it keeps it.
    DrainDestination(ServiceKey, Destination),
    /// A destination is removed.
    RemoveDestination(ServiceKey, Destination),
}

impl Change {
    /// The service that is changed, or whose destination is.
    pub fn service(&self) -> ServiceKey {
        match self {
            Self::AddService(service)
            | Self::UpdateService { from: service, .. }
            | Self::RemoveService(service) => service.key,
            Self::AddDestination(service, _)
            | Self::UpdateDestination { service, .. }
            | Self::DrainDestination(service, _)
            | Self::RemoveDestination(service, _) => *service,
        }
    }

    /// Whether the kernel has nothing to do for it.
    #[inline]
    pub(crate) fn is_so_already(&self) -> bool {
        matches!(self, Self::DrainDestination(_, Destination { weight: 0, .. }))
    }

    /// What asks the kernel for it; `None` where it is so already.
    #[inline]
    pub fn operation(&self) -> Option<Operation> {
        Some(match *self {
            Self::AddService(service) => Operation::AddService(service),
            Self::UpdateService { to, .. } => Operation::UpdateService(to),
            Self::RemoveService(service) => Operation::RemoveService(service.key),
            Self::AddDestination(service, destination) => {
                Operation::AddDestination(service, destination)
            }
            Self::UpdateDestination { service, to, .. } => {
                Operation::UpdateDestination(service, to)
            }
            _ if self.is_so_already() => return None,
            Self::DrainDestination(service, destination) => {
                Operation::UpdateDestination(service, destination.weight(0))
            }
            Self::RemoveDestination(service, destination) => {
                Operation::RemoveDestination(service, destination.key)
            }
        })
    }
}

/// Something that is not as wanted, and that a plan leaves so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Left {
    /// The service.
    pub service: ServiceKey,
    /// What is left as it is.
    pub what: Difference,
    /// Why.
    pub why: Reason,
}

/// What is not as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Difference {
    /// The service is not wanted.
    UnwantedService,
    /// The service is wanted and missing.
    MissingService,
    /// The service has another configuration than wanted.
    Service,
    /// The destination is not wanted.
    UnwantedDestination(Destination),
    /// The destination is wanted and missing.
    MissingDestination(Destination),
    /// The destination has another configuration than this, which is wanted.
    Destination(Destination),
}

/// Why something is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Reason {
    /// The service is outside of the scope.
    OutOfScope,
    /// The policy does not allow the change.
    NotAllowed,
}

/// What to change, in which order, so that one ruleset becomes another.
///
/// The order keeps traffic flowing: new services with their destinations, new destinations,
/// changes that raise weights, other changes, and what goes away last. There is at most one change
/// for each service and destination, and one more where a destination is drained.
///
/// It prints as a list of changes for people; [`commands`](Self::commands) are `ipvsadm`'s. With
/// the feature `serde` its changes and what it leaves are written, to be reviewed and kept; they
/// are not read back, since a plan is of use to the table it was made for alone.
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
/// # Ok::<(), ipvs_netlink::ruleset::ParseError>(())
/// ```
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Plan {
    changes: Vec<Change>,
    /// From where on changes wait for destinations to be drained.
    #[cfg_attr(feature = "serde", serde(skip))]
    deferred: usize,
    left: Vec<Left>,
    /// The services that are changed, as they are and as they are wanted.
    #[cfg_attr(feature = "serde", serde(skip))]
    actual: Ruleset,
    #[cfg_attr(feature = "serde", serde(skip))]
    wanted: Ruleset,
    #[cfg_attr(feature = "serde", serde(skip))]
    policy: Policy,
}

impl Plan {
    /// Plans how `actual` becomes `wanted`, as far as the policy allows.
    pub fn new(actual: &Ruleset, wanted: &Ruleset, policy: &Policy) -> Self {
        let keys = actual.services.keys().chain(wanted.services.keys());
        let keys: BTreeSet<_> = keys.copied().collect();
        Self::of_services(keys, actual, wanted, policy)
    }

    /// Plans for these services alone.
    pub(crate) fn of_services(
        keys: impl IntoIterator<Item = ServiceKey>,
        actual: &Ruleset,
        wanted: &Ruleset,
        policy: &Policy,
    ) -> Self {
        let mut planner = Planner::new(policy);
        let (mut from, mut to) = (Ruleset::new(), Ruleset::new());
        for key in keys {
            let (actual, wanted) = (actual.services.get(&key), wanted.services.get(&key));
            if planner.service(key, actual.map(Arc::as_ref), wanted.map(Arc::as_ref)) {
                from.services.extend(actual.map(|rules| (key, Arc::clone(rules))));
                to.services.extend(wanted.map(|rules| (key, Arc::clone(rules))));
            }
        }
        let Planner { new, added, raised, changed, removed, drained, deferred, left, .. } = planner;
        let mut changes = new;
        for phase in [added, raised, changed, removed, drained] {
            changes.extend(phase);
        }
        let at = changes.len();
        changes.extend(deferred);
        Self { changes, deferred: at, left, actual: from, wanted: to, policy: policy.clone() }
    }

    /// The changes, in their order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What is not as wanted, and left so.
    pub fn left(&self) -> &[Left] {
        &self.left
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Prints the changes as `ipvsadm` commands, one a line, as `ipvsadm -R` reads them.
    pub fn commands(&self) -> impl fmt::Display {
        Commands(self)
    }

    /// The changes that wait for nothing.
    pub(crate) fn immediate(&self) -> &[Change] {
        &self.changes[..self.deferred]
    }

    /// The changes that wait for destinations to be drained.
    pub(crate) fn deferred(&self) -> &[Change] {
        &self.changes[self.deferred..]
    }

    /// The services that are changed, as they are wanted.
    pub(crate) fn wanted(&self) -> &Ruleset {
        &self.wanted
    }

    /// Takes what is known of the services that are changed.
    pub(crate) fn take_actual(&mut self) -> Ruleset {
        std::mem::take(&mut self.actual)
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn take_left(&mut self) -> Vec<Left> {
        std::mem::take(&mut self.left)
    }
}

/// Sorts changes by phase.
struct Planner<'a> {
    policy: &'a Policy,
    new: Vec<Change>,
    added: Vec<Change>,
    raised: Vec<Change>,
    changed: Vec<Change>,
    removed: Vec<Change>,
    drained: Vec<Change>,
    deferred: Vec<Change>,
    left: Vec<Left>,
}

impl<'a> Planner<'a> {
    fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            new: Vec::new(),
            added: Vec::new(),
            raised: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            drained: Vec::new(),
            deferred: Vec::new(),
            left: Vec::new(),
        }
    }

    fn count(&self) -> usize {
        let phases = [
            &self.new,
            &self.added,
            &self.raised,
            &self.changed,
            &self.removed,
            &self.drained,
            &self.deferred,
        ];
        phases.into_iter().map(Vec::len).sum()
    }

    /// Plans for one service; tells whether anything is to change.
    fn service(
        &mut self,
        key: ServiceKey,
        actual: Option<&ServiceRules>,
        wanted: Option<&ServiceRules>,
    ) -> bool {
        if actual == wanted {
            return false;
        }
        let before = self.count();
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
            (None, Some(wanted)) => self.new_service(wanted),
            (Some(actual), Some(wanted)) => self.changed_service(actual, wanted),
            (Some(actual), None) => self.unwanted_service(actual),
            (None, None) => {}
        }
        self.count() > before
    }

    fn new_service(&mut self, wanted: &ServiceRules) {
        let key = wanted.service.key;
        if !self.allows(Allowed::ADD_SERVICES) {
            return self.leave(key, Difference::MissingService, Reason::NotAllowed);
        }
        self.new.push(Change::AddService(wanted.service));
        let destinations = wanted.destinations();
        self.new.extend(destinations.map(|wanted| Change::AddDestination(key, *wanted)));
    }

    fn changed_service(&mut self, actual: &ServiceRules, wanted: &ServiceRules) {
        let key = actual.service.key;
        if actual.service != wanted.service {
            if self.allows(Allowed::UPDATE_SERVICES) {
                let (from, to) = (actual.service, wanted.service);
                self.changed.push(Change::UpdateService { from, to });
            } else {
                self.leave(key, Difference::Service, Reason::NotAllowed);
            }
        }
        for wanted in wanted.destinations() {
            match actual.destination(wanted.key) {
                Some(actual) => self.changed_destination(key, actual, wanted),
                None if self.allows(Allowed::ADD_DESTINATIONS) => {
                    self.added.push(Change::AddDestination(key, *wanted));
                }
                None => {
                    let what = Difference::MissingDestination(*wanted);
                    self.leave(key, what, Reason::NotAllowed);
                }
            }
        }
        for unwanted in actual.destinations() {
            if wanted.destination(unwanted.key).is_none() {
                self.unwanted_destination(&actual.service, unwanted);
            }
        }
    }

    fn changed_destination(&mut self, key: ServiceKey, from: &Destination, wanted: &Destination) {
        if from == wanted {
            return;
        }
        let mut to = *from;
        if self.allows(Allowed::UPDATE_DESTINATIONS) {
            to = wanted.weight(from.weight);
        }
        if self.allows(Allowed::WEIGHTS) {
            to.weight = wanted.weight;
        }
        // Weights that others set are kept on purpose.
        if to != *wanted && to.weight(wanted.weight) != *wanted {
            self.leave(key, Difference::Destination(*wanted), Reason::NotAllowed);
        }
        let change = Change::UpdateDestination { service: key, from: *from, to };
        match to.weight {
            _ if to == *from => {}
            weight if weight > from.weight => self.raised.push(change),
            _ => self.changed.push(change),
        }
    }

    fn unwanted_destination(&mut self, service: &Service, unwanted: &Destination) {
        let key = service.key;
        if !self.allows(Allowed::REMOVE_DESTINATIONS) {
            let what = Difference::UnwantedDestination(*unwanted);
            return self.leave(key, what, Reason::NotAllowed);
        }
        let removal = Change::RemoveDestination(key, *unwanted);
        if self.policy.draining.applies_to(service) {
            self.drained.push(Change::DrainDestination(key, *unwanted));
            self.deferred.push(removal);
        } else {
            self.removed.push(removal);
        }
    }

    fn unwanted_service(&mut self, actual: &ServiceRules) {
        let key = actual.service.key;
        if !self.allows(Allowed::REMOVE_SERVICES) {
            return self.leave(key, Difference::UnwantedService, Reason::NotAllowed);
        }
        let removal = Change::RemoveService(actual.service);
        if !self.policy.draining.applies_to(&actual.service) || actual.destinations.is_empty() {
            return self.removed.push(removal);
        }
        let destinations = actual.destinations();
        self.drained.extend(destinations.map(|d| Change::DrainDestination(key, *d)));
        self.deferred.push(removal);
    }

    fn allows(&self, change: Allowed) -> bool {
        self.policy.allowed.contains(change)
    }

    fn leave(&mut self, service: ServiceKey, what: Difference, why: Reason) {
        self.left.push(Left { service, what, why });
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
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(service) => {
                write!(f, "+ {}{}", service.key, AsOptions(&Configuration(service)))
            }
            Self::UpdateService { from, to } => {
                let (from, to) = (Configuration(from), Configuration(to));
                write!(f, "~ {}:{} =>{}", from.0.key, AsOptions(&from), AsOptions(&to))
            }
            Self::RemoveService(service) => write!(f, "- {}", service.key),
            Self::AddDestination(service, destination) => {
                write!(f, "+ {service} -> {}", AsOptions(destination))
            }
            Self::UpdateDestination { service, from, to } => {
                write!(f, "~ {service} -> {} => {}", AsOptions(from), AsOptions(to))
            }
            Self::DrainDestination(service, destination) => {
                write!(f, "~ {service} -> {}, drained", destination.key)
            }
            Self::RemoveDestination(service, destination) => {
                write!(f, "- {service} -> {}", destination.key)
            }
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.service)?;
        match self.what {
            Difference::UnwantedService => f.write_str(" is not wanted")?,
            Difference::MissingService => f.write_str(" is missing")?,
            Difference::Service => f.write_str(" is not as wanted")?,
            Difference::UnwantedDestination(d) => write!(f, " -> {} is not wanted", d.key)?,
            Difference::MissingDestination(d) => write!(f, " -> {} is missing", d.key)?,
            Difference::Destination(d) => write!(f, " -> {} is not as wanted", d.key)?,
        }
        f.write_str(match self.why {
            Reason::OutOfScope => ", and left so: out of scope",
            Reason::NotAllowed => ", and left so: not allowed",
        })
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
