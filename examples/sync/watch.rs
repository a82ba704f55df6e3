//! Syncing again whenever the file changes, and whenever failed changes are to be tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipvs_netlink::Report;
use ipvs_netlink::{Ruleset, Syncer};

use crate::arguments::Arguments;
use crate::connect;
use crate::file::{INTERVAL, RulesFile};
use crate::support;
use crate::support::output::{complain, say};

/// Connects, and then syncs for as long as the process lives.
pub(crate) fn watch(arguments: &Arguments) -> anyhow::Result<u8> {
    let file = RulesFile::new(arguments.file()?, arguments.quiet);
    let mut news = News { file, arguments, is_begun: false, told: None };
    let rules = news.begin();
    let mut ipvs = connect(arguments, &rules)?;
    // Detailed reports have each change.
    let policy = arguments.policy().detailed(true);
    let mut syncer = Syncer::new(policy).max_age(arguments.max_age);
    syncer.want(rules);
    let mut left = Arc::default();
    // Several retries of failed changes are explained once.
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

/// Prints the result of a pass if it is news.
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

/// The next rules of the file.
struct News<'a> {
    file: RulesFile,
    arguments: &'a Arguments,
    /// Whether any rules were read.
    is_begun: bool,
    /// The reason why the file cannot be read, if the user was told of it.
    told: Option<String>,
}

impl News<'_> {
    /// Waits for the first rules, however long: the file may be written after this program starts.
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

    /// Waits for other rules than before, for at most this long.
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
                    say!("the file is back, unchanged");
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
                "the rules read before stay wanted"
            } else {
                "nothing is changed until the file has rules"
            };
            complain!("error: {error}; {meanwhile}");
        }
        // A file with broken rules is read, and is an error, only once.
        self.told = Some(error).filter(|_| !self.file.is_as_read());
    }
}
