//! Carrying out a plan, and the driver of the reconciler: its steps, taken over a session.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::incomplete::Incomplete;
use super::report::{Event, Progress, Report, Stage, Times};
use super::turns::Turns;
use crate::error::{Cause, Error};
use crate::model::{DestinationEntry, Service, ServiceKey};
use crate::protocol::{Batch, Operation, Request};
use crate::reconcile::{Listing, Outcome, Reconciler, Step, Subject};
use crate::ruleset::past::Failure;
use crate::ruleset::{Change, Connections, Plan, Policy, Ruleset, ServiceRules};
use crate::session::Session;

/// From this many services on, one list of all is read instead of each by itself.
const MANY: usize = 64;
/// The longest wait at once.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Why the kernel did not make a change, by what it was about.
pub(super) type Errors = BTreeMap<Subject, Error>;

/// A run of a reconciler.
pub(super) struct Drive<'a, F> {
    pub(super) reconciler: &'a mut Reconciler,
    pub(super) errors: &'a mut Errors,
    pub(super) start: Instant,
    pub(super) times: Times,
    /// Is told of each event, and whose answer may stop the rest.
    pub(super) each: F,
    /// Whether destinations that drain are waited for.
    pub(super) waits: bool,
    progress: Progress,
    drains: usize,
    /// Which load of the module the last step has met, by the family's number.
    pub(super) module: Option<u16>,
}

impl<'a, F: FnMut(Event<'_>) -> ControlFlow<()> + Send> Drive<'a, F> {
    pub(super) fn new(
        reconciler: &'a mut Reconciler,
        errors: &'a mut Errors,
        start: Instant,
        each: F,
    ) -> Self {
        let progress = Progress { stage: Stage::Writing, done: 0, total: 0 };
        let times = Times::default();
        Self {
            reconciler,
            errors,
            start,
            times,
            each,
            waits: true,
            progress,
            drains: 0,
            module: None,
        }
    }

    fn tell(&mut self, stage: Stage, done: usize, total: usize) -> ControlFlow<()> {
        (self.each)(Event::Progress(Progress { stage, done, total }))
    }
}

impl Session {
    pub(crate) async fn plan(&mut self, wanted: &Ruleset, policy: &Policy) -> Result<Plan, Error> {
        Ok(Plan::new(&self.ruleset().await?, wanted, policy))
    }
}

impl Turns<'_> {
    pub(crate) async fn sync(
        &mut self,
        wanted: &Ruleset,
        policy: &Policy,
    ) -> Result<Report, Incomplete> {
        let mut session = self.take().await;
        let start = session.now();
        let plan = session.plan(wanted, policy).await;
        let read = session.now() - start;
        drop(session);
        let mut outcome = match plan {
            Ok(plan) => self.apply(plan).await,
            Err(error) => Report::unread(error).into_result(),
        };
        let times = match &mut outcome {
            Ok(report) => &mut report.times,
            Err(incomplete) => &mut incomplete.report_mut().times,
        };
        times.read += read;
        outcome
    }

    pub(crate) async fn apply(&mut self, plan: Plan) -> Result<Report, Incomplete> {
        self.apply_with(plan, |_| ControlFlow::Continue(())).await
    }

    pub(crate) async fn apply_with(
        &mut self,
        plan: Plan,
        each: impl FnMut(Event<'_>) -> ControlFlow<()> + Send,
    ) -> Result<Report, Incomplete> {
        let start = self.take().await.now();
        let mut reconciler = Reconciler::for_plan(plan.into_parts(), Duration::ZERO);
        let mut errors = Errors::new();
        let mut drive = Drive::new(&mut reconciler, &mut errors, start, each);
        let ending = drive.run(self).await;
        let times = drive.times;
        let took = self.take().await.now() - start;
        Report::new(&mut reconciler, &mut errors, ending, times, took).into_result()
    }
}

/// How a run of a reconciler ended.
pub(super) enum Ending {
    /// All was done that was to be done now.
    Settled,
    /// The caller called off the rest.
    CalledOff,
    /// Something could not be read: the table, or whether this kernel has IPVS.
    Failed(Error),
}

impl<F: FnMut(Event<'_>) -> ControlFlow<()> + Send> Drive<'_, F> {
    /// Takes the steps of a reconciler until it has settled, or would wait and does not.
    pub(super) async fn run(&mut self, turns: &mut Turns<'_>) -> Ending {
        let ended = self.take_steps(turns).await;
        let now = turns.take().await.now().saturating_duration_since(self.start);
        match ended {
            Ok(ControlFlow::Continue(())) => Ending::Settled,
            Ok(ControlFlow::Break(())) => {
                // Asking for a step begins it, so a copy is asked.
                let is_settled = self.reconciler.clone().next(now) == Step::Settled;
                self.reconciler.abandon(Failure::Stopped, now);
                if is_settled { Ending::Settled } else { Ending::CalledOff }
            }
            Err(error) => {
                self.reconciler.abandon(Failure::NotSent, now);
                Ending::Failed(error)
            }
        }
    }

    async fn take_steps(&mut self, turns: &mut Turns<'_>) -> Result<ControlFlow<()>, Error> {
        loop {
            let mut session = turns.take().await;
            self.look_for_a_lost_table(&session);
            let begin = session.now();
            let now = begin.saturating_duration_since(self.start);
            let flow = match self.reconciler.next(now) {
                Step::Settled => {
                    if self.drains > 0 {
                        let _ = self.tell(Stage::Draining, self.drains, self.drains);
                    }
                    return Ok(ControlFlow::Continue(()));
                }
                Step::Wait(_) if !self.waits => return Ok(ControlFlow::Continue(())),
                Step::Wait(until) => {
                    let draining = self.reconciler.draining();
                    self.drains = self.drains.max(draining);
                    // The caller is asked often enough to call it off soon.
                    let until = begin + until.saturating_sub(now).min(LONGEST_SLEEP);
                    drop(session);
                    let flow = self.tell(Stage::Draining, self.drains - draining, self.drains);
                    if flow.is_continue() {
                        // The lock is not held across the wait.
                        let sleep = turns.take().await.sleep(until);
                        sleep.await.map_err(|error| self.cannot_wait(error))?;
                        self.times.drain += turns.take().await.now() - begin;
                    }
                    flow
                }
                Step::ReadAll => {
                    let listing = session.read_table(self.reconciler).await;
                    self.times.read += session.now() - begin;
                    self.reconciler.read(listing?, now);
                    ControlFlow::Continue(())
                }
                Step::Read(keys) => {
                    let listing = session.read_services(self.reconciler, &keys).await;
                    self.times.verify += session.now() - begin;
                    let now = session.now().saturating_duration_since(self.start);
                    self.reconciler.read(listing?, now);
                    drop(session);
                    self.tell(Stage::Verifying, keys.len(), keys.len())
                }
                Step::Write => {
                    let stopped = self.write(&mut session).await;
                    self.times.write += session.now() - begin;
                    stopped?
                }
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }

    /// Takes note of a module that was loaded anew, with an empty table, whichever of the session's
    /// users found out.
    fn look_for_a_lost_table(&mut self, session: &Session) {
        let module = session.module();
        if self.module.is_some() && self.module != module {
            self.reconciler.table_lost();
        }
        self.module = module;
    }

    /// The connections of what drains cannot be counted any more.
    fn cannot_wait(&self, error: io::Error) -> Error {
        let drains = self.reconciler.drains();
        let request =
            drains.keys().next().map_or(Request::Services, |it| Request::Destinations(*it));
        Error::new(request, Cause::Socket(error))
    }

    /// Makes the changes that the reconciler wants made now.
    async fn write(&mut self, session: &mut Session) -> Result<ControlFlow<()>, Error> {
        let Self { reconciler, errors, each, progress, .. } = self;
        let total = reconciler.changes().count();
        let mut outcomes = Vec::with_capacity(total);
        progress.total = progress.total.max(progress.done + total);
        let mut changes = reconciler.changes();
        let mut flow = ControlFlow::Continue(());
        let operations = reconciler.changes().filter_map(Change::operation);
        let result = session
            .batch_while(operations, Batch::default(), |_: &Operation, result| {
                let Some(change) = changes.next() else { return ControlFlow::Continue(()) };
                progress.done += 1;
                let told = match (reconciler.as_planned(change), &result) {
                    (Some(change), Ok(())) => each(Event::Made(&change)),
                    (Some(change), Err(error)) => each(Event::Failed(&change, error)),
                    (None, _) => ControlFlow::Continue(()),
                };
                outcomes.push(result.as_ref().err().map_or(Outcome::Done, outcome));
                if let Err(error) = result {
                    errors.insert((change.service(), change.destination()), error);
                }
                if told.is_break() || each(Event::Progress(*progress)).is_break() {
                    flow = ControlFlow::Break(());
                }
                flow
            })
            .await;
        drop(changes);
        // What came after the stop was never sent.
        outcomes.resize(total, Outcome::NotSent);
        self.reconciler.wrote(&outcomes);
        self.look_for_a_lost_table(session);
        result.map(|()| flow)
    }
}

impl Session {
    async fn read_table(&mut self, reconciler: &Reconciler) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for entry in self.services().await? {
            self.read_service(reconciler, entry.service, &mut listing).await?;
        }
        Ok(listing)
    }

    async fn read_services(
        &mut self,
        reconciler: &Reconciler,
        keys: &std::collections::BTreeSet<ServiceKey>,
    ) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        if keys.len() > MANY {
            let services = self.services().await?;
            for entry in services.into_iter().filter(|entry| keys.contains(&entry.service.key)) {
                self.read_service(reconciler, entry.service, &mut listing).await?;
            }
            return Ok(listing);
        }
        for key in keys {
            match self.service(*key).await {
                Ok(entry) => self.read_service(reconciler, entry.service, &mut listing).await?,
                Err(error) if error.is_service_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listing)
    }

    /// Reads the destinations of a service, with their connections where one of them drains.
    async fn read_service(
        &mut self,
        reconciler: &Reconciler,
        service: Service,
        listing: &mut Listing,
    ) -> Result<(), Error> {
        let key = service.key;
        let rules = if reconciler.drains().contains_key(&key) {
            let entries: Vec<DestinationEntry> = self.list_destinations(key).await?;
            let counts = entries.iter().map(|e| ((key, e.destination.key), Connections::from(e)));
            listing.connections.extend(counts);
            ServiceRules::from_kernel(service, entries.iter().map(|entry| entry.destination))
        } else {
            self.rules(service).await?
        };
        listing.rules.replace(key, Some(rules.into()));
        Ok(())
    }
}

/// What an error means for the change that it is about.
fn outcome(error: &Error) -> Outcome {
    if error.is_already_exists() {
        Outcome::Exists
    } else if error.is_service_not_found() {
        Outcome::ServiceMissing
    } else if error.is_destination_not_found() {
        Outcome::DestinationMissing
    } else if error.is_outcome_unknown() {
        Outcome::Unknown
    } else if error.is_ipvs_not_found() || error.is_not_sent() && !error.is_invalid() {
        Outcome::NotSent
    } else if error.is_passing() {
        Outcome::RefusedForNow
    } else {
        Outcome::Refused
    }
}
