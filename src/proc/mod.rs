//! What IPVS tells and takes besides netlink: the connection table, counters and sysctls.
//!
//! They are files below `/proc`, and [`Proc`] opens them in a network namespace. All of them can be
//! read without privileges but [`Status`]; setting sysctls needs root.
//!
//! ```no_run
//! use ipvs_netlink::ServiceKey;
//! use ipvs_netlink::proc::Proc;
//!
//! let proc = Proc::new();
//! let web = ServiceKey::tcp([10, 0, 0, 1], 80);
//! for entry in proc.connections()?.of_service(web) {
//!     match entry {
//!         Ok(entry) => println!("{} -> {}: {}", entry.client, entry.destination, entry.state),
//!         Err(error) => eprintln!("{error}"),
//!     }
//! }
//! # Ok::<(), ipvs_netlink::proc::Error>(())
//! ```
//!
//! # In async programs
//!
//! procfs has no asynchronous reads: each call waits for the kernel, a sysctl for microseconds, the
//! table of a million connections for seconds. So an async program hands what reads the table to a
//! thread for blocking work, such as tokio's `spawn_blocking` or smol's `unblock`. [`Proc`] is cheap
//! to clone, and it and [`Connections`] can be sent to another thread.

mod connection;
mod connections;
mod error;
mod files;
mod stats;
mod status;

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use crate::model::Stats;
use crate::namespace::Namespace;
use error::Attempt;

pub use connection::{Connection, ConnectionState, EngineData, Origin, OtherState};
pub use connections::Connections;
pub use error::Error;
pub(crate) use files::Files;
pub use stats::{CpuStats, StatsPerCpu};
pub use status::{Status, TableStatus};

/// The files of IPVS below `/proc`.
///
/// Clones read the same files.
#[derive(Clone)]
pub struct Proc {
    files: Arc<dyn Files>,
}

impl Proc {
    /// The files of the network namespace of whichever thread reads them.
    /// [`Options::proc`](crate::Options::proc) has those of another.
    pub fn new() -> Self {
        Self::in_namespace(Namespace::default())
    }

    pub(crate) fn in_namespace(namespace: Namespace) -> Self {
        Self::of_files(files::Host { namespace })
    }

    pub(crate) fn of_files(files: impl Files + 'static) -> Self {
        Self { files: Arc::new(files) }
    }

    /// The connection table (`/proc/net/ip_vs_conn`), with what persistence engines go by.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel has no IPVS.
    pub fn connections(&self) -> Result<Connections, Error> {
        self.table("net/ip_vs_conn")
    }

    /// The connection table with the origin of each entry, this host or a sync daemon
    /// (`/proc/net/ip_vs_conn_sync`).
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel has no IPVS.
    pub fn connections_with_origin(&self) -> Result<Connections, Error> {
        self.table("net/ip_vs_conn_sync")
    }

    /// The counters and rates of all services together (`/proc/net/ip_vs_stats`), those of removed
    /// services included, since the module was loaded or all services were zeroed.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel has no IPVS; [`Error::line_number`] where the kernel's
    /// text cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.parse("net/ip_vs_stats", stats::total)
    }

    /// The same by CPU (`/proc/net/ip_vs_stats_percpu`).
    ///
    /// # Errors
    /// Those of [`stats`](Self::stats).
    pub fn stats_per_cpu(&self) -> Result<StatsPerCpu, Error> {
        self.parse("net/ip_vs_stats_percpu", stats::per_cpu)
    }

    /// The state of the tables (`/proc/net/ip_vs_status`; 7.1 and later).
    ///
    /// # Errors
    /// [`Error::is_not_found`] before Linux 7.1; [`Error::is_permission_denied`] for others than root
    /// where the kernel asks that; [`Error::line_number`] where the kernel's text cannot be read.
    pub fn status(&self) -> Result<Status, Error> {
        self.parse("net/ip_vs_status", status::read)
    }

    fn table(&self, path: &'static str) -> Result<Connections, Error> {
        let source = self.files.open(path);
        let source = source.map_err(|error| Error::io(Attempt::Read(path.into()), error))?;
        Ok(Connections::of_file(path, source))
    }

    fn parse<T>(
        &self,
        path: &'static str,
        parse: fn(&str) -> Result<T, (u64, String)>,
    ) -> Result<T, Error> {
        let attempt = || Attempt::Read(Cow::Borrowed(path));
        let text = self.text(path).map_err(|error| Error::io(attempt(), error))?;
        parse(&text).map_err(|(line, reason)| Error::line(attempt(), line, reason))
    }

    fn text(&self, path: &str) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        self.files.open(path)?.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Default for Proc {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proc").finish_non_exhaustive()
    }
}
