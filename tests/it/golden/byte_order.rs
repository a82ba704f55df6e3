//! Datagrams of a machine of the other byte order, brought into the order of this one.
//!
//! The tables tell which values are numbers of the machine's order. They repeat the crate's
//! knowledge, since they test the crate.

use ipvs_netlink::wire::Command;
use ipvs_netlink::wire::uapi::AF_INET6;
use netlink_packet_core::{NLA_F_NESTED, NLMSG_DONE, NLMSG_ERROR};
use netlink_packet_generic::constants::GENL_ID_CTRL;

/// The byte order of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    pub(super) const HOST: Self =
        if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    fn u16(self, bytes: &[u8]) -> u16 {
        let bytes = bytes.try_into().expect("two bytes");
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: &[u8]) -> u32 {
        let bytes = bytes.try_into().expect("four bytes");
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// The kinds of attributes, each with its type of value.
type Table = &'static [(u16, Value)];

/// The type of an attribute's value.
#[derive(Clone, Copy)]
enum Value {
    /// Bytes, text, and numbers in network order.
    Bytes,
    /// Numbers of so many bytes.
    Numbers(usize),
    Nest(Table),
    /// A number of two bytes, which decides the form of the netmask in the same nest.
    AddressFamily,
    /// Bytes for an IPv4 service, a number of four bytes for an IPv6 service.
    Netmask,
}
use Value::{AddressFamily, Bytes, Nest, Netmask, Numbers};

/// The answer to `GET_INFO` has attribute numbers of its own.
const SET_INFO: u8 = Command::SetInfo.number();

const FAMILY: Table = &[
    (1, Numbers(2)),
    (2, Bytes),
    (3, Numbers(4)),
    (4, Numbers(4)),
    (5, Numbers(4)),
    (6, Nest(COMMANDS)),
];
/// The attributes of this nest are numbered through.
const COMMANDS: Table = &[(EACH, Nest(&[(1, Numbers(4)), (2, Numbers(4))]))];
const EACH: u16 = 0;
const INFO: Table = &[(1, Numbers(4)), (2, Numbers(4))];
const IPVS: Table = &[
    (1, Nest(SERVICE)),
    (2, Nest(DESTINATION)),
    (3, Nest(DAEMON)),
    (4, Numbers(4)),
    (5, Numbers(4)),
    (6, Numbers(4)),
];
const SERVICE: Table = &[
    (1, AddressFamily),
    (2, Numbers(2)),
    (3, Bytes),
    (4, Bytes),
    (5, Numbers(4)),
    (6, Bytes),
    (7, Numbers(4)),
    (8, Numbers(4)),
    (9, Netmask),
    (10, Nest(STATS)),
    (11, Bytes),
    (12, Nest(STATS64)),
];
const DESTINATION: Table = &[
    (1, Bytes),
    (2, Bytes),
    (3, Numbers(4)),
    (4, Numbers(4)),
    (5, Numbers(4)),
    (6, Numbers(4)),
    (7, Numbers(4)),
    (8, Numbers(4)),
    (9, Numbers(4)),
    (10, Nest(STATS)),
    (11, Numbers(2)),
    (12, Nest(STATS64)),
    (13, Bytes),
    (14, Bytes),
    (15, Numbers(2)),
];
const DAEMON: Table = &[
    (1, Numbers(4)),
    (2, Bytes),
    (3, Numbers(4)),
    (4, Numbers(2)),
    (5, Bytes),
    (6, Bytes),
    (7, Numbers(2)),
    (8, Bytes),
];
const STATS: Table = &[
    (1, Numbers(4)),
    (2, Numbers(4)),
    (3, Numbers(4)),
    (4, Numbers(8)),
    (5, Numbers(8)),
    (6, Numbers(4)),
    (7, Numbers(4)),
    (8, Numbers(4)),
    (9, Numbers(4)),
    (10, Numbers(4)),
];
const STATS64: Table = &[
    (1, Numbers(8)),
    (2, Numbers(8)),
    (3, Numbers(8)),
    (4, Numbers(8)),
    (5, Numbers(8)),
    (6, Numbers(8)),
    (7, Numbers(8)),
    (8, Numbers(8)),
    (9, Numbers(8)),
    (10, Numbers(8)),
];

/// Brings a datagram of this order into the machine's.
///
/// # Panics
/// The datagram has an attribute that is in no table, and that would stay in the other order
/// unnoticed.
pub(super) fn to_host(datagram: &mut [u8], order: ByteOrder) {
    if order == ByteOrder::HOST {
        return;
    }
    let mut rest = datagram;
    while rest.len() >= 16 {
        let length = usize::try_from(order.u32(&rest[..4])).unwrap();
        let aligned = length.next_multiple_of(4).min(rest.len());
        let (message, more) = rest.split_at_mut(aligned);
        swap_message(&mut message[..length], order);
        rest = more;
    }
}

fn swap_message(message: &mut [u8], order: ByteOrder) {
    let kind = order.u16(&message[4..6]);
    let (header, payload) = message.split_at_mut(16);
    swap_header(header);
    match kind {
        NLMSG_ERROR => {
            let (errno, echoed) = payload.split_at_mut(4);
            errno.reverse();
            assert_eq!(echoed.len(), 16, "no words of the kernel's were recorded");
            swap_header(echoed);
        }
        NLMSG_DONE => payload.reverse(),
        _ => {
            let table = match (kind, payload[0]) {
                (GENL_ID_CTRL, _) => FAMILY,
                (_, SET_INFO) => INFO,
                _ => IPVS,
            };
            swap_attributes(&mut payload[4..], table, order);
        }
    }
}

fn swap_header(header: &mut [u8]) {
    for field in [0..4, 4..6, 6..8, 8..12, 12..16] {
        header[field].reverse();
    }
}

fn swap_attributes(attributes: &mut [u8], table: Table, order: ByteOrder) {
    let mut rest = attributes;
    let mut is_ipv6 = false;
    while rest.len() >= 4 {
        let length = usize::from(order.u16(&rest[..2]));
        let kind = order.u16(&rest[2..4]) & !NLA_F_NESTED;
        rest[..2].reverse();
        rest[2..4].reverse();
        let aligned = length.next_multiple_of(4).min(rest.len());
        let (attribute, more) = rest.split_at_mut(aligned);
        let value = &mut attribute[4..length];
        let known = table.iter().find(|(known, _)| *known == kind || *known == EACH);
        match known.unwrap_or_else(|| panic!("attribute {kind} is in no table")).1 {
            Numbers(size) => value.chunks_exact_mut(size).for_each(<[u8]>::reverse),
            AddressFamily => {
                is_ipv6 = order.u16(value) == AF_INET6;
                value.reverse();
            }
            Nest(table) => swap_attributes(value, table, order),
            Netmask if is_ipv6 => value.reverse(),
            Bytes | Netmask => {}
        }
        rest = more;
    }
}
