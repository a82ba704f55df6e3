//! The surroundings of a kernel: the privilege of the sender, interfaces, and addresses that come
//! and go.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ipvs_netlink::fake::{Interface, Kernel};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// A destination's address that is a broadcast address of the host at times. Each run tries it with
/// a port that was never used before, since the kernel accepts a removed destination again for
/// minutes.
pub(crate) const AT_TIMES_BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 1);

/// The surroundings of a kernel that steps can change.
pub(crate) trait Surroundings {
    /// Lets requests be sent with `CAP_NET_ADMIN` or without.
    fn set_privileged(&self, privileged: bool) -> Result<()>;
    /// Makes [`AT_TIMES_BROADCAST`] a broadcast address, or one like any other.
    fn set_broadcast(&self, broadcast: bool) -> Result<()>;
}

impl Surroundings for Kernel {
    fn set_privileged(&self, privileged: bool) -> Result<()> {
        self.configure(|host| host.privileged = privileged);
        Ok(())
    }

    fn set_broadcast(&self, broadcast: bool) -> Result<()> {
        self.configure(|host| {
            host.broadcast.retain(|address| *address != AT_TIMES_BROADCAST);
            host.broadcast.extend(broadcast.then_some(AT_TIMES_BROADCAST));
        });
        Ok(())
    }
}

/// The real kernel's surroundings: this thread's capabilities, and the addresses of `lo`.
pub(crate) struct Guest;

impl Surroundings for Guest {
    fn set_privileged(&self, privileged: bool) -> Result<()> {
        let mut sets = capabilities(None)?;
        sets.effective.set(CapabilitySet::NET_ADMIN, privileged);
        Ok(set_capabilities(None, sets)?)
    }

    fn set_broadcast(&self, broadcast: bool) -> Result<()> {
        let change = if broadcast { "add" } else { "delete" };
        ip(&format!("address {change} 10.0.3.9/24 broadcast {AT_TIMES_BROADCAST} dev lo"))
    }
}

/// Makes the interfaces that sync daemons are tried on, and describes them for the fake kernel.
pub(crate) fn make_interfaces() -> Result<Vec<Interface>> {
    for name in ["down0", "bare0", "four0", "small0", "six0", "large0"] {
        ip(&format!("link add {name} type dummy"))?;
        ip(&format!("link set {name} addrgenmode none"))?;
    }
    std::fs::write("/proc/sys/net/ipv6/conf/four0/disable_ipv6", "1")?;
    ip("link set small0 mtu 1200")?;
    ip("link set large0 mtu 9000")?;
    for name in ["bare0", "four0", "small0", "six0", "large0"] {
        ip(&format!("link set {name} up"))?;
    }
    for (index, name) in ["down0", "four0", "small0", "large0"].iter().enumerate() {
        ip(&format!("address add 10.9.{index}.1/24 dev {name}"))?;
    }
    for (index, name) in ["six0", "large0"].iter().enumerate() {
        ip(&format!("address add 2001:db8:{index}::1/64 dev {name} nodad"))?;
    }
    let interface = |name, change: fn(&mut Interface)| {
        let mut interface = Interface::new(name);
        change(&mut interface);
        interface
    };
    Ok(vec![
        interface("down0", |it| (it.up, it.has_address) = (false, false)),
        interface("bare0", |it| it.has_address = false),
        interface("four0", |it| (it.ipv6, it.has_address) = (false, false)),
        interface("small0", |it| (it.mtu, it.has_address) = (1200, false)),
        interface("six0", |_| {}),
        interface("large0", |it| it.mtu = 9000),
    ])
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}
