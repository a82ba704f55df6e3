//! Writing, reading and changing rules on a real kernel, beside the floor and the peers:
//! `cargo xtask bench`.

mod changing;
mod counting;
mod reading;
mod writing;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use ipvs_netlink::Scheduler;
use peers::measure::{Rounds, Times, print_ratio};
use peers::rules::{Size, ruleset};

/// Measure writing, reading and changing rules; standard output is Markdown, then ratios
#[derive(Parser)]
struct Options {
    /// How often to run each row; slow ones run less often
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Do not run a row again that has taken this long altogether, setting up and checking included
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    limit: u64,
    /// Services x destinations of each; at the first size all rows are run by each scheduler
    #[arg(long = "size", value_name = "SIZE", default_values = ["1000x10", "10000x10", "1000x100"])]
    sizes: Vec<Size>,
    #[arg(long = "scheduler", value_name = "NAME", default_values = ["rr", "wrr", "mh"])]
    schedulers: Vec<Scheduler>,
    /// Run a few rounds at the first size, by the first scheduler, to see that the benchmark works
    #[arg(long)]
    quick: bool,
    /// Cargo gives this flag to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let mut options = Options::parse();
    if options.quick {
        options.sizes.truncate(1);
        options.schedulers.truncate(1);
        options.rounds = options.rounds.min(3);
    }
    let rounds = Rounds { rounds: options.rounds, limit: Duration::from_secs(options.limit) };
    let first_size = *options.sizes.first().context("no size")?;
    let first_scheduler = *options.schedulers.first().context("no scheduler")?;
    let mut figures = Figures::default();

    let smallest = ruleset(first_size, first_scheduler, 0)?;
    let window = peers::writing::best_window(&smallest, Rounds::of(rounds.rounds.min(3)))?;
    for scheduler in &options.schedulers {
        for size in &options.sizes {
            // By another scheduler, a large table shows no more than a small one of the rows that
            // no ratio to the floor needs.
            let all = *size == first_size || *scheduler == first_scheduler;
            let rules = ruleset(*size, *scheduler, 0)?;
            writing::measure(&rules, window, all, rounds, &mut figures)?;
        }
    }
    for size in &options.sizes {
        let rules = ruleset(*size, first_scheduler, 0)?;
        reading::measure(&rules, rounds, &mut figures)?;
    }
    changing::measure(&options.sizes, first_scheduler, rounds, &mut figures)?;
    figures.print();
    Ok(())
}

/// The figures that scripts read, printed at the very end.
#[derive(Default)]
struct Figures {
    rates: Vec<(String, f64)>,
    ratios: Vec<(String, f64)>,
}

impl Figures {
    /// Records how many rules a second each row handles in a table of this size.
    fn rates(&mut self, at: &str, times: &Times, size: Size) {
        let rates = times.rows().iter().map(|row| (format!("{}@{at}", row.name), row.rate(size)));
        self.rates.extend(rates);
    }

    /// Records how many times as fast the first row is as the second, if both were run.
    fn ratio(&mut self, at: &str, times: &Times, first: &str, second: &str) {
        self.named(format!("{first}/{second}@{at}"), times, first, second);
    }

    fn named(&mut self, name: String, times: &Times, first: &str, second: &str) {
        self.ratios.extend(times.ratio(first, second).map(|ratio| (name, ratio)));
    }

    fn print(&self) {
        println!();
        for (name, rate) in &self.rates {
            println!("rate {name} {rate:.0}");
        }
        for (name, ratio) in &self.ratios {
            print_ratio(name, *ratio);
        }
    }
}
