//! The project's own commands: `cargo xtask --help`.

mod api;
mod bench;
mod big_endian;
mod cargo;
mod command;
mod elsewhere;
mod features;
#[cfg(test)]
mod floors;
#[cfg(test)]
mod front;
mod fuzz;
mod mutants;
mod package;
mod progress;
mod report;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// The exit status when there is no verdict of a program to pass on.
const NO_VERDICT: u8 = 125;

/// The project's own commands
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Xtask {
    Test(test::Test),
    Soak(soak::Soak),
    Bench(bench::Bench),
    Api(api::Api),
    Vm(vm::Vm),
}

fn main() -> ExitCode {
    let (status, failure) = match Xtask::parse() {
        Xtask::Test(test) => (test.run().map(|good| u8::from(!good)), 1),
        Xtask::Soak(soak) => (soak.run().map(|good| u8::from(!good)), 1),
        Xtask::Api(api) => (api.run().map(|good| u8::from(!good)), 1),
        Xtask::Bench(bench) => (bench.run(), NO_VERDICT),
        Xtask::Vm(vm) => (vm.run(), NO_VERDICT),
    };
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(failure)
        }
    }
}
