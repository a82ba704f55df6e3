//! A network namespace for each run: its table has neither rules nor a past.
//!
//! The kernel keeps removed destinations for minutes and looks through them for each that is
//! added, so a table that was filled and flushed before is slower than a new one.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const NAME: &str = "ipvs-bench";

/// The calling thread is in a network namespace of its own until this is dropped.
pub(crate) struct Namespace {
    before: File,
}

impl Namespace {
    pub(crate) fn fresh() -> anyhow::Result<Self> {
        let before = File::open("/proc/self/ns/net")?;
        ip(&["netns", "add", NAME])?;
        let namespace = Self { before };
        // Without it no IPv4 address is unicast.
        ip(&["-netns", NAME, "link", "set", "lo", "up"])?;
        enter(&File::open(format!("/run/netns/{NAME}"))?)?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let left = enter(&self.before).and_then(|()| ip(&["netns", "delete", NAME]));
        left.expect("the namespace can be left again");
        // The kernel takes it down in the background.
        std::thread::sleep(Duration::from_millis(700));
    }
}

fn enter(namespace: &File) -> anyhow::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(std::os::fd::AsFd::as_fd(namespace), kind)
        .context("entering a network namespace needs root: cargo xtask vm bench")
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip is needed (iproute2)")?;
    ensure!(output.status.success(), "ip {arguments:?}: {output:?}");
    Ok(())
}
