//! The operations of both clients, with their documentation, listed once.

/// Calls the macro `$client` with the signatures and the documentation of the operations. The macro
/// turns each into a method that runs the function of the same name. The operations of the session
/// come first, which hold the session from begin to end; then those of
/// [`Turns`](crate::sync::Turns), which leave the session to others between two steps.
macro_rules! operations {
    ($client:ident) => {
        $client! {
            in_one_turn:

            /// The version of IPVS and the size of its connection table.
            fn info() -> Result<Info, Error>;

            /// All services with their counters, each once. The kernel promises no order.
            ///
            /// A listing of several parts can lack a service if others add or remove services
            /// meanwhile. Before Linux 7.1 it can also lack one if they do this in another network
            /// namespace: the kernel resumes a listing at a position that counts the services of
            /// all namespaces.
            ///
            /// # Errors
            /// The table changed while it was read: the kernel reported this, or each of ten
            /// listings had a service twice. Linux 7.1 and later resize the table while services
            /// are added and removed, which disturbs listings; a second listing is mostly whole.
            fn services() -> Result<Vec<ServiceEntry>, Error>;

            /// One service with its counters.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`].
            fn service(key: impl Into<ServiceKey> + Send) -> Result<ServiceEntry, Error>;

            /// The destinations of a service with their counters, newest first.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`].
            fn destinations(service: impl Into<ServiceKey> + Send) -> Result<Vec<DestinationEntry>, Error>;

            /// One destination of a service with its counters.
            ///
            /// The kernel has no command for a single destination: all those of the service are
            /// read.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`] and [`Error::is_destination_not_found`].
            fn destination(
                service: impl Into<ServiceKey> + Send,
                key: impl Into<DestinationKey> + Send,
            ) -> Result<DestinationEntry, Error>;

            /// The whole table with counters: one exchange for the services, and one for the
            /// destinations of each.
            fn table() -> Result<Table, Error>;

            /// The configuration of the whole table, without counters, as it can be written again.
            fn ruleset() -> Result<Ruleset, Error>;

            /// Adds a service.
            ///
            /// # Errors
            /// [`Error::is_already_exists`]; [`Error::is_module_not_found`] if its scheduler or
            /// persistence engine is not available; [`Error::is_invalid`] if no kernel would take
            /// it.
            fn add_service(service: &Service) -> Result<(), Error>;

            /// Replaces the whole configuration of a service: fields that `service` leaves at their
            /// defaults are reset in the kernel. To change one field, see
            /// [`modify_service`](Self::modify_service).
            ///
            /// While Linux 6.1 changes the scheduler of a service, it refuses new connections for
            /// some tens of milliseconds; open connections go on. Linux 6.12 was not seen to refuse
            /// any.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`], [`Error::is_module_not_found`],
            /// [`Error::is_invalid`].
            fn update_service(service: &Service) -> Result<(), Error>;

            /// Reads a service, lets `edit` change it, and writes it back; returns the written
            /// service. `edit` cannot change the key. Changes that others make in between are lost.
            ///
            /// # Errors
            /// Those of [`service`](Self::service) and [`update_service`](Self::update_service).
            fn modify_service(
                key: impl Into<ServiceKey> + Send,
                edit: impl FnOnce(&mut Service) + Send,
            ) -> Result<Service, Error>;

            /// Removes a service with its destinations. From then on the kernel drops the packets
            /// of their connections or, if the sysctl `expire_nodest_conn` is 1, ends the
            /// connections.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`].
            #[doc(alias = "delete")]
            fn remove_service(key: impl Into<ServiceKey> + Send) -> Result<(), Error>;

            /// Adds a destination to a service.
            ///
            /// A destination that was removed while it had connections comes back with them, for as
            /// long as the kernel remembers it.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`]; [`Error::is_already_exists`]; [`Error::is_invalid`]
            /// if no kernel would take it; `EINVAL` if the routing table says that the address is
            /// neither local nor unicast.
            fn add_destination(service: impl Into<ServiceKey> + Send, destination: &Destination) -> Result<(), Error>;

            /// Replaces the whole configuration of a destination: fields that `destination` leaves
            /// at their defaults are reset in the kernel. To change one field, see
            /// [`modify_destination`](Self::modify_destination).
            ///
            /// # Errors
            /// [`Error::is_service_not_found`], [`Error::is_destination_not_found`],
            /// [`Error::is_invalid`].
            fn update_destination(service: impl Into<ServiceKey> + Send, destination: &Destination) -> Result<(), Error>;

            /// Reads a destination, lets `edit` change it, and writes it back; returns the written
            /// destination. `edit` cannot change the key. Changes that others make in between are
            /// lost.
            ///
            /// # Errors
            /// Those of [`destination`](Self::destination) and
            /// [`update_destination`](Self::update_destination).
            fn modify_destination(
                service: impl Into<ServiceKey> + Send,
                key: impl Into<DestinationKey> + Send,
                edit: impl FnOnce(&mut Destination) + Send,
            ) -> Result<Destination, Error>;

            /// Removes a destination from a service. From then on the kernel drops the packets of
            /// its connections or, if the sysctl `expire_nodest_conn` is 1, ends the connections.
            /// If the destination is added again while the kernel remembers its connections, they
            /// go on. To let connections end by themselves, set the weight to 0 and wait, as
            /// [`Draining`](crate::Draining) does.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`], [`Error::is_destination_not_found`].
            #[doc(alias = "delete")]
            fn remove_destination(
                service: impl Into<ServiceKey> + Send,
                key: impl Into<DestinationKey> + Send,
            ) -> Result<(), Error>;

            /// Runs many operations, as many as fit in each send, and returns the result of each,
            /// in their order. An operation that fails does not hinder the others.
            ///
            /// A window of operations (see [`Options::window`](crate::Options::window)) costs two
            /// system calls, however many operations it has.
            ///
            /// # Errors
            /// The family could not be found, or the socket could not be opened anew: nothing was
            /// sent. All other errors are results of operations. [`Error::is_outcome_unknown`]
            /// holds for exactly those operations whose answers may have been lost.
            fn batch(
                operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
            ) -> Result<Results, Error>;

            /// As [`batch`](Self::batch), but gives each result to `each` as soon as it is known:
            /// for progress bars, and for iterators that make their operations one by one.
            ///
            /// The client is in use until the end of the batch. Neither `each` nor the iterator may
            /// wait for an operation of a clone of the asynchronous client, since that wait would
            /// never end.
            ///
            /// # Errors
            /// Those of [`batch`](Self::batch).
            fn batch_each(
                operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
                options: BatchOptions,
                each: impl FnMut(&Operation, Result<(), Error>) + Send,
            ) -> Result<(), Error>;

            /// Sets the counters of all services and destinations to zero.
            fn zero() -> Result<(), Error>;

            /// Sets the counters of a service and its destinations to zero.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`].
            fn zero_service(key: impl Into<ServiceKey> + Send) -> Result<(), Error>;

            /// Reads the table and plans how to make it as wanted, as far as the policy allows.
            /// Changes nothing.
            fn plan(wanted: &Ruleset, policy: &Policy) -> Result<Plan, Error>;

            /// Removes all services. Connections, timeouts and sync daemons stay.
            #[doc(alias = "clear")]
            fn flush() -> Result<(), Error>;

            /// For how long the kernel keeps idle connections.
            fn timeouts() -> Result<Timeouts, Error>;

            /// Sets how long the kernel keeps idle connections; timeouts that are `None` stay as
            /// they are.
            ///
            /// # Errors
            /// [`Error::is_invalid`] if a timeout is zero, has a fraction of a second or is too
            /// long for every kernel; `EINVAL` if a timeout is too long for this kernel, which then
            /// sets none of the timeouts.
            fn set_timeouts(timeouts: impl Into<TimeoutsUpdate> + Send) -> Result<(), Error>;

            /// The sync daemons that run: a master, a backup, both or none.
            fn daemons() -> Result<Vec<SyncDaemon>, Error>;

            /// Starts a sync daemon.
            ///
            /// # Errors
            /// [`Error::is_already_exists`] if a daemon of the role runs; `ENODEV` for a missing
            /// interface; `EINVAL` while a destination is of another address family than its
            /// service.
            fn start_daemon(daemon: &SyncDaemon) -> Result<(), Error>;

            /// Stops a sync daemon, which can take the kernel seconds.
            ///
            /// # Errors
            /// [`Error::is_not_found`] if no daemon of the role runs.
            fn stop_daemon(role: DaemonRole) -> Result<(), Error>;
        }

        $client! {
            step_by_step:

            /// Carries out a plan: writes the changes in batches, reads and plans again the
            /// services that others changed meanwhile (for a limited number of rounds), reads back
            /// the written changes unless the policy says otherwise, and waits for destinations to
            /// drain.
            ///
            /// Nothing is taken away before every addition was made or has failed for good; changes
            /// that fail for a passing reason are tried again first. A service that takes
            /// connections keeps a destination that takes connections, as long as one is wanted.
            ///
            /// # Dropped or killed half-way
            /// Every service then still has everything that it had, or has everything that is
            /// wanted. The next plan goes on from there: it adds what is missing, and drains
            /// unwanted destinations of weight 0 with a new deadline. The plan cannot know who set
            /// a weight to 0: if the policy does not allow to set weights, a wanted destination
            /// that was being drained stays at 0, and the report says so. A [`Syncer`] can take
            /// over the drains of the one before ([`Syncer::resume`]). A new service of `mh` may be
            /// left without its scheduler, and takes no connections until the next plan.
            ///
            /// # What others do meanwhile
            /// The kernel has no transactions. Four things go unseen: a change between the last
            /// read and the return; a connection that is opened between the last count and the
            /// removal; another program's change, since the last read, to a service or destination
            /// that is then updated; and a service that another program removes and adds again just
            /// before it is changed. If a health checker sets weights in the same table, leave them
            /// to it: a policy without [`Allowed::WEIGHTS`](crate::Allowed::WEIGHTS) keeps them.
            ///
            /// # Errors
            /// A part of the plan was not carried out: the error holds the report. Differences that
            /// the policy leaves are no error, and are in the report.
            fn apply(plan: Plan) -> Result<Report, Incomplete>;

            /// As [`apply`](Self::apply), and calls `each` for every change, and at least once a
            /// second with the progress while destinations drain. Once `each` breaks off, nothing
            /// more is sent, and the report has the rest as failed or draining. If only the reading
            /// back was left, only [`called_off`](crate::Report::called_off) tells that `each`
            /// broke off.
            ///
            /// The client is in use while `each` runs: `each` must not wait for an operation of a
            /// clone of the asynchronous client, since both might wait for ever.
            ///
            /// # Errors
            /// Those of [`apply`](Self::apply), and an error if `each` broke off before all was
            /// done.
            fn apply_with(
                plan: Plan,
                each: impl FnMut(SyncEvent<'_>) -> ControlFlow<()> + Send,
            ) -> Result<Report, Incomplete>;

            /// Makes the table as wanted: [`plan`](Self::plan), then [`apply`](Self::apply).
            ///
            /// # Errors
            /// Those of [`apply`](Self::apply), and an error if the table could not be read, after
            /// which nothing was changed.
            fn sync(wanted: &Ruleset, policy: &Policy) -> Result<Report, Incomplete>;

            /// Runs a pass of a [`Syncer`]: makes the table as the syncer wants it, unless the
            /// syncer knows that it already is. The pass does not wait for destinations to drain:
            /// [`Report::next`](crate::Report::next) says when to pass again.
            ///
            /// A failure is no error: a controller often meets a destination that the kernel
            /// refuses, and must go on. The report has all failures, also that of reading the
            /// table; [`Report::into_result`](crate::Report::into_result) makes an error of them.
            fn pass(syncer: &mut Syncer) -> Report;
        }
    };
}

pub(crate) use operations;
