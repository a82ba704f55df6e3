//! Carrying out a plan, and showing its progress.

use std::ops::ControlFlow;

use indicatif::ProgressBar;
use ipvs_netlink::Plan;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::{Progress, Stage, SyncEvent};

use crate::support::output::progress_bar;

/// Carries out a plan for as long as `goes_on`, which is told the progress, returns `true`. Returns
/// the report as text; as an error unless all was done.
pub(crate) fn apply(
    ipvs: &mut Client,
    plan: Plan,
    mut goes_on: impl FnMut(Option<Progress>) -> bool + Send,
) -> Result<String, String> {
    let outcome = ipvs.apply_with(plan, |event| {
        let progress = match event {
            SyncEvent::Progress(progress) => Some(progress),
            _ => None,
        };
        if goes_on(progress) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    outcome.map(|report| report.to_string()).map_err(|incomplete| incomplete.to_string())
}

/// A progress bar, shown from the first progress on if standard error is a terminal.
#[derive(Default)]
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(crate) fn show(&mut self, stage: &str, done: usize, total: usize) {
        let bar = self.0.get_or_insert_with(|| progress_bar("{msg} {bar:40} {pos}/{len}"));
        bar.set_message(stage.to_owned());
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    }

    /// Prints other lines without disturbing the bar.
    pub(crate) fn aside(&self, print: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
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
