//! Clients of both kinds, connected to the fake kernel and used alike.

pub(crate) mod noting;
pub(crate) mod rules;

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use ipvs_netlink::Report;
use ipvs_netlink::fake::{Kernel, Link};
use ipvs_netlink::transport::{AsyncTransport, Received, Sleep};
use ipvs_netlink::{Error, Incomplete, Operation, Policy, Results, Ruleset, blocking};
use tokio::runtime::{self, Runtime};
use tokio::task::yield_now;

/// A link whose every call first waits for a wake-up, as a call of a socket may.
pub(crate) struct Pausing {
    link: Link,
    paused: bool,
}

impl Pausing {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, paused: false }
    }

    fn pause(&mut self, context: &mut Context<'_>) -> bool {
        self.paused = !self.paused;
        if self.paused {
            context.waker().wake_by_ref();
        }
        self.paused
    }
}

impl AsyncTransport for Pausing {
    fn poll_send(&mut self, context: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        if self.pause(context) { Poll::Pending } else { self.link.poll_send(context, datagram) }
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        deadline: Instant,
    ) -> Poll<io::Result<Received>> {
        if self.pause(context) {
            return Poll::Pending;
        }
        self.link.poll_receive(context, buffer, deadline)
    }

    fn sleep(&mut self, until: Instant) -> Sleep {
        let sleep = self.link.sleep(until);
        Box::pin(async move {
            yield_now().await;
            sleep.await
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        AsyncTransport::reopen(&mut self.link)
    }

    fn now(&self) -> Instant {
        AsyncTransport::now(&self.link)
    }
}

/// The kinds of clients.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Blocking,
    Tokio,
}

/// Both kinds.
pub(crate) const KINDS: [Kind; 2] = [Kind::Blocking, Kind::Tokio];

/// A client of either kind, whose methods wait for the end of the operation.
pub(crate) enum Client {
    Blocking(blocking::Client),
    Tokio(ipvs_netlink::Client, Runtime),
}

impl Client {
    pub(crate) fn connect_to(kernel: &Kernel, kind: Kind) -> Self {
        match kind {
            Kind::Blocking => Self::Blocking(kernel.connect().unwrap()),
            Kind::Tokio => {
                let runtime = runtime::Builder::new_current_thread().build().unwrap();
                let link = Pausing::new(kernel.link());
                let client = runtime.block_on(ipvs_netlink::Client::connect_with(link));
                Self::Tokio(client.unwrap(), runtime)
            }
        }
    }

    pub(crate) fn ruleset(&mut self) -> Result<Ruleset, Error> {
        match self {
            Self::Blocking(client) => client.ruleset(),
            Self::Tokio(client, runtime) => runtime.block_on(client.ruleset()),
        }
    }

    pub(crate) fn sync(&mut self, wanted: &Ruleset) -> Result<Report, Incomplete> {
        let policy = Policy::new();
        match self {
            Self::Blocking(client) => client.sync(wanted, &policy),
            Self::Tokio(client, runtime) => runtime.block_on(client.sync(wanted, &policy)),
        }
    }

    pub(crate) fn batch(&mut self, operations: &[Operation]) -> Result<Results, Error> {
        let operations = operations.iter().copied();
        match self {
            Self::Blocking(client) => client.batch(operations),
            Self::Tokio(client, runtime) => runtime.block_on(client.batch(operations)),
        }
    }

    /// Runs an operation that adds something, by the client's own method.
    pub(crate) fn run(&mut self, operation: &Operation) -> Result<(), Error> {
        match (operation, self) {
            (Operation::AddService(service), Self::Blocking(client)) => client.add_service(service),
            (Operation::AddService(service), Self::Tokio(client, runtime)) => {
                runtime.block_on(client.add_service(service))
            }
            (Operation::AddDestination(key, destination), Self::Blocking(client)) => {
                client.add_destination(*key, destination)
            }
            (Operation::AddDestination(key, destination), Self::Tokio(client, runtime)) => {
                runtime.block_on(client.add_destination(*key, destination))
            }
            (other, _) => unreachable!("{other}"),
        }
    }
}
