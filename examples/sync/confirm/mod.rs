//! A change on trial, on the operator's side: starting the guard, and confirming the change.

mod guard;
mod pending;
mod talk;

use std::fs;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context as _, bail, ensure};
use rustix::termios::{QueueSelector, tcflush, tcgetpgrp};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::apply::Bar;
use crate::arguments::Arguments;
use crate::support::output::{complain, say};
use crate::{DONE, FAILED_IN_PART, WENT_BACK};

pub(crate) use guard::guard;
use pending::Place;
use talk::{GO_BACK, KEEP, KEPT, Said};

/// An event on the operator's side while a change is on trial.
enum Event {
    Said(Said),
    Complained(String),
    /// One of the guard's two streams has ended.
    StreamEnded,
    Confirmed,
    Stopped,
}

/// Has the guard make the change. On a terminal this process waits for the end of the trial, or for
/// Enter; elsewhere, and in the background, it ends once the change is made, so that a script goes
/// on.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let file = arguments.file()?;
    let metadata = file.metadata().with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(metadata.is_file(), "--confirm takes only regular files");
    let mut words = std::env::args_os();
    let mut guard = Command::new("/proc/self/exe")
        .arg0(words.next().unwrap_or_else(|| "sync".into()))
        .arg("--guard")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the process in the background")?;
    let (sender, events) = channel();
    let stdout = guard.stdout.take().context("a pipe")?;
    let stderr = guard.stderr.take().context("a pipe")?;
    let mut requests = guard.stdin.take().context("a pipe")?;
    listen(stdout, sender.clone(), |line| Event::Said(Said::parse(line)));
    listen(stderr, sender.clone(), Event::Complained);
    hear_signals(sender.clone())?;

    let (mut streams, mut is_left_alone, mut bar) = (2, false, Bar::default());
    for event in events {
        match event {
            Event::Said(Said::Text(line)) => bar.aside(|| say!("{line}")),
            Event::Complained(line) => bar.aside(|| complain!("{line}")),
            Event::Said(Said::Progress(stage, done, total)) => bar.show(&stage, done, total),
            Event::Said(Said::Waits(origin)) => {
                bar = Bar::default();
                if is_on_terminal() {
                    wait_for_enter(&origin, sender.clone());
                } else {
                    is_left_alone = true;
                }
            }
            Event::StreamEnded => streams -= 1,
            // A guard that has ended need not be told.
            Event::Confirmed => drop(writeln!(requests, "{KEEP}")),
            Event::Stopped => drop(writeln!(requests, "{GO_BACK}")),
        }
        // The guard ends its stream of errors before the change waits to be confirmed.
        match streams {
            0 => break,
            1 if is_left_alone => return Ok(DONE),
            _ => {}
        }
    }
    drop(bar);
    status_of(guard.wait()?, arguments)
}

fn listen(
    stream: impl Read + Send + 'static,
    events: Sender<Event>,
    event: impl Fn(String) -> Event + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = events.send(event(line));
        }
        let _ = events.send(Event::StreamEnded);
    });
}

fn hear_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            let _ = events.send(Event::Stopped);
        }
    });
    Ok(())
}

/// Whether this process would receive Enter on a terminal: a shell's job in the background (`&`) is
/// stopped when it reads.
fn is_on_terminal() -> bool {
    let is_elsewhere = tcgetpgrp(io::stdin()).is_ok_and(|foreground| {
        process_group().is_some_and(|group| group != foreground.as_raw_nonzero().get())
    });
    io::stdin().is_terminal() && !is_elsewhere
}

/// This process's group; 0 if its leader is outside of the process's PID namespace, which rustix's
/// `getpgrp` cannot return. The fields are those of `proc_pid_stat(5)`. The second one, the program's
/// name in parentheses, may hold any character.
fn process_group() -> Option<i32> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(2)?.parse().ok()
}

/// Waits for Enter, which confirms the change. Neither the end of the terminal confirms it, nor
/// input that was typed before the change was made.
fn wait_for_enter(origin: &str, events: Sender<Event>) {
    let _ = tcflush(io::stdin(), QueueSelector::IFlush);
    say!("{origin}on this terminal: Enter keeps the change, Ctrl-C goes back at once");
    thread::spawn(move || {
        if io::stdin().lock().read_line(&mut String::new()).is_ok_and(|length| length > 0) {
            let _ = events.send(Event::Confirmed);
        }
    });
}

/// The exit status of this program, which is the guard's.
fn status_of(guard: ExitStatus, arguments: &Arguments) -> anyhow::Result<u8> {
    if let Some(code) = guard.code() {
        return Ok(u8::try_from(code).unwrap_or(FAILED_IN_PART));
    }
    let place = Place::new(arguments.state.as_deref())?;
    complain!("error: the process in the background was killed ({guard}); {}", place.left_over());
    Ok(FAILED_IN_PART)
}

/// Confirms the change: tells the guard to keep it.
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
        .context("the change on trial is not made yet, or is decided already")?;
    writeln!(guard, "{KEEP}")?;
    let mut answer = String::new();
    BufReader::new(guard).read_line(&mut answer)?;
    let answer = answer.trim_end();
    if let Some(origin) = answer.strip_suffix(KEPT) {
        say!("{origin}confirmed: the change stays");
        return Ok(DONE);
    }
    ensure!(!answer.is_empty(), "the process in the background ended without an answer");
    complain!("error: too late: {answer}");
    Ok(WENT_BACK)
}
