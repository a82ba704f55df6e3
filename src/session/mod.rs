//! The conversations with the kernel, each written once for the blocking and the async client.
//!
//! They are `async` functions over [`AsyncTransport`]: values that the compiler turns into state
//! machines. The async client awaits them; the blocking client polls them once, over a transport
//! that is always ready, with neither runtime nor thread.

mod batch;
mod exchange;
pub(crate) mod trace;

use std::collections::HashSet;
use std::time::Instant;

use rustix::io::Errno;

use crate::error::{Cause, Error};
use crate::model::{
    DaemonRole, Destination, DestinationEntry, DestinationKey, Info, Service, ServiceEntry,
    ServiceKey, SyncDaemon, Table, TableService, Timeouts, TimeoutsUpdate,
};
use crate::options::Conversation;
use crate::protocol::{Engine, Exchange, Operation, Request, Window};
use crate::ruleset::{Ruleset, ServiceRules};
use crate::transport::{AsyncTransport, Sleep};
use crate::wire::{
    Command, DaemonAttributes, DecodeError, DestinationAttributes, Message, OfDestination,
    ServiceAttributes,
};

/// How often the services are read, at most, until a listing names each of them once.
const READINGS: usize = 10;

/// A client's state, whatever drives it.
pub(crate) struct Session {
    transport: Box<dyn AsyncTransport>,
    engine: Engine,
    incoming: Vec<u8>,
    /// The capacity of `incoming` but for long dumps.
    receive_buffer: usize,
    /// A dump whose end has not been seen. The kernel runs one at a time on a socket, so it must
    /// be read to its end, or left behind with its socket, before the next.
    unfinished_dump: Option<Exchange>,
    /// The socket has failed, and the next request starts on a fresh one.
    broken: bool,
    /// Something was sent since other tasks of the executor had their turn.
    has_sent: bool,
    /// The number that the family had last.
    module: Option<u16>,
    window: Window,
    conversation: Conversation,
}

impl Session {
    pub(crate) fn new(transport: Box<dyn AsyncTransport>, conversation: Conversation) -> Self {
        Self {
            transport,
            engine: Engine::default(),
            incoming: Vec::with_capacity(exchange::RECEIVE_BUFFER),
            receive_buffer: exchange::RECEIVE_BUFFER,
            unfinished_dump: None,
            broken: false,
            has_sent: false,
            module: None,
            window: Window::default(),
            conversation,
        }
    }

    pub(crate) async fn info(&mut self) -> Result<Info, Error> {
        self.ask(Request::Info, |command, answer| {
            Info::try_from(&Message::decode(command, answer)?)
        })
        .await
    }

    /// Since Linux 7.1 the table of services is resized while it is read, and the rest of a listing
    /// comes in another order: as many services are missing as come twice. Such a listing is read
    /// again.
    pub(crate) async fn services(&mut self) -> Result<Vec<ServiceEntry>, Error> {
        for _ in 0..READINGS {
            let services = self.list(Request::Services, service_entry).await?;
            let mut keys = HashSet::with_capacity(services.len());
            if services.iter().all(|entry| keys.insert(entry.service.key)) {
                return Ok(services);
            }
        }
        Err(Error::new(Request::Services, Cause::Interrupted))
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

    /// The destinations of a service, with what is asked for of them.
    pub(crate) async fn list_destinations<T: OfDestination + Send>(
        &mut self,
        service: ServiceKey,
    ) -> Result<Vec<T>, Error> {
        let family = service.family();
        self.list(Request::Destinations(service), |_, answer| {
            DestinationAttributes::of_answer(answer, family)
        })
        .await
    }

    /// A service with its destinations, without counters.
    pub(crate) async fn rules(&mut self, service: Service) -> Result<ServiceRules, Error> {
        Ok(ServiceRules::from_kernel(service, self.list_destinations(service.key).await?))
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
        let mut rules = Ruleset::new();
        for entry in self.services().await? {
            let read = self.rules(entry.service).await?;
            rules.replace(read.service().key, Some(read.into()));
        }
        Ok(rules)
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
        self.ask(Request::Timeouts, |command, answer| {
            Timeouts::try_from(&Message::decode(command, answer)?)
        })
        .await
    }

    pub(crate) async fn set_timeouts(
        &mut self,
        timeouts: impl Into<TimeoutsUpdate> + Send,
    ) -> Result<(), Error> {
        self.change(Operation::SetTimeouts(timeouts.into())).await
    }

    pub(crate) async fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        self.list(Request::Daemons, |_, answer| {
            SyncDaemon::try_from(&DaemonAttributes::of_answer(answer)?)
        })
        .await
    }

    pub(crate) async fn start_daemon(&mut self, daemon: &SyncDaemon) -> Result<(), Error> {
        self.change(Operation::StartDaemon(*daemon)).await
    }

    pub(crate) async fn stop_daemon(&mut self, role: DaemonRole) -> Result<(), Error> {
        self.change(Operation::StopDaemon(role)).await
    }

    /// The number that the family had last: another once the module was loaded anew, with an empty
    /// table.
    pub(crate) fn module(&self) -> Option<u16> {
        self.module
    }

    /// The time, by the transport's clock.
    pub(crate) fn now(&self) -> Instant {
        self.transport.now()
    }

    /// A wait, which is no part of the session: others use it meanwhile.
    pub(crate) fn sleep(&mut self, until: Instant) -> Sleep {
        self.transport.sleep(until)
    }
}

fn service_entry(_: Command, answer: &[u8]) -> Result<ServiceEntry, DecodeError> {
    ServiceEntry::try_from(&ServiceAttributes::of_answer(answer)?)
}
