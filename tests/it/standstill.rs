//! Processes that should have ended: where each of them is, and their end.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::case::trials;
use crate::program::comes_true;

trials![what_stands_still_is_told_and_ended];

/// The threads of IPVS's sync daemons, by how their names begin.
const DAEMONS: [&str; 2] = ["ipvs-m", "ipvs-b"];

/// All programs, all threads of sync daemons and all that the kernel does not let go on: what each was
/// told, and where in the kernel each of its threads is.
pub(crate) fn described() -> String {
    let mut text = String::from("what runs:\n");
    for process in processes() {
        let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        for thread in numbers(&format!("/proc/{process}/task")) {
            let folder = format!("/proc/{process}/task/{thread}");
            let read = |file| fs::read_to_string(format!("{folder}/{file}")).unwrap_or_default();
            let (name, state) = (read("comm"), state(&read("stat")));
            let is_daemon = DAEMONS.iter().any(|daemon| name.starts_with(daemon));
            if arguments.is_empty() && !is_daemon && state != Some('D') {
                continue;
            }
            let (name, state) = (name.trim(), state.unwrap_or('?'));
            let network = fs::read_link(format!("{folder}/ns/net")).unwrap_or_default();
            let network = network.display();
            let call = read("syscall");
            let _ = writeln!(text, "{thread} {name} ({state}, {network}) {arguments}");
            let _ = writeln!(text, "    in {}, system call {}", read("wchan"), call.trim());
            for line in read("stack").lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    text
}

/// Ends a process and all that it has started.
pub(crate) fn end(process: u32) {
    // It is not to take the end of another for what that came to.
    signal(process, Signal::STOP);
    let all = processes();
    let mut ended = vec![process];
    while let Some(parent) = ended.pop() {
        ended.extend(all.iter().copied().filter(|child| parent_of(*child) == Some(parent)));
        signal(parent, Signal::KILL);
    }
}

fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    // It may have ended by itself.
    let _ = process.map(|process| kill_process(process, signal));
}

fn processes() -> Vec<u32> {
    numbers("/proc")
}

fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The field behind the name, which is in parentheses.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Whether the threads of all sync daemons have run: until then the end of one is not acknowledged.
pub(crate) fn daemons_have_run() -> bool {
    processes().into_iter().all(|process| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let is_daemon = DAEMONS.iter().any(|daemon| stat.contains(&format!("({daemon}")));
        !is_daemon || state(&stat) == Some('S')
    })
}

fn what_stands_still_is_told_and_ended() {
    let is_there = || described().contains(" sleep 86399 ");
    let mut shell = Command::new("sh").args(["-c", "sleep 86399 & wait"]).spawn().unwrap();
    comes_true("the shell has started a program", is_there);
    end(shell.id());
    assert_eq!(shell.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    comes_true("the program has ended, too", || !is_there());
}
