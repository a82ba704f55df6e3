//! The origin of the files below `/proc`: the host's procfs, in a network namespace.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::namespace::Namespace;

/// The files below `/proc`, by their paths below it: `net/ip_vs_conn`, `sys/net/ipv4/vs/conntrack`.
pub(crate) trait Files: Send + Sync {
    /// Opens a file for reading.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>>;

    /// Writes a text into an existing file, in one write.
    fn write(&self, path: &str, text: &str) -> io::Result<()>;

    /// The names of the files in a folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// The target of a symbolic link.
    fn link(&self, path: &str) -> io::Result<String>;

    /// The modules that are installed for a release; `None` if they are not known.
    fn modules(&self, release: &str) -> Option<ModuleIndex>;

    /// Whether the kernel can run the program at an absolute path; `None` if this is not known, as
    /// in a container, whose files are not those that the kernel sees.
    fn is_program(&self, path: &str) -> Option<bool>;
}

/// Two files below `/lib/modules`.
pub(crate) struct ModuleIndex {
    /// `modules.dep`: the modules that can be loaded.
    pub(crate) dependencies: String,
    /// `modules.builtin`: the modules that are built into the kernel.
    pub(crate) builtin: String,
}

/// The initial namespace of processes, whose inode has [the same number][nsfs.h] on each host.
///
/// [nsfs.h]: https://github.com/torvalds/linux/blob/v6.18/include/uapi/linux/nsfs.h
#[cfg(unix)]
const INITIAL_PIDS: &str = "pid:[4026531836]";

/// The host's procfs. A file belongs to the network namespace of the thread that opens it.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) namespace: Namespace,
}

/// The path of a file for the calling thread. `/proc/net` belongs to the process's first thread,
/// whose network namespace can be another.
fn path_of_thread(path: &str) -> String {
    match path.strip_prefix("net/") {
        Some(_) => format!("/proc/thread-self/{path}"),
        None => format!("/proc/{path}"),
    }
}

/// The name of a file as text. A file whose name is not UTF-8 could not be opened again.
fn text(name: OsString) -> io::Result<String> {
    name.into_string().map_err(|name| {
        let name = name.as_encoded_bytes().escape_ascii();
        let what = format!("the name {name} is not UTF-8: rename what has it");
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

impl Files for Host {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
        let file = self.namespace.run(|| fs::File::open(path_of_thread(path)))?;
        Ok(Box::new(file))
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        self.namespace.run(|| {
            let mut file = fs::OpenOptions::new().write(true).open(path_of_thread(path))?;
            io::Write::write_all(&mut file, text.as_bytes())
        })
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.namespace.run(|| {
            fs::read_dir(path_of_thread(folder))?.map(|entry| text(entry?.file_name())).collect()
        })
    }

    fn link(&self, path: &str) -> io::Result<String> {
        let target = self.namespace.run(|| fs::read_link(path_of_thread(path)))?;
        Ok(target.to_string_lossy().into_owned())
    }

    fn modules(&self, release: &str) -> Option<ModuleIndex> {
        let folder = Path::new("/lib/modules").join(release);
        let dependencies = fs::read_to_string(folder.join("modules.dep")).ok()?;
        let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        Some(ModuleIndex { dependencies, builtin })
    }

    fn is_program(&self, path: &str) -> Option<bool> {
        is_program(path)
    }
}

#[cfg(unix)]
fn is_program(path: &str) -> Option<bool> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let link = |path: &str| fs::read_link(path).ok();
    let folder = |path: &str| fs::metadata(path).ok().map(|folder| (folder.dev(), folder.ino()));
    let sees_what_the_kernel_sees = link("/proc/thread-self/ns/pid")?.as_os_str() == INITIAL_PIDS
        && link("/proc/thread-self/ns/mnt")? == link("/proc/1/ns/mnt")?
        && folder("/")? == folder("/proc/1/root")?;
    if !sees_what_the_kernel_sees {
        return None;
    }
    match fs::metadata(path) {
        Ok(file) => Some(file.is_file() && file.permissions().mode() & 0o111 != 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// Other systems have no procfs.
#[cfg(not(unix))]
fn is_program(_: &str) -> Option<bool> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_name_that_is_no_text_is_an_error() {
        assert_eq!(text("eth0".into()).unwrap(), "eth0");
        let error = text(OsString::from_vec(b"eth\xff".to_vec())).unwrap_err();
        assert_eq!(error.to_string(), r"the name eth\xff is not UTF-8: rename what has it");
    }
}
