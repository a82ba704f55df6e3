//! Writing the kernel's messages, in the kernel's order and padding.

use crate::uapi::ipvs::FAMILY_VERSION;

/// Messages one after another, as a datagram has them.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

/// The header of every answer to a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) message_type: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
}

impl Writer {
    /// Writes a message; its length is set when `body` is done.
    pub(super) fn message(&mut self, header: Header, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&header.message_type.to_ne_bytes());
        self.bytes.extend_from_slice(&header.flags.to_ne_bytes());
        self.bytes.extend_from_slice(&header.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&header.port.to_ne_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Writes a message of a generic-netlink family.
    pub(super) fn generic(&mut self, header: Header, command: u8, body: impl FnOnce(&mut Self)) {
        self.generic_version(header, command, FAMILY_VERSION, body);
    }

    pub(super) fn generic_version(
        &mut self,
        header: Header,
        command: u8,
        version: u8,
        body: impl FnOnce(&mut Self),
    ) {
        self.message(header, |message| {
            message.bytes.extend_from_slice(&[command, version, 0, 0]);
            body(message);
        });
    }

    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        // No value of the kernel comes near this limit.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.bytes.extend_from_slice(&[0; 4][..padding]);
    }

    pub(super) fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub(super) fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(super) fn put_u16_network(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(super) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(super) fn put_u64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A string with its NUL.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        let mut value = [0; 64];
        let length = text.len().min(value.len() - 1);
        value[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.put(kind, &value[..=length]);
    }

    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.put(kind, &[]);
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}
