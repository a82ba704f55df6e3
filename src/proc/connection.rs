//! An entry of the connection table, with the data of its columns.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use crate::model::{DestinationKey, EngineName, Family, Invalid, Name, Protocol, ServiceKey};

/// An entry of the connection table: a connection, or a template of persistence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Connection {
    /// The transport protocol; 0 in a template of a service by firewall mark.
    pub protocol: Protocol,
    /// The client's address and port. A [template](Self::is_template) has the client's network, by
    /// the service's netmask, and port 0.
    pub client: SocketAddr,
    /// The address and port that the client connected to. The port is 0 in a template for all ports;
    /// see [`mark`](Self::mark) for a template of a service by firewall mark.
    pub virtual_address: SocketAddr,
    /// The destination that was chosen. Its port is 0 in a template for all ports, and in a
    /// template of a service by firewall mark.
    pub destination: DestinationKey,
    /// How far the connection has got.
    pub state: ConnectionState,
    /// When the kernel forgets the entry unless another packet comes, in whole seconds from the
    /// moment of reading.
    #[cfg_attr(feature = "serde", serde(with = "crate::forms::seconds"))]
    pub expires: Duration,
    /// The data by which a persistence engine tells clients apart. The listing [with
    /// origins](super::Proc::connections_with_origin) has none.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub engine: Option<EngineData>,
    /// The origin of the entry. Only the listing [with
    /// origins](super::Proc::connections_with_origin) has it.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub origin: Option<Origin>,
}

/// The data by which a persistence engine tells which connections belong together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct EngineData {
    /// The engine: `sip`.
    pub engine: EngineName,
    /// Its data; for `sip` the call's `Call-ID`. Bytes that are not UTF-8 are replaced.
    pub data: String,
}

/// The origin of an entry of the connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Origin {
    /// This host scheduled a packet.
    Local,
    /// Another host's sync daemon sent a message.
    Sync,
}

/// How far a connection has got.
///
/// The names are the kernel's, as it prints them. Names that are not listed here, such as those of a
/// newer kernel, are kept as [`Other`](Self::Other); parsing a listed name always gives its variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// `NONE`: no state yet; for a template, not [assured](Self::Assured).
    None,
    /// `ASSURED`: a template from which a connection was established (4.19 and later).
    Assured,
    /// `ESTABLISHED`, of TCP and SCTP.
    Established,
    /// `SYN_SENT`, of TCP.
    SynSent,
    /// `SYN_RECV`, of TCP.
    SynReceived,
    /// `FIN_WAIT`, of TCP.
    FinWait,
    /// `TIME_WAIT`, of TCP.
    TimeWait,
    /// `CLOSE`, of TCP.
    Close,
    /// `CLOSE_WAIT`, of TCP.
    CloseWait,
    /// `LAST_ACK`, of TCP.
    LastAck,
    /// `LISTEN`, of TCP: an expected connection, such as the data connection of FTP.
    Listen,
    /// `SYNACK`, of TCP under the sysctl `secure_tcp`.
    SynAck,
    /// `UDP`, which has no states.
    Udp,
    /// `INIT1`, of SCTP.
    Init1,
    /// `INIT`, of SCTP.
    Init,
    /// `COOKIE_SENT`, of SCTP.
    CookieSent,
    /// `COOKIE_REPLIED`, of SCTP.
    CookieReplied,
    /// `COOKIE_WAIT`, of SCTP.
    CookieWait,
    /// `COOKIE`, of SCTP.
    Cookie,
    /// `COOKIE_ECHOED`, of SCTP.
    CookieEchoed,
    /// `SHUTDOWN_SENT`, of SCTP.
    ShutdownSent,
    /// `SHUTDOWN_RECEIVED`, of SCTP.
    ShutdownReceived,
    /// `SHUTDOWN_ACK_SENT`, of SCTP.
    ShutdownAckSent,
    /// `REJECTED`, of SCTP.
    Rejected,
    /// `CLOSED`, of SCTP.
    Closed,
    /// A state that this crate has no variant for, by its name.
    Other(OtherState),
}

/// A state without a variant of its own; made by [`ConnectionState::named`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OtherState(Name<31>);

impl ConnectionState {
    /// Every state that has a variant of its own.
    pub const KNOWN: &'static [Self] = &[
        Self::None,
        Self::Assured,
        Self::Established,
        Self::SynSent,
        Self::SynReceived,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::SynAck,
        Self::Udp,
        Self::Init1,
        Self::Init,
        Self::CookieSent,
        Self::CookieReplied,
        Self::CookieWait,
        Self::Cookie,
        Self::CookieEchoed,
        Self::ShutdownSent,
        Self::ShutdownReceived,
        Self::ShutdownAckSent,
        Self::Rejected,
        Self::Closed,
    ];

    /// The state with this name.
    ///
    /// # Errors
    /// When the name is empty, longer than 31 bytes, or has white space in it.
    pub fn named(name: &str) -> Result<Self, Invalid> {
        match Self::KNOWN.iter().copied().find(|state| state.name() == name) {
            Some(state) => Ok(state),
            None => Ok(Self::Other(OtherState(Name::new(name)?))),
        }
    }

    /// The kernel's name for it: `ESTABLISHED`, …
    pub fn name(&self) -> &str {
        match self {
            Self::None => "NONE",
            Self::Assured => "ASSURED",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
            Self::Udp => "UDP",
            Self::Init1 => "INIT1",
            Self::Init => "INIT",
            Self::CookieSent => "COOKIE_SENT",
            Self::CookieReplied => "COOKIE_REPLIED",
            Self::CookieWait => "COOKIE_WAIT",
            Self::Cookie => "COOKIE",
            Self::CookieEchoed => "COOKIE_ECHOED",
            Self::ShutdownSent => "SHUTDOWN_SENT",
            Self::ShutdownReceived => "SHUTDOWN_RECEIVED",
            Self::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            Self::Rejected => "REJECTED",
            Self::Closed => "CLOSED",
            Self::Other(OtherState(name)) => name.as_str(),
        }
    }
}

impl FromStr for ConnectionState {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::named(name)
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(feature = "serde")]
crate::forms::as_text! {
    ConnectionState: "a connection's state, as ESTABLISHED";
}

impl Connection {
    /// Whether this is no connection but a template of persistence, which sends the next
    /// connections of the client's network to the same destination.
    ///
    /// Before Linux 4.19 templates have the first state of their protocol: those of UDP are `UDP`, and
    /// cannot be told from a connection of the client's port 0. They count as connections.
    pub fn is_template(&self) -> bool {
        self.client.port() == 0
            && matches!(self.state, ConnectionState::None | ConnectionState::Assured)
    }

    /// The firewall mark of the service, which a template has in place of the virtual address. A
    /// connection that came by a mark has the address that the client connected to, and the table
    /// does not tell its service.
    pub fn mark(&self) -> Option<NonZeroU32> {
        if self.protocol != Protocol::from_number(0) || !self.is_template() {
            return None;
        }
        let mark = match self.virtual_address.ip() {
            IpAddr::V4(v4) => v4.to_bits(),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.octets();
                Ipv4Addr::new(a, b, c, d).to_bits()
            }
        };
        NonZeroU32::new(mark)
    }

    /// Whether the entry can belong to a service, as far as the table tells.
    ///
    /// To a service by address belong the connections to its address and port. If its port is 0,
    /// these are the connections to all ports of its address, also to those that have a service of
    /// their own. To a service by firewall mark belong only its templates: see
    /// [`mark`](Self::mark).
    pub fn is_of_service(&self, service: impl Into<ServiceKey>) -> bool {
        match service.into() {
            ServiceKey::Address { protocol, address, port } => {
                self.protocol == protocol
                    && self.virtual_address.ip() == address
                    && (port == 0 || self.virtual_address.port() == port)
            }
            ServiceKey::Mark { mark, family } => {
                self.mark() == Some(mark) && Family::from(self.virtual_address.ip()) == family
            }
        }
    }

    /// Whether the entry can belong to a destination, as far as the table tells.
    ///
    /// To a destination with port 0 belong the connections to all ports of its address, also to
    /// those that have a destination of their own. Under a persistent service by firewall mark or
    /// for all ports, a connection keeps the port that the client connected to, whichever port its
    /// destination has: ask for port 0 in this case.
    pub fn is_of_destination(&self, destination: impl Into<DestinationKey>) -> bool {
        let destination = destination.into();
        self.destination.address == destination.address
            && (destination.port == 0 || self.destination.port == destination.port)
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn the_readable_form_has_names_and_seconds() {
        let entry = Connection {
            protocol: Protocol::TCP,
            client: ([198, 51, 100, 1], 48242).into(),
            virtual_address: ([10, 0, 0, 1], 80).into(),
            destination: ([10, 0, 1, 1], 8080).into(),
            state: ConnectionState::Established,
            expires: Duration::from_secs(871),
            engine: None,
            origin: Some(Origin::Sync),
        };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            text,
            "{\"protocol\":\"tcp\",\"client\":\"198.51.100.1:48242\",\
             \"virtual_address\":\"10.0.0.1:80\",\
             \"destination\":\"10.0.1.1:8080\",\
             \"state\":\"ESTABLISHED\",\"expires\":871,\"origin\":\"sync\"}"
        );
        assert_eq!(serde_json::from_str::<Connection>(&text).unwrap(), entry);
    }
}
