//! `-R`: commands from a text, all of them or none, in batches.

use std::ffi::OsString;
use std::io::Write;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::{BatchOptions, Error, Operation, Policy, Ruleset, SyncDaemon, Timeouts};

use crate::arguments::{Action, parse};
use crate::failure::{Failure, NOT_LISTED, REFUSED};
use crate::names::Names;
use crate::run;

/// A command with the number of its line.
pub(crate) struct Line {
    number: usize,
    action: Action,
}

/// What `ipvsadm-restore` does before all lines.
pub(crate) const CLEAR: Line = Line { number: 0, action: Action::Change(Operation::Flush) };

/// Reads commands, a line each; empty lines and those that begin with `#` are none.
pub(crate) fn read(program: &str, text: &str, names: &Names) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        // The program's name may stand before a command; the original passes it over anywhere.
        let words: Vec<OsString> = line
            .split([' ', '\t', '\r'])
            .filter(|word| !word.is_empty() && *word != "ipvsadm")
            // Words of C end there.
            .map(|word| word.split('\0').next().unwrap_or_default().into())
            .collect();
        if words.is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let action = parse(program, &words, names).map_err(|failure| at(number, &failure))?;
        match action {
            Action::Restore => return Err(at(number, &Failure::hint(program))),
            // As in the original, nothing is read behind them.
            Action::Help | Action::Version => {
                lines.push(Line { number, action });
                break;
            }
            _ => lines.push(Line { number, action }),
        }
    }
    Ok(lines)
}

/// The same failure with the line that it is of.
fn at(number: usize, failure: &Failure) -> Failure {
    Failure::new(failure.status, format!("line {number}: {}", failure.message))
}

/// Carries out commands. Where one of them fails, what the others did is undone.
pub(crate) fn restore(
    ipvs: &mut Client,
    program: &str,
    lines: Vec<Line>,
    names: &Names,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let before = State::read(ipvs)?;
    before.try_out(&lines)?;
    carry_out(ipvs, program, &before, lines, names, out).map_err(|mut failure| {
        for message in before.bring_back(ipvs) {
            failure.message.extend(["\nwhat had been done could not be undone: ", &message]);
            failure.status = NOT_LISTED;
        }
        failure
    })
}

fn carry_out(
    ipvs: &mut Client,
    program: &str,
    before: &State,
    lines: Vec<Line>,
    names: &Names,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (mut waiting, mut stopped) = (Vec::new(), Vec::new());
    for Line { number, action } in lines {
        match action {
            Action::Change(Operation::StartDaemon(daemon))
                if before.runs(&daemon) && !stopped.contains(&daemon.role) => {}
            Action::Change(operation) => {
                if let Operation::StopDaemon(role) = operation {
                    stopped.push(role);
                }
                waiting.push((number, operation));
            }
            // It shows what the commands before it have done.
            shown => {
                send(ipvs, &waiting)?;
                waiting.clear();
                run(ipvs, program, shown, names, out).map_err(|failure| at(number, &failure))?;
            }
        }
    }
    send(ipvs, &waiting)
}

/// Sends operations in batches, up to the first that fails.
fn send(ipvs: &mut Client, operations: &[(usize, Operation)]) -> Result<(), Failure> {
    let mut failed: Option<(usize, Error)> = None;
    let mut numbers = operations.iter().map(|(number, _)| *number);
    ipvs.batch_each(
        operations.iter().map(|(_, operation)| *operation).collect::<Vec<_>>(),
        BatchOptions::default().stop_at_first_error(true),
        |_, result| {
            let number = numbers.next().unwrap_or_default();
            if let Err(error) = result {
                failed.get_or_insert((number, error));
            }
        },
    )?;
    match failed {
        None => Ok(()),
        Some((number, error)) => Err(at(number, &Failure::from(error))),
    }
}

/// What the commands change.
struct State {
    rules: Ruleset,
    timeouts: Timeouts,
    daemons: Vec<SyncDaemon>,
}

impl State {
    fn read(ipvs: &mut Client) -> Result<Self, Failure> {
        Ok(Self { rules: ipvs.ruleset()?, timeouts: ipvs.timeouts()?, daemons: ipvs.daemons()? })
    }

    /// Whether such a daemon runs: what is left out of `wanted` is the kernel's choice.
    fn runs(&self, wanted: &SyncDaemon) -> bool {
        self.daemons.iter().any(|daemon| {
            let mut filled = *wanted;
            filled.max_length = wanted.max_length.or(daemon.max_length);
            filled.group = wanted.group.or(daemon.group);
            filled.port = wanted.port.or(daemon.port);
            filled.ttl = wanted.ttl.or(daemon.ttl);
            filled == *daemon
        })
    }

    /// Tells what the kernel would refuse for what the table has then, before anything is changed.
    fn try_out(&self, lines: &[Line]) -> Result<(), Failure> {
        let mut rules = self.rules.clone();
        for Line { number, action } in lines {
            let Action::Change(operation) = action else { continue };
            apply(&mut rules, operation)
                .map_err(|message| at(*number, &Failure::new(REFUSED, message)))?;
        }
        Ok(())
    }

    /// Makes everything as it was, and tells what could not be. Daemons are stopped first and started
    /// last: while one runs, the kernel refuses destinations of another family than their service's.
    fn bring_back(&self, ipvs: &mut Client) -> Vec<String> {
        let mut failed = Vec::new();
        let now = match ipvs.daemons() {
            Ok(now) => now,
            Err(error) => {
                failed.push(error.to_string());
                self.daemons.clone()
            }
        };
        for daemon in now.iter().filter(|daemon| !self.daemons.contains(daemon)) {
            failed.extend(ipvs.stop_daemon(daemon.role).err().map(|error| error.to_string()));
        }
        let synced = ipvs.sync(&self.rules, &Policy::new());
        failed.extend(synced.err().map(|error| error.to_string()));
        failed.extend(ipvs.set_timeouts(self.timeouts).err().map(|error| error.to_string()));
        for daemon in self.daemons.iter().filter(|daemon| !now.contains(daemon)) {
            failed.extend(ipvs.start_daemon(daemon).err().map(|error| error.to_string()));
        }
        failed
    }
}

/// Makes a change to rules, or tells in ipvsadm's words why the kernel would not.
fn apply(rules: &mut Ruleset, operation: &Operation) -> Result<(), &'static str> {
    const NO_SERVICE: &str = "No such service";
    const NOT_DEFINED: &str = "Service not defined";
    const NO_DESTINATION: &str = "No such destination";
    const RANGE: &str = "Numerical result out of range";
    match *operation {
        Operation::AddService(service) => {
            if rules.service(service.key).is_some() {
                return Err("Service already exists");
            }
            rules.insert_service(service).map_err(|_| RANGE)?;
        }
        Operation::UpdateService(service) => {
            rules.service(service.key).ok_or(NO_SERVICE)?;
            rules.insert_service(service).map_err(|_| RANGE)?;
        }
        Operation::RemoveService(key) => {
            rules.remove_service(key).ok_or(NO_SERVICE)?;
        }
        Operation::AddDestination(key, destination) => {
            let service = rules.service(key).ok_or(NOT_DEFINED)?;
            if service.destination(destination.key).is_some() {
                return Err("Destination already exists");
            }
            rules.insert_destination(key, destination).map_err(|_| RANGE)?;
        }
        Operation::UpdateDestination(key, destination) => {
            let service = rules.service(key).ok_or(NOT_DEFINED)?;
            service.destination(destination.key).ok_or(NO_DESTINATION)?;
            rules.insert_destination(key, destination).map_err(|_| RANGE)?;
        }
        Operation::RemoveDestination(key, destination) => {
            rules.service(key).ok_or(NOT_DEFINED)?;
            rules.remove_destination(key, destination).ok_or(NO_DESTINATION)?;
        }
        Operation::ZeroService(key) => {
            rules.service(key).ok_or(NO_SERVICE)?;
        }
        Operation::Flush => *rules = Ruleset::new(),
        _ => {}
    }
    Ok(())
}
