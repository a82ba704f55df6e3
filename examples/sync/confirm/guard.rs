//! The guard: the process in the background that makes a change on trial, and goes back to the old
//! rules.
//!
//! From its first write on, the guard waits for nobody but the kernel and whoever decides. A terminal
//! may be gone or stopped, so the guard speaks to the operator's process alone, over pipes that never
//! block.

use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use ipvs_netlink::Progress;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::{Plan, Policy, Ruleset};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::pending::{Pending, Place};
use super::talk::{GO_BACK, KEEP, KEPT, say_that_it_waits, show};
use crate::apply::apply;
use crate::arguments::Arguments;
use crate::support::output::{complain, origin, quoted, say};
use crate::{BAD_INPUT, DONE, FAILED_IN_PART, WENT_BACK, prepare};

/// How often the guard tries to go back, and the wait between two tries.
const TRIES: usize = 30;
const REST: Duration = Duration::from_secs(1);

/// Makes the change, and goes back unless it is confirmed. An error means that nothing was changed.
pub(crate) fn guard(arguments: &Arguments) -> anyhow::Result<u8> {
    let (sender, decisions) = channel();
    // From here on, the end of the terminal does not end this process; Rust's runtime ignores SIGPIPE
    // already.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    rustix::process::setsid().context("cannot leave the session")?;
    let decider = Decider { sender, is_begun: Arc::default() };
    let of_signals = decider.clone();
    thread::spawn(move || {
        for signal in signals.forever().filter(|signal| *signal != SIGHUP) {
            let name = signal_name(signal).unwrap_or("a signal");
            of_signals.decide(Decision::GoBack(format!("{name} received")));
        }
    });
    let of_operator = decider.clone();
    thread::spawn(move || hear(io::stdin().lock(), None, &of_operator));

    let time = arguments.confirm.context("--guard belongs to --confirm")?;
    let (mut ipvs, rules) = prepare(arguments)?;
    let table = ipvs.ruleset()?;
    let plan = Plan::new(&table, &rules, &arguments.policy());
    arguments.print_plan(&plan)?;
    if plan.is_empty() {
        say!("0 changes, none to confirm");
        return Ok(DONE);
    }
    let place = Place::new(arguments.state.as_deref())?;
    let saved = saved(arguments, &table, &place)?;
    decider.begin();
    rustix::io::ioctl_fionbio(io::stdout(), true)?;
    rustix::io::ioctl_fionbio(io::stderr(), true)?;
    let (pending, listener) = Pending::begin(place, &saved)?;
    thread::spawn(move || listen(&listener, &decider));
    let touched = plan.changes().iter().map(ipvs_netlink::Change::service);
    let trial = Trial {
        ipvs,
        way_back: arguments.way_back(touched),
        before: plan.before().clone(),
        decisions,
        deadline: Deadline { time, at: Instant::now().checked_add(time) },
        pending,
    };
    Ok(trial.run(plan))
}

/// The old rules as a rules file, whose first lines say how to go back by hand.
fn saved(arguments: &Arguments, table: &Ruleset, place: &Place) -> anyhow::Result<String> {
    let scope = arguments.policy().scope;
    let mut owned = table.clone();
    for rules in table.services().filter(|rules| !scope.owns(&rules.key())) {
        owned.remove_service(rules.key());
    }
    let mut options = arguments.own_options();
    if owned.is_empty() {
        options.push_str(" --allow-empty");
    }
    Ok(format!(
        "# The rules of IPVS on {}, before process {} applied {}.\n\
         # To go back by hand: sync{options} {}\n{owned}",
        humantime::format_rfc3339_seconds(SystemTime::now()),
        std::process::id(),
        quoted(arguments.file()?),
        quoted(&place.before()),
    ))
}

/// The decision on the change.
enum Decision {
    /// The change stays; a process that confirmed it from elsewhere gets an answer.
    Keep(Option<UnixStream>),
    /// The old rules come back, for this reason.
    GoBack(String),
}

/// Hears the processes that confirm from elsewhere.
fn listen(listener: &UnixListener, decider: &Decider) {
    for stream in listener.incoming().map_while(Result::ok) {
        let decider = decider.clone();
        thread::spawn(move || {
            let Ok(lines) = stream.try_clone() else { return };
            hear(BufReader::new(lines), Some(&stream), &decider);
        });
    }
}

/// Hears the decisions of one process, line by line, to the end.
fn hear(lines: impl BufRead, answers: Option<&UnixStream>, decider: &Decider) {
    for line in lines.lines().map_while(Result::ok) {
        let decision = match line.as_str() {
            KEEP => Decision::Keep(answers.and_then(|stream| stream.try_clone().ok())),
            GO_BACK => Decision::GoBack("the operator asked for it".to_owned()),
            _ => continue,
        };
        decider.decide(decision);
    }
}

/// Hands decisions to the trial. Before the trial has begun, a decision to go back ends the
/// program.
#[derive(Clone)]
struct Decider {
    sender: Sender<Decision>,
    is_begun: Arc<Mutex<bool>>,
}

impl Decider {
    fn begin(&self) {
        *self.is_begun() = true;
    }

    fn decide(&self, decision: Decision) {
        let is_begun = self.is_begun();
        if let (false, Decision::GoBack(why)) = (*is_begun, &decision) {
            complain!("error: {why}; nothing was changed");
            std::process::exit(i32::from(BAD_INPUT));
        }
        let _ = self.sender.send(decision);
    }

    fn is_begun(&self) -> MutexGuard<'_, bool> {
        self.is_begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The deadline for confirming the change.
struct Deadline {
    time: Duration,
    /// `None` if the clock cannot represent the time.
    at: Option<Instant>,
}

impl Deadline {
    fn left(&self) -> Duration {
        self.at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }
}

/// A change on trial, from its first write to the decision.
struct Trial {
    ipvs: Client,
    /// The services of the change as they were before.
    before: Ruleset,
    /// The policy for going back.
    way_back: Policy,
    decisions: Receiver<Decision>,
    deadline: Deadline,
    pending: Pending,
}

impl Trial {
    fn run(mut self, plan: Plan) -> u8 {
        let mut decided = self.decisions.try_recv().ok();
        if let Some(Decision::GoBack(why)) = decided {
            self.tell(&format!("error: {why}; nothing was changed"), true);
            return end(self.pending, BAD_INPUT);
        }
        let (first, decisions) = (&mut decided, &mut self.decisions);
        let deadline = &self.deadline;
        let mut shown = Shown::default();
        let made = apply(&mut self.ipvs, plan, move |progress| {
            shown.show(progress);
            if first.is_none() {
                *first = decisions.try_recv().ok();
            }
            !matches!(first, Some(Decision::GoBack(_))) && !deadline.left().is_zero()
        });
        let decision = match (made, decided) {
            // The change was called off, which is no error.
            (Err(_), Some(back @ Decision::GoBack(_))) => back,
            (Err(_), None) if self.deadline.left().is_zero() => self.nobody_confirmed(),
            (Err(report), decided) => {
                self.tell(&format!("error: {report}"), true);
                answer(decided, "the change failed in part");
                Decision::GoBack("the change was not made to its end".to_owned())
            }
            (Ok(report), Some(decision)) => {
                self.tell(&report, false);
                decision
            }
            (Ok(report), None) => {
                self.tell(&report, false);
                self.say_how_to_decide();
                // From here on all output has one stream. The end of the other one tells that the
                // output before is complete.
                let _ = rustix::stdio::dup2_stderr(io::stdout());
                say_that_it_waits();
                self.wait()
            }
        };
        match decision {
            Decision::Keep(asked) => self.keep(asked),
            Decision::GoBack(why) => self.go_back(&why),
        }
    }

    fn say_how_to_decide(&mut self) {
        let time = humantime::format_duration(self.deadline.time);
        let process = std::process::id();
        self.tell(&format!("process {process} goes back {time} after the first write"), false);
        say!("{}", self.pending.how_to_decide());
    }

    fn wait(&self) -> Decision {
        let decision = self.decisions.recv_timeout(self.deadline.left());
        decision.unwrap_or_else(|_| self.nobody_confirmed())
    }

    fn nobody_confirmed(&self) -> Decision {
        let time = humantime::format_duration(self.deadline.time);
        Decision::GoBack(format!("nobody confirmed within {time}"))
    }

    fn keep(mut self, asked: Option<UnixStream>) -> u8 {
        self.tell("confirmed: the change stays", false);
        let status = end(self.pending, DONE);
        answer(Some(Decision::Keep(asked)), KEPT);
        status
    }

    /// Goes back to the old rules: adds what is missing and changes what differs. A destination that
    /// is added again gets those connections back that the kernel still has.
    fn go_back(mut self, why: &str) -> u8 {
        self.tell(&format!("going back: {why}"), false);
        let (mut tries, mut shown) = (0, Shown::default());
        let back = loop {
            tries += 1;
            let back = match self.ipvs.plan(&self.before, &self.way_back) {
                Ok(plan) => apply(&mut self.ipvs, plan, |progress| {
                    shown.show(progress);
                    true
                }),
                Err(error) => Err(error.to_string()),
            };
            if back.is_ok() || tries == TRIES {
                break back;
            }
            thread::sleep(REST);
        };
        match &back {
            Ok(report) => self.tell(&format!("went back: {report}"), false),
            Err(report) => {
                let file = self.pending.before();
                let said = format!(
                    "error: the old rules are back only in part: {report}\nall of them are in "
                );
                self.tell(&format!("{said}{}", quoted(&file)), true);
            }
        }
        while let Ok(decision) = self.decisions.try_recv() {
            answer(Some(decision), "the old rules are back");
        }
        if back.is_ok() { end(self.pending, WENT_BACK) } else { FAILED_IN_PART }
    }

    /// Prints a line, and writes it into the log for an operator who comes back.
    fn tell(&mut self, line: &str, is_error: bool) {
        self.pending.note(line);
        if is_error { complain!("{line}") } else { say!("{line}") }
    }
}

/// Ends a change that is decided. Returns this exit status, unless the file of old rules cannot be
/// removed.
fn end(pending: Pending, status: u8) -> u8 {
    if let Err(error) = pending.end() {
        complain!("error: cannot remove the file of old rules: {error}");
        return FAILED_IN_PART;
    }
    status
}

/// Answers the process that has confirmed; it may have gone already.
fn answer(asked: Option<Decision>, answer: &str) {
    if let Some(Decision::Keep(Some(mut asked))) = asked {
        let _ = writeln!(asked, "{}{answer}", origin());
    }
}

/// Shows the progress in the operator's bar: ten times a second at most, not for each of a million
/// changes.
#[derive(Default)]
struct Shown(Option<Instant>);

impl Shown {
    fn show(&mut self, progress: Option<Progress>) {
        let is_due = self.0.is_none_or(|last| last.elapsed() >= Duration::from_millis(100));
        if let Some(progress) = progress.filter(|_| is_due) {
            self.0 = Some(Instant::now());
            show(progress);
        }
    }
}
