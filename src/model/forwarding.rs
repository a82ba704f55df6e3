//! How packets reach a destination.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::{Invalid, parse_bits};
use crate::uapi::ipvs::{forwarding, tunnel};

/// The forwarding method: how packets reach a destination.
///
/// As text a method is `masquerade`, `local`, `direct-route`, `bypass`, `method 5` for one without
/// a name, or `tunnel` and the [`Tunnel`]: `tunnel gue port 6080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forwarding {
    /// The address is rewritten in both directions (`-m`).
    #[doc(alias = "nat")]
    #[doc(alias = "masq")]
    #[doc(alias = "masquerading")]
    Masquerade,
    /// The packet is for this host itself.
    Local,
    /// The packet is sent inside another one (`-i`).
    #[doc(alias = "ipip")]
    #[doc(alias = "tun")]
    Tunnel(Tunnel),
    /// The packet is sent on as it is, to the destination's link address (`-g`).
    #[doc(alias = "dr")]
    #[doc(alias = "gatewaying")]
    #[doc(alias = "route")]
    DirectRoute,
    /// The packet goes on to where it was addressed, past IPVS.
    Bypass,
    /// A method of a newer kernel.
    Other(OtherForwarding),
}

/// A forwarding method without a variant of its own: 5 to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OtherForwarding(u32);

impl OtherForwarding {
    /// The kernel's number for it.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl Forwarding {
    /// The kernel's number for the method.
    pub fn number(&self) -> u32 {
        match *self {
            Self::Masquerade => forwarding::MASQUERADE,
            Self::Local => forwarding::LOCAL,
            Self::Tunnel(_) => forwarding::TUNNEL,
            Self::DirectRoute => forwarding::DIRECT_ROUTE,
            Self::Bypass => forwarding::BYPASS,
            Self::Other(OtherForwarding(number)) => number,
        }
    }

    /// The method with this number, of which the kernel keeps the lowest three bits. The tunnel
    /// matters for the tunnel method only.
    pub fn from_number(number: u32, tunnel: Tunnel) -> Self {
        match number & forwarding::MASK {
            forwarding::MASQUERADE => Self::Masquerade,
            forwarding::LOCAL => Self::Local,
            forwarding::TUNNEL => Self::Tunnel(tunnel),
            forwarding::DIRECT_ROUTE => Self::DirectRoute,
            forwarding::BYPASS => Self::Bypass,
            other => Self::Other(OtherForwarding(other)),
        }
    }

    /// The tunnel, if the method is one.
    pub fn tunnel(&self) -> Option<Tunnel> {
        match *self {
            Self::Tunnel(tunnel) => Some(tunnel),
            _ => None,
        }
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masquerade => f.write_str("masquerade"),
            Self::Local => f.write_str("local"),
            Self::Tunnel(tunnel) => write!(f, "tunnel {tunnel}"),
            Self::DirectRoute => f.write_str("direct-route"),
            Self::Bypass => f.write_str("bypass"),
            Self::Other(OtherForwarding(number)) => write!(f, "method {number}"),
        }
    }
}

impl FromStr for Forwarding {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expected = || Invalid::expected(FORWARDING, text);
        match text {
            "masquerade" => Ok(Self::Masquerade),
            "local" => Ok(Self::Local),
            "direct-route" => Ok(Self::DirectRoute),
            "bypass" => Ok(Self::Bypass),
            _ => match text.split_once(' ').ok_or_else(expected)? {
                ("tunnel", tunnel) => Ok(Self::Tunnel(tunnel.parse()?)),
                ("method", number) => match number.parse() {
                    Ok(number @ 5..=7) => Ok(Self::Other(OtherForwarding(number))),
                    _ => Err(expected()),
                },
                _ => Err(expected()),
            },
        }
    }
}

/// The form of a forwarding method, for messages.
const FORWARDING: &str =
    "masquerade, direct-route, local, bypass, tunnel with its kind, or method 5 to 7";

/// The encapsulation of a tunnel.
///
/// A tunnel that fits none of these variants, such as one of a newer kernel's type, is kept as
/// [`Tunnel::Other`]. As text a tunnel is `ipip`, `gue port 6080`, `gue port 6080 checksum full`
/// (or `remote`), `gre`, `gre checksum full`, or in numbers `type 7 port 9 flags 0x5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation (5.3 and later), made by [`Tunnel::gue`].
    #[non_exhaustive]
    Gue {
        /// The UDP port that the destination listens on.
        port: NonZeroU16,
        /// The checksum of the outer header.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation (5.4 and later), made by [`Tunnel::gre`].
    #[non_exhaustive]
    Gre {
        /// Whether the outer header has a checksum.
        checksum: bool,
    },
    /// Any other tunnel that the kernel holds.
    Other(OtherTunnel),
}

/// The checksum of a GUE tunnel's outer header; as text `none`, `full` or `remote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TunnelChecksum {
    /// None (`--tun-nocsum`).
    #[default]
    None,
    /// A full one (`--tun-csum`).
    Full,
    /// The receiver computes it (`--tun-remcsum`).
    Remote,
}

/// A tunnel that fits no other variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OtherTunnel {
    kind: u8,
    port: u16,
    flags: u16,
}

impl Tunnel {
    const IPIP: u8 = tunnel::IPIP;
    pub(crate) const GUE: u8 = tunnel::GUE;
    const GRE: u8 = tunnel::GRE;
    const CHECKSUM: u16 = tunnel::CHECKSUM;
    const REMOTE_CHECKSUM: u16 = tunnel::REMOTE_CHECKSUM;

    /// The name of a type, or its number if it has no name.
    pub(crate) fn kind_name(kind: u8) -> Cow<'static, str> {
        match kind {
            Self::IPIP => "ipip".into(),
            Self::GUE => "gue".into(),
            Self::GRE => "gre".into(),
            number => number.to_string().into(),
        }
    }

    /// The type of a tunnel by its name or its number.
    pub(crate) fn parse_kind(text: &str) -> Result<u8, Invalid> {
        match text {
            "ipip" => Ok(Self::IPIP),
            "gue" => Ok(Self::GUE),
            "gre" => Ok(Self::GRE),
            number => number.parse().map_err(|_| Invalid::expected("ipip, gue or gre", text)),
        }
    }

    /// A GUE tunnel without a checksum, to the UDP port that the destination listens on.
    ///
    /// ```
    /// use ipvs_netlink::{Tunnel, TunnelChecksum};
    ///
    /// let tunnel = Tunnel::gue(6080)?.checksum(TunnelChecksum::Full);
    /// assert_eq!(tunnel.to_string(), "gue port 6080 checksum full");
    /// # Ok::<(), ipvs_netlink::Invalid>(())
    /// ```
    ///
    /// # Errors
    /// When the port is 0.
    pub fn gue(port: u16) -> Result<Self, Invalid> {
        let port = NonZeroU16::new(port)
            .ok_or_else(|| Invalid::new("the port of a gue tunnel is 1 to 65535, not 0"))?;
        Ok(Self::Gue { port, checksum: TunnelChecksum::None })
    }

    /// A GRE tunnel without a checksum.
    pub fn gre() -> Self {
        Self::Gre { checksum: false }
    }

    /// The same tunnel with this checksum of its outer header. IP in IP has no such checksum, and
    /// does not change.
    #[must_use]
    pub fn checksum(self, checksum: TunnelChecksum) -> Self {
        match self {
            Self::Ipip => self,
            _ => Self::from_numbers(self.kind(), self.port(), checksum.flags()),
        }
    }

    /// The tunnel with this type, port and flags of the kernel.
    pub fn from_numbers(kind: u8, port: u16, flags: u16) -> Self {
        match (kind, NonZeroU16::new(port), flags) {
            (Self::IPIP, None, 0) => Self::Ipip,
            (Self::GUE, Some(port), 0) => Self::Gue { port, checksum: TunnelChecksum::None },
            (Self::GUE, Some(port), Self::CHECKSUM) => {
                Self::Gue { port, checksum: TunnelChecksum::Full }
            }
            (Self::GUE, Some(port), Self::REMOTE_CHECKSUM) => {
                Self::Gue { port, checksum: TunnelChecksum::Remote }
            }
            (Self::GRE, None, 0) => Self::Gre { checksum: false },
            (Self::GRE, None, Self::CHECKSUM) => Self::Gre { checksum: true },
            _ => Self::Other(OtherTunnel { kind, port, flags }),
        }
    }

    /// The kernel's type of the tunnel: 0 ipip, 1 gue, 2 gre.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Ipip => Self::IPIP,
            Self::Gue { .. } => Self::GUE,
            Self::Gre { .. } => Self::GRE,
            Self::Other(other) => other.kind,
        }
    }

    /// The port of the outer header; 0 if it has none.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ipip | Self::Gre { .. } => 0,
            Self::Gue { port, .. } => port.get(),
            Self::Other(other) => other.port,
        }
    }

    /// The kernel's flags of the tunnel: 1 checksum, 2 remote checksum.
    pub fn flags(&self) -> u16 {
        match self {
            Self::Gue { checksum, .. } => checksum.flags(),
            Self::Gre { checksum: true } => Self::CHECKSUM,
            Self::Ipip | Self::Gre { .. } => 0,
            Self::Other(other) => other.flags,
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checksum = match *self {
            Self::Ipip => return f.write_str("ipip"),
            Self::Gue { port, checksum } => {
                write!(f, "gue port {port}")?;
                checksum
            }
            Self::Gre { checksum } => {
                f.write_str("gre")?;
                if checksum { TunnelChecksum::Full } else { TunnelChecksum::None }
            }
            Self::Other(OtherTunnel { kind, port, flags }) => {
                return write!(f, "type {kind} port {port} flags {flags:#x}");
            }
        };
        match checksum {
            TunnelChecksum::None => Ok(()),
            _ => write!(f, " checksum {checksum}"),
        }
    }
}

impl FromStr for Tunnel {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expected =
            || Invalid::expected("ipip, gue port 6080, gre, or type 7 port 9 flags 0x5", text);
        let words: Vec<&str> = text.split_whitespace().collect();
        let gue = |port: &str| Self::gue(port.parse().map_err(|_| expected())?);
        match words[..] {
            ["ipip"] => Ok(Self::Ipip),
            ["gue", "port", number] => gue(number),
            ["gue", "port", number, "checksum", checksum] => {
                Ok(gue(number)?.checksum(checksum.parse()?))
            }
            ["gre"] => Ok(Self::gre()),
            ["gre", "checksum", "full"] => Ok(Self::Gre { checksum: true }),
            ["type", kind, "port", port, "flags", flags] => {
                let kind = kind.parse().map_err(|_| expected())?;
                let port = port.parse().map_err(|_| expected())?;
                let flags = parse_bits(flags).and_then(|flags| flags.try_into().ok());
                Ok(Self::from_numbers(kind, port, flags.ok_or_else(expected)?))
            }
            _ => Err(expected()),
        }
    }
}

impl TunnelChecksum {
    /// The kernel's flags for it.
    pub(crate) fn flags(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Full => Tunnel::CHECKSUM,
            Self::Remote => Tunnel::REMOTE_CHECKSUM,
        }
    }
}

impl fmt::Display for TunnelChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Remote => "remote",
        })
    }
}

impl FromStr for TunnelChecksum {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "none" => Ok(Self::None),
            "full" => Ok(Self::Full),
            "remote" => Ok(Self::Remote),
            _ => Err(Invalid::expected("none, full or remote", text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tunnel_survives_its_numbers_and_its_text() {
        for kind in [0, 1, 2, 3, 255] {
            for port in [0, 1, 6080, u16::MAX] {
                for flags in [0, 1, 2, 3, 0x8000] {
                    let tunnel = Tunnel::from_numbers(kind, port, flags);
                    assert_eq!((tunnel.kind(), tunnel.port(), tunnel.flags()), (kind, port, flags));
                    assert_eq!(tunnel.to_string().parse(), Ok(tunnel), "{tunnel}");
                }
            }
        }
    }

    #[test]
    fn every_method_survives_its_number_and_its_text() {
        for number in 0..8 {
            let method = Forwarding::from_number(number, Tunnel::gre());
            assert_eq!(method.number(), number);
            assert_eq!(method.to_string().parse(), Ok(method), "{method}");
        }
    }
}
