//! The message: a command with its attributes.

use netlink_packet_core::{Emitable, ParseableParametrized};
use netlink_packet_generic::{GenlFamily, GenlHeader};

use super::codec::U32Native;
use super::reader::{for_each_attribute, required};
use super::stats::Counters;
use super::table::attributes;
use super::writer::{Length, Sink, Slice, Written};
use super::{DaemonAttributes, DecodeError, DestinationAttributes, ServiceAttributes};
use crate::model::{Info, Timeouts, Version};
use crate::uapi::Command;
use crate::uapi::ipvs::{FAMILY_NAME, FAMILY_VERSION, message};

impl TryFrom<u8> for Command {
    type Error = DecodeError;

    #[inline]
    fn try_from(number: u8) -> Result<Self, DecodeError> {
        Self::from_number(number).ok_or(DecodeError::Command(number))
    }
}

/// A message of the family: the part that follows the generic-netlink header.
///
/// ```
/// use ipvs_netlink::wire::netlink_packet_core::Emitable;
/// use ipvs_netlink::wire::netlink_packet_generic::GenlMessage;
/// use ipvs_netlink::wire::{Command, Message};
///
/// let flush = GenlMessage::from_payload(Message::new(Command::Flush));
/// let mut bytes = vec![0; flush.buffer_len()];
/// flush.emit(&mut bytes);
/// assert_eq!(bytes, [17, 1, 0, 0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The command of a request or an answer.
    pub command: Command,
    /// `SERVICE`.
    pub service: Option<ServiceAttributes>,
    /// `DEST`.
    pub destination: Option<DestinationAttributes>,
    /// `DAEMON`.
    pub daemon: Option<DaemonAttributes>,
    /// `TIMEOUT_TCP`, `TIMEOUT_TCP_FIN` and `TIMEOUT_UDP`.
    pub timeouts: TimeoutAttributes,
    /// `VERSION` and `CONN_TAB_SIZE`, of [`Command::SetInfo`] only.
    pub info: InfoAttributes,
}

attributes! {
    /// The timeouts of a message; a timeout that the message lacks is `None`.
    pub struct TimeoutAttributes of crate::uapi::ipvs::message {
        /// `TIMEOUT_TCP`, in seconds.
        tcp: u32 = TIMEOUT_TCP, "TIMEOUT_TCP", U32Native;
        /// `TIMEOUT_TCP_FIN`, in seconds.
        tcp_fin: u32 = TIMEOUT_TCP_FIN, "TIMEOUT_TCP_FIN", U32Native;
        /// `TIMEOUT_UDP`, in seconds.
        udp: u32 = TIMEOUT_UDP, "TIMEOUT_UDP", U32Native;
    }
}

attributes! {
    /// The attributes of the answer to [`Command::GetInfo`]; an attribute that the answer lacks is
    /// `None`.
    pub struct InfoAttributes of crate::uapi::ipvs::info {
        /// `VERSION`, a byte each for major, minor and patch.
        version: u32 = VERSION, "VERSION", U32Native;
        /// `CONN_TAB_SIZE`.
        connection_table_size: u32 = CONNECTION_TABLE_SIZE, "CONN_TAB_SIZE", U32Native;
    }
}

impl Message {
    /// A message without attributes.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            service: None,
            destination: None,
            daemon: None,
            timeouts: TimeoutAttributes::default(),
            info: InfoAttributes::default(),
        }
    }

    /// The same message about a service, which may be its key alone.
    #[must_use]
    pub fn service(self, service: impl Into<ServiceAttributes>) -> Self {
        Self { service: Some(service.into()), ..self }
    }

    /// The same message about a destination, which may be its key alone.
    #[must_use]
    pub fn destination(self, destination: impl Into<DestinationAttributes>) -> Self {
        Self { destination: Some(destination.into()), ..self }
    }

    /// The same message about a sync daemon, which may be its role alone.
    #[must_use]
    pub fn daemon(self, daemon: impl Into<DaemonAttributes>) -> Self {
        Self { daemon: Some(daemon.into()), ..self }
    }

    pub(crate) fn encode<S: Sink>(&self, sink: &mut S) -> Written {
        if let Some(service) = &self.service {
            sink.nest(message::SERVICE, |sink| service.encode(sink))?;
        }
        if let Some(destination) = &self.destination {
            sink.nest(message::DESTINATION, |sink| destination.encode(sink))?;
        }
        if let Some(daemon) = &self.daemon {
            sink.nest(message::DAEMON, |sink| daemon.encode_table(sink))?;
        }
        self.timeouts.encode_table(sink)?;
        self.info.encode_table(sink)
    }

    /// Decodes the attributes that follow the generic-netlink header.
    ///
    /// # Errors
    /// When an attribute is shorter than its type, or its value has no meaning.
    pub fn decode(command: Command, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoded = Self::new(command);
        for_each_attribute(bytes, |kind, bytes| {
            match kind {
                // The answer to `GET_INFO` has numbers of its own, which mean other attributes
                // elsewhere.
                _ if command == Command::SetInfo => drop(decoded.info.decode_one(kind, bytes)?),
                message::SERVICE => {
                    decoded.service = Some(ServiceAttributes::decode(bytes, Counters::All)?);
                }
                message::DESTINATION => {
                    decoded.destination = Some(DestinationAttributes::decode(bytes)?);
                }
                message::DAEMON => decoded.daemon = Some(DaemonAttributes::decode(bytes)?),
                _ => drop(decoded.timeouts.decode_one(kind, bytes)?),
            }
            Ok(())
        })?;
        Ok(decoded)
    }
}

impl TryFrom<&Message> for Timeouts {
    type Error = DecodeError;

    fn try_from(message: &Message) -> Result<Self, DecodeError> {
        let TimeoutAttributes { tcp, tcp_fin, udp } = message.timeouts;
        Ok(Self::from_seconds(
            required(tcp, "TIMEOUT_TCP")?,
            required(tcp_fin, "TIMEOUT_TCP_FIN")?,
            required(udp, "TIMEOUT_UDP")?,
        ))
    }
}

impl TryFrom<&Message> for Info {
    type Error = DecodeError;

    fn try_from(message: &Message) -> Result<Self, DecodeError> {
        let version = required(message.info.version, "VERSION")?;
        let size = required(message.info.connection_table_size, "CONN_TAB_SIZE")?;
        Ok(Self::new(Version::from_number(version), size))
    }
}

impl GenlFamily for Message {
    fn family_name() -> &'static str {
        FAMILY_NAME
    }

    fn command(&self) -> u8 {
        self.command.number()
    }

    fn version(&self) -> u8 {
        FAMILY_VERSION
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        Length::of(|length| self.encode(length))
    }

    fn emit(&self, buffer: &mut [u8]) {
        // The trait promises a slice of the length that `buffer_len` tells.
        let _ = self.encode(&mut Slice::new(buffer));
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Message {
    fn parse_with_param(
        bytes: &[u8],
        header: GenlHeader,
    ) -> Result<Self, netlink_packet_core::DecodeError> {
        Ok(Self::decode(header.cmd.try_into()?, bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    fn round_trip(message: &Message) {
        let mut bytes = vec![0xaa; message.buffer_len()];
        message.emit(&mut bytes);
        let header = GenlHeader { cmd: message.command.number(), version: FAMILY_VERSION };
        assert_eq!(&Message::parse_with_param(&bytes, header).unwrap(), message);
    }

    #[test]
    fn commands_are_their_numbers() {
        for (index, &command) in Command::ALL.iter().enumerate() {
            assert_eq!(usize::from(command.number()), index + 1);
            assert_eq!(Command::try_from(command.number()), Ok(command));
        }
        assert!(Command::try_from(0).is_err());
        assert!(Command::try_from(Command::Flush.number() + 1).is_err());
    }

    #[test]
    fn every_part_survives_encoding() {
        let service = Service::tcp(Ipv6Addr::LOCALHOST, 443)
            .persistence(Persistence::new(Duration::from_secs(9)).netmask(Netmask::V6(64)));
        let tunnel = Tunnel::gue(6080).unwrap();
        let destination = Destination::tunnel(Ipv4Addr::LOCALHOST, 80, tunnel).thresholds(9, 3);
        let daemon = SyncDaemon::new(DaemonRole::Master, "eth0".parse().unwrap())
            .group(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1))
            .port(8848)
            .max_length(1400)
            .ttl(3);
        let new = Message::new(Command::NewDest);
        round_trip(&new.service(&service).destination(&destination));
        round_trip(&Message::new(Command::NewDaemon).daemon(&daemon));
        round_trip(&Message::new(Command::Flush));
        let mut info = Message::new(Command::SetInfo);
        info.info = InfoAttributes { version: Some(0x10201), connection_table_size: Some(4096) };
        round_trip(&info);
        let mut timeouts = Message::new(Command::SetConfig);
        timeouts.timeouts.udp = Some(30);
        round_trip(&timeouts);
    }

    #[test]
    fn the_model_survives_encoding() {
        let service = Service::mark(u32::MAX, Family::V6)
            .unwrap()
            .scheduler(Scheduler::SourceHash(HashOptions::default().port(true)))
            .persistence(Persistence::new(Duration::from_secs(9)).engine("sip".parse().unwrap()));
        let message = Message::new(Command::NewService).service(&service);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let decoded = Message::decode(Command::NewService, &bytes).unwrap();
        let attributes = decoded.service.unwrap();
        assert_eq!(Service::try_from(&attributes), Ok(service));
    }

    #[test]
    fn an_identity_carries_no_configuration() {
        let key = ServiceKey::udp(Ipv4Addr::LOCALHOST, 53);
        let attributes = ServiceAttributes::from(&key);
        assert_eq!(
            (attributes.scheduler, attributes.flags, attributes.netmask),
            (None, None, None)
        );
        let destination = DestinationAttributes::from(&DestinationKey::new(Ipv4Addr::LOCALHOST, 1));
        assert_eq!((destination.weight, destination.forwarding), (None, None));
    }

    /// Ports and IPv4 masks are in network order, all other values in the host's: written out by
    /// hand.
    #[test]
    fn byte_orders_are_the_kernels() {
        let service = Service::udp(Ipv4Addr::new(10, 0, 0, 1), 0x0102).persistence(
            Persistence::new(Duration::from_secs(300))
                .netmask(Netmask::V4(Ipv4Addr::new(255, 255, 255, 0))),
        );
        let mut bytes = [0xaa; 80];
        let mut slice = Slice::new(&mut bytes);
        assert_eq!(ServiceAttributes::from(&service).encode(&mut slice), Some(()));
        assert_eq!(slice.left(), 0);
        let mut expected = Vec::new();
        let mut put = |kind: u16, value: &[u8]| {
            let length = u16::try_from(4 + value.len()).unwrap();
            expected.extend(length.to_ne_bytes());
            expected.extend(kind.to_ne_bytes());
            expected.extend(value);
            expected.resize(expected.len().next_multiple_of(4), 0);
        };
        put(1, &2u16.to_ne_bytes());
        put(2, &17u16.to_ne_bytes());
        put(3, &[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        put(4, &[1, 2]);
        put(6, b"wlc\0");
        put(7, &[1u32.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat());
        put(8, &300u32.to_ne_bytes());
        put(9, &[255, 255, 255, 0]);
        assert_eq!(bytes, expected[..]);
    }
}
