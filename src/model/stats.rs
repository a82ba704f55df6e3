//! Counters and rates of a service or a destination.

/// What a service or a destination has carried.
///
/// Counters move on the kernel's estimation tick, every 2 s (6.2 and later), and start anew with
/// `zero`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub incoming_packets: u64,
    /// Packets from destinations; zero where replies do not come through this host.
    pub outgoing_packets: u64,
    /// Bytes from clients.
    pub incoming_bytes: u64,
    /// Bytes from destinations.
    pub outgoing_bytes: u64,
    /// The same by the second, as the kernel estimates it.
    pub rates: Rates,
}

/// The kernel's running estimates, each per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Rates {
    /// Connections scheduled per second.
    pub connections: u64,
    /// Packets from clients per second.
    pub incoming_packets: u64,
    /// Packets from destinations per second.
    pub outgoing_packets: u64,
    /// Bytes from clients per second.
    pub incoming_bytes: u64,
    /// Bytes from destinations per second.
    pub outgoing_bytes: u64,
}
