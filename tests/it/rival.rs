//! A rival: another program that writes to the same table.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;

/// The real `ipvsadm`, changing the table at random until it is told to stop.
pub(crate) struct Rival {
    stop: Arc<AtomicBool>,
    runs: Arc<AtomicUsize>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Rival {
    /// Starts the rival with commands to choose from; `enter` brings its thread into their
    /// namespace.
    pub(crate) fn start(
        lines: Vec<String>,
        enter: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        let (stop, runs) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, run) = (Arc::clone(&stop), Arc::clone(&runs));
        let thread = std::thread::spawn(move || {
            enter()?;
            // A generator that goes through all numbers of 64 bits.
            let mut random = 1_u64;
            while !stopped.load(Ordering::Relaxed) {
                let mut text = String::new();
                for _ in 0..10 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let index = usize::try_from(random >> 33)? % lines.len();
                    text.extend([lines[index].as_str(), "\n"]);
                }
                // Most commands fail, since the rules that they would change are missing.
                let mut ipvsadm = Command::new("ipvsadm")
                    .arg("-R")
                    .stdin(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()?;
                let _ = ipvsadm.stdin.take().context("a pipe")?.write_all(text.as_bytes());
                ipvsadm.wait()?;
                run.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { stop, runs, thread }
    }

    /// How often it ran until now.
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::Relaxed)
    }

    /// Stops the rival; returns how often it ran.
    pub(crate) fn stop(self) -> anyhow::Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the rival does not panic")?;
        Ok(self.runs.load(Ordering::Relaxed))
    }
}
