//! The syncer: a controller's long-lived view of the table.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::apply::Work;
use super::drain::Drainer;
use super::{Failed, Report};
use crate::error::Error;
use crate::model::{Destination, DestinationKey, Invalid, Service, ServiceKey};
use crate::ruleset::{Change, Plan, Policy, Ruleset};
use crate::session::Session;

/// Keeps a table as wanted, over the life of a controller.
///
/// It holds what is wanted and what it knows of the table. [`Client::pass`](crate::blocking::Client::pass) brings the one to the
/// other: a pass without changes makes no system call, and a change costs its own size, not that
/// of the table. What failed is tried again in the next pass.
///
/// IPVS tells nobody of changes, so what others do shows by reading alone:
/// [`max_age`](Self::max_age) says after how long a pass reads the whole table anew, and
/// [`resync`](Self::resync) has the next one do so. Changes that fail since others were at work, or
/// whose outcome is unknown, have the services they concern read again at once.
///
/// ```no_run
/// use std::time::Duration;
/// use ipvs_netlink::{Draining, Policy, Syncer, blocking::Client};
///
/// let mut ipvs = Client::connect()?;
/// let policy = Policy::new().draining(Draining::within(Duration::from_secs(60)));
/// let mut syncer = Syncer::new(policy).max_age(Duration::from_secs(300));
/// loop {
///     // syncer.want(…), syncer.want_destination(…), …
///     let report = ipvs.pass(&mut syncer)?;
///     println!("{report}");
///     std::thread::sleep(report.next.unwrap_or(Duration::from_secs(10)));
/// }
/// # Ok::<(), ipvs_netlink::Error>(())
/// ```
#[derive(Debug)]
pub struct Syncer {
    policy: Policy,
    max_age: Option<Duration>,
    wanted: Ruleset,
    /// What is known of the table, and since when.
    known: Option<(Ruleset, Instant)>,
    /// The services that may not be as wanted.
    changed: BTreeSet<ServiceKey>,
    /// The services of which what is known may be wrong.
    doubtful: BTreeSet<ServiceKey>,
    drainer: Drainer,
}

impl Syncer {
    /// A syncer that wants nothing yet. Its first pass reads the table.
    ///
    /// With the policy's scope as it is by default, a pass without anything wanted removes every
    /// service there is.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            max_age: None,
            wanted: Ruleset::new(),
            known: None,
            changed: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            drainer: Drainer::default(),
        }
    }

    /// After how long a pass reads the whole table anew; unless set, never.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        Self { max_age: Some(age), ..self }
    }

    /// What is wanted.
    pub fn wanted(&self) -> &Ruleset {
        &self.wanted
    }

    /// What is known of the table; `None` before the first pass and after
    /// [`resync`](Self::resync).
    pub fn known(&self) -> Option<&Ruleset> {
        self.known.as_ref().map(|(known, _)| known)
    }

    /// Has the next pass read the whole table.
    pub fn resync(&mut self) {
        self.known = None;
    }

    /// Wants these rules instead of all that was wanted. Takes time by the size of both.
    pub fn want(&mut self, rules: Ruleset) {
        let keys: BTreeSet<_> = self.wanted.keys().chain(rules.keys()).collect();
        let differs = |key: &ServiceKey| self.wanted.service(*key) != rules.service(*key);
        self.changed.extend(keys.into_iter().filter(differs));
        self.wanted = rules;
    }

    /// Wants a service, or another configuration of it; its destinations stay.
    ///
    /// # Errors
    /// Those of [`Ruleset::insert_service`].
    pub fn want_service(&mut self, service: Service) -> Result<(), Invalid> {
        self.wanted.insert_service(service)?;
        self.changed.insert(service.key);
        Ok(())
    }

    /// Wants a destination, or another configuration of it.
    ///
    /// # Errors
    /// Those of [`Ruleset::insert_destination`].
    pub fn want_destination(
        &mut self,
        service: ServiceKey,
        destination: Destination,
    ) -> Result<(), Invalid> {
        self.wanted.insert_destination(service, destination)?;
        self.changed.insert(service);
        Ok(())
    }

    /// Wants a service no more.
    pub fn drop_service(&mut self, key: ServiceKey) {
        self.wanted.remove_service(key);
        self.changed.insert(key);
    }

    /// Wants a destination no more.
    pub fn drop_destination(&mut self, service: ServiceKey, key: impl Into<DestinationKey>) {
        self.wanted.remove_destination(service, key);
        self.changed.insert(service);
    }
}

impl Session {
    pub(crate) async fn pass(&mut self, syncer: &mut Syncer) -> Result<Report, Error> {
        let mut report = Report::default();
        report.error = self.pass_into(syncer, &mut report).await.err();
        report.draining = syncer.drainer.len();
        let next = syncer.drainer.next_step(self.now(), syncer.policy.draining.interval);
        report.next = next.map(|at| at.saturating_duration_since(self.now()));
        Ok(report)
    }

    async fn pass_into(&mut self, syncer: &mut Syncer, report: &mut Report) -> Result<(), Error> {
        let start = self.now();
        let age = |read: &Instant| start.saturating_duration_since(*read);
        let is_old = |(_, read): &(_, Instant)| syncer.max_age.is_some_and(|max| age(read) >= max);
        if syncer.known.as_ref().is_none_or(is_old) {
            let known = self.ruleset().await?;
            syncer.changed.extend(known.keys().chain(syncer.wanted.keys()));
            syncer.doubtful.clear();
            syncer.known = Some((known, start));
            report.times.read = self.now() - start;
        }
        let Some((known, _)) = &mut syncer.known else { return Ok(()) };
        if !syncer.doubtful.is_empty() {
            self.read_again(&syncer.doubtful, known).await?;
            syncer.changed.append(&mut syncer.doubtful);
        }
        let keys: Vec<_> = syncer.changed.iter().copied().collect();
        let mut plan = Plan::of_services(keys.clone(), known, &syncer.wanted, &syncer.policy);
        report.left = plan.take_left();
        // What is known is written to below, and copied where it is shared.
        drop(plan.take_actual());
        syncer.drainer.keep_wanted(&keys, &syncer.wanted);
        syncer.drainer.begin(&plan, start);

        // Until the end is known, all of it is in doubt: a pass that is dropped is no pass.
        let changed: Vec<_> = plan.immediate().iter().map(Change::service).collect();
        syncer.doubtful.extend(changed);
        let mut work = Work {
            wanted: &syncer.wanted,
            known,
            recorded: true,
            policy: &syncer.policy,
            report: &mut *report,
        };
        if !plan.immediate().is_empty() {
            let start = self.now();
            let disturbed = self.make(plan.immediate(), &mut work, &mut |_| ()).await?;
            self.settle(disturbed, &mut work).await?;
            work.report.times.write = self.now() - start;
        }
        let due = syncer.drainer.next_step(start, syncer.policy.draining.interval);
        if due.is_some_and(|at| at <= start) {
            self.drain_step(&mut syncer.drainer, &mut work).await?;
        }
        syncer.changed.clear();
        syncer.doubtful.clear();
        let failed = report.failed.iter().map(|Failed { change, .. }| change.service());
        syncer.doubtful.extend(failed);
        Ok(())
    }
}
