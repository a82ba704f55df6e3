//! What a case is run against: a kernel and a client to it.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ipvs_netlink::{Options, TimeoutsUpdate};

use crate::client::{Client, Flavour};

/// A real kernel whose table the tests may take over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RealKernel {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl RealKernel {
    /// The kernel named in the environment, if one is.
    pub(crate) fn from_environment() -> Option<Self> {
        let name = std::env::var("IPVS_NETLINK_TEST_KERNEL").ok()?;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs");
        let mut parts = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let kernel = Self { major: parts.next().unwrap_or(0), minor: parts.next().unwrap_or(0) };
        // A run on another kernel than was meant would prove nothing.
        assert!(
            kernel.to_string() == name || !name.starts_with(|c: char| c.is_ascii_digit()),
            "the tests were to run on Linux {name}, this is {release}"
        );
        Some(kernel)
    }

    pub(crate) fn is_at_least(self, major: u32, minor: u32) -> bool {
        self >= Self { major, minor }
    }
}

impl fmt::Display for RealKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A kernel and a client to it.
pub(crate) struct Subject {
    pub(crate) client: Client,
    pub(crate) kernel: RealKernel,
    pub(crate) flavour: Flavour,
    /// How many combinations of the matrix the case has gone through.
    pub(crate) combinations: usize,
}

impl Subject {
    pub(crate) async fn real(kernel: RealKernel, flavour: Flavour) -> anyhow::Result<Self> {
        let client = Client::connect(flavour, &Options::new()).await?;
        Ok(Self { client, kernel, flavour, combinations: 0 })
    }

    /// Puts the kernel into the state that every case starts from.
    pub(crate) async fn reset(&mut self) -> anyhow::Result<()> {
        for daemon in self.client.daemons().await? {
            self.client.stop_daemon(daemon.role).await?;
        }
        self.client.flush().await?;
        let defaults = TimeoutsUpdate::default()
            .tcp(Duration::from_secs(900))
            .tcp_fin(Duration::from_secs(120))
            .udp(Duration::from_secs(300));
        self.client.set_timeouts(defaults).await?;
        Ok(())
    }
}

/// Runs a program of the guest and gives what it printed.
pub(crate) fn program(name: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(name)
        .args(arguments)
        .output()
        .with_context(|| format!("{name} could not be started"))?;
    ensure!(
        output.status.success(),
        "{name} {arguments:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
