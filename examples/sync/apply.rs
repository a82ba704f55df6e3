//! Carrying out a plan, and showing how far it has come.

use std::ops::ControlFlow;

use indicatif::ProgressBar;
use ipvs_netlink::Plan;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::sync::{Event, Progress, Stage};

use crate::support::output::progress_bar;

/// Carries out a plan as long as `goes_on` says so, which hears how far it has come. What came of it,
/// in words: an error unless all was done.
pub(crate) fn apply(
    ipvs: &mut Client,
    plan: Plan,
    mut goes_on: impl FnMut(Option<Progress>) -> bool + Send,
) -> Result<String, String> {
    let outcome = ipvs.apply_with(plan, |event| {
        let progress = match event {
            Event::Progress(progress) => Some(progress),
            _ => None,
        };
        if goes_on(progress) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    outcome.map(|report| report.to_string()).map_err(|incomplete| incomplete.to_string())
}

/// A bar on the terminal, where standard error is one.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        Self(progress_bar("{msg} {bar:40} {pos}/{len}"))
    }

    pub(crate) fn show(&self, stage: &str, done: usize, total: usize) {
        self.0.set_message(stage.to_owned());
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
    }

    /// Prints something else in between.
    pub(crate) fn aside(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

pub(crate) fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Writing => "writing",
        Stage::Verifying => "verifying",
        Stage::Draining => "draining",
        _ => "working",
    }
}
