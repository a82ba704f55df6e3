//! The conversations with the kernel, each written once for the blocking and the async client.
//!
//! They are `async` functions over [`AsyncTransport`]: values that the compiler turns into state
//! machines. The async client awaits them; the blocking client polls them once, over a transport
//! that is always ready, with neither runtime nor thread.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::error::{Cause, Error};
use crate::model::{
    DaemonRole, Destination, DestinationEntry, DestinationKey, Info, Service, ServiceEntry,
    ServiceKey, SyncDaemon, Table, TableService, Timeouts, TimeoutsUpdate,
};
use crate::protocol::{Engine, Exchange, Operation, Progress, Request, family_id};
use crate::ruleset::Ruleset;
use crate::transport::{AsyncTransport, Received};
use crate::wire::{DecodeError, Message};

/// The kernel's parts of a dump end at 32,448 bytes.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How long the kernel may be silent. Stopping a sync daemon takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client's state, whatever drives it.
pub(crate) struct Session {
    transport: Box<dyn AsyncTransport>,
    engine: Engine,
    incoming: Vec<u8>,
    /// A dump whose end has not been seen. The kernel runs one at a time on a socket, so it must
    /// be read to its end, or left behind with its socket, before the next.
    unfinished_dump: Option<Exchange>,
}

impl Session {
    pub(crate) fn new(transport: Box<dyn AsyncTransport>) -> Self {
        Self {
            transport,
            engine: Engine::default(),
            incoming: Vec::with_capacity(RECEIVE_BUFFER),
            unfinished_dump: None,
        }
    }

    /// Asks the kernel for the number of the family, so that a missing one shows at once.
    pub(crate) async fn resolve_family(&mut self) -> Result<(), Error> {
        let mut family = None;
        let request = Request::Family;
        self.exchange(request, |_, attributes| {
            family = Some(family_id(attributes)?);
            Ok(())
        })
        .await?;
        self.engine.set_family(family);
        family.map(drop).ok_or_else(|| Error::new(request, Cause::NoAnswer))
    }

    pub(crate) async fn info(&mut self) -> Result<Info, Error> {
        self.ask(Request::Info, |message| Info::try_from(message)).await
    }

    pub(crate) async fn services(&mut self) -> Result<Vec<ServiceEntry>, Error> {
        self.list(Request::Services, service_entry).await
    }

    pub(crate) async fn service(&mut self, key: ServiceKey) -> Result<ServiceEntry, Error> {
        self.ask(Request::Service(key), service_entry).await
    }

    pub(crate) async fn destinations(
        &mut self,
        service: ServiceKey,
    ) -> Result<Vec<DestinationEntry>, Error> {
        let destinations = self.list_destinations(service).await?;
        // The kernel answers for a service that is not there as for one without destinations.
        if destinations.is_empty() {
            self.service(service).await?;
        }
        Ok(destinations)
    }

    async fn list_destinations(
        &mut self,
        service: ServiceKey,
    ) -> Result<Vec<DestinationEntry>, Error> {
        self.list(Request::Destinations(service), |message| {
            let destination = message.destination.ok_or(DecodeError::Missing("DEST"))?;
            destination.entry(service.family())
        })
        .await
    }

    pub(crate) async fn destination(
        &mut self,
        service: ServiceKey,
        key: impl Into<DestinationKey> + Send,
    ) -> Result<DestinationEntry, Error> {
        let key = key.into();
        let all = self.destinations(service).await?;
        all.into_iter().find(|entry| entry.destination.key == key).ok_or_else(|| {
            let errno = Errno::NOENT.raw_os_error();
            Error::new(Request::Destination(service, key), Cause::Kernel { errno, message: None })
        })
    }

    pub(crate) async fn table(&mut self) -> Result<Table, Error> {
        let mut table = Table::default();
        for service in self.services().await? {
            let destinations = self.list_destinations(service.service.key).await?;
            table.services.push(TableService::new(service, destinations));
        }
        Ok(table)
    }

    pub(crate) async fn ruleset(&mut self) -> Result<Ruleset, Error> {
        Ok(Ruleset::from(&self.table().await?))
    }

    pub(crate) async fn add_service(&mut self, service: &Service) -> Result<(), Error> {
        self.change(Operation::AddService(*service)).await
    }

    pub(crate) async fn update_service(&mut self, service: &Service) -> Result<(), Error> {
        self.change(Operation::UpdateService(*service)).await
    }

    pub(crate) async fn modify_service(
        &mut self,
        key: ServiceKey,
        edit: impl FnOnce(&mut Service) + Send,
    ) -> Result<Service, Error> {
        let mut service = self.service(key).await?.service;
        edit(&mut service);
        service.key = key;
        self.update_service(&service).await?;
        Ok(service)
    }

    pub(crate) async fn remove_service(&mut self, key: ServiceKey) -> Result<(), Error> {
        self.change(Operation::RemoveService(key)).await
    }

    pub(crate) async fn add_destination(
        &mut self,
        service: ServiceKey,
        destination: &Destination,
    ) -> Result<(), Error> {
        self.change(Operation::AddDestination(service, *destination)).await
    }

    pub(crate) async fn update_destination(
        &mut self,
        service: ServiceKey,
        destination: &Destination,
    ) -> Result<(), Error> {
        self.change(Operation::UpdateDestination(service, *destination)).await
    }

    pub(crate) async fn modify_destination(
        &mut self,
        service: ServiceKey,
        key: impl Into<DestinationKey> + Send,
        edit: impl FnOnce(&mut Destination) + Send,
    ) -> Result<Destination, Error> {
        let key = key.into();
        let mut destination = self.destination(service, key).await?.destination;
        edit(&mut destination);
        destination.key = key;
        self.update_destination(service, &destination).await?;
        Ok(destination)
    }

    pub(crate) async fn remove_destination(
        &mut self,
        service: ServiceKey,
        key: impl Into<DestinationKey> + Send,
    ) -> Result<(), Error> {
        self.change(Operation::RemoveDestination(service, key.into())).await
    }

    pub(crate) async fn zero(&mut self) -> Result<(), Error> {
        self.change(Operation::Zero).await
    }

    pub(crate) async fn zero_service(&mut self, key: ServiceKey) -> Result<(), Error> {
        self.change(Operation::ZeroService(key)).await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.change(Operation::Flush).await
    }

    pub(crate) async fn timeouts(&mut self) -> Result<Timeouts, Error> {
        self.ask(Request::Timeouts, |message| Timeouts::try_from(message)).await
    }

    pub(crate) async fn set_timeouts(
        &mut self,
        timeouts: impl Into<TimeoutsUpdate> + Send,
    ) -> Result<(), Error> {
        self.change(Operation::SetTimeouts(timeouts.into())).await
    }

    pub(crate) async fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        self.list(Request::Daemons, |message| {
            SyncDaemon::try_from(&message.daemon.ok_or(DecodeError::Missing("DAEMON"))?)
        })
        .await
    }

    pub(crate) async fn start_daemon(&mut self, daemon: &SyncDaemon) -> Result<(), Error> {
        self.change(Operation::StartDaemon(*daemon)).await
    }

    pub(crate) async fn stop_daemon(&mut self, role: DaemonRole) -> Result<(), Error> {
        self.change(Operation::StopDaemon(role)).await
    }

    async fn change(&mut self, operation: Operation) -> Result<(), Error> {
        let request = Request::Operation(operation);
        operation.check().map_err(|invalid| Error::new(request, invalid))?;
        self.exchange(request, |_, _| Ok(())).await
    }

    /// An exchange whose answer is one message.
    async fn ask<T: Send>(
        &mut self,
        request: Request,
        decode: impl FnMut(&Message) -> Result<T, DecodeError> + Send,
    ) -> Result<T, Error> {
        let answers = self.list(request, decode).await?;
        answers.into_iter().next_back().ok_or_else(|| Error::new(request, Cause::NoAnswer))
    }

    /// An exchange whose answer is any number of messages.
    async fn list<T: Send>(
        &mut self,
        request: Request,
        mut decode: impl FnMut(&Message) -> Result<T, DecodeError> + Send,
    ) -> Result<Vec<T>, Error> {
        let mut answers = Vec::new();
        self.exchange(request, |command, attributes| {
            answers.push(decode(&Message::decode(command.try_into()?, attributes)?)?);
            Ok(())
        })
        .await?;
        Ok(answers)
    }

    /// Sends a request and takes its answers, until the kernel says that this was all.
    async fn exchange(
        &mut self,
        request: Request,
        mut each: impl FnMut(u8, &[u8]) -> Result<(), DecodeError> + Send,
    ) -> Result<(), Error> {
        if self.engine.family().is_none() && request != Request::Family {
            Box::pin(self.resolve_family()).await?;
        }
        if request.is_dump() {
            self.leave_unfinished_dump().await.map_err(|cause| Error::new(request, cause))?;
        }
        let exchange = self.engine.begin(&request);
        self.unfinished_dump = exchange.is_dump().then_some(exchange);
        let outcome = async {
            self.send().await?;
            self.receive_all(exchange, &mut each).await
        };
        outcome.await.map_err(|cause| Error::new(request, cause))
    }

    /// Reads a dump that an earlier exchange did not wait for to its end.
    async fn leave_unfinished_dump(&mut self) -> Result<(), Cause> {
        let Some(dump) = self.unfinished_dump else { return Ok(()) };
        // An error ends the dump as well as its end mark does, unless it says that the end will
        // not be seen.
        match self.receive_all(dump, &mut |_, _| Ok(())).await {
            Ok(()) | Err(Cause::Kernel { .. }) => {}
            Err(_) => self.transport.reopen().map_err(Cause::Socket)?,
        }
        self.unfinished_dump = None;
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Cause> {
        loop {
            let Self { transport, engine, .. } = self;
            match poll_fn(|context| transport.poll_send(context, engine.outgoing())).await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome.map_err(Cause::Socket),
            }
        }
    }

    /// Receives until the exchange has ended, for as long as the kernel keeps answering it.
    async fn receive_all(
        &mut self,
        exchange: Exchange,
        each: &mut (impl FnMut(u8, &[u8]) -> Result<(), DecodeError> + Send),
    ) -> Result<(), Cause> {
        let mut deadline = self.transport.now() + PATIENCE;
        loop {
            self.incoming.clear();
            let Self { transport, incoming, .. } = self;
            let received =
                poll_fn(|context| transport.poll_receive(context, incoming, deadline)).await;
            match received {
                Ok(Received::Whole) => {}
                Ok(Received::Truncated) => {
                    let text = format!("a datagram of more than {RECEIVE_BUFFER} bytes");
                    return Err(DecodeError::Framing(text).into());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(Cause::TimedOut(PATIENCE));
                }
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    return Err(Cause::Lost);
                }
                Err(error) => return Err(Cause::Socket(error)),
            }
            match exchange.absorb(&self.incoming, &mut *each) {
                Ok(Progress::None) => {}
                Ok(Progress::Some) => deadline = self.transport.now() + PATIENCE,
                Ok(Progress::Finished) => {
                    self.unfinished_dump.take_if(|dump| *dump == exchange);
                    return Ok(());
                }
                Err(cause) => {
                    // After its word on a dump the kernel says no more.
                    if matches!(cause, Cause::Kernel { .. }) {
                        self.unfinished_dump.take_if(|dump| *dump == exchange);
                    }
                    return Err(cause);
                }
            }
        }
    }
}

fn service_entry(message: &Message) -> Result<ServiceEntry, DecodeError> {
    ServiceEntry::try_from(&message.service.ok_or(DecodeError::Missing("SERVICE"))?)
}
