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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::runtime::{Builder, Runtime};

    use super::super::{AsyncTransport, Received, TokioTransport};
    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn open() -> io::Result<TokioTransport> {
        TokioTransport::from_origin(Origin::default())
    }

    async fn send(transport: &mut TokioTransport) -> io::Result<()> {
        // A message without contents, which asks for nothing.
        let mut nothing = [0; 16];
        nothing[..4].copy_from_slice(&16_u32.to_ne_bytes());
        poll_fn(|context| transport.poll_send(context, &nothing)).await
    }

    async fn receive(transport: &mut TokioTransport) -> io::Result<Received> {
        let (mut buffer, deadline) = (Vec::with_capacity(4096), Instant::now() + MOMENT);
        poll_fn(|context| transport.poll_receive(context, &mut buffer, deadline)).await
    }

    /// Once: waiting and reopening panicked where the caller's thread was none of the runtime's.
    #[test]
    fn a_socket_of_a_runtime_works_on_any_thread() {
        let runtime = runtime();
        let mut transport = runtime.block_on(async { open() }).unwrap();
        smol::block_on(async {
            for _ in 0..2 {
                transport.sleep(Instant::now() + MOMENT).await.unwrap();
                send(&mut transport).await.unwrap();
                let received = receive(&mut transport).await;
                assert_eq!(received.unwrap_err().kind(), io::ErrorKind::TimedOut);
                transport.reopen().unwrap();
            }
        });
    }

    /// Once: what was sent first in another runtime failed.
    #[test]
    fn a_socket_goes_on_in_another_runtime_once_its_own_has_ended() {
        let mut transport = runtime().block_on(async { open() }).unwrap();
        smol::block_on(async {
            let not_sent = send(&mut transport).await.unwrap_err();
            assert_eq!(not_sent.kind(), io::ErrorKind::NotConnected);
            for error in [
                transport.reopen().unwrap_err(),
                receive(&mut transport).await.unwrap_err(),
                transport.sleep(Instant::now() + MOMENT).await.unwrap_err(),
            ] {
                assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            }
        });
        runtime().block_on(async {
            transport.sleep(Instant::now() + MOMENT).await.unwrap();
            transport.reopen().unwrap();
            send(&mut transport).await.unwrap();
        });
    }

    /// Once: it panicked.
    #[test]
    fn connecting_outside_of_a_runtime_is_an_error() {
        let error = smol::block_on(crate::Client::connect_tokio()).err().unwrap();
        assert!(error.to_string().contains("no tokio runtime here"), "{error}");
    }
}
