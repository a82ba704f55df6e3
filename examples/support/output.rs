//! The output of the examples, in which every line about the fake kernel says so.
#![allow(unused_imports, unused_macros)] // Not every example needs all of it.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

static IS_FAKE: AtomicBool = AtomicBool::new(false);

/// Marks all further output as about the fake kernel.
pub(crate) fn is_from_the_fake() {
    IS_FAKE.store(true, Ordering::Relaxed);
}

/// Whether the output is about the fake kernel.
pub(crate) fn is_fake() -> bool {
    IS_FAKE.load(Ordering::Relaxed)
}

/// The beginning of each line.
pub(crate) fn origin() -> &'static str {
    if is_fake() { "fake: " } else { "" }
}

/// Prints the output that the user asked for. An output that nobody reads is an error.
pub(crate) fn print(text: impl Display) -> io::Result<()> {
    write(&mut io::stdout(), text)
}

/// Prints progress. The program goes on whether anybody reads it or not, so the end of a connection
/// or of a pipe is no error.
pub(crate) fn to_stdout(text: impl Display) {
    let _ = write(&mut io::stdout(), text);
}

/// Prints an error or a note; a stream that nobody reads is no error.
pub(crate) fn to_stderr(text: impl Display) {
    let _ = write(&mut io::stderr(), text);
}

/// A path as one word for a shell, on one line. Control characters are escaped, in a form that a
/// shell does not read back.
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

/// A count with its noun, whose plural ends in s.
pub(crate) fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// Like `println!`, by way of [`to_stdout`].
macro_rules! say {
    ($($text:tt)*) => { $crate::support::output::to_stdout(format_args!($($text)*)) };
}
pub(crate) use say;

/// Like `eprintln!`, by way of [`to_stderr`].
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

/// A progress bar, shown if standard error is a terminal.
pub(crate) fn progress_bar(template: &str) -> ProgressBar {
    let template = format!("{}{template}", origin());
    let style = ProgressStyle::with_template(&template).expect("the templates are constants");
    ProgressBar::new(0).with_style(style)
}
