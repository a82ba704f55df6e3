//! The weights that draining has lowered, as a value that outlives its controller.

use std::time::{Duration, SystemTime};

use crate::model::{DestinationKey, ServiceKey};

/// The destinations whose weight a [`Syncer`](crate::Syncer) has set to 0 to drain them.
///
/// The kernel does not keep why a weight is 0, what it was before, or until when a destination may
/// drain. A controller that keeps this value, and gives it to
/// [`Syncer::resume`](crate::Syncer::resume) after a restart, ends as if it had never stopped. With
/// the feature `serde` it is written and read.
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
    /// The weight it had before.
    pub weight: u32,
    /// When it is removed at the latest, by the wall clock. `None` if the clock does not reach so
    /// far, and if the destination is wanted again and only its weight is to be taken back.
    pub until: Option<SystemTime>,
    /// Whether it drains; `false` once it is wanted again.
    pub draining: bool,
}

impl Drains {
    /// The destinations.
    pub fn entries(&self) -> &[DrainEntry] {
        &self.entries
    }

    /// Whether nothing drains.
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
