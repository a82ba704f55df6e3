//! How packets reach a destination.

use std::fmt;
use std::num::NonZeroU16;

#[cfg(feature = "serde")]
use crate::forms;

/// The forwarding method: how packets reach a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "forms::Forwarding", try_from = "forms::Forwarding"))]
#[non_exhaustive]
pub enum Forwarding {
    /// The address is rewritten, both ways (`-m`).
    Masquerade,
    /// The packet is for this host itself.
    Local,
    /// The packet is sent inside another one (`-i`).
    Tunnel(Tunnel),
    /// The packet is sent on as it is, to the destination's link address (`-g`).
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
            Self::Masquerade => 0,
            Self::Local => 1,
            Self::Tunnel(_) => 2,
            Self::DirectRoute => 3,
            Self::Bypass => 4,
            Self::Other(OtherForwarding(number)) => number,
        }
    }

    /// The method of a number, of which the kernel keeps the lowest three bits. The tunnel is of
    /// use to the tunnel method only.
    pub fn from_number(number: u32, tunnel: Tunnel) -> Self {
        match number & 7 {
            0 => Self::Masquerade,
            1 => Self::Local,
            2 => Self::Tunnel(tunnel),
            3 => Self::DirectRoute,
            4 => Self::Bypass,
            other => Self::Other(OtherForwarding(other)),
        }
    }

    /// The tunnel, where the method is one.
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
            Self::Tunnel(tunnel) => write!(f, "tunnel ({tunnel})"),
            Self::DirectRoute => f.write_str("direct route"),
            Self::Bypass => f.write_str("bypass"),
            Self::Other(OtherForwarding(number)) => write!(f, "forwarding method {number}"),
        }
    }
}

/// The encapsulation of a tunnel.
///
/// What does not fit these shapes, such as the tunnel types of a newer kernel, is kept as
/// [`Tunnel::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "forms::Tunnel", from = "forms::Tunnel"))]
#[non_exhaustive]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation (5.3 and later).
    Gue {
        /// The UDP port that the destination listens on.
        port: NonZeroU16,
        /// The checksum of the outer header.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation (5.4 and later).
    Gre {
        /// Whether the outer header has a checksum.
        checksum: bool,
    },
    /// Anything else the kernel holds.
    Other(OtherTunnel),
}

/// The checksum of a GUE tunnel's outer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum TunnelChecksum {
    /// None (`--tun-nocsum`).
    #[default]
    None,
    /// A full one (`--tun-csum`).
    Full,
    /// Left to the receiver to compute (`--tun-remcsum`).
    Remote,
}

/// A tunnel that none of the other shapes fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OtherTunnel {
    kind: u8,
    port: u16,
    flags: u16,
}

impl Tunnel {
    const IPIP: u8 = 0;
    const GUE: u8 = 1;
    const GRE: u8 = 2;
    const CHECKSUM: u16 = 1;
    const REMOTE_CHECKSUM: u16 = 2;

    /// A GUE tunnel without a checksum.
    pub fn gue(port: NonZeroU16) -> Self {
        Self::Gue { port, checksum: TunnelChecksum::None }
    }

    /// A GRE tunnel without a checksum.
    pub fn gre() -> Self {
        Self::Gre { checksum: false }
    }

    /// The tunnel of the kernel's type, port and flags.
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

    /// The port of the outer header; 0 where there is none.
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
            Self::Gue { checksum: TunnelChecksum::Full, .. } | Self::Gre { checksum: true } => {
                Self::CHECKSUM
            }
            Self::Gue { checksum: TunnelChecksum::Remote, .. } => Self::REMOTE_CHECKSUM,
            Self::Ipip | Self::Gue { .. } | Self::Gre { .. } => 0,
            Self::Other(other) => other.flags,
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => f.write_str("ipip")?,
            Self::Gue { port, .. } => write!(f, "gue port {port}")?,
            Self::Gre { .. } => f.write_str("gre")?,
            Self::Other(OtherTunnel { kind, port, flags }) => {
                return write!(f, "type {kind} port {port} flags {flags:#x}");
            }
        }
        match self.flags() {
            Self::CHECKSUM => f.write_str(" checksum"),
            Self::REMOTE_CHECKSUM => f.write_str(" remote checksum"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tunnel_survives_its_numbers() {
        for kind in [0, 1, 2, 3, 255] {
            for port in [0, 1, 6080, u16::MAX] {
                for flags in [0, 1, 2, 3, 0x8000] {
                    let tunnel = Tunnel::from_numbers(kind, port, flags);
                    assert_eq!((tunnel.kind(), tunnel.port(), tunnel.flags()), (kind, port, flags));
                }
            }
        }
    }

    #[test]
    fn every_method_survives_its_number() {
        for number in 0..8 {
            assert_eq!(Forwarding::from_number(number, Tunnel::Ipip).number(), number);
        }
    }
}
