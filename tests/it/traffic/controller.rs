//! A controller as a process of its own, which can be killed at any moment.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipvs_netlink::{Draining, Options, Policy, Ruleset, Scheduler, Scope, Syncer};

use super::network::DIRECTOR;
use super::{Lane, PATIENCE};
use crate::errors::CHILD;

/// How long the controller rests between two passes.
const REST: Duration = Duration::from_millis(10);

/// The lines before a pass for other rules, after a successful pass, and after any other pass.
const BEGINS: &str = "begins";
const MADE: &str = "made";
const FAILED: &str = "failed";

/// The file with the controller's wanted rules.
pub(super) struct Wanted(PathBuf);

impl Wanted {
    pub(super) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("ipvs-netlink-wanted-{}", std::process::id())))
    }

    /// Replaces the rules in the file, all at once.
    pub(super) fn write(&self, rules: &Ruleset) -> anyhow::Result<()> {
        let new = self.0.with_extension("new");
        std::fs::write(&new, rules.to_string())?;
        Ok(std::fs::rename(new, &self.0)?)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A controller, which is killed when it is dropped.
pub(super) struct Controller {
    process: Child,
    said: Receiver<String>,
    tally: Tally,
}

/// The counts of what controllers printed until they were killed.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) controllers: usize,
    /// How many of these controllers were killed in a pass that changes something.
    pub(super) in_a_pass: usize,
    pub(super) changed: usize,
    pub(super) drained: usize,
    /// The failures of passes.
    pub(super) failures: Vec<String>,
    /// Whether the last line tells of the begin of a pass.
    begun: bool,
}

impl Controller {
    pub(super) fn start(wanted: &Wanted) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .env(CHILD, "controller")
            .env(WANTED, &wanted.0)
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().context("a pipe")?).lines();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(Self { process, said, tally: Tally { controllers: 1, ..Tally::default() } })
    }

    /// Reads all lines that the controller has printed so far.
    pub(super) fn catch_up(&mut self) -> anyhow::Result<()> {
        self.said.try_iter().try_for_each(|line| self.tally.take(line))
    }

    /// Waits until the controller begins a pass for other rules than before.
    pub(super) fn wait_for_pass(&mut self) -> anyhow::Result<()> {
        while !self.tally.begun {
            let line = self.said.recv_timeout(PATIENCE).context("the controller begins no pass")?;
            self.tally.take(line)?;
        }
        Ok(())
    }

    /// Kills the controller, and returns the counts of its lines.
    pub(super) fn kill(mut self) -> anyhow::Result<Tally> {
        let ended = self.process.try_wait()?;
        ensure!(ended.is_none(), "the controller ended by itself: {ended:?}");
        // The process is dead now, and its pipe ends.
        self.process.kill()?;
        self.process.wait()?;
        while let Ok(line) = self.said.recv() {
            self.tally.take(line)?;
        }
        self.tally.in_a_pass = usize::from(self.tally.begun);
        Ok(std::mem::take(&mut self.tally))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Tally {
    fn take(&mut self, line: String) -> anyhow::Result<()> {
        let mut words = line.split(' ');
        match words.next() {
            Some(BEGINS) => self.begun = true,
            Some(MADE) => {
                let mut count = || {
                    words.next().context("a count")?.parse::<usize>().map_err(anyhow::Error::from)
                };
                self.changed += count()?;
                self.drained += count()?;
                self.begun = false;
            }
            _ => self.failures.push(line),
        }
        Ok(())
    }

    pub(super) fn add(&mut self, other: Self) {
        self.controllers += other.controllers;
        self.in_a_pass += other.in_a_pass;
        self.changed += other.changed;
        self.drained += other.drained;
        self.failures.extend(other.failures);
    }
}

/// The environment variable that tells the controller the path of the file.
const WANTED: &str = "IPVS_NETLINK_TEST_WANTED";

/// Runs as the controller until it is killed.
pub(crate) fn control() {
    let file = std::env::var_os(WANTED).expect("the file of what is wanted");
    control_by(file.as_ref()).expect("a controller goes on");
}

fn control_by(file: &Path) -> anyhow::Result<()> {
    let draining = Draining::within(PATIENCE).interval(REST);
    let keys = Lane::ALL.map(|lane| lane.service(Scheduler::RoundRobin).key);
    let policy = Policy::new().scope(Scope::none().services(keys)).draining(draining);
    let mut ipvs = Options::new().namespace(DIRECTOR.path()).connect()?;
    let mut syncer = Syncer::new(policy);
    loop {
        let wanted: Ruleset = std::fs::read_to_string(file)?.parse()?;
        let begins = *syncer.wanted() != wanted;
        if begins {
            syncer.want(wanted);
            println!("{BEGINS}");
        }
        let report = ipvs.pass(&mut syncer);
        if !report.is_success() || report.cut_off > 0 {
            println!("{FAILED} {}", report.to_string().replace('\n', "; "));
        } else if begins || report.changed > 0 {
            println!("{MADE} {} {}", report.changed, report.drained);
        }
        std::thread::sleep(REST);
    }
}
