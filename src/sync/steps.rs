//! How changes become operations: one for each change, but where the kernel does better with more.

use crate::model::{Scheduler, ServiceKey};
use crate::protocol::Operation;
use crate::ruleset::Change;

/// An operation, and the change that it makes or helps to make.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) change: &'a Change,
    pub(super) part: Part,
}

/// What of its change a step makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The new service, without its scheduler.
    Unbound,
    /// The scheduler of the new service, now that it has its destinations.
    Bind,
}

impl Step<'_> {
    #[inline]
    pub(super) fn operation(&self) -> Option<Operation> {
        match (self.part, *self.change) {
            (Part::Unbound, Change::AddService(service)) => {
                Some(Operation::AddService(service.scheduler(Scheduler::Unbound)))
            }
            (Part::Bind, Change::AddService(service)) => Some(Operation::UpdateService(service)),
            (_, change) => change.operation(),
        }
    }
}

/// The steps that make changes, in order; what is so already takes none.
///
/// The schedulers by hash make their whole table anew with every destination that is added: with
/// `mh`, 4,093 places. A new service of theirs is therefore added without its scheduler, and gets
/// it after its destinations, so the table is made once. It takes no connections until then, as it
/// took none before. A service that has a scheduler keeps it, since it carries traffic.
#[derive(Clone)]
pub(super) struct Steps<'a> {
    changes: &'a [Change],
    /// The new service whose scheduler is still to come.
    unbound: Option<&'a Change>,
    plain: bool,
}

impl<'a> Steps<'a> {
    pub(super) fn new(changes: &'a [Change]) -> Self {
        Self { changes, unbound: None, plain: false }
    }

    /// One step for each change.
    pub(super) fn plain(changes: &'a [Change]) -> Self {
        Self { changes, unbound: None, plain: true }
    }

    /// Whether the service is better added without its scheduler.
    #[inline]
    fn is_better_unbound(&self, change: &Change) -> bool {
        let Change::AddService(service) = change else { return false };
        let hashes = matches!(
            service.scheduler,
            Scheduler::MaglevHash(_) | Scheduler::SourceHash(_) | Scheduler::DestinationHash
        );
        let destinations = self.changes.iter().take(2);
        !self.plain && hashes && destinations.filter(|c| c.adds_to(service.key)).count() == 2
    }
}

impl<'a> Iterator for Steps<'a> {
    type Item = Step<'a>;

    #[inline]
    fn next(&mut self) -> Option<Step<'a>> {
        while self.changes.first().is_some_and(Change::is_so_already) {
            self.changes = &self.changes[1..];
        }
        let next = self.changes.first();
        if let Some(service) = self.unbound
            && !next.is_some_and(|change| change.adds_to(service.service()))
        {
            self.unbound = None;
            return Some(Step { change: service, part: Part::Bind });
        }
        let change = next?;
        self.changes = &self.changes[1..];
        if !self.is_better_unbound(change) {
            return Some(Step { change, part: Part::Whole });
        }
        self.unbound = Some(change);
        Some(Step { change, part: Part::Unbound })
    }
}

/// What asks the kernel for the steps, one operation for each.
pub(super) struct Operations<'a>(pub(super) Steps<'a>);

impl Iterator for Operations<'_> {
    type Item = Operation;

    #[inline]
    fn next(&mut self) -> Option<Operation> {
        self.0.next()?.operation()
    }
}

impl Change {
    fn adds_to(&self, service: ServiceKey) -> bool {
        matches!(self, Self::AddDestination(key, _) if *key == service)
    }
}
