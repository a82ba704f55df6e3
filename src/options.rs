//! The settings of a client's connection to the kernel.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Cause, Error};
use crate::namespace::Namespace;
use crate::proc::Proc;
use crate::protocol::Request;
use crate::session::Limits;
use crate::transport::NetlinkSocket;
use crate::{blocking, proc, transport};

/// The settings of a client's connection to the kernel.
///
/// ```no_run
/// use std::time::Duration;
/// use ipvs_netlink::Options;
///
/// let ipvs = Options::new()
///     .timeout(Duration::from_secs(2))
///     .namespace("/run/netns/blue")
///     .connect()?;
/// # Ok::<(), ipvs_netlink::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(crate) limits: Limits,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
    namespace: Option<PathBuf>,
}

impl Options {
    /// The defaults: [`connect`](Self::connect) then uses a timeout of 10 s, the system's buffers
    /// and the caller's network namespace.
    pub fn new() -> Self {
        Self::default()
    }

    /// For how long the kernel may be silent before a request ends with an error, by default 10 s.
    /// The kernel takes seconds to stop a sync daemon, and microseconds to milliseconds for every
    /// other request.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = timeout;
        self
    }

    /// The most operations of a batch that are sent at once, at least 1.
    ///
    /// The default, which is also the upper limit, is one operation for each 2,048 bytes of the
    /// receive buffer (104 with Linux's usual 212,992 bytes): if all of them fail, no answer is
    /// lost. The default of asynchronous clients is at most 64, since one send blocks the executor
    /// for as long as the kernel works on it.
    #[must_use]
    pub fn window(mut self, operations: usize) -> Self {
        self.limits.window = Some(operations.max(1));
        self
    }

    /// The size of the socket's receive buffer, in bytes. The kernel doubles the size; without
    /// `CAP_NET_ADMIN` it limits the size to the sysctl `net.core.rmem_max`.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The size of the socket's send buffer, in bytes. The kernel doubles the size; without
    /// `CAP_NET_ADMIN` it limits the size to the sysctl `net.core.wmem_max`.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// The network namespace at a path, such as `/run/netns/blue`. Connecting then needs
    /// `CAP_SYS_ADMIN`.
    ///
    /// A separate thread enters the namespace to open the socket, and has ended when the client is
    /// connected; the caller's thread stays in its own namespace.
    #[must_use]
    pub fn namespace(mut self, path: impl Into<PathBuf>) -> Self {
        self.namespace = Some(path.into());
        self
    }

    /// The network namespace of a process. As [`namespace`](Self::namespace).
    #[must_use]
    pub fn namespace_of(self, pid: u32) -> Self {
        self.namespace(format!("/proc/{pid}/ns/net"))
    }

    /// Connects a blocking client.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the kernel has no IPVS; [`Error::is_permission_denied`]
    /// where the namespace may not be entered.
    pub fn connect(&self) -> Result<blocking::Client, Error> {
        self.connect_with(self.open(NetlinkSocket::from_origin)?)
    }

    /// Connects a blocking client over a transport that the caller brings, or to a fake kernel by
    /// its `Kernel::link`. The options for namespace and buffers have no effect on the transport.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the other side has no IPVS.
    pub fn connect_with(
        &self,
        transport: impl transport::Transport + 'static,
    ) -> Result<blocking::Client, Error> {
        blocking::Client::connect_over(transport, self.limits)
    }

    /// Connects an asynchronous client, as [`connect_with`](Self::connect_with).
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the other side has no IPVS.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub async fn connect_async_with(
        &self,
        transport: impl transport::AsyncTransport + 'static,
    ) -> Result<crate::Client, Error> {
        crate::Client::connect_over(transport, self.limits).await
    }

    /// Connects an asynchronous client on the tokio runtime of the caller; see
    /// [`Client::connect_tokio`](crate::Client::connect_tokio).
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and an error outside of a tokio runtime, or on a
    /// runtime without I/O or time enabled.
    #[cfg(feature = "tokio")]
    pub async fn connect_tokio(&self) -> Result<crate::Client, Error> {
        self.connect_async_with(self.open(transport::TokioTransport::from_origin)?).await
    }

    /// Connects an asynchronous client to any executor that drives `async-io`, as smol's does.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    #[cfg(feature = "smol")]
    pub async fn connect_smol(&self) -> Result<crate::Client, Error> {
        self.connect_async_with(self.open(transport::SmolTransport::from_origin)?).await
    }

    /// The connection table, counters and sysctls of the same network namespace. Timeout, window
    /// and buffers have no effect on them.
    ///
    /// The namespace is missing, or may not be opened. A caller who may not enter the namespace
    /// gets an error when the first file is read.
    pub fn proc(&self) -> Result<Proc, proc::Error> {
        let namespace = Namespace::open(self.namespace.as_deref());
        namespace.map(Proc::in_namespace).map_err(proc::Error::enter)
    }

    /// The same for a namespace that was entered, to see whether the caller may enter it.
    pub(crate) fn entered(&self) -> Result<Proc, proc::Error> {
        let namespace = Namespace::open(self.namespace.as_deref());
        namespace
            .and_then(|namespace| namespace.try_entering().map(|()| Proc::in_namespace(namespace)))
            .map_err(proc::Error::enter)
    }

    fn open<T>(
        &self,
        open: impl FnOnce(transport::SocketOrigin) -> std::io::Result<T>,
    ) -> Result<T, Error> {
        transport::SocketOrigin::new(
            self.namespace.as_deref(),
            self.receive_buffer,
            self.send_buffer,
        )
        .and_then(open)
        .map_err(|error| Error::new(Request::Open, Cause::socket(error)))
    }
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use super::*;
    use crate::fake::{Fault, Kernel};
    use crate::protocol::Operation;
    use crate::transport::Transport as _;

    #[test]
    fn a_request_ends_once_the_kernel_was_silent_for_too_long() {
        let seconds = Duration::from_secs;
        for (timeout, silence, in_time) in [(2, 3, false), (4, 3, true), (20, 15, true)] {
            let kernel = Kernel::new();
            let mut client =
                Options::new().timeout(seconds(timeout)).connect_with(kernel.link()).unwrap();
            kernel.inject(2, Fault::Delay(seconds(silence)));
            let outcome = client.info().map(drop);
            assert_eq!(outcome.is_ok(), in_time, "{timeout} s: {outcome:?}");
            assert!(outcome.err().is_none_or(|error| error.is_timed_out()), "{timeout} s");
        }
    }

    /// Each window is a send and a receive.
    #[test]
    fn a_window_has_as_many_operations_as_were_asked_for() {
        for (window, windows) in [(0, 10), (1, 10), (3, 4), (10, 1), (1000, 1)] {
            let kernel = Kernel::new();
            let mut client = Options::new().window(window).connect_with(kernel.link()).unwrap();
            let before = kernel.steps();
            assert_eq!(client.batch([Operation::Zero; 10]).unwrap().len(), 10);
            assert_eq!(kernel.steps() - before, 2 * windows, "windows of {window}");
        }
    }

    /// The kernel doubles the size that it is asked for.
    #[test]
    fn buffers_are_as_large_as_was_asked_for() {
        let options = Options::new().receive_buffer(10_000).send_buffer(20_000);
        let socket = options.open(NetlinkSocket::from_origin).unwrap();
        assert_eq!(socket.receive_capacity(), 20_000);
        assert!((39_000..=40_000).contains(&socket.send_capacity()));
    }
}
