//! Reports operations and exchanges to `tracing`, if the feature is on.

use std::fmt::Display;

#[cfg(feature = "tracing")]
use tracing::Instrument as _;

use crate::error::Error;
use crate::protocol::{Answer, Request};

/// Runs a client's operation in a span of its own, which contains the spans of its exchanges.
pub(crate) fn in_operation<F: Future>(
    name: &'static str,
    operation: F,
) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let operation = operation.instrument(tracing::debug_span!("ipvs", operation = name));
    let _ = name;
    operation
}

/// Runs an exchange in a span of its own.
pub(super) fn in_span<F: Future>(
    what: &dyn Display,
    conversation: F,
) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let conversation = conversation.instrument(tracing::debug_span!("exchange", request = %what));
    let _ = what;
    conversation
}

pub(super) fn sent(request: &Request) {
    #[cfg(feature = "tracing")]
    tracing::trace!(message = ?request.message(), "sent: {request}");
    let _ = request;
}

pub(super) fn received(answer: &Answer<'_>) {
    #[cfg(feature = "tracing")]
    tracing::trace!(message = ?answer.message(), "received");
    let _ = answer;
}

pub(super) fn failed(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::debug!("{error}");
    let _ = error;
}
