//! The error for a value that no kernel would take.

/// A value that IPVS cannot hold, and why.
///
/// Only a value that *every* kernel refuses, or silently turns into another one, is reported this
/// way. Whether to accept a value that only some kernels refuse is left to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// A text that does not have the expected form.
    pub(crate) fn expected(what: &str, text: &str) -> Self {
        Self(format!("expected {what}, not {text:?}"))
    }
}
