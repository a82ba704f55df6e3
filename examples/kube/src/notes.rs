//! What was not programmed as it was asked, and why.

use std::fmt;

/// One thing that was not programmed, or not as its object says, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The object: `Service shop/web`.
    pub about: String,
    /// What became of it, and why.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.text)
    }
}

/// Notes as they are taken.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Note>);

impl From<Vec<Note>> for Notes {
    fn from(notes: Vec<Note>) -> Self {
        Self(notes)
    }
}

impl Notes {
    pub(crate) fn add(&mut self, about: impl fmt::Display, text: impl Into<String>) {
        self.0.push(Note { about: about.to_string(), text: text.into() });
    }

    /// All of them in order, each once.
    pub(crate) fn into_sorted(self) -> Vec<Note> {
        let mut notes = self.0;
        notes.sort_unstable();
        notes.dedup();
        notes
    }
}
