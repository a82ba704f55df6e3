//! Control IPVS, the load balancer in the Linux kernel, over generic netlink.
//!
//! Start with [`blocking::Client`]. What it writes and reads is in [`model`], re-exported here:
//! [`Service`], [`Destination`], [`Scheduler`] and the rest. A whole table is a [`Ruleset`].
//!
//! ```no_run
//! use std::net::Ipv4Addr;
//! use ipvs_netlink::{Destination, Scheduler, Service, blocking::Client};
//!
//! let mut ipvs = Client::connect()?;
//! let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin);
//! ipvs.add_service(&web)?;
//! ipvs.add_destination(web.key, &Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 8080))?;
//! println!("{}", ipvs.ruleset()?);
//! # Ok::<(), ipvs_netlink::Error>(())
//! ```
//!
//! What IPVS tells and takes besides netlink, connections and sysctls, is in [`proc`];
//! whether a host can do what a ruleset needs, and what to do where not, in [`diagnose`].
//!
//! The layers below the client are public for those who need them: [`wire`] for the messages,
//! [`transport`] for sockets of one's own.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// Tests may fail by a panic.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod blocking;
#[cfg(any(feature = "tokio", feature = "smol"))]
mod client;
pub mod diagnose;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
#[cfg(feature = "serde")]
mod forms;
pub mod model;
mod namespace;
mod operations;
mod options;
pub mod proc;
pub mod protocol;
mod reconcile;
mod results;
pub mod ruleset;
mod session;
pub mod sync;
pub mod transport;
pub mod wire;

#[cfg(any(feature = "tokio", feature = "smol"))]
pub use client::Client;
pub use error::Error;
pub use model::*;
pub use options::Options;
pub use protocol::{Batch, Operation, Request};
pub use results::Results;
pub use ruleset::{Allowed, Change, Draining, Plan, Policy, Ruleset, Scope};
pub use sync::{Incomplete, MaxAge, Syncer};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What may not be dropped unread.
#[cfg(all(doctest, any(feature = "tokio", feature = "smol")))]
#[doc = include_str!("../tests/unread.md")]
struct Unread;
