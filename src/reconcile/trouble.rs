//! The services that could not be written as planned.

use std::collections::BTreeMap;

use crate::model::DestinationKey;
use crate::ruleset::Change;
use crate::ruleset::past::{Failure, Refusals};

/// The failures of a service that could not be written as planned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Trouble {
    /// The number of times that the service was planned again.
    pub(super) rounds: u8,
    /// Whether a change has failed since the last planning.
    pub(super) is_fresh: bool,
    /// The changes that the kernel refused for good, which are not tried again.
    pub(super) refusals: Refusals,
    /// The latest change of each subject that failed for a passing reason.
    pub(super) last: BTreeMap<Option<DestinationKey>, (Change, Failure)>,
    /// The changes whose outcome is not known.
    pub(super) unknown: Vec<Change>,
}
