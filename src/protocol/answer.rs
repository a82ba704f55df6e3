//! Answers: the kernel's messages to each [`Request`](super::Request).

use crate::model::{Family, Info, ServiceEntry, SyncDaemon, Timeouts};
use crate::uapi::netlink::nlctrl;
use crate::wire::{
    DaemonAttributes, DecodeError, DestinationAttributes, FromAttributes, Message,
    ServiceAttributes, for_each_attribute,
};

/// An answer to a request: a message of the family.
pub(crate) struct Answer<'a> {
    pub(super) command: u8,
    pub(super) attributes: &'a [u8],
    /// An upper bound on the number of further answers of this length in the datagram.
    pub(crate) more: usize,
}

impl Answer<'_> {
    /// The answer with all of its attributes.
    pub(crate) fn message(&self) -> Result<Message, DecodeError> {
        Message::decode(self.command.try_into()?, self.attributes)
    }
}

/// To [`Request::Family`](super::Request::Family): the family's number.
pub(crate) fn family(answer: &Answer<'_>) -> Result<u16, DecodeError> {
    let mut family = None;
    for_each_attribute(answer.attributes, |kind, value| {
        if let (nlctrl::FAMILY_ID, Some(&bytes)) = (kind, value.first_chunk()) {
            family = Some(u16::from_ne_bytes(bytes));
        }
        Ok(())
    })?;
    family.ok_or(DecodeError::Missing("FAMILY_ID"))
}

/// To [`Request::Info`](super::Request::Info).
pub(crate) fn info(answer: &Answer<'_>) -> Result<Info, DecodeError> {
    Info::try_from(&answer.message()?)
}

/// To [`Request::Service`](super::Request::Service) and
/// [`Request::Services`](super::Request::Services).
pub(crate) fn service(answer: &Answer<'_>) -> Result<ServiceEntry, DecodeError> {
    ServiceEntry::try_from(&ServiceAttributes::from_answer(answer.attributes)?)
}

/// To [`Request::Destinations`](super::Request::Destinations) of a service of this family.
pub(crate) fn destination<T: FromAttributes>(
    answer: &Answer<'_>,
    family: Family,
) -> Result<T, DecodeError> {
    DestinationAttributes::from_answer(answer.attributes, family)
}

/// To [`Request::Timeouts`](super::Request::Timeouts).
pub(crate) fn timeouts(answer: &Answer<'_>) -> Result<Timeouts, DecodeError> {
    Timeouts::try_from(&answer.message()?)
}

/// To [`Request::Daemons`](super::Request::Daemons).
pub(crate) fn daemon(answer: &Answer<'_>) -> Result<SyncDaemon, DecodeError> {
    SyncDaemon::try_from(&DaemonAttributes::from_answer(answer.attributes)?)
}
