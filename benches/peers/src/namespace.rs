//! A network namespace for each run, with a table that is empty and always was.
//!
//! The kernel keeps removed destinations for minutes and looks through them whenever one is added.
//! A table that was filled and flushed is therefore slower than a new one.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use ipvs_netlink::Ruleset;
use ipvs_netlink::blocking::Client;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace that the calling thread is in until this is dropped. Of several, the one
/// made last must be dropped first.
pub struct Namespace {
    name: String,
    before: File,
}

impl Namespace {
    /// Makes a namespace and enters it.
    ///
    /// # Errors
    /// The process lacks the privileges, or the machine lacks iproute2.
    pub fn fresh() -> anyhow::Result<Self> {
        let before = File::open("/proc/thread-self/ns/net")?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ipvs-bench-{}-{number}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name, before };
        // In a namespace without an IPv4 address, no IPv4 address counts as unicast.
        ip(&["-netns", &namespace.name, "link", "set", "lo", "up"])?;
        enter(&File::open(format!("/run/netns/{}", namespace.name))?)?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let left = enter(&self.before).and_then(|()| ip(&["netns", "delete", &self.name]));
        left.expect("the namespace can be left again");
        // The kernel takes the namespace down in the background, which would disturb the next run.
        std::thread::sleep(Duration::from_millis(700));
    }
}

/// Runs an act that fills the empty table of a namespace of its own, and compares the table with
/// the rules that the act was to write.
///
/// # Errors
/// The act failed, or the table differs from the rules.
pub fn filled(
    rules: &Ruleset,
    run: impl FnOnce() -> anyhow::Result<Duration>,
) -> anyhow::Result<Duration> {
    let _namespace = Namespace::fresh()?;
    let took = run()?;
    let mut client = Client::connect()?;
    ensure!(client.ruleset()? == *rules, "the table is not what was to be written");
    // Taking down a large table with its namespace would disturb the next run.
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
