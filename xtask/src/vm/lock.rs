//! Locks for two commands that use one `target` at once: each waits while the other writes there.

use std::fs::File;
use std::path::Path;
use std::sync::Once;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};

/// Keeps other commands from writing below a folder for as long as the file is open. Programs that are started meanwhile inherit
/// the open file: if the command is killed and they go on, as apt does, the next command waits for them.
pub(super) fn exclusive(folder: &Path) -> Result<File> {
    static SAID: Once = Once::new();
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    fcntl_setfd(&file, FdFlags::empty())?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let folder = folder.display();
        SAID.call_once(|| eprintln!("waiting for another cargo xtask, which writes in {folder} …"));
        flock(&file, FlockOperation::LockExclusive)?;
    }
    Ok(file)
}

/// Keeps a folder from being [removed](remove_unused) for as long as the file is open.
pub(super) fn in_use(folder: &Path) -> Result<File> {
    let file = File::open(folder)?;
    flock(&file, FlockOperation::LockShared)?;
    Ok(file)
}

/// Removes a folder that nobody uses.
pub(super) fn remove_unused(folder: &Path) -> Result<()> {
    if flock(File::open(folder)?, FlockOperation::NonBlockingLockExclusive).is_ok() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Removes the unfinished files that killed commands left in a folder. The caller holds the lock: nobody else works there.
pub(super) fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
            let remove = if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all
            } else {
                std::fs::remove_file
            };
            remove(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn one_waits_for_the_other() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let held = exclusive(folder.path())?;
            let other = scope.spawn(|| {
                let _held = exclusive(folder.path())?;
                anyhow::ensure!(done.load(Ordering::SeqCst), "it did not wait");
                Ok(())
            });
            // The other thread gets a chance to be wrong.
            std::thread::sleep(std::time::Duration::from_millis(50));
            done.store(true, Ordering::SeqCst);
            drop(held);
            other.join().expect("no panic")
        })
    }

    #[test]
    fn what_a_killed_command_started_is_waited_for() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let held = exclusive(folder.path())?;
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
        drop(held);
        let file = File::open(folder.path().join("lock"))?;
        assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(child.stdin.take());
        child.wait()?;
        exclusive(folder.path())?;
        Ok(())
    }

    #[test]
    fn what_is_used_stays_and_what_was_left_goes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let used = folder.path().join("used");
        std::fs::create_dir(&used)?;
        let (first, second) = (in_use(&used)?, in_use(&used)?);
        drop(first);
        remove_unused(&used)?;
        assert!(used.exists());
        drop(second);
        // A program that another test is starting just now may have the file open for a moment.
        while used.exists() {
            remove_unused(&used)?;
        }

        std::fs::create_dir_all(folder.path().join(".tmpA/root"))?;
        for file in [".tmpB", "6.1.cpio"] {
            std::fs::write(folder.path().join(file), "")?;
        }
        remove_leftovers(folder.path())?;
        let left: Vec<_> = std::fs::read_dir(folder.path())?.flatten().collect();
        assert!(left.len() == 1 && left[0].file_name() == "6.1.cpio", "{left:?}");
        Ok(())
    }
}
