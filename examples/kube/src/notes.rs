//! What was not programmed as it was asked, and why.

use std::collections::BTreeSet;
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

/// Notes as they are taken: in order, each once, and without what a terminal would obey.
#[derive(Debug, Default)]
pub(crate) struct Notes(BTreeSet<Note>);

impl From<Vec<Note>> for Notes {
    fn from(notes: Vec<Note>) -> Self {
        Self(notes.into_iter().collect())
    }
}

impl Notes {
    pub(crate) fn add(&mut self, about: impl fmt::Display, text: impl Into<String>) {
        self.0.insert(Note { about: printable(about.to_string()), text: printable(text.into()) });
    }

    pub(crate) fn into_sorted(self) -> Vec<Note> {
        self.0.into_iter().collect()
    }
}

/// Texts of objects get into notes, also by way of other programs' errors.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut printable = String::new();
    for character in text.chars() {
        if character.is_control() {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once: a range of sources brought a line break of its object into a note.
    #[test]
    fn a_note_has_no_control_characters() {
        let mut notes = Notes::default();
        notes.add("Service a\r", "ü\n\u{1b}[31m");
        let expected = Note { about: "Service a\\r".into(), text: "ü\\n\\u{1b}[31m".into() };
        assert_eq!(notes.into_sorted(), [expected]);
    }
}
