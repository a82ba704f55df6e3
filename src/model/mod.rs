//! What IPVS is: services, destinations, schedulers, statistics. No bytes, no I/O.
//!
//! Everything here is plain data that copies cheaply. What is *written* ([`Service`],
//! [`Destination`]) and what is *read* ([`ServiceEntry`], [`DestinationEntry`], with counters and
//! live connections) are different types.

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

pub use daemon::{DaemonRole, SyncDaemon};
pub use destination::Destination;
pub use entry::{DestinationEntry, ServiceEntry, Table, TableService};
pub use forwarding::{Forwarding, OtherForwarding, OtherTunnel, Tunnel, TunnelChecksum};
pub use info::{Info, Version};
pub use invalid::Invalid;
pub use key::{DestinationKey, Family, Protocol, ServiceKey};
pub use name::{EngineName, InterfaceName, Name, SchedulerName};
pub use persistence::{Netmask, Persistence};
pub use scheduler::{HashOptions, OtherScheduler, Scheduler};
pub use service::{Service, ServiceFlags};
pub use stats::{Rates, Stats};
pub use timeouts::{Timeouts, TimeoutsUpdate};
