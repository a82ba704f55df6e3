//! The words of a line, each with its column.

use std::collections::VecDeque;

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// The column of its first character, from 1.
    pub(super) column: usize,
    /// Whether the word is a value written together with its option, as in `--pe=sip`.
    pub(super) attached: bool,
}

/// The fault of a word.
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

    /// Whether the word is an option of one letter.
    pub(super) fn is_short_option(&self) -> bool {
        self.text.starts_with('-') && self.text.chars().count() == 2
    }

    /// Whether the word can only be an option, and not an option's value.
    pub(super) fn is_option(&self) -> bool {
        !self.attached && self.text.starts_with('-')
    }
}

/// The words of a line up to a comment. An option written together with its value, such as `-w1` or
/// `--weight=1`, is two words.
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
                words.push_back(Word { text: option.to_owned(), column, attached: false });
                words.push_back(Word { text: value.to_owned(), column: at, attached: true });
            }
            None if text.is_empty() => {}
            None => words.push_back(Word { text: text.to_owned(), column, attached: false }),
        }
        column += part.chars().count();
    }
    words
}

/// Makes an option of a word's rest behind an option of one letter that takes no value, such as the
/// `t` of `-At`.
pub(super) fn unbundle(words: &mut VecDeque<Word>) {
    let begins = |word: &Word| word.text.starts_with(|c: char| c.is_ascii_digit());
    let is_bundled = |word: &&Word| word.attached && !begins(word);
    let Some(Word { text, column, .. }) = words.front().filter(is_bundled) else { return };
    let (text, column) = (format!("-{text}"), *column);
    words.pop_front();
    let (option, value) = split_option(&text).map_or((text.as_str(), None), |(option, value)| {
        let at = column + text.chars().count() - 1 - value.chars().count();
        (option, Some(Word { text: value.to_owned(), column: at, attached: true }))
    });
    let option = Word { text: option.to_owned(), column, attached: false };
    for word in value.into_iter().chain([option]) {
        words.push_front(word);
    }
}

/// An option and its value, if one word has both: `-w1`, `-w=1`, `--weight=1`.
fn split_option(text: &str) -> Option<(&str, &str)> {
    if text.starts_with("--") {
        return text.split_once('=');
    }
    let end_of_letter = text.strip_prefix('-')?.char_indices().nth(1)?.0 + 1;
    let (option, value) = text.split_at(end_of_letter);
    Some((option, value.strip_prefix('=').unwrap_or(value)))
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
        assert_eq!(split("-w=12"), [("-w".to_owned(), 1), ("12".to_owned(), 4)]);
    }
}
