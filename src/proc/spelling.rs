//! The spellings of sysctls: the kernel reads several texts as the same value.

use super::sysctl::{self, Range};

/// Whether the text of a sysctl means the wanted value. If a sysctl has several numbers, as
/// `sync_threshold` has two, only the first ones may be wanted.
pub(super) fn is_held(name: &str, text: &str, wanted: &str) -> bool {
    let (given, wanted): (Vec<_>, Vec<_>) =
        (text.split_ascii_whitespace().collect(), wanted.split_ascii_whitespace().collect());
    let are_numbers = || given.iter().all(|word| number(word).is_some());
    if wanted.is_empty()
        || given.len() < wanted.len()
        || (given.len() > wanted.len() && !are_numbers())
    {
        return given == wanted;
    }
    let is_defense = sysctl::ALL
        .iter()
        .any(|setting| setting.name == name && setting.range == Range::DefenseMode);
    given.iter().zip(&wanted).all(|(given, wanted)| {
        // The kernel moves the value between these two by itself.
        let is_automatic = |word| matches!(number(word), Some(1 | 2));
        is_same(given, wanted) || is_defense && is_automatic(given) && is_automatic(wanted)
    })
}

/// Whether two words are the same word, number or list.
fn is_same(one: &str, other: &str) -> bool {
    one == other
        || number(one).is_some_and(|one| number(other) == Some(one))
        || list(one).is_some_and(|one| list(other) == Some(one))
}

/// A number as the kernel reads it: decimal, octal after a 0, or hexadecimal after 0x.
pub(crate) fn number(word: &str) -> Option<i128> {
    let (magnitude, sign) = match word.strip_prefix('-') {
        Some(magnitude) => (magnitude, -1),
        None => (word, 1),
    };
    let (digits, radix) = match magnitude.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (&magnitude[2..], 16),
        [b'0', _, ..] => (&magnitude[1..], 8),
        _ => (magnitude, 10),
    };
    let begins = digits.starts_with(|c: char| c.is_ascii_alphanumeric());
    let number = u64::from_str_radix(digits, radix).ok().filter(|_| begins)?;
    Some(sign * i128::from(number))
}

/// The ranges of a list of numbers, such as a list of CPUs.
fn list(word: &str) -> Option<Vec<(u32, u32)>> {
    let number = |word: &str| {
        // Rust's parser of numbers accepts a sign.
        word.parse().ok().filter(|_| word.starts_with(|c: char| c.is_ascii_digit()))
    };
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((number(first)?, number(last)?))
    };
    let mut ranges = word.split(',').map(range).collect::<Option<Vec<(u32, u32)>>>()?;
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_in_another_spelling_is_held() {
        let (list, defense) = ("net.ipv4.vs.est_cpulist", "net.ipv4.vs.drop_entry");
        for (name, text, wanted, is_wanted) in [
            (list, "0-1", "0,1", true),
            (list, "0-3,8", "8,2-3,0-2", true),
            (list, "0", "0,1", false),
            (list, "", "", true),
            (list, "0", "", false),
            (list, "", "0", false),
            ("net.x", "16", "0x10", true),
            ("net.x", "8", "010", true),
            ("net.x", "-1", "-01", true),
            ("net.x", "5", "+5", false),
            ("net.x", "1", "01 ", true),
            ("net.x", "1", "2", false),
            ("net.x", "cubic", "cubic", true),
            ("net.x", "3\t50", "3 50", true),
            ("net.x", "3\t50", "3", true),
            ("net.x", "3", "3 50", false),
            ("net.x", "reno cubic", "reno", false),
            (defense, "2", "1", true),
            (defense, "1", "2", true),
            (defense, "3", "1", false),
            (defense, "0", "1", false),
            ("net.x", "2", "1", false),
        ] {
            assert_eq!(is_held(name, text, wanted), is_wanted, "{name}: {text:?} {wanted:?}");
        }
    }
}
