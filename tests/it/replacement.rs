//! Our ipvsadm beside the original, each in a namespace of its own: the same calls must print the
//! same, end with the same status and leave the same table.

mod calls;
mod differences;
mod generated;

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;

use anyhow::{Context as _, bail, ensure};
use ipvs_netlink::blocking::Client;
use ipvs_netlink::{Options, Ruleset, SyncDaemon, Timeouts};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::case::Case;
use crate::program::{built, comes_true, folder};
use crate::standstill;
use crate::traffic::{Namespace, OwnNamespace, PATIENCE};

pub(crate) fn cases() -> Vec<Case> {
    [calls::cases(), generated::cases(), differences::cases()].into_iter().flatten().collect()
}

/// A program under its three names, and a namespace that it has to itself.
pub(crate) struct Program {
    namespace: Namespace,
    _own: OwnNamespace,
    /// The folder of its names.
    folder: PathBuf,
    /// Where it runs.
    place: TempDir,
    client: Client,
}

/// The output and the end of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) output: String,
    pub(crate) errors: String,
    pub(crate) status: Option<i32>,
}

/// The state that a call has left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    rules: Ruleset,
    timeouts: Timeouts,
    daemons: Vec<SyncDaemon>,
}

impl Program {
    pub(crate) fn ours() -> anyhow::Result<Self> {
        let program = built(Path::new("ipvsadm"));
        let place = folder();
        let names = place.path().join("names");
        std::fs::create_dir(&names)?;
        for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            symlink(&program, names.join(name))?;
        }
        Self::new("ours", names, place)
    }

    fn theirs() -> anyhow::Result<Self> {
        Self::new("theirs", "/usr/local/sbin".into(), folder())
    }

    fn new(name: &'static str, folder: PathBuf, place: TempDir) -> anyhow::Result<Self> {
        let namespace = Namespace(name);
        let own = namespace.add()?;
        namespace.ip(&[
            "link add eth0 type dummy".to_owned(),
            "address add 10.9.8.1/24 dev eth0".to_owned(),
            "address add 2001:db8:9::1/64 dev eth0 nodad".to_owned(),
            "link set eth0 up".to_owned(),
            "route add default dev eth0".to_owned(),
            "route add ::/0 dev eth0".to_owned(),
        ])?;
        let client = Options::new().namespace(namespace.path()).connect()?;
        Ok(Self { namespace, _own: own, folder, place, client })
    }

    /// Runs a line in which `ipvsadm` is this program; by a shell if the line needs one.
    pub(crate) fn run(&self, line: &str) -> anyhow::Result<Said> {
        self.run_in(&self.namespace, line)
    }

    /// Runs a line in a namespace that may be the other program's.
    fn run_in(&self, namespace: &Namespace, line: &str) -> anyhow::Result<Said> {
        let mut command = self.command(line)?;
        command.stdout(Stdio::piped());
        let child = namespace.run(|| Ok(command.spawn()?))?;
        let output =
            ended(child).with_context(|| format!("{line}, in {}'s namespace", namespace.0))?;
        // To the end of a daemon whose thread has not run the kernel answers nothing, and the original
        // waits for ever.
        if line.contains("--start-daemon") {
            comes_true("the daemon's thread has run", standstill::daemons_have_run);
        }
        Ok(Said {
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code(),
        })
    }

    fn command(&self, line: &str) -> anyhow::Result<Command> {
        let mut command = match words(line) {
            Some(words) => {
                let mut program = Command::new(self.folder.join(&words[0]));
                program.arg0(&words[0]).args(&words[1..]);
                program
            }
            None => {
                let path = format!("{}:{}", self.folder.display(), std::env::var("PATH")?);
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", line]).env("PATH", path);
                shell
            }
        };
        // A process group lets all processes of a line be ended together.
        command.process_group(0);
        command.current_dir(self.place.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }

    /// The kernel's present state.
    pub(crate) fn left(&mut self) -> anyhow::Result<Left> {
        let (rules, timeouts) = (self.client.ruleset()?, self.client.timeouts()?);
        Ok(Left { rules, timeouts, daemons: self.client.daemons()? })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for role in [ipvs_netlink::DaemonRole::Master, ipvs_netlink::DaemonRole::Backup] {
            let _ = self.client.stop_daemon(role);
        }
    }
}

/// Both programs, between which a caller must see no difference.
struct Pair {
    ours: Program,
    theirs: Program,
    calls: usize,
    differing: usize,
}

impl Pair {
    fn new() -> anyhow::Result<Self> {
        name_hosts_and_ports()?;
        Ok(Self { ours: Program::ours()?, theirs: Program::theirs()?, calls: 0, differing: 0 })
    }

    /// Makes a call with each, and compares their output and the state that they leave.
    fn call(&mut self, line: &str, canonical: impl Fn(Said) -> Said) -> anyhow::Result<()> {
        let (wanted, said) = (self.theirs.run(line)?, self.ours.run(line)?);
        let is_change = said.status == Some(0) && !is_listing(line);
        self.compare(line, &canonical(wanted), &canonical(said));
        // The state that a failed call has left shows after the next successful one.
        if is_change {
            let (wanted, left) = (self.theirs.left()?, self.ours.left()?);
            ensure!(left == wanted, "{line} left\n{left:#?}\nand not\n{wanted:#?}");
        }
        Ok(())
    }

    /// Has both programs read the original's table, so that even the order and the counters are the
    /// same. The kernel updates counters and rates every two seconds: a reading counts if it is
    /// between two equal answers of the original.
    fn read(&mut self, line: &str, canonical: impl Fn(Said) -> Said) -> anyhow::Result<()> {
        let mut wanted = canonical(self.theirs.run(line)?);
        for _ in 0..20 {
            let said = canonical(self.ours.run_in(&self.theirs.namespace, line)?);
            let again = canonical(self.theirs.run(line)?);
            if wanted == again {
                self.compare(line, &wanted, &said);
                return Ok(());
            }
            wanted = again;
        }
        bail!("{line}: the original does not say the same twice")
    }

    fn compare(&mut self, line: &str, wanted: &Said, said: &Said) {
        self.calls += 1;
        if wanted != said {
            println!("$ {line}\n{}", differences(wanted, said));
            self.differing += 1;
        }
    }

    /// The number of calls, if all had the same outcome.
    fn end(self) -> anyhow::Result<usize> {
        let Self { calls, differing, .. } = self;
        ensure!(differing == 0, "{differing} of {calls} calls differ");
        println!("{calls} calls of ipvsadm came to the same");
        Ok(calls)
    }
}

/// The output of a program that ends; a program that does not end is killed.
fn ended(child: Child) -> anyhow::Result<Output> {
    let process = Pid::from_child(&child);
    let (ends, end) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let is_late = end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        is_late.then(|| {
            let described = standstill::described();
            let _ = kill_process_group(process, Signal::KILL);
            described
        })
    });
    let output = child.wait_with_output();
    drop(ends);
    match watch.join().expect("no panic") {
        None => Ok(output?),
        Some(described) => bail!("did not end within {PATIENCE:?}\n{described}"),
    }
}

/// The words of a line that needs no shell, since it has nothing but words and quotes. A shell takes
/// as much time as the program.
fn words(line: &str) -> Option<Vec<String>> {
    if !line.starts_with("ipvsadm") || line.contains(['|', ';', '<', '>', '$', '&', '"', '\\']) {
        return None;
    }
    let mut words: Vec<String> = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            // A quoted text is a word or a part of one, even if it is empty.
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(ToOwned::to_owned));
        }
    }
    Some(words)
}

fn is_listing(line: &str) -> bool {
    ["-L", "-l", "-S", "-h", "-v", "--list", "--save"]
        .iter()
        .any(|command| line.starts_with(&format!("ipvsadm {command}")))
}

fn differences(wanted: &Said, said: &Said) -> String {
    let mut text = String::new();
    for (wanted, said) in [(&wanted.output, &said.output), (&wanted.errors, &said.errors)] {
        for line in wanted.lines().filter(|line| !said.lines().any(|other| other == *line)) {
            text.extend(["  theirs: ", line, "|\n"]);
        }
        for line in said.lines().filter(|line| !wanted.lines().any(|other| other == *line)) {
            text.extend(["  ours:   ", line, "|\n"]);
        }
    }
    text + &format!("  status {:?}, ours {:?}", wanted.status, said.status)
}

/// Gives the guest names for hosts and ports.
pub(crate) fn name_hosts_and_ports() -> anyhow::Result<()> {
    for (file, text) in [
        ("/etc/nsswitch.conf", "hosts: files\nservices: files\n"),
        (
            "/etc/services",
            "ftp 21/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp www # the web\nhttp 80/sctp\n\
             https 443/tcp\nwebcache 8080/tcp\nplus +90/tcp\nwide 65617/tcp\n",
        ),
        (
            "/etc/hosts",
            "127.0.0.1 localhost\n10.0.0.12 lab.example lab\n10.0.1.1 real1.example.com\n\
             2001:db8::1 six.example.com\n\
             2001:db8::99 averyveryveryverylongname6.of.a.host.example.com\n\
             10.0.0.1 averyveryveryverylongname.of.a.host.example.com\n",
        ),
    ] {
        std::fs::write(file, text).context(file)?;
    }
    Ok(())
}
