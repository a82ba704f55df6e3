//! Carrying out a plan.

use std::collections::BTreeSet;

use super::drain::Drainer;
use super::{Failed, Progress, Report, Stage};
use crate::error::Error;
use crate::model::ServiceKey;
use crate::protocol::Batch;
use crate::ruleset::{Change, Plan, Policy, Ruleset, ServiceRules};
use crate::session::Session;

/// How often what others change meanwhile is read and planned again.
const ROUNDS: usize = 5;
/// From this many services on, one list of all is read instead of each by itself.
const MANY: usize = 64;

/// What is wanted, and what is known of the table while it is changed.
pub(super) struct Work<'a> {
    pub(super) wanted: &'a Ruleset,
    pub(super) known: &'a mut Ruleset,
    pub(super) policy: &'a Policy,
    pub(super) report: &'a mut Report,
}

impl Work<'_> {
    fn plan(&self, keys: &BTreeSet<ServiceKey>) -> Plan {
        Plan::of_services(keys.iter().copied(), self.known, self.wanted, self.policy)
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
        report.error = self.carry_out(plan, &mut report, &mut progress).await.err();
        Ok(report)
    }

    async fn carry_out(
        &mut self,
        plan: Plan,
        report: &mut Report,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let mut drainer = Drainer::default();
        drainer.begin(&plan, self.now());
        let touched: BTreeSet<_> = plan.changes().iter().map(Change::service).collect();
        let changes = plan.immediate().to_vec();
        let (mut known, wanted, policy) = plan.into_parts();
        let mut work = Work { wanted: &wanted, known: &mut known, policy: &policy, report };

        let start = self.now();
        let disturbed = self.make(&changes, &mut work, progress).await;
        let settled = match disturbed {
            Ok(disturbed) => self.settle(disturbed, &mut work).await,
            Err(error) => Err(error),
        };
        work.report.times.write = self.now() - start;
        settled?;
        if !policy.unverified {
            let start = self.now();
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
        let mut disturbed = Vec::new();
        let mut refused = BTreeSet::new();
        let mut sent = changes.iter().filter(|change| change.operation().is_some());
        let total = changes.len();
        let mut done = 0;
        let operations: Vec<_> = changes.iter().filter_map(Change::operation).collect();
        let each = |_: &_, result: Result<(), Error>| {
            done += 1;
            progress(Progress { stage: Stage::Writing, done, total });
            let Some(change) = sent.next() else { return };
            match result {
                Ok(()) => {
                    work.known.record(change);
                    work.report.changed += 1;
                }
                Err(error) => {
                    let failed = Failed { change: *change, error };
                    // Where a service could not be added, its destinations have nowhere to go.
                    if failed.is_disturbance() && !refused.contains(&change.service()) {
                        disturbed.push(failed);
                    } else {
                        if matches!(change, Change::AddService(_)) {
                            refused.insert(change.service());
                        }
                        work.report.failed.push(failed);
                    }
                }
            }
        };
        self.batch_each(operations, Batch::default(), each).await?;
        Ok(disturbed)
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
        let destinations = self.list_destinations(service.key).await?;
        let destinations = destinations.into_iter().map(|entry| entry.destination);
        known.set_read(service.key, Some(ServiceRules::read(service, destinations)));
        Ok(())
    }
}

impl Failed {
    /// Whether the change failed since the table was not what it was taken for.
    fn is_disturbance(&self) -> bool {
        let error = &self.error;
        error.is_already_exists() || error.is_not_found() || error.is_outcome_unknown()
    }
}
