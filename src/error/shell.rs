//! Words of commands that texts tell people to run.

use std::borrow::Cow;

/// A word as a shell takes it for itself, whoever has chosen it.
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
