//! Operations: what changes the kernel's state.

use std::fmt;

use crate::model::{
    DaemonRole, Destination, DestinationKey, Invalid, Service, ServiceKey, SyncDaemon,
    TimeoutsUpdate,
};
use crate::wire::{Command, DaemonAttributes, Message};

/// A change to the kernel's state.
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
        match self {
            Self::AddService(service) => Message::new(Command::NewService).service(service),
            Self::UpdateService(service) => Message::new(Command::SetService).service(service),
            Self::RemoveService(key) => Message::new(Command::DelService).service(key),
            Self::AddDestination(service, destination) => {
                Message::new(Command::NewDest).service(service).destination(destination)
            }
            Self::UpdateDestination(service, destination) => {
                Message::new(Command::SetDest).service(service).destination(destination)
            }
            Self::RemoveDestination(service, destination) => {
                Message::new(Command::DelDest).service(service).destination(destination)
            }
            Self::ZeroService(key) => Message::new(Command::Zero).service(key),
            Self::Zero => Message::new(Command::Zero),
            Self::Flush => Message::new(Command::Flush),
            Self::SetTimeouts(timeouts) => {
                // `check` has refused what does not fit.
                let seconds = |t: std::time::Duration| u32::try_from(t.as_secs()).ok();
                let mut message = Message::new(Command::SetConfig);
                message.tcp_timeout = timeouts.tcp.and_then(seconds);
                message.tcp_fin_timeout = timeouts.tcp_fin.and_then(seconds);
                message.udp_timeout = timeouts.udp.and_then(seconds);
                message
            }
            Self::StartDaemon(daemon) => Message::new(Command::NewDaemon).daemon(daemon),
            Self::StopDaemon(role) => {
                Message::new(Command::DelDaemon).daemon(DaemonAttributes::from(*role))
            }
        }
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
