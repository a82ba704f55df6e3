//! The results of a run's tests, counted from libtest's result lines, and the table that closes the run.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

/// The sums of some `test result:` lines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// The number of such lines.
    pub(crate) results: usize,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
    pub(crate) filtered: usize,
}

impl Counts {
    /// Adds a line of output if it is a result: `test result: ok. 12 passed; 0 failed; 1 ignored; …`
    fn add_line(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        self.results += 1;
        for part in result.split(['.', ';']) {
            let Some((number, what)) = part.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                "filtered out" => self.filtered += number,
                _ => {}
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.results += other.results;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.filtered += other.filtered;
    }
}

/// How many lines of a failed test's output the last lines repeat.
const LINES: usize = 8;
const CHARACTERS: usize = 200;

/// Passes output on, counts the tests in it, and keeps the names of failed tests with their output.
pub(crate) struct Counting<W> {
    to: W,
    line: Vec<u8>,
    pub(crate) counts: Counts,
    pub(crate) failed: Vec<Failed>,
    /// The failed test whose output comes now.
    speaks: Option<usize>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Failed {
    pub(crate) test: String,
    /// Its first lines.
    pub(crate) said: Vec<String>,
}

impl<W: Write> Counting<W> {
    pub(crate) fn new(to: W) -> Self {
        let (line, failed) = (Vec::new(), Vec::new());
        Self { to, line, counts: Counts::default(), failed, speaks: None }
    }

    fn add_line(&mut self, line: &str) {
        self.counts.add_line(line);
        if let Some(test) = failed(line) {
            self.failed.push(Failed { test: test.to_owned(), said: Vec::new() });
        } else if let Some(test) = speaker(line) {
            self.speaks = self.failed.iter().rposition(|failed| failed.test == test);
        } else if line.trim_end() == "failures:" {
            self.speaks = None;
        } else if let Some(failed) = self.speaks.and_then(|at| self.failed.get_mut(at))
            && failed.said.len() < LINES
            && !line.trim().is_empty()
        {
            failed.said.push(line.trim_end().chars().take(CHARACTERS).collect());
        }
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        for byte in &bytes[..written] {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.add_line(&String::from_utf8_lossy(&line));
            } else {
                self.line.push(*byte);
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The test that a line says has failed: `test mode::a_test ... FAILED`
fn failed(line: &str) -> Option<&str> {
    let (test, result) = line.trim().strip_prefix("test ")?.split_once(" ... ")?;
    (result == "FAILED").then(|| test.trim_end())
}

/// The failed test whose output follows: `---- mode::a_test stdout ----`
fn speaker(line: &str) -> Option<&str> {
    let test = line.trim().strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(test.strip_suffix(" stdout").unwrap_or(test).trim_end())
}

/// One step of a run.
pub(crate) struct Row {
    pub(crate) name: String,
    /// `ok`, `FAILED`, or why it did not run.
    pub(crate) result: Cow<'static, str>,
    pub(crate) counts: Counts,
    pub(crate) time: Duration,
}

/// Prints what ran and for how long, these notes, and the total as the last line; returns whether nothing failed.
pub(crate) fn print(rows: &[Row], notes: &[String], to: &mut impl Write) -> io::Result<bool> {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    writeln!(to, "\n{:width$}  passed  failed  ignored  filtered  minutes  result", "step")?;
    let mut total = Counts::default();
    let mut time = Duration::ZERO;
    for row in rows {
        let Row { name, result, counts, .. } = row;
        writeln!(
            to,
            "{name:width$}  {:6}  {:6}  {:7}  {:8}  {:7.1}  {result}",
            counts.passed,
            counts.failed,
            counts.ignored,
            counts.filtered,
            minutes(row.time),
        )?;
        total.add(counts);
        time += row.time;
    }
    writeln!(to, "\nall in {:.1} minutes", minutes(time))?;
    notes.iter().try_for_each(|note| writeln!(to, "{note}"))?;
    writeln!(to, "{} passed, {} failed", total.passed, total.failed)?;
    Ok(total.failed == 0)
}

pub(crate) fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_over_lines_in_pieces() -> io::Result<()> {
        let output = "running 3 tests\ntest a ... ok\ntest b::c (Linux 6.1, tokio)   ... FAILED\n\
            test d ... FAILED\n\nfailures:\n\n---- b::c (Linux 6.1, tokio) ----\n\n1 is 2\n\n\
            ---- d stdout ----\nat d.rs:1\n3 is 4\n\nfailures:\n    b::c\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out\n\
            test result of mine: 7 passed\n";
        let mut counting = Counting::new(Vec::new());
        for piece in output.as_bytes().chunks(7) {
            counting.write_all(piece)?;
        }
        let expected = Counts { results: 2, passed: 15, failed: 4, ignored: 1, filtered: 2 };
        assert_eq!(counting.counts, expected);
        let failed: Vec<_> =
            counting.failed.iter().map(|it| (it.test.as_str(), it.said.join("|"))).collect();
        let said = [("b::c (Linux 6.1, tokio)", "1 is 2"), ("d", "at d.rs:1|3 is 4")];
        assert_eq!(failed, said.map(|(test, said)| (test, said.to_owned())));
        assert_eq!(counting.to, output.as_bytes());
        Ok(())
    }

    #[test]
    fn the_last_lines_are_the_notes_and_the_total() -> io::Result<()> {
        let row = |name: &str, passed, failed| Row {
            name: name.into(),
            result: "ok".into(),
            counts: Counts { passed, failed, ..Counts::default() },
            time: Duration::from_secs(90),
        };
        let mut printed = Vec::new();
        let notes = ["NOT RUN: 5.10 is no longer served".to_owned()];
        let good = print(&[row("one", 1, 0), row("two", 20, 3)], &notes, &mut printed)?;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        assert!(!good);
        let expected = format!("\nall in 3.0 minutes\n{}\n21 passed, 3 failed\n", notes[0]);
        assert!(printed.ends_with(&expected), "{printed}");
        Ok(())
    }
}
