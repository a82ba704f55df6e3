//! A network namespace for each run: its table has neither rules nor a past.
//!
//! The kernel keeps removed destinations for minutes and looks through them for each that is
//! added, so a table that was filled and flushed before is slower than a new one.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use ipvs_netlink::Ruleset;
use ipvs_netlink::blocking::Client;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static MADE: AtomicU32 = AtomicU32::new(0);

/// The calling thread is in a network namespace of its own until this is dropped; the last that was
/// made is dropped first.
pub struct Namespace {
    name: String,
    before: File,
}

impl Namespace {
    /// Makes a namespace and enters it.
    ///
    /// # Errors
    /// There are no privileges for it, or no iproute2.
    pub fn fresh() -> anyhow::Result<Self> {
        let before = File::open("/proc/thread-self/ns/net")?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ipvs-bench-{}-{number}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name, before };
        // Without it no IPv4 address is unicast.
        ip(&["-netns", &namespace.name, "link", "set", "lo", "up"])?;
        enter(&File::open(format!("/run/netns/{}", namespace.name))?)?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let left = enter(&self.before).and_then(|()| ip(&["netns", "delete", &self.name]));
        left.expect("the namespace can be left again");
        // The kernel takes it down in the background.
        std::thread::sleep(Duration::from_millis(700));
    }
}

/// Runs something that fills an empty table, in a namespace of its own, and holds what is in the
/// table then against the rules that it was to write.
///
/// # Errors
/// Those of what is run; the table is another.
pub fn filled(
    rules: &Ruleset,
    run: impl FnOnce() -> anyhow::Result<Duration>,
) -> anyhow::Result<Duration> {
    let _namespace = Namespace::fresh()?;
    let took = run()?;
    let mut client = Client::connect()?;
    ensure!(client.ruleset()? == *rules, "the table is not what was to be written");
    // A big table that is taken down with its namespace would disturb what runs next.
    client.flush()?;
    Ok(took)
}

fn enter(namespace: &File) -> anyhow::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(std::os::fd::AsFd::as_fd(namespace), kind)
        .context("entering a network namespace needs root; in QEMU: cargo xtask bench")
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip is needed (iproute2)")?;
    ensure!(output.status.success(), "ip {arguments:?}: {output:?}");
    Ok(())
}
