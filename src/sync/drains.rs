//! The weights that draining has lowered, as a value that outlives its controller.

use std::time::{Duration, SystemTime};

use crate::model::{DestinationKey, ServiceKey};

/// The destinations whose weight a [`Syncer`](crate::Syncer) has set to 0 to drain them.
///
/// The kernel does not store why a weight is 0, the weight before, or the time until which a
/// destination may drain. A controller that stores this value, and gives it to
/// [`Syncer::resume`](crate::Syncer::resume) after a restart, ends as if it had never stopped. With
/// the feature `serde` the value can be written and read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Drains {
    pub(super) entries: Vec<DrainEntry>,
}

/// A destination of [`Drains`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct DrainEntry {
    /// The service.
    pub service: ServiceKey,
    /// The destination.
    pub destination: DestinationKey,
    /// The weight before the drain.
    pub weight: u32,
    /// The time of the removal at the latest, by the wall clock. `None` if the clock does not reach
    /// this time, and if the destination is wanted again and only its weight is to be taken back.
    pub until: Option<SystemTime>,
    /// Whether the destination drains; `false` once it is wanted again.
    pub draining: bool,
}

impl Drains {
    /// The destinations.
    pub fn entries(&self) -> &[DrainEntry] {
        &self.entries
    }

    /// Whether no destination drains.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl DrainEntry {
    /// How much longer the destination may drain.
    pub(super) fn left(&self, now: SystemTime) -> Option<Duration> {
        self.draining.then(|| match self.until {
            Some(until) => until.duration_since(now).unwrap_or_default(),
            None => Duration::MAX,
        })
    }
}
