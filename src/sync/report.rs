//! Reports of rule sync: the changes, the failures, the differences that were left, and the
//! progress.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Cause, Error};
use crate::model::{DestinationKey, ServiceKey};
use crate::reconcile::{DrainEnd, EndedDrain, Reconciler, Subject, Tally};
use crate::ruleset::past::Failure;
use crate::ruleset::{Change, Excess, Left, Ruleset};

/// The result of making a table as wanted: the changes that were made, and the differences that
/// remain.
///
/// Every difference that remains is in exactly one of [`failed`](Self::failed),
/// [`left`](Self::left) and [`draining`](Self::draining), in every pass and not only in the first;
/// but if [`excess`](Self::excess) tells that losses are withheld, or [`error`](Self::error) why the
/// table could not be read, it stands for the differences that were not planned.
///
/// A report prints in a few lines, one for each reason why changes failed. With the feature `serde`
/// it can be written, for logs.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[must_use = "what failed is in the report: read it, or ask `into_result`"]
#[non_exhaustive]
pub struct Report {
    /// How many changes were made, including those whose answer was lost and that a reading then
    /// found made. A new service of `mh` may take two, as
    /// [`MaglevHash`](crate::Scheduler::MaglevHash) says.
    pub changed: usize,
    /// The changes that failed for good, each with the reason.
    pub failed: Vec<FailedChange>,
    /// The error that ended the sync early, if one did: nothing after it was done.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_text"))]
    pub error: Option<Error>,
    /// Whether the caller called the sync off before its end.
    pub called_off: bool,
    /// The differences that the policy leaves.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_slice"))]
    pub left: Arc<[Left]>,
    /// The losses that are withheld until they are confirmed, if any are. Drains that had begun go
    /// on.
    pub excess: Option<Excess>,
    /// How often services were read and planned again, since others had changed them meanwhile.
    pub rounds: usize,
    /// How many destinations were drained: removed when their connections had ended.
    pub drained: usize,
    /// How many drained destinations were removed with their connections: see
    /// [`DrainEnd::Deadline`].
    pub cut_off: usize,
    /// How many destinations were wanted again while they drained.
    pub wanted_again: usize,
    /// How many draining destinations got a weight from others and stay for now: see
    /// [`DrainEnd::Raised`].
    pub raised: usize,
    /// How many destinations others removed while they drained.
    pub gone: usize,
    /// How many destinations still drain.
    pub draining: usize,
    /// After how long the next pass of the syncer has work to do: to go on draining, or to try
    /// failed changes again. `None` if it has none, and in a report that is not of a pass. A look
    /// at what others did ([`Syncer::max_age`](crate::Syncer::max_age)) does not count here.
    pub next: Option<Duration>,
    /// How long each part of the sync took.
    pub times: SyncTimes,
    /// Each change that was made, in order, if the policy is [`detailed`](crate::Policy::detailed).
    pub made: Vec<Change>,
    /// Each drain that ended, if the policy is [`detailed`](crate::Policy::detailed).
    pub ended: Vec<EndedDrain>,
    /// Each destination that still drains, if the policy is [`detailed`](crate::Policy::detailed).
    pub drains: Vec<DrainingDestination>,
    #[cfg_attr(feature = "serde", serde(skip))]
    before: Ruleset,
    #[cfg_attr(feature = "serde", serde(skip))]
    touched: BTreeSet<ServiceKey>,
}

/// Why the kernel did not make a change, by the subject of the change.
pub(super) type Errors = BTreeMap<Subject, Error>;

/// How a run ended.
pub(super) enum Ending {
    /// Nothing more has to be done now.
    Settled,
    /// The caller called off the rest.
    CalledOff,
    /// The table, or whether this kernel has IPVS, could not be read.
    Failed(Error),
}

impl Report {
    pub(super) fn new(
        reconciler: &mut Reconciler,
        errors: &mut Errors,
        ending: Ending,
        times: SyncTimes,
        now: Duration,
    ) -> Self {
        let called_off = matches!(ending, Ending::CalledOff);
        let error = if let Ending::Failed(error) = ending { Some(error) } else { None };
        let Tally { changed, rounds, ends, before, touched, made, ended } = reconciler.take_tally();
        let ends = |end| ends.get(&end).copied().unwrap_or_default();
        let failed = reconciler.failed().map(|(change, failure)| FailedChange {
            change: *change,
            error: error_of(change, *failure, errors),
        });
        let failed: Vec<_> = failed.collect();
        errors.retain(|(service, _), _| reconciler.has_failed(service));
        let is_detailed = reconciler.policy().detailed;
        Self {
            changed,
            failed,
            error,
            called_off,
            left: reconciler.left(),
            excess: reconciler.excess().copied(),
            rounds,
            drained: ends(DrainEnd::Idle),
            cut_off: ends(DrainEnd::Deadline),
            wanted_again: ends(DrainEnd::WantedAgain),
            raised: ends(DrainEnd::Raised),
            gone: ends(DrainEnd::Gone),
            draining: reconciler.draining(),
            next: None,
            times,
            made,
            ended,
            drains: if is_detailed { draining(reconciler, now) } else { Vec::new() },
            before,
            touched,
        }
    }

    /// The report of a pass that has nothing to do.
    pub(super) fn at_rest(left: Arc<[Left]>) -> Self {
        Self { left, ..Self::default() }
    }

    /// The report of a table that could not be read: nothing was changed.
    pub(super) fn unread(error: Error) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// Continues the report of a run whose table, with all changes, was lost.
    pub(super) fn follows(&mut self, lost: Self) {
        let Self { before, touched, times, .. } = lost;
        for key in touched {
            self.before.replace(key, before.share(key));
            self.touched.insert(key);
        }
        self.times.read += times.read;
        self.times.write += times.write;
        self.times.verify += times.verify;
        self.times.drain += times.drain;
    }

    /// Whether everything was done: nothing failed, nothing is withheld, and nobody called the sync
    /// off. Differences that the policy [leaves](Self::left) were not to be changed, and
    /// destinations that [drain](Self::draining) after a pass of a syncer are under way.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.error.is_none() && self.excess.is_none() && !self.called_off
    }

    /// The services that were to be changed, as they were before: a way back. Services of
    /// [`touched`](Self::touched) that are missing here did not exist before.
    ///
    /// A pass of a syncer has this only if the policy is [`detailed`](crate::Policy::detailed).
    ///
    /// ```no_run
    /// # use ipvs_netlink::{Policy, Ruleset, Scope, blocking::Client};
    /// # let mut ipvs = Client::connect()?;
    /// # let wanted = Ruleset::new();
    /// let report = ipvs.sync(&wanted, &Policy::new())?;
    /// // Not what was meant: back to what was, of what was touched.
    /// let policy = Policy::new().scope(Scope::none().services(report.touched()));
    /// println!("went back: {}", ipvs.sync(report.before(), &policy)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn before(&self) -> &Ruleset {
        &self.before
    }

    /// The services that were to be changed; see [`before`](Self::before).
    pub fn touched(&self) -> impl Iterator<Item = ServiceKey> {
        self.touched.iter().copied()
    }
}

fn draining(reconciler: &Reconciler, now: Duration) -> Vec<DrainingDestination> {
    let all = reconciler.drains().iter();
    let all = all.flat_map(|(service, drains)| drains.iter().map(|drain| (*service, drain)));
    all.filter_map(|(service, (destination, drain))| {
        let left = drain.ends()?.saturating_sub(now);
        Some(DrainingDestination { service, destination: *destination, weight: drain.before, left })
    })
    .collect()
}

/// Why a change was not made.
fn error_of(change: &Change, failure: Failure, errors: &Errors) -> Error {
    let subject = match failure {
        Failure::ServiceRefused => (change.service(), None),
        _ => (change.service(), change.destination()),
    };
    let cause = match failure {
        Failure::Overruled => Cause::Overruled,
        Failure::NotKept => Cause::NotKept,
        Failure::Stopped => Cause::CalledOff,
        // The future was dropped before the kernel's answer was read.
        Failure::Unknown if !errors.get(&subject).is_some_and(Error::is_outcome_unknown) => {
            Cause::Dropped
        }
        _ => match errors.get(&subject) {
            Some(error) => return error.clone(),
            None => Cause::Stopped,
        },
    };
    Error::new(change.request(), cause)
}

/// A change that failed.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FailedChange {
    /// The change.
    pub change: Change,
    /// The reason. For a destination of a new service that was refused, the reason why the service
    /// was.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_text"))]
    pub error: Error,
}

/// A destination that drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DrainingDestination {
    /// The service.
    pub service: ServiceKey,
    /// The destination.
    pub destination: DestinationKey,
    /// The weight before the drain.
    pub weight: u32,
    /// The longest time that it still drains.
    pub left: Duration,
}

/// How long each part of a sync took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SyncTimes {
    /// Reading the table before.
    pub read: Duration,
    /// Writing.
    pub write: Duration,
    /// Reading again the written rules, those that others changed, and those that drain.
    pub verify: Duration,
    /// Waiting for destinations to drain.
    pub drain: Duration,
}

/// An event while a table is made as wanted.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum SyncEvent<'a> {
    /// A change was made. The changes are those of the plan, but for new services of `mh` (see
    /// [`MaglevHash`](crate::Scheduler::MaglevHash)), and for services that are planned again: when
    /// others have changed them, and when a drain has ended.
    Made(&'a Change),
    /// A change was not made, or whether it was made is not known: see
    /// [`Error::is_outcome_unknown`]. If the reason passes, the change is tried again. A change that
    /// a reading shows as made has a second event, [`Made`](Self::Made).
    Failed(&'a Change, &'a Error),
    /// How far the sync has come.
    Progress(Progress),
}

/// How far a sync has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The present stage.
    pub stage: Stage,
    /// How much of the stage is done, counted as the [`Stage`] says.
    pub done: usize,
    /// How much the stage has to do, as far as is known.
    pub total: usize,
}

/// A stage of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Changes are made; counted in changes.
    Writing,
    /// Services are read again; counted in services.
    Verifying,
    /// Destinations drain; counted in destinations.
    Draining,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.changed == 1 { "" } else { "s" };
        write!(f, "{} change{plural} made", self.changed)?;
        for (count, what) in [
            (self.failed.len(), "failed"),
            (
                self.left.len(),
                if self.left.len() == 1 { "left as it is" } else { "left as they are" },
            ),
            (self.drained, "drained"),
            (self.cut_off, "cut off"),
            (self.wanted_again, "wanted again while draining"),
            (self.raised, "raised by others while draining"),
            (self.gone, "removed by others while draining"),
            (self.draining, "draining"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        let SyncTimes { read, write, verify, drain } = self.times;
        let times = [(read, "read"), (write, "wrote"), (verify, "verified"), (drain, "drained")];
        for (time, what) in times.into_iter().filter(|(time, _)| !time.is_zero()) {
            write!(f, "; {what} in {time:.1?}")?;
        }
        if self.called_off {
            f.write_str("\ncalled off before all was done")?;
        }
        self.write_reasons(f)
    }
}

impl Report {
    /// Writes why the sync is not a success, one line for each reason.
    pub(super) fn write_reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(excess) = &self.excess {
            write!(f, "\nwithheld until it is confirmed: the plan {excess}")?;
        }
        let mut reasons = BTreeMap::<String, (&FailedChange, usize)>::new();
        for failed in &self.failed {
            let entry = reasons.entry(failed.error.reason()).or_insert((failed, 0));
            entry.1 += 1;
        }
        let mut reasons: Vec<_> = reasons.into_values().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (FailedChange { error, .. }, count) in reasons {
            write!(f, "\n{error}")?;
            if count > 1 {
                write!(f, " [{count} changes failed for this reason]")?;
            }
        }
        if let Some(error) = &self.error {
            write!(f, "\n{error}")?;
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
fn as_slice<S: serde::Serializer>(left: &Arc<[Left]>, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&left[..], serializer)
}

/// Writes an error as its text, if there is one.
#[cfg(feature = "serde")]
fn as_text<S: serde::Serializer, E>(error: &E, serializer: S) -> Result<S::Ok, S::Error>
where
    for<'a> &'a E: Into<Option<&'a Error>>,
{
    let text = error.into().map(ToString::to_string);
    serde::Serialize::serialize(&text, serializer)
}
