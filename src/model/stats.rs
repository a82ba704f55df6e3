//! Counters and rates of a service or a destination.

/// The traffic that a service or a destination has carried.
///
/// Counters advance with the kernel's estimation tick, every 2 s (6.2 and later), and start anew
/// with `zero`.
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
    /// The same per second, as the kernel estimates it.
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

/// Makes methods that set a field each.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(self, $name: $type) -> Self {
            Self { $name, ..self }
        }
    )*};
}

/// Counters that a program sets itself, as tests need them.
impl Stats {
    setters! {
        /// Connections scheduled.
        connections: u64;
        /// Packets from clients.
        incoming_packets: u64;
        /// Packets from destinations.
        outgoing_packets: u64;
        /// Bytes from clients.
        incoming_bytes: u64;
        /// Bytes from destinations.
        outgoing_bytes: u64;
        /// The same per second.
        rates: Rates;
    }
}

/// Rates that a program sets itself, as tests need them.
impl Rates {
    setters! {
        /// Connections scheduled per second.
        connections: u64;
        /// Packets from clients per second.
        incoming_packets: u64;
        /// Packets from destinations per second.
        outgoing_packets: u64;
        /// Bytes from clients per second.
        incoming_bytes: u64;
        /// Bytes from destinations per second.
        outgoing_bytes: u64;
    }
}
