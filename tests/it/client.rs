//! One client for all cases, whichever of the crate's is behind it.

use ipvs_netlink::{
    DaemonRole, Destination, DestinationEntry, DestinationKey, Error, Info, Ruleset, Service,
    ServiceEntry, ServiceKey, SyncDaemon, Table, Timeouts, TimeoutsUpdate, blocking,
};

/// A client of the crate.
pub(crate) enum Client {
    Blocking(blocking::Client),
}

macro_rules! operations {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {
        // The asynchronous clients await.
        #[allow(clippy::unused_async)]
        impl Client {
            $(
                pub(crate) async fn $name(
                    &mut self,
                    $($argument: $type),*
                ) -> Result<$output, Error> {
                    match self {
                        Self::Blocking(client) => client.$name($($argument),*),
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
    fn zero() -> ();
    fn zero_service(key: ServiceKey) -> ();
    fn flush() -> ();
    fn timeouts() -> Timeouts;
    fn set_timeouts(timeouts: TimeoutsUpdate) -> ();
    fn daemons() -> Vec<SyncDaemon>;
    fn start_daemon(daemon: &SyncDaemon) -> ();
    fn stop_daemon(role: DaemonRole) -> ();
}
