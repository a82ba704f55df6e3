//! The context in which a command is carried out.

use std::time::Instant;

use super::host::Host;
use super::policy::ExtendedAck;
use super::table::KernelTable;
use super::writer::{Header, Writer};

/// The table and the host that a command works on, and the places for its answer.
pub(super) struct Context<'a> {
    pub(super) host: &'a Host,
    pub(super) table: &'a mut KernelTable,
    pub(super) now: Instant,
    /// The extended acknowledgement of an error or a success.
    pub(super) ack: &'a mut ExtendedAck,
    /// The header of the answer.
    pub(super) header: Header,
    /// The answer, which precedes the acknowledgement.
    pub(super) out: &'a mut Writer,
}
