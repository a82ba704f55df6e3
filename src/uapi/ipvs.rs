//! The numbers of IPVS.
//!
//! From [`include/uapi/linux/ip_vs.h`][ip_vs.h], and the limits from
//! [`net/netfilter/ipvs/ip_vs_ctl.c`][ip_vs_ctl.c]. They are the same on every kernel that knows
//! them; a comment says which kernel has a number first, if it came after 2.6.28.
//!
//! [ip_vs.h]: https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/ip_vs.h
//! [ip_vs_ctl.c]: https://github.com/torvalds/linux/blob/v6.12/net/netfilter/ipvs/ip_vs_ctl.c
#![allow(missing_docs)] // The names are the kernel's own.

/// The family's name.
pub const FAMILY_NAME: &str = "IPVS";
/// The family's version.
pub const FAMILY_VERSION: u8 = 1;

/// Address families, as used by `service::AF` and `destination::ADDRESS_FAMILY`.
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// Attributes of a message.
pub mod message {
    pub const SERVICE: u16 = 1;
    pub const DESTINATION: u16 = 2;
    pub const DAEMON: u16 = 3;
    pub const TIMEOUT_TCP: u16 = 4;
    pub const TIMEOUT_TCP_FIN: u16 = 5;
    pub const TIMEOUT_UDP: u16 = 6;
}

/// Attributes of a service.
pub mod service {
    /// u16
    pub const AF: u16 = 1;
    /// u16
    pub const PROTOCOL: u16 = 2;
    /// 16 bytes, network order; an IPv4 address is padded with zeros
    pub const ADDRESS: u16 = 3;
    /// u16, network order
    pub const PORT: u16 = 4;
    /// u32
    pub const FWMARK: u16 = 5;
    /// string of at most 15 bytes
    pub const SCHEDULER: u16 = 6;
    /// u32 flags, u32 mask
    pub const FLAGS: u16 = 7;
    /// u32 seconds
    pub const TIMEOUT: u16 = 8;
    /// IPv4: u32 in network order; IPv6: a prefix length as u32
    pub const NETMASK: u16 = 9;
    /// nest of `stats`
    pub const STATS: u16 = 10;
    /// string of at most 16 bytes
    pub const PE_NAME: u16 = 11;
    /// nest of `stats`, all u64 (4.1)
    pub const STATS64: u16 = 12;

    /// Bits of `FLAGS`: persistent.
    pub const PERSISTENT: u32 = 0x1;
    /// Set by the kernel on every service in its table.
    pub const HASHED: u32 = 0x2;
    /// One-packet scheduling.
    pub const ONE_PACKET: u32 = 0x4;
    /// The scheduler decides what they mean: fallback and port for `sh` and `mh` (3.10).
    pub const SCHEDULER_1: u32 = 0x08;
    pub const SCHEDULER_2: u32 = 0x10;
    pub const SCHEDULER_3: u32 = 0x20;
}

/// Forwarding methods, as used by `destination::FORWARDING_METHOD`.
pub mod forwarding {
    /// The bits of the number that tell the method.
    pub const MASK: u32 = 0x7;
    pub const MASQUERADE: u32 = 0;
    pub const LOCAL: u32 = 1;
    pub const TUNNEL: u32 = 2;
    pub const DIRECT_ROUTE: u32 = 3;
    pub const BYPASS: u32 = 4;
}

/// Tunnels, as used by `destination::TUNNEL_TYPE` and `destination::TUNNEL_FLAGS`.
pub mod tunnel {
    pub const IPIP: u8 = 0;
    /// Generic UDP encapsulation (5.3); the only one with a port.
    pub const GUE: u8 = 1;
    /// Generic routing encapsulation (5.3).
    pub const GRE: u8 = 2;

    /// Bits of `TUNNEL_FLAGS` (5.3).
    pub const CHECKSUM: u16 = 1;
    pub const REMOTE_CHECKSUM: u16 = 2;
}

/// Attributes of a destination.
pub mod destination {
    /// 16 bytes, network order; an IPv4 address is padded with zeros
    pub const ADDRESS: u16 = 1;
    /// u16, network order
    pub const PORT: u16 = 2;
    /// u32, of which the low three bits count
    pub const FORWARDING_METHOD: u16 = 3;
    /// u32
    pub const WEIGHT: u16 = 4;
    /// u32
    pub const UPPER_THRESHOLD: u16 = 5;
    /// u32
    pub const LOWER_THRESHOLD: u16 = 6;
    /// u32
    pub const ACTIVE_CONNECTIONS: u16 = 7;
    /// u32
    pub const INACTIVE_CONNECTIONS: u16 = 8;
    /// u32
    pub const PERSISTENT_CONNECTIONS: u16 = 9;
    /// nest of `stats`
    pub const STATS: u16 = 10;
    /// u16 (3.18)
    pub const ADDRESS_FAMILY: u16 = 11;
    /// nest of `stats`, all u64 (4.1)
    pub const STATS64: u16 = 12;
    /// u8 (5.3)
    pub const TUNNEL_TYPE: u16 = 13;
    /// u16, network order (5.3)
    pub const TUNNEL_PORT: u16 = 14;
    /// u16 (5.3)
    pub const TUNNEL_FLAGS: u16 = 15;
}

/// Attributes of a sync daemon.
pub mod daemon {
    /// u32: 1 master, 2 backup
    pub const STATE: u16 = 1;
    /// string of at most 15 bytes
    pub const INTERFACE: u16 = 2;
    /// u32
    pub const SYNC_ID: u16 = 3;
    /// u16 (4.3)
    pub const MAX_LENGTH: u16 = 4;
    /// 4 bytes, network order (4.3)
    pub const GROUP: u16 = 5;
    /// 16 bytes, network order (4.3)
    pub const GROUP6: u16 = 6;
    /// u16, host order (4.3)
    pub const PORT: u16 = 7;
    /// u8 (4.3)
    pub const TTL: u16 = 8;

    /// `STATE` of a master.
    pub const STATE_MASTER: u32 = 1;
    /// `STATE` of a backup.
    pub const STATE_BACKUP: u32 = 2;
}

/// Attributes of statistics: those for packets and rates are u32 in `STATS` and u64 in `STATS64`,
/// those for bytes are u64 in both.
pub mod stats {
    pub const CONNECTIONS: u16 = 1;
    pub const INCOMING_PACKETS: u16 = 2;
    pub const OUTGOING_PACKETS: u16 = 3;
    pub const INCOMING_BYTES: u16 = 4;
    pub const OUTGOING_BYTES: u16 = 5;
    pub const CONNECTION_RATE: u16 = 6;
    pub const INCOMING_PACKET_RATE: u16 = 7;
    pub const OUTGOING_PACKET_RATE: u16 = 8;
    pub const INCOMING_BYTE_RATE: u16 = 9;
    pub const OUTGOING_BYTE_RATE: u16 = 10;
}

/// Attributes of the answer to `GET_INFO`.
pub mod info {
    /// u32, a byte each for major, minor and patch
    pub const VERSION: u16 = 1;
    /// u32
    pub const CONNECTION_TABLE_SIZE: u16 = 2;
}
