//! A terminal whose far end can close, as that of a remote shell does when its connection breaks.
#![allow(dead_code)] // Not every test program needs all of it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A terminal with a program that runs on it in a session of its own.
pub(crate) struct Terminal {
    keyboard: Option<File>,
    is_gone: Arc<AtomicBool>,
    screen: Option<JoinHandle<()>>,
    pub(crate) program: Child,
}

impl Terminal {
    /// Runs a command on a terminal; what it prints goes to `screen`.
    pub(crate) fn start(
        command: &Command,
        mut screen: impl FnMut(&[u8]) + Send + 'static,
    ) -> std::io::Result<Self> {
        let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&far)?;
        unlockpt(&far)?;
        let name = ptsname(&far, Vec::new())?;
        let near = || -> std::io::Result<OwnedFd> {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(name.as_c_str(), flags, Mode::empty())?)
        };
        // With -c, the terminal becomes the controlling terminal of the session, which is hung up
        // together with it.
        let mut setsid = Command::new("setsid");
        setsid.arg("-c");
        if ignores_hangups() {
            setsid.args(["env", "--default-signal=HUP"]);
        }
        setsid.arg(command.get_program()).args(command.get_args());
        let [input, output, errors] = [near()?, near()?, near()?].map(Stdio::from);
        let program = setsid.stdin(input).stdout(output).stderr(errors).spawn()?;
        // The command's copies of the near end would keep the terminal's output open.
        drop(setsid);

        let far = File::from(far);
        let keyboard = Some(far.try_clone()?);
        let is_gone = Arc::<AtomicBool>::default();
        let has_gone = Arc::clone(&is_gone);
        let screen = std::thread::spawn(move || {
            let mut far = far;
            let mut bytes = [0; 4096];
            while !has_gone.load(Ordering::Relaxed) {
                if !is_readable(&far) {
                    continue;
                }
                // The read fails once no process has the terminal open any more.
                let Ok(length @ 1..) = far.read(&mut bytes) else { return };
                screen(&bytes[..length]);
            }
        });
        Ok(Self { keyboard, is_gone, screen: Some(screen), program })
    }

    pub(crate) fn press(&mut self, keys: &[u8]) -> std::io::Result<()> {
        self.keyboard.as_mut().expect("the terminal is there").write_all(keys)
    }

    /// Closes the far end, so that the kernel sends SIGHUP to the session.
    pub(crate) fn hang_up(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
        self.keyboard = None;
        if let Some(screen) = self.screen.take() {
            let _ = screen.join();
        }
    }
}

/// Whether this process ignores SIGHUP, as under nohup; its children inherit that.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|signals| u64::from_str_radix(signals.trim(), 16).ok());
    ignored.is_some_and(|signals| signals & 1 != 0)
}

fn is_readable(far: &impl AsFd) -> bool {
    let wait = Timespec::try_from(Duration::from_millis(20)).ok();
    let mut fds = [PollFd::new(far, PollFlags::IN)];
    poll(&mut fds, wait.as_ref()).is_ok_and(|ready| ready > 0)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.hang_up();
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
