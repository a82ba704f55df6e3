//! Running the example programs as users run them: their output, and how they end.
#![allow(dead_code)] // Not every test program needs all of it.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A wait of this length means a hang, however slow the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A command that runs an example of the same build as this test.
pub(crate) fn example(name: &str) -> Command {
    Command::new(built(&Path::new("examples").join(name)))
}

/// The path of a program of the same build as this test.
pub(crate) fn built(name: &Path) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join(name);
    assert!(program.exists(), "{} is not built: cargo build --examples", program.display());
    assert_is_of_these_sources(&program);
    program
}

/// Asserts that the program is as new as its sources: `cargo test --test NAME` builds no examples.
/// A program that runs on another machine than it was built on has no sources to compare with.
fn assert_is_of_these_sources(program: &Path) {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|it| it.modified()).ok();
    let built = modified(program);
    let sources = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    for source in sources.split_whitespace().skip(1) {
        let is_newer = modified(Path::new(source)) > built;
        assert!(!is_newer, "{source} is newer than the program: cargo build --examples");
    }
}

/// A program that runs until it is dropped, and the lines of both of its output streams.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    /// The output so far.
    pub(crate) said: Vec<String>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let streams = (Stdio::piped(), Stdio::piped());
        let mut child =
            command.stdin(Stdio::null()).stdout(streams.0).stderr(streams.1).spawn().unwrap();
        let (sender, lines) = channel();
        listen(child.stdout.take().unwrap(), sender.clone());
        listen(child.stderr.take().unwrap(), sender);
        Self { child, lines, said: Vec::new() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line with this text; returns the line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line has {text:?} in it: {:#?}", self.said);
            };
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for the program's end; returns the exit status and the output.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said.push(line);
        }
        let status = ended(&mut self.child);
        (status.code(), std::mem::take(&mut self.said))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a process; fails if it does not end.
#[track_caller]
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    comes_true("the program ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Runs a program to its end; returns the exit status and the output.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> (Option<i32>, Vec<String>) {
    Program::start(command).end()
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn comes_true(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn listen(stream: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
}

/// A folder that is removed with the test.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A file of the repository.
pub(crate) fn rules(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rules").join(name)
}
