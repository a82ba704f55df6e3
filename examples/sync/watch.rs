//! Doing it again whenever the file changes, and whenever what failed is to be tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipvs_netlink::blocking::Client;
use ipvs_netlink::sync::Report;
use ipvs_netlink::{Ruleset, Syncer};

use crate::arguments::Arguments;
use crate::file::{INTERVAL, RulesFile};
use crate::support::output::{complain, say};

/// Goes on for as long as the process lives.
pub(crate) fn watch(
    arguments: &Arguments,
    mut ipvs: Client,
    mut file: RulesFile,
    rules: Ruleset,
) -> ! {
    // Reports have each change.
    let policy = arguments.policy().detailed();
    let mut syncer = Syncer::new(policy).max_age(arguments.max_age);
    syncer.want(rules);
    let mut left = Arc::default();
    let mut news = News { file: &mut file, arguments, told: None };
    loop {
        let report = ipvs.pass(&mut syncer);
        tell(&report, report.left != left);
        left = report.left;
        let wait = report.next.unwrap_or(arguments.max_age).min(arguments.max_age);
        if let Some(rules) = news.wait(wait) {
            syncer.want(rules);
        }
    }
}

/// Prints what came of a pass, where it is news.
fn tell(report: &Report, is_left_anew: bool) {
    for change in &report.made {
        say!("{change}");
    }
    if !report.is_success() {
        complain!("error: {report}");
    } else if report.changed > 0 || report.gone > 0 || is_left_anew {
        say!("{report}");
    }
}

/// What the file says next.
struct News<'a> {
    file: &'a mut RulesFile,
    arguments: &'a Arguments,
    /// Why the file cannot be read, once that was told.
    told: Option<String>,
}

impl News<'_> {
    /// Waits until the file says something else, for this long at most.
    fn wait(&mut self, time: Duration) -> Option<Ruleset> {
        let begin = Instant::now();
        loop {
            match self.file.poll().map(|rules| rules.and_then(|it| self.arguments.accept(it))) {
                Some(Ok(rules)) => {
                    self.told = None;
                    return Some(rules);
                }
                Some(Err(error)) => self.tell(&error),
                None if self.file.is_as_read() && self.told.take().is_some() => {
                    say!("the file is there again, as it was");
                }
                None => {}
            }
            let left = time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(INTERVAL));
        }
    }

    fn tell(&mut self, error: &anyhow::Error) {
        let error = format!("{error:#}");
        if self.told.as_ref() != Some(&error) {
            complain!("error: {error}; what was wanted before stays wanted");
        }
        // What was read and is wrong is an error once.
        self.told = Some(error).filter(|_| !self.file.is_as_read());
    }
}
