//! What the benchmarks on a real kernel share: rows that are run in turns, and the floor.

pub(crate) mod floor;
pub(crate) mod namespace;

use std::time::{Duration, Instant};

/// A row: something that is timed, over and over.
pub(crate) struct Row<'a> {
    pub(crate) name: &'static str,
    run: Box<dyn FnMut() -> anyhow::Result<Duration> + 'a>,
}

impl<'a> Row<'a> {
    /// A row by what runs it once and says how long that took.
    pub(crate) fn new(
        name: &'static str,
        run: impl FnMut() -> anyhow::Result<Duration> + 'a,
    ) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// How long something takes.
pub(crate) fn time(run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed())
}

/// What rows took, round for round.
pub(crate) struct Times(Vec<Vec<Duration>>);

/// Runs the rows in turns, so that what disturbs the machine disturbs all of them.
pub(crate) fn run(rows: &mut [Row<'_>], rounds: usize) -> anyhow::Result<Times> {
    let mut times = vec![Vec::with_capacity(rounds); rows.len()];
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (row, times) in rows.iter_mut().zip(&mut times) {
            times.push((row.run)()?);
        }
    }
    Ok(Times(times))
}

impl Times {
    pub(crate) fn median(&self, row: usize) -> Duration {
        let mut times = self.0[row].clone();
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// Prints a line that scripts read: how many times as fast the first row is as the second. It
    /// is the median of what each round says, since a round's rows ran close to each other.
    pub(crate) fn print_ratio(&self, name: &str, first: usize, second: usize) {
        let rounds = self.0[first].iter().zip(&self.0[second]);
        let mut ratios: Vec<_> =
            rounds.map(|(first, second)| second.as_secs_f64() / first.as_secs_f64()).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        println!("ratio {name} {:.2}", ratios[ratios.len() / 2]);
    }
}
