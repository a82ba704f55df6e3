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
    let xtask = match Xtask::try_parse() {
        Ok(xtask) => xtask,
        Err(error) => {
            // A closed standard output changes nothing about the status.
            let _ = error.print();
            return ExitCode::from(status_of(&error));
        }
    };
    let (status, failure) = match xtask {
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

/// clap's own status for a mistyped command line, 2, could be that of a program.
fn status_of(error: &clap::Error) -> u8 {
    if error.use_stderr() { NO_VERDICT } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_command_line_is_no_verdict() {
        let status = |line: &str| match Xtask::try_parse_from(line.split(' ')) {
            Ok(_) => None,
            Err(error) => Some(status_of(&error)),
        };
        assert_eq!(status("xtask vm exec true"), None);
        assert_eq!(status("xtask vm --help"), Some(0));
        assert_eq!(status("xtask vm --kernel 5.1 exec true"), Some(NO_VERDICT));
        assert_eq!(status("xtask vm --timeout 31536000 exec true"), None);
        assert_eq!(status("xtask vm --timeout 18446744073709551615 exec true"), Some(NO_VERDICT));
    }
}
