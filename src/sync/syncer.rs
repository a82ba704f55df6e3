//! The syncer: a controller's long-lived view of the table.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use super::apply::{Drive, Seen};
use super::drains::{DrainEntry, Drains};
use super::report::{Ending, Errors, Report};
use super::turns::Turns;
use crate::model::{Destination, DestinationKey, Invalid, Service, ServiceKey};
use crate::protocol::Operation;
use crate::reconcile::{Reconciler, Subject};
use crate::ruleset::past::Drain;
use crate::ruleset::{Change, Policy, Ruleset};

/// Keeps a table as wanted, over the life of a controller.
///
/// A syncer holds the wanted rules and its knowledge of the table.
/// [`Client::pass`](crate::blocking::Client::pass) makes the table as wanted: a pass without
/// changes makes no system call, and a change costs time by its own size, not by that of the table.
///
/// Every pass reports the changes that the kernel refuses. They are tried again when
/// [`Report::next`](crate::Report::next) says: at first after a second, then after growing waits of
/// up to five minutes, with one wait for all failures, and after a second again once another change
/// fails. A refused change is tried at once if the wanted rules of its service change. If changes
/// fail since others were at work, or if their outcome is unknown, their services are read again in
/// the same pass. Nothing is removed before [`want`](Self::want) was called once.
///
/// IPVS tells nobody of changes: only reading shows the changes of others.
/// [`max_age`](Self::max_age) says after how long a pass reads the whole table anew, and
/// [`resync`](Self::resync) makes the next pass do this.
///
/// If a controller stops or is killed, between or within two passes, every service in the table
/// still has at least everything that it had before and that is wanted. The next syncer goes on
/// from there. It begins the deadlines of drains anew and does not know who set a weight to 0,
/// unless it is given the [`drains`](Self::drains) of the one before.
///
/// ```no_run
/// use std::time::Duration;
/// use ipvs_netlink::{Draining, Policy, Syncer, blocking::Client};
///
/// let mut ipvs = Client::connect()?;
/// let policy = Policy::new().draining(Draining::within(Duration::from_secs(60)));
/// let mut syncer = Syncer::new(policy);
/// loop {
///     // syncer.want(…), syncer.want_destination(…), …
///     let report = ipvs.pass(&mut syncer);
///     println!("{report}");
///     std::thread::sleep(report.next.unwrap_or(Duration::MAX).min(Duration::from_secs(10)));
/// }
/// # Ok::<(), ipvs_netlink::Error>(())
/// ```
#[derive(Debug)]
pub struct Syncer {
    reconciler: Reconciler,
    errors: Errors,
    max_age: MaxAge,
    /// The beginning of the reconciler's time, by the clock of the client of the first pass.
    start: Option<Instant>,
    seen: Seen,
    /// The drains to resume after a restart, until the first pass takes them.
    resumed: Vec<DrainEntry>,
    /// The changes that failed in the last pass, without the values that they replace; how often
    /// they were tried in a row, and when to try them again.
    failing: BTreeMap<Subject, Option<Operation>>,
    failures: u32,
    retry: Option<Duration>,
    /// Whether the last pass could not read the table.
    was_cut_short: bool,
    /// The time of the last pass by the reconciler's clock and by the wall clock, if the pass could
    /// drain.
    last: (Duration, SystemTime),
}

/// After how long a pass of a [`Syncer`] reads the whole table anew.
///
/// The default is five minutes, or a hundred times the time that reading took if that is longer:
/// looking costs at most a hundredth of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MaxAge(Age);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Age {
    #[default]
    ByCost,
    Fixed(Duration),
    Never,
}

impl MaxAge {
    const LEAST: Duration = Duration::from_secs(300);
    const COST: u32 = 100;

    /// Never looks for the changes of others.
    pub fn never() -> Self {
        Self(Age::Never)
    }

    fn after(self, reading: Duration) -> Option<Duration> {
        match self.0 {
            Age::ByCost => Some(reading.saturating_mul(Self::COST).max(Self::LEAST)),
            Age::Fixed(age) => Some(age),
            Age::Never => None,
        }
    }
}

impl From<Duration> for MaxAge {
    fn from(age: Duration) -> Self {
        Self(Age::Fixed(age))
    }
}

/// The first wait after a pass that failed.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl Syncer {
    /// A syncer that wants nothing yet, and removes nothing before [`want`](Self::want) says what
    /// is wanted. Its first pass reads the table.
    pub fn new(policy: Policy) -> Self {
        Self {
            reconciler: Reconciler::for_table(policy),
            errors: Errors::new(),
            max_age: MaxAge::default(),
            start: None,
            seen: Seen::default(),
            resumed: Vec::new(),
            failing: BTreeMap::new(),
            failures: 0,
            retry: None,
            was_cut_short: false,
            last: (Duration::ZERO, SystemTime::UNIX_EPOCH),
        }
    }

    /// After how long a pass reads the whole table anew: a duration, or [`MaxAge::never`].
    #[must_use]
    pub fn max_age(self, age: impl Into<MaxAge>) -> Self {
        Self { max_age: age.into(), ..self }
    }

    /// Goes on with the drains of the syncer before this one: with their deadlines, as far as they
    /// are no later than the policy's, and with the weights to give back to destinations that are
    /// wanted again.
    #[must_use]
    pub fn resume(mut self, drains: &Drains) -> Self {
        self.resumed.extend(drains.entries());
        self
    }

    /// The weights that draining has lowered, to be stored for the next syncer; as of the last
    /// pass, with those that were resumed since.
    pub fn drains(&self) -> Drains {
        let (now, wall) = self.last;
        let all = self.reconciler.drains().iter();
        let all = all.flat_map(|(service, drains)| drains.iter().map(|drain| (*service, drain)));
        let entries = all.map(|(service, (destination, drain))| {
            let left = drain.kept_deadline().map(|deadline| deadline.saturating_sub(now));
            DrainEntry {
                service,
                destination: *destination,
                weight: drain.before,
                until: left.and_then(|left| wall.checked_add(left)),
                draining: left.is_some(),
            }
        });
        Drains { entries: entries.chain(self.resumed.iter().copied()).collect() }
    }

    /// The wanted rules.
    pub fn wanted(&self) -> &Ruleset {
        self.reconciler.wanted()
    }

    /// The table as far as it is known; `None` before the first pass and after
    /// [`resync`](Self::resync).
    pub fn known(&self) -> Option<&Ruleset> {
        self.reconciler.known()
    }

    /// Makes the next pass read the whole table.
    pub fn resync(&mut self) {
        self.reconciler.reread();
    }

    /// Makes the next pass carry out the removals that [`Policy::at_most`] withholds, whichever
    /// rules are wanted by then. A pass that could not read the table leaves this to the pass after
    /// it.
    pub fn confirm(&mut self) {
        self.reconciler.confirm();
    }

    /// Wants these rules instead of all former ones. Takes time by the size of both.
    pub fn want(&mut self, rules: Ruleset) {
        self.reconciler.want_all(rules);
    }

    /// Wants a service, or another configuration of it; its destinations stay.
    ///
    /// # Errors
    /// Those of [`Ruleset::insert_service`].
    pub fn want_service(&mut self, service: Service) -> Result<(), Invalid> {
        self.reconciler.want(service.key, |wanted| {
            let before = wanted.insert_service(service)?;
            Ok(before != wanted.service(service.key).map(|rules| *rules.service()))
        })
    }

    /// Wants a destination, or another configuration of it.
    ///
    /// # Errors
    /// Those of [`Ruleset::insert_destination`].
    pub fn want_destination(
        &mut self,
        service: impl Into<ServiceKey>,
        destination: Destination,
    ) -> Result<(), Invalid> {
        let service = service.into();
        self.reconciler.want(service, |wanted| {
            Ok(wanted.insert_destination(service, destination)? != Some(destination))
        })
    }

    /// No longer wants a service.
    pub fn drop_service(&mut self, key: impl Into<ServiceKey>) {
        let key = key.into();
        let remove = |wanted: &mut Ruleset| Ok::<_, Infallible>(wanted.take(key).is_some());
        let Ok(()) = self.reconciler.want(key, remove);
    }

    /// No longer wants a destination.
    pub fn drop_destination(
        &mut self,
        service: impl Into<ServiceKey>,
        key: impl Into<DestinationKey>,
    ) {
        let (service, key) = (service.into(), key.into());
        let Ok(()) = self.reconciler.want(service, |wanted| {
            Ok::<_, Infallible>(wanted.remove_destination(service, key).is_some())
        });
    }

    /// Whether a pass that begins at this time has nothing to do.
    fn is_at_rest(&self, now: Duration) -> bool {
        let is_sound = self.retry.is_none() && !self.was_cut_short && self.resumed.is_empty();
        is_sound && !self.is_due(now) && self.reconciler.is_at_rest()
    }

    /// Whether the last reading of the table is too old.
    fn is_due(&self, now: Duration) -> bool {
        let age = self.seen.reading.and_then(|(at, took)| Some((at, self.max_age.after(took)?)));
        age.is_some_and(|(at, age)| now.saturating_sub(at) >= age)
    }

    /// Prepares the reconciler for a pass that begins at this time.
    fn begin(&mut self, now: Duration) {
        self.reconciler.begin();
        let is_draining = !self.reconciler.drains().is_empty() || !self.resumed.is_empty();
        if is_draining || self.reconciler.policy().draining.deadline.is_some() {
            // Recorded before the first drain begins, since the pass may be dropped at any await.
            self.last = (now, SystemTime::now());
        }
        if !self.resumed.is_empty() {
            let (_, wall) = self.last;
            // The clock may have been set back since.
            let most = self.reconciler.policy().draining.deadline.unwrap_or(Duration::MAX);
            self.reconciler.resume(self.resumed.drain(..).map(|entry| {
                let left = entry.left(wall).map(|left| left.min(most));
                let deadline = left.map(|left| now.saturating_add(left));
                let weight = entry.weight.min(Destination::LARGEST_WEIGHT);
                (entry.service, entry.destination, Drain::new(weight, deadline))
            }));
        }
        if self.is_due(now) {
            self.reconciler.reread();
        } else if self.retry.is_some_and(|retry| now >= retry) {
            self.reconciler.retry();
        }
    }

    /// Records when to try the failed changes again.
    fn end(&mut self, now: Duration, is_cut_short: bool) {
        let of = |(change, _): &(Change, _)| {
            ((change.service(), change.destination()), change.operation())
        };
        let failing: BTreeMap<_, _> = self.reconciler.failed().map(of).collect();
        let is_other = failing.iter().any(|(of, change)| self.failing.get(of) != Some(change));
        let is_new = is_other || is_cut_short && !self.was_cut_short;
        self.was_cut_short = is_cut_short;
        if failing.is_empty() && !is_cut_short {
            (self.failures, self.retry) = (0, None);
        } else if is_new || self.retry.is_none_or(|retry| now >= retry) {
            self.failures = if is_new { 0 } else { self.failures };
            let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT);
            self.failures += 1;
            self.retry = Some(now.saturating_add(wait));
        }
        self.failing = failing;
    }
}

impl Turns<'_> {
    pub(crate) async fn pass(&mut self, syncer: &mut Syncer) -> Report {
        let session = self.take().await;
        let (begin, module) = (session.now(), session.module());
        drop(session);
        let start = *syncer.start.get_or_insert(begin);
        let now = begin.saturating_duration_since(start);
        if module == syncer.seen.module && syncer.is_at_rest(now) {
            return Report::at_rest(syncer.reconciler.left());
        }
        syncer.begin(now);
        let Syncer { reconciler, errors, seen, .. } = syncer;
        let mut drive = Drive::new(reconciler, errors, seen, start, |_| ControlFlow::Continue(()));
        drive.waits = false;
        let ending = drive.run(self).await;
        let (times, now) = (drive.times, drive.now);
        let is_cut_short = matches!(ending, Ending::Failed(_));
        syncer.end(now, is_cut_short);
        let mut report =
            Report::new(&mut syncer.reconciler, &mut syncer.errors, ending, times, now);
        // If the table could not be read, connections cannot be counted earlier.
        let next_count = syncer.reconciler.next_count().filter(|_| !is_cut_short);
        let next = next_count.into_iter().chain(syncer.retry).min();
        report.next = next.map(|at| at.saturating_sub(now));
        report
    }
}
