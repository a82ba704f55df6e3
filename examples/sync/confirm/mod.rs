//! A change on trial, on the operator's side: starting the process that goes back, and confirming.

mod guard;
mod pending;

use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context as _, bail};
use rustix::termios::{QueueSelector, tcflush};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::DONE;
use crate::arguments::Arguments;
use crate::support::output::say;

pub(crate) use guard::guard;
use pending::Place;

/// What the guard, which is the process that goes back, is asked for, a line each.
const KEEP: &str = "keep";
const GO_BACK: &str = "go back";

/// What it says: the change is made and waits; it stays.
const WAITS: &str = "waits";
const KEPT: &str = "kept";

/// What happens at the operator's side while a change is on trial.
enum Event {
    Waits,
    Ended,
    Confirmed,
    Stopped,
}

/// Has the guard make the change. On a terminal it waits for the end of the trial, or for Enter;
/// elsewhere it ends once the change is made, so that a script goes on.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let place = Place::new(arguments.state.as_deref())?;
    let (ours, theirs) = UnixStream::pair()?;
    let (sender, events) = channel();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut words = std::env::args_os();
    let mut guard = Command::new("/proc/self/exe")
        .arg0(words.next().unwrap_or_else(|| "sync".into()))
        .arg("--guard")
        .args(words)
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .context("the process in the background cannot be started")?;
    let of_signals = sender.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            let _ = of_signals.send(Event::Stopped);
        }
    });
    let (of_guard, lines) = (sender.clone(), BufReader::new(ours.try_clone()?).lines());
    thread::spawn(move || {
        for line in lines.map_while(Result::ok).filter(|line| line == WAITS) {
            drop(line);
            let _ = of_guard.send(Event::Waits);
        }
        let _ = of_guard.send(Event::Ended);
    });
    for event in events {
        // A guard that has ended needs no telling.
        match event {
            Event::Waits if io::stdin().is_terminal() => wait_for_enter(sender.clone()),
            Event::Waits => return Ok(DONE),
            Event::Confirmed => drop(writeln!(&ours, "{KEEP}")),
            Event::Stopped => drop(writeln!(&ours, "{GO_BACK}")),
            Event::Ended => break,
        }
    }
    let status = guard.wait()?;
    let Some(code) = status.code() else {
        say!("error: the process in the background was killed ({status})");
        say!("{}", place.left_over());
        return Ok(crate::FAILED_IN_PART);
    };
    Ok(u8::try_from(code).unwrap_or(crate::FAILED_IN_PART))
}

/// Enter confirms; the end of the terminal does not, nor what was typed before the change was made.
fn wait_for_enter(events: Sender<Event>) {
    let _ = tcflush(io::stdin(), QueueSelector::IFlush);
    thread::spawn(move || {
        if io::stdin().lock().read_line(&mut String::new()).is_ok_and(|length| length > 0) {
            let _ = events.send(Event::Confirmed);
        }
    });
}

/// Tells the guard that the change is to stay.
pub(crate) fn confirm_now(arguments: &Arguments) -> anyhow::Result<u8> {
    let place = Place::new(arguments.state.as_deref())?;
    if !place.is_taken()? {
        if place.before().exists() {
            bail!("no change waits to be confirmed; {}", place.left_over());
        }
        let last = place.last_words().map(|words| format!("; the last one: {words}"));
        bail!("no change waits to be confirmed{}", last.unwrap_or_default());
    }
    let mut guard = UnixStream::connect(place.socket())
        .context("the change that is to be confirmed is not made yet, or not any more")?;
    writeln!(guard, "{KEEP}")?;
    let mut answer = String::new();
    BufReader::new(guard).read_line(&mut answer)?;
    match answer.trim_end() {
        KEPT => {
            say!("confirmed: the change stays");
            Ok(DONE)
        }
        "" => bail!("the process in the background ended without an answer"),
        answer => bail!("too late: {answer}"),
    }
}
