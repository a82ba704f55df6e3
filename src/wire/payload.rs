//! The contents of a request, by reference: encoded in one pass, without a [`Message`] in between.

use netlink_packet_core::NLA_HEADER_SIZE;

use super::writer::{Sink, Written};
use super::{
    Command, DaemonAttributes, DestinationAttributes, Message, ServiceAttributes, TimeoutAttributes,
};
use crate::model::{DaemonRole, Destination, DestinationKey, Service, ServiceKey, SyncDaemon};
use crate::uapi::ipvs::message;

/// A command with its service, destination, daemon or timeouts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) command: Command,
    pub(crate) service: Option<Mention<&'a ServiceKey, &'a Service>>,
    pub(crate) destination: Option<Mention<&'a DestinationKey, &'a Destination>>,
    pub(crate) daemon: Option<Mention<DaemonRole, &'a SyncDaemon>>,
    pub(crate) timeouts: TimeoutAttributes,
}

/// How a command mentions an object: by its key, or with its whole configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mention<K, T> {
    Key(K),
    Full(T),
}

impl<K, T> Mention<K, T> {
    #[inline(always)]
    fn attributes<A: From<K> + From<T>>(self) -> A {
        match self {
            Self::Key(key) => key.into(),
            Self::Full(whole) => whole.into(),
        }
    }
}

impl<'a> Payload<'a> {
    /// The most bytes that a payload takes: a nest of each kind, and the timeouts. No request has
    /// counters.
    pub(crate) const LONGEST: usize = 3 * NLA_HEADER_SIZE
        + ServiceAttributes::LENGTH
        + DestinationAttributes::LENGTH
        + DaemonAttributes::LENGTH
        + TimeoutAttributes::LENGTH;

    pub(crate) fn new(command: Command) -> Self {
        let timeouts = TimeoutAttributes::default();
        Self { command, service: None, destination: None, daemon: None, timeouts }
    }

    pub(crate) fn of_service(self, key: &'a ServiceKey) -> Self {
        Self { service: Some(Mention::Key(key)), ..self }
    }

    #[inline(always)]
    pub(crate) fn encode<S: Sink>(&self, sink: &mut S) -> Written {
        // Without closures, which are not inlined here and would cost a fifth more instructions.
        if let Some(service) = self.service {
            let nest = sink.begin_nest()?;
            match service {
                Mention::Key(key) => ServiceAttributes::from(key).encode_table(sink)?,
                Mention::Full(service) => ServiceAttributes::from(service).encode_table(sink)?,
            }
            sink.end_nest(message::SERVICE, nest);
        }
        if let Some(destination) = self.destination {
            let nest = sink.begin_nest()?;
            match destination {
                Mention::Key(key) => DestinationAttributes::from(key).encode_table(sink)?,
                Mention::Full(full) => DestinationAttributes::from(full).encode_table(sink)?,
            }
            sink.end_nest(message::DESTINATION, nest);
        }
        if let Some(daemon) = self.daemon {
            let attributes: DaemonAttributes = daemon.attributes();
            sink.nest(message::DAEMON, |sink| attributes.encode_table(sink))?;
        }
        self.timeouts.encode_table(sink)
    }
}

impl From<Payload<'_>> for Message {
    fn from(payload: Payload<'_>) -> Self {
        Self {
            service: payload.service.map(Mention::attributes),
            destination: payload.destination.map(Mention::attributes),
            daemon: payload.daemon.map(Mention::attributes),
            timeouts: payload.timeouts,
            ..Self::new(payload.command)
        }
    }
}
