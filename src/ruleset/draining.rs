//! How destinations are drained.

use std::time::Duration;

use crate::model::{DestinationEntry, Protocol, Service, ServiceKey};

/// How destinations that are not wanted any more are taken away.
///
/// A removed destination takes its connections along: the kernel drops their packets, or, where
/// the sysctl `expire_nodest_conn` is 1, ends them. Draining sets the weight to 0 first, so that no
/// new connections come, waits for those that are there, and removes the destination then, at the
/// latest at the deadline. One that is wanted again in between has its weight raised; a weight that
/// others raise is lowered again.
///
/// A client of a persistent service still comes to its destination while its template lasts, of
/// weight 0 or not, unless the sysctl `expire_quiescent_template` is 1, so set that. Templates hold
/// no traffic and are not waited for, unless [`templates`](Self::templates) says so.
///
/// # What is waited for
/// Active connections. Of TCP these are the established ones: a connection is inactive from its
/// first FIN on, so a client that closes its half early and waits for a long answer is not waited
/// for, unless [`inactive`](Self::inactive) says so.
///
/// An SCTP association is inactive during its handshake, so inactive ones are waited for, too.
///
/// A UDP connection is inactive all its life and ends by its timeout alone
/// ([`Timeouts`](crate::Timeouts), 300 s unless set otherwise), so UDP services are not drained
/// unless [`udp`](Self::udp) says so. Packets of one-packet services have no connections; the TCP of
/// a one-packet service by firewall mark has, and is drained.
///
/// # Schedulers by hash
/// Under `sh` and `mh` a destination of weight 0 keeps its share of the hash table, and the kernel
/// refuses the new clients of that share for as long as the drain lasts, unless the service has the
/// scheduler's fallback option. A service with another destination therefore gets that option
/// before the drain and loses it after. Where the policy does not allow to update services the
/// destination is removed at once. Under `dh` all clients of an address come to one destination and
/// no option helps: a destination is removed at once where the service has another.
///
/// The default is at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Draining {
    /// How long at most; `None` removes at once.
    pub deadline: Option<Duration>,
    /// How often connections are counted; one second unless told.
    pub interval: Duration,
    /// Whether inactive connections are waited for, too.
    pub inactive: bool,
    /// Whether persistence templates are waited for, too.
    pub templates: bool,
    /// Whether UDP is drained, too.
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

    /// Waits for connections, at most this long.
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

    /// Drains UDP, too: the destinations of UDP services, and the inactive connections of services
    /// by firewall mark. A deadline shorter than the UDP timeout always cuts connections off.
    #[must_use]
    pub fn udp(self) -> Self {
        Self { udp: true, ..self }
    }

    /// Whether the destinations of a service can be drained.
    pub(crate) fn applies_to(&self, service: &Service) -> bool {
        let may = if is_udp(&service.key) { self.udp && !service.one_packet } else { true };
        self.deadline.is_some() && may
    }

    /// Whether a destination of a service has no connection left that is waited for.
    pub(crate) fn is_idle(&self, service: &ServiceKey, connections: Connections) -> bool {
        let Connections { active, inactive, persistent } = connections;
        active == 0
            && (inactive == 0 || !self.waits_for_inactive(service))
            && (persistent == 0 || !self.templates)
    }

    fn waits_for_inactive(&self, service: &ServiceKey) -> bool {
        self.inactive
            || match service {
                ServiceKey::Address { protocol, .. } => {
                    matches!(*protocol, Protocol::UDP | Protocol::SCTP)
                }
                // Any protocol comes to a mark.
                ServiceKey::Mark { .. } => self.udp,
            }
    }
}

/// Whether all connections of a service are UDP's.
pub(super) fn is_udp(service: &ServiceKey) -> bool {
    matches!(service, ServiceKey::Address { protocol: Protocol::UDP, .. })
}

/// How many connections a destination has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Connections {
    /// Active ones.
    pub active: u32,
    /// Inactive ones.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
}

impl From<&DestinationEntry> for Connections {
    fn from(entry: &DestinationEntry) -> Self {
        Self {
            active: entry.active_connections,
            inactive: entry.inactive_connections,
            persistent: entry.persistent_connections,
        }
    }
}
