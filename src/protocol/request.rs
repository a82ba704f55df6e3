//! Requests: everything that a client asks of the kernel.

use std::fmt;

use super::Operation;
use crate::model::{DestinationKey, ServiceKey};
use crate::wire::{Command, Payload};

/// A request to the kernel, as [`Error::request`](crate::Error::request) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// To open a netlink socket.
    Open,
    /// The number of the IPVS family.
    Family,
    /// The version of IPVS.
    Info,
    /// One service.
    Service(ServiceKey),
    /// All services.
    Services,
    /// The destinations of a service.
    Destinations(ServiceKey),
    /// One destination of a service.
    Destination(ServiceKey, DestinationKey),
    /// The timeouts.
    Timeouts,
    /// The sync daemons.
    Daemons,
    /// A change.
    Operation(Operation),
}

impl Request {
    /// Whether the kernel answers with a dump: any number of messages, then an end mark.
    pub(crate) fn is_dump(&self) -> bool {
        matches!(
            self,
            Self::Services | Self::Destinations(_) | Self::Destination(..) | Self::Daemons
        )
    }

    /// The message that asks the family; `None` for a request that is not to the family.
    #[cfg(feature = "tracing")]
    pub(crate) fn message(&self) -> Option<crate::wire::Message> {
        Some(self.payload()?.into())
    }

    /// The payload that asks the family; `None` for a request that is not to the family.
    pub(super) fn payload(&self) -> Option<Payload<'_>> {
        let new = Payload::new;
        Some(match self {
            Self::Open | Self::Family => return None,
            Self::Info => new(Command::GetInfo),
            Self::Service(key) => new(Command::GetService).of_service(key),
            Self::Services => new(Command::GetService),
            Self::Destinations(key) | Self::Destination(key, _) => {
                new(Command::GetDest).of_service(key)
            }
            Self::Timeouts => new(Command::GetConfig),
            Self::Daemons => new(Command::GetDaemon),
            Self::Operation(operation) => operation.payload(),
        })
    }
}

impl From<Operation> for Request {
    fn from(operation: Operation) -> Self {
        Self::Operation(operation)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open a netlink socket"),
            Self::Family => f.write_str("find IPVS in the kernel"),
            Self::Info => f.write_str("read the version of IPVS"),
            Self::Service(key) => write!(f, "read service {key}"),
            Self::Services => f.write_str("list services"),
            Self::Destinations(key) => write!(f, "list destinations of {key}"),
            Self::Destination(service, key) => write!(f, "read destination {key} of {service}"),
            Self::Timeouts => f.write_str("read timeouts"),
            Self::Daemons => f.write_str("list sync daemons"),
            Self::Operation(operation) => operation.fmt(f),
        }
    }
}
