//! The words of a line, each with its column.

use std::collections::VecDeque;

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// In characters, from 1.
    pub(super) column: usize,
}

/// What is wrong with a word.
#[derive(Debug)]
pub(super) struct WordError {
    pub(super) column: usize,
    pub(super) message: String,
}

impl Word {
    pub(super) fn error(&self, message: impl Into<String>) -> WordError {
        WordError { column: self.column, message: message.into() }
    }

    pub(super) fn expected(&self, what: &str) -> WordError {
        self.error(format!("expected {what}, not {:?}", self.text))
    }
}

/// The words of a line up to a comment. An option that holds its value, as `-w1` or `--weight=1`,
/// is two words.
pub(super) fn words(line: &str) -> VecDeque<Word> {
    let mut words = VecDeque::new();
    let mut column = 1;
    for part in line.split_inclusive(char::is_whitespace) {
        let text = part.trim_end();
        if text.starts_with('#') {
            break;
        }
        match split_option(text) {
            Some((option, value)) => {
                let at = column + text.chars().count() - value.chars().count();
                words.push_back(Word { text: option.to_owned(), column });
                words.push_back(Word { text: value.to_owned(), column: at });
            }
            None if text.is_empty() => {}
            None => words.push_back(Word { text: text.to_owned(), column }),
        }
        column += part.chars().count();
    }
    words
}

fn split_option(text: &str) -> Option<(&str, &str)> {
    if text.starts_with("--") {
        return text.split_once('=');
    }
    let end_of_letter = text.strip_prefix('-')?.char_indices().nth(1)?.0 + 1;
    Some(text.split_at(end_of_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<(String, usize)> {
        words(line).into_iter().map(|word| (word.text, word.column)).collect()
    }

    #[test]
    fn words_have_columns_and_comments_have_none() {
        let expected = [("-w".to_owned(), 3), ("1".to_owned(), 6)];
        assert_eq!(split("  -w 1 # -w 2"), expected);
        assert!(split("# all of it").is_empty());
    }

    #[test]
    fn options_may_hold_their_values() {
        let expected = [("-w", 1), ("12", 3), ("--pe", 6), ("sip", 11), ("-é", 15), ("x", 17)];
        let expected: Vec<_> = expected.map(|(text, column)| (text.to_owned(), column)).into();
        assert_eq!(split("-w12 --pe=sip -éx"), expected);
    }
}
