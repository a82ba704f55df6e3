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

/// Runs the rows in turns, so that what disturbs the machine disturbs all of them, and gives the
/// median of each.
pub(crate) fn medians(rows: &mut [Row<'_>], rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let mut times = vec![Vec::with_capacity(rounds); rows.len()];
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (row, times) in rows.iter_mut().zip(&mut times) {
            times.push((row.run)()?);
        }
    }
    Ok(times
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        })
        .collect())
}

/// A line that scripts read: how many times as fast the first is as the second.
pub(crate) fn ratio(name: &str, first: Duration, second: Duration) {
    println!("ratio {name} {:.2}", second.as_secs_f64() / first.as_secs_f64());
}
