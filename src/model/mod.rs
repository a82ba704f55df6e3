//! The objects of IPVS: services, destinations, schedulers, statistics. No bytes, no I/O.
//!
//! All types are plain data that copies cheaply. The objects that a program *writes* ([`Service`],
//! [`Destination`]) and those that it *reads* ([`ServiceEntry`], [`DestinationEntry`], with
//! counters and live connections) have different types.
//!
//! The types for a service:
//!
//! | type | what it is | its destinations |
//! |---|---|---|
//! | [`ServiceKey`] | what identifies a service | none |
//! | [`Service`] | its configuration, with the key: what is written | none |
//! | [`ServiceEntry`] | a service as it was read, with counters | none |
//! | [`TableService`] | an entry of a [`Table`] | as they were read |
//! | [`ServiceRules`](crate::ServiceRules) | a service of a [`Ruleset`](crate::Ruleset) | their configuration |
//! | [`ServiceAttributes`](crate::wire::ServiceAttributes) | what a message says of a service | none |
//!
//! A value that a few words can tell has one text form: its `FromStr` reads the text that its
//! `Display` prints, and the readable forms of `serde` and the rules file use the same text.

mod address;
mod daemon;
mod destination;
mod entry;
mod forwarding;
mod info;
mod invalid;
mod key;
mod name;
mod persistence;
mod scheduler;
mod service;
mod stats;
mod timeouts;

#[cfg(feature = "serde")]
pub(crate) use address::parse_bare_address;
pub(crate) use address::{ADDRESS, parse_address};
pub use daemon::{DaemonRole, SyncDaemon};
pub use destination::Destination;
pub use entry::{DestinationEntry, ServiceEntry, Table, TableService};
pub use forwarding::{Forwarding, OtherForwarding, OtherTunnel, Tunnel, TunnelChecksum};
pub use info::{Info, Version};
pub use invalid::Invalid;
pub(crate) use key::MARK;
pub use key::{DestinationKey, Family, Protocol, ServiceKey};
pub use name::{EngineName, InterfaceName, Name, SchedulerName};
pub(crate) use persistence::NETMASK;
pub use persistence::{Netmask, Persistence};
pub use scheduler::{HashOptions, OtherScheduler, Scheduler};
pub(crate) use service::parse_bits;
pub use service::{Service, ServiceFlags};
pub use stats::{Rates, Stats};
pub use timeouts::{Timeouts, TimeoutsUpdate};
