//! Control IPVS, the load balancer in the Linux kernel, over generic netlink: everything `ipvsadm`
//! can do, in batches, blocking or async, with rules synced from a desired state, and with a fake
//! kernel for your tests.
//!
//! - [`blocking::Client`] waits for the kernel's answers, and [`Client`] does not (features
//!   `tokio`, `smol`). They have the same operations, by the same names.
//! - A client writes [`Service`]s and [`Destination`]s, and reads [`ServiceEntry`]s and
//!   [`DestinationEntry`]s, which also have counters.
//! - A whole table is a [`Ruleset`], which is read from `ipvsadm-save`'s format, JSON or YAML. A
//!   [`Plan`] has the fewest changes that lead to it, a [`Policy`] says what your program may
//!   change, and a [`Syncer`] keeps a table as wanted for as long as a controller lives.
//! - [`Options`] are timeouts, buffers and network namespaces.
//! - [`fake::Kernel`] is an IPVS kernel in the process (feature `fake`), with which tests need
//!   neither root nor Linux.
//! - [`proc`] has the parts of IPVS outside of netlink: connections, counters, sysctls.
//! - [`diagnose`] tells whether a host can do what a ruleset needs, and how to mend it if it
//!   cannot.
//! - [`guide`] leads from iptables to IPVS on a node, step by step.
//! - [`wire`] has the messages and [`transport`] the sockets, for programs that bring their own.
//!
//! # Blocking
//!
//! ```rust,no_run
//! use std::net::Ipv4Addr;
//! use std::time::Duration;
//! use ipvs_netlink::{Destination, Scheduler, Service, blocking::Client};
//!
//! fn main() -> Result<(), ipvs_netlink::Error> {
//!     let mut ipvs = Client::connect()?;
//!     let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
//!         .scheduler(Scheduler::WeightedRoundRobin)
//!         .persistence(Duration::from_secs(300));
//!     ipvs.add_service(&web)?;
//!     ipvs.add_destination(
//!         web.key,
//!         &Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 8080).weight(3),
//!     )?;
//!     for entry in ipvs.destinations(web.key)? {
//!         println!("{}: {} active connections", entry.destination.key, entry.active_connections);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! An [`Error`] says what was asked, what the kernel said and what to do. Its [`kind`](Error::kind)
//! tells a missing service, destination and scheduler apart, and
//! [`is_outcome_unknown`](Error::is_outcome_unknown) tells that a change may have been made.
//!
//! # Async
//!
//! Clones of a client share its socket. It works on tokio and smol, and nothing runs in the
//! background:
//!
//! ```rust,no_run
//! use ipvs_netlink::{Client, Destination, Service};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let ipvs = Client::connect_tokio().await?;
//!     let web = Service::tcp([10, 0, 0, 1], 80);
//!     ipvs.add_service(&web).await?;
//!     let mut tasks = tokio::task::JoinSet::new();
//!     for host in 1..=3 {
//!         let ipvs = ipvs.clone();
//!         tasks.spawn(async move {
//!             let backend = Destination::masquerade([10, 0, 1, host], 8080);
//!             ipvs.add_destination(web.key, &backend).await
//!         });
//!     }
//!     while let Some(added) = tasks.join_next().await {
//!         added??;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Sync from a desired state
//!
//! ```rust,no_run
//! use std::time::Duration;
//! use ipvs_netlink::{Draining, Policy, Ruleset, Scope, blocking::Client};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // In ipvsadm-save's format.
//!     let wanted: Ruleset = std::fs::read_to_string("web.ipvs")?.parse()?;
//!     let policy = Policy::new()
//!         // What is ours; the rest is not touched.
//!         .scope(Scope::none().network("10.0.0.0".parse()?, 24))
//!         .draining(Draining::within(Duration::from_secs(30)));
//!     let mut ipvs = Client::connect()?;
//!     let plan = ipvs.plan(&wanted, &policy)?; // nothing changed yet
//!     println!("{plan}");
//!     let report = ipvs.apply(plan)?; // an error unless all of it was done
//!     println!("{report}");
//!     Ok(())
//! }
//! ```
//!
//! # A controller and its test
//!
//! A [`Syncer`] makes no system call if nothing has changed, and takes time in proportion to a
//! change. The controller takes a client from outside, so that its test gives it one of a fake
//! kernel:
//!
//! ```rust
//! use ipvs_netlink::fake::{Fault, Kernel};
//! use ipvs_netlink::{Policy, Report, Ruleset, Syncer, blocking::Client};
//!
//! struct Controller {
//!     ipvs: Client,
//!     syncer: Syncer,
//! }
//!
//! impl Controller {
//!     fn new(ipvs: Client) -> Self {
//!         Self { ipvs, syncer: Syncer::new(Policy::new()) }
//!     }
//!
//!     /// Runs whenever something else is wanted, and again after `Report::next`.
//!     fn reconcile(&mut self, wanted: Ruleset) -> Report {
//!         self.syncer.want(wanted);
//!         self.ipvs.pass(&mut self.syncer)
//!     }
//! }
//!
//! // #[test]
//! fn a_lost_answer_is_made_good() -> Result<(), Box<dyn std::error::Error>> {
//!     let kernel = Kernel::new();
//!     let mut controller = Controller::new(kernel.connect()?);
//!     let wanted = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m";
//!     let wanted: Ruleset = wanted.parse()?;
//!     kernel.inject(3, Fault::LoseAnswers);
//!     while !controller.reconcile(wanted.clone()).is_success() {}
//!     assert_eq!(kernel.connect()?.ruleset()?, wanted);
//!     Ok(())
//! }
//! # a_lost_answer_is_made_good().unwrap();
//! ```
//!
//! The [fake kernel's page](fake) has more about such tests.
//!
//! # JSON and YAML
//!
//! With the feature `serde`, a [`Ruleset`] and its parts have a readable form, in any format that
//! serde supports:
//!
//! ```rust
//! use ipvs_netlink::Ruleset;
//!
//! let yaml = "
//! services:
//! - service: { protocol: tcp, address: 10.0.0.1, port: 80, scheduler: wrr }
//!   destinations:
//!   - { address: 10.0.1.1, port: 8080, forwarding: masquerade, weight: 3 }
//! ";
//! let wanted: Ruleset = serde_saphyr::from_str(yaml)?;
//! let json = serde_json::to_string(&wanted)?;
//! assert_eq!(serde_json::from_str::<Ruleset>(&json)?, wanted);
//! assert_eq!(
//!     wanted.to_string(),
//!     "-A -t 10.0.0.1:80 -s wrr\n-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 3\n",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Ruleset`]'s page has the whole form.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it brings |
//! |---|---|
//! | `tokio` | [`Client`] on tokio's reactor and timers: [`Client::connect_tokio`] |
//! | `smol` | [`Client`] on smol's, which run on any executor: [`Client::connect_smol`] |
//! | `fake` | [`fake`], an IPVS kernel in the process; for `[dev-dependencies]` |
//! | `serde` | the model and rulesets in JSON, YAML and the like |
//! | `tracing` | a span for every operation and each of its exchanges; at the level trace what is sent and received |
//!
//! # Systems
//!
//! - Clients of real kernels need Linux. All operations, reading included, need `CAP_NET_ADMIN` in
//!   the initial user namespace; that is the kernel's rule.
//! - Tested on x86-64 and Linux 5.10, 6.1, 6.12 and 7.3.
//! - All other parts build on other systems, too, as checked for macOS and Windows: models,
//!   rules, plans, messages, and the fake kernel with both clients. Connecting to a real kernel is
//!   an error on these systems, so that the same program compiles everywhere.
//! - Rust 1.88 or later.
#![forbid(unsafe_code)]
// docs.rs shows the feature that each item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![warn(missing_debug_implementations)]
// Each type leaves room for a new kernel's additions, or says why it is closed.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
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
mod model;
mod namespace;
mod operations;
mod options;
pub mod proc;
mod protocol;
mod reconcile;
#[cfg_attr(not(feature = "fake"), allow(dead_code, unreachable_pub))] // The fake has most of it.
mod release;
mod results;
mod ruleset;
mod session;
mod sync;
pub mod transport;
mod uapi;
pub mod wire;

// The types that a client takes and returns are here; the public modules have the types of one part
// only. Each type has one public path.
#[cfg(any(feature = "tokio", feature = "smol"))]
pub use client::Client;
pub use error::{Error, ErrorKind};
pub use model::*;
pub use options::Options;
pub use protocol::{Operation, Request};
pub use results::Results;
pub use ruleset::{
    Allowed, Change, ConnectionCounts, Difference, Draining, Excess, Left, ParseError, Plan,
    Policy, Reason, Ruleset, Scope, ServiceRules, ServicesIter, Share,
};
pub use session::BatchOptions;
pub use sync::{
    DrainEnd, DrainEntry, DrainingDestination, Drains, EndedDrain, FailedChange, Incomplete,
    MaxAge, Progress, Report, Stage, SyncEvent, SyncTimes, Syncer,
};
pub use uapi::Errno;

/// From iptables to IPVS on a node, step by step.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Results that may not be dropped unread.
#[cfg(all(doctest, any(feature = "tokio", feature = "smol")))]
#[doc = include_str!("../tests/unread.md")]
struct Unread;

/// The first programs of a user who has read the front page.
#[cfg(all(doctest, feature = "fake", feature = "serde", feature = "tokio"))]
#[doc = include_str!("../tests/first_programs.md")]
struct FirstPrograms;
