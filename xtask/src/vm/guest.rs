//! One run of a guest: boots it, passes on its program's output, and insists on a verdict.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Seek as _, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::initramfs::Tree;
use super::kernel::Kernel;
use super::modules::{self, Modules};
use super::qemu::{Accelerator, Machine, Qemu, Streams};
use super::{stream, userland};
use crate::command::tail;
use crate::progress::Progress;

/// How long a guest may say nothing while it boots; translated code on a busy machine is slow. A guest with more time than usual
/// may be silent for half of it.
const SILENCE: Duration = Duration::from_secs(300);

/// How often to boot a kernel that panics before it is up, as translated code does now and then.
const BOOTS: u32 = 3;

/// What to do if a guest does not come up. Its files are not damaged: they were checked.
const BUSY: &str = "where the console does not tell why, this machine may be too busy; give the guest more time \
    (--timeout SECONDS)";

/// The exit status of a program whose output nobody reads any more.
const SIGPIPE: u8 = 128 + 13;

/// The folder in which a program finds its files.
pub(super) const FILES: &str = "guest/files";

/// A guest before it boots.
pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) accelerator: Accelerator,
    pub(super) memory: u32,
    pub(super) timeout: Duration,
    /// `target/vm`
    pub(super) cache: &'a Path,
    pub(super) without: &'a [String],
    /// The files that only this run has in the guest.
    pub(super) tree: Tree,
}

/// A guest's use of its `/guest/run`.
pub(super) enum Task {
    /// Does not run it: the guest only shows that it boots.
    Probe,
    /// Runs it, with this file of the guest as standard input.
    Run { stdin: &'static str },
    /// Runs it on the terminal, which has this many rows and columns.
    Shell { rows: u16, columns: u16 },
}

impl Guest<'_> {
    /// Boots and runs until the verdict: the exit status of the program. Any other end is an error.
    pub(super) fn run(
        self,
        task: &Task,
        stdout: &mut (dyn Write + Send),
        stderr: &mut (dyn Write + Send),
    ) -> Result<u8> {
        let token = format!("{:016x}", RandomState::new().hash_one(0));
        let initramfs = self.initramfs(task, &token)?;
        let machine = self.machine(&initramfs);
        let mut boots = 1..=BOOTS;
        loop {
            let last = boots.next() == Some(BOOTS);
            // The log has no name either. QEMU and the console write to it, each appending to the other's text.
            let mut log = tempfile::tempfile_in(self.cache)?;
            let qemu = Qemu::start(&machine, log.try_clone()?)?;
            let error = match self.follow(qemu, task, &token, log.try_clone()?, stdout, stderr) {
                Ok(status) => return Ok(status),
                Err(error) => error,
            };
            let mut console = Vec::new();
            log.rewind()?;
            log.read_to_end(&mut console)?;
            let said = String::from_utf8_lossy(&console);
            let panicked = said.contains("Kernel panic");
            let is_translated = self.accelerator != Accelerator::Kvm;
            let is_up = release(&said, &token).is_some();
            if last || !panicked || !is_translated || is_up {
                let what = if panicked { "kernel panic" } else { "the run failed" };
                return fail(&error.context(what), self.kernel, &console, self.cache);
            }
            eprintln!("note: {} panicked while it booted; it boots again", self.kernel);
        }
    }

    /// Passes on a machine's output until the verdict, and then ends the machine.
    fn follow(
        &self,
        (qemu, streams): (Qemu, Streams),
        task: &Task,
        token: &str,
        log: File,
        stdout: &mut (dyn Write + Send),
        stderr: &mut (dyn Write + Send),
    ) -> Result<u8> {
        let started = Instant::now();
        let (sender, events) = channel();
        std::thread::scope(|threads| {
            let (to_stdout, to_stderr) = (sender.clone(), sender.clone());
            threads.spawn(move || {
                let closed = stream::copy(streams.stdout, stdout, token);
                let _ = to_stdout.send(Event::Closed(closed));
            });
            threads.spawn(move || {
                let closed = stream::copy(streams.stderr, stderr, token);
                let _ = to_stderr.send(Event::Closed(closed));
            });
            threads.spawn(move || watch(streams.console, log, token, &sender));
            let silence = SILENCE.max(self.timeout / 2);
            let verdict = wait(&events, self.kernel, task, started, silence, self.timeout);
            // The threads end with the streams, which end with QEMU.
            drop(qemu);
            verdict
        })
    }

    /// Boots with the serial console on this terminal, until the shell ends.
    pub(super) fn shell(self, task: &Task) -> Result<()> {
        let initramfs = self.initramfs(task, "")?;
        let status = self.machine(&initramfs).interactive()?.status()?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        Ok(())
    }

    fn machine<'a>(&'a self, initramfs: &'a File) -> Machine<'a> {
        Machine {
            cache: self.cache,
            image: &self.kernel.image,
            initramfs,
            memory: self.memory,
            accelerator: self.accelerator,
        }
    }

    /// The files that all guests of the kernel have, followed by those of this guest.
    fn initramfs(&self, task: &Task, token: &str) -> Result<File> {
        let all = Modules::read(&self.kernel.modules)?.select(modules::wanted());
        // The file has no name: a killed run leaves no file behind.
        let mut file = tempfile::tempfile_in(self.cache)?;
        let base = userland::archive(self.kernel, &all, self.cache)?;

        let modules = all.without(self.without)?;
        let left_out: Vec<_> = all.files().filter(|file| !modules.has(file)).collect();
        let mut tree = Tree::default();
        tree.text("guest/modules", modules.load_order().join("\n"));
        tree.text("guest/without", left_out.join("\n"));
        tree.text("guest/settings", self.settings(task, token));
        tree.text("init", include_str!("init.sh"));
        for part in [base, tree.archive()?, self.tree.archive()?] {
            let folder = self.cache.display();
            file.write_all(&part)
                .with_context(|| format!("the guest's files cannot be written in {folder}"))?;
        }
        Ok(file)
    }

    fn settings(&self, task: &Task, token: &str) -> String {
        // The host's time limit ends a run first.
        let grace = Duration::from_secs(60);
        let lifetime = (self.timeout + grace).as_secs();
        match task {
            Task::Probe => format!("token={token} mode=probe lifetime={lifetime}\n"),
            Task::Run { stdin } => {
                format!("token={token} mode=run lifetime={lifetime} stdin={stdin}\n")
            }
            Task::Shell { rows, columns } => {
                format!("mode=shell rows={rows} columns={columns}\n")
            }
        }
    }
}

enum Event {
    /// The guest says something while it boots.
    Spoke,
    /// The guest is up and says which kernel it runs.
    Ready(String),
    /// A stream of the program ended, with its status if there was a verdict.
    Closed(io::Result<Option<u8>>),
}

fn wait(
    events: &Receiver<Event>,
    kernel: &Kernel,
    task: &Task,
    started: Instant,
    silence: Duration,
    timeout: Duration,
) -> Result<u8> {
    let mut booting = Some(Progress::start_quietly(format!("booting {kernel}")));
    let mut half = false;
    let mut spoke = started;
    loop {
        let mut left = timeout.saturating_sub(started.elapsed());
        if booting.is_some() {
            left = left.min(silence.saturating_sub(spoke.elapsed()));
        }
        match events.recv_timeout(left) {
            Ok(Event::Spoke) => spoke = Instant::now(),
            Ok(Event::Ready(release)) if release != kernel.release => {
                bail!("the guest runs Linux {release}, not {}", kernel.release)
            }
            Ok(Event::Ready(_)) if matches!(task, Task::Probe) => return Ok(0),
            Ok(Event::Ready(_)) => booting = None,
            Ok(Event::Closed(Ok(Some(status)))) if half => return Ok(status),
            Ok(Event::Closed(Ok(Some(_)))) => half = true,
            Ok(Event::Closed(Ok(None))) | Err(RecvTimeoutError::Disconnected) => {
                bail!("the guest ended without a verdict")
            }
            // `… | head` stops reading: the program ends as it would on the host, where a signal ends it.
            Ok(Event::Closed(Err(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(SIGPIPE);
            }
            Ok(Event::Closed(Err(error))) => {
                return Err(error).context("the program's output could not be passed on");
            }
            Err(RecvTimeoutError::Timeout) if booting.is_none() => {
                bail!("no verdict within {} s (--timeout SECONDS)", timeout.as_secs())
            }
            Err(RecvTimeoutError::Timeout) if started.elapsed() < timeout => {
                bail!("the guest was silent for {} s; {BUSY}", silence.as_secs())
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest was not up within {} s; {BUSY}", timeout.as_secs())
            }
        }
    }
}

/// Keeps the console's output, and tells when the guest speaks and is up.
fn watch(
    mut console: impl io::Read,
    mut log: impl Write,
    token: &str,
    events: &Sender<Event>,
) -> io::Result<()> {
    let mut said = Vec::new();
    let mut ready = false;
    let mut chunk = [0; 4096];
    loop {
        let read = console.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        log.write_all(&chunk[..read])?;
        if !ready {
            let _ = events.send(Event::Spoke);
            said.extend_from_slice(&chunk[..read]);
            if let Some(release) = release(&String::from_utf8_lossy(&said), token) {
                ready = true;
                let _ = events.send(Event::Ready(release.to_owned()));
            }
        }
    }
}

/// The kernel's release in the line by which init tells that the guest is up.
fn release<'a>(console: &'a str, token: &str) -> Option<&'a str> {
    let (_, rest) = console.split_once(&format!("{token} ready "))?;
    rest.split_once(['\r', '\n']).map(|(release, _)| release)
}

/// Fails with the console's last output, and keeps all of it.
fn fail(error: &anyhow::Error, kernel: &Kernel, console: &[u8], cache: &Path) -> Result<u8> {
    let kept = cache.join(format!("console-{}.log", kernel.name));
    fs::write(&kept, console)?;
    bail!(
        "{kernel}: {error:#}\nThe console's last lines (all: {}):\n{}",
        kept.display(),
        tail(console, 40)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_up_once_its_line_is_whole() {
        let console = "[ 1.0] noise\r\n00ff ready 6.12.1+deb\r\n";
        assert_eq!(release(console, "00ff"), Some("6.12.1+deb"));
        assert_eq!(release(console, "00fe"), None);
        assert_eq!(release("00ff ready 6.1", "00ff"), None);
    }

    /// Waits for a guest that started so many seconds ago, said something just now, and is up soon.
    fn wait_for(age: u64, silence: u64, timeout: u64) -> Result<u8> {
        let kernel = Kernel {
            name: "6.12".into(),
            release: "6.12.1".into(),
            version: None,
            image: "bzImage".into(),
            modules: "modules".into(),
            _in_use: None,
        };
        let [age, silence, timeout] = [age, silence, timeout].map(Duration::from_secs);
        let started = Instant::now().checked_sub(age).context("a clock that began before")?;
        let (sender, events) = channel();
        sender.send(Event::Spoke)?;
        std::thread::scope(|threads| {
            let later = sender.clone();
            threads.spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                later.send(Event::Ready("6.12.1".into()))
            });
            wait(&events, &kernel, &Task::Probe, started, silence, timeout)
        })
    }

    #[test]
    fn a_guest_that_speaks_while_it_boots_is_waited_for() {
        assert_eq!(wait_for(400, 300, 600).expect("it is up"), 0);
        let silent = wait_for(400, 0, 600).expect_err("it is silent").to_string();
        assert!(silent.starts_with("the guest was silent for 0 s; where the console"), "{silent}");
        assert!(silent.ends_with("(--timeout SECONDS)"), "{silent}");
        let slow = wait_for(700, 300, 600).expect_err("it is slow").to_string();
        assert!(slow.starts_with("the guest was not up within 600 s; where the"), "{slow}");
    }
}
