//! Carrying out a plan, and the driver of the reconciler, which takes its steps over a session.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::incomplete::Incomplete;
use super::report::{Ending, Errors, Progress, Report, Stage, SyncEvent, SyncTimes};
use super::turns::Turns;
use crate::error::{Cause, Error};
use crate::model::{DestinationEntry, Service, ServiceKey};
use crate::protocol::{Operation, Request};
use crate::reconcile::{Listing, Outcome, Reconciler, Step, joined};
use crate::ruleset::past::Failure;
use crate::ruleset::{Change, ConnectionCounts, Plan, Policy, Ruleset, ServiceRules};
use crate::session::{BatchOptions, Session};

/// If more services than this, and more than this part of the table, are to be read, the whole
/// table is listed instead of reading each service by itself.
const MANY: usize = 64;
const PART: usize = 8;
/// How often a sync starts again after the table was lost.
const RELOADS: usize = 3;
/// The longest single wait.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How often in a row a reading may fail for a reason that passes, during the wait for connections
/// to end.
const FAILED_READINGS: usize = 5;

/// A run of a reconciler.
pub(super) struct Drive<'a, F> {
    pub(super) reconciler: &'a mut Reconciler,
    pub(super) errors: &'a mut Errors,
    pub(super) start: Instant,
    pub(super) times: SyncTimes,
    /// Is called for each event; its answer may stop the rest.
    pub(super) each: F,
    /// Whether destinations that drain are waited for.
    pub(super) waits: bool,
    progress: Progress,
    drains: usize,
    /// How many readings have failed in a row.
    failed_readings: usize,
    pub(super) seen: &'a mut Seen,
    /// The time since `start`, at the beginning of the last step or the end of the run. Some machines
    /// need a system call to read the clock, which is read no more often than necessary.
    pub(super) now: Duration,
}

/// The state that a run records at once, since its future may be dropped at any await.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// The family's number at the last step: another number means that the module was loaded anew.
    pub(super) module: Option<u16>,
    /// When the whole table was last read, and how long that took.
    pub(super) reading: Option<(Duration, Duration)>,
}

impl<'a, F: FnMut(SyncEvent<'_>) -> ControlFlow<()> + Send> Drive<'a, F> {
    pub(super) fn new(
        reconciler: &'a mut Reconciler,
        errors: &'a mut Errors,
        seen: &'a mut Seen,
        start: Instant,
        each: F,
    ) -> Self {
        let progress = Progress { stage: Stage::Writing, done: 0, total: 0 };
        let times = SyncTimes::default();
        Self {
            reconciler,
            errors,
            start,
            times,
            each,
            waits: true,
            progress,
            drains: 0,
            failed_readings: 0,
            seen,
            now: Duration::ZERO,
        }
    }

    fn tell(&mut self, stage: Stage, done: usize, total: usize) -> ControlFlow<()> {
        (self.each)(SyncEvent::Progress(Progress { stage, done, total }))
    }
}

impl Session {
    pub(crate) async fn plan(&mut self, wanted: &Ruleset, policy: &Policy) -> Result<Plan, Error> {
        let actual = self.ruleset().await?;
        Ok(Plan::new(&actual, wanted, policy).of_module(self.module()))
    }
}

impl Turns<'_> {
    pub(crate) async fn sync(
        &mut self,
        wanted: &Ruleset,
        policy: &Policy,
    ) -> Result<Report, Incomplete> {
        let mut report = self.sync_once(wanted, policy).await;
        for _ in 0..RELOADS {
            if !report.error.as_ref().is_some_and(Error::is_table_lost) {
                break;
            }
            let lost = std::mem::replace(&mut report, self.sync_once(wanted, policy).await);
            report.follows(lost);
        }
        report.into_result()
    }

    async fn sync_once(&mut self, wanted: &Ruleset, policy: &Policy) -> Report {
        let mut session = self.take().await;
        let start = session.now();
        let plan = session.plan(wanted, policy).await;
        let read = session.now() - start;
        drop(session);
        let mut report = match plan {
            Ok(plan) => self.carry_out(plan, |_| ControlFlow::Continue(())).await,
            Err(error) => Report::unread(error),
        };
        report.times.read += read;
        report
    }

    pub(crate) async fn apply(&mut self, plan: Plan) -> Result<Report, Incomplete> {
        self.apply_with(plan, |_| ControlFlow::Continue(())).await
    }

    pub(crate) async fn apply_with(
        &mut self,
        plan: Plan,
        each: impl FnMut(SyncEvent<'_>) -> ControlFlow<()> + Send,
    ) -> Result<Report, Incomplete> {
        self.carry_out(plan, each).await.into_result()
    }

    async fn carry_out(
        &mut self,
        plan: Plan,
        each: impl FnMut(SyncEvent<'_>) -> ControlFlow<()> + Send,
    ) -> Report {
        let start = self.take().await.now();
        let mut seen = Seen { module: plan.module(), reading: None };
        let mut reconciler = Reconciler::for_plan(plan.into_parts(), Duration::ZERO);
        let mut errors = Errors::new();
        let mut drive = Drive::new(&mut reconciler, &mut errors, &mut seen, start, each);
        let ending = drive.run(self).await;
        let (times, took) = (drive.times, drive.now);
        Report::new(&mut reconciler, &mut errors, ending, times, took)
    }
}

impl<F: FnMut(SyncEvent<'_>) -> ControlFlow<()> + Send> Drive<'_, F> {
    /// Takes the reconciler's steps until it has settled or, if draining is not waited for, until
    /// it would wait.
    pub(super) async fn run(&mut self, turns: &mut Turns<'_>) -> Ending {
        let ended = self.take_steps(turns).await;
        if let Ok(ControlFlow::Continue(())) = ended {
            return Ending::Settled;
        }
        self.now = turns.take().await.now().saturating_duration_since(self.start);
        match ended {
            Ok(_) => {
                // `next` begins the step that it returns: ask a copy.
                let is_settled = self.reconciler.clone().next(self.now) == Step::Settled;
                self.reconciler.abandon(Failure::Stopped, self.now);
                if is_settled { Ending::Settled } else { Ending::CalledOff }
            }
            Err(error) => {
                self.reconciler.abandon(Failure::NotSent, self.now);
                Ending::Failed(error)
            }
        }
    }

    async fn take_steps(&mut self, turns: &mut Turns<'_>) -> Result<ControlFlow<()>, Error> {
        loop {
            let mut session = turns.take().await;
            self.look_for_a_lost_table(&session)?;
            let begin = session.now();
            let now = begin.saturating_duration_since(self.start);
            self.now = now;
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
                    // Short sleeps let the caller call the run off within a second.
                    let until = begin + until.saturating_sub(now).min(LONGEST_SLEEP);
                    drop(session);
                    let flow = self.tell(Stage::Draining, self.drains - draining, self.drains);
                    if flow.is_continue() {
                        // The wait does not hold the lock.
                        let sleep = turns.take().await.sleep(until);
                        sleep.await.map_err(|error| self.cannot_wait(error))?;
                        self.times.drain += turns.take().await.now() - begin;
                    }
                    flow
                }
                Step::ReadAll => {
                    let listing = session.read_table(self.reconciler).await;
                    let took = session.now() - begin;
                    self.times.read += took;
                    let listing = listing?;
                    // A listing that began before the module was loaded anew tells nothing about
                    // the new table.
                    if session.is_of_one_load(self.seen.module) {
                        self.reconciler.read(listing, now);
                        self.seen.reading = Some((now, took));
                    }
                    self.tell_found_made()
                }
                Step::Read(keys) => {
                    let listing = session.read_services(self.reconciler, &keys).await;
                    let end = session.now();
                    self.times.verify += end - begin;
                    let now = end.saturating_duration_since(self.start);
                    let is_of_one_load = session.is_of_one_load(self.seen.module);
                    drop(session);
                    match listing {
                        Ok(listing) => {
                            self.failed_readings = 0;
                            if is_of_one_load {
                                self.reconciler.read(listing, now);
                            }
                        }
                        Err(error) => self.wait_after(error, turns).await?,
                    }
                    let told = self.tell_found_made();
                    if told.is_break() {
                        told
                    } else {
                        self.tell(Stage::Verifying, keys.len(), keys.len())
                    }
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

    /// Tells all changes that a reading has shown as made, and whether the rest is called off.
    fn tell_found_made(&mut self) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        for change in self.reconciler.take_found_made() {
            if (self.each)(SyncEvent::Made(&change)).is_break() {
                flow = ControlFlow::Break(());
            }
        }
        flow
    }

    /// Waits a moment after a reading that failed for a passing reason; otherwise returns the
    /// error.
    async fn wait_after(&mut self, error: Error, turns: &mut Turns<'_>) -> Result<(), Error> {
        self.failed_readings += 1;
        if !self.waits || !error.is_passing() || self.failed_readings == FAILED_READINGS {
            return Err(error);
        }
        let mut session = turns.take().await;
        let until = session.now() + LONGEST_SLEEP;
        let sleep = session.sleep(until);
        drop(session);
        sleep.await.map_err(|_| error)
    }

    /// Notices that the module was loaded anew, with an empty table, whichever user of the session
    /// found this out. Fails if the table cannot be read anew.
    fn look_for_a_lost_table(&mut self, session: &Session) -> Result<(), Error> {
        let module = session.module();
        let before = std::mem::replace(&mut self.seen.module, module);
        if before.is_none() || before == module || self.reconciler.table_lost() {
            return Ok(());
        }
        if module.is_none() {
            // The client was only just connected, and learns of the module by its first request.
            self.seen.module = before;
            return Ok(());
        }
        Err(Error::new(Request::Services, Cause::TableLost))
    }

    /// The connections of draining destinations can no longer be counted.
    fn cannot_wait(&self, error: io::Error) -> Error {
        let drains = self.reconciler.drains();
        let request =
            drains.keys().next().map_or(Request::Services, |it| Request::Destinations(*it));
        Error::new(request, Cause::socket(error))
    }

    /// Makes the changes that the reconciler asks for now.
    async fn write(&mut self, session: &mut Session) -> Result<ControlFlow<()>, Error> {
        let Self { reconciler, errors, each, progress, .. } = self;
        let total = reconciler.changes().count();
        let mut outcomes = Vec::with_capacity(total);
        progress.total = progress.total.max(progress.done + total);
        let mut changes = reconciler.changes();
        let mut not_added: Option<&Change> = None;
        let mut flow = ControlFlow::Continue(());
        let operations = reconciler.changes().filter_map(Change::operation);
        let result = session
            .batch_while(operations, BatchOptions::unchecked(), |_: &Operation, result| {
                let Some(change) = changes.next() else { return ControlFlow::Continue(()) };
                progress.done += 1;
                let told = match &result {
                    Ok(()) => each(SyncEvent::Made(change)),
                    Err(error) => each(SyncEvent::Failed(change, error)),
                };
                outcomes.push(result.as_ref().err().map_or(Outcome::Done, outcome));
                if let Err(error) = result {
                    // The late scheduler of a service that was not added fails for that reason.
                    if not_added.is_none_or(|first| joined(first, change).is_none()) {
                        errors.insert((change.service(), change.destination()), error);
                    }
                    if let Change::AddService(_) = change {
                        not_added = Some(change);
                    }
                }
                if told.is_break() || each(SyncEvent::Progress(*progress)).is_break() {
                    flow = ControlFlow::Break(());
                }
                flow
            })
            .await;
        drop(changes);
        // Changes after the stop were never sent.
        outcomes.resize(total, Outcome::NotSent);
        self.reconciler.wrote(&outcomes);
        self.look_for_a_lost_table(session)?;
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
        if keys.len() > MANY.max(reconciler.table_size() / PART) {
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

    /// Reads the destinations of a service, with their connections if one of the destinations
    /// drains.
    async fn read_service(
        &mut self,
        reconciler: &Reconciler,
        service: Service,
        listing: &mut Listing,
    ) -> Result<(), Error> {
        let key = service.key;
        let rules = if reconciler.drains().contains_key(&key) {
            let entries = self.destinations_of_listed::<DestinationEntry>(key).await?;
            entries.map(|entries| {
                let counts =
                    entries.iter().map(|e| ((key, e.destination.key), ConnectionCounts::from(e)));
                listing.connections.extend(counts);
                ServiceRules::from_kernel(service, entries.iter().map(|entry| entry.destination))
            })
        } else {
            self.rules(service).await?
        };
        listing.rules.replace(key, rules.map(Into::into));
        Ok(())
    }
}

/// The meaning of an error for the change that failed.
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
