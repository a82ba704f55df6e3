//! Whether KVM works on this machine: only a guest that has started under KVM proves it, and the result is kept for the host's
//! kernel.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::guest::{Guest, Task};
use super::initramfs::Tree;
use super::kernel::Kernel;
use super::qemu::Accelerator;
use crate::progress::Progress;

/// With KVM a guest is up in two seconds; where KVM is broken the guest never comes up.
const PATIENCE: Duration = Duration::from_secs(20);

/// KVM if it works, else translation, which works everywhere.
pub(super) fn choose(kernel: &Kernel, cache: &Path) -> Result<Accelerator> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if device.is_err() {
        return Ok(Accelerator::Tcg);
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let file = cache.join("kvm");
    let (works, fails) = (format!("works on {host}"), format!("fails on {host}"));
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    if known == works {
        return Ok(Accelerator::Kvm);
    }
    if known == fails {
        return Ok(Accelerator::Tcg);
    }
    let probed = {
        let _progress = Progress::start("probing KVM");
        let guest = Guest {
            kernel,
            accelerator: Accelerator::Kvm,
            memory: 1024,
            timeout: PATIENCE,
            cache,
            without: &[],
            tree: Tree::default(),
        };
        guest.run(&Task::Probe, &mut std::io::sink(), &mut std::io::sink())
    };
    let Err(error) = probed else {
        std::fs::write(file, works)?;
        return Ok(Accelerator::Kvm);
    };
    std::fs::write(&file, fails)?;
    let why = error.to_string();
    eprintln!(
        "note: guests run without KVM, by which none came up ({}); remove {} to try it again",
        why.lines().next().unwrap_or_default(),
        file.display()
    );
    Ok(Accelerator::Tcg)
}
