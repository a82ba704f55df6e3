//! Why Debian's lists or packages could not be had, in one line that also says what to do.

use std::fmt;

/// The message of apt or dpkg, and its meaning.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    /// The name of the lists: those of a suite, or of this host's sources.
    name: String,
    /// The mirror.
    from: String,
    pub(super) kind: FailureKind,
    /// The words that tell most, on one line.
    said: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FailureKind {
    /// The mirror answered, and has no such suite.
    NotServed,
    /// The mirror answered, and has none of Debian's suites.
    NotDebian,
    /// The lists are signed with keys that are not known on this host.
    UnknownKeys,
    /// A key has expired, or the signature is wrong.
    BadSignature,
    /// The time of the lists is over, or has not come yet.
    Outdated,
    /// The mirror could not be reached.
    Unreachable,
    /// A file is not the one that the signed lists name.
    Torn,
    /// The lists have no signature.
    Unsigned,
    NoSpace,
    /// A program that apt runs is missing.
    NoProgram,
    Other,
}

/// The words by which apt, gpgv and sqv tell the kind. The first match counts: lists that could not be reached, say, are not
/// signed either.
const SIGNS: [(FailureKind, &[&str]); 10] = [
    (FailureKind::NoSpace, &["No space left on device", "enough free space", "quota exceeded"]),
    (FailureKind::NoProgram, &["method driver", "Could not execute", "seems installed"]),
    (
        FailureKind::Unreachable,
        &[
            "Could not resolve",
            "Temporary failure resolving",
            "Something wicked happened resolving",
            "Could not connect",
            "Unable to connect",
            "Cannot initiate the connection",
            "Connection failed",
            "Connection reset",
            "timed out",
            "is unreachable",
            "No route to host",
            "Remote end closed",
        ],
    ),
    (FailureKind::Torn, &["Hash Sum mismatch", "unexpected size"]),
    (FailureKind::UnknownKeys, &["NO_PUBKEY", "Missing key"]),
    (
        FailureKind::BadSignature,
        &["KEYSIG", "BADSIG", "EXPSIG", "signatures were invalid", "sqv returned", "gpgv returned"],
    ),
    (FailureKind::Outdated, &["is expired", "not valid yet"]),
    (FailureKind::NotServed, &["does not have a Release file", "no longer has a Release file"]),
    // Lists that were not fetched are not signed either.
    (FailureKind::Other, &["Failed to fetch"]),
    (FailureKind::Unsigned, &["is not signed"]),
];

impl Failure {
    /// The meaning of a program's message.
    pub(super) fn of(name: &str, from: &str, said: &str) -> Self {
        let lines = || said.lines().map(str::trim);
        let sign = |(kind, signs): &(FailureKind, &[&str])| {
            let line = lines().find(|line| signs.iter().any(|sign| line.contains(sign)))?;
            Some((*kind, reason(line)))
        };
        let (kind, said) = SIGNS.iter().find_map(sign).unwrap_or_else(|| {
            let line = lines().find(|line| line.starts_with("E: ")).or_else(|| lines().next_back());
            (FailureKind::Other, reason(line.unwrap_or_default()))
        });
        Self { name: name.into(), from: from.into(), kind, said: said.into() }
    }

    /// The same failure, at a mirror that has no other suite of Debian either.
    pub(super) fn of_no_mirror(self) -> Self {
        Self { kind: FailureKind::NotDebian, ..self }
    }
}

/// A line of apt's output without the address that could not be fetched.
fn reason(line: &str) -> &str {
    let line = line.strip_prefix("E: ").or_else(|| line.strip_prefix("W: ")).unwrap_or(line);
    if let Some((_, reason)) =
        line.strip_prefix("Failed to fetch ").and_then(|rest| rest.split_once("  "))
    {
        return reason.trim();
    }
    let reason = line.strip_prefix("GPG error: ").and_then(|rest| rest.split_once("Release: "));
    reason.map_or(line, |(_, reason)| reason)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, from, kind, said } = self;
        match kind {
            FailureKind::NotServed => write!(f, "{from} does not serve {name}"),
            FailureKind::NotDebian => write!(
                f,
                "{from} serves none of Debian's suites: name a mirror of Debian with --mirror URL"
            ),
            FailureKind::UnknownKeys => write!(
                f,
                "{from} signs with keys that this host does not know: install a newer debian-archive-keyring, or name a \
                 file of Debian's keys with --keyring FILE"
            ),
            FailureKind::BadSignature => write!(
                f,
                "the signature of {from} does not hold ({said}): install a newer debian-archive-keyring, or name another \
                 mirror with --mirror URL"
            ),
            FailureKind::Outdated => write!(
                f,
                "the lists of {from} are not of today ({said}): set this machine's clock, or name another mirror with \
                 --mirror URL"
            ),
            FailureKind::Unreachable => write!(
                f,
                "{from} cannot be reached ({said}): see to the network, or name another mirror with --mirror URL"
            ),
            FailureKind::NoSpace => {
                write!(f, "no space is left for Debian's lists and packages ({said}): make room")
            }
            FailureKind::NoProgram => {
                write!(
                    f,
                    "apt lacks a program on this host ({said}): install it, or name another mirror with --mirror URL"
                )
            }
            FailureKind::Torn => write!(
                f,
                "the files of {from} do not fit its lists ({said}): it may be changing just now, so try again later, or name \
                 another mirror with --mirror URL"
            ),
            FailureKind::Unsigned => write!(
                f,
                "{from} does not sign its lists ({said}): name another mirror with --mirror URL"
            ),
            FailureKind::Other => write!(f, "{from}: {said}"),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_told_in_one_line_with_what_to_do() {
        for (said, kind, shown) in [
            (
                "Ign:1 http://m sid InRelease\nErr:2 http://m sid Release\n  404  Not Found\n\
                 E: The repository 'http://m sid Release' does not have a Release file.",
                FailureKind::NotServed,
                "http://m does not serve sid",
            ),
            (
                "Err:2 http://m sid Release\n  404  Not Found\n\
                 E: The repository 'http://m sid Release' no longer has a Release file.",
                FailureKind::NotServed,
                "http://m does not serve sid",
            ),
            (
                "Err:1 http://m sid InRelease\n  Could not resolve 'm'\n\
                 E: Failed to fetch http://m/dists/sid/InRelease  Could not resolve 'm'\n\
                 E: Some index files failed to download.",
                FailureKind::Unreachable,
                "http://m cannot be reached (Could not resolve 'm'): see to the network",
            ),
            (
                "E: Failed to fetch http://m/dists/sid/InRelease  Cannot initiate the connection to m:80 (::1). - connect \
                 (101: Network is unreachable)\nE: The repository 'http://m sid Release' does not have a Release file.",
                FailureKind::Unreachable,
                "http://m cannot be reached (Cannot initiate the connection to m:80",
            ),
            (
                "W: GPG error: http://m sid InRelease: The public key is not available: NO_PUBKEY 6ED0\n\
                 E: The repository 'http://m sid InRelease' is not signed.",
                FailureKind::UnknownKeys,
                "keys that this host does not know: install a newer debian-archive-keyring",
            ),
            (
                "  Sub-process /usr/bin/sqv returned an error code (1), error message is: Missing key 6ED0, which is needed",
                FailureKind::UnknownKeys,
                "or name a file of Debian's keys with --keyring FILE",
            ),
            (
                "W: GPG error: http://m sid InRelease: The following signatures were invalid: EXPKEYSIG 6ED0 Debian",
                FailureKind::BadSignature,
                "does not hold (The following signatures were invalid: EXPKEYSIG 6ED0 Debian): install a newer",
            ),
            (
                "  Sub-process /usr/bin/sqv returned an error code (1), error message is: Policy rejected",
                FailureKind::BadSignature,
                "does not hold (Sub-process /usr/bin/sqv returned",
            ),
            (
                "E: Release file for http://m/dists/sid/InRelease is expired (invalid since 9d)",
                FailureKind::Outdated,
                "set this machine's clock",
            ),
            (
                "E: Write error - write (28: No space left on device)\nE: The repository is not signed.",
                FailureKind::NoSpace,
                "No space left on device)): make room",
            ),
            (
                "W: GPG error: http://m sid InRelease: gpgv, gpgv2 or gpgv1 required for verification, but neither seems \
                 installed",
                FailureKind::NoProgram,
                "but neither seems installed): install it",
            ),
            (
                "E: The method driver /usr/lib/apt/methods/htp could not be found.",
                FailureKind::NoProgram,
                "apt lacks a program on this host",
            ),
            (
                "  400  Bad Request\nE: Failed to fetch http://m/dists/sid/InRelease  400  Bad Request [IP: 192.0.2.1 80]\n\
                 E: The repository 'http://m sid InRelease' is not signed.",
                FailureKind::Other,
                "http://m: 400  Bad Request [IP: 192.0.2.1 80]",
            ),
            (
                "E: Failed to fetch http://m/dists/sid/main/Packages.xz  File has unexpected size (5 != 7). Mirror sync in \
                 progress? [IP: 192.0.2.1 80]",
                FailureKind::Torn,
                "do not fit its lists (File has unexpected size (5 != 7). Mirror sync in progress? [IP: 192.0.2.1 80]): it may",
            ),
            (
                "E: Failed to fetch http://m/linux.deb  Hash Sum mismatch\n   Hashes of expected file:",
                FailureKind::Torn,
                "(Hash Sum mismatch): it may be changing just now, so try again later",
            ),
            (
                "E: Failed to fetch http://m/linux.deb  Error reading from server. Remote end closed connection",
                FailureKind::Unreachable,
                "(Error reading from server. Remote end closed connection): see to the network",
            ),
            (
                "E: The repository 'http://m sid Release' is not signed.",
                FailureKind::Unsigned,
                "is not signed.): name another mirror with --mirror URL",
            ),
            ("dpkg-deb: broken\n", FailureKind::Other, "http://m: dpkg-deb: broken"),
            ("", FailureKind::Other, "http://m: "),
        ] {
            let failure = Failure::of("sid", "http://m", said);
            assert_eq!(failure.kind, kind, "{said}");
            let message = failure.to_string();
            assert!(message.contains(shown) && !message.contains('\n'), "{message}");
        }
    }
}
