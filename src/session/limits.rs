//! The limits of a session: how long it waits, how much it sends at once.

use std::time::Duration;

/// The limits of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For how long the kernel may be silent.
    pub(crate) timeout: Duration,
    /// The most operations in one send; `None` leaves the number to the client.
    pub(crate) window: Option<usize>,
    /// Whether other tasks of the executor get a turn between two sends.
    pub(crate) yields: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), window: None, yields: false }
    }
}
