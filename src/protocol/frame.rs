//! Netlink messages in a datagram.

use byteorder::{ByteOrder, NativeEndian};
use netlink_packet_core::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR,
};

use crate::uapi::Errno;
use crate::uapi::netlink::{HEADER_LENGTH, acknowledgement};
use crate::wire::{DecodeError, for_each_attribute};

/// One netlink message of a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) sequence: u32,
    pub(super) message_type: u16,
    flags: u16,
    payload: &'a [u8],
}

/// The content of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// `NLMSG_ERROR`, an acknowledgement or an error: the end of a dump that failed, or of an
    /// exchange without a dump.
    Status { errno: Option<Errno>, message: Option<String> },
    /// `NLMSG_DONE`: the end of a dump. A dump that failed has an error number here.
    Done { errno: Option<Errno> },
    /// A message of any family.
    Payload(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// Whether the kernel says that the table changed during the dump.
    pub(super) fn is_interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    #[inline]
    pub(super) fn content(&self) -> Result<Content<'a>, DecodeError> {
        let errno = || match NativeEndian::read_i32(self.payload.first_chunk::<4>()?) {
            0 => None,
            number => Some(Errno::from_number(number.saturating_neg())),
        };
        match self.message_type {
            NLMSG_ERROR if self.payload.len() < 4 => {
                Err(DecodeError::Framing("an error message has no error number".to_owned()))
            }
            NLMSG_ERROR => {
                let has_text = self.flags & NLM_F_ACK_TLVS != 0;
                let message = if has_text { self.error_text() } else { None };
                Ok(Content::Status { errno: errno(), message })
            }
            NLMSG_DONE => Ok(Content::Done { errno: errno() }),
            _ => Ok(Content::Payload(self.payload)),
        }
    }

    /// The kernel's text about an error. The text follows the header of the request or, if the
    /// kernel sent the request back in full, the whole request.
    fn error_text(&self) -> Option<String> {
        let request = self.payload.get(4..)?;
        let echoed = if self.flags & NLM_F_CAPPED != 0 {
            HEADER_LENGTH
        } else {
            let length = NativeEndian::read_u32(request.first_chunk::<4>()?);
            usize::try_from(length).ok()?.checked_next_multiple_of(NLMSG_ALIGN)?
        };
        let mut text = None;
        let _: Result<(), ()> = for_each_attribute(request.get(echoed..)?, |kind, value| {
            if kind == acknowledgement::MESSAGE {
                let bytes = value.split(|&byte| byte == 0).next().unwrap_or_default();
                text = Some(String::from_utf8_lossy(bytes).into_owned());
            }
            Ok(())
        });
        text
    }
}

const NLMSG_ALIGN: usize = NLMSG_ALIGNTO as usize;

/// The messages of a datagram; ends after the first that is broken.
pub(super) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(super) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    /// How many bytes of the datagram are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.rest);
        let header = bytes.first_chunk::<HEADER_LENGTH>();
        let length = header.map_or(0, |header| NativeEndian::read_u32(&header[..4]) as usize);
        let (Some(header), Some(payload)) = (header, bytes.get(HEADER_LENGTH..length)) else {
            let text = format!("a message of {length} bytes, where {} were received", bytes.len());
            return Some(Err(DecodeError::Framing(text)));
        };
        self.rest = bytes.get(length.next_multiple_of(NLMSG_ALIGN)..).unwrap_or_default();
        Some(Ok(Frame {
            message_type: NativeEndian::read_u16(&header[4..6]),
            flags: NativeEndian::read_u16(&header[6..8]),
            sequence: NativeEndian::read_u32(&header[8..12]),
            payload,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(message_type: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = u32::try_from(HEADER_LENGTH + payload.len()).unwrap();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(message_type.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn several_messages_share_a_datagram() {
        let mut datagram = message(0x20, 2, &[1, 2, 3]);
        datagram.extend(message(NLMSG_DONE, 2, &(-16i32).to_ne_bytes()));
        let frames: Vec<_> = Frames::new(&datagram).map(Result::unwrap).collect();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].content(), Ok(Content::Payload(&[1, 2, 3])));
        assert_eq!(frames[1].content(), Ok(Content::Done { errno: Some(Errno::BUSY) }));
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        for length in [0u32, 15, 17, u32::MAX] {
            let mut datagram = message(0x20, 0, &[]);
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            let frames: Vec<_> = Frames::new(&datagram).collect();
            assert!(matches!(frames[..], [Err(_)]), "{length}");
        }
        assert!(Frames::new(&[1, 2, 3]).next().unwrap().is_err());
    }

    #[test]
    fn the_kernels_words_follow_the_request() {
        let header = [11u16.to_ne_bytes(), acknowledgement::MESSAGE.to_ne_bytes()].concat();
        let words = [&header[..], b"policy\0\0"].concat();
        let request = message(0x20, 5, &[9; 8]);
        for (flags, echoed) in [(NLM_F_CAPPED, &request[..16]), (0, &request[..])] {
            let payload = [&(-34i32).to_ne_bytes(), echoed, &words].concat();
            let datagram = message(NLMSG_ERROR, flags | NLM_F_ACK_TLVS, &payload);
            let frame = Frames::new(&datagram).next().unwrap().unwrap();
            let text = Some("policy".to_owned());
            assert_eq!(
                frame.content(),
                Ok(Content::Status { errno: Some(Errno::RANGE), message: text })
            );
        }
    }
}
