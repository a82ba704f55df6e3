//! The blocking client.

use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::model::{
    DaemonRole, Destination, DestinationEntry, DestinationKey, Info, Service, ServiceEntry,
    ServiceKey, SyncDaemon, Table, Timeouts, TimeoutsUpdate,
};
use crate::operations::operations;
use crate::options::Options;
use crate::protocol::Operation;
use crate::results::Results;
use crate::ruleset::{Plan, Policy, Ruleset};
use crate::session::{BatchOptions, Limits, Session, trace};
use crate::sync::{Incomplete, Report, SyncEvent, Syncer, Turns};
use crate::transport::{Immediate, Transport};

/// A client that waits for the kernel's answers.
///
/// Every operation, also one that only reads, needs `CAP_NET_ADMIN` in the initial user namespace.
/// A failed operation leaves the client ready for the next.
///
/// ```no_run
/// use std::net::Ipv4Addr;
/// use ipvs_netlink::{Destination, Scheduler, Service, blocking::Client};
///
/// let mut ipvs = Client::connect()?;
/// let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin);
/// ipvs.add_service(&web)?;
/// ipvs.add_destination(web.key, &Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 8080))?;
/// # Ok::<(), ipvs_netlink::Error>(())
/// ```
#[derive(Debug)]
pub struct Client {
    session: Session,
}

impl Client {
    /// Connects to the kernel, in the caller's network namespace.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the kernel has no IPVS.
    pub fn connect() -> Result<Self, Error> {
        Options::new().connect()
    }

    /// Connects over a transport that the caller brings.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where the other side has no IPVS.
    pub fn connect_with(transport: impl Transport + 'static) -> Result<Self, Error> {
        Options::new().connect_with(transport)
    }

    pub(crate) fn connect_over(
        transport: impl Transport + 'static,
        limits: Limits,
    ) -> Result<Self, Error> {
        let mut session = Session::new(Box::new(Immediate(transport)), limits);
        run(trace::in_operation("connect", session.resolve_family()))?;
        Ok(Self { session })
    }
}

/// Makes blocking methods of the operations.
macro_rules! blocking_methods {
    ($how:ident: $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $output:ty;
    )*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub fn $name(&mut self, $($argument: $type),*) -> $output {
                    let operation = async { $how!(self.session).$name($($argument),*).await };
                    run(trace::in_operation(stringify!($name), operation))
                }
            )*
        }
    };
}

/// Holds the session from begin to end.
macro_rules! in_one_turn {
    ($client:ident.session) => {
        $client.session
    };
}

/// Takes the session for each step.
macro_rules! step_by_step {
    ($client:ident.session) => {
        Turns::Sole(&mut $client.session)
    };
}

operations!(blocking_methods);

/// Runs a conversation over a transport that is always ready.
fn run<F: Future>(conversation: F) -> F::Output {
    match pin!(conversation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a blocking transport is ready when polled"),
    }
}
