//! Carrying out a plan.

use std::collections::{BTreeMap, BTreeSet};

use super::drain::Drainer;
use super::steps::{Operations, Part, Step, Steps};
use super::{Failed, Progress, Report, Stage};
use crate::error::Error;
use crate::model::ServiceKey;
use crate::protocol::{Batch, Operation};
use crate::ruleset::{Allowed, Change, Plan, Policy, Ruleset};
use crate::session::Session;

/// How often what others change meanwhile is read and planned again.
const ROUNDS: usize = 5;
/// From this many services on, one list of all is read instead of each by itself.
const MANY: usize = 64;

/// What is wanted, and what is known of the table while it is changed.
pub(super) struct Work<'a> {
    pub(super) wanted: &'a Ruleset,
    pub(super) known: &'a mut Ruleset,
    /// Whether what is known is of use afterwards, and so what is done is recorded in it.
    pub(super) recorded: bool,
    pub(super) policy: &'a Policy,
    pub(super) report: &'a mut Report,
}

impl Work<'_> {
    fn plan(&self, keys: &BTreeSet<ServiceKey>) -> Plan {
        Plan::of_services(keys.iter().copied(), self.known, self.wanted, self.policy)
    }

    /// Takes note of what is now so.
    pub(super) fn record(&mut self, change: &Change) {
        if self.recorded {
            self.known.record(change);
        }
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
        report.times.read = read;
        Ok(report)
    }

    pub(crate) async fn apply(&mut self, plan: Plan) -> Result<Report, Error> {
        self.apply_with(plan, |_| ()).await
    }

    pub(crate) async fn apply_with(
        &mut self,
        mut plan: Plan,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<Report, Error> {
        let mut report = Report { left: plan.take_left(), ..Report::default() };
        report.error = self.carry_out(&mut plan, &mut report, &mut progress).await.err();
        Ok(report)
    }

    async fn carry_out(
        &mut self,
        plan: &mut Plan,
        report: &mut Report,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let mut known = plan.take_actual();
        let policy = plan.policy();
        let mut drainer = Drainer::default();
        drainer.begin(plan, self.now());
        let mut work = Work {
            wanted: plan.wanted(),
            known: &mut known,
            // What is planned again later is read again before.
            recorded: false,
            policy,
            report,
        };

        let start = self.now();
        let disturbed = self.make(plan.immediate(), &mut work, progress).await;
        let settled = match disturbed {
            Ok(disturbed) => self.settle(disturbed, &mut work).await,
            Err(error) => Err(error),
        };
        work.report.times.write = self.now() - start;
        settled?;
        if !policy.unverified {
            let start = self.now();
            let touched = plan.changes().iter().map(Change::service).collect();
            let verified = self.verify(touched, &mut work, progress).await;
            work.report.times.verify = self.now() - start;
            verified?;
        }
        let start = self.now();
        let total = drainer.len();
        while !drainer.is_empty() {
            self.drain_step(&mut drainer, &mut work).await?;
            progress(Progress { stage: Stage::Draining, done: total - drainer.len(), total });
            if let Some(next) = drainer.next_step(self.now(), policy.draining.interval) {
                self.sleep(next).await;
            }
        }
        if total > 0 {
            work.report.times.drain = self.now() - start;
        }
        Ok(())
    }

    /// Makes changes, in batches. What fails since others have changed the table, or came to an
    /// unknown end, is returned; what fails for good is reported.
    pub(super) async fn make(
        &mut self,
        changes: &[Change],
        work: &mut Work<'_>,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Vec<Failed>, Error> {
        let total = changes.iter().filter(|change| !change.is_so_already()).count();
        // The scheduler that comes later is an update, were the service somebody else's by then.
        let may_update = work.policy.allowed.contains(Allowed::UPDATE_SERVICES);
        let steps = if may_update { Steps::new(changes) } else { Steps::plain(changes) };
        let made = self.take_steps(steps, total, work, progress).await?;
        let Made { mut disturbed, unbound, .. } = made;
        if unbound.is_empty() {
            return Ok(disturbed);
        }
        // Nothing is left half done; the plain way then tells what is wrong, change for change.
        let added = unbound.iter().filter(|(_, added)| **added);
        let removals: Vec<_> = added.map(|(key, _)| Operation::RemoveService(*key)).collect();
        self.batch(removals).await?;
        let is_other = |failed: &Failed| !unbound.contains_key(&failed.change.service());
        disturbed.retain(is_other);
        work.report.failed.retain(is_other);
        let changes = changes.iter().filter(|change| unbound.contains_key(&change.service()));
        let changes: Vec<_> = changes.copied().collect();
        let again = Steps::plain(&changes);
        let again = self.take_steps(again, changes.len(), work, &mut |_| ()).await?;
        disturbed.extend(again.disturbed);
        Ok(disturbed)
    }

    async fn take_steps(
        &mut self,
        steps: Steps<'_>,
        total: usize,
        work: &mut Work<'_>,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Made, Error> {
        let mut made = Made::default();
        let mut done = 0;
        let mut sent = steps.clone();
        let operations = Operations(steps);
        let each = |_: &_, result: Result<(), Error>| {
            let Some(step) = sent.next() else { return };
            if step.part != Part::Unbound {
                done += 1;
                progress(Progress { stage: Stage::Writing, done, total });
            }
            made.take(step, result, work);
        };
        self.batch_each(operations, Batch::default(), each).await?;
        Ok(made)
    }

    /// Reads again what others have changed, plans again and makes that, some rounds at most.
    pub(super) async fn settle(
        &mut self,
        mut disturbed: Vec<Failed>,
        work: &mut Work<'_>,
    ) -> Result<(), Error> {
        let mut rounds = 0;
        while !disturbed.is_empty() {
            if rounds == ROUNDS {
                work.report.failed.append(&mut disturbed);
                break;
            }
            rounds += 1;
            work.report.rounds += 1;
            let keys = disturbed.iter().map(|failed| failed.change.service()).collect();
            self.read_again(&keys, work.known).await?;
            // All of these services is planned again, what had failed for good included.
            work.report.failed.retain(|failed| !keys.contains(&failed.change.service()));
            disturbed = self.make(work.plan(&keys).immediate(), work, &mut |_| ()).await?;
        }
        Ok(())
    }

    /// Reads back the services that were changed, and mends what is not as it was written.
    async fn verify(
        &mut self,
        mut keys: BTreeSet<ServiceKey>,
        work: &mut Work<'_>,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let total = keys.len();
        for failed in &work.report.failed {
            keys.remove(&failed.change.service());
        }
        for _ in 0..ROUNDS {
            // What is read while others change the table can lack entries, or have them twice: what
            // seems to differ is read once more before it is mended.
            for _ in 0..2 {
                self.read_again(&keys, work.known).await?;
                let changes = work.plan(&keys);
                let changes = changes.immediate().iter().filter(|c| c.operation().is_some());
                keys = changes.map(Change::service).collect();
                progress(Progress { stage: Stage::Verifying, done: total - keys.len(), total });
                if keys.is_empty() {
                    return Ok(());
                }
            }
            work.report.rounds += 1;
            let disturbed = self.make(work.plan(&keys).immediate(), work, &mut |_| ()).await?;
            self.settle(disturbed, work).await?;
            for failed in &work.report.failed {
                keys.remove(&failed.change.service());
            }
        }
        Ok(())
    }

    /// Reads services again into what is known.
    pub(super) async fn read_again(
        &mut self,
        keys: &BTreeSet<ServiceKey>,
        known: &mut Ruleset,
    ) -> Result<(), Error> {
        if keys.len() > MANY {
            let mut services: Vec<_> = self.services().await?;
            services.retain(|entry| keys.contains(&entry.service.key));
            for key in keys {
                known.set_read(*key, None);
            }
            for entry in services {
                self.read_rules(entry.service, known).await?;
            }
            return Ok(());
        }
        for key in keys {
            known.set_read(*key, None);
            match self.service(*key).await {
                Ok(entry) => self.read_rules(entry.service, known).await?,
                Err(error) if error.is_service_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read_rules(
        &mut self,
        service: crate::model::Service,
        known: &mut Ruleset,
    ) -> Result<(), Error> {
        known.set_read(service.key, Some(self.rules(service).await?));
        Ok(())
    }
}

/// What came of steps, beside what is reported.
#[derive(Default)]
struct Made {
    /// What others were in the way of, or came to an unknown end.
    disturbed: Vec<Failed>,
    /// The services that could not be added: their destinations have nowhere to go.
    refused: BTreeSet<ServiceKey>,
    /// How many destinations the new service has that has no scheduler yet. They are reported as
    /// made when it has.
    begun: Option<usize>,
    /// The new services that did not get their scheduler, and whether they are there without it.
    unbound: BTreeMap<ServiceKey, bool>,
}

impl Made {
    fn take(
        &mut self,
        Step { change, part }: Step<'_>,
        result: Result<(), Error>,
        work: &mut Work<'_>,
    ) {
        let failed = match result {
            Ok(()) => return self.done(change, part, work),
            Err(error) => Failed { change: *change, error },
        };
        let service = change.service();
        let begun = if part == Part::Bind { self.begun.take() } else { None };
        match part {
            // Its first part has failed, and told why.
            Part::Bind if begun.is_none() => {}
            _ if failed.is_disturbance() && !self.refused.contains(&service) => {
                work.report.changed += begun.unwrap_or_default();
                self.disturbed.push(failed);
            }
            Part::Unbound | Part::Bind => {
                self.unbound.insert(service, part == Part::Bind);
            }
            Part::Whole => {
                if matches!(change, Change::AddService(_)) {
                    self.refused.insert(service);
                }
                work.report.failed.push(failed);
            }
        }
    }

    fn done(&mut self, change: &Change, part: Part, work: &mut Work<'_>) {
        match (part, &mut self.begun) {
            (Part::Unbound, begun) => *begun = Some(0),
            (Part::Whole, Some(destinations)) => *destinations += 1,
            (Part::Whole, None) => work.report.changed += 1,
            (Part::Bind, begun) => {
                work.report.changed += begun.take().map_or(0, |destinations| destinations + 1);
            }
        }
        work.record(change);
    }
}

impl Failed {
    /// Whether the change failed since the table was not what it was taken for.
    fn is_disturbance(&self) -> bool {
        let error = &self.error;
        error.is_already_exists() || error.is_not_found() || error.is_outcome_unknown()
    }
}
