//! Carrying out a plan, with a bar on the terminal.

use std::ops::ControlFlow;

use ipvs_netlink::Plan;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::sync::{Event, Stage};

use crate::support::output::progress_bar;

/// Carries out a plan as long as it may go on; what came of it, in words: an error unless all was
/// done.
pub(crate) fn apply(
    ipvs: &mut Client,
    plan: Plan,
    mut may_go_on: impl FnMut() -> bool + Send,
) -> Result<String, String> {
    let bar = progress_bar("{msg} {bar:40} {pos}/{len}");
    let outcome = ipvs.apply_with(plan, |event| {
        if let Event::Progress(progress) = event {
            bar.set_message(match progress.stage {
                Stage::Writing => "writing",
                Stage::Verifying => "verifying",
                Stage::Draining => "draining",
                _ => "working",
            });
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
        if may_go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    bar.finish_and_clear();
    match outcome {
        Ok(report) if report.is_success() => Ok(report.to_string()),
        Ok(report) => Err(report.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
