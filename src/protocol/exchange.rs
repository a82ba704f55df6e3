//! One exchange: finds its answers and its end in datagrams.

use netlink_packet_core::{NLMSG_NOOP, NLMSG_OVERRUN};

use super::frame::{Content, Frames};
use super::{Answer, AnswerError};
use crate::uapi::netlink::{GENERIC_HEADER_LENGTH, HEADER_LENGTH};
use crate::wire::DecodeError;

/// A question whose answers are awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(super) sequence: u32,
    pub(super) message_type: u16,
    pub(super) dump: bool,
}

/// The meaning of a datagram for an exchange or a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The datagram had nothing to do with it.
    Nothing,
    /// More datagrams follow.
    More,
    /// The exchange or the window has ended.
    End,
}

impl Exchange {
    /// Takes a datagram: calls `each` with every answer to this exchange, and skips answers to
    /// others.
    ///
    /// # Errors
    /// The kernel answered with an error, the datagram cannot be read, or `each` failed.
    pub(crate) fn hear(
        &self,
        datagram: &[u8],
        mut each: impl FnMut(Answer<'_>) -> Result<(), DecodeError>,
    ) -> Result<Heard, AnswerError> {
        let mut heard = Heard::Nothing;
        let mut frames = Frames::new(datagram);
        while let Some(frame) = frames.next() {
            let frame = frame?;
            if frame.sequence != self.sequence {
                continue;
            }
            heard = Heard::More;
            if frame.is_interrupted() {
                return Err(AnswerError::Interrupted);
            }
            match frame.content()? {
                Content::Status { errno: None, .. } if self.dump => {}
                Content::Status { errno: None, .. } | Content::Done { errno: None } => {
                    return Ok(Heard::End);
                }
                Content::Status { errno: Some(errno), message } => {
                    return Err(AnswerError::Kernel { errno, message });
                }
                Content::Done { errno: Some(errno) } => {
                    return Err(AnswerError::Kernel { errno, message: None });
                }
                Content::Payload(payload) if frame.message_type == self.message_type => {
                    let (&[command, ..], attributes) =
                        payload.split_first_chunk::<GENERIC_HEADER_LENGTH>().ok_or_else(|| {
                            DecodeError::Framing("a message has no header".to_owned())
                        })?;
                    let more = frames.left() / (HEADER_LENGTH + payload.len());
                    each(Answer { command, attributes, more })?;
                }
                Content::Payload(_) => match frame.message_type {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(AnswerError::Lost),
                    other => {
                        let text = format!("a message of the unknown type {other}");
                        return Err(DecodeError::Framing(text).into());
                    }
                },
            }
        }
        Ok(heard)
    }

    pub(crate) fn is_dump(&self) -> bool {
        self.dump
    }
}
