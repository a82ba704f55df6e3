//! The original program ipvsadm and ours, each timed from its start to its end.

use std::io::{Seek, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipvs_netlink::Ruleset;

use crate::Peer;
use crate::measure::time;
use crate::rules::Size;

/// One of the two programs.
pub enum Ipvsadm {
    /// The one in `PATH`.
    Original,
    /// The example of this repository, built beside this benchmark.
    Ours,
}

impl Ipvsadm {
    fn command(&self) -> anyhow::Result<Command> {
        let program = match self {
            Self::Original => PathBuf::from("ipvsadm"),
            Self::Ours => {
                let benchmark = std::env::current_exe()?;
                let folder = benchmark.parent().and_then(|deps| deps.parent());
                folder.context("a folder of programs")?.join("ipvsadm")
            }
        };
        Ok(Command::new(program))
    }
}

impl Peer for Ipvsadm {
    fn name(&self) -> &'static str {
        match self {
            Self::Original => "ipvsadm",
            Self::Ours => "our-ipvsadm",
        }
    }

    fn note(&self) -> &'static str {
        "the program, from its start to its end"
    }

    fn write(&self, rules: &Ruleset) -> anyhow::Result<Duration> {
        let mut file = tempfile::tempfile()?;
        write!(file, "{rules}")?;
        file.rewind()?;
        time(|| {
            let status = self.command()?.arg("-R").stdin(file).status()?;
            ensure!(status.success(), "ipvsadm -R: {status}");
            Ok(())
        })
    }

    fn read(&self) -> anyhow::Result<(Duration, Size)> {
        let start = Instant::now();
        let mut listing = self.command()?;
        let listing = listing.arg("-Ln").stdin(Stdio::null()).output().context("ipvsadm")?;
        let took = start.elapsed();
        ensure!(listing.status.success(), "ipvsadm -Ln: {}", listing.status);
        let listing = String::from_utf8(listing.stdout)?;
        let starting = |with| listing.lines().filter(|line| line.starts_with(with)).count();
        // One line of the heading begins as a destination's does.
        let destinations = starting("  -> ") - 1;
        Ok((took, Size { services: starting("TCP "), destinations }))
    }
}
