//! Acknowledgements and errors, with what the kernel adds to them.

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ERROR};

use super::policy::{Report, Rule};
use super::writer::{Header, Writer};

/// Numbers of `linux/netlink.h`: what an extended acknowledgement has, and how it describes the
/// rule of an attribute.
mod attribute {
    pub(super) const MESSAGE: u16 = 1;
    pub(super) const OFFSET: u16 = 2;
    pub(super) const POLICY: u16 = 4 | NESTED;
    const NESTED: u16 = 0x8000;

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

/// Writes the answer that ends a request: errno 0 is success. Of the request, its header is
/// echoed, as sockets that set `NETLINK_CAP_ACK` have it.
pub(super) fn write(out: &mut Writer, port: u32, request: &[u8; 16], errno: i32, report: &Report) {
    let &[.., s0, s1, s2, s3, _, _, _, _] = request;
    let attribute = report.attribute.filter(|_| errno != 0);
    let extended = report.message.is_some() || attribute.is_some();
    let header = Header {
        message_type: NLMSG_ERROR,
        flags: NLM_F_CAPPED | if extended { NLM_F_ACK_TLVS } else { 0 },
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        port,
    };
    out.message(header, |out| {
        out.bytes.extend_from_slice(&errno.saturating_neg().to_ne_bytes());
        out.bytes.extend_from_slice(request);
        message(out, report);
        if let Some((offset, rule)) = attribute {
            out.put_u32(attribute::OFFSET, u32::try_from(offset).unwrap_or(u32::MAX));
            policy(out, rule);
        }
    });
}

/// Writes the report's words, if it has some.
pub(super) fn message(out: &mut Writer, report: &Report) {
    if let Some(text) = report.message {
        out.put_text(attribute::MESSAGE, text);
    }
}

fn policy(out: &mut Writer, rule: Rule) {
    let range = |nest: &mut Writer, most: u64| {
        nest.put_u64(attribute::LEAST, 0);
        nest.put_u64(attribute::MOST, most);
    };
    let kind = match rule {
        // The kernel has no words for it.
        Rule::Any(_) => return,
        Rule::U8 => attribute::U8,
        Rule::U16 => attribute::U16,
        Rule::U32 => attribute::U32,
        Rule::Bytes(_) => attribute::BINARY,
        Rule::Text(_) => attribute::TEXT,
        Rule::Nest => attribute::NEST,
    };
    out.nest(attribute::POLICY, |nest| {
        match rule {
            Rule::U8 => range(nest, u8::MAX.into()),
            Rule::U16 => range(nest, u16::MAX.into()),
            Rule::U32 => range(nest, u32::MAX.into()),
            Rule::Text(most) => nest.put_u32(attribute::MOST_BYTES, most),
            Rule::Any(_) | Rule::Bytes(_) | Rule::Nest => {}
        }
        nest.put_u32(attribute::TYPE, kind);
    });
}
