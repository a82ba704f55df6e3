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
use crate::options::Conversation;
use crate::protocol::{Batch, Operation};
use crate::results::Results;
use crate::ruleset::{Plan, Policy, Ruleset};
use crate::session::{Session, trace};
use crate::sync::{Event, Incomplete, Report, Syncer, Turns};
use crate::transport::AsyncTransport;

/// A client whose operations are futures, for any executor that drives tokio's or smol's reactor.
///
/// It has the operations of [`blocking::Client`](crate::blocking::Client) by the same names. Clones
/// share one socket: an operation waits for those before it, in order of their first poll, by a
/// lock. Those that make a table as wanted hold it for one step at a time, and not while
/// destinations drain. There is no task in the background, so nothing queues without bound and an
/// error goes to the one who asked. Those who want requests of several tasks under way at once
/// connect several clients.
///
/// A future may be dropped at any time: operations after it are not disturbed. But the kernel may
/// have run what was sent already, so the outcome of a dropped change is not known.
#[derive(Clone)]
pub struct Client {
    session: Arc<Mutex<Session>>,
}

impl Client {
    /// Connects to the kernel on the tokio runtime of the caller, which has I/O and time enabled.
    ///
    /// That runtime serves the client for as long as it runs, on whatever thread or executor the
    /// client is polled; a `current_thread` runtime runs inside of its `block_on` alone. Once it has
    /// ended, the client goes on in the runtime that it is used in.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the kernel has no IPVS; an error, too, outside of a tokio
    /// runtime.
    ///
    /// # Panics
    /// On a runtime without I/O or time enabled, as tokio's own sockets and timers do.
    #[cfg(feature = "tokio")]
    pub async fn connect_tokio() -> Result<Self, Error> {
        crate::Options::new().connect_tokio().await
    }

    /// Connects to the kernel on whatever executor drives `async-io`, as smol's does.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the kernel has no IPVS.
    #[cfg(feature = "smol")]
    pub async fn connect_smol() -> Result<Self, Error> {
        crate::Options::new().connect_smol().await
    }

    /// Connects over a transport of the caller's.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the other side has no IPVS.
    pub async fn connect_with(transport: impl AsyncTransport + 'static) -> Result<Self, Error> {
        Self::connect_over(transport, Conversation::default()).await
    }

    pub(crate) async fn connect_over(
        transport: impl AsyncTransport + 'static,
        mut conversation: Conversation,
    ) -> Result<Self, Error> {
        conversation.window.get_or_insert(WINDOW);
        conversation.yields = true;
        let mut session = Session::new(Box::new(transport), conversation);
        trace::in_operation("connect", session.resolve_family()).await?;
        Ok(Self { session: Arc::new(Mutex::new(session)) })
    }
}

/// One send holds the executor: some hundreds of microseconds with this many operations.
const WINDOW: usize = 64;

/// Makes asynchronous methods of the operations.
///
/// That they are `Send` is part of their signatures. Where the compiler has to find out by itself,
/// it does not for an iterator that borrows.
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
