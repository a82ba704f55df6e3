//! Words of the commands that messages tell people to run.

use std::borrow::Cow;

/// Quotes a word, so that a shell takes it literally: a stranger may have chosen it.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_word_as_it_is() {
        for (word, safe) in [
            ("net.ipv4.conf.eth0/1.forwarding=1", "net.ipv4.conf.eth0/1.forwarding=1"),
            ("a b", "'a b'"),
            ("~", "'~'"),
            ("", "''"),
            ("a;b", "'a;b'"),
            ("a'b", "'a'\\''b'"),
            ("ü\n", "'ü\n'"),
        ] {
            assert_eq!(quoted(word), safe);
        }
    }
}
