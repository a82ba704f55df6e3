//! The universe's state, and all that can happen next in it.

use std::time::Duration;

use super::super::{Guard, Listing, Outcome, Reconciler, Step};
use super::coverage::Coverage;
use super::ends::Said;
use super::judge::{Judge, Verdict, ensure, places};
use super::table::{Backend, Kernel, Place, Quirk, Table};
use crate::model::{Scheduler, ServiceKey};
use crate::ruleset::past::{Drain, Failure};
use crate::ruleset::{Allowed, Change, Plan, Policy};

pub(super) const SCHEDULER: Scheduler = Scheduler::RoundRobin;
pub(super) const OTHER_SCHEDULER: Scheduler = Scheduler::WeightedRoundRobin;

/// The part of an exploration that is the same in all states.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) mode: Mode,
    pub(super) policy: Policy,
    pub(super) services: usize,
    pub(super) destinations: usize,
    pub(super) heaviest: u8,
    /// The tables that a controller may want in later passes.
    pub(super) wishes: Vec<Table>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Apply,
    Passes,
    /// Passes that begin before the controller has told what it wants.
    Untold,
}

impl Setting {
    /// Whether the policy allows one of these.
    pub(super) fn allows(&self, any: impl IntoIterator<Item = Allowed>) -> bool {
        any.into_iter().any(|one| self.policy.allowed.contains(one))
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let (services, destinations) = (self.services, self.destinations);
        places().filter(move |(s, d)| *s < services && *d < destinations)
    }

    pub(super) fn drains(&self) -> bool {
        self.policy.draining.deadline.is_some()
    }
}

/// The numbers of disturbances that may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Budget {
    /// All of the following together.
    pub(super) all: u8,
    /// Changes of the table by others, connections that come or end, and new wishes of the
    /// controller.
    pub(super) moves: u8,
    pub(super) faults: u8,
    pub(super) restarts: u8,
    /// Passes that read the whole table anew.
    pub(super) rereads: u8,
    /// Passes that try failed changes again, or that take away what was withheld.
    pub(super) retries: u8,
}

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) kernel: Kernel,
    pub(super) reconciler: Reconciler,
    pub(super) judge: Judge,
    pub(super) wanted: Table,
    pub(super) now: Duration,
    pub(super) place: Stage,
    pub(super) budget: Budget,
}

/// The stage that the driver has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Running,
    /// Between two passes, of which the first could not read the table or was stopped.
    Interrupted,
    /// Between two passes.
    Between,
    /// The apply has ended.
    Over,
}

/// A transition between two states, as a story prints it.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code)]
pub(super) enum Move {
    Next,
    Strike(Strike),
    Meddle(Meddle),
    Want(Table),
    Pass,
    /// A pass that takes away what the pass before withheld.
    ConfirmedPass,
    RetryingPass,
    ReadingPass,
    /// The controller is killed and started again; in a write, after `written` of its changes.
    Restart {
        keeps_drains: bool,
        written: usize,
    },
}

/// A fault.
#[derive(Debug, Clone, Copy)]
pub(super) enum Strike {
    NotSent,
    /// The answers are lost from the change `from` on, and that change was made or not.
    Lost {
        from: usize,
        is_made: bool,
    },
    /// The kernel answers this change with `ENOMEM`.
    NoMemory(usize),
    /// The kernel has this quirk from now on.
    Quirk(Quirk),
    /// The module was unloaded and loaded again before the write.
    Reloaded,
    /// The caller stops after the write.
    Stopped,
    Unreadable,
    /// A listing lacks a destination that exists.
    Lacking(Place),
}

/// An act of others, or a connection that comes or ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meddle {
    AddService(usize),
    RemoveService(usize),
    Set(Place, Backend),
    Remove(Place),
    Opens(Place),
    Ends(Place),
}

impl World {
    pub(super) fn new(kernel: Kernel, wanted: Table, budget: Budget, setting: &Setting) -> Self {
        let mut world = Self {
            kernel,
            reconciler: Reconciler::for_table(setting.policy.clone()),
            judge: Judge::default(),
            wanted,
            now: Duration::ZERO,
            place: Stage::Running,
            budget,
        };
        world.start(&[], setting);
        world
    }

    /// Starts a controller.
    fn start(
        &mut self,
        drains: &[(ServiceKey, crate::model::DestinationKey, Drain)],
        setting: &Setting,
    ) {
        self.place = Stage::Running;
        self.judge.is_told |= setting.mode != Mode::Untold;
        if setting.mode == Mode::Apply {
            let rules = self.kernel.table.rules();
            let plan = Plan::new(&rules, &self.wanted.rules(), &setting.policy);
            self.reconciler = Reconciler::for_plan(plan.into_parts(), self.now);
            let listing = Listing { rules, ..Listing::default() };
            self.judge.read(|_| true, &listing, &self.wanted);
        } else {
            self.reconciler = Reconciler::for_table(setting.policy.clone());
            if self.judge.is_told {
                self.reconciler.want_all(self.wanted.rules());
            }
            self.reconciler.resume(drains.iter().copied());
            self.reconciler.begin();
        }
    }

    /// The state that follows if nobody interferes any more; `None` at the end.
    pub(super) fn next(&self, setting: &Setting, coverage: &mut Coverage) -> Verdict<Option<Self>> {
        match self.place {
            Stage::Over => Ok(None),
            Stage::Running => self.step(setting, None, coverage).map(Some),
            Stage::Interrupted => Ok(Some(self.pass(Move::Pass))),
            Stage::Between => match self.reconciler.next_count() {
                Some(_) => Ok(Some(self.pass(Move::Pass))),
                None => Ok(None),
            },
        }
    }

    /// The step that the reconciler asks for.
    pub(super) fn step(
        &self,
        setting: &Setting,
        strike: Option<Strike>,
        coverage: &mut Coverage,
    ) -> Verdict<Self> {
        let mut world = self.clone();
        let step = world.reconciler.next(world.now);
        world.look(setting, coverage)?;
        coverage.step(&step);
        match step {
            Step::Settled | Step::Wait(_) if setting.mode != Mode::Apply => {
                world.end(setting, coverage)?;
                world.place = Stage::Between;
            }
            Step::Settled => {
                world.end(setting, coverage)?;
                world.place = Stage::Over;
            }
            Step::Wait(until) => world.now = until,
            Step::ReadAll => world.read(|_| true, setting, strike, coverage)?,
            Step::Read(keys) => world.read(|key| keys.contains(key), setting, strike, coverage)?,
            Step::Write => world.write(setting, strike, coverage)?,
        }
        Ok(world)
    }

    fn read(
        &mut self,
        is_asked: impl Fn(&ServiceKey) -> bool,
        setting: &Setting,
        strike: Option<Strike>,
        coverage: &mut Coverage,
    ) -> Verdict {
        if let Some(Strike::Unreadable) = strike {
            return self.interrupt(Failure::NotSent, setting, coverage);
        }
        let mut kernel = self.kernel;
        if let Some(Strike::Lacking((service, destination))) = strike {
            kernel.table.0[service].as_mut().unwrap().backends[destination] = None;
        }
        let counts = |key: &ServiceKey| is_asked(key) && self.reconciler.drains().contains_key(key);
        let listing = kernel.list(&is_asked, counts);
        let is_asked = |service| is_asked(&super::table::service_key(service));
        self.judge.read(is_asked, &listing, &self.wanted);
        self.reconciler.read(listing, self.now);
        self.look(setting, coverage)
    }

    fn write(
        &mut self,
        setting: &Setting,
        strike: Option<Strike>,
        coverage: &mut Coverage,
    ) -> Verdict {
        let changes: Vec<Change> = self.reconciler.changes().copied().collect();
        let is_given_up = |place| {
            let mut failed = self.reconciler.failed();
            failed.any(|(change, failure)| {
                matches!(failure, Failure::NotKept | Failure::Overruled)
                    && super::judge::place(change) == Some(place)
            })
        };
        self.judge.write(&changes, &self.wanted, setting, self.now, is_given_up)?;
        if setting.mode == Mode::Apply {
            ensure(self.reconciler.excess().is_none(), || "a withheld plan is made".into())?;
        } else {
            let known = self.judge.known;
            self.judge.losses.write(&changes, &known, &self.wanted, setting)?;
        }
        match strike {
            Some(Strike::Quirk(quirk)) => self.kernel.quirk = quirk,
            Some(Strike::Reloaded) => self.kernel.table = Table::default(),
            _ => {}
        }
        let mut outcomes = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let is_made = match strike {
                Some(Strike::NotSent) => Err(Outcome::NotSent),
                Some(Strike::NoMemory(struck)) if index == struck => Err(Outcome::RefusedForNow),
                Some(Strike::Lost { from, is_made: false }) if index >= from => {
                    Err(Outcome::Unknown)
                }
                _ => Ok(self.kernel.run(&change.operation().unwrap())),
            };
            outcomes.push(match strike {
                Some(Strike::Lost { from, .. }) if index >= from => Outcome::Unknown,
                _ => is_made.unwrap_or_else(|outcome| outcome),
            });
        }
        if let Quirk::Rival(place) = self.kernel.quirk {
            self.kernel.meddle(Meddle::Remove(place));
        }
        coverage.outcomes(&outcomes);
        self.judge.wrote(&changes, &outcomes, &self.wanted);
        self.reconciler.wrote(&outcomes);
        self.look(setting, coverage)?;
        match strike {
            Some(Strike::Reloaded) if !self.reconciler.table_lost() => {
                self.interrupt(Failure::NotSent, setting, coverage)?;
            }
            Some(Strike::Stopped) => self.interrupt(Failure::Stopped, setting, coverage)?,
            _ => {}
        }
        Ok(())
    }

    /// Stops the driver.
    fn interrupt(&mut self, why: Failure, setting: &Setting, coverage: &mut Coverage) -> Verdict {
        self.reconciler.abandon(why, self.now);
        // A confirmation is used up once a pass has planned.
        if self.reconciler.guard != Guard::Confirmed {
            let known = self.judge.known;
            self.judge.losses.end(&known, &self.wanted);
        }
        self.look(setting, coverage)?;
        coverage.report(&mut self.reconciler);
        // A driver that could not read never reports a success. Nor is a syncer stopped before it
        // reads all that it knew.
        if why == Failure::Stopped && self.reconciler.known().is_some() {
            let is_success = self.reconciler.failed().next().is_none();
            let said = Said::from(&mut self.reconciler);
            self.judge.is_told(&said, &self.wanted, setting)?;
            if is_success {
                self.judge.end(&said, &self.wanted, setting)?;
            }
        }
        self.place = match setting.mode {
            Mode::Apply => Stage::Over,
            Mode::Passes | Mode::Untold => Stage::Interrupted,
        };
        Ok(())
    }

    fn end(&mut self, setting: &Setting, coverage: &mut Coverage) -> Verdict {
        coverage.report(&mut self.reconciler);
        let said = Said::from(&mut self.reconciler);
        if said.is_withheld && setting.mode != Mode::Apply {
            let known = self.judge.known;
            let drains = |place| self.judge.is_going(place, &known);
            self.judge.losses.may_withhold(&known, &self.wanted, setting, drains)?;
        }
        let known = self.judge.known;
        self.judge.losses.end(&known, &self.wanted);
        self.judge.end(&said, &self.wanted, setting)
    }

    /// Checks that a reconciler that is at rest, wherever its driver was stopped, would do nothing in
    /// another pass, and tell nothing new.
    fn rest(&self, setting: &Setting) -> Verdict {
        if setting.mode == Mode::Apply || !self.reconciler.is_at_rest() {
            return Ok(());
        }
        let (mut before, mut after) = (self.reconciler.clone(), self.reconciler.clone());
        after.begin();
        let step = after.next(self.now);
        ensure(step == Step::Settled, || format!("at rest, but the next step is {step:?}"))?;
        let is_quiet = after.failed().next().is_none() && after.excess().is_none();
        ensure(is_quiet && after.left() == before.left(), || {
            "at rest, but another pass tells something new".into()
        })?;
        ensure(after.is_at_rest(), || "at rest, but not after another pass".into())
    }

    /// Has the judge check which drains began and ended.
    fn look(&mut self, setting: &Setting, coverage: &mut Coverage) -> Verdict {
        let ended = self.reconciler.take_tally().ended;
        self.rest(setting)?;
        coverage.ends(&ended);
        self.judge.step(&self.reconciler, &ended, &self.wanted, setting, self.now)
    }

    /// Begins another pass.
    pub(super) fn pass(&self, which: Move) -> Self {
        let mut world = self.clone();
        world.place = Stage::Running;
        if let (Move::Pass, Some(at)) = (which, world.reconciler.next_count()) {
            world.now = world.now.max(at);
        }
        world.reconciler.begin();
        let known = world.judge.known;
        world.judge.begin(&known, &world.wanted);
        match which {
            Move::ConfirmedPass => {
                world.reconciler.confirm();
                world.judge.losses.is_confirmed = true;
            }
            Move::RetryingPass => world.reconciler.retry(),
            Move::ReadingPass => world.reconciler.reread(),
            _ => {}
        }
        world
    }

    /// The state in which the controller goes on but reads the table anew, which a restart should
    /// be equal to.
    pub(super) fn reread(&self) -> Self {
        let mut world = self.clone();
        world.place = Stage::Running;
        world.reconciler.begin();
        let known = world.judge.known;
        world.judge.begin(&known, &world.wanted);
        world.reconciler.reread();
        world
    }

    pub(super) fn restart(
        &mut self,
        keeps_drains: bool,
        written: usize,
        setting: &Setting,
        coverage: &mut Coverage,
    ) -> Verdict {
        if written > 0 {
            self.reconciler.next(self.now);
            self.look(setting, coverage)?;
            let changes: Vec<Change> = self.reconciler.changes().copied().collect();
            for change in &changes[..written] {
                self.kernel.run(&change.operation().unwrap());
            }
            self.judge.wrote(&changes, &vec![Outcome::Unknown; changes.len()], &self.wanted);
        }
        let mut drains = Vec::new();
        for (service, of_service) in self.reconciler.drains() {
            let kept = |(key, drain): (&_, &Drain)| {
                (*service, *key, Drain::new(drain.before, drain.kept_deadline()))
            };
            drains.extend(of_service.iter().map(kept));
        }
        drains.retain(|_| keeps_drains);
        self.judge = self.judge.restarted(keeps_drains);
        self.judge.begin(&self.kernel.table, &self.wanted);
        self.start(&drains, setting);
        Ok(())
    }
}
