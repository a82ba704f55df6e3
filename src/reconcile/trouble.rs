//! The services that could not be written as planned.

use std::collections::BTreeMap;

use crate::model::DestinationKey;
use crate::ruleset::Change;
use crate::ruleset::past::{Failure, Refusals};

/// The failures of a service that could not be written as planned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Trouble {
    /// How often it was planned again.
    pub(super) rounds: u8,
    /// Whether something went wrong since it was planned.
    pub(super) is_fresh: bool,
    /// The changes that the kernel refused for good: they are not tried again.
    pub(super) refusals: Refusals,
    /// The changes that failed last for a passing reason.
    pub(super) last: BTreeMap<Option<DestinationKey>, (Change, Failure)>,
    /// The changes whose outcome is not known.
    pub(super) unknown: Vec<Change>,
}
