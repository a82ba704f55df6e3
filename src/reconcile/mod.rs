//! The reconciler: what to read and what to write next, so that a table becomes as wanted.
//!
//! A value without I/O and without a clock of its own. A driver asks [`Reconciler::next`] for a
//! step, takes it, and hands the listing to [`read`](Reconciler::read) or the outcome of each
//! change to [`wrote`](Reconciler::wrote). Times are durations since the driver's start. A driver
//! may stop after any step: changes whose outcomes it did not hand over count as of unknown
//! outcome.
//!
//! The reconciler keeps these rules, whatever others do to the table between two steps:
//!
//! - A service is taken to be as it was last read, with the writes that were acknowledged since.
//! - Nothing is taken away before the final results of all gains are known; a gain that failed for
//!   a passing reason is tried again first.
//! - Every difference that stays is reported as failed, left or draining.
//! - Only what the policy allows is ever written.
//! - Services that others change meanwhile are read and planned again, some rounds at most.

mod drains;
mod late;
mod owed;
mod planning;
mod queue;
mod reading;
mod tally;
mod trouble;
#[cfg(all(test, feature = "fake"))]
mod universe;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::late::joined;
use self::queue::{Flight, Queue};
pub(crate) use self::reading::Listing;
pub(crate) use self::tally::Tally;
pub use self::tally::{DrainEnd, EndedDrain};
use self::trouble::Trouble;
pub(crate) use self::writing::Outcome;
use crate::model::{Destination, Service, ServiceKey};
pub(crate) use crate::ruleset::Subject;
use crate::ruleset::past::{Failure, Owed, ServiceDrains};
use crate::ruleset::{
    Change, Excess, Left, Lost, PlanParts, Policy, Reason, Ruleset, ServiceRules,
};

/// How often a service that others change meanwhile is read and planned again.
const ROUNDS: u8 = 5;

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read the whole table.
    ReadAll,
    /// Read these services.
    Read(BTreeSet<ServiceKey>),
    /// Make the changes of [`Reconciler::changes`].
    Write,
    /// Wait until this time.
    Wait(Duration),
    /// Nothing is left to do.
    Settled,
}

/// Makes a table as wanted, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Reconciler {
    policy: Arc<Policy>,
    wanted: Ruleset,
    known: Ruleset,
    /// How many services the table of a plan has, of which `known` has a part.
    table_size: usize,
    mode: Mode,
    /// Whether nothing is known of the table.
    unread: bool,
    /// The services that others may have changed since they were read.
    doubtful: BTreeSet<ServiceKey>,
    purpose: Purpose,
    /// The services that may differ from the wanted ones, and are planned next.
    dirty: BTreeSet<ServiceKey>,
    queues: Vec<Queue>,
    flight: Option<Flight>,
    /// The services that were written to and not read since.
    touched: BTreeSet<ServiceKey>,
    /// The service that was written to last.
    last_touched: Option<ServiceKey>,
    /// The services that were read back other than written, with the value that was read. They are
    /// read a second time.
    looked_once: BTreeMap<ServiceKey, Option<Arc<ServiceRules>>>,
    troubles: BTreeMap<ServiceKey, Trouble>,
    /// The services and destinations that were read back other than written, with the value that
    /// was read; `None` once the wanted value is to be tried again. They are read back after each
    /// write.
    read_back: BTreeMap<Subject, Option<ReadBack>>,
    /// New services that have no scheduler yet.
    unbound: BTreeSet<ServiceKey>,
    /// The services that did not get their late scheduler, and get it at once until they are wanted
    /// anew.
    refused_late: BTreeSet<ServiceKey>,
    /// The destinations of new services that are still to be added, where the policy allows this
    /// only together with their service.
    owed: BTreeMap<ServiceKey, Owed>,
    drains: BTreeMap<ServiceKey, ServiceDrains>,
    /// When connections were counted last.
    counted: Option<Duration>,
    left: BTreeMap<ServiceKey, Vec<Left>>,
    /// `left` as a list, which is shared until it changes.
    said: Option<Arc<[Left]>>,
    failed: BTreeMap<ServiceKey, Vec<(Change, Failure)>>,
    excess: Option<Excess>,
    /// The services that are not changed until the losses are confirmed.
    withheld: BTreeSet<ServiceKey>,
    /// The losses that were planned in this pass.
    lost: Lost,
    /// The losses that are withheld.
    withheld_losses: Lost,
    /// The losses that were confirmed and are not made yet.
    confirmed: Lost,
    guard: Guard,
    /// Whether a service of the known table was found gone in this pass.
    lost_a_service: bool,
    tally: Tally,
    /// The changes of unknown outcome that a reading has shown as made, until the driver tells them.
    found_made: Vec<Change>,
}

/// The value that a subject had when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ReadBack {
    Service(Service),
    Destination(Destination),
}

/// How the reconciler is used: for one plan, or for the passes of a syncer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mode {
    /// Whether the next pass starts from what is known, so that every acknowledged write is
    /// recorded.
    remembers: bool,
    /// Whether what was written is read back.
    verifies: bool,
    /// Whether the wanted rules are complete, so that everything else may be removed.
    all_known: bool,
}

/// Whether planned losses are checked against [`Policy::at_most`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Guard {
    Up,
    /// They were checked already, or need no check.
    Down,
    /// They are confirmed, and the next pass does not check them.
    Confirmed,
}

/// Why services are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    /// Others have changed them, or an outcome is unknown.
    Doubt,
    /// They are compared with what was written.
    Verification,
    /// The connections of their draining destinations are counted.
    Count,
}

impl Reconciler {
    /// A reconciler that carries out a plan, without the losses that the policy withholds.
    pub(crate) fn for_plan(parts: PlanParts, now: Duration) -> Self {
        let PlanParts { changes, losses, deferred, left, excess, actual, wanted, .. } = parts;
        let PlanParts { policy, table_size, .. } = parts;
        let mode = Mode { remembers: false, verifies: policy.verify, all_known: true };
        let mut this = Self::new(policy, mode);
        this.tally.touched = actual.keys().chain(wanted.keys()).collect();
        this.tally.before = actual.clone();
        (this.known, this.wanted) = (actual, wanted);
        (this.unread, this.guard, this.table_size) = (false, Guard::Down, table_size);
        // Of a withheld plan no loss is made for which another one is held back.
        let is_so = |left: &Left| excess.is_none() || left.why != Reason::HeldBack;
        for left in left.into_iter().filter(is_so) {
            this.left.entry(left.service).or_default().push(left);
        }
        this.excess = excess;
        if this.excess.is_none() {
            this.enqueue(changes, losses, deferred, now);
        }
        this
    }

    /// A reconciler that keeps a table as wanted. It knows nothing of the table and wants nothing
    /// yet.
    pub(crate) fn for_table(policy: Policy) -> Self {
        Self::new(policy, Mode { remembers: true, verifies: false, all_known: false })
    }

    fn new(policy: Policy, mode: Mode) -> Self {
        Self {
            policy: Arc::new(policy),
            wanted: Ruleset::new(),
            known: Ruleset::new(),
            table_size: 0,
            mode,
            unread: true,
            doubtful: BTreeSet::new(),
            purpose: Purpose::Doubt,
            dirty: BTreeSet::new(),
            queues: Vec::new(),
            flight: None,
            touched: BTreeSet::new(),
            last_touched: None,
            looked_once: BTreeMap::new(),
            troubles: BTreeMap::new(),
            read_back: BTreeMap::new(),
            unbound: BTreeSet::new(),
            refused_late: BTreeSet::new(),
            owed: BTreeMap::new(),
            drains: BTreeMap::new(),
            counted: None,
            left: BTreeMap::new(),
            said: None,
            failed: BTreeMap::new(),
            excess: None,
            withheld: BTreeSet::new(),
            lost: Lost::new(),
            withheld_losses: Lost::new(),
            confirmed: Lost::new(),
            guard: Guard::Up,
            lost_a_service: false,
            tally: Tally::default(),
            found_made: Vec::new(),
        }
    }

    /// Begins another pass, which resumes where the last one stopped.
    pub(crate) fn begin(&mut self) {
        self.land_flight();
        for queue in std::mem::take(&mut self.queues) {
            self.dirty.extend(queue.unsent().map(Change::service));
        }
        self.release_withheld();
        self.troubles.retain(|_, it| !it.refusals.is_empty() || !it.unknown.is_empty());
        for trouble in self.troubles.values_mut() {
            (trouble.rounds, trouble.is_fresh) = (0, false);
        }
        (self.purpose, self.lost_a_service) = (Purpose::Doubt, false);
        self.lost.clear();
        self.keep_confirmed();
        if self.guard == Guard::Down {
            self.guard = Guard::Up;
        }
        self.forget_counts();
    }

    /// Whether a pass that began now would have nothing to do and nothing to tell but what is left.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_clean = !self.unread && self.doubtful.is_empty() && self.dirty.is_empty();
        let is_quiet = self.queues.is_empty() && self.flight.is_none() && self.touched.is_empty();
        let is_sound = self.troubles.is_empty() && self.failed.is_empty();
        let is_done = self.drains.is_empty() && self.unbound.is_empty();
        let is_unguarded = self.excess.is_none() && self.withheld.is_empty();
        let has_confirmed = self.guard == Guard::Confirmed || !self.confirmed.is_empty();
        is_clean && is_quiet && is_sound && is_done && is_unguarded && !has_confirmed
    }

    /// The next step.
    pub(crate) fn next(&mut self, now: Duration) -> Step {
        self.land_flight();
        loop {
            if self.unread {
                return Step::ReadAll;
            }
            if !self.doubtful.is_empty() {
                return Step::Read(self.doubtful.clone());
            }
            if !self.dirty.is_empty() {
                self.plan(now);
                continue;
            }
            if let Some(flight) = self.next_flight() {
                self.take_off(flight, now);
                return Step::Write;
            }
            self.queues.clear();
            if self.begin_verification() {
                continue;
            }
            let count = self.next_count();
            if self.guard == Guard::Confirmed && count.is_none_or(|at| at > now) {
                // Nothing was withheld. The confirmation is used up, and later losses need another.
                self.guard = Guard::Up;
            }
            let Some(at) = count else { return Step::Settled };
            if at > now {
                // Others may undo a drain for as long as it lasts.
                for (key, trouble) in &mut self.troubles {
                    if self.drains.contains_key(key) {
                        trouble.rounds = 0;
                    }
                }
                return Step::Wait(at);
            }
            self.counted = Some(now);
            self.purpose = Purpose::Count;
            let drains = self.drains.iter();
            let drains = drains.filter(|(_, d)| d.values().any(|d| d.ends().is_some()));
            self.doubtful.extend(drains.map(|(key, _)| *key));
        }
    }

    /// Marks the written services to be read back; tells whether any is.
    fn begin_verification(&mut self) -> bool {
        let mut touched = std::mem::take(&mut self.touched);
        self.last_touched = None;
        if !self.mode.verifies {
            let is_suspect = |(key, _): &Subject| touched.contains(key).then_some(*key);
            touched = self.read_back.keys().filter_map(is_suspect).collect();
        }
        self.purpose = Purpose::Verification;
        self.doubtful = touched;
        !self.doubtful.is_empty()
    }

    /// Changes the wanted rules of a service. If `change` returns `true`, the service is planned
    /// anew, and its failed changes are tried again.
    pub(crate) fn want<E>(
        &mut self,
        key: ServiceKey,
        change: impl FnOnce(&mut Ruleset) -> Result<bool, E>,
    ) -> Result<(), E> {
        if change(&mut self.wanted)? {
            self.is_wanted_anew(key);
        }
        Ok(())
    }

    fn is_wanted_anew(&mut self, key: ServiceKey) {
        self.dirty.insert(key);
        self.forget_trouble(key);
        self.refused_late.remove(&key);
        self.keep_unbound(key);
        self.keep_owed_wanted(key);
        self.forget_read_back(key);
    }

    /// Forgets what was refused. A later reading may yet show that changes of unknown outcome were
    /// made.
    fn forget_trouble(&mut self, key: ServiceKey) {
        if let Some(Trouble { unknown, .. }) = self.troubles.remove(&key)
            && !unknown.is_empty()
        {
            self.troubles.insert(key, Trouble { unknown, ..Trouble::default() });
        }
    }

    /// Forgets the values with which a service and its destinations were read back.
    fn forget_read_back(&mut self, key: ServiceKey) {
        let of_it = self.read_back.range((key, None)..).take_while(|((it, _), _)| *it == key);
        let subjects: Vec<_> = of_it.map(|(subject, _)| *subject).collect();
        for subject in subjects {
            self.read_back.remove(&subject);
        }
    }

    /// Replaces all wanted rules.
    pub(crate) fn want_all(&mut self, rules: Ruleset) {
        let before = std::mem::replace(&mut self.wanted, rules);
        let keys: BTreeSet<_> = before.keys().chain(self.wanted.keys()).collect();
        for key in keys {
            if before.service(key) != self.wanted.service(key) {
                self.is_wanted_anew(key);
            }
        }
        if !self.mode.all_known {
            self.mode.all_known = true;
            self.dirty.extend(self.known.keys());
        }
    }

    /// Confirms the losses that are withheld.
    pub(crate) fn confirm(&mut self) {
        self.guard = Guard::Confirmed;
    }

    /// Has the next step read the whole table, and the failed changes tried again.
    pub(crate) fn reread(&mut self) {
        self.retry();
        self.unread = true;
    }

    /// Has the failed changes tried again.
    pub(crate) fn retry(&mut self) {
        let failed: Vec<_> = self.failed.keys().copied().collect();
        for key in failed {
            self.forget_trouble(key);
            self.doubtful.insert(key);
        }
        for ((key, _), value) in &mut self.read_back {
            if self.failed.contains_key(key) {
                *value = None;
            }
        }
        self.purpose = Purpose::Doubt;
    }

    /// Forgets the table, since the module was unloaded meanwhile and the kernel has a new table.
    /// Tells whether the table can be read anew: a plan knows only a part of it.
    pub(crate) fn table_lost(&mut self) -> bool {
        self.unread |= self.mode.remembers;
        self.unread
    }

    /// How many services the table has, as far as is known.
    pub(crate) fn table_size(&self) -> usize {
        self.table_size.max(self.known.services().len())
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn wanted(&self) -> &Ruleset {
        &self.wanted
    }

    /// The known part of the table; `None` before the first reading.
    pub(crate) fn known(&self) -> Option<&Ruleset> {
        (!self.unread).then_some(&self.known)
    }

    /// The differences that are left; the same list until they change.
    pub(crate) fn left(&mut self) -> Arc<[Left]> {
        let Self { left, said, .. } = self;
        Arc::clone(said.get_or_insert_with(|| left.values().flatten().copied().collect()))
    }

    pub(crate) fn failed(&self) -> impl Iterator<Item = &(Change, Failure)> {
        self.failed.values().flatten()
    }

    /// Whether a change of a service has failed.
    pub(crate) fn has_failed(&self, service: &ServiceKey) -> bool {
        self.failed.contains_key(service)
    }

    pub(crate) fn excess(&self) -> Option<&Excess> {
        self.excess.as_ref()
    }

    /// The changes of unknown outcome that were found to be made since this was last asked.
    pub(crate) fn take_found_made(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.found_made)
    }

    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::ruleset::past::Drain;

    fn web() -> Service {
        Service::tcp(Ipv4Addr::LOCALHOST, 80)
    }

    fn backend() -> Destination {
        Destination::masquerade(Ipv4Addr::LOCALHOST, 8080)
    }

    #[test]
    fn nothing_that_is_to_be_done_or_told_is_a_rest() {
        let at_rest = || Reconciler { unread: false, ..Reconciler::for_table(Policy::new()) };
        assert!(at_rest().is_at_rest());
        let disturbances: [fn(&mut Reconciler); 13] = [
            |it| it.unread = true,
            |it| it.doubtful.extend([web().key]),
            |it| it.dirty.extend([web().key]),
            |it| it.enqueue(vec![Change::AddService(web())], 1, Vec::new(), Duration::ZERO),
            |it| it.flight = Some(Flight::Gains),
            |it| it.touched.extend([web().key]),
            |it| it.troubles.extend([(web().key, Trouble::default())]),
            |it| it.failed.extend([(web().key, Vec::new())]),
            |it| it.resume([(web().key, backend().key, Drain::new(1, None))]),
            |it| it.unbound.extend([web().key]),
            |it| it.withheld.extend([web().key]),
            |it| it.confirmed.extend([(web().key, None)]),
            Reconciler::confirm,
        ];
        for (number, disturb) in disturbances.iter().enumerate() {
            let mut reconciler = at_rest();
            disturb(&mut reconciler);
            assert!(!reconciler.is_at_rest(), "{number}");
        }
        // A drain alone, once its service was planned.
        let mut reconciler = at_rest();
        reconciler.resume([(web().key, backend().key, Drain::new(1, None))]);
        reconciler.dirty.clear();
        assert!(!reconciler.is_at_rest());
    }
}
