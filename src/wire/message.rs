//! The message: a command with its attributes.

use netlink_packet_core::{Emitable, ParseableParametrized};
use netlink_packet_generic::{GenlFamily, GenlHeader};

use super::reader::{Value, for_each_attribute};
use super::stats::Counters;
use super::uapi::{FAMILY_NAME, FAMILY_VERSION, info, top};
use super::writer::{Attributes, Length, Slice};
use super::{DaemonAttributes, DecodeError, DestinationAttributes, ServiceAttributes};
use crate::model::{Info, Timeouts, Version};

/// The family's commands.
///
/// The answer to a `Get…` carries the number of the command that sets what was asked for;
/// [`SetInfo`](Self::SetInfo) is an answer only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // The names say it.
pub enum Command {
    NewService = 1,
    SetService = 2,
    DelService = 3,
    GetService = 4,
    NewDest = 5,
    SetDest = 6,
    DelDest = 7,
    GetDest = 8,
    NewDaemon = 9,
    DelDaemon = 10,
    GetDaemon = 11,
    SetConfig = 12,
    GetConfig = 13,
    SetInfo = 14,
    GetInfo = 15,
    Zero = 16,
    Flush = 17,
}

impl Command {
    /// All commands, by their numbers.
    pub const ALL: [Self; 17] = [
        Self::NewService,
        Self::SetService,
        Self::DelService,
        Self::GetService,
        Self::NewDest,
        Self::SetDest,
        Self::DelDest,
        Self::GetDest,
        Self::NewDaemon,
        Self::DelDaemon,
        Self::GetDaemon,
        Self::SetConfig,
        Self::GetConfig,
        Self::SetInfo,
        Self::GetInfo,
        Self::Zero,
        Self::Flush,
    ];

    /// The command's number.
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for Command {
    type Error = DecodeError;

    #[inline]
    fn try_from(number: u8) -> Result<Self, DecodeError> {
        usize::from(number)
            .checked_sub(1)
            .and_then(|index| Self::ALL.get(index).copied())
            .ok_or(DecodeError::Command(number))
    }
}

/// A message of the family: what follows the generic-netlink header.
///
/// ```
/// use netlink_packet_core::Emitable;
/// use netlink_packet_generic::GenlMessage;
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
    /// What is asked for, or answered.
    pub command: Command,
    /// `SERVICE`.
    pub service: Option<ServiceAttributes>,
    /// `DEST`.
    pub destination: Option<DestinationAttributes>,
    /// `DAEMON`.
    pub daemon: Option<DaemonAttributes>,
    /// `TIMEOUT_TCP`, in seconds.
    pub tcp_timeout: Option<u32>,
    /// `TIMEOUT_TCP_FIN`, in seconds.
    pub tcp_fin_timeout: Option<u32>,
    /// `TIMEOUT_UDP`, in seconds.
    pub udp_timeout: Option<u32>,
    /// `VERSION`, of [`Command::SetInfo`] only.
    pub version: Option<u32>,
    /// `CONN_TAB_SIZE`, of [`Command::SetInfo`] only.
    pub connection_table_size: Option<u32>,
}

impl Message {
    /// A message without attributes.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            service: None,
            destination: None,
            daemon: None,
            tcp_timeout: None,
            tcp_fin_timeout: None,
            udp_timeout: None,
            version: None,
            connection_table_size: None,
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

    pub(crate) fn encode<S: Attributes>(&self, sink: &mut S) {
        if let Some(service) = &self.service {
            let nest = sink.begin_nest();
            service.encode(sink);
            sink.end_nest(top::SERVICE, nest);
        }
        if let Some(destination) = &self.destination {
            let nest = sink.begin_nest();
            destination.encode(sink);
            sink.end_nest(top::DESTINATION, nest);
        }
        self.encode_system(sink);
    }

    /// Encodes what is not of a service.
    #[inline(always)]
    pub(super) fn encode_system<S: Attributes>(&self, sink: &mut S) {
        if let Some(daemon) = &self.daemon {
            let nest = sink.begin_nest();
            daemon.encode(sink);
            sink.end_nest(top::DAEMON, nest);
        }
        for (kind, value) in [
            (top::TIMEOUT_TCP, self.tcp_timeout),
            (top::TIMEOUT_TCP_FIN, self.tcp_fin_timeout),
            (top::TIMEOUT_UDP, self.udp_timeout),
            (info::VERSION, self.version),
            (info::CONNECTION_TABLE_SIZE, self.connection_table_size),
        ] {
            if let Some(value) = value {
                sink.u32_native(kind, value);
            }
        }
    }

    /// Decodes the attributes that follow the generic-netlink header.
    ///
    /// # Errors
    /// When an attribute is shorter than its type, or holds no value of it.
    pub fn decode(command: Command, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut message = Self::new(command);
        for_each_attribute(bytes, |kind, bytes| {
            let number = |name| Value::new(name, bytes).u32_native();
            if command == Command::SetInfo {
                match kind {
                    info::VERSION => message.version = Some(number("VERSION")?),
                    info::CONNECTION_TABLE_SIZE => {
                        message.connection_table_size = Some(number("CONN_TAB_SIZE")?);
                    }
                    _ => {}
                }
                return Ok(());
            }
            match kind {
                top::SERVICE => {
                    message.service = Some(ServiceAttributes::decode(bytes, Counters::All)?);
                }
                top::DESTINATION => {
                    message.destination = Some(DestinationAttributes::decode(bytes)?);
                }
                top::DAEMON => message.daemon = Some(DaemonAttributes::decode(bytes)?),
                top::TIMEOUT_TCP => message.tcp_timeout = Some(number("TIMEOUT_TCP")?),
                top::TIMEOUT_TCP_FIN => message.tcp_fin_timeout = Some(number("TIMEOUT_TCP_FIN")?),
                top::TIMEOUT_UDP => message.udp_timeout = Some(number("TIMEOUT_UDP")?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(message)
    }
}

impl TryFrom<&Message> for Timeouts {
    type Error = DecodeError;

    fn try_from(message: &Message) -> Result<Self, DecodeError> {
        Ok(Self::from_seconds(
            message.tcp_timeout.ok_or(DecodeError::Missing("TIMEOUT_TCP"))?,
            message.tcp_fin_timeout.ok_or(DecodeError::Missing("TIMEOUT_TCP_FIN"))?,
            message.udp_timeout.ok_or(DecodeError::Missing("TIMEOUT_UDP"))?,
        ))
    }
}

impl TryFrom<&Message> for Info {
    type Error = DecodeError;

    fn try_from(message: &Message) -> Result<Self, DecodeError> {
        let version = message.version.ok_or(DecodeError::Missing("VERSION"))?;
        let size = message.connection_table_size.ok_or(DecodeError::Missing("CONN_TAB_SIZE"))?;
        Ok(Self::new(Version(version), size))
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
        let mut length = Length::default();
        self.encode(&mut length);
        length.0
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.encode(&mut Slice::new(buffer));
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
        for (index, command) in Command::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(command.number()), index + 1);
            assert_eq!(Command::try_from(command.number()), Ok(command));
        }
        assert!(Command::try_from(0).is_err());
        assert!(Command::try_from(18).is_err());
    }

    #[test]
    fn every_part_survives_encoding() {
        let service = Service::tcp(Ipv6Addr::LOCALHOST, 443)
            .persistent(Persistence::new(Duration::from_secs(9)).netmask(Netmask::V6(64)));
        let tunnel = Tunnel::gue(6080.try_into().unwrap());
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
        (info.version, info.connection_table_size) = (Some(0x10201), Some(4096));
        round_trip(&info);
        let mut timeouts = Message::new(Command::SetConfig);
        timeouts.udp_timeout = Some(30);
        round_trip(&timeouts);
    }

    #[test]
    fn the_model_survives_encoding() {
        let service = Service::mark(u32::MAX.try_into().unwrap(), Family::V6)
            .scheduler(Scheduler::SourceHash(HashOptions::default().port(true)))
            .persistent(Persistence::new(Duration::from_secs(9)).engine("sip".parse().unwrap()));
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

    /// Ports and IPv4 masks are network order, everything else is the host's: written out by hand.
    #[test]
    fn byte_orders_are_the_kernels() {
        let service = Service::udp(Ipv4Addr::new(10, 0, 0, 1), 0x0102).persistent(
            Persistence::new(Duration::from_secs(300))
                .netmask(Netmask::V4(Ipv4Addr::new(255, 255, 255, 0))),
        );
        let mut bytes = [0xaa; 80];
        let mut slice = Slice::new(&mut bytes);
        ServiceAttributes::from(&service).encode(&mut slice);
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
