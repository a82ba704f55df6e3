//! The policy by which a table is made as wanted.

use super::{Draining, Scope};

/// How a table is made as wanted: which part, by which changes, how carefully.
///
/// ```
/// use std::time::Duration;
/// use ipvs_netlink::{Allowed, Draining, Policy, Scope};
///
/// let policy = Policy::new()
///     .scope(Scope::none().network("10.0.0.0".parse().unwrap(), 24))
///     .allowed(Allowed::all() - Allowed::WEIGHTS)
///     .draining(Draining::within(Duration::from_secs(30)))
///     .at_most(0.5);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Policy {
    /// The services that this controller owns.
    pub scope: Scope,
    /// The kinds of changes that the controller makes.
    pub allowed: Allowed,
    /// How the controller removes destinations.
    pub draining: Draining,
    /// Whether the written rules are read back and compared. A pass of a [`Syncer`](crate::Syncer)
    /// always trusts the kernel's acknowledgement, and reads the table at its
    /// [`max_age`](crate::Syncer::max_age).
    pub verify: bool,
    /// The largest share of its services, or of its destinations, that one sync or pass removes.
    pub at_most: Option<Share>,
    /// Whether reports list each change, each destination that drains and each drain's end, and not
    /// only count them.
    pub detailed: bool,
}

impl Policy {
    /// All services, all changes, removal at once, verified.
    pub fn new() -> Self {
        Self::default()
    }

    /// The services that this controller owns.
    #[must_use]
    pub fn scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// The kinds of changes that the controller makes.
    #[must_use]
    pub fn allowed(self, allowed: Allowed) -> Self {
        Self { allowed, ..self }
    }

    /// How the controller removes destinations.
    #[must_use]
    pub fn draining(self, draining: Draining) -> Self {
        Self { draining, ..self }
    }

    /// Whether the written rules are read back and compared; the default is yes.
    #[must_use]
    pub fn verify(self, verify: bool) -> Self {
        Self { verify, ..self }
    }

    /// Removes at most this share, from 0 to 1, of the services, and of the destinations, that the
    /// controller owns: a guard against an empty list from an API or a truncated file. A destination
    /// that another one replaces is removed, too.
    ///
    /// A plan that would remove more is withheld whole, its additions included, and the report says
    /// this, until [`Plan::confirm`](crate::Plan::confirm) or
    /// [`Syncer::confirm`](crate::Syncer::confirm). Drains that have begun go on, or end if their
    /// destination is wanted again; a destination that drains and whose weight others have raised
    /// counts once more, unless its loss was confirmed, and may be withheld. An unwanted service
    /// that drains, and to which others add, is withheld as a whole where the policy does not allow
    /// removing and adding destinations. The share is of the table at the time of planning,
    /// without the destinations that drain already. If others add to the services while a plan is
    /// applied, their additions are removed without another look at the share; a pass looks at the
    /// share again. A share that is not a number counts as 0.
    #[must_use]
    pub fn at_most(self, share: f64) -> Self {
        Self { at_most: Some(Share::new(share)), ..self }
    }

    /// Whether reports list each change, each destination that drains and each drain's end, and not
    /// only count them; the default is no. The lists are copies: a million changes take some 100
    /// MB.
    #[must_use]
    pub fn detailed(self, detailed: bool) -> Self {
        Self { detailed, ..self }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            scope: Scope::default(),
            allowed: Allowed::default(),
            draining: Draining::default(),
            verify: true,
            at_most: None,
            detailed: false,
        }
    }
}

/// A part of a whole, from none to all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    millionths: u32,
}

impl Share {
    const WHOLE: u32 = 1_000_000;

    /// A share from 0 to 1; a number outside of this range counts as the nearer end.
    pub fn new(share: f64) -> Self {
        // Rounded up, so that a third of three destinations is one; but 0.07, whose product is a
        // little more than 70,000, stays what it is.
        const NOTHING: f64 = 1e-6;
        let millionths = (share * f64::from(Self::WHOLE) - NOTHING).ceil();
        // A cast saturates, and turns a value that is not a number into 0.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let millionths = millionths as u32;
        Self { millionths: millionths.min(Self::WHOLE) }
    }

    /// The share as a number from 0 to 1.
    pub fn get(self) -> f64 {
        f64::from(self.millionths) / f64::from(Self::WHOLE)
    }

    /// Whether `part` is more than this share of `whole`.
    pub(crate) fn is_exceeded(self, part: usize, whole: usize) -> bool {
        part as u128 * u128::from(Self::WHOLE) > whole as u128 * u128::from(self.millionths)
    }
}

bitflags::bitflags! {
    /// The kinds of changes that a controller makes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Allowed: u8 {
        /// Adds services, with their destinations. If
        /// [`ADD_DESTINATIONS`](Self::ADD_DESTINATIONS) is not allowed, the destinations follow once
        /// the kernel has acknowledged the service, since others may have added it meanwhile; those
        /// that fail are tried again like any other change, until they are there, are no longer
        /// wanted, or a reading shows that others have removed or changed the service since the
        /// reading before. A controller that starts again between the two does not know that the
        /// service is its own, and does not add them.
        const ADD_SERVICES = 1;
        /// Changes the configuration of services.
        const UPDATE_SERVICES = 1 << 1;
        /// Removes services that are not wanted. This includes draining them first, and taking a
        /// drain back.
        const REMOVE_SERVICES = 1 << 2;
        /// Adds destinations to present services.
        const ADD_DESTINATIONS = 1 << 3;
        /// Changes the configuration of destinations, all but weights.
        const UPDATE_DESTINATIONS = 1 << 4;
        /// Removes destinations that are not wanted. This includes draining them first, and taking
        /// a drain back.
        const REMOVE_DESTINATIONS = 1 << 5;
        /// Sets weights. Without it the weights that others set are kept, and count as wanted. A
        /// weight of 0 that draining set is still taken back where removals are allowed. Any other
        /// weight of 0 stays though a higher weight is wanted, and the report says this.
        const WEIGHTS = 1 << 6;
    }
}

impl Default for Allowed {
    fn default() -> Self {
        Self::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exceeded_by_more_than_it() {
        assert!(!Share::new(0.5).is_exceeded(5, 10) && Share::new(0.5).is_exceeded(6, 10));
        assert!(!Share::new(7.0).is_exceeded(10, 10));
        for whole in 1..10_000_u32 {
            let one = Share::new(1.0 / f64::from(whole));
            assert!(!one.is_exceeded(1, whole as usize), "1 of {whole}");
            assert!(one.is_exceeded(2, whole as usize) || whole == 1, "2 of {whole}");
        }
        for hundredths in 0..=100 {
            let share = f64::from(hundredths) / 100.0;
            assert!((Share::new(share).get() - share).abs() < f64::EPSILON, "{share}");
        }
        assert!(Share::new(f64::NAN).is_exceeded(1, 10) && !Share::new(-1.0).is_exceeded(0, 0));
    }
}
