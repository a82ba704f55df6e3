//! The tally of the reconciler's work: the changes that were made and the drains that ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{DestinationKey, ServiceKey};
use crate::ruleset::past::Drain;
use crate::ruleset::{Change, ConnectionCounts, Ruleset};

/// The work of the reconciler since the tally was last taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Tally {
    /// The number of changes that were made.
    pub(crate) changed: usize,
    /// The number of rounds in which services that others had changed were planned again.
    pub(crate) rounds: usize,
    /// The numbers of drains that ended, by the way they ended.
    pub(crate) ends: BTreeMap<DrainEnd, usize>,
    /// The services that were to be changed, as they were before.
    pub(crate) before: Ruleset,
    /// The keys of all services that were to be changed, new ones included.
    pub(crate) touched: BTreeSet<ServiceKey>,
    /// The changes that were made, if the policy asks for details.
    pub(crate) made: Vec<Change>,
    /// The drains that ended, if the policy asks for details.
    pub(crate) ended: Vec<EndedDrain>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DrainEnd {
    /// The destination was removed when it had no connection left that the drain waits for.
    Idle,
    /// The destination was removed together with its last connections: after the deadline, or as
    /// soon as another destination was there whose clients it would have refused (see
    /// [`Draining`](crate::Draining)).
    Deadline,
    /// The destination is wanted again, or stays since the policy does not allow its removal.
    WantedAgain,
    /// Others have raised its weight, and it is not lowered again for now, since its loss is held
    /// back or withheld. It drains anew later, for the whole time.
    Raised,
    /// Somebody else has removed it.
    Gone,
}

/// The end of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EndedDrain {
    /// The service.
    pub service: ServiceKey,
    /// The destination.
    pub destination: DestinationKey,
    /// How the drain ended.
    pub end: DrainEnd,
    /// The destination's connections, if they were counted just before the end.
    pub connections: Option<ConnectionCounts>,
}

impl DrainEnd {
    /// The end of a drain whose destination was removed.
    pub(super) fn of(drain: &Drain) -> Self {
        match drain.counted {
            Some(count) if count.is_idle => Self::Idle,
            _ => Self::Deadline,
        }
    }
}
