//! Health checks: what load balancers ask a node for, to send a Service's traffic where its endpoints are.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipvs_netlink::Family;

/// What a health-check node port answers: 200 while an endpoint of the Service is local and ready, and 503 otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The addresses of its ready endpoints on this node. A pod of two families has one of each.
    pub local_endpoints: BTreeSet<IpAddr>,
}

impl HealthCheck {
    /// How many endpoints are here for traffic of a family.
    pub fn local_endpoints(&self, family: Family) -> usize {
        self.local_endpoints.iter().filter(|address| Family::from(**address) == family).count()
    }
}

impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [v4, v6] = [Family::V4, Family::V6].map(|family| self.local_endpoints(family));
        write!(
            f,
            "Service {}/{}, ready endpoints here: {v4} of IPv4, {v6} of IPv6",
            self.namespace.escape_debug(),
            self.name.escape_debug()
        )
    }
}
