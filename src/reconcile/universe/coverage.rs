//! The kinds of outcomes, ends and steps that a universe has reached, so that the test fails if one
//! never occurs.

use std::collections::BTreeMap;
use std::fmt;

use super::super::{DrainEnd, EndedDrain, Outcome, Reconciler, Step};
use crate::ruleset::Reason;
use crate::ruleset::past::Failure;

/// How often each kind was seen.
#[derive(Debug, Default)]
pub(super) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// All kinds.
    pub(super) const ALL: [&'static str; 33] = [
        "step: read all",
        "step: read",
        "step: write",
        "step: wait",
        "step: settled",
        "outcome: done",
        "outcome: exists",
        "outcome: service missing",
        "outcome: destination missing",
        "outcome: refused for now",
        "outcome: refused",
        "outcome: not sent",
        "outcome: unknown",
        "end: idle",
        "end: deadline",
        "end: wanted again",
        "end: raised",
        "end: gone",
        "failed: refused",
        "failed: service refused",
        "failed: conflict",
        "failed: not sent",
        "failed: unknown",
        "failed: overruled",
        "failed: not kept",
        "failed: stopped",
        "left: out of scope",
        "left: not allowed",
        "left: held back",
        "left: unknown origin",
        "left: not all known",
        "left: would refuse",
        "withheld",
    ];

    fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: Self) {
        for (kind, count) in other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// The kinds that were never seen.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|kind| !self.0.contains_key(kind)).collect()
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.count(match step {
            Step::ReadAll => "step: read all",
            Step::Read(_) => "step: read",
            Step::Write => "step: write",
            Step::Wait(_) => "step: wait",
            Step::Settled => "step: settled",
        });
    }

    pub(super) fn outcomes(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            self.count(match outcome {
                Outcome::Done => "outcome: done",
                Outcome::Exists => "outcome: exists",
                Outcome::ServiceMissing => "outcome: service missing",
                Outcome::DestinationMissing => "outcome: destination missing",
                Outcome::RefusedForNow => "outcome: refused for now",
                Outcome::Refused => "outcome: refused",
                Outcome::NotSent => "outcome: not sent",
                Outcome::Unknown => "outcome: unknown",
            });
        }
    }

    pub(super) fn ends(&mut self, ended: &[EndedDrain]) {
        for ended in ended {
            self.count(match ended.end {
                DrainEnd::Idle => "end: idle",
                DrainEnd::Deadline => "end: deadline",
                DrainEnd::WantedAgain => "end: wanted again",
                DrainEnd::Raised => "end: raised",
                DrainEnd::Gone => "end: gone",
            });
        }
    }

    /// Counts the contents of a report at the end of an apply or a pass.
    pub(super) fn report(&mut self, reconciler: &mut Reconciler) {
        for (_, failure) in reconciler.failed() {
            self.count(match failure {
                Failure::Refused => "failed: refused",
                Failure::ServiceRefused => "failed: service refused",
                Failure::Conflict => "failed: conflict",
                Failure::NotSent => "failed: not sent",
                Failure::Unknown => "failed: unknown",
                Failure::Overruled => "failed: overruled",
                Failure::NotKept => "failed: not kept",
                Failure::Stopped => "failed: stopped",
            });
        }
        if reconciler.excess().is_some() {
            self.count("withheld");
        }
        for left in reconciler.left().iter() {
            self.count(match left.why {
                Reason::OutOfScope => "left: out of scope",
                Reason::NotAllowed => "left: not allowed",
                Reason::HeldBack => "left: held back",
                Reason::UnknownOrigin => "left: unknown origin",
                Reason::NotAllKnown => "left: not all known",
                Reason::WouldRefuse => "left: would refuse",
            });
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.0 {
            writeln!(f, "  {kind}: {count}")?;
        }
        Ok(())
    }
}
