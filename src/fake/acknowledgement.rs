//! Acknowledgements and errors, with the attributes that the kernel adds to them.

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ERROR};

use super::policy::{AttributeRule, ExtendedAck};
use super::writer::{Header, Writer};
use crate::uapi::netlink::acknowledgement;

/// Numbers of `linux/netlink.h`: how an acknowledgement describes the rule of an attribute.
mod rule {
    pub(super) const TYPE: u16 = 1;
    pub(super) const LEAST: u16 = 4;
    pub(super) const MOST: u16 = 5;
    pub(super) const MOST_BYTES: u16 = 7;

    pub(super) const U8: u32 = 2;
    pub(super) const U16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const BINARY: u32 = 10;
    pub(super) const TEXT: u32 = 12;
    pub(super) const NEST: u32 = 13;
}

/// Marks an attribute as a nest.
const NESTED: u16 = 0x8000;

/// Writes the answer that ends a request; errno 0 is success. The answer echoes only the header of
/// the request, as for a socket that has set `NETLINK_CAP_ACK`.
pub(super) fn write(
    out: &mut Writer,
    port: u32,
    request: &[u8; 16],
    errno: i32,
    ack: &ExtendedAck,
) {
    let &[.., s0, s1, s2, s3, _, _, _, _] = request;
    let attribute = ack.attribute.filter(|_| errno != 0);
    let extended = ack.message.is_some() || attribute.is_some();
    let header = Header {
        message_type: NLMSG_ERROR,
        flags: NLM_F_CAPPED | if extended { NLM_F_ACK_TLVS } else { 0 },
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        port,
    };
    out.message(header, |out| {
        out.bytes.extend_from_slice(&errno.saturating_neg().to_ne_bytes());
        out.bytes.extend_from_slice(request);
        message(out, ack);
        if let Some((offset, rule)) = attribute {
            out.put_u32(acknowledgement::OFFSET, u32::try_from(offset).unwrap_or(u32::MAX));
            policy(out, rule);
        }
    });
}

/// Writes the message of an extended acknowledgement, if it has one.
pub(super) fn message(out: &mut Writer, ack: &ExtendedAck) {
    if let Some(text) = ack.message {
        out.put_text(acknowledgement::MESSAGE, text);
    }
}

fn policy(out: &mut Writer, rule: AttributeRule) {
    let range = |nest: &mut Writer, most: u64| {
        nest.put_u64(rule::LEAST, 0);
        nest.put_u64(rule::MOST, most);
    };
    let kind = match rule {
        // The kernel has no description of this rule.
        AttributeRule::AtLeast(_) => return,
        AttributeRule::U8 => rule::U8,
        AttributeRule::U16 => rule::U16,
        AttributeRule::U32 => rule::U32,
        AttributeRule::AtMost(_) => rule::BINARY,
        AttributeRule::Text(_) => rule::TEXT,
        AttributeRule::Nest => rule::NEST,
    };
    out.nest(acknowledgement::POLICY | NESTED, |nest| {
        match rule {
            AttributeRule::U8 => range(nest, u8::MAX.into()),
            AttributeRule::U16 => range(nest, u16::MAX.into()),
            AttributeRule::U32 => range(nest, u32::MAX.into()),
            AttributeRule::Text(most) => nest.put_u32(rule::MOST_BYTES, most),
            AttributeRule::AtLeast(_) | AttributeRule::AtMost(_) | AttributeRule::Nest => {}
        }
        nest.put_u32(rule::TYPE, kind);
    });
}
