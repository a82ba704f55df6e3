//! The program ipvsadm, from its start to its end.

use std::io::{Seek, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipvs_netlink::Ruleset;

use crate::Peer;
use crate::measure::time;
use crate::rules::Size;

/// The program.
pub struct Ipvsadm;

impl Peer for Ipvsadm {
    fn name(&self) -> &'static str {
        "ipvsadm"
    }

    fn note(&self) -> &'static str {
        "the program, from its start to its end"
    }

    fn write(&self, rules: &Ruleset) -> anyhow::Result<Duration> {
        let mut file = tempfile::tempfile()?;
        write!(file, "{rules}")?;
        file.rewind()?;
        time(|| {
            let status = Command::new("ipvsadm").arg("-R").stdin(file).status()?;
            ensure!(status.success(), "ipvsadm -R: {status}");
            Ok(())
        })
    }

    fn read(&self) -> anyhow::Result<(Duration, Size)> {
        let start = Instant::now();
        let mut listing = Command::new("ipvsadm");
        let listing = listing.arg("-Ln").stdin(Stdio::null()).output().context("ipvsadm")?;
        let took = start.elapsed();
        ensure!(listing.status.success(), "ipvsadm -Ln: {}", listing.status);
        let listing = String::from_utf8(listing.stdout)?;
        let starting = |with| listing.lines().filter(|line| line.starts_with(with)).count();
        // The heading has a line like a destination's.
        let destinations = starting("  -> ") - 1;
        Ok((took, Size { services: starting("TCP "), destinations }))
    }
}
