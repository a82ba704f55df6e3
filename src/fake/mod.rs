//! An IPVS kernel in the process, for tests that need neither root nor Linux modules.
//!
//! The fake kernel speaks the kernel's bytes behind the crate's own [transport](crate::transport),
//! answer for answer like a real one: it is compared with real kernels by random requests,
//! well-formed and malformed ones. It has a table that several clients share, a clock that moves
//! when told to, and [faults](Fault) to order.
#![doc = include_str!("../../docs/testing.md")]

mod acknowledgement;
mod clock;
mod columns;
mod commands;
mod connection_list;
mod connections;
mod context;
mod counters;
mod daemons;
mod destination;
mod dump;
mod encode;
mod faults;
mod host;
mod kernel;
mod key;
mod link;
mod listing;
mod nlctrl;
mod policy;
mod procfs;
mod request;
mod schedule;
mod service;
mod socket;
mod sysctls;
mod table;
mod tampering;
mod trash;
mod writer;

pub use connections::{NotScheduled, OpenConnection};
pub use faults::{Act, Fault};
pub use host::{Host, Interface};
pub use kernel::Kernel;
pub use link::Link;

pub use crate::release::{Release, Series, UnknownRelease};

use crate::blocking;
use crate::diagnose::Diagnosis;
use crate::error::Error;
use crate::proc::Proc;
use crate::ruleset::Ruleset;

/// The counterparts of the methods by which [`Options`](crate::Options) reach a real kernel.
impl Kernel {
    /// Connects a blocking client. A client with other options is connected by
    /// [`Options::connect_with`](crate::Options::connect_with) over a [`link`](Self::link).
    ///
    /// ```
    /// use ipvs_netlink::{Service, fake::Kernel};
    ///
    /// let kernel = Kernel::new();
    /// let mut ipvs = kernel.connect()?;
    /// ipvs.add_service(&Service::tcp([10, 0, 0, 1], 80))?;
    /// assert_eq!(ipvs.services()?.len(), 1);
    /// # Ok::<(), ipvs_netlink::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where its host has no IPVS.
    pub fn connect(&self) -> Result<blocking::Client, Error> {
        blocking::Client::connect_with(self.link())
    }

    /// Connects an asynchronous client, for any executor.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where its host has no IPVS.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub async fn connect_async(&self) -> Result<crate::Client, Error> {
        crate::Client::connect_with(self.link()).await
    }

    /// The kernel's files below `/proc`: connections, counters and sysctls.
    pub fn proc(&self) -> Proc {
        Proc::of_files(self.clone())
    }

    /// Tells what the host lacks for a ruleset: see
    /// [`Options::diagnose`](crate::Options::diagnose).
    pub fn diagnose(&self, rules: &Ruleset) -> Diagnosis {
        Diagnosis::new(&self.proc(), self.connect(), rules)
    }
}
