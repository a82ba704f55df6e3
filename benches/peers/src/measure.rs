//! Timing rows in turns, round for round; the medians and ratios of their times.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::rules::Size;

type Run<'a> = Box<dyn FnMut() -> anyhow::Result<Duration> + 'a>;

/// A row of a table: an act that is timed over and over.
pub struct Row<'a> {
    /// The row's name in tables and ratios.
    pub name: String,
    /// What the row does, if its name does not tell.
    pub note: String,
    run: Run<'a>,
}

impl<'a> Row<'a> {
    /// A row; `run` runs it once and returns the time that it took.
    pub fn new(
        name: impl Into<String>,
        run: impl FnMut() -> anyhow::Result<Duration> + 'a,
    ) -> Self {
        Self { name: name.into(), note: String::new(), run: Box::new(run) }
    }

    /// The same row with a note on what it does.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }
}

/// The time that a run takes.
///
/// # Errors
/// The run failed.
pub fn time(run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed())
}

/// How often rows are run.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    /// The number of rounds.
    pub rounds: usize,
    /// A row that has taken this long altogether, setting up and checking included, is left out of
    /// further rounds.
    pub limit: Duration,
}

impl Rounds {
    /// This number of rounds, of all rows.
    pub fn of(rounds: usize) -> Self {
        Self { rounds, limit: Duration::MAX }
    }
}

/// The times of the rows, round for round.
pub struct Times(Vec<RowTimes>);

/// A row and its times.
pub struct RowTimes {
    /// The row's name.
    pub name: String,
    /// The row's note.
    pub note: String,
    /// The time of each round that ran the row.
    pub each: Vec<Duration>,
}

impl RowTimes {
    /// The time in the middle.
    pub fn median(&self) -> Duration {
        let times = self.each.iter().map(Duration::as_secs_f64).collect();
        median(times).map(Duration::from_secs_f64).unwrap_or_default()
    }

    /// How many rules a second the row handles, if a run goes through a table of this size.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&self, size: Size) -> f64 {
        size.rules() as f64 / self.median().as_secs_f64()
    }

    /// The shortest time and the longest.
    pub fn spread(&self) -> (Duration, Duration) {
        let lowest = self.each.iter().min().copied().unwrap_or_default();
        (lowest, self.each.iter().max().copied().unwrap_or_default())
    }
}

/// Runs the rows in turns, so that a disturbance of the machine hits all of them, and tells on
/// standard error which one runs.
///
/// # Errors
/// A row failed.
pub fn run(what: &str, rows: Vec<Row<'_>>, rounds: Rounds) -> anyhow::Result<Times> {
    let named = |row: &Row<'_>| RowTimes {
        name: row.name.clone(),
        note: row.note.clone(),
        each: Vec::with_capacity(rounds.rounds),
    };
    let mut times: Vec<_> = rows.iter().map(named).collect();
    let mut rows: Vec<_> = rows.into_iter().map(|row| (row, Duration::ZERO)).collect();
    for round in 1..=rounds.rounds {
        let mut before = ": ";
        eprint!("{what}, round {round} of {}", rounds.rounds);
        for ((row, spent), times) in rows.iter_mut().zip(&mut times) {
            if *spent < rounds.limit {
                let start = Instant::now();
                eprint!("{before}{}", row.name);
                std::io::stderr().flush()?;
                before = ", ";
                let took = (row.run)().inspect_err(|_| eprintln!());
                times.each.push(took.with_context(|| row.name.clone())?);
                *spent += start.elapsed();
            }
        }
        eprintln!();
    }
    Ok(Times(times))
}

impl Times {
    /// The times of each row, in the order of the rows.
    pub fn rows(&self) -> &[RowTimes] {
        &self.0
    }

    /// The times of the row of this name.
    ///
    /// # Errors
    /// There is no such row.
    pub fn row(&self, name: &str) -> anyhow::Result<&RowTimes> {
        let row = self.0.iter().find(|row| row.name == name);
        row.with_context(|| format!("there is no row {name}"))
    }

    /// How many times as fast the first row is as the second: the median of the ratios in each
    /// round, since the rows of a round ran close to each other.
    ///
    /// # Errors
    /// There is no such row.
    pub fn ratio(&self, first: &str, second: &str) -> anyhow::Result<f64> {
        let rounds = self.row(first)?.each.iter().zip(&self.row(second)?.each);
        let ratio =
            |(first, second): (&Duration, &Duration)| second.as_secs_f64() / first.as_secs_f64();
        median(rounds.map(ratio).collect()).context("no round was run")
    }

    /// Prints the rows as a table in Markdown; each went through a table of this size.
    pub fn print(&self, title: &str, size: Size) {
        println!("\n### {title}: {size}, {} rules\n", size.rules());
        println!("| row | median | lowest to highest | a rule | rules a second | rounds | how |");
        println!("|---|---:|---:|---:|---:|---:|---|");
        for row in &self.0 {
            let (lowest, highest) = row.spread();
            println!(
                "| {} | {:.2?} | {lowest:.2?} to {highest:.2?} | {:.1?} | {:.0} | {} | {} |",
                row.name,
                row.median(),
                Duration::from_secs(1).div_f64(row.rate(size)),
                row.rate(size),
                row.each.len(),
                row.note,
            );
        }
    }
}

/// The median: the number in the middle, or the mean of the two in the middle.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_unstable_by(f64::total_cmp);
    let upper = *numbers.get(numbers.len() / 2)?;
    let lower = numbers[(numbers.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// Prints a ratio in the form that scripts read.
pub fn print_ratio(name: &str, ratio: f64) {
    println!("ratio {name} {ratio:.2}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, milliseconds: &[u64]) -> RowTimes {
        let each = milliseconds.iter().copied().map(Duration::from_millis).collect();
        RowTimes { name: name.to_owned(), note: String::new(), each }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() -> anyhow::Result<()> {
        let times = Times(vec![row("a", &[1, 100, 2]), row("b", &[2, 400, 2, 9])]);
        assert!((times.ratio("a", "b")? - 2.0).abs() < 1e-9);
        assert_eq!(times.row("b")?.median(), Duration::from_micros(5500));
        assert!(times.ratio("a", "c").is_err());
        Ok(())
    }

    #[test]
    fn a_row_past_its_limit_is_left_out() -> anyhow::Result<()> {
        let nothing = || Ok(Duration::ZERO);
        let rows = || vec![Row::new("row", nothing)];
        let rounds = Rounds { rounds: 3, limit: Duration::ZERO };
        assert_eq!(run("none", rows(), rounds)?.rows()[0].each.len(), 0);
        assert_eq!(run("all", rows(), Rounds::of(3))?.rows()[0].each.len(), 3);
        Ok(())
    }
}
