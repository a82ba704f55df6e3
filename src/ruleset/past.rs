//! The memory of a reconciler on which planning depends: the drains and the refusals of a service,
//! and what is still to be added to a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Change, ConnectionCounts};
use crate::model::{DestinationKey, Service};

/// What is remembered of a service.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Past<'a> {
    /// The destinations whose weight draining has lowered, or is about to lower.
    pub(crate) drains: Option<&'a ServiceDrains>,
    /// The changes that the kernel has refused for good.
    pub(crate) refusals: Option<&'a Refusals>,
    /// The rest of the service, if it is new.
    pub(crate) owed: Option<&'a Owed>,
}

/// The rest of a new service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owed {
    /// The service as it was written, or as it was read since.
    pub(crate) service: Service,
    /// Whether it was read since it was written. The kernel may keep other values than the written
    /// ones.
    pub(crate) was_read: bool,
    /// The destinations that are still to be added.
    pub(crate) destinations: BTreeSet<DestinationKey>,
}

/// The drains of a service's destinations.
pub(crate) type ServiceDrains = BTreeMap<DestinationKey, Drain>;

/// A destination whose weight draining has lowered, or is about to lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Drain {
    /// The weight before; 0 if it is not known.
    pub(crate) before: u32,
    /// The time of the removal at the latest; `None` once the destination is wanted again and only
    /// its weight is to be taken back.
    pub(crate) deadline: Option<Duration>,
    /// The last count of its connections.
    pub(crate) counted: Option<Count>,
    /// Whether its weight was lowered. If not, the deadline lasts no longer than the attempt.
    pub(crate) has_begun: bool,
    /// Whether the last listing lacked the destination.
    pub(crate) is_missing: bool,
    /// Whether the drain stands still: it is held back, not allowed, or has failed.
    pub(crate) is_suspended: bool,
}

impl Drain {
    /// A drain that is about to begin, or one with a deadline that has begun before a restart.
    pub(crate) fn new(before: u32, deadline: Option<Duration>) -> Self {
        let has_begun = deadline.is_some();
        Self { before, deadline, counted: None, has_begun, is_missing: false, is_suspended: false }
    }

    /// The deadline of a drain that has begun.
    pub(crate) fn kept_deadline(&self) -> Option<Duration> {
        self.deadline.filter(|_| self.has_begun)
    }

    /// When the destination is removed at the latest, if it drains.
    pub(crate) fn ends(&self) -> Option<Duration> {
        self.deadline.filter(|_| !self.is_suspended)
    }
}

/// A count of connections, and whether it lets the destination be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Count {
    pub(crate) connections: ConnectionCounts,
    /// Whether all connections that are waited for have ended.
    pub(crate) is_idle: bool,
    /// Whether the deadline had passed.
    pub(crate) is_overdue: bool,
}

impl Drain {
    /// Whether a destination that had this weight when it was counted can be removed. If others
    /// have raised its weight, it takes connections again, idle or not.
    pub(crate) fn is_over(&self, weight: u32) -> bool {
        self.counted.is_some_and(|count| count.is_overdue || count.is_idle && weight == 0)
    }
}

/// The refused changes of a service (`None`) and of its destinations.
pub(crate) type Refusals = BTreeMap<Option<DestinationKey>, Refusal>;

/// A change that is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Refusal {
    pub(crate) change: Change,
    pub(crate) failure: Failure,
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Failure {
    /// The kernel refused it.
    Refused,
    /// The kernel refused the service of the change.
    ServiceRefused,
    /// Others had changed the table.
    Conflict,
    /// It could not be sent.
    NotSent,
    /// Whether the kernel made the change is not known.
    Unknown,
    /// Others have undone it, again and again.
    Overruled,
    /// The kernel keeps another value than the one that was written.
    NotKept,
    /// The caller has called off the rest.
    Stopped,
}

impl Past<'_> {
    pub(super) fn drain(&self, destination: DestinationKey) -> Option<&Drain> {
        self.drains?.get(&destination)
    }

    /// Whether the drain of a destination has begun.
    pub(super) fn drains(&self, destination: DestinationKey) -> bool {
        self.drain(destination).is_some_and(|drain| drain.deadline.is_some())
    }

    /// Whether a destination is still to be added to its service, which is new.
    pub(super) fn owes(&self, destination: DestinationKey) -> bool {
        self.owed.is_some_and(|owed| owed.destinations.contains(&destination))
    }

    /// Whether the deadline of a destination's drain has passed.
    pub(super) fn is_overdue(&self, destination: DestinationKey) -> bool {
        let counted = self.drain(destination).and_then(|drain| drain.counted);
        counted.is_some_and(|count| count.is_overdue)
    }

    pub(super) fn is_over(&self, destination: DestinationKey, weight: u32) -> bool {
        self.drain(destination).is_some_and(|drain| drain.is_over(weight))
    }

    /// Why a change is not to be tried; `None` if it is to be tried.
    pub(super) fn refusal(&self, change: &Change) -> Option<Failure> {
        let Refusal { change: refused, failure } = self.refusals?.get(&change.destination())?;
        let is_it = *failure == Failure::NotKept || refused.operation() == change.operation();
        is_it.then_some(*failure)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::Destination;

    #[test]
    fn a_refusal_holds_for_the_same_operation_and_an_unkept_value_for_each() {
        let service = Service::tcp(Ipv4Addr::LOCALHOST, 80).key;
        let destination = Destination::masquerade(Ipv4Addr::LOCALHOST, 8080);
        let addition = Change::AddDestination(service, destination);
        let removal = Change::RemoveDestination(service, destination);
        for (failure, of_addition, of_removal) in [
            (Failure::Refused, Some(Failure::Refused), None),
            (Failure::NotKept, Some(Failure::NotKept), Some(Failure::NotKept)),
        ] {
            let subject = addition.destination();
            let refusals = Refusals::from([(subject, Refusal { change: addition, failure })]);
            let past = Past { refusals: Some(&refusals), ..Past::default() };
            assert_eq!(past.refusal(&addition), of_addition);
            assert_eq!(past.refusal(&removal), of_removal);
        }
        assert_eq!(Past::default().refusal(&addition), None);
    }
}
