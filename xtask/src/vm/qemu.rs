//! QEMU itself: its arguments, and whether KVM works on this machine or every instruction has to be translated.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::io::FdFlags;

use super::tools;
use crate::command::which;

/// The parameters of the guest's kernel in every run. Without `no_timer_check` it panics if QEMU, on a busy host, lets it wait
/// for the timer's interrupts. With `norandmaps` a program has the same addresses each time it is started, and QEMU translates it
/// once: starting a program takes a third of the time.
const PARAMETERS: &str = "panic=-1 oops=panic no_timer_check norandmaps dummy.numdummies=0";

/// How the guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Accelerator {
    Kvm,
    Tcg,
    /// Translated on one CPU, by a clock that advances by a nanosecond with every instruction.
    Counting,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "with KVM",
            Self::Tcg => "without KVM (TCG)",
            Self::Counting => "by a clock that counts instructions (TCG)",
        })
    }
}

/// The parts of a machine that differ from run to run.
pub(super) struct Machine<'a> {
    /// `target/vm`
    pub(super) cache: &'a Path,
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a File,
    pub(super) memory: u32,
    pub(super) accelerator: Accelerator,
}

/// A running QEMU, which ends when this value is dropped, and with the thread that started it.
pub(super) struct Qemu(Child);

impl Qemu {
    /// Starts a machine whose streams end in sockets of this process.
    pub(super) fn start(machine: &Machine<'_>, said: File) -> Result<(Self, Streams)> {
        let mut command = machine.command("quiet loglevel=5")?;
        // QEMU inherits its ends; this function closes its own copies, so that the streams close when QEMU ends.
        let (console, console_end) = socket()?;
        let (stdout, stdout_end) = socket()?;
        let (stderr, stderr_end) = socket()?;
        for (id, end) in
            [("console", &console_end), ("stdout", &stdout_end), ("stderr", &stderr_end)]
        {
            command.arg("-chardev");
            command.arg(format!("socket,id={id},fd={}", end.as_raw_fd()));
        }
        command.args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
        for id in ["stdout", "stderr"] {
            command.arg("-device");
            command.arg(format!("virtserialport,chardev={id},name={id}"));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .context("QEMU could not be started")?;
        let streams = Streams { console, stdout, stderr };
        Ok((Self(child), streams))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // QEMU may have ended by itself; either way nothing is left of it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The output of the guest.
pub(super) struct Streams {
    pub(super) console: UnixStream,
    pub(super) stdout: UnixStream,
    pub(super) stderr: UnixStream,
}

fn socket() -> Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
    Ok((ours, theirs))
}

/// Starts a program that the kernel ends together with the thread that started it, even if that thread is killed. This holds from
/// `setpriv` on: where the parent was gone by then, the shell has another one, and does not start the program.
fn ends_with(parent: u32, program: &Command) -> Result<Command> {
    let setpriv = which("setpriv").context("setpriv is not here: install util-linux")?;
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--", "sh", "-c", r#"[ "$PPID" = "$0" ] && exec "$@""#]);
    command.arg(parent.to_string()).arg(program.get_program()).args(program.get_args());
    Ok(command)
}

impl Machine<'_> {
    /// A machine whose serial console is the terminal; Ctrl-A X ends it.
    pub(super) fn interactive(&self) -> Result<Command> {
        let mut command = self.command("quiet")?;
        command.args(["-serial", "mon:stdio"]);
        Ok(command)
    }

    fn command(&self, verbosity: &str) -> Result<Command> {
        let qemu = tools::QEMU.command(self.cache)?;
        let mut command = ends_with(std::process::id(), &qemu)?;
        let arguments: &[&str] = match self.accelerator {
            Accelerator::Kvm => &["-accel", "kvm", "-cpu", "host", "-smp", "2"],
            Accelerator::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"],
            Accelerator::Counting => {
                &["-accel", "tcg", "-cpu", "max", "-smp", "1", "-icount", "shift=0,sleep=off"]
            }
        };
        command.args(arguments);
        rustix::io::fcntl_setfd(self.initramfs, FdFlags::empty())?;
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            // A panic asks for a reboot at once, which ends this machine.
            .arg("-no-reboot")
            .args(["-m", &format!("{}M", self.memory)])
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(format!("/proc/self/fd/{}", self.initramfs.as_raw_fd()))
            .arg("-append")
            .arg(format!("console=ttyS0 {verbosity} {PARAMETERS}"));
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn said(command: &mut Command) -> Result<String> {
        Ok(String::from_utf8(command.output()?.stdout)?)
    }

    #[test]
    fn no_program_starts_once_its_parent_is_gone() -> Result<()> {
        if which("setpriv").is_none() {
            println!("NOT RUN: setpriv is not here");
            return Ok(());
        }
        let echo = Command::new(which("echo").context("echo is not here")?);
        let us = std::process::id();
        assert_eq!(said(ends_with(us, &echo)?.args(["a b", "$0"]))?, "a b $0\n");
        // As if the parent had ended before setpriv started.
        assert_eq!(said(ends_with(us + 1, &echo)?.arg("a b"))?, "");
        Ok(())
    }

    #[test]
    fn a_program_ends_with_the_thread_that_started_it() -> Result<()> {
        if which("setpriv").is_none() {
            println!("NOT RUN: setpriv is not here");
            return Ok(());
        }
        let cat = Command::new(which("cat").context("cat is not here")?);
        let start = move || -> Result<Child> {
            let mut cat = ends_with(std::process::id(), &cat)?;
            let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            // It has started once it answers.
            child.stdin.as_mut().context("a pipe")?.write_all(b".")?;
            child.stdout.as_mut().context("a pipe")?.read_exact(&mut [0])?;
            Ok(child)
        };
        let started = std::thread::spawn(start).join().expect("no panic");
        assert_eq!(started?.wait()?.signal(), Some(9));
        Ok(())
    }
}
