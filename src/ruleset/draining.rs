//! How destinations are drained.

use std::time::Duration;

use crate::model::{DestinationEntry, Protocol, Service, ServiceKey};

/// The way in which unwanted destinations are removed.
///
/// The connections of a removed destination are lost: the kernel drops their packets or, if the
/// sysctl `expire_nodest_conn` is 1, ends them. Draining first sets the weight to 0, so that no new
/// connections come, waits for the open ones to end, and then removes the destination, at the
/// deadline at the latest, which counts from when the weight is 0. A destination that is wanted
/// again meanwhile gets its weight back; a weight that others raise is lowered again. Of a service
/// that is removed, each destination goes at its own deadline, and the service with the last
/// one; if the policy does not allow removing and adding destinations, all go with the service.
///
/// While a client of a persistent service has a template, it still comes to its destination,
/// whether the weight is 0 or not, unless the sysctl `expire_quiescent_template` is 1: set it.
/// Templates hold no traffic and are not waited for, unless
/// [`wait_for_templates`](Self::wait_for_templates) says otherwise.
///
/// # Which connections are waited for
/// Active connections. For TCP these are the established ones. A TCP connection is inactive from
/// its first FIN on: a client that closes its half early and waits for a long answer is not waited
/// for, unless [`wait_for_inactive`](Self::wait_for_inactive) says otherwise.
///
/// An SCTP association is inactive during its handshake. Inactive associations are therefore waited
/// for, too; [`drain_sctp(false)`](Self::drain_sctp) removes the destinations of SCTP services at
/// once instead.
///
/// A UDP connection is inactive all its life and ends only by its timeout
/// ([`Timeouts`](crate::Timeouts), 300 s unless set otherwise). UDP services are therefore not
/// drained unless [`drain_udp`](Self::drain_udp) says otherwise. Packets of one-packet services
/// have no connections; the TCP traffic of a one-packet service by firewall mark has connections,
/// and is drained.
///
/// # Schedulers by hash
/// Under `sh` and `mh` a destination of weight 0 keeps its share of the hash table, and the kernel
/// refuses the new clients of that share for as long as the drain lasts, unless the service has the
/// scheduler's fallback option. A service with another destination therefore gets that option
/// before the drain and loses it after; it keeps the option while a destination stays at weight 0
/// for another reason, which the report tells. If the policy does not allow to update services, the
/// destination is removed at once. Under `dh` all clients of an address come to one destination and
/// no option helps: a destination is removed at once if the service has another. This is so for a
/// destination that drains already, too, as soon as the service has another; the report counts it
/// as cut off.
///
/// The default is [`at_once`](Self::at_once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // Each stands for itself.
pub struct Draining {
    /// The longest time that a destination drains; `None` removes it at once.
    pub deadline: Option<Duration>,
    /// The time between two counts of connections: one second by default, and at least one
    /// millisecond.
    pub interval: Duration,
    /// Whether inactive connections are waited for, too.
    pub wait_for_inactive: bool,
    /// Whether persistence templates are waited for, too.
    pub wait_for_templates: bool,
    /// Whether UDP is drained, too.
    pub drain_udp: bool,
    /// Whether SCTP is drained, too.
    pub drain_sctp: bool,
}

impl Default for Draining {
    fn default() -> Self {
        Self::at_once()
    }
}

impl Draining {
    /// Removes destinations at once.
    pub fn at_once() -> Self {
        Self {
            deadline: None,
            interval: Duration::from_secs(1),
            wait_for_inactive: false,
            wait_for_templates: false,
            drain_udp: false,
            drain_sctp: true,
        }
    }

    /// Waits for connections, at most this long.
    pub fn within(deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..Self::at_once() }
    }

    /// The time between two counts of connections: one second by default, and at least one
    /// millisecond.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Whether inactive connections are waited for, too; the default is no.
    #[must_use]
    pub fn wait_for_inactive(self, wait_for_inactive: bool) -> Self {
        Self { wait_for_inactive, ..self }
    }

    /// Whether persistence templates are waited for, too; the default is no.
    #[must_use]
    pub fn wait_for_templates(self, wait_for_templates: bool) -> Self {
        Self { wait_for_templates, ..self }
    }

    /// Whether UDP is drained, too; the default is no. This means the destinations of UDP services,
    /// and the inactive connections of services by firewall mark. A deadline shorter than the UDP
    /// timeout always cuts connections off.
    #[must_use]
    pub fn drain_udp(self, drain_udp: bool) -> Self {
        Self { drain_udp, ..self }
    }

    /// Whether SCTP is drained, too; the default is yes. This means the destinations of SCTP
    /// services. The traffic of a firewall mark may be of any protocol, and its protocols are not
    /// told apart.
    #[must_use]
    pub fn drain_sctp(self, drain_sctp: bool) -> Self {
        Self { drain_sctp, ..self }
    }

    pub(crate) fn counting_interval(&self) -> Duration {
        self.interval.max(Duration::from_millis(1))
    }

    /// Whether the destinations of a service can be drained.
    pub(crate) fn applies_to(&self, service: &Service) -> bool {
        let may = match service.key.protocol() {
            Some(Protocol::UDP) => self.drain_udp && !service.one_packet,
            Some(Protocol::SCTP) => self.drain_sctp,
            _ => true,
        };
        self.deadline.is_some() && may
    }

    /// Whether a destination of a service has no connection left that is waited for.
    pub(crate) fn is_idle(&self, service: &ServiceKey, connections: ConnectionCounts) -> bool {
        let ConnectionCounts { active, inactive, persistent } = connections;
        active == 0
            && (inactive == 0 || !self.waits_for_inactive(service))
            && (persistent == 0 || !self.wait_for_templates)
    }

    fn waits_for_inactive(&self, service: &ServiceKey) -> bool {
        self.wait_for_inactive
            || match service {
                ServiceKey::Address { protocol, .. } => {
                    matches!(*protocol, Protocol::UDP | Protocol::SCTP)
                }
                // The traffic of a mark may be of any protocol.
                ServiceKey::Mark { .. } => self.drain_udp,
            }
    }
}

/// Whether all connections of a service are of UDP.
pub(super) fn is_udp(service: &ServiceKey) -> bool {
    matches!(service, ServiceKey::Address { protocol: Protocol::UDP, .. })
}

/// How many connections a destination has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Active ones.
    pub active: u32,
    /// Inactive ones.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
}

impl From<&DestinationEntry> for ConnectionCounts {
    fn from(entry: &DestinationEntry) -> Self {
        Self {
            active: entry.active_connections,
            inactive: entry.inactive_connections,
            persistent: entry.persistent_connections,
        }
    }
}
