//! The files of a change on trial: the old rules, a lock, a socket and a log.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::support::output::{complain, origin, quoted};

/// The place of these files: a folder, and a name that stands for the network namespace.
pub(crate) struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    pub(crate) fn new(folder: Option<&Path>) -> anyhow::Result<Self> {
        let folder = match folder {
            Some(folder) => std::path::absolute(folder)?,
            None => usual_folder()?,
        };
        let namespace = std::fs::metadata("/proc/self/ns/net").context("/proc/self/ns/net")?;
        let place = Self { folder, name: format!("net-{}", namespace.ino()) };
        let socket = place.socket();
        SocketAddr::from_pathname(&socket).with_context(|| {
            let length = socket.as_os_str().len();
            format!(
                "a socket cannot have a path of {length} bytes; name a shorter folder with --state"
            )
        })?;
        Ok(place)
    }

    /// The file of old rules.
    pub(crate) fn before(&self) -> PathBuf {
        self.path("ipvs")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }

    /// Whether a change is on trial.
    pub(crate) fn is_taken(&self) -> anyhow::Result<bool> {
        if !self.folder.exists() {
            return Ok(false);
        }
        self.check_folder()?;
        Ok(self.lock()?.is_none())
    }

    /// The last line of the log.
    pub(crate) fn last_words(&self) -> Option<String> {
        let log = std::fs::read_to_string(self.path("log")).ok()?;
        log.lines().last().map(str::to_owned)
    }

    /// Advice for the case that a guard was killed.
    pub(crate) fn left_over(&self) -> String {
        format!(
            "if the change was made, the old rules are in {0}, whose first lines say how to go back; \
             remove that file to keep the change",
            self.before().display()
        )
    }

    /// The commands that decide on the change that waits.
    fn how_to_decide(&self) -> String {
        let keep =
            format!("to keep the change: sync --confirm-now --state {}", quoted(&self.folder));
        match std::fs::read_to_string(self.path("lock")) {
            Ok(process) if !process.is_empty() => {
                format!("{keep}\nto go back at once: kill {process}")
            }
            _ => keep,
        }
    }

    /// Takes the lock, unless another process has it. The lock ends with its process.
    fn lock(&self) -> anyhow::Result<Option<File>> {
        let path = self.path("lock");
        let file = options().open(&path).with_context(|| path.display().to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Checks that the folder is this user's alone, so that nobody else can put a link there.
    fn check_folder(&self) -> anyhow::Result<()> {
        let folder = self.folder.display();
        let metadata =
            std::fs::symlink_metadata(&self.folder).with_context(|| folder.to_string())?;
        let is_ours = metadata.is_dir() && metadata.uid() == geteuid().as_raw();
        let of_others = metadata.mode() & 0o077;
        ensure!(
            is_ours && of_others == 0,
            "{folder} is not a folder of this user alone; name another with --state"
        );
        Ok(())
    }
}

/// The default folder. Root's is not below `$XDG_RUNTIME_DIR`, which is removed with root's last
/// session, and the change itself may end that session.
fn usual_folder() -> anyhow::Result<PathBuf> {
    let folder = if geteuid().is_root() {
        PathBuf::from("/run")
    } else {
        let folder = std::env::var_os("XDG_RUNTIME_DIR").context("--state is needed")?;
        PathBuf::from(folder)
    };
    Ok(folder.join("ipvs-sync"))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag of open(2)");
    options.create(true).append(true).mode(0o600).custom_flags(no_link);
    options
}

/// A change on trial.
pub(crate) struct Pending {
    place: Place,
    _lock: File,
    log: File,
}

impl Pending {
    /// Writes the file of old rules, which is on the disk when this returns.
    pub(crate) fn begin(place: Place, before: &str) -> anyhow::Result<(Self, UnixListener)> {
        let folder = &place.folder;
        let name = || folder.display().to_string();
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| {
                    format!("cannot make {}; name another folder with --state", name())
                });
            }
            _ => place.check_folder()?,
        }
        let Some(lock) = place.lock()? else {
            complain!("{}", place.how_to_decide());
            bail!("a change waits to be confirmed already");
        };
        // A process that finds the lock taken reads who holds it.
        lock.set_len(0)?;
        write!(&lock, "{}", std::process::id())?;
        let file = place.before();
        ensure!(!file.exists(), "an earlier change was never decided: {}", place.left_over());

        let mut new = tempfile::NamedTempFile::new_in(folder).with_context(name)?;
        new.write_all(before.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist_noclobber(&file).with_context(|| file.display().to_string())?;
        File::open(folder)?.sync_all()?;

        let begun = || {
            let socket = place.socket();
            // The socket of a guard that was killed.
            if socket.exists() {
                std::fs::remove_file(&socket)?;
            }
            let log = options().open(place.path("log"))?;
            log.set_len(0)?;
            Ok::<_, io::Error>((log, UnixListener::bind(socket)?))
        };
        match begun() {
            Ok((log, listener)) => Ok((Self { place, _lock: lock, log }, listener)),
            Err(error) => {
                std::fs::remove_file(&file)?;
                Err(error).with_context(name)
            }
        }
    }

    /// The file of old rules.
    pub(crate) fn before(&self) -> PathBuf {
        self.place.before()
    }

    /// The commands that decide on this change.
    pub(crate) fn how_to_decide(&self) -> String {
        self.place.how_to_decide()
    }

    /// Writes a line into the log, which tells an operator who comes back the outcome of the
    /// change.
    pub(crate) fn note(&mut self, line: &str) {
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let _ = writeln!(self.log, "{time} {}{}", origin(), line.replace('\n', "; "));
    }

    /// Removes the socket and the old rules: the change is decided.
    pub(crate) fn end(self) -> io::Result<()> {
        std::fs::remove_file(self.place.socket())?;
        std::fs::remove_file(self.place.before())
    }
}
