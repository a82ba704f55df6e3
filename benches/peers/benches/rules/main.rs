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
    /// How often each row is run; slow ones less often
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// A row that took this long in all, with what is around its time, is not run again
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    limit: u64,
    /// Services x destinations of each; the first gets all rows by each scheduler
    #[arg(long = "size", value_name = "SIZE", default_values = ["1000x10", "10000x10", "1000x100"])]
    sizes: Vec<Size>,
    #[arg(long = "scheduler", value_name = "NAME", default_values = ["rr", "wrr", "mh"])]
    schedulers: Vec<Scheduler>,
    /// A few rounds at the first size, by the first scheduler: to see that it works
    #[arg(long)]
    quick: bool,
    /// Cargo says this to every benchmark
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
            // A big table by another scheduler shows no more of the others than a small one.
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

/// What scripts read, printed at the end of all.
#[derive(Default)]
struct Figures {
    rates: Vec<(String, f64)>,
    ratios: Vec<(String, f64)>,
}

impl Figures {
    /// Keeps how many rules a second each row makes of a table of this size.
    fn rates(&mut self, at: &str, times: &Times, size: Size) {
        let rates = times.rows().iter().map(|row| (format!("{}@{at}", row.name), row.rate(size)));
        self.rates.extend(rates);
    }

    /// Keeps how many times as fast the first row is as the second, where both were run.
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
