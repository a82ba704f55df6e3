//! The guide of docs: its commands run, from first to last in one shell, and print what it shows.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::case::{Outcome, cases};
use crate::program::built;
use crate::subject::Subject;

cases![every_command_runs_and_prints_what_the_guide_shows];

const GUIDE: &str = include_str!("../../docs/guide.md");

/// How the reader starts the shell, but for becoming root.
const SHELL: [&str; 7] = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh"];

/// What stands for any text, and alone in a line for any lines.
const ANY: char = '…';

/// Commands, and what the guide says that they print.
#[derive(Debug, Default)]
struct Step {
    line: usize,
    commands: String,
    output: Option<String>,
}

async fn every_command_runs_and_prints_what_the_guide_shows(_: &mut Subject) -> Outcome {
    ensure!(GUIDE.contains(&format!("sudo {}", SHELL.join(" "))), "it starts another shell");
    let steps = steps(GUIDE)?;
    ensure!(steps.len() > 10 && steps.iter().any(|step| step.output.is_some()), "{steps:?}");
    let folder = tempfile::tempdir()?;
    symlink(built(Path::new("examples/sync")), folder.path().join("sync"))?;

    let mut script = String::from("set -e\n");
    for step in &steps {
        write!(script, "echo '{}'\n{}", mark(step.line), step.commands)?;
    }
    writeln!(script, "echo '{}'", mark(0))?;
    let (input, output) = (folder.path().join("script"), folder.path().join("output"));
    std::fs::write(&input, script)?;
    let written = File::create(&output)?;
    let mut shell = Command::new(SHELL[0]);
    shell.args(&SHELL[1..]).arg(&input).current_dir(&folder);
    // A file, since the servers that it starts would keep a pipe open.
    shell.stdin(Stdio::null()).stdout(written.try_clone()?).stderr(written);
    let status = shell.status()?;
    let printed = std::fs::read_to_string(&output)?;

    let mut rest = &*printed;
    for (index, step) in steps.iter().enumerate() {
        let next = mark(steps.get(index + 1).map_or(0, |step| step.line));
        let (_, from) = rest.split_once(&mark(step.line)).context(printed.clone())?;
        let (output, _) = from.split_once(&next).with_context(|| {
            format!("what line {} begins failed ({status}):\n{from}", step.line)
        })?;
        rest = from;
        if let Some(expected) = &step.output {
            let matches = are_as_shown(&lines(expected), &lines(output));
            ensure!(matches, "line {}: it shows\n{expected}\nand prints{output}", step.line);
        }
    }
    ensure!(status.success(), "{status}:\n{printed}");
    let left = servers()?;
    ensure!(left.is_empty(), "the guide's servers outlive its shell: {left:?}");
    Ok(())
}

/// The servers that run, by their command lines.
fn servers() -> anyhow::Result<Vec<String>> {
    let mut servers = Vec::new();
    for process in std::fs::read_dir("/proc")? {
        // One that ends meanwhile has none.
        let line = std::fs::read_to_string(process?.path().join("cmdline")).unwrap_or_default();
        if line.contains("httpd") {
            servers.push(line.replace('\0', " "));
        }
    }
    Ok(servers)
}

fn mark(line: usize) -> String {
    format!("== line {line} ==")
}

/// The blocks of commands, each with the block of text that follows next.
fn steps(guide: &str) -> anyhow::Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block: Option<(&str, String)> = None;
    let mut follows_commands = false;
    for (number, line) in guide.lines().enumerate() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let known = ["sh", "text"].contains(&language) || language.starts_with("rust");
                ensure!(known, "line {}: nobody runs {language:?}", number + 1);
                if language == "sh" {
                    steps.push(Step { line: number + 1, ..Step::default() });
                }
                block = Some((language, String::new()));
            }
            (Some((language, text)), Some("")) => {
                if let Some(step) = steps.last_mut() {
                    match *language {
                        "sh" => step.commands = std::mem::take(text),
                        "text" if follows_commands => step.output = Some(std::mem::take(text)),
                        _ => {}
                    }
                }
                follows_commands = *language == "sh";
                block = None;
            }
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    ensure!(block.is_none(), "a block does not end");
    Ok(steps)
}

/// The lines with single spaces: programs pad their columns.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect()
}

fn are_as_shown(shown: &[String], printed: &[String]) -> bool {
    let Some((first, rest)) = shown.split_first() else { return printed.is_empty() };
    if first.chars().eq([ANY]) {
        return (0..=printed.len()).any(|skipped| are_as_shown(rest, &printed[skipped..]));
    }
    let Some((line, others)) = printed.split_first() else { return false };
    is_as_shown(first, line) && are_as_shown(rest, others)
}

fn is_as_shown(shown: &str, printed: &str) -> bool {
    match shown.split_once(ANY) {
        None => shown == printed,
        Some((before, after)) => printed.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().any(|(at, _)| is_as_shown(after, &rest[at..]))
                || is_as_shown(after, "")
        }),
    }
}
