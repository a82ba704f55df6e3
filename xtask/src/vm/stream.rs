//! One stream of a program in the guest: its bytes as they come, then the verdict that closes it.

use std::io::{self, Read, Write};

/// Copies the program's output; returns its exit status, or `None` if the guest ended without a verdict.
pub(super) fn copy(mut from: impl Read, to: &mut dyn Write, token: &str) -> io::Result<Option<u8>> {
    let mark = format!("\0{token} ").into_bytes();
    let mut held = Vec::new();
    let mut chunk = [0; 8 << 10];
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => {
                to.write_all(&held)?;
                to.flush()?;
                return Ok(None);
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        held.extend_from_slice(&chunk[..read]);
        let certain = undecided(&held, &mark);
        to.write_all(&held[..certain])?;
        to.flush()?;
        held.drain(..certain);
        if let Some(verdict) = held.strip_prefix(mark.as_slice())
            && let Some(status) = verdict.strip_suffix(b"\n")
        {
            let status = std::str::from_utf8(status).ok();
            return Ok(status.and_then(|status| status.parse().ok()));
        }
    }
}

/// The place where the mark begins, or may begin once more bytes arrive.
fn undecided(held: &[u8], mark: &[u8]) -> usize {
    (0..held.len())
        .find(|at| {
            let rest = &held[*at..];
            rest.starts_with(mark) || mark.starts_with(rest)
        })
        .unwrap_or(held.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    fn both_ways(from: &[u8]) -> (Vec<u8>, Option<u8>) {
        let (mut whole, mut dripped) = (Vec::new(), Vec::new());
        let status = copy(from, &mut whole, "token").expect("memory");
        let again = copy(Drip(from), &mut dripped, "token").expect("memory");
        assert_eq!((&whole, status), (&dripped, again));
        (whole, status)
    }

    #[test]
    fn the_verdict_is_not_output() {
        assert_eq!(both_ways(b"one\ntwo\0token 7\n"), (b"one\ntwo".to_vec(), Some(7)));
        assert_eq!(both_ways(b"\0token 255\n"), (Vec::new(), Some(255)));
    }

    #[test]
    fn any_bytes_are_output() {
        let bytes = b"\0\0tok\0tokens \xff\r\n\0";
        assert_eq!(both_ways(bytes), (bytes.to_vec(), None));
        let closed = [bytes.as_slice(), b"\0token 0\n"].concat();
        assert_eq!(both_ways(&closed), (bytes.to_vec(), Some(0)));
    }

    #[test]
    fn an_end_without_a_verdict_is_told() {
        assert_eq!(both_ways(b"half a li"), (b"half a li".to_vec(), None));
    }
}
