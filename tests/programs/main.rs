//! The example programs, each run as a user runs it.
#![allow(clippy::unwrap_used)] // Tests fail by panics.

mod confirm;
mod origin;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/terminal.rs"]
mod terminal;
mod watch;
