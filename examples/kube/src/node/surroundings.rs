//! What rules need besides themselves: the packet filter, addresses, and answers to health checks.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipvs_netlink::{Ruleset, ServiceRules};

use crate::desired::Desired;
use crate::health::HealthCheck;
use crate::nft::Script;

/// What the rules of a node need besides themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surroundings {
    pub(super) nft: Option<Script>,
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) health_checks: BTreeMap<u16, HealthCheck>,
}

impl Surroundings {
    pub(super) fn of(desired: &Desired) -> Self {
        Self {
            nft: desired.nft.clone(),
            addresses: desired.addresses.clone(),
            health_checks: desired.health_checks.clone(),
        }
    }

    /// This, and what stands. Who asks for a Service that stands is told of the endpoints that it has.
    pub(super) fn and(mut self, stands: Option<&Self>) -> Self {
        let Some(stands) = stands else { return self };
        self.nft = match (self.nft, &stands.nft) {
            (Some(script), Some(standing)) => Some(script.and(standing)),
            (script, _) => script,
        };
        self.addresses.extend(&stands.addresses);
        self.health_checks.extend(stands.health_checks.clone());
        self
    }

    /// The part of this that the services of a table need, without health checks: no table says whose these are.
    pub(super) fn within(mut self, table: &Ruleset) -> Self {
        let used = used(table);
        self.addresses.retain(|address| used.contains(address));
        if let Some(script) = &mut self.nft {
            script.keep_within(table);
        }
        self.health_checks.clear();
        self
    }

    /// This without the addresses of others, which are neither bound nor closed.
    pub(super) fn without(mut self, others: &BTreeSet<IpAddr>) -> Self {
        self.addresses.retain(|address| !others.contains(address));
        if let Some(script) = &mut self.nft {
            script.v4.bound.retain(|address| !others.contains(address));
            script.v6.bound.retain(|address| !others.contains(address));
        }
        self
    }
}

/// The addresses that have services.
pub(super) fn used(table: &Ruleset) -> HashSet<IpAddr> {
    let keys = table.services().map(ServiceRules::key);
    keys.filter_map(|key| Some(key.socket_address()?.ip())).collect()
}
