//! Doing it again whenever the file changes, and whenever what failed is to be tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipvs_netlink::Report;
use ipvs_netlink::{Ruleset, Syncer};

use crate::arguments::Arguments;
use crate::connect;
use crate::file::{INTERVAL, RulesFile};
use crate::support;
use crate::support::output::{complain, say};

/// Goes on for as long as the process lives, once it is connected.
pub(crate) fn watch(arguments: &Arguments) -> anyhow::Result<u8> {
    let file = RulesFile::new(arguments.file()?, arguments.quiet);
    let mut news = News { file, arguments, is_begun: false, told: None };
    let rules = news.begin();
    let mut ipvs = connect(arguments, &rules)?;
    // Reports have each change.
    let policy = arguments.policy().detailed(true);
    let mut syncer = Syncer::new(policy).max_age(arguments.max_age);
    syncer.want(rules);
    let mut left = Arc::default();
    // Once for all the retries of what failed.
    let mut is_explained = false;
    loop {
        let report = ipvs.pass(&mut syncer);
        if !report.is_success() && !is_explained {
            support::explain(syncer.wanted());
        }
        is_explained = !report.is_success();
        tell(&report, report.left != left);
        left = report.left;
        let wait = report.next.unwrap_or(arguments.max_age).min(arguments.max_age);
        if let Some(rules) = news.wait(wait) {
            syncer.want(rules);
            is_explained = false;
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
    file: RulesFile,
    arguments: &'a Arguments,
    /// Whether any rules were read.
    is_begun: bool,
    /// Why the file cannot be read, once that was told.
    told: Option<String>,
}

impl News<'_> {
    /// The first rules, however long they take to come: the file may be written later than this begins.
    fn begin(&mut self) -> Ruleset {
        let first = self.file.wait().and_then(|rules| self.arguments.accept(rules));
        let rules = first.unwrap_or_else(|error| {
            self.tell(&error);
            loop {
                if let Some(rules) = self.wait(Duration::MAX) {
                    break rules;
                }
            }
        });
        self.is_begun = true;
        rules
    }

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
            let meanwhile = if self.is_begun {
                "what was wanted before stays wanted"
            } else {
                "nothing is changed until it has rules"
            };
            complain!("error: {error}; {meanwhile}");
        }
        // What was read and is wrong is an error once.
        self.told = Some(error).filter(|_| !self.file.is_as_read());
    }
}
