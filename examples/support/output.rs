//! What the examples print: every line that comes from the fake kernel says so.
#![allow(unused_imports, unused_macros)] // Each example takes what it needs.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

static IS_FAKE: AtomicBool = AtomicBool::new(false);

/// From now on, what is printed comes from the fake kernel.
pub(crate) fn is_from_the_fake() {
    IS_FAKE.store(true, Ordering::Relaxed);
}

/// Whether what is printed comes from the fake kernel.
pub(crate) fn is_fake() -> bool {
    IS_FAKE.load(Ordering::Relaxed)
}

/// What begins each line.
pub(crate) fn origin() -> &'static str {
    if is_fake() { "fake: " } else { "" }
}

/// Prints what was asked for: that nobody takes it is an error.
pub(crate) fn print(text: impl Display) -> io::Result<()> {
    write(&mut io::stdout(), text)
}

/// Tells how it goes. What is done does not depend on whether anybody listens, so that the end of a
/// connection or of a pipe is no error.
pub(crate) fn to_stdout(text: impl Display) {
    let _ = write(&mut io::stdout(), text);
}

/// Tells what is wrong, whether anybody listens or not.
pub(crate) fn to_stderr(text: impl Display) {
    let _ = write(&mut io::stderr(), text);
}

/// A path as one word of a shell, on one line. In one with control characters these are escaped.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains(char::is_control) {
        return format!("\"{}\"", text.escape_debug());
    }
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// How many of something there are, whose plural ends in s.
pub(crate) fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// As `println!`, by [`to_stdout`].
macro_rules! say {
    ($($text:tt)*) => { $crate::support::output::to_stdout(format_args!($($text)*)) };
}
pub(crate) use say;

/// As `eprintln!`, by [`to_stderr`].
macro_rules! complain {
    ($($text:tt)*) => { $crate::support::output::to_stderr(format_args!($($text)*)) };
}
pub(crate) use complain;

fn write(stream: &mut dyn Write, text: impl Display) -> io::Result<()> {
    let mut lines = String::new();
    for line in text.to_string().lines() {
        lines.extend([origin(), line, "\n"]);
    }
    stream.write_all(lines.as_bytes())?;
    stream.flush()
}

/// A bar on the terminal, where standard error is one.
pub(crate) fn progress_bar(template: &str) -> ProgressBar {
    let template = format!("{}{template}", origin());
    let style = ProgressStyle::with_template(&template).expect("the templates are constants");
    ProgressBar::new(0).with_style(style)
}
