//! Operations: what changes the kernel's state.

use std::fmt;
use std::time::Duration;

use netlink_packet_core::Emitable;
use netlink_packet_generic::GenlFamily;

use crate::model::{
    DaemonRole, Destination, DestinationKey, Invalid, Service, ServiceKey, SyncDaemon,
    TimeoutsUpdate,
};
use crate::wire::uapi::{FAMILY_NAME, FAMILY_VERSION};
use crate::wire::{About, Command, Length, Message, Payload, Slice};

/// A change to the kernel's state.
///
/// It is also a payload for the crates of the rust-netlink family, encoded in one pass:
///
/// ```
/// use ipvs_netlink::Operation;
/// use netlink_packet_core::Emitable;
/// use netlink_packet_generic::GenlMessage;
///
/// let flush = GenlMessage::from_payload(Operation::Flush);
/// let mut bytes = vec![0; flush.buffer_len()];
/// flush.emit(&mut bytes);
/// assert_eq!(bytes, [17, 1, 0, 0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Adds a service.
    AddService(Service),
    /// Gives a service its whole configuration anew.
    UpdateService(Service),
    /// Removes a service with its destinations.
    RemoveService(ServiceKey),
    /// Adds a destination to a service.
    AddDestination(ServiceKey, Destination),
    /// Gives a destination its whole configuration anew.
    UpdateDestination(ServiceKey, Destination),
    /// Removes a destination from a service.
    RemoveDestination(ServiceKey, DestinationKey),
    /// Sets the counters of a service and its destinations to zero.
    ZeroService(ServiceKey),
    /// Sets all counters to zero.
    Zero,
    /// Removes all services.
    Flush,
    /// Sets timeouts.
    SetTimeouts(TimeoutsUpdate),
    /// Starts a sync daemon.
    StartDaemon(SyncDaemon),
    /// Stops a sync daemon.
    StopDaemon(DaemonRole),
}

impl Operation {
    /// Refuses what no kernel would take, with the reason.
    ///
    /// # Errors
    /// Those of [`Service::check`], [`Destination::check`], [`TimeoutsUpdate::check`] and
    /// [`SyncDaemon::check`].
    #[inline]
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::AddService(service) | Self::UpdateService(service) => service.check(),
            Self::AddDestination(service, destination)
            | Self::UpdateDestination(service, destination) => destination.check(service),
            Self::SetTimeouts(timeouts) => timeouts.check(),
            Self::StartDaemon(daemon) => daemon.check(),
            _ => Ok(()),
        }
    }

    /// The message that asks the kernel for it.
    pub fn message(&self) -> Message {
        self.payload().into()
    }

    #[inline]
    pub(super) fn payload(&self) -> Payload<'_> {
        let new = Payload::new;
        match self {
            Self::AddService(service) => {
                Payload { service: Some(About::Whole(service)), ..new(Command::NewService) }
            }
            Self::UpdateService(service) => {
                Payload { service: Some(About::Whole(service)), ..new(Command::SetService) }
            }
            Self::RemoveService(key) => new(Command::DelService).of(key),
            Self::AddDestination(service, destination) => Payload {
                destination: Some(About::Whole(destination)),
                ..new(Command::NewDest).of(service)
            },
            Self::UpdateDestination(service, destination) => Payload {
                destination: Some(About::Whole(destination)),
                ..new(Command::SetDest).of(service)
            },
            Self::RemoveDestination(service, key) => {
                Payload { destination: Some(About::Key(key)), ..new(Command::DelDest).of(service) }
            }
            Self::ZeroService(key) => new(Command::Zero).of(key),
            Self::Zero => new(Command::Zero),
            Self::Flush => new(Command::Flush),
            Self::SetTimeouts(TimeoutsUpdate { tcp, tcp_fin, udp }) => {
                // `check` has refused what does not fit.
                let seconds = |t: &Option<Duration>| t.and_then(|t| t.as_secs().try_into().ok());
                let timeouts = [tcp, tcp_fin, udp].map(seconds);
                Payload { timeouts, ..new(Command::SetConfig) }
            }
            Self::StartDaemon(daemon) => {
                Payload { daemon: Some(About::Whole(daemon)), ..new(Command::NewDaemon) }
            }
            Self::StopDaemon(role) => {
                Payload { daemon: Some(About::Key(*role)), ..new(Command::DelDaemon) }
            }
        }
    }
}

impl GenlFamily for Operation {
    fn family_name() -> &'static str {
        FAMILY_NAME
    }

    fn command(&self) -> u8 {
        self.payload().command.number()
    }

    fn version(&self) -> u8 {
        FAMILY_VERSION
    }
}

impl Emitable for Operation {
    fn buffer_len(&self) -> usize {
        let mut length = Length::default();
        self.payload().encode(&mut length);
        length.0
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.payload().encode(&mut Slice::new(buffer));
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(service) => write!(f, "add service {}", service.key),
            Self::UpdateService(service) => write!(f, "update service {}", service.key),
            Self::RemoveService(key) => write!(f, "remove service {key}"),
            Self::AddDestination(service, destination) => {
                write!(f, "add destination {} to {service}", destination.key)
            }
            Self::UpdateDestination(service, destination) => {
                write!(f, "update destination {} of {service}", destination.key)
            }
            Self::RemoveDestination(service, key) => {
                write!(f, "remove destination {key} from {service}")
            }
            Self::ZeroService(key) => write!(f, "zero the counters of {key}"),
            Self::Zero => f.write_str("zero all counters"),
            Self::Flush => f.write_str("remove all services"),
            Self::SetTimeouts(_) => f.write_str("set timeouts"),
            Self::StartDaemon(daemon) => write!(f, "start the {} sync daemon", daemon.role),
            Self::StopDaemon(role) => write!(f, "stop the {role} sync daemon"),
        }
    }
}
