//! Changes of a table, and the differences that a plan leaves.

use std::fmt;

use super::print::{AsOptions, Configuration};
use crate::model::{Destination, DestinationKey, Service, ServiceKey};
use crate::protocol::{Operation, Request};

/// A change of a [`Plan`](crate::Plan).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Change {
    /// A service is added.
    AddService(Service),
    /// A service gets another configuration. Another scheduler makes some kernels refuse new
    /// connections for a moment; see [`update_service`](crate::blocking::Client::update_service).
    #[non_exhaustive]
    UpdateService {
        /// The configuration it has.
        from: Service,
        /// The configuration it gets.
        to: Service,
    },
    /// A service is removed, with its destinations.
    RemoveService(Service),
    /// A destination is added.
    AddDestination(ServiceKey, Destination),
    /// A destination gets another configuration.
    #[non_exhaustive]
    UpdateDestination {
        /// Its service.
        service: ServiceKey,
        /// The configuration it has.
        from: Destination,
        /// The configuration it gets.
        to: Destination,
    },
    /// A destination gets weight 0, or keeps it, so that it gets no new connections.
    DrainDestination(ServiceKey, Destination),
    /// A destination is removed.
    RemoveDestination(ServiceKey, Destination),
}

impl Change {
    /// The service that is changed, or whose destination is changed.
    pub fn service(&self) -> ServiceKey {
        match self {
            Self::AddService(service)
            | Self::UpdateService { from: service, .. }
            | Self::RemoveService(service) => service.key,
            Self::AddDestination(service, _)
            | Self::UpdateDestination { service, .. }
            | Self::DrainDestination(service, _)
            | Self::RemoveDestination(service, _) => *service,
        }
    }

    /// The destination that is changed, if one is.
    pub fn destination(&self) -> Option<DestinationKey> {
        match self {
            Self::AddService(_) | Self::UpdateService { .. } | Self::RemoveService(_) => None,
            Self::AddDestination(_, destination)
            | Self::UpdateDestination { to: destination, .. }
            | Self::DrainDestination(_, destination)
            | Self::RemoveDestination(_, destination) => Some(destination.key),
        }
    }

    /// The request that makes the change. A change has a request even if the kernel has nothing to
    /// do.
    pub(crate) fn request(&self) -> Request {
        match self {
            Self::DrainDestination(service, destination) => {
                Operation::UpdateDestination(*service, destination.weight(0)).into()
            }
            other => other.operation().map_or(Request::Services, Request::from),
        }
    }

    /// Whether the kernel has nothing to do for the change.
    #[inline]
    pub(crate) fn is_noop(&self) -> bool {
        matches!(self, Self::DrainDestination(_, Destination { weight: 0, .. }))
    }

    /// The operation that makes the change; `None` if the kernel has nothing to do.
    #[inline]
    pub fn operation(&self) -> Option<Operation> {
        Some(match *self {
            Self::AddService(service) => Operation::AddService(service),
            Self::UpdateService { to, .. } => Operation::UpdateService(to),
            Self::RemoveService(service) => Operation::RemoveService(service.key),
            Self::AddDestination(service, destination) => {
                Operation::AddDestination(service, destination)
            }
            Self::UpdateDestination { service, to, .. } => {
                Operation::UpdateDestination(service, to)
            }
            _ if self.is_noop() => return None,
            Self::DrainDestination(service, destination) => {
                Operation::UpdateDestination(service, destination.weight(0))
            }
            Self::RemoveDestination(service, destination) => {
                Operation::RemoveDestination(service, destination.key)
            }
        })
    }
}

/// A difference between the table and the wanted rules that a plan leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Left {
    /// The service.
    pub service: ServiceKey,
    /// The difference.
    pub what: Difference,
    /// The reason.
    pub why: Reason,
}

/// A difference between a table and the wanted rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Difference {
    /// The service is not wanted.
    UnwantedService,
    /// The service is wanted and missing.
    MissingService,
    /// The service has another configuration than wanted, or, if it is outside of the scope, other
    /// destinations.
    Service,
    /// The destination is not wanted.
    UnwantedDestination(Destination),
    /// The destination is wanted and missing.
    MissingDestination(Destination),
    /// The destination has another configuration than this wanted one.
    Destination(Destination),
    /// The destination has another weight than this wanted one.
    Weight(Destination),
}

/// Why a plan leaves a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Reason {
    /// The service is outside of the scope.
    OutOfScope,
    /// The policy does not allow the change.
    NotAllowed,
    /// The service would be left without a destination that takes connections, though one is
    /// wanted: its replacement is refused or not allowed. Of the destinations to be removed, the
    /// one with the highest weight stays.
    HeldBack,
    /// The weight is 0, a higher weight is wanted, and the policy does not allow to set weights.
    /// Who set the weight to 0 is not known: a health checker, or a controller that drained and did
    /// not keep its [`Drains`](crate::Drains).
    UnknownOrigin,
    /// Nothing is removed before a [`Syncer`](crate::Syncer) was told all wanted rules, by
    /// [`want`](crate::Syncer::want).
    NotAllKnown,
    /// A service of `sh` or `mh` keeps its fallback option, since a destination stays at weight 0:
    /// without the option the service would refuse the clients of that destination's share.
    WouldRefuse,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(service) => {
                write!(f, "+ {}{}", service.key, AsOptions(&Configuration(service)))
            }
            Self::UpdateService { from, to } => {
                let (from, to) = (Configuration(from), Configuration(to));
                write!(f, "~ {}:{} =>{}", from.0.key, AsOptions(&from), AsOptions(&to))
            }
            Self::RemoveService(service) => write!(f, "- {}", service.key),
            Self::AddDestination(service, destination) => {
                write!(f, "+ {service} -> {}", AsOptions(destination))
            }
            Self::UpdateDestination { service, from, to } => {
                write!(f, "~ {service} -> {} => {}", AsOptions(from), AsOptions(to))
            }
            Self::DrainDestination(service, destination) => {
                write!(f, "~ {service} -> {}, drained", destination.key)
            }
            Self::RemoveDestination(service, destination) => {
                write!(f, "- {service} -> {}", destination.key)
            }
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.service)?;
        match self.what {
            Difference::UnwantedService => f.write_str(" is not wanted")?,
            Difference::MissingService => f.write_str(" is missing")?,
            Difference::Service => f.write_str(" is not as wanted")?,
            Difference::UnwantedDestination(d) => write!(f, " -> {} is not wanted", d.key)?,
            Difference::MissingDestination(d) => write!(f, " -> {} is missing", d.key)?,
            Difference::Destination(d) => write!(f, " -> {} is not as wanted", d.key)?,
            Difference::Weight(d) => {
                write!(f, " -> {} does not have the wanted weight {}", d.key, d.weight)?;
            }
        }
        f.write_str(match self.why {
            Reason::OutOfScope => "; it is left: out of scope",
            Reason::NotAllowed => "; it is left: not allowed",
            Reason::HeldBack => "; it is left, since the service would have no destination left",
            Reason::UnknownOrigin => "; it is left, since somebody set its weight to 0",
            Reason::NotAllKnown => "; it is left until all wanted rules are known",
            Reason::WouldRefuse => {
                "; its fallback option is left, since it would refuse the clients of a destination \
                 that stays at weight 0"
            }
        })
    }
}
