//! What a controller owns, which changes it makes, and how it takes destinations away.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Protocol, Service, ServiceKey};

/// How a wanted ruleset is brought about.
///
/// ```
/// use std::time::Duration;
/// use ipvs_netlink::{Allowed, Draining, Policy, Scope};
///
/// let policy = Policy::new()
///     .scope(Scope::none().network("10.0.0.0".parse().unwrap(), 24))
///     .allowed(Allowed::all() - Allowed::WEIGHTS)
///     .draining(Draining::within(Duration::from_secs(30)));
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Policy {
    /// Which services this controller owns.
    pub scope: Scope,
    /// Which kinds of changes it makes.
    pub allowed: Allowed,
    /// How it takes destinations away.
    pub draining: Draining,
    /// Whether what was written is not read back and compared.
    pub unverified: bool,
}

impl Policy {
    /// All services, all changes, at once, verified.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which services this controller owns.
    #[must_use]
    pub fn scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Which kinds of changes it makes.
    #[must_use]
    pub fn allowed(self, allowed: Allowed) -> Self {
        Self { allowed, ..self }
    }

    /// How it takes destinations away.
    #[must_use]
    pub fn draining(self, draining: Draining) -> Self {
        Self { draining, ..self }
    }

    /// Does not read back what was written.
    #[must_use]
    pub fn unverified(self) -> Self {
        Self { unverified: true, ..self }
    }
}

/// Which services a controller owns. All others are never touched.
///
/// [`Scope::all`], or any of what was added to [`Scope::none`].
#[derive(Clone)]
pub struct Scope {
    rules: Vec<Rule>,
}

#[derive(Clone)]
enum Rule {
    All,
    Network(IpAddr, u8),
    Protocol(Protocol),
    Marks(RangeInclusive<u32>),
    Services(BTreeSet<ServiceKey>),
    Matching(Arc<dyn Fn(&ServiceKey) -> bool + Send + Sync>),
}

impl Default for Scope {
    fn default() -> Self {
        Self::all()
    }
}

impl Scope {
    /// Every service.
    pub fn all() -> Self {
        Self { rules: vec![Rule::All] }
    }

    /// No service.
    pub fn none() -> Self {
        Self { rules: Vec::new() }
    }

    /// And services whose address is in a network; a `prefix` beyond the address's length is its
    /// length.
    #[must_use]
    pub fn network(self, address: IpAddr, prefix: u8) -> Self {
        self.and(Rule::Network(address, prefix))
    }

    /// And services of this protocol.
    #[must_use]
    pub fn protocol(self, protocol: Protocol) -> Self {
        self.and(Rule::Protocol(protocol))
    }

    /// And services of these firewall marks.
    #[must_use]
    pub fn marks(self, marks: RangeInclusive<u32>) -> Self {
        self.and(Rule::Marks(marks))
    }

    /// And these services.
    #[must_use]
    pub fn services(self, keys: impl IntoIterator<Item = ServiceKey>) -> Self {
        self.and(Rule::Services(keys.into_iter().collect()))
    }

    /// And services of which this is true.
    #[must_use]
    pub fn matching(self, owns: impl Fn(&ServiceKey) -> bool + Send + Sync + 'static) -> Self {
        self.and(Rule::Matching(Arc::new(owns)))
    }

    fn and(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Whether a service is owned.
    pub fn owns(&self, key: &ServiceKey) -> bool {
        self.rules.iter().any(|rule| rule.owns(key))
    }
}

impl Rule {
    fn owns(&self, key: &ServiceKey) -> bool {
        match (self, key) {
            (Self::All, _) => true,
            (Self::Network(network, prefix), ServiceKey::Address { address, .. }) => {
                is_within(*address, *network, *prefix)
            }
            (Self::Protocol(wanted), ServiceKey::Address { protocol, .. }) => protocol == wanted,
            (Self::Marks(marks), ServiceKey::Mark { mark, .. }) => marks.contains(&mark.get()),
            (Self::Services(keys), key) => keys.contains(key),
            (Self::Matching(owns), key) => owns(key),
            _ => false,
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    // The prefix of every bit is a shift by none; of no bit, one by all, which leaves nothing.
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let rest = 32 - u32::from(prefix.min(32));
            (address.to_bits() ^ network.to_bits()).checked_shr(rest).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let rest = 128 - u32::from(prefix.min(128));
            (address.to_bits() ^ network.to_bits()).checked_shr(rest).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Network(address, prefix) => write!(f, "{address}/{prefix}"),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::Marks(marks) => write!(f, "marks {marks:?}"),
            Self::Services(keys) => f.debug_set().entries(keys).finish(),
            Self::Matching(_) => f.write_str("a predicate"),
        }
    }
}

bitflags::bitflags! {
    /// The kinds of changes that a controller makes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Allowed: u8 {
        /// Adds services.
        const ADD_SERVICES = 1;
        /// Changes the configuration of services.
        const UPDATE_SERVICES = 1 << 1;
        /// Removes services that are not wanted.
        const REMOVE_SERVICES = 1 << 2;
        /// Adds destinations to services that are there.
        const ADD_DESTINATIONS = 1 << 3;
        /// Changes the configuration of destinations, all but weights.
        const UPDATE_DESTINATIONS = 1 << 4;
        /// Removes destinations that are not wanted.
        const REMOVE_DESTINATIONS = 1 << 5;
        /// Sets weights. Without it, weights that others set are kept.
        const WEIGHTS = 1 << 6;
    }
}

impl Default for Allowed {
    fn default() -> Self {
        Self::all()
    }
}

/// How destinations that are not wanted any more are taken away.
///
/// A removed destination takes its connections along: the kernel drops their packets, or, where
/// the sysctl `expire_nodest_conn` is 1, ends them. Draining sets the weight to 0 first, so that no
/// new connections come, waits for those that are there, and removes the destination then, at the
/// latest at the deadline. One that is wanted again in between has its weight raised.
///
/// A client of a persistent service still comes to its destination while its template lasts, of
/// weight 0 or not, unless the sysctl `expire_quiescent_template` is 1, so set that. Templates hold
/// no traffic and are not waited for, unless [`templates`](Self::templates) says so.
///
/// The kernel counts a TCP connection as inactive from its first FIN on, so a client that closes its
/// half early and waits for a long answer is not waited for, unless [`inactive`](Self::inactive)
/// says so.
///
/// UDP has no end of a connection to wait for, and one-packet services have no connections: they
/// are not drained, unless [`udp`](Self::udp) says so of UDP. The default is at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Draining {
    /// How long at most; `None` removes at once.
    pub deadline: Option<Duration>,
    /// How often connections are counted.
    pub interval: Duration,
    /// Whether inactive connections are waited for, too.
    pub inactive: bool,
    /// Whether persistence templates are waited for, too.
    pub templates: bool,
    /// Whether the destinations of UDP services are drained, too.
    pub udp: bool,
}

impl Default for Draining {
    fn default() -> Self {
        Self::at_once()
    }
}

impl Draining {
    /// Removes at once.
    pub fn at_once() -> Self {
        Self {
            deadline: None,
            interval: Duration::from_secs(1),
            inactive: false,
            templates: false,
            udp: false,
        }
    }

    /// Waits for active connections, at most this long.
    pub fn within(deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..Self::at_once() }
    }

    /// How often connections are counted; at least every millisecond.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_millis(1)), ..self }
    }

    /// Waits for inactive connections, too.
    #[must_use]
    pub fn inactive(self) -> Self {
        Self { inactive: true, ..self }
    }

    /// Waits for persistence templates, too.
    #[must_use]
    pub fn templates(self) -> Self {
        Self { templates: true, ..self }
    }

    /// Drains the destinations of UDP services, too.
    #[must_use]
    pub fn udp(self) -> Self {
        Self { udp: true, ..self }
    }

    /// Whether the destinations of a service are drained.
    pub(crate) fn applies_to(&self, service: &Service) -> bool {
        let is_udp = matches!(service.key, ServiceKey::Address { protocol: Protocol::UDP, .. });
        self.deadline.is_some() && !service.one_packet && (self.udp || !is_udp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn a_scope_owns_what_it_names_and_nothing_else() {
        let tcp = |text: &str| ServiceKey::tcp(text.parse::<IpAddr>().unwrap(), 80);
        let network = Scope::none().network("10.0.1.0".parse().unwrap(), 24);
        assert!(network.owns(&tcp("10.0.1.255")));
        assert!(!network.owns(&tcp("10.0.2.0")));
        assert!(!network.owns(&tcp("::a00:101")));
        let everywhere = Scope::none().network("::".parse().unwrap(), 0);
        assert!(everywhere.owns(&tcp("2001:db8::1")) && !everywhere.owns(&tcp("10.0.0.1")));
        let host = Scope::none().network("10.0.0.1".parse().unwrap(), 200);
        assert!(host.owns(&tcp("10.0.0.1")) && !host.owns(&tcp("10.0.0.2")));

        let mark = |mark| ServiceKey::mark(NonZeroU32::new(mark).unwrap(), crate::Family::V4);
        let either = Scope::none().marks(5..=7).protocol(Protocol::UDP);
        assert!(either.owns(&mark(7)) && !either.owns(&mark(8)));
        assert!(!either.owns(&tcp("10.0.0.1")));
        assert!(Scope::none().matching(|_| true).owns(&mark(1)));
        assert!(!Scope::none().owns(&mark(1)));
    }
}
