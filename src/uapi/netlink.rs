//! The numbers of netlink and of generic netlink's own family that `netlink-packet-core` lacks.
//!
//! From [`linux/netlink.h`][netlink.h] and [`linux/genetlink.h`][genetlink.h]; the sizes from
//! [`net/netlink/af_netlink.c`][af_netlink.c].
//!
//! [netlink.h]: https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netlink.h
//! [genetlink.h]: https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/genetlink.h
//! [af_netlink.c]: https://github.com/torvalds/linux/blob/v6.12/net/netlink/af_netlink.c
#![allow(missing_docs)] // The names are the kernel's own.

/// The length of a netlink header, in bytes.
pub(crate) const HEADER_LENGTH: usize = 16;
/// The length of a generic-netlink header, in bytes.
pub(crate) const GENERIC_HEADER_LENGTH: usize = 4;
/// The offset of the flags in a netlink header.
pub(crate) const FLAGS_OFFSET: usize = 6;

/// The size of a socket's receive buffer and of its send buffer, in bytes as the kernel counts
/// them, if the system has no other setting.
pub(crate) const DEFAULT_BUFFER: usize = 212_992;
/// The bytes of the send buffer that a datagram cannot use.
pub(crate) const SEND_OVERHEAD: usize = 32;
/// The longest part of a dump, in bytes, however long the receiving buffer is.
pub(crate) const LONGEST_PART: usize = 32_448;

/// The message type of `nlctrl`, the family that knows all families.
pub(crate) const GENL_ID_CTRL: u16 = 0x10;

/// Attributes of an acknowledgement: the kernel's words besides the error number (4.12).
pub(crate) mod acknowledgement {
    /// string
    pub(crate) const MESSAGE: u16 = 1;
    /// u32: the offset in the request
    pub(crate) const OFFSET: u16 = 2;
    /// nest: the policy of the attribute (5.10)
    pub(crate) const POLICY: u16 = 4;
}

/// Commands and attributes of `nlctrl`.
pub(crate) mod nlctrl {
    pub(crate) const NEW_FAMILY: u8 = 1;
    pub(crate) const GET_FAMILY: u8 = 3;

    /// u16
    pub(crate) const FAMILY_ID: u16 = 1;
    /// string of at most 15 bytes
    pub(crate) const FAMILY_NAME: u16 = 2;
    /// u32
    pub(crate) const VERSION: u16 = 3;
    /// u32
    pub(crate) const HEADER_SIZE: u16 = 4;
    /// u32
    pub(crate) const HIGHEST_ATTRIBUTE: u16 = 5;
    /// nest of nests
    pub(crate) const OPERATIONS: u16 = 6;
}
