//! Protocols and addresses in the form that the tables below `/proc` give them.

use std::borrow::Cow;
use std::net::IpAddr;

/// The kernel's name of a protocol.
pub(super) fn protocol_name(number: u16) -> Cow<'static, str> {
    match number {
        0 => "IP".into(),
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        other => format!("IP_{other}").into(),
    }
}

/// An address as `%08X` and `%pI6` print it.
pub(super) fn hexadecimal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:04x}")).join(":"),
    }
}
