//! The spellings of sysctls: the kernel reads several texts as the same value.

use super::sysctl::{self, Range};

/// Whether the text of a sysctl means the wanted value. If a sysctl has several numbers, as
/// `sync_threshold` has two, only the first ones may be wanted.
pub(super) fn is_held(name: &str, text: &str, wanted: &str) -> bool {
    let range = sysctl::ALL.iter().find(|it| it.name == name).map(|setting| setting.range);
    if range == Some(Range::CpuList) {
        return text.trim() == wanted.trim()
            || cpus(text).is_some_and(|it| cpus(wanted) == Some(it));
    }
    let (given, wanted): (Vec<_>, Vec<_>) =
        (text.split_ascii_whitespace().collect(), wanted.split_ascii_whitespace().collect());
    let are_numbers = || given.iter().all(|word| number(word).is_some());
    if wanted.is_empty()
        || given.len() < wanted.len()
        || (given.len() > wanted.len() && !are_numbers())
    {
        return given == wanted;
    }
    given.iter().zip(&wanted).all(|(given, wanted)| {
        // The kernel moves the value between these two by itself.
        let is_automatic = |word| matches!(number(word), Some(1 | 2));
        is_same(given, wanted)
            || range == Some(Range::DefenseMode) && is_automatic(given) && is_automatic(wanted)
    })
}

/// Whether two words are the same word, number or list, such as the ports of
/// `net.ipv4.ip_local_reserved_ports`.
fn is_same(one: &str, other: &str) -> bool {
    one == other
        || match (number(one), number(other)) {
            (Some(one), Some(other)) => one == other,
            _ => ports(one).is_some_and(|one| ports(other) == Some(one)),
        }
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

/// A list of CPUs, whose numbers are decimal even after a 0.
fn cpus(text: &str) -> Option<Vec<(u32, u32)>> {
    // Rust's parser of numbers accepts a sign.
    let number =
        |word: &str| word.parse().ok().filter(|_| word.starts_with(|c: char| c.is_ascii_digit()));
    let is_between = |c: char| c == ',' || c.is_ascii_whitespace();
    list(text.split(is_between).filter(|range| !range.is_empty()), number)
}

/// A list of other numbers, which the kernel reads as it reads a number by itself.
fn ports(word: &str) -> Option<Vec<(u32, u32)>> {
    list(word.split(','), |word| u32::try_from(number(word)?).ok())
}

/// The ranges of a list of numbers.
fn list<'a>(
    ranges: impl Iterator<Item = &'a str>,
    number: impl Fn(&str) -> Option<u32>,
) -> Option<Vec<(u32, u32)>> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((number(first)?, number(last)?))
    };
    let mut ranges = ranges.map(range).collect::<Option<Vec<(u32, u32)>>>()?;
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
            (list, "0-1", "0 1", true),
            (list, "10", "010", true),
            (list, "8", "010", false),
            ("net.x", "8080-8081", "8081,8080", true),
            ("net.x", "8-9", "010,9", true),
            ("net.x", "8-10", "010,9", false),
            // Once: this was the same, and nothing was set.
            ("net.x", "10", "010", false),
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
