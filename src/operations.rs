//! The operations of both clients, with their documentation, listed once.

/// Calls the macro `$client` with the signatures and the documentation of the operations; it makes
/// methods of them that run the function of the same name. First those of the session, which have it
/// from begin to end; then those of [`Turns`](crate::sync::Turns), which leave it to others between
/// two steps.
macro_rules! operations {
    ($client:ident) => {
        $client! {
            in_one_turn:

            /// The version of IPVS and the size of its connection table.
            fn info() -> Result<Info, Error>;

            /// All services with their counters, in no order that the kernel promises, each once.
            ///
            /// # Errors
            /// The table changed while it was read, in each of ten readings. Since Linux 7.1 the
            /// kernel resizes its table while services are added and removed, which disturbs
            /// listings; one reading more is mostly enough.
            fn services() -> Result<Vec<ServiceEntry>, Error>;

            /// One service with its counters.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`] where it is not there.
            fn service(key: ServiceKey) -> Result<ServiceEntry, Error>;

            /// The destinations of a service with their counters, newest first.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`] where the service is not there.
            fn destinations(service: ServiceKey) -> Result<Vec<DestinationEntry>, Error>;

            /// One destination of a service with its counters.
            ///
            /// The kernel has no command for one alone: all of the service's are read.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`] and [`Error::is_destination_not_found`].
            fn destination(
                service: ServiceKey,
                key: impl Into<DestinationKey> + Send,
            ) -> Result<DestinationEntry, Error>;

            /// The whole table with counters: one exchange for the services, and one for the
            /// destinations of each.
            fn table() -> Result<Table, Error>;

            /// The configuration of the whole table, as it could be written again.
            fn ruleset() -> Result<Ruleset, Error>;

            /// Adds a service.
            ///
            /// # Errors
            /// [`Error::is_already_exists`] where it is there, [`Error::is_module_not_found`]
            /// where its scheduler or persistence engine is not available,
            /// [`Error::is_invalid`] where no kernel would take it.
            fn add_service(service: &Service) -> Result<(), Error>;

            /// Gives a service its whole configuration anew: what is not set in `service` is unset
            /// in the kernel. To change one field of what is there, see
            /// [`modify_service`](Self::modify_service).
            ///
            /// While Linux 6.1 gives a service another scheduler, some tens of milliseconds, it
            /// refuses new connections; those that are open go on. Linux 6.12 was not seen to.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`], [`Error::is_module_not_found`],
            /// [`Error::is_invalid`].
            fn update_service(service: &Service) -> Result<(), Error>;

            /// Reads a service, lets `edit` change it, and writes it back; returns what was
            /// written. The key stays what it is. Others' changes in between are overwritten.
            ///
            /// # Errors
            /// Those of [`service`](Self::service) and [`update_service`](Self::update_service).
            fn modify_service(
                key: ServiceKey,
                edit: impl FnOnce(&mut Service) + Send,
            ) -> Result<Service, Error>;

            /// Removes a service with its destinations. The kernel drops the packets of their
            /// connections then, or ends them where the sysctl `expire_nodest_conn` is 1.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`].
            fn remove_service(key: ServiceKey) -> Result<(), Error>;

            /// Adds a destination to a service.
            ///
            /// One that was removed while it had connections comes back with them, as long as the
            /// kernel remembers it.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`]; [`Error::is_already_exists`];
            /// [`Error::is_invalid`] where no kernel would take it; `EINVAL` where the address is
            /// neither local nor unicast by the routing table.
            fn add_destination(service: ServiceKey, destination: &Destination) -> Result<(), Error>;

            /// Gives a destination its whole configuration anew: what is not set in `destination`
            /// is unset in the kernel. To change one field of what is there, see
            /// [`modify_destination`](Self::modify_destination).
            ///
            /// # Errors
            /// [`Error::is_service_not_found`], [`Error::is_destination_not_found`],
            /// [`Error::is_invalid`].
            fn update_destination(service: ServiceKey, destination: &Destination) -> Result<(), Error>;

            /// Reads a destination, lets `edit` change it, and writes it back; returns what was
            /// written. The key stays what it is. Others' changes in between are overwritten.
            ///
            /// # Errors
            /// Those of [`destination`](Self::destination) and
            /// [`update_destination`](Self::update_destination).
            fn modify_destination(
                service: ServiceKey,
                key: impl Into<DestinationKey> + Send,
                edit: impl FnOnce(&mut Destination) + Send,
            ) -> Result<Destination, Error>;

            /// Removes a destination from a service. The kernel drops the packets of its
            /// connections then, or ends them where the sysctl `expire_nodest_conn` is 1; while it
            /// remembers them, they go on if the destination is added again. To let them end by
            /// themselves, set the weight to 0 and wait, as [`Draining`](crate::Draining) does.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`], [`Error::is_destination_not_found`].
            fn remove_destination(
                service: ServiceKey,
                key: impl Into<DestinationKey> + Send,
            ) -> Result<(), Error>;

            /// Runs many operations, as many as fit in each send, and gives the result of each, in
            /// their order. One that fails does not hinder the others.
            ///
            /// A window of operations (see [`Options::window`](crate::Options::window)) costs two
            /// system calls, whatever their number.
            ///
            /// # Errors
            /// The family could not be found or the socket not be opened anew: nothing was sent.
            /// All else is the result of an operation, among it
            /// [`Error::is_outcome_unknown`] for exactly those that a lost answer may concern.
            fn batch(
                operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
            ) -> Result<Results, Error>;

            /// As [`batch`](Self::batch), with each result given to `each` when it is known: for
            /// progress bars, and for operations that are made while others run.
            ///
            /// # Errors
            /// Those of [`batch`](Self::batch).
            fn batch_each(
                operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
                batch: Batch,
                each: impl FnMut(&Operation, Result<(), Error>) + Send,
            ) -> Result<(), Error>;

            /// Sets the counters of all services and destinations to zero.
            fn zero() -> Result<(), Error>;

            /// Sets the counters of a service and its destinations to zero.
            ///
            /// # Errors
            /// [`Error::is_service_not_found`].
            fn zero_service(key: ServiceKey) -> Result<(), Error>;

            /// Plans how the table becomes what is wanted, as far as the policy allows. Nothing is
            /// changed.
            fn plan(wanted: &Ruleset, policy: &Policy) -> Result<Plan, Error>;

            /// Removes all services. Connections, timeouts and sync daemons stay.
            fn flush() -> Result<(), Error>;

            /// How long idle connections are kept.
            fn timeouts() -> Result<Timeouts, Error>;

            /// Sets how long idle connections are kept; what is not named stays as it is.
            ///
            /// # Errors
            /// [`Error::is_invalid`] where a timeout is zero, has a fraction of a second or is
            /// too long for every kernel; `EINVAL` where it is too long for this one. Nothing is
            /// set then.
            fn set_timeouts(timeouts: impl Into<TimeoutsUpdate> + Send) -> Result<(), Error>;

            /// The sync daemons that run: a master, a backup, both or none.
            fn daemons() -> Result<Vec<SyncDaemon>, Error>;

            /// Starts a sync daemon.
            ///
            /// # Errors
            /// [`Error::is_already_exists`] where one of the role runs; `ENODEV` where there is no
            /// such interface; `EINVAL` while a destination is of another address family than its
            /// service's.
            fn start_daemon(daemon: &SyncDaemon) -> Result<(), Error>;

            /// Stops a sync daemon. It can take the kernel seconds.
            ///
            /// # Errors
            /// [`Error::is_not_found`] where none of the role runs.
            fn stop_daemon(role: DaemonRole) -> Result<(), Error>;
        }

        $client! {
            step_by_step:

            /// Carries out a plan: writes it in batches, mends what others changed meanwhile (what
            /// is affected is read again and planned again, some rounds at most), reads back what
            /// was written unless the policy says otherwise, and waits for destinations to drain.
            ///
            /// Nothing is taken away before all that is added is there, or has failed for good; what
            /// fails for a passing reason is tried again first. A service that takes connections
            /// keeps a destination that does, as long as one is wanted.
            ///
            /// # Dropped or killed half-way
            /// Every service then has at least what it had, or what is wanted of it. The next plan
            /// goes on from there: it makes what is missing, and drains what has weight 0 and is not
            /// wanted with a new deadline. It does not know who set a weight to 0; where the policy
            /// does not allow to set weights, a destination that is wanted and was being drained
            /// stays at 0 and the report says so. A [`Syncer`] can be given what the one before knew
            /// ([`Syncer::resume`]). A new service of `mh` may be left without its scheduler, and
            /// takes no connections until the next plan.
            ///
            /// # What others do meanwhile
            /// The kernel has no transactions. Four things cannot be seen: a change between the last
            /// read and the return; a connection that is opened between the last count and the
            /// removal; another's change of one field of what an update overwrites, since the last
            /// read; a service that is removed and added again by another, under a late change. Where
            /// a health checker sets weights in the same table, leave them to it: a policy without
            /// [`Allowed::WEIGHTS`](crate::Allowed::WEIGHTS) keeps them.
            ///
            /// # Errors
            /// Whatever was to be done and is not: the error holds the report. What the policy
            /// leaves as it is, is in the report of a success, too.
            fn apply(plan: Plan) -> Result<Report, Incomplete>;

            /// As [`apply`](Self::apply), telling `each` of every change and how far it has come, and
            /// at least once a second while destinations drain. Once `each` breaks off, nothing more
            /// is sent; what was not done is in the report as failed, or as draining. Where it is the
            /// reading back alone, [`called_off`](crate::sync::Report::called_off) says that.
            ///
            /// # Errors
            /// Those of [`apply`](Self::apply), and where `each` broke off before all was done.
            fn apply_with(
                plan: Plan,
                each: impl FnMut(Event<'_>) -> ControlFlow<()> + Send,
            ) -> Result<Report, Incomplete>;

            /// Makes the table what is wanted: [`plan`](Self::plan) and [`apply`](Self::apply).
            ///
            /// # Errors
            /// Those of [`apply`](Self::apply), and where the table could not be read: nothing was
            /// changed then.
            fn sync(wanted: &Ruleset, policy: &Policy) -> Result<Report, Incomplete>;

            /// A pass of a [`Syncer`]: makes the table what it wants, as far as it is not so by
            /// what the syncer knows. It does not wait for destinations to drain:
            /// [`Report::next`](crate::sync::Report::next) says when to pass again.
            ///
            /// A failure is no error: one destination that the kernel refuses is a controller's daily
            /// life and must not end it. What failed, a table that could not be read included, is in
            /// the report; [`Report::into_result`](crate::sync::Report::into_result) makes an error
            /// of it.
            fn pass(syncer: &mut Syncer) -> Report;
        }
    };
}

pub(crate) use operations;
