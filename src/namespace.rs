//! Network namespaces: opening one, and running a function in it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// A network namespace, or by default that of the calling thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace {
    /// Kept open, so that the namespace can be entered again after its path is gone.
    file: Option<Arc<File>>,
}

impl Namespace {
    /// The namespace at a path; without a path, that of the calling thread.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = File::open(path).map_err(|error| {
            let text = format!("the network namespace {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self { file: Some(Arc::new(file)) })
    }

    /// Runs a function in the namespace, on a thread of its own that ends before this returns.
    pub(crate) fn run<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let Some(file) = &self.file else { return act() };
        on_a_thread(|| {
            enter(file).map_err(|error| {
                io::Error::new(error.kind(), format!("entering the network namespace: {error}"))
            })?;
            act()
        })
    }

    /// Whether the namespace may be entered.
    pub(crate) fn try_entering(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| on_a_thread(|| enter(file)))
    }
}

fn on_a_thread<T: Send>(act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(act).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace died")))
}

/// Moves the calling thread into the namespace.
#[cfg(target_os = "linux")]
fn enter(namespace: &File) -> io::Result<()> {
    use std::os::fd::AsFd as _;

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

#[cfg(not(target_os = "linux"))]
fn enter(_: &File) -> io::Result<()> {
    Err(unsupported())
}

/// The error, on other systems, of a function that only Linux supports.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unsupported() -> io::Error {
    let system = std::env::consts::OS;
    let text = format!("only Linux has IPVS, and this program was built for {system}");
    io::Error::new(io::ErrorKind::Unsupported, text)
}
