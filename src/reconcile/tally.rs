//! What the reconciler has done so far.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{DestinationKey, ServiceKey};
use crate::ruleset::past::Drain;
use crate::ruleset::{Change, ConnectionCounts, Ruleset};

/// What the reconciler has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Tally {
    /// How many changes were made.
    pub(crate) changed: usize,
    /// How often services that others had changed were planned again.
    pub(crate) rounds: usize,
    /// How many drains ended, by how they ended.
    pub(crate) ends: BTreeMap<DrainEnd, usize>,
    /// The services that were to be changed, as they were before, and all of their keys.
    pub(crate) before: Ruleset,
    pub(crate) touched: BTreeSet<ServiceKey>,
    /// The changes that were made, where the policy asks for them.
    pub(crate) made: Vec<Change>,
    /// The drains that ended, where the policy asks for them.
    pub(crate) ended: Vec<EndedDrain>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DrainEnd {
    /// The destination had no connection left that is waited for, and was removed.
    Idle,
    /// The deadline had passed, and the destination was removed with the connections it had.
    Deadline,
    /// The destination is wanted again, or stays since the policy does not allow to remove it.
    WantedAgain,
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
    /// How it ended.
    pub end: DrainEnd,
    /// The connections it had when they were counted last; `None` where they never were.
    pub connections: Option<ConnectionCounts>,
}

impl DrainEnd {
    /// How a drain ends by the removal of its destination.
    pub(super) fn of(drain: &Drain) -> Self {
        match drain.counted {
            Some(count) if count.is_idle => Self::Idle,
            _ => Self::Deadline,
        }
    }
}
