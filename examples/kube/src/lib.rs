//! From a Kubernetes cluster's objects to what a node needs for its Services: rules of IPVS, the addresses of a dummy
//! interface, a script for nft and the ports of health checks.
//!
//! [`Desired::new`] is the whole of it: a pure function of the Services, the `EndpointSlice`s, the own Node and the
//! [`Options`]. Data flows from [`Cluster`], what was read, through what a Service asks for (`services`) and which of its
//! endpoints are used (`endpoints`), to [`Desired`].

mod addresses;
mod cluster;
mod desired;
mod endpoints;
mod health;
mod network;
mod nft;
pub mod node;
mod notes;
mod options;
mod services;
pub mod watch;

pub use cluster::{Cluster, NotKnown, Objects};
pub use desired::Desired;
pub use health::HealthCheck;
pub use network::Network;
pub use nft::{Script, Sets, TABLE, Target};
pub use notes::Note;
pub use options::{Options, parse_seconds};
pub use services::SCHEDULER;
