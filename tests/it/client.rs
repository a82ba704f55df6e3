//! One client type for all cases, with any of the crate's clients behind it.

use std::fmt;
use std::ops::ControlFlow;

use ipvs_netlink::{
    BatchOptions, DaemonRole, Destination, DestinationEntry, DestinationKey, Error, Incomplete,
    Info, Operation, Options, Plan, Policy, Report, Results, Ruleset, Service, ServiceEntry,
    ServiceKey, SyncDaemon, SyncEvent, Syncer, Table, Timeouts, TimeoutsUpdate, blocking, fake,
};

/// The crate's clients.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Flavour {
    Blocking,
    Tokio,
    Smol,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "blocking",
            Self::Tokio => "tokio",
            Self::Smol => "smol",
        })
    }
}

/// A client of the crate.
pub(crate) enum Client {
    Blocking(Box<blocking::Client>),
    Async(ipvs_netlink::Client),
}

impl Client {
    pub(crate) async fn connect_to(kernel: &fake::Kernel, flavour: Flavour) -> Result<Self, Error> {
        Ok(match flavour {
            Flavour::Blocking => Self::Blocking(Box::new(kernel.connect()?)),
            _ => Self::Async(kernel.connect_async().await?),
        })
    }

    pub(crate) async fn connect(flavour: Flavour, options: &Options) -> Result<Self, Error> {
        Ok(match flavour {
            Flavour::Blocking => Self::Blocking(Box::new(options.connect()?)),
            Flavour::Tokio => Self::Async(options.connect_tokio().await?),
            Flavour::Smol => Self::Async(options.connect_smol().await?),
        })
    }
}

macro_rules! operations {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {
        impl Client {
            $(
                pub(crate) async fn $name(
                    &mut self,
                    $($argument: $type),*
                ) -> $output {
                    match self {
                        Self::Blocking(client) => client.$name($($argument),*),
                        Self::Async(client) => client.$name($($argument),*).await,
                    }
                }
            )*
        }
    };
}

operations! {
    fn info() -> Result<Info, Error>;
    fn services() -> Result<Vec<ServiceEntry>, Error>;
    fn service(key: ServiceKey) -> Result<ServiceEntry, Error>;
    fn destinations(service: ServiceKey) -> Result<Vec<DestinationEntry>, Error>;
    fn destination(service: ServiceKey, key: DestinationKey) -> Result<DestinationEntry, Error>;
    fn table() -> Result<Table, Error>;
    fn ruleset() -> Result<Ruleset, Error>;
    fn add_service(service: &Service) -> Result<(), Error>;
    fn update_service(service: &Service) -> Result<(), Error>;
    fn modify_service(key: ServiceKey, edit: impl FnOnce(&mut Service) + Send) -> Result<Service, Error>;
    fn remove_service(key: ServiceKey) -> Result<(), Error>;
    fn add_destination(service: ServiceKey, destination: &Destination) -> Result<(), Error>;
    fn update_destination(service: ServiceKey, destination: &Destination) -> Result<(), Error>;
    fn modify_destination(
        service: ServiceKey,
        key: DestinationKey,
        edit: impl FnOnce(&mut Destination) + Send
    ) -> Result<Destination, Error>;
    fn remove_destination(service: ServiceKey, key: DestinationKey) -> Result<(), Error>;
    fn batch(operations: Vec<Operation>) -> Result<Results, Error>;
    fn batch_each(
        operations: Vec<Operation>,
        options: BatchOptions,
        each: impl FnMut(&Operation, Result<(), Error>) + Send
    ) -> Result<(), Error>;
    fn zero() -> Result<(), Error>;
    fn zero_service(key: ServiceKey) -> Result<(), Error>;
    fn plan(wanted: &Ruleset, policy: &Policy) -> Result<Plan, Error>;
    fn apply(plan: Plan) -> Result<Report, Incomplete>;
    fn apply_with(
        plan: Plan,
        each: impl FnMut(SyncEvent<'_>) -> ControlFlow<()> + Send
    ) -> Result<Report, Incomplete>;
    fn sync(wanted: &Ruleset, policy: &Policy) -> Result<Report, Incomplete>;
    fn pass(syncer: &mut Syncer) -> Report;
    fn flush() -> Result<(), Error>;
    fn timeouts() -> Result<Timeouts, Error>;
    fn set_timeouts(timeouts: TimeoutsUpdate) -> Result<(), Error>;
    fn daemons() -> Result<Vec<SyncDaemon>, Error>;
    fn start_daemon(daemon: &SyncDaemon) -> Result<(), Error>;
    fn stop_daemon(role: DaemonRole) -> Result<(), Error>;
}
