//! `sync --confirm`: its output, when it goes back, and the files that it leaves.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::program::{PATIENCE, Program, comes_true, ended, example, folder, rules, run};
use crate::terminal::Terminal;

/// A folder for `--state`, and the programs that use it.
struct Trial {
    folder: TempDir,
}

impl Trial {
    fn new() -> Self {
        let folder = folder();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self { folder }
    }

    fn sync(&self, arguments: &[&str]) -> Command {
        let mut sync = example("sync");
        sync.args(["--kernel", "fake", "--state"]).arg(self.folder.path()).args(arguments);
        sync
    }

    fn confirm(&self, time: &str) -> Command {
        let mut sync = self.sync(&["--confirm", time]);
        sync.arg(rules("web.ipvs"));
        sync
    }

    fn file(&self, extension: &str) -> Option<PathBuf> {
        self.files(extension).next()
    }

    fn files(&self, extension: &str) -> impl Iterator<Item = PathBuf> {
        let files = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(move |file| file.extension().is_some_and(|it| it == extension))
    }

    /// Waits until the log has this text.
    #[track_caller]
    fn wait_for_note(&self, text: &str) {
        comes_true(text, || {
            let log = self.file("log").and_then(|log| fs::read_to_string(log).ok());
            log.is_some_and(|log| log.contains(text))
        });
    }

    /// The process that goes back, as the output names it.
    fn guard(said: &[String]) -> Pid {
        let line = said.iter().find_map(|line| line.split_once("process ")).unwrap();
        let number = line.1.split_whitespace().next().unwrap().parse().unwrap();
        Pid::from_raw(number).unwrap()
    }

    /// Asserts that no change is on trial any more.
    #[track_caller]
    fn assert_is_over(&self) {
        comes_true("nothing waits", || {
            self.file("ipvs").is_none() && self.file("socket").is_none()
        });
    }
}

#[test]
fn a_change_that_nobody_confirms_is_taken_back() {
    let trial = Trial::new();
    // Unless standard input is a terminal, the command ends once the change is made.
    let (status, said) = run(&mut trial.confirm("1s"));
    assert_eq!(status, Some(0), "{said:#?}");
    assert!(said.iter().all(|line| line.starts_with("fake: ")), "{said:#?}");
    trial.wait_for_note("nobody confirmed within 1s");
    trial.wait_for_note("went back");
    trial.assert_is_over();
}

#[test]
fn a_change_that_is_confirmed_stays() {
    let trial = Trial::new();
    let (status, said) = run(&mut trial.confirm("5min"));
    assert_eq!(status, Some(0), "{said:#?}");
    let before = trial.file("ipvs").unwrap();
    assert_eq!(fs::metadata(&before).unwrap().permissions().mode() & 0o777, 0o600);
    let (status, said) = run(&mut trial.sync(&["--confirm-now"]));
    assert_eq!(status, Some(0), "{said:#?}");
    assert_eq!(said, ["fake: confirmed: the change stays"]);
    trial.wait_for_note("fake: confirmed: the change stays");
    trial.assert_is_over();
    // After that, no change waits to be confirmed.
    let (status, said) = run(&mut trial.sync(&["--confirm-now"]));
    assert_eq!(status, Some(2), "{said:#?}");
    assert!(said[0].contains("no change waits to be confirmed"), "{said:#?}");
}

#[test]
fn without_a_change_on_trial_confirming_is_an_error() {
    let trial = Trial::new();
    let (status, said) = run(&mut trial.sync(&["--confirm-now"]));
    assert_eq!(status, Some(2), "{said:#?}");
    assert!(said[0].contains("no change waits to be confirmed"), "{said:#?}");
}

#[test]
fn a_second_change_on_trial_is_refused() {
    let trial = Trial::new();
    assert_eq!(run(&mut trial.confirm("5min")).0, Some(0));
    let (status, said) = run(&mut trial.confirm("5min"));
    assert_eq!(status, Some(2), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("waits to be confirmed already")), "{said:#?}");
    // Once: the command for keeping the change failed, and the message named none for going back.
    // Each command is run as it is printed.
    let after = |said: &[String], text| {
        let line = said.iter().find_map(|line| line.split_once(text)).unwrap();
        line.1.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let keep = after(&said, "to keep the change: sync ");
    assert_eq!(run(example("sync").args(keep)).0, Some(0));
    trial.assert_is_over();

    assert_eq!(run(&mut trial.confirm("5min")).0, Some(0));
    let (_, said) = run(&mut trial.confirm("5min"));
    assert_eq!(
        run(Command::new("kill").args(after(&said, "to go back at once: kill "))).0,
        Some(0)
    );
    trial.wait_for_note("went back");
    trial.assert_is_over();
}

#[test]
fn told_to_end_it_goes_back_at_once() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let trial = Trial::new();
        let (_, said) = run(&mut trial.confirm("5min"));
        kill_process(Trial::guard(&said), signal).unwrap();
        trial.wait_for_note(&format!("going back: {name} received"));
        trial.wait_for_note("went back");
        trial.assert_is_over();
    }
}

/// Once: the guard went on waiting for the file, made the change, and took it back.
#[test]
fn told_to_end_before_the_change_it_changes_nothing() {
    let trial = Trial::new();
    let file = trial.folder.path().join("new.rules");
    fs::copy(rules("web.ipvs"), &file).unwrap();
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut sync = trial.sync(&["--confirm", "5min", "--quiet", "1h"]);
        let program = Program::start(sync.arg("--guard").arg(&file));
        comes_true("a session of its own", || {
            // The sixth field, see proc_pid_stat(5). rustix's `getsid` takes no session whose leader
            // is outside of the PID namespace, as in a container.
            let stat = fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
            let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap();
            session == program.id().to_string()
        });
        kill_process(Pid::from_raw(program.id().try_into().unwrap()).unwrap(), signal).unwrap();
        let (status, said) = program.end();
        assert_eq!(status, Some(2), "{said:#?}");
        assert_eq!(said, [format!("error: {name} received; nothing was changed")]);
    }
}

#[test]
fn hung_up_it_goes_on() {
    let trial = Trial::new();
    let (_, said) = run(&mut trial.confirm("5min"));
    let guard = Trial::guard(&said);
    kill_process(guard, Signal::HUP).unwrap();
    kill_process(guard, Signal::PIPE).unwrap();
    assert_eq!(run(&mut trial.sync(&["--confirm-now"])).0, Some(0));
    trial.assert_is_over();
}

#[test]
fn a_change_that_fails_in_part_is_taken_back() {
    let trial = Trial::new();
    let file = trial.folder.path().join("rules");
    fs::write(&file, "-A -t 10.0.0.1:80 -s rr\n-A -t 10.0.0.2:80 -s nosuch\n").unwrap();
    let mut sync = trial.sync(&["--confirm", "5min"]);
    let (status, said) = run(sync.arg(&file));
    assert_eq!(status, Some(3), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("went back")), "{said:#?}");
    trial.assert_is_over();
}

/// The file of old rules says how to go back, and can be read again. Once: it had the name of the
/// rules file unescaped, line feeds included.
#[test]
fn the_name_of_a_file_is_no_rule() {
    let trial = Trial::new();
    let file = trial.folder.path().join("x\n-A -t 10.9.9.9:9 -s rr\n#y.ipvs");
    fs::copy(rules("web.ipvs"), &file).unwrap();
    let (status, said) = run(trial.sync(&["--confirm", "5min"]).arg(&file));
    assert_eq!(status, Some(0), "{said:#?}");
    let before = trial.files("ipvs").find(|found| *found != file).unwrap();
    let text = fs::read_to_string(before).unwrap();
    assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    assert_eq!(run(&mut trial.sync(&["--confirm-now"])).0, Some(0));
}

/// The printed commands can be typed: a folder with a space in its name is one word.
#[test]
fn a_folder_with_a_space_is_one_word() {
    let outer = folder();
    let folder = outer.path().join("a b");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let mut sync = example("sync");
    sync.args(["--kernel", "fake", "--confirm", "1s", "--state"]).arg(&folder);
    let (status, said) = run(sync.arg(rules("web.ipvs")));
    assert_eq!(status, Some(0), "{said:#?}");
    let word = format!("--confirm-now --state '{}'", folder.display());
    assert!(said.iter().any(|line| line.ends_with(&word)), "{said:#?}");
}

#[test]
fn killed_it_leaves_what_was() {
    let trial = Trial::new();
    let (_, said) = run(&mut trial.confirm("5min"));
    kill_process(Trial::guard(&said), Signal::KILL).unwrap();
    let confirm_now = || run(&mut trial.sync(&["--confirm-now"]));
    comes_true("the guard is gone", || confirm_now().1[0].contains("no change waits"));
    let (status, said) = confirm_now();
    let before = trial.file("ipvs").unwrap();
    assert_eq!(status, Some(2));
    assert!(said[0].contains(before.to_str().unwrap()), "{said:#?}");

    // No other change begins, since it would overwrite the file.
    let (status, said) = run(&mut trial.confirm("5min"));
    assert_eq!(status, Some(2), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("never decided")), "{said:#?}");

    let text = fs::read_to_string(&before).unwrap();
    assert!(text.contains("by hand: sync --allow-empty"), "{text}");
    assert_eq!(run(trial.sync(&["--allow-empty"]).arg(&before)).0, Some(0));
    fs::remove_file(before).unwrap();
    assert_eq!(run(&mut trial.confirm("1s")).0, Some(0));
    trial.assert_is_over();
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let trial = Trial::new();
    fs::set_permissions(trial.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (status, said) = run(&mut trial.confirm("5min"));
    assert_eq!(status, Some(2), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("not a folder of this user alone")), "{said:#?}");
    assert_eq!(fs::read_dir(trial.folder.path()).unwrap().count(), 0);
}

/// Somebody else may have put a link into the user's folder.
#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    let trial = Trial::new();
    assert_eq!(run(&mut trial.confirm("5min")).0, Some(0));
    let names = ["ipvs", "lock", "log"].map(|extension| trial.file(extension).unwrap());
    assert_eq!(run(&mut trial.sync(&["--confirm-now"])).0, Some(0));
    trial.assert_is_over();
    let elsewhere = trial.folder.path().join("elsewhere");
    for name in names {
        let _ = fs::remove_file(&name);
        symlink(&elsewhere, &name).unwrap();
        let (status, said) = run(&mut trial.confirm("5min"));
        assert_eq!(status, Some(2), "{said:#?}");
        assert!(said.iter().any(|line| line.ends_with("nothing was changed")), "{said:#?}");
        assert!(!elsewhere.exists(), "{} was followed", name.display());
        fs::remove_file(&name).unwrap();
    }
    let link = trial.folder.path().join("link");
    let real = trial.folder.path().join("real");
    DirBuilder::new().mode(0o700).create(&real).unwrap();
    symlink(&real, &link).unwrap();
    let mut sync = example("sync");
    sync.args(["--kernel", "fake", "--confirm", "5min", "--state"]).arg(&link);
    assert_eq!(run(sync.arg(rules("web.ipvs"))).0, Some(2));
    assert_eq!(fs::read_dir(real).unwrap().count(), 0);
}

/// Once: the error had only the system's text, and no advice.
#[test]
fn nothing_is_changed_where_what_was_cannot_be_kept() {
    let long = format!("/tmp/{}", "long".repeat(25));
    for (folder, told) in [
        ("/proc/nosuch", "name another folder with --state"),
        ("/nosuch/folder", "name another folder with --state"),
        (&long, "name a shorter folder with --state"),
    ] {
        let mut sync = example("sync");
        sync.args(["--kernel", "fake", "--confirm", "5min", "--state", folder]);
        let (status, said) = run(sync.arg(rules("web.ipvs")));
        assert_eq!(status, Some(2), "{said:#?}");
        let error = said.iter().find(|line| line.ends_with("nothing was changed")).unwrap();
        assert!(error.contains(told), "{said:#?}");
    }
}

/// Once: going back overwrote the weights that a health checker had set meanwhile.
#[test]
fn the_way_back_by_hand_keeps_the_weights_that_the_change_kept() {
    let trial = Trial::new();
    assert_eq!(run(trial.confirm("5min").arg("--keep-weights")).0, Some(0));
    let text = fs::read_to_string(trial.file("ipvs").unwrap()).unwrap();
    assert!(text.contains("by hand: sync --keep-weights --allow-empty"), "{text}");
    assert_eq!(run(&mut trial.sync(&["--confirm-now"])).0, Some(0));
}

#[test]
fn without_a_change_nothing_waits() {
    let trial = Trial::new();
    let file = trial.folder.path().join("rules");
    fs::write(&file, "").unwrap();
    let mut sync = trial.sync(&["--confirm", "5min", "--allow-empty"]);
    let (status, said) = run(sync.arg(&file));
    assert_eq!(status, Some(0), "{said:#?}");
    trial.assert_is_over();
}

/// A caller that waits for the end of the output, as a shell's $(…) does, does not wait for the
/// guard.
#[test]
fn the_guard_holds_nobodys_pipe() {
    let trial = Trial::new();
    let output = trial.confirm("5min").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(run(&mut trial.sync(&["--confirm-now"])).0, Some(0));
}

/// A terminal, and its output.
fn on_terminal(command: &Command) -> (Terminal, Receiver<Vec<u8>>) {
    let (sender, screen) = channel();
    let print = move |bytes: &[u8]| drop(sender.send(bytes.to_vec()));
    (Terminal::start(command, print).unwrap(), screen)
}

/// Waits for a text; returns all output up to it.
#[track_caller]
fn wait_for_text(screen: &Receiver<Vec<u8>>, text: &str) -> String {
    let mut all = Vec::new();
    loop {
        let shown = String::from_utf8_lossy(&all);
        if shown.contains(text) {
            return shown.into_owned();
        }
        let Ok(bytes) = screen.recv_timeout(PATIENCE) else { panic!("no {text:?} in {shown}") };
        all.extend(bytes);
    }
}

#[test]
fn on_a_terminal_enter_confirms() {
    let trial = Trial::new();
    let (mut terminal, screen) = on_terminal(&trial.confirm("5min"));
    wait_for_text(&screen, "fake: on this terminal: Enter");
    terminal.press(b"\n").unwrap();
    trial.wait_for_note("confirmed: the change stays");
    assert_eq!(ended(&mut terminal.program).code(), Some(0));
}

/// Once: a bar was drawn before its first progress, and without the mark of the fake kernel.
#[test]
fn on_a_terminal_each_line_says_that_it_is_the_fakes() {
    let trial = Trial::new();
    let (mut terminal, screen) = on_terminal(&trial.confirm("5min"));
    let shown = wait_for_text(&screen, "fake: on this terminal: Enter");
    terminal.press(b"\n").unwrap();
    let bars = shown.split(['\r', '\n', '\u{1b}']).filter(|line| line.contains(['█', '░']));
    for line in bars {
        assert!(line.contains("fake: "), "{line:?} of {shown}");
    }
    assert_eq!(ended(&mut terminal.program).code(), Some(0));
}

/// Once: a shell's job in the background read from the terminal, was stopped by that, and never
/// ended.
#[test]
fn in_the_background_of_a_terminal_the_command_ends_once_the_change_is_made() {
    let trial = Trial::new();
    let sync = trial.confirm("5min");
    let mut shell = Command::new("sh");
    // Each job has a process group of its own, as in an interactive shell.
    shell.args(["-c", r#"set -m; "$@" & wait $!; echo "status $?""#, "sh"]);
    shell.arg(sync.get_program()).args(sync.get_args());
    let (_terminal, screen) = on_terminal(&shell);
    let shown = wait_for_text(&screen, "status 0");
    assert!(!shown.contains("Enter"), "{shown}");
    assert_eq!(run(&mut trial.sync(&["--confirm-now"])).0, Some(0));
}

#[test]
fn on_a_terminal_control_c_goes_back() {
    let trial = Trial::new();
    let (mut terminal, screen) = on_terminal(&trial.confirm("5min"));
    // Input that is typed before the prompt confirms nothing.
    terminal.press(b"\n").unwrap();
    wait_for_text(&screen, "fake: on this terminal: Enter");
    terminal.press(&[3]).unwrap();
    wait_for_text(&screen, "went back");
    assert_eq!(ended(&mut terminal.program).code(), Some(3));
    trial.assert_is_over();
}

#[test]
fn a_terminal_that_is_gone_neither_confirms_nor_ends_it() {
    let trial = Trial::new();
    let (mut terminal, screen) = on_terminal(&trial.confirm("3s"));
    wait_for_text(&screen, "fake: on this terminal: Enter");
    terminal.hang_up();
    assert!(ended(&mut terminal.program).code().is_none(), "the terminal's own process is hung up");
    trial.wait_for_note("nobody confirmed within 3s");
    trial.wait_for_note("went back");
    trial.assert_is_over();
}

/// After Ctrl-S, a process that writes to the terminal waits for Ctrl-Q.
#[test]
fn a_terminal_that_is_stopped_does_not_hold_it_up() {
    let trial = Trial::new();
    let (mut terminal, screen) = on_terminal(&trial.confirm("3s"));
    wait_for_text(&screen, "fake: on this terminal: Enter");
    terminal.press(&[0x13]).unwrap();
    trial.wait_for_note("went back");
    trial.assert_is_over();
    terminal.press(&[0x11]).unwrap();
    wait_for_text(&screen, "went back");
    assert_eq!(ended(&mut terminal.program).code(), Some(3));
}
