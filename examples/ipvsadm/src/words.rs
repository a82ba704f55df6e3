//! Arguments into options, as popt reads them for ipvsadm.
//!
//! lexopt takes the arguments apart. clap does not fit: what is wrong has to be found in the order of the
//! arguments and said in the original's words, an option's value can depend on those before it (`-r`
//! takes the port of a `-t` before it), `-p` takes the next argument unless it is an option, and long
//! options may not be abbreviated.

use std::ffi::{OsStr, OsString};

use lexopt::Arg;

use crate::failure::{Failure, REFUSED};
use crate::options::{OPTIONS, Spec, Value};

const NO_VALUE: &str = "option does not take an argument";

/// The arguments, with what stands between the options kept for later.
pub(crate) struct Words<'a> {
    arguments: &'a [OsString],
    parser: lexopt::Parser,
    /// The argument that the last option was in, or the one that was its value.
    pub(crate) current: String,
    pub(crate) rest: Vec<String>,
}

fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

impl<'a> Words<'a> {
    pub(crate) fn new(arguments: &'a [OsString]) -> Self {
        let parser = lexopt::Parser::from_args(arguments);
        Self { arguments, parser, current: String::new(), rest: Vec::new() }
    }

    /// The next option, with its value if it has one.
    pub(crate) fn option(&mut self) -> Result<Option<(&'static Spec, Option<String>)>, Failure> {
        loop {
            self.look(0);
            let found = match self.parser.next() {
                Ok(None) => return Ok(None),
                Ok(Some(Arg::Value(word))) => {
                    self.rest.push(text(&word));
                    continue;
                }
                Ok(Some(Arg::Short(short))) => {
                    OPTIONS.iter().find(|spec| spec.short == Some(short))
                }
                Ok(Some(Arg::Long(long))) => OPTIONS.iter().find(|spec| spec.long == long),
                // A short option has no value to take, and `=` stands behind it.
                Err(lexopt::Error::UnexpectedValue { .. }) => {
                    return Err(self.complaint(NO_VALUE));
                }
                Err(_) => None,
            };
            let spec = found.ok_or_else(|| self.complaint("unknown option"))?;
            let value = match spec.value {
                Value::None => self.no_value()?,
                Value::Needed(_) | Value::OneOf(..) => match self.parser.value() {
                    Ok(value) => Some(text(&value)),
                    Err(_) => return Err(self.complaint("missing argument")),
                },
                Value::Optional(_) => self.optional_value(),
            };
            self.look(1);
            return Ok(Some((spec, value)));
        }
    }

    /// Keeps the argument that comes next, or the one so many before it. Among joined short options it
    /// stays the same.
    fn look(&mut self, back: usize) {
        let Some(raw) = self.parser.try_raw_args() else { return };
        let at = self.arguments.len() - raw.as_slice().len();
        let word = at.checked_sub(back).and_then(|at| self.arguments.get(at));
        self.current = word.map(|word| text(word)).unwrap_or_default();
    }

    fn no_value(&mut self) -> Result<Option<String>, Failure> {
        let has_one = self.current.starts_with("--") && self.parser.optional_value().is_some();
        if has_one { Err(self.complaint(NO_VALUE)) } else { Ok(None) }
    }

    /// A value that is joined to the option, or the next argument unless that is an option.
    fn optional_value(&mut self) -> Option<String> {
        if let Some(joined) = self.parser.optional_value() {
            return Some(text(&joined));
        }
        let mut raw = self.parser.raw_args().ok()?;
        raw.next_if(|word| !word.as_encoded_bytes().starts_with(b"-")).map(|next| text(&next))
    }

    fn complaint(&self, what: &str) -> Failure {
        Failure::new(REFUSED, format!("{}: {what}", self.current))
    }
}
