//! The subject of a case: a kernel and a client of it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ipvs_netlink::fake::{self, Release};
use ipvs_netlink::proc::Proc;
use ipvs_netlink::transport::{NetlinkSocket, Transport};
use ipvs_netlink::{Error, Options, Scheduler, TimeoutsUpdate};

use crate::client::{Client, Flavour};

/// The release of the real kernel whose table the tests may take over, if one is named in the
/// environment.
pub(crate) fn release_from_environment() -> Option<Release> {
    let name = std::env::var("IPVS_NETLINK_TEST_KERNEL").ok()?;
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs");
    let release: Release = text.parse().expect("a release");
    // A run on a kernel other than the named one would prove nothing.
    assert!(
        series(&release) == name || !name.starts_with(|c: char| c.is_ascii_digit()),
        "the tests were to run on Linux {name}, this is {release}"
    );
    Some(release)
}

/// The series of a release, such as 6.12.
pub(crate) fn series(release: &Release) -> String {
    let (major, minor) = release.series();
    format!("{major}.{minor}")
}

/// A kernel and a client of it.
pub(crate) struct Subject {
    pub(crate) client: Client,
    /// The kernel's release, which tells how it differs from others.
    pub(crate) release: Release,
    /// The kernel itself, if it is the fake one.
    pub(crate) fake: Option<fake::Kernel>,
    pub(crate) flavour: Flavour,
    /// How many combinations of the matrix the case has gone through.
    pub(crate) combinations: usize,
}

impl Subject {
    pub(crate) async fn real(release: Release, flavour: Flavour) -> anyhow::Result<Self> {
        let client = Client::connect(flavour, &Options::new()).await?;
        Ok(Self { client, release, fake: None, flavour, combinations: 0 })
    }

    pub(crate) async fn fake(version: fake::Series, flavour: Flavour) -> anyhow::Result<Self> {
        let fake = fake::Kernel::of_series(version);
        let client = Client::connect_to(&fake, flavour).await?;
        let release = version.release();
        Ok(Self { client, release, fake: Some(fake), flavour, combinations: 0 })
    }

    /// The schedulers that the kernel has and ipvsadm can name.
    pub(crate) fn schedulers(&self) -> Vec<Scheduler> {
        let mut schedulers = Scheduler::KNOWN.to_vec();
        schedulers.retain(|s| *s != Scheduler::TwoChoices || self.release.has_twos());
        schedulers
    }

    /// A connection to the kernel below any client.
    pub(crate) fn transport(&self) -> std::io::Result<Box<dyn Transport>> {
        Ok(match &self.fake {
            None => Box::new(NetlinkSocket::open()?),
            Some(fake) => Box::new(fake.link()),
        })
    }

    /// The kernel's files below `/proc`.
    pub(crate) fn proc(&self) -> Proc {
        self.fake.as_ref().map_or_else(Proc::new, fake::Kernel::proc)
    }

    /// Adds an interface to the kernel's host, either up and with addresses of both families, or
    /// down and without addresses.
    pub(crate) fn add_interface(&self, name: &str, up: bool) -> anyhow::Result<()> {
        self.add_small_interface(name, up, 1500)
    }

    /// Adds an interface for packets of `mtu` bytes; below 1280 it has no IPv6.
    pub(crate) fn add_small_interface(&self, name: &str, up: bool, mtu: u32) -> anyhow::Result<()> {
        let has_ipv6_address = up && mtu >= 1280;
        if let Some(fake) = &self.fake {
            let mut interface = fake::Interface::new(name);
            (interface.up, interface.has_address, interface.mtu) = (up, has_ipv6_address, mtu);
            fake.configure(|host| host.interfaces.push(interface));
            return Ok(());
        }
        program("ip", &["link", "add", name, "type", "dummy"])?;
        program("ip", &["link", "set", name, "mtu", &mtu.to_string()])?;
        program("ip", &["address", "add", "10.9.8.1/24", "dev", name])?;
        if up {
            program("ip", &["link", "set", name, "up"])?;
        }
        if has_ipv6_address {
            program("ip", &["address", "add", "2001:db8:9::1/64", "dev", name, "nodad"])?;
        }
        Ok(())
    }

    pub(crate) fn remove_interface(&self, name: &str) -> anyhow::Result<()> {
        if let Some(fake) = &self.fake {
            fake.configure(|host| host.interfaces.retain(|interface| interface.name != name));
            return Ok(());
        }
        program("ip", &["link", "delete", name]).map(drop)
    }

    /// Gives the kernel's host an address in 10.7.7.0/24, whose broadcast address is 10.7.7.255.
    pub(crate) fn add_network(&self) -> anyhow::Result<()> {
        if let Some(fake) = &self.fake {
            fake.configure(|host| host.broadcast.push([10, 7, 7, 255].into()));
            return Ok(());
        }
        let address = ["address", "add", "10.7.7.1/24", "broadcast", "10.7.7.255", "dev", "lo"];
        program("ip", &address).map(drop)
    }

    pub(crate) fn remove_network(&self) -> anyhow::Result<()> {
        if let Some(fake) = &self.fake {
            fake.configure(|host| host.broadcast.retain(|it| it.octets()[0] != 10));
            return Ok(());
        }
        program("ip", &["address", "delete", "10.7.7.1/24", "dev", "lo"]).map(drop)
    }

    /// Another client of the same kernel.
    pub(crate) async fn connect(&self, options: &Options) -> Result<Client, Error> {
        match &self.fake {
            None => Client::connect(self.flavour, options).await,
            Some(fake) => Client::connect_to(fake, self.flavour).await,
        }
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

/// Runs a program of the guest; returns its output.
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

/// For how long those cases run that find more the longer they run: as short as possible, unless
/// `cargo xtask soak` says otherwise.
pub(crate) fn soak() -> Duration {
    let seconds = std::env::var("IPVS_NETLINK_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0))
}
