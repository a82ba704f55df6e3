//! tokio's reactor and timers: those of the runtime on which the client was connected, on whichever
//! executor the client is polled.

use std::io;
use std::panic::{UnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{AsyncSocket, TokioSocket};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::evented::{Reactor, is_of_the_reactor};
use super::{Sleep, SocketOrigin};

pub(crate) struct Tokio(Handle);

impl Tokio {
    fn open(&self, origin: &SocketOrigin) -> io::Result<TokioSocket> {
        // The thread that opens the socket may not belong to the runtime.
        origin.make(|| {
            let _entered = self.0.enter();
            unless_disabled(|| TokioSocket::new(NETLINK_GENERIC))?
        })
    }
}

impl Reactor for Tokio {
    type Socket = TokioSocket;

    fn current() -> io::Result<Self> {
        let text = "no tokio runtime here; connect inside of one, with I/O and time enabled";
        runtime_here(text).map(Self)
    }

    fn socket(&mut self, origin: &SocketOrigin) -> io::Result<TokioSocket> {
        match self.open(origin) {
            Err(error) if has_ended(&error) => {
                let next = Self(runtime_here(ENDED)?);
                let socket = next.open(origin)?;
                *self = next;
                Ok(socket)
            }
            outcome => outcome,
        }
    }

    fn timer(&self, until: Instant) -> Sleep {
        let runtime = self.0.clone();
        // A timer that is polled after the end of its runtime panics, whereas a task is cancelled.
        Box::pin(async move {
            if wait_on(&runtime, until).await {
                return Ok(());
            }
            let waited = wait_on(&runtime_here(ENDED)?, until).await;
            if waited { Ok(()) } else { Err(io::Error::other(ENDED)) }
        })
    }

    fn explained(error: io::Error) -> io::Error {
        if has_ended(&error) { io::Error::other(ENDED) } else { error }
    }
}

const ENDED: &str = "the tokio runtime that the client was connected on has ended; use the client \
                     inside of another, or connect anew";

const DISABLED: &str = "the tokio runtime here has I/O or time disabled; build it with enable_all(), or \
                        use the client inside of one that was";

/// Whether an error is tokio's for a runtime that has ended.
fn has_ended(error: &io::Error) -> bool {
    is_of_the_reactor(error) && error.kind() != io::ErrorKind::Unsupported
}

/// The runtime of the caller, which must have timers: a lack of them is an error here already, and
/// not only at the first wait.
fn runtime_here(unless_inside: &str) -> io::Result<Handle> {
    let runtime = Handle::try_current().map_err(|_| io::Error::other(unless_inside))?;
    unless_disabled(|| drop(sleep(Duration::ZERO)))?;
    Ok(runtime)
}

/// Asks a runtime for I/O and timers by catching tokio's panic, since tokio has no function that
/// tells.
fn unless_disabled<T>(make: impl FnOnce() -> T + UnwindSafe) -> io::Result<T> {
    catch_unwind(make).map_err(|_| io::Error::new(io::ErrorKind::Unsupported, DISABLED))
}

/// Waits on a runtime, and tells whether the runtime existed until the end.
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
        TokioTransport::from_origin(SocketOrigin::default())
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

    /// Once: waiting and reopening panicked if the caller's thread did not belong to the runtime.
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

    /// Once: the first request after the runtime had changed failed.
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

    /// A runtime of tokio that lacks I/O or timers.
    fn lacking(enable: fn(&mut Builder) -> &mut Builder) -> Runtime {
        enable(&mut Builder::new_current_thread()).build().unwrap()
    }

    const LACKING: [fn(&mut Builder) -> &mut Builder; 3] =
        [|builder| builder, Builder::enable_io, Builder::enable_time];

    #[track_caller]
    fn assert_is_explained(error: &io::Error, text: &str) {
        assert!(error.to_string().contains(text), "{error}");
    }

    /// Once: this panicked.
    #[test]
    fn connecting_outside_of_a_runtime_is_an_error() {
        let error = smol::block_on(crate::Client::connect_tokio()).err().unwrap();
        assert!(error.to_string().contains("no tokio runtime here"), "{error}");
    }

    /// Once: this panicked.
    #[test]
    fn connecting_where_io_or_time_is_disabled_is_an_error() {
        for enable in LACKING {
            let error = lacking(enable).block_on(async { open() }).err().unwrap();
            assert_is_explained(&error, "enable_all()");
        }
    }

    /// Once: in a task, opening the socket anew panicked, as did waiting.
    #[test]
    fn after_the_end_of_its_runtime_one_that_lacks_something_is_an_error() {
        for enable in LACKING {
            let mut transport = runtime().block_on(async { open() }).unwrap();
            lacking(enable).block_on(async {
                let not_sent = send(&mut transport).await.unwrap_err();
                assert_eq!(not_sent.kind(), io::ErrorKind::NotConnected);
                for _ in 0..2 {
                    assert_is_explained(&transport.reopen().unwrap_err(), "enable_all()");
                }
            });
            // In a runtime that lacks nothing the transport goes on.
            runtime().block_on(async {
                transport.reopen().unwrap();
                send(&mut transport).await.unwrap();
            });
        }
        let mut transport = runtime().block_on(async { open() }).unwrap();
        for enable in [LACKING[0], LACKING[1]] {
            let waited = lacking(enable).block_on(transport.sleep(Instant::now() + MOMENT));
            assert_is_explained(&waited.unwrap_err(), "enable_all()");
        }
    }

    /// Once: the error had tokio's own words, which do not say what to do.
    #[test]
    fn an_operation_under_way_when_its_runtime_ends_says_what_to_do() {
        let mut transport = runtime().block_on(async { open() }).unwrap();
        let error = smol::block_on(receive(&mut transport)).unwrap_err();
        assert_is_explained(&error, "use the client inside of another, or connect anew");
    }
}
