//! tokio's reactor and timers: those of the runtime that the client was connected on, wherever it is
//! polled.

use std::io;
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{AsyncSocket, TokioSocket};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::evented::{Reactor, is_of_the_reactor};
use super::{Origin, Sleep};

pub(crate) struct Tokio(Handle);

impl Tokio {
    fn open(&self, origin: &Origin) -> io::Result<TokioSocket> {
        // The socket may be opened on a thread that is none of the runtime's.
        origin.make(|| {
            let _entered = self.0.enter();
            TokioSocket::new(NETLINK_GENERIC)
        })
    }
}

impl Reactor for Tokio {
    type Socket = TokioSocket;

    fn current() -> io::Result<Self> {
        let text = "no tokio runtime here; connect inside of one, with I/O and time enabled";
        let runtime = Handle::try_current().map_err(|_| io::Error::other(text))?;
        // A runtime without timers shows when a client is connected, and not at its first wait.
        drop(sleep(Duration::ZERO));
        Ok(Self(runtime))
    }

    fn socket(&mut self, origin: &Origin) -> io::Result<TokioSocket> {
        match self.open(origin) {
            Err(error) if is_of_the_reactor(&error) => {
                self.0 = successor()?;
                self.open(origin)
            }
            outcome => outcome,
        }
    }

    fn timer(&self, until: Instant) -> Sleep {
        let runtime = self.0.clone();
        // A timer that is polled after the end of its runtime panics; a task is cancelled.
        Box::pin(async move {
            if wait_on(&runtime, until).await {
                return Ok(());
            }
            let waited = wait_on(&successor()?, until).await;
            if waited { Ok(()) } else { Err(io::Error::other(ENDED)) }
        })
    }
}

const ENDED: &str = "the tokio runtime that the client was connected on has ended; use the client \
                     inside of another, or connect anew";

/// The runtime of the caller, which takes the place of one that has ended.
fn successor() -> io::Result<Handle> {
    Handle::try_current().map_err(|_| io::Error::other(ENDED))
}

/// Waits on a runtime, and tells whether the runtime lasted as long.
async fn wait_on(runtime: &Handle, until: Instant) -> bool {
    let mut timer = JoinSet::new();
    timer.spawn_on(async move { sleep_until(until.into()).await }, runtime);
    matches!(timer.join_next().await, Some(Ok(())))
}
