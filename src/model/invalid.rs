//! The error for a value that no kernel would take.

/// A value that IPVS cannot hold, and why.
///
/// Only what *every* kernel refuses, or silently turns into something else, is reported this way;
/// what some kernels accept is left to the kernel to judge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// A text that is not the expected one.
    pub(crate) fn expected(what: &str, text: &str) -> Self {
        Self(format!("expected {what}, not {text:?}"))
    }
}
