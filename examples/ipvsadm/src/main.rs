//! ipvsadm on this crate: options, output, messages and exit statuses are those of ipvsadm 1.31, byte
//! for byte. As `ipvsadm-save` and `ipvsadm-restore`, which are links to it, it does what those
//! scripts do. `ipvsadm --generate man|bash|zsh|fish` prints the manual page and the completions.
//!
//! Where it differs, since the original is wrong:
//!
//! - **Order.** Listings are in the order of addresses and ports as numbers, IPv4 before IPv6. The original
//!   subtracts the first 32 bits: 192.168.0.1 can come before 10.0.0.1, an IPv6 destination among those of
//!   IPv4, and its order depends on the kernel's.
//! - **Marks** from 2147483648 on are printed as they are, not as negative numbers, which `-R` refuses.
//! - **`-R` does all or nothing.** A line that is wrong or that the kernel refuses is named (`line 2: …`),
//!   nothing of the text stays, and the status is that line's. The original does what comes before it,
//!   and often what comes behind, and its status is the last line's. Comments (`#`) and empty lines are
//!   skipped. `ipvsadm-restore` clears the table in the same way: not where the text is wrong. Where IPVS
//!   cannot be had it prints one message, not one for each of the original's two programs.
//!   Counters that were zeroed by then stay zero. A text that cannot be read is an error, not an empty one, and
//!   words longer than 4095 bytes are not cut in two.
//! - **`-S` prints all.** Thresholds (`-x`, `-y`), the scheduler flag `flag-3` of sh and mh (the original
//!   prints an empty `-b`, or leaves it out), timeouts that are not 900, 120 and 300 (`--set`) and sync
//!   daemons (`--start-daemon`) are saved. The methods local and bypass are saved as `--local` and
//!   `--bypass`, which the original does not know; it saves both as direct route. A daemon that runs as
//!   it is to be started is no error in `-R`. Other protocols, tunnels and flags than ipvsadm knows are not
//!   saved as they are; the crate's own rules files hold them.
//!   Timeouts and persistence of more than 2678400 s, which other programs can set, are saved, and `-R` refuses
//!   them, as the original does.
//! - **Listings show `flag-3`** of sh and mh, for which the original prints `()`, or nothing, and the method
//!   `Bypass`, for which it prints `(null)`.
//! - **Counters** of destinations have 64 bits; the original cuts them to 32.
//! - **`--pe` without `-p`** is left out: the engine would never be asked, and `-L` does not show it.
//! - **What cannot be printed** is an error. A full disk ends the program with status 1, and a closed pipe
//!   by SIGPIPE even where that is ignored; the original prints into both, and succeeds.
//! - **`-b ,`**, commas without a flag, is no flag; the original crashes.
//! - **`-M` of IPv6** from 4294967296 on is refused; the original cuts it to 32 bits, so that 4294967297 is 1.
//! - **Names that no scheduler, engine or interface can have**, such as those with a blank, are refused
//!   before the kernel looks at the rest, which the original has it do first.
//! - **`-L -c` shows all connections.** The original reads 255 bytes of each: an entry whose engine goes by
//!   more is two to it, or crashes it.
//! - **Arguments that are not UTF-8** are told with a replacement character in place of what is wrong.

// Tests may fail by a panic.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arguments;
mod connections;
mod failure;
mod listing;
mod manual;
mod names;
mod options;
mod restore;
mod save;
mod usage;
mod words;

use std::ffi::OsString;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use ipvs_netlink::Operation;
use ipvs_netlink::blocking::Client;

use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;

use arguments::{Action, View, What, parse};
use failure::{CUT_OFF, Failure, NOT_LISTED, REFUSED};
use names::Names;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| "ipvsadm".into());
    let arguments: Vec<OsString> = arguments.collect();
    let mut out = BufWriter::new(io::stdout().lock());
    let program = program.to_string_lossy();
    let done = main_of(&program, &arguments, connect, io::stdin().lock(), &mut out);
    // What was printed before a failure stands before it.
    let flushed = out.flush().map_err(Failure::from);
    let done = done.and(flushed);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.status == CUT_OFF {
                // As the original the program is ended by the signal, which Rust's start-up ignores.
                let _ = emulate_default_handler(SIGPIPE);
            }
            if !failure.message.is_empty() {
                let _ = writeln!(io::stderr(), "{}", failure.message);
            }
            ExitCode::from(failure.status)
        }
    }
}

/// The program with its surroundings.
fn main_of(
    program: &str,
    arguments: &[OsString],
    connect: impl FnOnce() -> Result<Client, Failure>,
    input: impl Read,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let names = Names::default();
    if let [option, what] = arguments
        && option == "--generate"
        && manual::generate(&what.to_string_lossy(), out)?
    {
        return Ok(());
    }
    match &*name {
        "ipvsadm-save" => {
            let numeric = save_options(&name, arguments)?;
            run(&mut connect()?, program, Action::Save { numeric }, &names, out)
        }
        "ipvsadm-restore" => {
            let mut ipvs = connect()?;
            let mut lines = restore::read("ipvsadm", &read(input)?, &names)?;
            lines.insert(0, restore::CLEAR);
            restore::restore(&mut ipvs, "ipvsadm", lines, &names, out)
        }
        _ => {
            // As the original it asks the kernel before it looks at the options.
            let mut ipvs = connect()?;
            let action = match arguments {
                [] => Action::List(What::Table, View::default()),
                arguments => parse(program, arguments, &names)?,
            };
            match action {
                Action::Restore => {
                    let lines = restore::read(program, &read(input)?, &names)?;
                    restore::restore(&mut ipvs, program, lines, &names, out)
                }
                action => run(&mut ipvs, program, action, &names, out),
            }
        }
    }
}

/// Whether `ipvsadm-save` is to print numbers.
fn save_options(name: &str, arguments: &[OsString]) -> Result<bool, Failure> {
    let is_option = |word: &&OsString| word.as_encoded_bytes().starts_with(b"-");
    if arguments.iter().filter(is_option).any(|word| *word != "-n") {
        return Err(Failure::new(
            NOT_LISTED,
            format!(
                "{name}: Script to save the IPVS table to stdout.\n   \
                 With the -n option, prints out the table in numeric format."
            ),
        ));
    }
    Ok(arguments.iter().any(|word| *word == "-n"))
}

fn connect() -> Result<Client, Failure> {
    let asked = || Client::connect().and_then(|mut ipvs| ipvs.info().map(|_| ipvs));
    let connected = asked().or_else(|error| if load_ipvs() { asked() } else { Err(error) });
    connected.map_err(|error| Failure::no_ipvs(&error))
}

/// Has modprobe load IPVS: kernels before 5.16 do not by themselves, nor do those that
/// `kernel.modprobe` keeps from it.
fn load_ipvs() -> bool {
    let loaded = Command::new("/sbin/modprobe").args(["--", "ip_vs"]).status();
    loaded.is_ok_and(|status| status.success())
}

fn read(mut input: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Does one thing.
fn run(
    ipvs: &mut Client,
    program: &str,
    action: Action,
    names: &Names,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match action {
        Action::Change(operation) => change(ipvs, operation),
        Action::List(what, view) => match what {
            What::Table => listing::table(ipvs, view, names, out),
            What::Service(key) => listing::service(ipvs, key, view, names, out),
            What::Connections => connections::list(view, names, out),
            What::Timeouts => listing::timeouts(ipvs, out),
            What::Daemons => listing::daemons(ipvs, out),
        },
        Action::Save { numeric } => save::save(ipvs, numeric, names, out),
        Action::Help => Ok(write!(out, "{}", usage::usage(program))?),
        Action::Version => Ok(writeln!(out, "{}", usage::VERSION)?),
        // A text of commands holds none; the options ask for it in `main_of`.
        Action::Restore => Err(Failure::hint(program)),
    }
}

fn change(ipvs: &mut Client, operation: Operation) -> Result<(), Failure> {
    let Err(error) = ipvs.batch([operation])?.into_result() else { return Ok(()) };
    if let Operation::AddDestination(key, _) | Operation::UpdateDestination(key, _) = operation
        && error.is_invalid()
        && ipvs.service(key).is_err_and(|error| error.is_service_not_found())
    {
        // The kernel, which was not asked, looks for the service first.
        return Err(Failure::new(REFUSED, "Service not defined"));
    }
    Err(error.into())
}

#[cfg(test)]
mod tests;
