//! One client for all cases, whichever of the crate's is behind it.

use std::fmt;

use std::ops::ControlFlow;

use ipvs_netlink::{
    Batch, DaemonRole, Destination, DestinationEntry, DestinationKey, Error, Info, Operation,
    Options, Plan, Policy, Ruleset, Service, ServiceEntry, ServiceKey, SyncDaemon, Syncer, Table,
    Timeouts, TimeoutsUpdate, blocking, fake,
    sync::{Event, Report},
};

/// Which of the crate's clients.
#[derive(Clone, Copy, PartialEq, Eq)]
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
            Flavour::Blocking => Self::Blocking(Box::new(blocking::Client::connect_to(kernel)?)),
            _ => Self::Async(ipvs_netlink::Client::connect_to(kernel).await?),
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
                ) -> Result<$output, Error> {
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
    fn info() -> Info;
    fn services() -> Vec<ServiceEntry>;
    fn service(key: ServiceKey) -> ServiceEntry;
    fn destinations(service: ServiceKey) -> Vec<DestinationEntry>;
    fn destination(service: ServiceKey, key: DestinationKey) -> DestinationEntry;
    fn table() -> Table;
    fn ruleset() -> Ruleset;
    fn add_service(service: &Service) -> ();
    fn update_service(service: &Service) -> ();
    fn modify_service(key: ServiceKey, edit: impl FnOnce(&mut Service) + Send) -> Service;
    fn remove_service(key: ServiceKey) -> ();
    fn add_destination(service: ServiceKey, destination: &Destination) -> ();
    fn update_destination(service: ServiceKey, destination: &Destination) -> ();
    fn modify_destination(
        service: ServiceKey,
        key: DestinationKey,
        edit: impl FnOnce(&mut Destination) + Send
    ) -> Destination;
    fn remove_destination(service: ServiceKey, key: DestinationKey) -> ();
    fn batch(operations: Vec<Operation>) -> Vec<Result<(), Error>>;
    fn batch_each(
        operations: Vec<Operation>,
        batch: Batch,
        each: impl FnMut(&Operation, Result<(), Error>) + Send
    ) -> ();
    fn zero() -> ();
    fn zero_service(key: ServiceKey) -> ();
    fn plan(wanted: &Ruleset, policy: &Policy) -> Plan;
    fn apply(plan: Plan) -> Report;
    fn apply_with(
        plan: Plan,
        each: impl FnMut(Event<'_>) -> ControlFlow<()> + Send
    ) -> Report;
    fn sync(wanted: &Ruleset, policy: &Policy) -> Report;
    fn pass(syncer: &mut Syncer) -> Report;
    fn flush() -> ();
    fn timeouts() -> Timeouts;
    fn set_timeouts(timeouts: TimeoutsUpdate) -> ();
    fn daemons() -> Vec<SyncDaemon>;
    fn start_daemon(daemon: &SyncDaemon) -> ();
    fn stop_daemon(role: DaemonRole) -> ();
}
