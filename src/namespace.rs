//! Network namespaces: opening one, and doing something in it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, or by default that of the calling thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace {
    /// Kept open, so that the namespace can be entered again though the path is gone.
    file: Option<Arc<File>>,
}

impl Namespace {
    /// The namespace of a path; without one that of the calling thread.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = File::open(path).map_err(|error| {
            let text = format!("the network namespace {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self { file: Some(Arc::new(file)) })
    }

    /// Does something in the namespace: on a thread of its own, which ends here.
    pub(crate) fn run<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let Some(file) = &self.file else { return act() };
        let enter_and_act = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
                |errno| {
                    let error = io::Error::from(errno);
                    io::Error::new(error.kind(), format!("entering the network namespace: {error}"))
                },
            )?;
            act()
        };
        thread::scope(|scope| scope.spawn(enter_and_act).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace died")))
    }
}
