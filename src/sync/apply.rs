//! Carrying out a plan, and the driver of the reconciler: its steps, taken over a session.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::report::{Event, Progress, Report, Stage, Times};
use crate::error::Error;
use crate::model::{DestinationEntry, Service, ServiceKey};
use crate::protocol::{Batch, Operation};
use crate::reconcile::{Listing, Outcome, Reconciler, Step, Subject};
use crate::ruleset::past::Failure;
use crate::ruleset::{Change, Connections, Plan, Policy, Ruleset, ServiceRules};
use crate::session::Session;

/// From this many services on, one list of all is read instead of each by itself.
const MANY: usize = 64;

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
        Self { reconciler, errors, start, times, each, waits: true, progress, drains: 0 }
    }

    fn tell(&mut self, stage: Stage, done: usize, total: usize) -> ControlFlow<()> {
        (self.each)(Event::Progress(Progress { stage, done, total }))
    }
}

impl Session {
    pub(crate) async fn plan(&mut self, wanted: &Ruleset, policy: &Policy) -> Result<Plan, Error> {
        Ok(Plan::new(&self.ruleset().await?, wanted, policy))
    }

    pub(crate) async fn sync(
        &mut self,
        wanted: &Ruleset,
        policy: &Policy,
    ) -> Result<Report, Error> {
        let start = self.now();
        let plan = self.plan(wanted, policy).await?;
        let read = self.now() - start;
        let mut report = self.apply(plan).await?;
        report.times.read += read;
        Ok(report)
    }

    pub(crate) async fn apply(&mut self, plan: Plan) -> Result<Report, Error> {
        self.apply_with(plan, |_| ControlFlow::Continue(())).await
    }

    pub(crate) async fn apply_with(
        &mut self,
        plan: Plan,
        each: impl FnMut(Event<'_>) -> ControlFlow<()> + Send,
    ) -> Result<Report, Error> {
        let start = self.now();
        let mut reconciler = Reconciler::for_plan(plan.into_parts(), Duration::ZERO);
        let mut errors = Errors::new();
        let mut drive = Drive::new(&mut reconciler, &mut errors, start, each);
        let ended = self.drive(&mut drive).await;
        let times = drive.times;
        Ok(Report::new(&mut reconciler, &mut errors, ended.err(), times, self.now() - start))
    }

    /// Takes the steps of a reconciler until it has settled, or would wait and does not.
    ///
    /// # Errors
    /// Something could not be read: the table, or whether this kernel has IPVS.
    pub(super) async fn drive<F: FnMut(Event<'_>) -> ControlFlow<()> + Send>(
        &mut self,
        drive: &mut Drive<'_, F>,
    ) -> Result<(), Error> {
        let ended = self.take_steps(drive).await;
        match ended {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => self.abandon(drive, Failure::Stopped),
            Err(_) => self.abandon(drive, Failure::NotSent),
        }
        ended.map(drop)
    }

    fn abandon<F>(&self, drive: &mut Drive<'_, F>, failure: Failure) {
        let now = self.now().saturating_duration_since(drive.start);
        drive.reconciler.abandon(failure, now);
    }

    async fn take_steps<F: FnMut(Event<'_>) -> ControlFlow<()> + Send>(
        &mut self,
        drive: &mut Drive<'_, F>,
    ) -> Result<ControlFlow<()>, Error> {
        loop {
            let begin = self.now();
            let now = begin.saturating_duration_since(drive.start);
            let flow = match drive.reconciler.next(now) {
                Step::Settled => {
                    if drive.drains > 0 {
                        let _ = drive.tell(Stage::Draining, drive.drains, drive.drains);
                    }
                    return Ok(ControlFlow::Continue(()));
                }
                Step::Wait(_) if !drive.waits => return Ok(ControlFlow::Continue(())),
                Step::Wait(until) => {
                    let draining = drive.reconciler.draining();
                    drive.drains = drive.drains.max(draining);
                    let done = drive.drains - draining;
                    let flow = drive.tell(Stage::Draining, done, drive.drains);
                    if flow.is_continue() {
                        self.wait(drive.start, until).await;
                        drive.times.drain += self.now() - begin;
                    }
                    flow
                }
                Step::ReadAll => {
                    let listing = self.read_table(drive.reconciler).await;
                    drive.times.read += self.now() - begin;
                    drive.reconciler.read(listing?, now);
                    ControlFlow::Continue(())
                }
                Step::Read(keys) => {
                    let listing = self.read_services(drive.reconciler, &keys).await;
                    drive.times.verify += self.now() - begin;
                    let now = self.now().saturating_duration_since(drive.start);
                    drive.reconciler.read(listing?, now);
                    drive.tell(Stage::Verifying, keys.len(), keys.len())
                }
                Step::Write => {
                    let stopped = self.write(drive).await;
                    drive.times.write += self.now() - begin;
                    stopped?
                }
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }

    async fn wait(&mut self, start: Instant, until: Duration) {
        // A time that the clock cannot tell does not come.
        const LONG: Duration = Duration::from_secs(3600);
        let until = start.checked_add(until).unwrap_or_else(|| self.now() + LONG);
        self.sleep(until).await;
    }

    /// Makes the changes that the reconciler wants made now.
    async fn write<F: FnMut(Event<'_>) -> ControlFlow<()> + Send>(
        &mut self,
        drive: &mut Drive<'_, F>,
    ) -> Result<ControlFlow<()>, Error> {
        let loads = self.loads();
        let Drive { reconciler, errors, each, progress, .. } = drive;
        let total = reconciler.changes().count();
        let mut outcomes = Vec::with_capacity(total);
        progress.total = progress.total.max(progress.done + total);
        let mut changes = reconciler.changes();
        let mut flow = ControlFlow::Continue(());
        let operations = reconciler.changes().filter_map(Change::operation);
        let result = self
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
        drive.reconciler.wrote(&outcomes);
        if self.loads() != loads {
            drive.reconciler.table_lost();
        }
        result.map(|()| flow)
    }

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
