//! The conversations with the kernel, each written once for the blocking and the async client.
//!
//! They are `async` functions over [`AsyncTransport`]: values that the compiler turns into state
//! machines. The async client awaits them; the blocking client polls them once, over a transport
//! that is always ready, with neither runtime nor thread.

mod asking;
mod batch;
mod buffer;
mod limits;
mod socket;
pub(crate) mod trace;

use std::collections::HashSet;
use std::fmt;
use std::time::Instant;

use crate::error::{Cause, Error};
use crate::model::{
    DaemonRole, Destination, DestinationEntry, DestinationKey, Info, Service, ServiceEntry,
    ServiceKey, SyncDaemon, Table, TableService, Timeouts, TimeoutsUpdate,
};
use crate::protocol::{AnswerError, Encoder, FromAttributes, Operation, Request, Window, answer};
use crate::ruleset::{Ruleset, ServiceRules};
use crate::transport::{AsyncTransport, Sleep};

pub use batch::BatchOptions;
pub(crate) use limits::Limits;
use socket::SessionSocket;

/// The most readings of a listing until it names each service once.
const READINGS: usize = 10;

/// A client's state, however the client is driven.
///
/// Its methods, from the outside in:
/// - the operations of both clients, by the names that `operations.rs` lists (here, and `batch` and
///   `batch_each` in `batch.rs`);
/// - the methods that only `sync` needs: `rules`, `destinations_of_listed`, `batch_while`,
///   `module`, `now`, `sleep`;
/// - one exchange: `ask` for one answer, `list` for many, `change` for an operation, and
///   `resolve_family`, with which every client begins (`asking.rs`, `batch.rs`);
/// - the socket, which belongs to the [`SessionSocket`] (`socket.rs`), with its buffer
///   (`buffer.rs`).
pub(crate) struct Session {
    socket: SessionSocket,
    encoder: Encoder,
    /// The number that the family had last.
    module: Option<u16>,
    window: Window<Cause>,
}

/// Prints the state that differs between clients, without the buffers.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("family", &self.encoder.family())
            .field("limits", &self.socket.limits)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(transport: Box<dyn AsyncTransport>, limits: Limits) -> Self {
        Self {
            socket: SessionSocket::new(transport, limits),
            encoder: Encoder::default(),
            module: None,
            window: Window::default(),
        }
    }

    pub(crate) async fn info(&mut self) -> Result<Info, Error> {
        self.ask(Request::Info, answer::info).await
    }

    /// Linux 7.1 and later resize the table of services while it is read, and list the rest in
    /// another order: for each service that comes twice, one is missing. Such a listing is read
    /// again.
    pub(crate) async fn services(&mut self) -> Result<Vec<ServiceEntry>, Error> {
        for _ in 0..READINGS {
            let services = self.list(Request::Services, answer::service).await?;
            let mut keys = HashSet::with_capacity(services.len());
            if services.iter().all(|entry| keys.insert(entry.service.key)) {
                return Ok(services);
            }
        }
        Err(Error::new(Request::Services, AnswerError::Interrupted))
    }

    pub(crate) async fn service(
        &mut self,
        key: impl Into<ServiceKey> + Send,
    ) -> Result<ServiceEntry, Error> {
        self.ask(Request::Service(key.into()), answer::service).await
    }

    pub(crate) async fn destinations(
        &mut self,
        service: impl Into<ServiceKey> + Send,
    ) -> Result<Vec<DestinationEntry>, Error> {
        self.destinations_of(service.into()).await
    }

    /// The destinations of a service, which must exist; each is decoded as a `T`.
    async fn destinations_of<T: FromAttributes + Send>(
        &mut self,
        service: ServiceKey,
    ) -> Result<Vec<T>, Error> {
        let family = service.family();
        let request = Request::Destinations(service);
        let destinations = self.list(request, |it| answer::destination(it, family)).await?;
        // The kernel answers a missing service and a service without destinations in the same way.
        if destinations.is_empty() {
            self.service(service).await?;
        }
        Ok(destinations)
    }

    /// The destinations of a service that was listed; `None` if the service is gone since.
    pub(crate) async fn destinations_of_listed<T: FromAttributes + Send>(
        &mut self,
        service: ServiceKey,
    ) -> Result<Option<Vec<T>>, Error> {
        match self.destinations_of(service).await {
            Err(error) if error.is_service_not_found() => Ok(None),
            destinations => destinations.map(Some),
        }
    }

    /// The rules of a service that was listed, without counters; `None` if the service is gone
    /// since.
    pub(crate) async fn rules(&mut self, service: Service) -> Result<Option<ServiceRules>, Error> {
        let destinations = self.destinations_of_listed(service.key).await?;
        Ok(destinations.map(|destinations| ServiceRules::from_kernel(service, destinations)))
    }

    /// Whether the module is still loaded as it was under this number: then everything that was
    /// read since is of one table.
    pub(crate) fn is_of_one_load(&self, module: Option<u16>) -> bool {
        module.is_none() || self.module == module
    }

    pub(crate) async fn destination(
        &mut self,
        service: impl Into<ServiceKey> + Send,
        key: impl Into<DestinationKey> + Send,
    ) -> Result<DestinationEntry, Error> {
        let (service, key) = (service.into(), key.into());
        let all = self.destinations(service).await?;
        all.into_iter()
            .find(|entry| entry.destination.key == key)
            .ok_or_else(|| Error::new(Request::Destination(service, key), Cause::NotListed))
    }

    pub(crate) async fn table(&mut self) -> Result<Table, Error> {
        for _ in 0..READINGS {
            let module = self.module;
            let mut table = Table::default();
            for entry in self.services().await? {
                let destinations = self.destinations_of_listed(entry.service.key).await?;
                table.services.extend(destinations.map(|it| TableService::new(entry, it)));
            }
            if self.is_of_one_load(module) {
                return Ok(table);
            }
        }
        Err(Error::new(Request::Services, AnswerError::Interrupted))
    }

    pub(crate) async fn ruleset(&mut self) -> Result<Ruleset, Error> {
        for _ in 0..READINGS {
            let module = self.module;
            let mut rules = Ruleset::new();
            for entry in self.services().await? {
                if let Some(read) = self.rules(entry.service).await? {
                    rules.replace(read.key(), Some(read.into()));
                }
            }
            if self.is_of_one_load(module) {
                return Ok(rules);
            }
        }
        Err(Error::new(Request::Services, AnswerError::Interrupted))
    }

    pub(crate) async fn add_service(&mut self, service: &Service) -> Result<(), Error> {
        self.change(Operation::AddService(*service)).await
    }

    pub(crate) async fn update_service(&mut self, service: &Service) -> Result<(), Error> {
        self.change(Operation::UpdateService(*service)).await
    }

    pub(crate) async fn modify_service(
        &mut self,
        key: impl Into<ServiceKey> + Send,
        edit: impl FnOnce(&mut Service) + Send,
    ) -> Result<Service, Error> {
        let key = key.into();
        let mut service = self.service(key).await?.service;
        edit(&mut service);
        service.key = key;
        self.update_service(&service).await?;
        Ok(service)
    }

    pub(crate) async fn remove_service(
        &mut self,
        key: impl Into<ServiceKey> + Send,
    ) -> Result<(), Error> {
        self.change(Operation::RemoveService(key.into())).await
    }

    pub(crate) async fn add_destination(
        &mut self,
        service: impl Into<ServiceKey> + Send,
        destination: &Destination,
    ) -> Result<(), Error> {
        self.change(Operation::AddDestination(service.into(), *destination)).await
    }

    pub(crate) async fn update_destination(
        &mut self,
        service: impl Into<ServiceKey> + Send,
        destination: &Destination,
    ) -> Result<(), Error> {
        self.change(Operation::UpdateDestination(service.into(), *destination)).await
    }

    pub(crate) async fn modify_destination(
        &mut self,
        service: impl Into<ServiceKey> + Send,
        key: impl Into<DestinationKey> + Send,
        edit: impl FnOnce(&mut Destination) + Send,
    ) -> Result<Destination, Error> {
        let (service, key) = (service.into(), key.into());
        let mut destination = self.destination(service, key).await?.destination;
        edit(&mut destination);
        destination.key = key;
        self.update_destination(service, &destination).await?;
        Ok(destination)
    }

    pub(crate) async fn remove_destination(
        &mut self,
        service: impl Into<ServiceKey> + Send,
        key: impl Into<DestinationKey> + Send,
    ) -> Result<(), Error> {
        self.change(Operation::RemoveDestination(service.into(), key.into())).await
    }

    pub(crate) async fn zero(&mut self) -> Result<(), Error> {
        self.change(Operation::Zero).await
    }

    pub(crate) async fn zero_service(
        &mut self,
        key: impl Into<ServiceKey> + Send,
    ) -> Result<(), Error> {
        self.change(Operation::ZeroService(key.into())).await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.change(Operation::Flush).await
    }

    pub(crate) async fn timeouts(&mut self) -> Result<Timeouts, Error> {
        self.ask(Request::Timeouts, answer::timeouts).await
    }

    pub(crate) async fn set_timeouts(
        &mut self,
        timeouts: impl Into<TimeoutsUpdate> + Send,
    ) -> Result<(), Error> {
        self.change(Operation::SetTimeouts(timeouts.into())).await
    }

    pub(crate) async fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        self.list(Request::Daemons, answer::daemon).await
    }

    pub(crate) async fn start_daemon(&mut self, daemon: &SyncDaemon) -> Result<(), Error> {
        self.change(Operation::StartDaemon(*daemon)).await
    }

    pub(crate) async fn stop_daemon(&mut self, role: DaemonRole) -> Result<(), Error> {
        self.change(Operation::StopDaemon(role)).await
    }

    /// The number that the family had last. It changes when the module is loaded anew, with an
    /// empty table.
    pub(crate) fn module(&self) -> Option<u16> {
        self.module
    }

    /// The time, by the transport's clock.
    pub(crate) fn now(&self) -> Instant {
        self.socket.transport.now()
    }

    /// A future that waits. It does not borrow the session, which others can use meanwhile.
    pub(crate) fn sleep(&mut self, until: Instant) -> Sleep {
        self.socket.transport.sleep(until)
    }
}
