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
use crate::ruleset::{Plan, Policy, Ruleset};
use crate::session::{Session, trace};
use crate::sync::{Event, Report, Syncer};
use crate::transport::AsyncTransport;

/// A client whose operations are futures, for any executor that drives tokio's or smol's reactor.
///
/// It has the operations of [`blocking::Client`](crate::blocking::Client) by the same names. Clones
/// share one socket: an operation waits for those before it, in order of their first poll, by a
/// lock. There is no task in the background, so nothing queues without bound and an error goes to
/// the one who asked. Those who want requests of several tasks under way at once connect several
/// clients.
///
/// A future may be dropped at any time: operations after it are not disturbed. But the kernel may
/// have run what was sent already, so the outcome of a dropped change is not known.
#[derive(Clone)]
pub struct Client {
    session: Arc<Mutex<Session>>,
}

impl Client {
    /// Connects to the kernel on a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the kernel has no IPVS.
    ///
    /// # Panics
    /// Outside of such a runtime, as tokio's own sockets do.
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
        let mut session = Session::new(Box::new(transport), conversation);
        trace::in_operation("connect", session.resolve_family()).await?;
        Ok(Self { session: Arc::new(Mutex::new(session)) })
    }
}

/// One send holds the executor: some hundreds of microseconds with this many operations.
const WINDOW: usize = 64;

/// Makes asynchronous methods of the operations.
macro_rules! asynchronous_methods {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $output:ty;
    )*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $name(&self, $($argument: $type),*) -> Result<$output, Error> {
                    let operation =
                        async { self.session.lock().await.$name($($argument),*).await };
                    trace::in_operation(stringify!($name), operation).await
                }
            )*
        }
    };
}

operations!(asynchronous_methods);
