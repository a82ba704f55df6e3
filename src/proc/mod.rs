//! The parts of IPVS outside of netlink: the connection table, counters and sysctls.
//!
//! They are files below `/proc`, and [`Proc`] opens them in a network namespace. All of them but
//! [`Status`] can be read without privileges; setting sysctls needs root.
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
//! table of a million connections for seconds. An async program therefore reads the table on a
//! thread for blocking work, such as one of tokio's `spawn_blocking` or smol's `unblock`. [`Proc`]
//! is cheap to clone, and both [`Proc`] and [`Connections`] can be sent to another thread.

mod changes;
mod connection;
mod connections;
mod error;
mod files;
mod profile;
mod spelling;
mod stats;
mod status;
pub mod sysctl;

use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use crate::model::{Invalid, Stats};
use crate::namespace::Namespace;
use error::Attempt;
use sysctl::{Sysctl, Value};

pub use changes::{SysctlChange, SysctlChanges};
pub use connection::{Connection, ConnectionState, EngineData, Origin, OtherState};
pub use connections::Connections;
pub use error::Error;
pub(crate) use files::Files;
#[cfg(feature = "fake")]
pub(crate) use files::ModuleIndex;
pub use profile::Profile;
pub(crate) use profile::series;
#[cfg(feature = "fake")]
pub(crate) use spelling::number;
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
    /// The files of the network namespace of the thread that reads them.
    /// [`Options::proc`](crate::Options::proc) has the files of another namespace.
    pub fn new() -> Self {
        Self::in_namespace(Namespace::default())
    }

    pub(crate) fn in_namespace(namespace: Namespace) -> Self {
        Self::of_files(files::Host { namespace })
    }

    pub(crate) fn of_files(files: impl Files + 'static) -> Self {
        Self { files: Arc::new(files) }
    }

    /// The connection table (`/proc/net/ip_vs_conn`), with the data of persistence engines.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel has no IPVS.
    pub fn connections(&self) -> Result<Connections, Error> {
        self.table("net/ip_vs_conn")
    }

    /// The connection table with the origin of each entry: this host or a sync daemon
    /// (`/proc/net/ip_vs_conn_sync`).
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel has no IPVS.
    pub fn connections_with_origin(&self) -> Result<Connections, Error> {
        self.table("net/ip_vs_conn_sync")
    }

    /// The counters and rates of all services together (`/proc/net/ip_vs_stats`), removed services
    /// included, since the module was loaded or all services were zeroed.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel has no IPVS; [`Error::line_number`] where the kernel's
    /// text cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        stats::total(&self.read(stats::TOTAL)?)
    }

    /// The same for each CPU (`/proc/net/ip_vs_stats_percpu`).
    ///
    /// # Errors
    /// Those of [`stats`](Self::stats).
    pub fn stats_per_cpu(&self) -> Result<StatsPerCpu, Error> {
        self.read(stats::PER_CPU)?.parse()
    }

    /// The state of the tables (`/proc/net/ip_vs_status`; 7.1 and later).
    ///
    /// # Errors
    /// [`Error::is_not_found`] before Linux 7.1; [`Error::is_permission_denied`] where the kernel
    /// lets only root read it; [`Error::line_number`] where the kernel's text cannot be read.
    pub fn status(&self) -> Result<Status, Error> {
        self.read(status::PATH)?.parse()
    }

    /// The value of a sysctl.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel lacks the sysctl; [`Error::line_number`] where its
    /// text is no value of the type.
    pub fn sysctl<T: Value>(&self, sysctl: &Sysctl<T>) -> Result<T, Error> {
        let text = self.sysctl_named(sysctl.name())?;
        T::parse(&text).ok_or_else(|| {
            let reason = format!("{text:?} is not what is expected: {}", sysctl.setting().range);
            Error::line(Attempt::Get(sysctl.name().into()), 1, reason)
        })
    }

    /// Sets a sysctl.
    ///
    /// # Errors
    /// [`Error::is_invalid`] where the value is out of range; [`Error::is_permission_denied`] for
    /// callers other than root; [`Error::is_not_found`] where the kernel lacks the sysctl.
    #[allow(clippy::needless_pass_by_value)] // Flags and numbers read better so.
    pub fn set_sysctl<T: Value>(&self, sysctl: &Sysctl<T>, value: T) -> Result<(), Error> {
        let text = sysctl.print(&value).map_err(|invalid| {
            Error::invalid(Attempt::Set(sysctl.name().into(), value.print()), invalid)
        })?;
        self.set_sysctl_named(sysctl.name(), &text)
    }

    /// The value of any sysctl, by its name as `sysctl` prints it: `net.ipv4.vs.conntrack`. White
    /// space at its end is left out.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel lacks the sysctl, [`Error::is_invalid`] where the
    /// name is not one of a sysctl.
    pub fn sysctl_named(&self, name: &str) -> Result<String, Error> {
        let attempt = || Attempt::Get(name.to_owned().into());
        let path = path_of(name).map_err(|invalid| Error::invalid(attempt(), invalid))?;
        let text = self.text(&path).map_err(|error| Error::io(attempt(), error))?;
        Ok(text.trim_end().to_owned())
    }

    /// Sets any sysctl, by its name as `sysctl` prints it.
    ///
    /// # Errors
    /// Those of [`sysctl_named`](Self::sysctl_named); [`Error::is_permission_denied`] for callers
    /// other than root, and the kernel's own error where it refuses the value.
    pub fn set_sysctl_named(&self, name: &str, value: &str) -> Result<(), Error> {
        let attempt = || Attempt::Set(name.to_owned().into(), value.to_owned());
        let path = path_of(name).map_err(|invalid| Error::invalid(attempt(), invalid))?;
        // The kernel reads a line; an empty text would cause no write at all.
        let line = format!("{value}\n");
        self.files.write(&path, &line).map_err(|error| Error::io(attempt(), error))
    }

    /// The names and values of all sysctls of IPVS that the kernel has, in the order of the names.
    /// Sysctls that this crate does not know are included.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where the kernel has no IPVS.
    pub fn sysctls(&self) -> Result<Vec<(String, String)>, Error> {
        let folder = path_of(sysctl::PREFIX.trim_end_matches('.'));
        let attempt = || Attempt::Get(format!("{}*", sysctl::PREFIX).into());
        let folder = folder.map_err(|invalid| Error::invalid(attempt(), invalid))?;
        let mut names = self.files.list(&folder).map_err(|error| Error::io(attempt(), error))?;
        names.sort_unstable();
        names
            .into_iter()
            .map(|name| {
                let name = format!("{}{name}", sysctl::PREFIX);
                self.sysctl_named(&name).map(|value| (name, value))
            })
            .collect()
    }

    fn table(&self, path: &'static str) -> Result<Connections, Error> {
        let source = self.files.open(path);
        let source = source.map_err(|error| Error::io(Attempt::Read(path.into()), error))?;
        Ok(Connections::of_file(path, source))
    }

    fn read(&self, path: &'static str) -> Result<String, Error> {
        self.text(path).map_err(|error| Error::io(Attempt::Read(path.into()), error))
    }

    /// The kernel's release; empty if it cannot be read.
    pub(crate) fn release(&self) -> String {
        self.text("sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn files(&self) -> &dyn Files {
        &*self.files
    }

    pub(crate) fn text(&self, path: &str) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        self.files.open(path)?.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The path of a sysctl below `/proc`. A dot in the name of an interface is written as a slash, as
/// `sysctl` does: `net.ipv4.conf.eth0/100.forwarding`.
fn path_of(name: &str) -> Result<String, Invalid> {
    let path: String = name
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    // An interface can have any name that a file can have, except one with white space.
    let is_file = |name: &str| {
        !["", ".", ".."].contains(&name) && !name.contains(|c: char| c.is_whitespace() || c == '\0')
    };
    if path.contains('/') && path.split('/').all(is_file) {
        Ok(format!("sys/{path}"))
    } else {
        Err(Invalid::new("that is no sysctl's name, as net.ipv4.vs.conntrack"))
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
