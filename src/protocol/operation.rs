//! Operations: the requests that change the kernel's state.

use std::fmt;
use std::time::Duration;

use netlink_packet_core::Emitable;
use netlink_packet_generic::GenlFamily;

use crate::model::{
    DaemonRole, Destination, DestinationKey, Invalid, Service, ServiceKey, SyncDaemon,
    TimeoutsUpdate,
};
use crate::uapi::ipvs::{FAMILY_NAME, FAMILY_VERSION};
use crate::wire::{Command, Length, Mention, Message, Payload, Slice, TimeoutAttributes};

/// A change to the kernel's state.
///
/// Programs with a netlink socket of their own can encode an operation in one pass, as below. The
/// crate `genetlink`, which also reads answers, takes its [`message`](Self::message): see
/// [`wire`](crate::wire).
///
/// ```
/// use ipvs_netlink::Operation;
/// use ipvs_netlink::wire::netlink_packet_core::Emitable;
/// use ipvs_netlink::wire::netlink_packet_generic::GenlMessage;
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
    /// Replaces the whole configuration of a service.
    UpdateService(Service),
    /// Removes a service with its destinations.
    RemoveService(ServiceKey),
    /// Adds a destination to a service.
    AddDestination(ServiceKey, Destination),
    /// Replaces the whole configuration of a destination.
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
    /// Refuses an operation that no kernel would take, with the reason.
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
            Self::RemoveService(_)
            | Self::RemoveDestination(..)
            | Self::ZeroService(_)
            | Self::Zero
            | Self::Flush
            | Self::StopDaemon(_) => Ok(()),
        }
    }

    /// The message that asks the kernel for the operation.
    pub fn message(&self) -> Message {
        self.payload().into()
    }

    #[inline]
    pub(super) fn payload(&self) -> Payload<'_> {
        let new = Payload::new;
        match self {
            Self::AddService(service) => {
                Payload { service: Some(Mention::Full(service)), ..new(Command::NewService) }
            }
            Self::UpdateService(service) => {
                Payload { service: Some(Mention::Full(service)), ..new(Command::SetService) }
            }
            Self::RemoveService(key) => new(Command::DelService).of_service(key),
            Self::AddDestination(service, destination) => Payload {
                destination: Some(Mention::Full(destination)),
                ..new(Command::NewDest).of_service(service)
            },
            Self::UpdateDestination(service, destination) => Payload {
                destination: Some(Mention::Full(destination)),
                ..new(Command::SetDest).of_service(service)
            },
            Self::RemoveDestination(service, key) => Payload {
                destination: Some(Mention::Key(key)),
                ..new(Command::DelDest).of_service(service)
            },
            Self::ZeroService(key) => new(Command::Zero).of_service(key),
            Self::Zero => new(Command::Zero),
            Self::Flush => new(Command::Flush),
            Self::SetTimeouts(TimeoutsUpdate { tcp, tcp_fin, udp }) => {
                // `check` has refused durations that do not fit.
                let seconds = |t: &Option<Duration>| t.and_then(|t| t.as_secs().try_into().ok());
                let [tcp, tcp_fin, udp] = [tcp, tcp_fin, udp].map(seconds);
                let timeouts = TimeoutAttributes { tcp, tcp_fin, udp };
                Payload { timeouts, ..new(Command::SetConfig) }
            }
            Self::StartDaemon(daemon) => {
                Payload { daemon: Some(Mention::Full(daemon)), ..new(Command::NewDaemon) }
            }
            Self::StopDaemon(role) => {
                Payload { daemon: Some(Mention::Key(*role)), ..new(Command::DelDaemon) }
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
        Length::of(|length| self.payload().encode(length))
    }

    fn emit(&self, buffer: &mut [u8]) {
        // The trait promises a slice of the length that `buffer_len` tells.
        let _ = self.payload().encode(&mut Slice::new(buffer));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Forwarding, Persistence, Scheduler, Tunnel};

    /// Every attribute that one message can have, with the longest names.
    #[test]
    fn no_message_is_longer_than_the_longest() {
        let key = ServiceKey::tcp([0xff; 16], 443);
        let engine = "sixteen_letters_".parse().unwrap();
        let service = Service::new(key)
            .scheduler(Scheduler::named("fifteen_letters").unwrap())
            .persistence(Persistence::new(Duration::from_secs(9)).engine(engine));
        let mut destination = Destination::masquerade([0xff; 16], 1);
        destination.forwarding = Forwarding::Tunnel(Tunnel::gue(6080).unwrap());
        let daemon = SyncDaemon::new(DaemonRole::Master, "fifteen_letters".parse().unwrap());
        let daemon = daemon.group(std::net::Ipv6Addr::LOCALHOST).port(1).max_length(1).ttl(1);
        for operation in [
            Operation::AddService(service),
            Operation::AddDestination(key, destination),
            Operation::StartDaemon(daemon),
        ] {
            assert!(operation.buffer_len() <= Payload::LONGEST, "{operation}");
            let subjects = Payload {
                service: Some(Mention::Full(&service)),
                destination: Some(Mention::Full(&destination)),
                daemon: Some(Mention::Full(&daemon)),
                ..operation.payload()
            };
            let together = Length::of(|length| subjects.encode(length));
            // A mark is not written beside an address, nor an IPv4 group beside one of IPv6. The
            // counts of a destination's connections, and timeouts, are not written here.
            assert_eq!(Payload::LONGEST - together, 8 + 3 * 8 + 8 + 3 * 8);
        }
    }
}
