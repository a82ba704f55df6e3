//! What a request holds, by reference: encoded in one pass, without a [`Message`] in between.

use super::uapi::top;
use super::writer::Attributes;
use super::{Command, DaemonAttributes, DestinationAttributes, Message, ServiceAttributes};
use crate::model::{DaemonRole, Destination, DestinationKey, Service, ServiceKey, SyncDaemon};

/// A command with what it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) command: Command,
    pub(crate) service: Option<About<&'a ServiceKey, &'a Service>>,
    pub(crate) destination: Option<About<&'a DestinationKey, &'a Destination>>,
    pub(crate) daemon: Option<About<DaemonRole, &'a SyncDaemon>>,
    /// Of TCP, TCP after a FIN, and UDP, in seconds.
    pub(crate) timeouts: [Option<u32>; 3],
}

/// What identifies something, or all of its configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<K, T> {
    Key(K),
    Whole(T),
}

impl<'a> Payload<'a> {
    pub(crate) fn new(command: Command) -> Self {
        Self { command, service: None, destination: None, daemon: None, timeouts: [None; 3] }
    }

    pub(crate) fn of(self, key: &'a ServiceKey) -> Self {
        Self { service: Some(About::Key(key)), ..self }
    }

    #[inline(always)]
    pub(crate) fn encode<S: Attributes>(&self, sink: &mut S) {
        if let Some(service) = self.service {
            let nest = sink.begin_nest();
            match service {
                About::Key(key) => ServiceAttributes::from(key).encode(sink),
                About::Whole(service) => ServiceAttributes::from(service).encode(sink),
            }
            sink.end_nest(top::SERVICE, nest);
        }
        if let Some(destination) = self.destination {
            let nest = sink.begin_nest();
            match destination {
                About::Key(key) => DestinationAttributes::from(key).encode(sink),
                About::Whole(destination) => DestinationAttributes::from(destination).encode(sink),
            }
            sink.end_nest(top::DESTINATION, nest);
        }
        if self.daemon.is_some() || self.timeouts != [None; 3] {
            Message::from(*self).encode_system(sink);
        }
    }
}

impl From<Payload<'_>> for Message {
    fn from(payload: Payload<'_>) -> Self {
        let mut message = Self::new(payload.command);
        message.service = payload.service.map(|about| match about {
            About::Key(key) => key.into(),
            About::Whole(service) => service.into(),
        });
        message.destination = payload.destination.map(|about| match about {
            About::Key(key) => key.into(),
            About::Whole(destination) => destination.into(),
        });
        message.daemon = payload.daemon.map(|about| match about {
            About::Key(role) => DaemonAttributes::from(role),
            About::Whole(daemon) => daemon.into(),
        });
        [message.tcp_timeout, message.tcp_fin_timeout, message.udp_timeout] = payload.timeouts;
        message
    }
}
