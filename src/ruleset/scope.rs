//! The services that a controller owns.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::model::{Protocol, ServiceKey};

/// The services that a controller owns. All other services are never touched.
///
/// A scope is [`Scope::all`], or the sum of all that was added to [`Scope::none`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    rules: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Rule {
    All,
    Network(IpAddr, u8),
    Protocol(Protocol),
    Marks(RangeInclusive<u32>),
    Services(BTreeSet<ServiceKey>),
    Matching(Predicate),
}

/// The caller's function. Two predicates are equal only if they are the same function.
#[derive(Clone)]
struct Predicate(Arc<dyn Fn(&ServiceKey) -> bool + Send + Sync>);

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Predicate {}

impl Hash for Predicate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
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

    /// Adds the services whose address is in a network. A `prefix` longer than the address counts
    /// as the address's length.
    #[must_use]
    pub fn network(self, address: IpAddr, prefix: u8) -> Self {
        self.and(Rule::Network(address, prefix))
    }

    /// Adds the services of this protocol.
    #[must_use]
    pub fn protocol(self, protocol: Protocol) -> Self {
        self.and(Rule::Protocol(protocol))
    }

    /// Adds the services of these firewall marks.
    #[must_use]
    pub fn marks(self, marks: RangeInclusive<u32>) -> Self {
        self.and(Rule::Marks(marks))
    }

    /// Adds these services.
    #[must_use]
    pub fn services(self, keys: impl IntoIterator<Item: Into<ServiceKey>>) -> Self {
        self.and(Rule::Services(keys.into_iter().map(Into::into).collect()))
    }

    /// Adds the services for which the function returns `true`. It must always return the same for
    /// a service: another answer has an effect only once the whole table is read anew.
    #[must_use]
    pub fn matching(self, owns: impl Fn(&ServiceKey) -> bool + Send + Sync + 'static) -> Self {
        self.and(Rule::Matching(Predicate(Arc::new(owns))))
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
            (Self::Matching(Predicate(owns)), key) => owns(key),
            _ => false,
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    // A prefix of length 0 leaves no bit to compare: `checked_shr` refuses to shift all bits out.
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

#[cfg(test)]
mod tests {
    use super::*;

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

        let mark = |mark| ServiceKey::mark(mark, crate::Family::V4).unwrap();
        let either = Scope::none().marks(5..=7).protocol(Protocol::UDP);
        assert!(either.owns(&mark(7)) && !either.owns(&mark(8)));
        assert!(!either.owns(&tcp("10.0.0.1")));
        assert!(Scope::none().matching(|_| true).owns(&mark(1)));
        assert!(!Scope::none().owns(&mark(1)));
    }
}
