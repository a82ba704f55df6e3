//! The asynchronous client.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_lock::Mutex;

use crate::error::Error;
use crate::model::{
    DaemonRole, Destination, DestinationEntry, DestinationKey, Info, Service, ServiceEntry,
    ServiceKey, SyncDaemon, Table, Timeouts, TimeoutsUpdate,
};
use crate::operations::operations;
use crate::protocol::Operation;
use crate::results::Results;
use crate::ruleset::{Plan, Policy, Ruleset};
use crate::session::{BatchOptions, Limits, Session, trace};
use crate::sync::{Incomplete, Report, SyncEvent, Syncer, Turns};
use crate::transport::AsyncTransport;

/// A client whose operations are futures, for any executor that drives tokio's or smol's reactor.
///
/// It has the operations of [`blocking::Client`](crate::blocking::Client) by the same names. Clones
/// share one socket, and a lock lets one operation use it at a time. The order in which waiting
/// operations run is not promised: where the order matters, await one before you start the other.
/// `apply`, `sync` and `pass` hold the lock for one step at a time, and not while destinations
/// drain. No task runs in the background: no queue can grow without bound, and each caller gets its
/// own error.
///
/// To have requests of several tasks under way at once, connect several clients. To ask the kernel
/// within a callback of an operation, also connect another client: a clone would wait for the
/// operation, while the operation waits for the callback.
///
/// A future may be dropped at any time, and does not disturb later operations. The kernel may
/// already have run the requests that were sent, which leaves the outcome of a dropped change
/// unknown.
#[derive(Debug, Clone)]
pub struct Client {
    session: Arc<Mutex<Session>>,
}

impl Client {
    /// Connects to the kernel on the tokio runtime of the caller, which has I/O and time enabled.
    ///
    /// The client works on any thread and any executor for as long as that runtime runs; a
    /// `current_thread` runtime runs inside of its `block_on` alone. Once the runtime has ended,
    /// the client goes on in whichever runtime uses it.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the kernel has no IPVS. An error, too, outside of a tokio
    /// runtime, and on a runtime without I/O or time enabled. In the latter case tokio panics, and
    /// this function catches the panic: the panic hook prints it, and a program that is built with
    /// `panic = "abort"` ends.
    #[cfg(feature = "tokio")]
    pub async fn connect_tokio() -> Result<Self, Error> {
        crate::Options::new().connect_tokio().await
    }

    /// Connects to the kernel on any executor that drives `async-io`, as smol's does.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the kernel has no IPVS.
    #[cfg(feature = "smol")]
    pub async fn connect_smol() -> Result<Self, Error> {
        crate::Options::new().connect_smol().await
    }

    /// Connects over a transport that the caller brings.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the other side has no IPVS.
    pub async fn connect_with(transport: impl AsyncTransport + 'static) -> Result<Self, Error> {
        crate::Options::new().connect_async_with(transport).await
    }

    pub(crate) async fn connect_over(
        transport: impl AsyncTransport + 'static,
        mut limits: Limits,
    ) -> Result<Self, Error> {
        limits.window.get_or_insert(WINDOW);
        limits.yields = true;
        let mut session = Session::new(Box::new(transport), limits);
        trace::in_operation("connect", session.resolve_family()).await?;
        Ok(Self { session: Arc::new(Mutex::new(session)) })
    }
}

/// While one send runs, it blocks the executor: for some hundreds of microseconds with this many
/// operations.
const WINDOW: usize = 64;

/// Makes asynchronous methods of the operations.
///
/// The signatures say that the futures are `Send`. Left to infer this, the compiler fails where an
/// operation takes an iterator that borrows.
macro_rules! asynchronous_methods {
    ($how:ident: $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $output:ty;
    )*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub fn $name(
                    &self,
                    $($argument: $type),*
                ) -> impl Future<Output = $output> + Send {
                    let operation =
                        async move { $how!(self.session).$name($($argument),*).await };
                    trace::in_operation(stringify!($name), operation)
                }
            )*
        }
    };
}

/// Holds the session from begin to end.
macro_rules! in_one_turn {
    ($client:ident.session) => {
        $client.session.lock().await
    };
}

/// Takes the session for each step.
macro_rules! step_by_step {
    ($client:ident.session) => {
        Turns::Shared(&$client.session)
    };
}

operations!(asynchronous_methods);
