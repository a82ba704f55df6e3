//! What `tracing` is told, where the feature is on; nothing otherwise.

#[cfg(feature = "tracing")]
pub(super) use on::{failed, in_span, received, sent};

#[cfg(not(feature = "tracing"))]
pub(super) use off::{failed, in_span, received, sent};

#[cfg(feature = "tracing")]
mod on {
    use tracing::Instrument as _;

    use crate::error::Error;
    use crate::protocol::Request;
    use crate::wire::{Command, Message};

    /// Runs a conversation in a span of its own.
    pub(in crate::session) fn in_span<F: Future>(
        what: &dyn std::fmt::Display,
        conversation: F,
    ) -> impl Future<Output = F::Output> {
        conversation.instrument(tracing::debug_span!("ipvs", request = %what))
    }

    pub(in crate::session) fn sent(request: &Request) {
        tracing::trace!(message = ?request.payload().map(Message::from), "sent: {request}");
    }

    pub(in crate::session) fn received(command: Command, attributes: &[u8]) {
        tracing::trace!(message = ?Message::decode(command, attributes), "received");
    }

    pub(in crate::session) fn failed(error: &Error) {
        tracing::debug!("{error}");
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use crate::error::Error;
    use crate::protocol::Request;
    use crate::wire::Command;

    pub(in crate::session) fn in_span<F: Future>(_: &dyn std::fmt::Display, conversation: F) -> F {
        conversation
    }

    pub(in crate::session) fn sent(_: &Request) {}

    pub(in crate::session) fn received(_: Command, _: &[u8]) {}

    pub(in crate::session) fn failed(_: &Error) {}
}
