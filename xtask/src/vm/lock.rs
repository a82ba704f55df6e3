//! Two commands at once in one `target`: each waits while the other writes there.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

/// Keeps other commands from writing below a folder for as long as the file is open.
pub(super) fn exclusive(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("waiting for another cargo xtask, which writes in {} …", folder.display());
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

/// Removes what killed commands left half done in a folder. Whoever calls this holds the lock, so that nobody works there.
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
            // The other is given its chance to be wrong.
            std::thread::sleep(std::time::Duration::from_millis(50));
            done.store(true, Ordering::SeqCst);
            drop(held);
            other.join().expect("no panic")
        })
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
        remove_unused(&used)?;
        assert!(!used.exists());

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
